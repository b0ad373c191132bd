"""events: a stream of server-sent events whose answers' reasoning is filtered, however its bytes are cut.

An event in which nothing changes leaves byte by byte. One that cannot be read, has a line that is no field of an event,
or is larger than `LARGEST_EVENT_BYTES`, is left out where the policy's `on_failure` is anything but `allow`, and passes
where it is.
"""

from __future__ import annotations

import re

import msgspec

from stillwatch.gate.asked import read_body
from stillwatch.gate.replies import Replies

LARGEST_EVENT_BYTES = 16 << 20

_FIELD = re.compile(rb"data:[^\n]*|(?::|(?:event|id|retry):)[^\r\n]*|(?:data|event|id|retry)?")
"""A line of an event without its end. A lone CR ends a line for clients, so what follows one would not be read."""


class Events:
    """One stream.

    Args:
        replies: what filters. passes: what cannot be read passes as it came. most: bytes of an event that may wait.
    """

    def __init__(self, replies: Replies, *, passes: bool, most: int = LARGEST_EVENT_BYTES) -> None:
        self._replies, self._passes, self._most = replies, passes, most
        self._parts: list[bytes] = []
        self._lines: list[bytes] = []
        self._n_held = 0
        self._is_too_large = self._is_over = False
        self.n_unread = 0
        """Events that could not be read."""

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes; what leaves of them, and of what waited."""
        out = []
        for line in chunk.splitlines(keepends=True) if b"\n" in chunk else [chunk]:
            self._parts.append(line)
            self._n_held += len(line)
            if line.endswith(b"\n"):
                out.append(self._line(b"".join(self._parts)))
                self._parts = []
            elif self._n_held > self._most:
                out.append(self._large())
        return b"".join(out)

    def end(self) -> bytes:
        """The stream ended well: an event without a blank line behind it, and what still waited."""
        self._lines += [b"".join(self._parts)] if self._parts else []
        self._parts = []
        last = self._event() if self._lines else b""
        return last + (b"" if self._is_over else self._rest())

    def _line(self, line: bytes) -> bytes:
        is_blank = not line.strip(b"\r\n")
        if self._is_too_large:
            if is_blank:
                self._is_too_large, self._n_held = False, 0
            return line if self._passes else b""
        self._lines.append(line)
        if is_blank:
            return self._event()
        return self._large() if self._n_held > self._most else b""

    def _large(self) -> bytes:
        """What is held of an event that is too large, which passes or is left out up to the blank line behind it."""
        if not self._is_too_large:
            self._is_too_large, self.n_unread = True, self.n_unread + 1
        raw = b"".join([*self._lines, *self._parts])
        self._lines, self._parts = [], []
        return raw if self._passes else b""

    def _event(self) -> bytes:
        lines, self._lines, self._n_held = self._lines, [], 0
        raw = b"".join(lines)
        if not all(_FIELD.fullmatch(line.rstrip(b"\r\n")) for line in lines):
            return self._unread(raw)
        data = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
        if not data:
            return raw
        if data == b"[DONE]":
            self._is_over = True
            return self._rest() + raw
        event = read_body(data)
        if event is None:
            return self._unread(raw)
        self._replies.is_changed = False
        try:
            *extra, event = self._replies.event(event)
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError):
            return self._unread(raw)
        if not self._replies.is_changed and not extra:
            return raw
        named = any(line.startswith(b"event:") for line in lines)
        other = b"".join(line for line in lines if not line.startswith(b"data:") and line.strip(b"\r\n"))
        return b"".join(_written(one, named=named) for one in extra) + other + _written(event)

    def _unread(self, raw: bytes) -> bytes:
        self.n_unread += 1
        return raw if self._passes else b""

    def _rest(self) -> bytes:
        return b"".join(map(_written, self._replies.end()))


def _written(event: dict[str, object], *, named: bool = False) -> bytes:
    name = f"event: {event.get('type')}\n".encode() if named else b""
    return name + b"data: " + msgspec.json.encode(event) + b"\n\n"
