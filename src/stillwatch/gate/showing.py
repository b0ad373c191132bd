"""showing: the policy's `[reasoning]` on answers that pass through ASGI middleware: JSON, and streams of events.

A stream stays one: each event leaves when it came, but for reasoning that waits for its end. A JSON answer waits for
its last byte, up to `LARGEST_ANSWER_BYTES`. What cannot be read (larger, no JSON, compressed) passes where the policy's
`on_failure` is `allow`, and else becomes an error. In shadow mode all is read and counted, and leaves as it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from stillwatch.gate.asked import read_body
from stillwatch.gate.events import Events
from stillwatch.gate.replies import Replies
from stillwatch.policy.showing import Shows

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

LARGEST_ANSWER_BYTES = 16 << 20

_UNREADABLE = msgspec.json.encode(
    {"error": {"type": "stillwatch", "code": "unavailable", "message": "The answer cannot be given in this form."}}
)
_MEDIA = (b"audio/", b"image/", b"video/")
"""Answers that hold no reasoning."""

_OF_THE_LENGTH = frozenset({b"content-length", b"etag", b"digest", b"content-md5", b"content-digest"})
"""Headers that are true of the bytes as they were."""


def asked_plainly(scope: Message) -> Message:
    """The request without what would bring an answer in a form that is not read: compressed, or as a file."""
    headers = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
    return {**scope, "headers": headers, "extensions": {}}


class Showing:
    """One answer on its way to the client.

    Args:
        shows: what is done. send: the way to the client. opens: the request opened the block its reply begins in.
        most: bytes of a JSON answer, and of one event, that may wait.
    """

    def __init__(self, shows: Shows, send: Send, *, opens: bool = False, most: int = LARGEST_ANSWER_BYTES) -> None:
        self._shows, self._send, self._most = shows, send, most
        self._replies = Replies(shows, opens=opens)
        self._passes = shows.on_failure == "allow" or shows.shadow
        self._events = Events(self._replies, passes=self._passes, most=most)
        self._start: Message | None = None
        self._way = self._is_read
        self._held = bytearray()
        self._failure: str | None = None
        self._is_over = False

    async def send(self, message: Message) -> None:
        """Take a message of the server; the client gets its own."""
        if message["type"] == "http.response.start":
            self._start = message
            await self._begin(message)
        elif message["type"] == "http.response.body":
            self._is_over = not message.get("more_body", False)
            await self._way(message.get("body", b""), bool(message.get("more_body", False)))
        elif message["type"] != "http.response.trailers":
            self._failure = "not an answer in bytes"
            if self._passes:
                await self._send(message)

    async def _begin(self, start: Message) -> None:
        headers = {name.lower(): value for name, value in start.get("headers", [])}
        kind, coding = headers.get(b"content-type", b"").lower(), headers.get(b"content-encoding", b"identity").lower()
        if start["status"] >= 400 or kind.startswith(_MEDIA):
            await self._pass_on(start)
        elif coding != b"identity":
            await self._unread(f"encoded as {coding.decode('latin-1')[:40]}")
        elif kind.startswith(b"text/event-stream"):
            self._way = self._is_streamed
            await self._send(start if self._shows.shadow else _other_length(start, None))

    async def _pass_on(self, start: Message) -> None:
        self._way = self._is_passed
        await self._send(start)

    async def _is_passed(self, body: bytes, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _is_refused(self, body: bytes, more: bool) -> None:
        """What follows a refused answer goes nowhere."""

    async def _is_streamed(self, body: bytes, more: bool) -> None:
        read = self._events.feed(body)
        if not more:
            read += self._events.end()
        if self._shows.shadow:
            read = body
        if read or not more:
            await self._send({"type": "http.response.body", "body": read, "more_body": more})

    async def _is_read(self, body: bytes, more: bool) -> None:
        assert self._start is not None
        self._held += body
        if len(self._held) > self._most:
            await self._unread("too large", more=more)
        elif not more:
            await self._whole(bytes(self._held))

    async def _whole(self, body: bytes) -> None:
        assert self._start is not None
        answer = read_body(body)
        if answer is None and body.strip():
            await self._unread("not a JSON object", more=False)
            return
        try:
            self._replies.whole(answer or {})
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            await self._unread(f"not an answer: {type(error).__name__}", more=False)
            return
        if self._shows.shadow or not self._replies.is_changed:
            await self._pass_on(self._start)
        else:
            body = msgspec.json.encode(answer)
            await self._send(_other_length(self._start, len(body)))
        await self._is_passed(body, False)

    async def _unread(self, why: str, *, more: bool = True) -> None:
        """An answer that cannot be read: what there is of it passes, or an error stands for all of it."""
        assert self._start is not None
        self._failure = why
        held, self._held = bytes(self._held), bytearray()
        if self._passes:
            await self._pass_on(self._start)
            if held or not more:
                await self._is_passed(held, more)
            return
        self._way = self._is_refused
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(_UNREADABLE)).encode())]
        await self._send({"type": "http.response.start", "status": 503, "headers": head})
        await self._send({"type": "http.response.body", "body": _UNREADABLE, "more_body": False})

    def seen(self) -> dict[str, object]:
        """What was done, for the journal."""
        return {
            "n_characters_in": self._replies.n_in, "n_characters_out": self._replies.n_out,
            "n_events_unread": self._events.n_unread,
            "failure": self._failure or (None if self._is_over else "broke off"),
        }  # fmt: skip


def _other_length(start: Message, n_bytes: int | None) -> Message:
    headers = [pair for pair in start.get("headers", []) if pair[0].lower() not in _OF_THE_LENGTH]
    length = [] if n_bytes is None else [(b"content-length", str(n_bytes).encode())]
    return {**start, "headers": [*headers, *length]}
