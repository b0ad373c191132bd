"""protowire: the fields of many protobuf messages as columns, one level of nesting at a time, without a schema.

The encoding is that of protobuf.dev/programming-guides/encoding. Groups, which proto3 has no more, are not sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, Bytes, frozen
from stillwatch.kernels.compile import jit

Bools = npt.NDArray[np.bool_]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""


class Fields(NamedTuple):
    """The fields of some messages, message by message, each column of one length.

    `owner`: which message; `number`, `wire`: number and wire type; `at`: where a value with a length begins, elsewhere
    0; `value`: where it ends, or the number itself, as 64 bits.
    """

    owner: I64
    number: I64
    wire: I64
    at: I64
    value: I64

    def having(self, number: int, wire: int) -> Fields:
        """Those of one number and wire type; a field of another type than the schema's is unknown to it."""
        rows = np.flatnonzero((self.number == number) & (self.wire == wire))
        return Fields(*(column[rows] for column in self))

    def last(self, n: int) -> tuple[I64, I64]:
        """`at` and `value` of the last field of each of n messages; 0 where it has none."""
        at, value = np.zeros(n, np.int64), np.zeros(n, np.int64)
        at[self.owner], value[self.owner] = self.at, self.value
        return at, value


def fields(data: Bytes, starts: I64, ends: I64) -> tuple[Fields, Bools]:
    """The fields of the messages that lie in `data` from each start to its end, and which messages are sound.

    Of a message that is not, the fields before the damage are there. Cost: about 10 ns a field.
    """
    arrays = frozen(data.view()), frozen(starts.view()), frozen(ends.view())
    n, sound = _count(*arrays)
    columns = tuple(np.empty(n, np.int64) for _ in range(5))
    _fill(*arrays, *columns)
    return Fields(*columns), sound


def named(data: Bytes, starts: I64, ends: I64, names: Sequence[bytes]) -> I64:
    """Of each text the place of the first of `names` that it is, -1 where it is none. Cost: about 10 ns a text."""
    order = sorted(range(len(names)), key=lambda n: (len(names[n]), n))
    longest = max(map(len, names), default=0)
    lengths = np.array([len(names[n]) for n in order], np.int64)
    firsts = np.searchsorted(lengths, np.arange(longest + 2))
    text = np.frombuffer(b"".join(names[n] for n in order), np.uint8)
    where = np.concatenate([[0], np.cumsum(lengths)])
    found = _named(
        frozen(data.view()), frozen(starts.view()), frozen(ends.view()), frozen(text), frozen(where), frozen(firsts)
    )
    places = np.array([*order, -1], np.int64)
    return places[found]


@jit
def _varint(data: Bytes, at: Any, end: Any) -> tuple[Any, Any]:
    """A number of several bytes and where it ends; 0 where it does not end within ten."""
    value, shift = np.uint64(0), np.uint64(0)
    for _ in range(10):
        if at >= end:
            break
        byte = np.uint64(data[at])
        at += np.uint64(1)
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return value, at
        shift += np.uint64(7)
    return value, np.uint64(0)


@jit
def _next(data: Bytes, at: Any, end: Any) -> tuple[Any, Any, Any, Any]:
    """Tag, start, value and end of the field at `at`; the end is 0 where it is none. Places are unsigned: see `sip`."""
    none = np.uint64(0)
    tag = np.uint64(data[at])
    at += np.uint64(1)
    if tag >= np.uint64(128):
        tag, at = _varint(data, at - np.uint64(1), end)
    if at == none or tag < np.uint64(8) or tag > np.uint64(0xFFFFFFFF):
        return tag, none, none, none
    wire = tag & np.uint64(7)
    if wire == np.uint64(1) or wire == np.uint64(5):
        size = np.uint64(8) if wire == np.uint64(1) else np.uint64(4)
        if at + size > end:
            return tag, none, none, none
        value = none
        for n in range(size):
            value |= np.uint64(data[at + np.uint64(n)]) << (np.uint64(8) * np.uint64(n))
        return tag, none, value, at + size
    if (wire != none and wire != np.uint64(2)) or at >= end:
        return tag, none, none, none
    value = np.uint64(data[at])
    at += np.uint64(1)
    if value >= np.uint64(128):
        value, at = _varint(data, at - np.uint64(1), end)
    if at == none or wire == none:  # noqa: PLR1714 (numba knows no `in` here)
        return tag, none, value, at
    if value > end - at:
        return tag, none, none, none
    return tag, at, at + value, at + value


@jit
def _count(data: Bytes, starts: I64, ends: I64) -> tuple[int, Bools]:
    n, sound = 0, np.ones(starts.size, np.bool_)
    for message in range(starts.size):
        at, end = np.uint64(starts[message]), np.uint64(ends[message])
        while at < end:
            at = _next(data, at, end)[3]
            if at == np.uint64(0):
                sound[message] = False
                break
            n += 1
    return n, sound


@jit
def _fill(data: Bytes, starts: I64, ends: I64, owner: I64, number: I64, wire: I64, first: I64, value: I64) -> None:
    n = 0
    for message in range(starts.size):
        at, end = np.uint64(starts[message]), np.uint64(ends[message])
        while at < end:
            tag, start, told, at = _next(data, at, end)
            if at == np.uint64(0):
                break
            owner[n], number[n], wire[n] = message, np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
            first[n], value[n] = np.int64(start), np.int64(told)
            n += 1


@jit
def _named(data: Bytes, starts: I64, ends: I64, text: Bytes, where: I64, firsts: I64) -> I64:
    out = np.full(starts.size, -1, np.int64)
    for row in range(starts.size):
        length = ends[row] - starts[row]
        if length + 1 >= firsts.size:
            continue
        for name in range(firsts[length], firsts[length + 1]):
            same = True
            for n in range(length):
                if data[starts[row] + n] != text[where[name] + n]:
                    same = False
                    break
            if same:
                out[row] = name
                break
    return out
