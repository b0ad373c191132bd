"""middleware: an ASGI middleware that writes the exchange log which vLLM and its like do not write.

    vllm serve MODEL --middleware stillwatch.receive.middleware.ExchangeLog

The environment says where and what: STILLWATCH_EXCHANGE_LOG names the folder (without it nothing is logged),
STILLWATCH_KEEP_TEXT=1 keeps the texts instead of sketches, STILLWATCH_ACCOUNT_HEADER names a header that a proxy you
trust sets to the account. Without that header the account is a keyed hash of the API key. Nothing that fails here
fails a request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.home import Home
from stillwatch.ingest.chat import prose
from stillwatch.ingest.conform import Tally, Window, conform
from stillwatch.ingest.extract import Extractor
from stillwatch.ingest.formats.openai import OPENAI
from stillwatch.ingest.importer import ASIDE, REQUEST, at
from stillwatch.ingest.jsonl import lenient
from stillwatch.receive.sketch import TEXTS
from stillwatch.receive.spool import Spool
from stillwatch.records import EXCHANGES

App = Callable[..., Awaitable[None]]
Message = Mapping[str, Any]

FOLDER_VARIABLE = "STILLWATCH_EXCHANGE_LOG"
TEXT_VARIABLE = "STILLWATCH_KEEP_TEXT"
ACCOUNT_VARIABLE = "STILLWATCH_ACCOUNT_HEADER"

LARGEST_BYTES = 16 << 20
"""Of a request or an answer that is logged; what is larger passes and leaves a row without its text."""

_CALL = replace(
    OPENAI,
    name="middleware",
    fields={
        **OPENAI.fields, "account_id": at("account_id"), "ts": at("timestamp"), "api_key_id": at("api_key_hash"),
        "session_id": at("request.metadata.session_id"), "ip": at("client_ip"), "tls_fingerprint": at("ja4"),
    },
)  # fmt: skip
"""A call as it passes: who asked, when and from where is what the middleware saw, and nothing that a body says."""

_TOOL = re.compile(r"[\w./:-]{1,128}")
"""The name of a tool; a client that sends prose there shall not find it in the log."""

_EVER = Window(since=None, until=None, latest=2**62)
_SHORT = tuple(name for name in EXCHANGES.names if EXCHANGES.field(name).type == "string" and name not in TEXTS)
_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""Events of the responses interface that carry the whole answer."""

_PATHS = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")
_LOG = logging.getLogger("stillwatch")


@dataclass(slots=True)
class Seen:
    """One exchange as it passes."""

    ts: float
    asked: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)
    status: int = 0

    def add(self, held: bytearray, piece: bytes) -> None:
        """Keep a piece, as long as all of it is of a sensible size."""
        if len(held) <= LARGEST_BYTES:
            held += piece


class ExchangeLog:
    """The middleware around `app`; arguments win over the environment.

    Args:
        folder: where to log. keep_text: whether texts are kept. account_header: the header that names the account.
        key: 32 bytes for sketches and hashes; the root key of this installation where None. clock: epoch seconds.
    """

    def __init__(
        self,
        app: App,
        *,
        folder: Path | None = None,
        keep_text: bool | None = None,
        account_header: str | None = None,
        key: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app, self._clock = app, clock
        named = os.environ.get(FOLDER_VARIABLE)
        place = folder or (Path(named) if named else None)
        header = account_header or os.environ.get(ACCOUNT_VARIABLE) or ""
        self._header = header.lower().encode("latin-1")
        self._spool: Spool | None = None
        if place is not None:
            self._key = key or Home.of().root_key().subkey("rows").reveal()
            self._extractor = Extractor(_CALL, _CALL.fields)
            with_text = os.environ.get(TEXT_VARIABLE) == "1" if keep_text is None else keep_text
            self._spool = Spool(
                place, key=None if with_text else self._key, name=f"exchanges-{os.getpid()}", is_durable=False
            )

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: App) -> None:
        """Pass a request on, and log it once it was answered."""
        is_call = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_PATHS)
        if self._spool is None or not is_call:
            await self._app(scope, receive, send)
            return
        seen = Seen(self._clock())

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                seen.add(seen.asked, message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            elif message["type"] == "http.response.body":
                seen.add(seen.said, message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, heard, said)
        finally:
            await asyncio.to_thread(self._log, scope, seen)

    def _log(self, scope: Message, seen: Seen) -> None:
        assert self._spool is not None
        try:
            self._spool.append([_row(self._extractor, self._record(scope, seen))])
        except Exception as error:  # whatever it is, it is no reason to fail a request
            _LOG.warning("an exchange was not logged: %s", type(error).__name__)

    def _record(self, scope: Message, seen: Seen) -> dict[str, Any]:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), value)  # of several the first, as the server behind reads them
        token = _key_of(headers.get(b"authorization", b"")) or _key_of(headers.get(b"x-api-key", b""))
        digest = hmac.new(self._key, b"api key\0" + token.encode("latin-1"), hashlib.sha256)
        hashed = digest.hexdigest() if token else None
        client = scope.get("client")
        named = {value for name, value in scope["headers"] if name.lower() == self._header}
        return {
            "account_id": _name(named) if self._header else hashed and f"key-{hashed[:32]}",
            "api_key_hash": hashed,
            "timestamp": seen.ts,
            "url": scope["path"],
            "status_code": seen.status or 499,
            "request": _loaded(bytes(seen.asked)),
            "response": _loaded(bytes(seen.said)),
            "client_ip": client[0] if client else None,
            "headers": {name: _text(headers.get(name.encode())) for name in ("user-agent", "x-request-id")},
            "ja4": _text(headers.get(b"x-ja4")),
        }


def _row(extractor: Extractor, record: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical row of a call; one of nobody, which a scan rejects by name, is a row too."""
    cells = extractor.cells([extractor.shaped(record)]).columns
    # A client may send structures where a name belongs, and anything in them.
    names = {name: [one if isinstance(one, (str, int)) else None for one in cells.get(name, [None])] for name in _SHORT}
    given = cells | names | {"account_id": ["nobody"]}
    row: dict[str, Any]
    (row,) = conform(given, columns=EXCHANGES.names, window=_EVER, tally=Tally()).to_pylist()
    row["tool_names"] = [one for one in row["tool_names"] or () if one and _TOOL.fullmatch(one)] or None
    return row | {"account_id": cells["account_id"][0], REQUEST: cells[REQUEST][0], ASIDE: False}


def _key_of(header: bytes) -> str:
    """An API key as the gate reads it: whichever way a client spells the scheme, it is one account."""
    text = header.decode("latin-1").strip()
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text


def _name(told: Collection[bytes]) -> str | None:
    """A name as the gate reads it, in UTF-8; None where it is none, or where two are told."""
    try:
        return next(iter(told)).decode("utf-8").strip(" \t") or None if len(told) == 1 else None
    except UnicodeDecodeError:
        return None


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _loaded(body: bytes) -> Any:
    """A body as JSON; of a stream of events the whole that they add up to; None where it is neither."""
    if len(body) > LARGEST_BYTES:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = lenient(body)[0] if body.lstrip()[:1] == b"{" else None
        return _streamed(body) if found is None else found


def _streamed(body: bytes) -> dict[str, Any] | None:
    """The answer that server-sent events add up to: those of chat and completions, of messages, and of responses."""
    said, calls, usage, whole = [], 0, {}, {}  # type: ignore[var-annotated]
    for event in _events(body):
        inner: dict[str, Any] = next(iter(_dicts([event.get("response"), event.get("message")])), {})
        if event.get("type") in _ENDED:
            return inner
        for told in (inner, event):
            whole |= {name: told[name] for name in ("id", "model", "created") if told.get(name)}
            usage |= told["usage"] if isinstance(told.get("usage"), dict) else {}
        delta = event.get("delta")
        if isinstance(delta, dict):
            said.append(prose(delta.get("text")) or "")
            whole["finish"] = delta.get("stop_reason") or whole.get("finish")
        elif event.get("type") == "response.output_text.delta":
            said.append(prose(delta) or "")
        calls += any(block.get("type") == "tool_use" for block in _dicts([event.get("content_block")]))
        for choice in _dicts(event.get("choices"))[:1]:
            delta = choice["delta"] if isinstance(choice.get("delta"), dict) else {}
            said.append(prose(delta.get("content") or choice.get("text")) or "")
            calls += sum(bool(call.get("id")) for call in _dicts(delta.get("tool_calls")))
            whole["finish"] = choice.get("finish_reason") or whole.get("finish")
    if not whole and not usage:
        return None
    message = {"role": "assistant", "content": "".join(said), "tool_calls": [{}] * calls}
    return whole | {"usage": usage, "choices": [{"message": message, "finish_reason": whole.pop("finish", None)}]}


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    """The events of a stream that are objects."""
    for line in body.split(b"\n"):
        if line.startswith(b"data:"):
            with suppress(msgspec.MsgspecError, ValueError, RecursionError):
                event = msgspec.json.decode(line[5:].strip())
                if isinstance(event, dict):
                    yield event


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
