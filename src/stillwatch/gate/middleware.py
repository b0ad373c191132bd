"""middleware: the gate inside a model server, as raw ASGI middleware.

    vllm serve MODEL --middleware stillwatch.gate.middleware.GateMiddleware

Every request that can cost anything is judged before the server sees it: whatever is not GET, HEAD or OPTIONS, and not
on the short list of free paths. It must hold one JSON object; anything else is refused. What a call reserved is settled
from the usage the answer states; an answer that states none, breaks off or is abandoned stays spent. Where the policy
says so, the reasoning in answers is merged, summarised or withheld; see `stillwatch.gate.showing`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from stillwatch.errors import SettingsError
from stillwatch.gate.admission import Admission, Gate
from stillwatch.gate.answers import body_of, headers_of, status_of
from stillwatch.gate.asked import allowed_body, asked, is_limitable, read_body, streamed_usage, usage_of, used_tokens
from stillwatch.gate.callers import Callers, Refused, receive_body
from stillwatch.gate.opening import Opened
from stillwatch.gate.replies import begins_inside, hide_no_reasoning
from stillwatch.gate.showing import Showing, asked_plainly
from stillwatch.policy.ruling import Request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_BODY_BYTES = 16 << 20
FREE = frozenset({"/tokenize", "/detokenize", "/health", "/ping"})
FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_LONGEST_LINE = 1 << 20


class GateMiddleware:
    """The middleware around `app`.

    Without arguments it is set up by the environment, as `stillwatch.gate.opening` says.

    Args:
        gate, callers, clock: what judges, who asks, the time with a zone. free: paths that are not judged.
    """

    def __init__(
        self,
        app: App,
        *,
        gate: Gate | None = None,
        callers: Callers | None = None,
        clock: Callable[[], datetime] | None = None,
        free: frozenset[str] = FREE,
    ) -> None:
        self._app, self._free = app, free
        self._opened: Opened | None = None
        if gate is None:
            _needs_the_peer(os.environ)
            self._opened = opened = Opened.from_environment(os.environ)
            gate, callers, clock = opened.gate, opened.callers, opened.clock
        if callers is None or clock is None:
            raise SettingsError("the middleware needs to know who asks, and when", expected="callers and clock")
        self._gate, self._callers, self._clock = gate, callers, clock

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Judge a request, and pass it on or refuse it."""
        if scope["type"] == "websocket" and not self._is_shadow:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "not open here"})
            return
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._until_the_end(send))
            return
        is_free = scope["type"] != "http" or scope["method"] in FREE_METHODS or scope["path"] in self._free
        if is_free:
            await self._app(scope, receive, send)
            return
        taken: list[Message] = []

        async def noted() -> Message:
            taken.append(await receive())
            return taken[-1]

        async def anew() -> Message:
            return taken.pop(0) if taken else await receive()

        try:
            body, n_bytes = await _object(noted)
            wanted = asked(scope["path"], body, n_bytes)
            client = scope.get("client")
            request = self._callers.request(client[0] if client else None, scope["headers"], wanted, self._clock())
            if not is_limitable(scope["path"]):
                request = replace(request, is_limitable=False)
        except Refused as error:
            self._gate.n_unread += 1
            if self._is_shadow:
                await self._app(scope, anew, send)
                return
            await _answer(send, error.status, [], msgspec.json.encode({"error": {"message": error.says}}))
            return
        taken.clear()
        admission = await self._gate.admit_soon(request)
        if not admission.passes:
            await _answer(send, status_of(admission), headers_of(admission), body_of(admission))
            return
        await self._pass(scope, body, receive, send, admission, request)

    @property
    def _is_shadow(self) -> bool:
        return self._gate.rules.policy.mode == "shadow"

    def _until_the_end(self, send: Send) -> Send:
        """Messages of the server's life: before it may end, every decision is written down."""

        async def said(message: Message) -> None:
            if self._opened is not None and message["type"].startswith("lifespan.shutdown."):
                await self._opened.close_soon()
                await asyncio.to_thread(self._opened.close)
            await send(message)

        return said

    async def _pass(
        self, scope: Message, body: dict[str, Any], receive: Receive, send: Send, admission: Admission, request: Request
    ) -> None:
        shows = admission.shows
        showing = Showing(shows, send, opens=begins_inside(body)) if shows is not None else None
        body = allowed_body(
            scope["path"], body, features_off=admission.features_off, max_output_tokens=admission.max_output_tokens,
            mark=admission.mark,
        )  # fmt: skip
        if shows is not None and not shows.shadow:
            hide_no_reasoning(scope["path"], body)
        written = msgspec.json.encode(body)
        kept = [pair for pair in scope["headers"] if pair[0].lower() not in (b"content-length", b"transfer-encoding")]
        passed: Message = {**scope, "headers": [*kept, (b"content-length", str(len(written)).encode())]}
        if showing is not None:
            passed, send = asked_plainly(passed), showing.send
        waiting = [{"type": "http.request", "body": written, "more_body": False}]
        seen = _Seen()

        async def given() -> Message:
            return waiting.pop() if waiting else await receive()

        async def said(message: Message) -> None:
            seen.watch(message)
            await send(message)

        try:
            await self._app(passed, given, said)
        finally:
            if shows is not None and showing is not None:
                who = admission.decision_id, request.account_id
                self._gate.showed(*who, shows, {"face": "middleware", **showing.seen()}, self._clock())
        used = seen.used()
        if used is not None:
            await self._gate.settle_soon(admission.decision_id, used)


def _needs_the_peer(environ: Mapping[str, str]) -> None:
    """Refuse a server that may put an address of X-Forwarded-For in the peer's place, as uvicorn does unless told.

    A client that writes a trusted proxy's address there would be believed who it says it is.
    """
    if environ.get("STILLWATCH_TRUSTED_PROXIES", "").strip() and environ.get("FORWARDED_ALLOW_IPS") != "":
        raise SettingsError(
            "the server reads forwarded addresses by itself, so nobody can tell a trusted proxy",
            got=f"FORWARDED_ALLOW_IPS={environ.get('FORWARDED_ALLOW_IPS', 'unset')}",
            expected="FORWARDED_ALLOW_IPS= (set, and empty)",
        )


@dataclass(slots=True)
class _Seen:
    """What an answer says of its cost, as it passes."""

    status: int = 0
    is_stream: bool = False
    is_whole: bool = False
    usage: dict[str, int] = field(default_factory=dict)
    held: bytearray = field(default_factory=bytearray)

    def watch(self, message: Message) -> None:
        """Look at one message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kinds = [value for name, value in message.get("headers", []) if name.lower() == b"content-type"]
            self.is_stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
        elif message["type"] == "http.response.body":
            if len(self.held) <= LARGEST_BODY_BYTES:
                self.held += message.get("body", b"")
            if self.is_stream:
                self._lines()
            self.is_whole = not message.get("more_body", False)

    def _lines(self) -> None:
        *lines, rest = self.held.split(b"\n")
        for line in lines:
            # Events state parts of the whole, some more than once and growing.
            for name, n in streamed_usage(bytes(line)).items():
                self.usage[name] = max(n, self.usage.get(name, 0))
        self.held = rest if len(rest) <= _LONGEST_LINE else bytearray()

    def used(self) -> int | None:
        """Tokens used, as far as it was said: nothing for an answer that is an error, None where all stays spent."""
        if not self.is_whole:
            return None
        if self.status >= 400:
            return 0
        if not self.is_stream:
            answer = read_body(bytes(self.held)) if len(self.held) <= LARGEST_BODY_BYTES else None
            self.usage = usage_of(answer or {})
        return used_tokens(self.usage)


async def _object(receive: Receive) -> tuple[dict[str, Any], int]:
    """The body of a request, which has to be one JSON object, and its length."""
    held = await receive_body(receive, at_most=LARGEST_BODY_BYTES)
    body = read_body(held)
    if body is None:
        raise Refused(400, "the body is not one JSON object")
    return body, len(held)


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
