"""receiver: the HTTP interface that logs are pushed to: LiteLLM's generic logger, and OTLP over HTTP.

    POST /v1/logs/litellm   one payload, a list of them, or one per line (generic_api, any log_format)
    POST /v1/traces         an OTLP export of spans, in protobuf or JSON
    POST /v1/logs           an OTLP export of log records

Rows pushed by strangers could frame a customer, so every request needs the bearer token. An answer of 200 means that
the rows are on disk; rejects are counted in it by name. A body of OTLP that is none is refused whole, as the protocol
has it: with 400 and a Status in the encoding of the request (opentelemetry.io/docs/specs/otlp, OTLP/HTTP Response).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from stillwatch.errors import InputError, StillwatchError
from stillwatch.ingest.conform import Tally, Window, conform
from stillwatch.ingest.extract import Cells, Extractor
from stillwatch.ingest.formats import protobuf
from stillwatch.ingest.imported import decode, n_empty
from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, importers
from stillwatch.keys import Secret
from stillwatch.receive.spool import Spool
from stillwatch.records import EXCHANGES

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

LARGEST_BODY_BYTES = 64 << 20
"""Of a request, unpacked."""

_DRAINED_BYTES = 256 << 20
"""Of a body too large, read and let go before it is cut off."""

HELD_BYTES = 512 << 20
"""Of all requests that are still on their way, packed; one more is told to come again."""

PATIENCE_S = 60.0
"""How long a request may take to send its body."""

_OTLP_PATHS = ("/v1/traces", "/v1/logs")
_UNDECODABLE = ("line_broken_json", "line_not_an_object", "record_of_another_shape")
_CODES = {400: 3, 401: 16, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 500: 13, 503: 14}
"""HTTP status -> google.rpc.Code."""

_MOST_PARTS = 1000
"""Packed parts of one body; what follows a part is copied once for each."""

_LONGEST_MESSAGE = 127
"""Bytes; a longer one would need a length of two bytes in protobuf."""

_LOG = logging.getLogger("stillwatch")
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
        patience_s: how long a request may take to send its body.

    Attributes:
        rejects: rows that were not taken since the start, by spool and reason.
    """

    def __init__(
        self, spools: Mapping[str, Spool], *, token: Secret, latest: Callable[[], int], patience_s: float = PATIENCE_S
    ) -> None:
        if len(token) < 16:
            raise InputError("the token is too short", got=f"{len(token)} characters", expected="16 or more")
        self._spools, self._token, self._latest, self._patience_s = dict(spools), token, latest, patience_s
        self._n_held = 0
        self._counting = threading.Lock()
        self.rejects: Counter[tuple[str, str]] = Counter()
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
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            self._admit(scope, headers)
            body = await self._body(receive)
            status, answer, kind = 200, *await asyncio.to_thread(self._take, scope["path"], body, headers)
        except Refused as error:
            status, answer, kind = error.status, *_refusal(scope["path"], headers, error.status, error.says)
        except StillwatchError as error:
            status = 503
            answer, kind = _refusal(scope["path"], headers, status, str(error))
        except asyncio.CancelledError:  # the program ends; what is left of the body is not waited for
            status, (answer, kind) = 503, _refusal(scope["path"], headers, 503, "the receiver ends; send it again")
        except Exception as error:  # its text may quote a prompt, which no log shall hold
            _LOG.error("a request was not taken: %s", type(error).__name__)
            status, (answer, kind) = 500, _refusal(scope["path"], headers, 500, "this request cannot be taken")
        head = [(b"content-type", kind.encode()), (b"content-length", str(len(answer)).encode())]
        if status != 200:
            head.append((b"connection", b"close"))  # what is left of its body is not waited for
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    async def _body(self, receive: Receive) -> bytes:
        held: list[bytes] = []
        size = n_held = 0
        too_large = Refused(413, f"more than {LARGEST_BODY_BYTES >> 20} MiB; send smaller batches")
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the request ended early")
                    piece = message.get("body", b"")
                    size += len(piece)
                    is_last = not message.get("more_body")
                    if size > LARGEST_BODY_BYTES:
                        # A client that is still sending loses the answer when it is cut off: what comes is let go.
                        self._n_held, held, n_held = self._n_held - n_held, [], 0
                        if is_last or size > LARGEST_BODY_BYTES + _DRAINED_BYTES:
                            raise too_large
                        continue
                    held.append(piece)
                    n_held += len(piece)
                    self._n_held += len(piece)
                    if self._n_held > HELD_BYTES:
                        raise Refused(503, "too much is on its way; send it again later")
                    if is_last:
                        return b"".join(held)
        except TimeoutError:
            late = Refused(408, f"the body did not come within {self._patience_s:g} s")
            raise (too_large if size > LARGEST_BODY_BYTES else late) from None
        finally:
            self._n_held -= n_held

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        given = headers.get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token.reveal()):
            raise Refused(401, "send the header Authorization: Bearer TOKEN")
        if scope["path"] not in ("/v1/logs/litellm", *_OTLP_PATHS):
            raise Refused(404, "no such address; post to /v1/logs/litellm, /v1/traces or /v1/logs")
        if scope["method"] != "POST":
            raise Refused(405, "only POST is answered")

    def _take(self, path: str, body: bytes, headers: Mapping[bytes, bytes]) -> tuple[bytes, str]:
        """Rows of a body, written; what to answer, and its type."""
        body = _unpacked(body, headers.get(b"content-encoding", b"").decode("latin-1").strip().lower())
        tally = Tally()
        is_protobuf = _is_protobuf(headers)
        name = "litellm" if path == "/v1/logs/litellm" else "otlp"
        extractor = self._extractors[name]
        if is_protobuf and name == "otlp":
            exploded, n_refused = protobuf.explode([body], extractor.paths, signal=path.rpartition("/")[2])
            if n_refused:
                raise Refused(400, f"these {len(body)} bytes are no OTLP export in protobuf")
            cells = extractor.gathered([extractor.found_in(exploded)])
        else:
            # A body over many lines is one document; a collector's or LiteLLM's is one line or one record per line.
            records = decode(_lines(body), extractor, tally.rejects, tally.notes)
            lost = {reason: tally.rejects[reason] for reason in _UNDECODABLE if tally.rejects[reason]}
            # A malformed span among others is told as a partial success; a body that is none is refused.
            if name == "otlp" and (not records or lost.keys() - {"record_of_another_shape"}):
                raise Refused(400, f"the body is no OTLP export in JSON: {_listed(lost) or 'it is empty'}")
            if name == "otlp" and n_empty(records, extractor) and not _is_empty(body):
                raise Refused(400, "the body is no OTLP export in JSON: it holds neither spans nor log records")
            cells = extractor.cells(records)
        tally.rejects["not_an_exchange"] += cells.n_excluded
        n_rows = self._spools[name].append(self._rows(cells, tally))
        self._count(name, tally.rejects)
        if name == "litellm":
            answer = {"accepted": n_rows, "rejects": dict(+tally.rejects), "notes": dict(+tally.notes)}
            return msgspec.json.encode(answer), "application/json"
        return _otlp_answer(path, tally.rejects - Counter(not_an_exchange=cells.n_excluded), is_protobuf)

    def _count(self, name: str, rejects: Counter[str]) -> None:
        """Add to what was not taken; each reason is told once, since few senders read the answer that names it."""
        with self._counting:
            for reason, n in (+rejects).items():
                if (name, reason) not in self.rejects and reason != "not_an_exchange":
                    _LOG.warning("%s: rows are not taken: %s (told once; all are counted)", name, reason)
                self.rejects[name, reason] += n

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
        ids = {name: columns.get(name, [None] * cells.n_rows) for name in (REQUEST, SPAN)}
        rows = []
        for at, row in zip(map(int, kept), batch.to_pylist(), strict=True):
            more = {"account_id": accounts[at], ASIDE: aside[at], **{name: ids[name][at] for name in ids}}
            rows.append(row | more)
        return rows


def _otlp_answer(path: str, rejects: Counter[str], is_protobuf: bool) -> tuple[bytes, str]:
    """The answer of the protocol and its type: an empty message where all was taken, else how much was not, and why.

    Spans of other work than model calls are no loss, and not told.
    """
    why, n_lost = _listed(rejects), sum(rejects.values())
    if not is_protobuf:
        name = "rejectedSpans" if path == "/v1/traces" else "rejectedLogRecords"
        told = {"partialSuccess": {name: str(n_lost), "errorMessage": why}} if n_lost else {}
        return msgspec.json.encode(told), "application/json"
    return protobuf.partial_success(n_lost, why) if n_lost else b"", _PROTOBUF


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in sorted(counts.items()))


def _is_protobuf(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower() == _PROTOBUF


def _refusal(path: str, headers: Mapping[bytes, bytes], status: int, says: str) -> tuple[bytes, str]:
    """An error and its type; at an address of OTLP a google.rpc.Status: code is its field 1, message its field 2."""
    if path not in _OTLP_PATHS:
        return msgspec.json.encode({"error": says}), "application/json"
    code = _CODES[status]
    if not _is_protobuf(headers):
        return msgspec.json.encode({"code": code, "message": says}), "application/json"
    text = says.encode()[:_LONGEST_MESSAGE]
    return bytes([0x08, code, 0x12, len(text)]) + text, _PROTOBUF


def _lines(body: bytes) -> bytes:
    """The body with a document over many lines on one."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body)) if b"\n" in body.strip() else body
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body


def _is_empty(body: bytes) -> bool:
    """Whether a body is an export of nothing, which exporters may send."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and set(told) <= {"resourceSpans", "resourceLogs"}


def _unpacked(body: bytes, coding: str) -> bytes:
    """The body without its coding; a small body that unpacks to a huge one is refused."""
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise Refused(415, "only gzip is unpacked")
    text = b""
    for _ in range(_MOST_PARTS):  # a packed body may be several, one after the other
        if not body.strip(b"\0"):
            return text
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
    raise Refused(413, f"more than {_MOST_PARTS} packed parts in one body; send smaller batches")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
