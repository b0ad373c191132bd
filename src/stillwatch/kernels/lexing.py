"""lexing: JSON's texts, numbers and words inside a buffer, plain and strict (RFC 8259): where each ends.

Places are signed, and unsigned where they index: numba would else look for negative ones at each byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, Bytes, frozen
from stillwatch.kernels.compile import Word, jit

I32 = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]

NULL, FALSE, TRUE, INT, FLOAT, TEXT, ESCAPED, ARRAY, OBJECT = range(9)
"""Kinds of values; a text with escapes is told apart from one without."""

_MOST_DIGITS = 18
_LONGEST_FLOAT = 25

_WORDS = frozen(np.frombuffer(b"nullfalsetrue", np.uint8))


def marked(data: Bytes) -> Words:
    """A byte for each byte of `data`, eight to a word: 0 where a text just goes on there. Cost: .05 ns a byte."""
    marks = np.empty((len(data) // 8 + 2) * 8, np.uint8)
    _mark(frozen(data.view()), marks)
    return frozen(marks.view(np.uint64))


def line_ends(data: Bytes) -> I64:
    """Where each line ends: at its new line, the last where it has none at the end of `data`. Cost: .05 ns a byte."""
    ends = np.empty(data.size, np.int64)  # of which no more is touched than there are lines
    n = _line_ends(frozen(data.view()), ends)
    return ends[:n].copy()


@jit
def _line_ends(data: Bytes, ends: I64) -> int:
    n = 0
    for block in range((data.size + 63) // 64):
        start = np.uint64(block * 64)
        stop = np.uint64(min(block * 64 + 64, data.size))
        found = False
        for place in range(start, stop):
            found |= data[np.uint64(place)] == 10
        if found:
            for place in range(start, stop):
                if data[np.uint64(place)] == 10:
                    ends[n] = np.int64(place)
                    n += 1
    if data.size > 0 and data[data.size - 1] != 10:
        ends[n] = data.size
        n += 1
    return n


@jit
def n_openings(data: Bytes) -> int:
    """How many bytes may begin a value, or stand before one."""
    n = 0
    for at in range(data.size):
        byte = data[at]
        n += (byte == 44) | (byte == 58) | (byte == 91) | (byte == 123)
    return n


@jit
def _mark(data: Bytes, marks: Bytes) -> None:
    for at in range(data.size):
        byte = data[at]
        marks[at] = np.uint8((byte == 34) | (byte == 92) | (byte < 32))
    for at in range(data.size, marks.size):
        marks[at] = 1


@jit
def byte_at(data: Bytes, at: Word) -> Word:
    """A byte as a number."""
    return np.int64(data[np.uint64(at)])


@jit
def space_end(data: Bytes, at: Word, end: Word) -> Word:
    """Where white space ends; a new line is none, since it ends a record."""
    while at < end:
        byte = data[np.uint64(at)]
        if byte != 32 and byte != 9 and byte != 13:  # noqa: PLR1714 (numba knows no `in` here)
            break
        at += 1
    return at


@jit
def plain_end(marks: Words, at: Word) -> Word:
    """The next place from `at` where a text does not just go on."""
    word: Word = marks[np.uint64(at >> 3)] >> np.uint64((at & 7) << 3)
    while word == np.uint64(0):
        at = (at | 7) + 1
        word = marks[np.uint64(at >> 3)]
    if word & np.uint64(0xFFFFFFFF) == np.uint64(0):
        word >>= np.uint64(32)
        at += 4
    if word & np.uint64(0xFFFF) == np.uint64(0):
        word >>= np.uint64(16)
        at += 2
    if word & np.uint64(0xFF) == np.uint64(0):
        at += 1
    return at


@jit
def hex_at(data: Bytes, at: Word, end: Word) -> Word:
    """The number that four hexadecimal digits are; -1 where they are not."""
    if at + 4 > end:
        return -1
    value = 0
    for n in range(4):
        byte = byte_at(data, at + n)
        if 48 <= byte <= 57:
            value = value * 16 + byte - 48
        elif 65 <= byte <= 70 or 97 <= byte <= 102:
            value = value * 16 + (byte & 7) + 9
        else:
            return -1
    return value


@jit
def text_end(data: Bytes, marks: Words, at: Word, end: Word) -> tuple[Word, int]:
    """Where the text ends that begins at `at`, and its kind; -1 where it is none."""
    kind = TEXT
    while True:
        at = plain_end(marks, at)
        if at >= end:
            return -1, kind
        if byte_at(data, at) == 34:
            return at, kind
        if byte_at(data, at) != 92 or at + 1 >= end:
            return -1, kind
        kind = ESCAPED
        byte = byte_at(data, at + 1)
        if byte == 117:
            code = hex_at(data, at + 2, end)
            at += 6
            if 0xD800 <= code < 0xE000:
                # Half of a pair alone is no character.
                if code >= 0xDC00 or at + 1 >= end or byte_at(data, at) != 92 or byte_at(data, at + 1) != 117:
                    return -1, kind
                code = hex_at(data, at + 2, end)
                if code < 0xDC00 or code >= 0xE000:
                    return -1, kind
                at += 6
            elif code < 0:
                return -1, kind
        elif byte in (34, 92, 47, 98, 102, 110, 114, 116):
            at += 2
        else:
            return -1, kind


@jit
def _digits(data: Bytes, at: Word, end: Word) -> Word:
    while at < end and 48 <= byte_at(data, at) <= 57:
        at += 1
    return at


@jit
def number_end(data: Bytes, start: Word, end: Word) -> tuple[Word, int]:
    """Where a number ends, and its kind; -1 where it is none, or of a size that may not fit."""
    at = start + 1 if byte_at(data, start) == 45 else start
    digits = _digits(data, at, end)
    n_digits = digits - at
    if n_digits == 0 or (byte_at(data, at) == 48 and n_digits > 1):
        return -1, INT
    # 19 digits fit into 64 bits unless the first is a nine.
    if n_digits > _MOST_DIGITS + (byte_at(data, at) != 57):
        return -1, INT
    at, kind = digits, INT
    if at < end and byte_at(data, at) == 46:
        digits = _digits(data, at + 1, end)
        if digits == at + 1:
            return -1, FLOAT
        at, kind = digits, FLOAT
    if at < end and (byte_at(data, at) == 101 or byte_at(data, at) == 69):
        at += 1
        if at < end and (byte_at(data, at) == 43 or byte_at(data, at) == 45):
            at += 1
        digits = _digits(data, at, end)
        if digits == at or digits > at + 2:
            return -1, FLOAT
        at, kind = digits, FLOAT
    return (at, kind) if at - start <= _LONGEST_FLOAT else (-1, kind)


@jit
def word_end(data: Bytes, at: Word, end: Word) -> tuple[Word, int]:
    """Where null, false or true ends, and which it is; -1 where it is none."""
    byte = byte_at(data, at)
    if byte == 110:
        kind, start, size = NULL, 0, 4
    elif byte == 102:
        kind, start, size = FALSE, 4, 5
    elif byte == 116:
        kind, start, size = TRUE, 9, 4
    else:
        return -1, NULL
    if at + size > end:
        return -1, kind
    for n in range(size):
        if byte_at(data, at + n) != _WORDS[start + n]:
            return -1, kind
    return at + size, kind


@jit
def bare_end(data: Bytes, at: Word, end: Word) -> tuple[Word, int]:
    """Where a number, a word or an opening bracket ends, and what kind it begins; -1 where it is none."""
    byte = byte_at(data, at)
    if byte == 123:
        return at + 1, OBJECT
    if byte == 91:
        return at + 1, ARRAY
    if byte == 45 or 48 <= byte <= 57:
        return number_end(data, at, end)
    return word_end(data, at, end)
