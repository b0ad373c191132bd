"""nesting: JSON text without what lies deeper than anybody reads."""

from __future__ import annotations

import numpy as np

from stillwatch.kernels.columns import Bytes, frozen
from stillwatch.kernels.compile import jit

DEEPEST = 100
"""Levels that are kept. Decoders go down by recursion, and give up at some hundreds."""


def shallow(text: bytes, deepest: int = DEEPEST) -> bytes:
    """The text with null for every list and object that lies inside of `deepest` others; a broken one stays broken.

    Cost: about 2 ns a byte.
    """
    data = np.frombuffer(text, np.uint8)
    n_more = 3 * (text.count(b"[") + text.count(b"{"))  # null is longer than what it may stand for
    out = np.empty(len(text) + n_more, np.uint8)
    return out[: _shallow(frozen(data.view()), out, deepest)].tobytes()


@jit
def _shallow(text: Bytes, out: Bytes, deepest: int) -> int:
    depth, n = 0, 0
    in_string, escaped = False, False
    for byte in text:
        is_kept = depth <= deepest
        if in_string:
            if escaped:
                escaped = False
            elif byte == 92:  # \
                escaped = True
            elif byte == 34:  # "
                in_string = False
        elif byte == 34:
            in_string = True
        elif byte in (91, 123):  # [ {
            depth += 1
            if depth == deepest + 1:
                for letter in (110, 117, 108, 108):
                    out[n] = letter
                    n += 1
            is_kept = depth <= deepest
        elif byte in (93, 125):  # ] }
            depth -= 1
        if is_kept:
            out[n] = byte
            n += 1
    return n
