"""writing: the writing system of each text, read off its UTF-8 lead bytes.

Used only to compare an account with those who write like it; a script is never evidence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.kernels.columns import I64, U64, WORD, Bytes, Spans, by_value, is_null, text_spans
from stillwatch.kernels.compile import jit
from stillwatch.kernels.siphash import U, load

SCRIPTS = (
    "none", "latin", "greek", "cyrillic", "hebrew", "arabic", "indic", "thai", "kana", "han", "hangul", "other",
)  # fmt: skip
"""Names of the codes `text_scripts` gives."""

BYTES_READ = 48

_HIGH_BITS = U(0x8080808080808080)

_LATIN, _GREEK, _CYRILLIC, _HEBREW, _ARABIC, _INDIC, _THAI, _KANA, _HAN, _HANGUL, _OTHER = range(1, 12)


def text_scripts(text: pa.Array) -> npt.NDArray[np.uint8]:
    """The prevailing script of the first `BYTES_READ` bytes of each text, as an index into `SCRIPTS`.

    A script other than Latin prevails once it has a third as many letters as Latin, since code and brand names are
    Latin everywhere; any kana makes Han text Japanese.
    """
    return by_value(text, lambda values: _scripts(text_spans(values))).astype(np.uint8)


@jit
def _is_latin(byte: int) -> int:
    lower = byte | 0x20
    return int((lower >= 97) & (lower <= 122))


@jit
def _lead(data: Bytes, at: int, stop: int) -> int:
    """Script of the character that starts here; 0 for anything that is no letter."""
    byte = data[at]
    second = data[at + 1] if at + 1 < stop else 0
    if byte < 0x80:
        return _LATIN * _is_latin(byte)
    if byte < 0xC3:
        return 0
    if byte < 0xCE:
        return _LATIN
    if byte < 0xD0:
        return _GREEK
    if byte < 0xD4:
        return _CYRILLIC
    if byte < 0xD8:
        return _HEBREW if byte >= 0xD6 else _OTHER
    if byte < 0xE0:
        return _ARABIC
    if byte == 0xE0:
        return _THAI if 0xB8 <= second <= 0xB9 else _INDIC
    if byte == 0xE3:
        return _KANA if 0x81 <= second <= 0x83 else (_HAN if second >= 0x90 else 0)
    if 0xE4 <= byte <= 0xE9:
        return _HAN
    if 0xEA <= byte <= 0xED:
        return _HANGUL
    if byte == 0xE1:
        return _LATIN if 0xB8 <= second <= 0xBB else _OTHER
    return 0


@jit
def _scripts(spans: Spans) -> U64:
    data, offsets, valid = spans
    n = offsets.size - 1
    result = np.zeros(n, np.uint64)
    seen = np.zeros(12, np.int64)
    for row in range(n):
        if is_null(valid, row):
            continue
        start, stop = offsets[row], min(offsets[row + 1], offsets[row] + BYTES_READ)
        if _is_ascii(data, start, stop):
            result[row] = _any_latin(data, start, stop)
        else:
            result[row] = _prevailing(data, start, stop, seen)
    return result


@jit
def _is_ascii(data: Bytes, start: int, stop: int) -> bool:
    """Eight bytes at a time; the last eight may have been looked at before."""
    first, last, beyond = U(start), U(stop), U(0)
    if stop - start < WORD:
        for at in range(start, stop):
            beyond |= U(data[U(at)])
        return bool(beyond < U(0x80))
    while first + U(WORD) < last:
        beyond |= load(data, first)
        first += U(WORD)
    return bool((beyond | load(data, last - U(WORD))) & _HIGH_BITS == U(0))


@jit
def _any_latin(data: Bytes, start: int, stop: int) -> int:
    for at in range(start, stop):
        if _is_latin(data[U(at)]):
            return _LATIN
    return 0


@jit
def _prevailing(data: Bytes, start: int, stop: int, seen: I64) -> int:
    """Script of a text that is not all ASCII; `seen` is scratch."""
    seen[:] = 0
    for at in range(start, stop):
        if data[at] < 0x80 or data[at] >= 0xC0:
            seen[_lead(data, at, stop)] += 1
    if seen[_KANA]:
        seen[_KANA] += seen[_HAN]
        seen[_HAN] = 0
    best = _GREEK
    for script in range(_CYRILLIC, _OTHER + 1):
        if seen[script] > seen[best]:
            best = script
    if seen[best] > 0 and seen[best] * 3 >= seen[_LATIN]:
        return best
    return _LATIN if seen[_LATIN] else 0
