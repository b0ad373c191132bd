"""windows: the (window, token) pairs of many texts in one pass, and which windows stand in their own text's prompt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.compile import Word, jit
from stillwatch.kernels.prf import TOKEN_BITS
from stillwatch.kernels.siphash import U

_BITS = U(TOKEN_BITS)
_GAMMA, _MIX = U(0x9E3779B97F4A7C15), U(0xBF58476D1CE4E5B9)
_HALF = U(32)
_ROOM = 4
"""Places of the table for each window of the longest prompt: a search looks at little more than one."""


def pack_pairs(tokens: I64, starts: I64, prompts: I64, prompt_starts: I64, width: int) -> tuple[U64, int]:
    """The pairs of texts whose window does not stand in their own prompt, and how many do: packed words, in order.

    Args:
        tokens: those of all texts, one after another; text i is tokens[starts[i]:starts[i + 1]].
        prompts: the same of their prompts. All tokens are below 2 ** TOKEN_BITS.
        width: tokens of a window, 1 or 2.

    Cost: about 3 ns a token and 10 ns a token of prompt; without the GIL. Memory: 8 bytes a token, and 16 bytes times
    four to eight for each token of the longest prompt.
    """
    longest = int(np.diff(prompt_starts).max(initial=0))
    size = 1 << max(int(_ROOM * longest - 1).bit_length(), 1)
    table, owner = np.zeros(size, np.uint64), np.full(size, -1, np.int64)
    out = np.empty(len(tokens), np.uint64)
    n_kept, n_left_out = _pack(
        np.ascontiguousarray(tokens), np.ascontiguousarray(starts), np.ascontiguousarray(prompts),
        np.ascontiguousarray(prompt_starts), width, table, owner, out,
    )  # fmt: skip
    return out[:n_kept], int(n_left_out)


@jit
def _place(table: npt.NDArray[np.uint64], owner: I64, text: int, window: Word) -> int:
    """Where a window of a text stands in the table, or the free place where it would."""
    mask = table.size - 1
    word = (U(window) + _GAMMA) * _MIX
    at = int((word ^ word >> _HALF) * _GAMMA >> _HALF) & mask
    while owner[at] == text and table[at] != U(window):
        at = (at + 1) & mask
    return at


@jit
def _pack(
    tokens: I64, starts: I64, prompts: I64, prompt_starts: I64, width: int,
    table: npt.NDArray[np.uint64], owner: I64, out: npt.NDArray[np.uint64],
) -> tuple[int, int]:  # fmt: skip
    n_kept, n_left_out = 0, 0
    for text in range(starts.size - 1):
        low, high = prompt_starts[text], prompt_starts[text + 1]
        for begin in range(low, high - width + 1):
            window = U(0)
            for offset in range(width):
                window = window << _BITS | U(prompts[begin + offset])
            # What an earlier text left in the table counts as free: its number is another.
            at = _place(table, owner, text, window)
            table[at], owner[at] = window, text
        known = high - low >= width
        for end in range(starts[text] + width, starts[text + 1]):
            window = U(0)
            for offset in range(width):
                window = window << _BITS | U(tokens[end - width + offset])
            if known and owner[_place(table, owner, text, window)] == text:
                n_left_out += 1
                continue
            out[n_kept] = window << _BITS | U(tokens[end])
            n_kept += 1
    return n_kept, n_left_out
