"""receiver: the HTTP interface that logs are pushed to: LiteLLM's generic logger, and OTLP over HTTP.

    POST /v1/logs/litellm   one payload, a list of them, or one per line (generic_api, any log_format)
    POST /v1/traces         an OTLP export of spans, in protobuf or JSON
    POST /v1/logs           an OTLP export of log records

Rows pushed by strangers could frame a customer, so every request needs the bearer token. An answer of 200 means that
the rows are on disk; rejects are counted in it by name.
"""

from __future__ import annotations

import asyncio
import hmac
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from stillwatch.errors import ExtraMissing, InputError, StillwatchError
from stillwatch.ingest.conform import Tally, Window, conform
from stillwatch.ingest.extract import Cells, Extractor
from stillwatch.ingest.formats import protobuf
from stillwatch.ingest.formats.otlp import called
from stillwatch.ingest.imported import decode
from stillwatch.ingest.importer import ASIDE, REQUEST, importers
from stillwatch.keys import Secret
from stillwatch.receive.spool import Spool
from stillwatch.records import EXCHANGES

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

LARGEST_BODY_BYTES = 64 << 20
"""Of a request, unpacked."""

_PROTOBUF = "application/x-protobuf"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status, self.says = status, says


class Receiver:
    """The receiver as an ASGI application.

    Args:
        spools: where to write, for litellm and otlp apart: a gateway that pushes both ways tells everything twice.
        token: what a request must bear. latest: gives the last instant that is believed, in microseconds.
    """

    def __init__(self, spools: Mapping[str, Spool], *, token: Secret, latest: Callable[[], int]) -> None:
        if len(token) < 16:
            raise InputError("the token is too short", got=f"{len(token)} characters", expected="16 or more")
        self._spools, self._token, self._latest = dict(spools), token, latest
        self._extractors = {
            name: Extractor(found, found.fields) for name, found in importers().items() if name in spools
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._admit(scope, headers)
            body = _unpacked(await _body(receive), headers.get(b"content-encoding", b"").decode("latin-1"))
            status, answer, kind = 200, *await asyncio.to_thread(self._take, scope["path"], body, headers)
        except Refused as error:
            status, answer, kind = error.status, msgspec.json.encode({"error": error.says}), "application/json"
        except StillwatchError as error:
            failed = 501 if isinstance(error, ExtraMissing) else 503
            status, answer, kind = failed, msgspec.json.encode({"error": str(error)}), "application/json"
        head = [(b"content-type", kind.encode()), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        given = headers.get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token.reveal()):
            raise Refused(401, "send the header Authorization: Bearer TOKEN")
        if scope["path"] not in ("/v1/logs/litellm", "/v1/traces", "/v1/logs"):
            raise Refused(404, "no such address; post to /v1/logs/litellm, /v1/traces or /v1/logs")
        if scope["method"] != "POST":
            raise Refused(405, "only POST is answered")

    def _take(self, path: str, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[bytes, str]:
        """Rows of a body, written; what to answer, and its type."""
        tally = Tally()
        is_protobuf = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip() == _PROTOBUF
        name = "litellm" if path == "/v1/logs/litellm" else "otlp"
        extractor = self._extractors[name]
        if is_protobuf and name == "otlp":
            try:
                cells = extractor.cells_of(called(protobuf.explode(body, signal=path.rpartition("/")[2])))
            except InputError as error:
                raise Refused(400, str(error)) from error
        else:
            # A body over many lines is one document; a collector's or LiteLLM's is one line or one record per line.
            records = decode(_lines(body), extractor, tally.rejects, tally.notes)
            cells = extractor.cells(records)
        tally.rejects["not_an_exchange"] += cells.n_excluded
        n_rows = self._spools[name].append(self._rows(cells, tally))
        if name == "litellm":
            answer = {"accepted": n_rows, "rejects": dict(+tally.rejects), "notes": dict(+tally.notes)}
            return msgspec.json.encode(answer), "application/json"
        return _otlp_answer(path, tally.rejects - Counter(not_an_exchange=cells.n_excluded), is_protobuf)

    def _rows(self, cells: Cells, tally: Tally) -> list[dict[str, Any]]:
        """Canonical rows; the ids that join rows of several logs stay with them."""
        if not cells.n_rows:
            return []
        columns = dict(cells.columns)
        aside = [bool(flag) for flag in columns.get(ASIDE, [False] * cells.n_rows)]
        accounts = columns["account_id"]
        # What is told aside needs no account of its own: it completes an exchange that has one.
        columns["account_id"] = [name or "aside" if flag else name for name, flag in zip(accounts, aside, strict=True)]
        window = Window(since=None, until=None, latest=self._latest())
        # Which rows stay is learnt from a column that numbers them.
        numbers = [str(at) for at in range(cells.n_rows)]
        numbered = {"account_id": columns["account_id"], "ts": columns["ts"], "session_id": numbers}
        kept = conform(numbered, columns=["session_id"], window=window, tally=Tally()).column(0).to_pylist()
        batch = conform(columns, columns=EXCHANGES.names, window=window, tally=tally)
        rows = []
        for at, row in zip(map(int, kept), batch.to_pylist(), strict=True):
            rows.append(row | {"account_id": accounts[at], REQUEST: columns[REQUEST][at], ASIDE: aside[at]})
        return rows


def _otlp_answer(path: str, rejects: Counter[str], is_protobuf: bool) -> tuple[bytes, str]:
    """The answer of the protocol and its type: an empty message where all was taken, else how much was not, and why.

    Spans of other work than model calls are no loss, and not told.
    """
    why, n_lost = ", ".join(f"{name}: {n}" for name, n in sorted(rejects.items())), sum(rejects.values())
    if not is_protobuf:
        name = "rejectedSpans" if path == "/v1/traces" else "rejectedLogRecords"
        told = {"partialSuccess": {name: str(n_lost), "errorMessage": why}} if n_lost else {}
        return msgspec.json.encode(told), "application/json"
    return protobuf.partial_success(n_lost, why) if n_lost else b"", _PROTOBUF


def _lines(body: bytes) -> bytes:
    """The body with a document over many lines on one."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body)) if b"\n" in body.strip() else body
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body


async def _body(receive: Receive) -> bytes:
    held, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request ended early")
        piece = message.get("body", b"")
        held.append(piece)
        size += len(piece)
        if size > LARGEST_BODY_BYTES:
            raise Refused(413, f"more than {LARGEST_BODY_BYTES >> 20} MiB; send smaller batches")
        if not message.get("more_body"):
            return b"".join(held)


def _unpacked(body: bytes, coding: str) -> bytes:
    """The body without its coding; a small body that unpacks to a huge one is refused."""
    if coding in ("", "identity"):
        return body
    if coding != "gzip":
        raise Refused(415, "only gzip is unpacked")
    text = b""
    while body.strip(b"\0"):  # a packed body may be several, one after the other
        engine = zlib.decompressobj(wbits=31)
        try:
            text += engine.decompress(body, LARGEST_BODY_BYTES + 1 - len(text))
        except zlib.error:
            raise Refused(400, "the body is no gzip") from None
        if len(text) > LARGEST_BODY_BYTES:
            raise Refused(413, f"more than {LARGEST_BODY_BYTES >> 20} MiB unpacked; send smaller batches")
        if not engine.eof:
            raise Refused(400, "the packed body was cut short")
        body = engine.unused_data
    return text


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
