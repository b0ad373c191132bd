"""scripts: which characters make words, which are digits, and which scripts are written without spaces.

A short table of ranges instead of Python's own Unicode data, so that keys do not change with the Python version. What
no range names is a letter and folds to itself. Case folds one to one for ASCII, Latin (1, Extended-A, Additional),
Greek, Cyrillic and Armenian; full-width ASCII folds to ASCII.
"""

from __future__ import annotations

import numpy as np

from stillwatch.kernels.columns import Bytes
from stillwatch.kernels.compile import Word, jit

BREAK, LETTER, DIGIT, DENSE, IGNORED = 0, 1, 2, 3, 4
"""Classes of characters: ends a word; is part of one; is masked; is written without spaces; is skipped inside words."""

_SHIFT, _EVEN, _ODD = 0, 1, 2

_BREAKS = (
    "80-a9 ab-ac ae-b1 b4 b6-b8 bb-bf d7 f7 2c2-2c5 2d2-2df 37e 387 3f6 482 55a-55f 589-58f 5be 5c0 5c3 5c6 5f3-5f4 "
    "600-60f 61b 61d-61f 66a-66d 6d4 700-70d 964-965 970 df4 e3f e4f e5a-e5b f01-f12 f14 f3a-f3d f85 fd0-fd4 "
    "104a-104f 10fb 1360-1368 1400 1680 169b-169c 16eb-16ed 17d4-17d6 17d8-17db 1800-180a 1fbd 1fbf-1fc1 1fcd-1fcf "
    "1fdd-1fdf 1fed-1fef 1ffd-1ffe 2000-200a 2010-2029 202f-205f 207a-207e 208a-208e 20a0-20cf 2100-2101 2103-2106 "
    "2108-2109 2114 2116-2118 211e-2123 2190-245f 249c-24e9 2500-2775 2794-2bff 2ce5-2cea 2cf9-2cff 2e00-2e2e "
    "2e30-2e7f 2ff0-3004 3008-3020 302a-3030 3036-3037 303d-3040 30a0 30fb 3190-319f 31c0-31ef 3200-33ff 4dc0-4dff "
    "a490-a4cf a673 a67e a6f2-a6f7 a830-a839 a874-a877 a8ce-a8cf a92e-a92f aaf0 ab5b abeb d800-f8ff fd3e-fd3f fdfc- "
    "fdff fe10-fe19 fe30-fe6f ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 ffe0-ffff 10100-10102 1d000-1d1ff 1f000-1faff "
    "f0000-1fffff"
)
_DIGITS = (
    "b2-b3 b9 660-669 6f0-6f9 7c0-7c9 966-96f 9e6-9ef a66-a6f ae6-aef b66-b6f be6-bef c66-c6f ce6-cef d66-d6f "
    "de6-def e50-e59 ed0-ed9 f20-f29 1040-1049 1090-1099 17e0-17e9 1810-1819 2070 2074-2079 2080-2089 2460-249b "
    "24ea-24ff 2776-2793 ff10-ff19 1d7ce-1d7ff"
)
_DENSES = (
    "e01-e3e e40-e4e e81-ecf eda-eff 1000-103f 1050-108f 109a-109d 1780-17d3 17d7 17dc-17df 2e80-2fef 3005-3007 "
    "3021-3029 3031-3035 3038-303c 3041-309f 30a1-30fa 30fc-312f 31a0-31bf 31f0-31ff 3400-4dbf 4e00-a48f aa60-aa7f "
    "f900-faff ff66-ff9d 1b000-1b16f 20000-3ffff"
)
_IGNOREDS = "ad 34f 61c 180b-180f 200b-200f 202a-202e 2060-206f fe00-fe0f feff e0000-e0fff"
_SHIFTS = (
    "c0-d6:20 d8-de:20 178:-79 386:26 388-38a:25 38c:40 38e-38f:3f 391-3a1:20 3a3-3ab:20 3c2:1 400-40f:50 410-42f:20 "
    "531-556:30 ff21-ff3a:-fec0 ff41-ff5a:-fee0"
)
_EVENS = "100-137 14a-177 1a0-1a5 1de-1ef 1f8-21f 222-233 460-481 48a-4bf 4d0-52f 1e00-1e95 1ea0-1eff"
_ODDS = "139-148 179-17e 1af-1b0 1cd-1dc 4c1-4ce"


def _rows(ranges: str, kind: int, fold: int = _SHIFT) -> list[tuple[int, int, int, int, int]]:
    """Rows (first, last, class, fold, shift) of ranges written `first[-last][:shift]` in hexadecimal."""
    rows = []
    for text in ranges.split():
        span, _, shift = text.partition(":")
        first, _, last = span.partition("-")
        rows.append((int(first, 16), int(last or first, 16), kind, fold, int(shift or "0", 16)))
    return rows


def _ascii() -> Bytes:
    """For each byte below 128 its folded form; "0" for a digit and 0 for what ends a word."""
    table = np.zeros(128, np.uint8)
    for byte in range(128):
        if chr(byte).isalpha():
            table[byte] = ord(chr(byte).lower())
        elif chr(byte).isdigit():
            table[byte] = ord("0")
    return table


TABLE = np.array(
    sorted(
        _rows(_BREAKS, BREAK)
        + _rows(_DIGITS, DIGIT)
        + _rows(_DENSES, DENSE)
        + _rows(_IGNOREDS, IGNORED)
        + _rows(_SHIFTS, LETTER)
        + _rows(_EVENS, LETTER, _EVEN)
        + _rows(_ODDS, LETTER, _ODD)
    ),
    np.int64,
)
_N_RANGES = len(TABLE)

ASCII = _ascii()


@jit
def classify(code: int) -> tuple[Word, Word]:
    """Class and folded form of a code point of 128 or more, by binary search."""
    low, high = 0, _N_RANGES
    while low < high:
        middle = (low + high) // 2
        if TABLE[middle, 1] < code:
            low = middle + 1
        else:
            high = middle
    if low == _N_RANGES or code < TABLE[low, 0]:
        return LETTER, code
    fold = TABLE[low, 3]
    if fold == _EVEN:
        return LETTER, code | 1
    if fold == _ODD:
        return LETTER, code + (code & 1)
    return TABLE[low, 2], code + TABLE[low, 4]


@jit
def decode(data: Bytes, at: int, stop: int) -> tuple[Word, int]:
    """The code point at `at` and the place after it; (-1, at + 1) where the bytes are no UTF-8. Needs at < stop."""
    lead: Word = np.int64(data[at])
    if lead < 0x80:
        return lead, at + 1
    n = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if lead < 0xC2 or lead > 0xF4 or at + n > stop:
        return -1, at + 1
    code = lead & (0x7F >> n)
    for i in range(at + 1, at + n):
        if data[i] & 0xC0 != 0x80:
            return -1, at + 1
        code = code << 6 | (data[i] & 0x3F)
    return code, at + n


@jit
def decode_before(data: Bytes, at: int, start: int) -> tuple[Word, int]:
    """The code point that ends at `at` and the place where it begins; (-1, at - 1) if none. Needs at > start."""
    first = at - 1
    while first > start and at - first < 4 and data[first] & 0xC0 == 0x80:
        first -= 1
    code, after = decode(data, first, at)
    return (code, first) if after == at else (-1, at - 1)
