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
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.home import Home
from stillwatch.ingest.chat import prose
from stillwatch.ingest.extract import row
from stillwatch.ingest.formats.openai import OPENAI
from stillwatch.ingest.importer import ASIDE
from stillwatch.ingest.jsonl import lenient
from stillwatch.receive.spool import Spool

App = Callable[..., Awaitable[None]]
Message = Mapping[str, Any]

FOLDER_VARIABLE = "STILLWATCH_EXCHANGE_LOG"
TEXT_VARIABLE = "STILLWATCH_KEEP_TEXT"
ACCOUNT_VARIABLE = "STILLWATCH_ACCOUNT_HEADER"

LARGEST_BYTES = 16 << 20
"""Of a request or an answer that is logged; what is larger passes and leaves a row without its text."""

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
            self._spool.append(one | {ASIDE: False} for one in row(OPENAI, self._record(scope, seen)))
        except Exception as error:  # whatever it is, it is no reason to fail a request
            _LOG.warning("an exchange was not logged: %s", type(error).__name__)

    def _record(self, scope: Message, seen: Seen) -> dict[str, Any]:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        token = _key_of(headers.get(b"authorization", "")) or _key_of(headers.get(b"x-api-key", ""))
        digest = hmac.new(self._key, b"api key\0" + token.encode("latin-1"), hashlib.sha256)
        hashed = digest.hexdigest() if token else None
        client = scope.get("client")
        return {
            "account_id": _name(headers.get(self._header)) if self._header else hashed and f"key-{hashed[:32]}",
            "api_key_hash": hashed,
            "timestamp": seen.ts,
            "url": scope["path"],
            "status_code": seen.status or 499,
            "request": _loaded(bytes(seen.asked)),
            "response": _loaded(bytes(seen.said)),
            "client_ip": client[0] if client else None,
            "headers": {name: headers.get(name.encode()) for name in ("user-agent", "x-request-id")},
            "ja4": headers.get(b"x-ja4"),
        }


def _key_of(header: str) -> str:
    """An API key as the gate reads it: whichever way a client spells the scheme, it is one account."""
    text = header.strip()
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text


def _name(header: str | None) -> str | None:
    """A name as the gate reads it, in UTF-8; None where it is none."""
    try:
        return header and header.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return None


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
    """The answer that server-sent events of the chat interface add up to."""
    said, calls, whole = [], 0, {}  # type: ignore[var-annotated]
    for line in body.split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        try:
            event = msgspec.json.decode(line[5:].strip())
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if not isinstance(event, dict):
            continue
        whole |= {name: event[name] for name in ("id", "model", "created", "usage") if event.get(name)}
        for choice in _dicts(event.get("choices"))[:1]:
            delta = choice["delta"] if isinstance(choice.get("delta"), dict) else {}
            said.append(prose(delta.get("content") or choice.get("text")) or "")
            calls += sum(bool(call.get("id")) for call in _dicts(delta.get("tool_calls")))
            whole["finish"] = choice.get("finish_reason") or whole.get("finish")
    if not whole:
        return None
    message = {"role": "assistant", "content": "".join(said), "tool_calls": [{}] * calls}
    return whole | {"choices": [{"message": message, "finish_reason": whole.pop("finish", None)}]}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
