"""messages: OTLP's messages in protobuf, many at once: where they lie, and the keys, values and events inside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64
from stillwatch.kernels.protowire import FIXED64, LENGTH, VARINT, Fields, fields

Bools = npt.NDArray[np.bool_]

_DEEPEST = 16
_TEXT, _BOOL, _INT, _DOUBLE, _LIST, _MAP, _BYTES = range(1, 8)
_WIRES = np.array([-1, LENGTH, VARINT, VARINT, FIXED64, LENGTH, LENGTH, LENGTH])
"""The wire type of each field of AnyValue, by its number."""


class Messages(NamedTuple):
    """Messages, the message that each lies in by its number, and the fields of all."""

    starts: I64
    ends: I64
    owner: I64
    table: Fields

    def of(self, kept: Bools) -> Messages:
        """Those that are kept."""
        if kept.all():
            return self
        number = np.cumsum(kept) - 1
        rows = np.flatnonzero(kept[self.table.owner])
        table = Fields(*(column[rows] for column in self.table))
        table = table._replace(owner=number[table.owner])
        return Messages(self.starts[kept], self.ends[kept], self.owner[kept], table)


class Reader:
    """Reads exports. `items` are their spans or log records; `bad` becomes true for those that turn out to be none."""

    def __init__(self, exports: Sequence[bytes]) -> None:
        self._text = b"".join(exports)
        self.data = np.frombuffer(self._text, np.uint8)
        lengths = np.array([len(one) for one in exports], np.int64)
        self._ends = np.cumsum(lengths)
        self.bad = np.zeros(len(exports), np.bool_)
        whole = Messages(
            self._ends - lengths, self._ends, np.arange(len(exports)), self._fields(self._ends - lengths, self._ends)
        )
        self.items = self.inside(self.inside(self.inside(whole, 1), 2), 2)

    def export_of(self, starts: I64) -> I64:
        """The export that lies at each place."""
        return np.minimum(np.searchsorted(self._ends, starts, side="right"), len(self._ends) - 1)

    def inside(self, messages: Messages, number: int) -> Messages:
        """The messages under a number inside of messages."""
        found = messages.table.having(number, LENGTH)
        return Messages(found.at, found.value, found.owner, self._fields(found.at, found.value))

    def _fields(self, starts: I64, ends: I64) -> Fields:
        found, sound = fields(self.data, starts, ends)
        self.bad[self.export_of(starts[~sound])] = True
        return found

    def texts(self, starts: I64, ends: I64) -> list[str]:
        """Texts; bytes that are not UTF-8 are spelt out, where there is none it is empty."""
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        return [self._text[a:b].decode("utf-8", "backslashreplace") for a, b in places]

    def hexes(self, starts: I64, ends: I64) -> list[str]:
        """Bytes as hexadecimal text."""
        return [self._text[a:b].hex() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def keys_and_values(self, pairs: Messages) -> tuple[tuple[I64, I64], tuple[I64, I64]]:
        """Where the key and the value of each pair begin and end."""
        n = len(pairs.starts)
        return pairs.table.having(1, LENGTH).last(n), pairs.table.having(2, LENGTH).last(n)

    def dicts(self, pairs: Messages, n: int, depth: int = 0) -> list[dict[str, Any]]:
        """The pairs of each of n owners."""
        keys, values = self.keys_and_values(pairs)
        found: list[dict[str, Any]] = [{} for _ in range(n)]
        for owner, key, value in zip(pairs.owner.tolist(), self.texts(*keys), self.values(*values, depth), strict=True):
            found[owner][key] = value
        return found

    def events(self, spans: Messages) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Of each event on spans the number of its span, its name and its attributes."""
        events = self.inside(spans, 11)
        n = len(events.starts)
        names = self.texts(*events.table.having(2, LENGTH).last(n))
        return zip(events.owner.tolist(), names, self.dicts(self.inside(events, 3), n), strict=True)

    def values(self, starts: I64, ends: I64, depth: int = 0) -> list[Any]:
        """What values (AnyValue) say; None where one says nothing, or lies too deep."""
        out: list[Any] = [None] * len(starts)
        if depth > _DEEPEST or not out:
            return out
        found = self._fields(starts, ends)
        rows = np.flatnonzero(_WIRES[np.where(found.number < len(_WIRES), found.number, 0)] == found.wire)
        last = np.full(len(out), -1, np.int64)
        last[found.owner[rows]] = rows
        kinds = np.where(last < 0, 0, found.number[last] if len(rows) else 0)
        for kind in np.unique(kinds[kinds > 0]).tolist():
            spots = np.flatnonzero(kinds == kind)
            told = self._of_kind(kind, found.at[last[spots]], found.value[last[spots]], depth)
            if len(told) == len(out):
                return told
            for spot, value in zip(spots.tolist(), told, strict=True):
                out[spot] = value
        return out

    def _of_kind(self, kind: int, at: I64, value: I64, depth: int) -> list[Any]:
        if kind in (_TEXT, _BYTES):
            return self.texts(at, value)
        if kind == _BOOL:
            return list((value != 0).tolist())
        if kind == _INT:
            return list(value.tolist())
        if kind == _DOUBLE:
            return list(value.view(np.float64).tolist())
        table = self._fields(at, value)
        inner = table.having(1, LENGTH)
        if kind == _MAP:
            pairs = Messages(inner.at, inner.value, inner.owner, self._fields(inner.at, inner.value))
            return list(self.dicts(pairs, len(at), depth + 1))
        told = iter(self.values(inner.at, inner.value, depth + 1))
        return [list(islice(told, n)) for n in np.bincount(inner.owner, minlength=len(at)).tolist()]
