"""tape: JSON as a list of its values, in the order in which they stand; built in one pass, read without Python objects.

Values that lie in an array or object follow it. A text that is not plain, strict JSON (RFC 8259) of moderate depth and
numbers of moderate size has no tape: who needs it reads it in a more patient way. That the bytes are UTF-8 is for the
caller to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stillwatch.kernels.columns import I64, Bytes, frozen
from stillwatch.kernels.compile import jit
from stillwatch.kernels.lexing import (
    ARRAY,
    ESCAPED,
    I32,
    NULL,
    OBJECT,
    TEXT,
    Words,
    bare_end,
    byte_at,
    marked,
    n_openings,
    space_end,
    text_end,
)
from stillwatch.kernels.written import Values

_DEEPEST = 64


class Tape(NamedTuple):
    """The values of some texts. Keys of objects are values too, each before its own.

    `first`, `last`: where a value begins and ends in `data`, of a text what stands inside its quotes; `after`: the
    place of the value that follows it and all it holds; `roots`: the value that each text is.
    """

    data: Bytes
    roots: I64
    kind: Bytes
    first: I32
    last: I32
    after: I32

    def at(self, spots: I64) -> Values:
        """The values at some places; null where one is negative."""
        if not len(self.kind):
            nothing = np.zeros(len(spots), np.int32)
            return Values(self.data, nothing.astype(np.uint8), nothing, nothing)
        kind = np.where(spots >= 0, self.kind[spots], np.uint8(NULL))
        return Values(self.data, kind, self.first[spots], np.where(spots >= 0, self.last[spots], np.int32(0)))


class Names(NamedTuple):
    """Keys, sorted by length: those of `n` bytes are the places `by_length[n]` to `by_length[n + 1]`."""

    text: Bytes
    where: I64
    by_length: I64
    order: I64

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        """Those of some names, which `order` tells of by their places."""
        texts = [name.encode() for name in names]
        order = sorted(range(len(texts)), key=lambda n: (len(texts[n]), n))
        lengths = np.array([len(texts[n]) for n in order], np.int64)
        longest = max(map(len, texts), default=0)
        return cls(
            frozen(np.frombuffer(b"".join(texts[n] for n in order), np.uint8)),
            frozen(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
            frozen(np.searchsorted(lengths, np.arange(longest + 2)).astype(np.int64)),
            frozen(np.array(order, np.int64)),
        )


def tape(data: Bytes, starts: I64, ends: I64, *, marks: Words | None = None) -> Tape | None:
    """The tape of the texts that lie in `data` from each start to its end; None where one has none.

    `marks` where they are known. Cost: about .6 ns a byte and 5 ns a value.
    """
    n_most = n_openings(frozen(data.view())) + len(starts)
    roots = np.empty(len(starts), np.int64)
    kind = np.empty(n_most, np.uint8)
    first, last, after = (np.empty(n_most, np.int32) for _ in range(3))
    n = _tape(
        frozen(data.view()),
        marked(data) if marks is None else marks,
        frozen(starts.view()),
        frozen(ends.view()),
        roots,
        kind,
        first,
        last,
        after,
    )
    return None if n < 0 else Tape(data, roots, kind[:n], first[:n], last[:n], after[:n])


def members(given: Tape, objects: I64, names: Names) -> I64 | None:
    """Where each named member of each object lies, one row for each name; -1 for none, and where `objects` has -1.

    None where a name stands twice in one object, or a key with an escape among the keys, or a place is no object.
    """
    out = np.full((len(names.order), len(objects)), -1, np.int64)
    return out if _members(*_of(given), frozen(objects.view()), *names, out) else None


def named(given: Tape, keys: I64, names: Names) -> I64 | None:
    """Of each text the place of the name that it is, -1 where it is none; None where one has an escape, or is no text.

    Where `keys` has -1 there is no text, and no name.
    """
    out = np.full(len(keys), -1, np.int64)
    return out if _named(*_of(given), frozen(keys.view()), *names, out) else None


def sole(given: Tape, objects: I64, names: Names) -> tuple[I64, I64] | None:
    """Of each object its one named member, unless it is null: which name it has, and where it lies; -1 for none.

    None as in `members`, and where an object has two.
    """
    which, spots = np.full(len(objects), -1, np.int64), np.full(len(objects), -1, np.int64)
    is_sound = _sole(*_of(given), frozen(objects.view()), *names, which, spots)
    return (which, spots) if is_sound else None


def items(given: Tape, arrays: I64) -> tuple[I64, I64]:
    """Where the items of each array lie, in a row, and how many each has; 0 for what is no array."""
    counts = np.zeros(len(arrays), np.int64)
    _count(*_of(given), frozen(arrays.view()), counts)
    found = np.empty(int(counts.sum()), np.int64)
    _items(*_of(given), frozen(arrays.view()), counts, found)
    return found, counts


def _of(given: Tape) -> tuple[Bytes, Bytes, I32, I32, I32]:
    return (
        frozen(given.data.view()), frozen(given.kind.view()), frozen(given.first.view()), frozen(given.last.view()),
        frozen(given.after.view()),
    )  # fmt: skip


@jit
def _tape(
    data: Bytes, marks: Words, starts: I64, ends: I64, roots: I64, kinds: Bytes, first: I32, last: I32, after: I32
) -> int:  # fmt: skip
    stack = np.empty(_DEEPEST, np.int64)
    n = 0
    for row in range(starts.size):
        at, end, depth = np.int64(starts[row]), np.int64(ends[row]), 0
        is_key, is_done = False, False
        roots[row] = n
        while True:
            at = space_end(data, at, end)
            if at >= end:
                break
            byte = byte_at(data, at)
            if is_done:  # behind a value
                if depth == 0:
                    return -1
                around, at = stack[depth - 1], at + 1
                is_key = kinds[around] == OBJECT
                if byte == 44:
                    is_done = False
                elif byte == (125 if is_key else 93):
                    last[around], after[around], depth = at, n, depth - 1
                else:
                    return -1
                continue
            if n >= kinds.size or depth >= _DEEPEST or (is_key and byte != 34):
                return -1
            first[n], n = at + (byte == 34), n + 1
            if byte == 123 or byte == 91:  # noqa: PLR1714 (numba knows no `in` here)
                kinds[n - 1], stack[depth], is_key = OBJECT if byte == 123 else ARRAY, n - 1, byte == 123
                at, depth = space_end(data, at + 1, end), depth + 1
                is_done = at < end and byte_at(data, at) == byte + 2
                continue
            at, kind = text_end(data, marks, at + 1, end) if byte == 34 else bare_end(data, at, end)
            if at < 0:
                return -1
            kinds[n - 1], last[n - 1], after[n - 1] = kind, at, n
            at += byte == 34
            if is_key:
                at = space_end(data, at, end)
                if at >= end or byte_at(data, at) != 58:
                    return -1
                at += 1
            is_key, is_done = False, not is_key
        if depth > 0 or not is_done:
            return -1
    return n


@jit
def name_of(data: Bytes, start: int, end: int, text: Bytes, where: I64, by_length: I64) -> int:
    """The place of a key among `Names`, -1 where it is none of them; inside kernels."""
    length = end - start
    if length + 1 < by_length.size:
        for name in range(by_length[length], by_length[length + 1]):
            begin, n = where[name], 0
            while n < length and data[np.uint64(start + n)] == text[np.uint64(begin + n)]:
                n += 1
            if n == length:
                return name
    return -1


@jit
def _members(
    data: Bytes, kind: Bytes, first: I32, last: I32, after: I32, objects: I64,
    text: Bytes, where: I64, by_length: I64, order: I64, out: Any,
) -> bool:  # fmt: skip
    for row in range(objects.size):
        spot = objects[row]
        if spot < 0:
            continue
        if kind[spot] != OBJECT:
            return False
        key, end = np.int64(spot + 1), np.int64(after[spot])
        while key < end:
            if kind[key] == ESCAPED:
                return False
            name = name_of(data, first[key], last[key], text, where, by_length)
            if name >= 0:
                if out[order[name], row] >= 0:
                    return False
                out[order[name], row] = key + 1
            key = np.int64(after[key + 1])
    return True


@jit
def _sole(
    data: Bytes, kind: Bytes, first: I32, last: I32, after: I32, objects: I64,
    text: Bytes, where: I64, by_length: I64, order: I64, which: I64, spots: I64,
) -> bool:  # fmt: skip
    for row in range(objects.size):
        spot = objects[row]
        if spot < 0:
            continue
        if kind[spot] != OBJECT:
            return False
        key, end, is_found = np.int64(spot + 1), np.int64(after[spot]), False
        while key < end:
            if kind[key] == ESCAPED:
                return False
            name = name_of(data, first[key], last[key], text, where, by_length)
            if name >= 0:
                if is_found:
                    return False
                is_found = True
                if kind[key + 1] != NULL:
                    which[row], spots[row] = order[name], key + 1
            key = np.int64(after[key + 1])
    return True


@jit
def _named(
    data: Bytes, kind: Bytes, first: I32, last: I32, after: I32, keys: I64,
    text: Bytes, where: I64, by_length: I64, order: I64, out: I64,
) -> bool:  # fmt: skip
    for row in range(keys.size):
        spot = keys[row]
        if spot >= 0:
            if kind[spot] != TEXT:
                return False
            name = name_of(data, first[spot], last[spot], text, where, by_length)
            if name >= 0:
                out[row] = order[name]
    return True


@jit
def _count(data: Bytes, kind: Bytes, first: I32, last: I32, after: I32, arrays: I64, counts: I64) -> None:
    for row in range(arrays.size):
        spot = arrays[row]
        if spot >= 0 and kind[spot] == ARRAY:
            item, end = np.int64(spot + 1), np.int64(after[spot])
            while item < end:
                counts[row] += 1
                item = np.int64(after[item])


@jit
def _items(data: Bytes, kind: Bytes, first: I32, last: I32, after: I32, arrays: I64, counts: I64, found: I64) -> None:
    n = 0
    for row in range(arrays.size):
        item = arrays[row] + 1
        for _ in range(counts[row]):
            found[n] = item
            item = np.int64(after[item])
            n += 1
