"""unroll: the objects of a JSON array, one a line, from a stream of bytes of any length.

Only quotes, escapes and brackets are looked at, so an object that is broken inside stays one broken line of its own.
"""

from __future__ import annotations

import numpy as np

from stillwatch.kernels.columns import I64, Bytes, frozen
from stillwatch.kernels.compile import jit

_DEPTH, _IN_STRING, _ESCAPED, _INSIDE, _TARGET = range(5)
_QUOTE, _ESCAPE, _NEWLINE, _RETURN, _SPACE = ord('"'), ord("\\"), ord("\n"), ord("\r"), ord(" ")
_OPENING, _CLOSING = (ord("["), ord("{")), (ord("]"), ord("}"))


class Unroller:
    """Turns `[{...}, {...}]` into lines; `depth` 2 reads `{"data": [{...}, {...}]}`. Fed piece by piece."""

    def __init__(self, *, depth: int = 1) -> None:
        self._state = np.array([0, 0, 0, 0, depth], np.int64)

    def feed(self, piece: bytes) -> bytes:
        """The lines, or parts of lines, that this piece of the file holds; about 1 GB/s."""
        out = np.empty(2 * len(piece) + 1, np.uint8)
        return out[: _unroll(frozen(np.frombuffer(piece, np.uint8)), out, self._state)].tobytes()


@jit
def _unroll(data: Bytes, out: Bytes, state: I64) -> int:
    depth, in_string, escaped, inside, target = state[0], state[1], state[2], state[3], state[4]
    n = 0
    for i in range(data.size):
        byte = data[i]
        ends = False
        if in_string:
            # A string cannot hold a line break: its quote was left open, and the rest of the file must not be lost.
            if escaped:
                escaped = 0
            elif byte == _ESCAPE:
                escaped = 1
            elif byte in (_QUOTE, _NEWLINE):
                in_string = 0
        elif byte == _QUOTE:
            in_string = 1
        elif byte in _OPENING:
            if depth == target and byte == _OPENING[1]:
                inside = 1
            depth += 1
        elif byte in _CLOSING:
            depth -= 1
            ends = inside == 1 and depth <= target
        if inside:
            out[n] = _SPACE if byte in (_NEWLINE, _RETURN) else byte
            n += 1
            if ends:
                out[n] = _NEWLINE
                n, inside = n + 1, 0
    state[0], state[1], state[2], state[3] = depth, in_string, escaped, inside
    return n
