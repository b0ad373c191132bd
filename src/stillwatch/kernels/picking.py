"""picking: the values at some paths of many JSON records, found in one pass that builds nothing of the rest.

A record that is not plain, strict JSON (see `lexing`), has another shape than the paths say, or one of their keys twice
or with an escape, stops it: who needs that record reads it in a more patient way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, Bytes, frozen
from stillwatch.kernels.compile import Word, jit
from stillwatch.kernels.lexing import (
    ARRAY,
    I32,
    NULL,
    OBJECT,
    TEXT,
    Words,
    byte_at,
    marked,
    number_end,
    space_end,
    text_end,
    word_end,
)  # fmt: skip
from stillwatch.kernels.written import Values

_DEEPEST = 64
_LONGEST_KEY = 255


class Paths(NamedTuple):
    """Keys below the nodes of a tree: those of node n that have m bytes are `starts[n, m]` to `starts[n, m + 1]`.

    Of each key `text[where[key] : where[key + 1]]`, the `column` of its values, and the node below it, where its values
    are objects, or lists whose items are; -1 where they may be anything. Node 0 is the record.
    """

    starts: npt.NDArray[np.int32]
    text: Bytes
    where: I64
    column: I64
    below: I64
    is_list: Bytes
    n_columns: int


class Picked(NamedTuple):
    """Of each column (the rows here) and record: the kind of its value, and where it begins and ends in `data`.

    Of a text what stands inside its quotes; null, from 0 to 0, where there is no value.
    """

    data: Bytes
    marks: Words
    kind: Bytes
    first: I32
    last: I32

    def of(self, column: int) -> Values:
        """The values of one column."""
        return Values(self.data, self.kind[column], self.first[column], self.last[column])


def paths(tree: Sequence[Mapping[str, tuple[int, int, bool]]], n_columns: int) -> Paths | None:
    """Paths of a tree: of each node its keys, with their column, the node below (-1: none), and whether it is a list.

    None where a key is too long to be looked for.
    """
    keys = [
        (len(key.encode()), key.encode(), *what) for node in tree for key, what in sorted(node.items(), key=_by_length)
    ]
    if any(key[0] > _LONGEST_KEY for key in keys):
        return None
    starts = np.zeros((len(tree), _LONGEST_KEY + 2), np.int32)
    before = 0
    for n, node in enumerate(tree):
        lengths = np.sort([len(key.encode()) for key in node])
        starts[n] = before + np.searchsorted(lengths, np.arange(_LONGEST_KEY + 2))
        before += len(node)
    sizes, texts, columns, below, are_lists = zip(*keys, strict=True) if keys else ((),) * 5
    return Paths(
        frozen(starts), frozen(np.frombuffer(b"".join(texts), np.uint8)),
        frozen(np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))])), frozen(np.array(columns, np.int64)),
        frozen(np.array(below, np.int64)), frozen(np.array(are_lists, np.uint8)), n_columns,
    )  # fmt: skip


def pick(data: Bytes, starts: I64, ends: I64, wanted: Paths, *, are_lists: bool = False) -> Picked | None:
    """The values at the wanted paths of the records that lie in `data` from each start to its end.

    With `are_lists` each is a list, of whose items the first is the record. None where one is none of that. Cost: about
    .6 ns a byte, and 10 ns a value.
    """
    # The last record is nobody's: it takes what further items of lists hold.
    kind = np.zeros((wanted.n_columns, len(starts) + 1), np.uint8)
    first, last = (np.zeros((wanted.n_columns, len(starts) + 1), np.int32) for _ in range(2))
    marks = marked(data)
    is_sound = _pick(
        frozen(data.view()), marks, frozen(starts.view()), frozen(ends.view()), *wanted[:-1], are_lists,
        kind, first, last,
    )  # fmt: skip
    return Picked(data, marks, kind[:, :-1], first[:, :-1], last[:, :-1]) if is_sound else None


def _by_length(item: tuple[str, Any]) -> tuple[int, str]:
    return len(item[0].encode()), item[0]


@jit
def _key(data: Bytes, start: Word, end: Word, node: Word, starts: I32, text: Bytes, where: I64) -> Word:
    """Which of a node's keys this is; -1 where it is none."""
    size = end - start
    if size > 255:
        return -1
    for key in range(starts[node, size], starts[node, size + 1]):
        begin, at = where[key], 0
        while at < size and data[np.uint64(start + at)] == text[np.uint64(begin + at)]:
            at += 1
        if at == size:
            return key
    return -1


@jit
def _pick(
    data: Bytes, marks: Words, starts: I64, ends: I64, by_length: I32, text: Bytes, where: I64, columns: I64,
    belows: I64, are_lists: Bytes, in_lists: bool, kinds: Any, first: Any, last: Any,
) -> bool:  # one loop: every call costs, and this sees each byte  # fmt: skip
    nodes, rows, places = np.empty(_DEEPEST, np.int64), np.empty(_DEEPEST, np.int64), np.empty(_DEEPEST, np.int64)
    owners, brackets = np.empty(_DEEPEST, np.int64), np.empty(_DEEPEST, np.int64)
    nobody = starts.size
    for record in range(starts.size):
        at, end = np.int64(starts[record]), np.int64(ends[record])
        depth = 0
        # Of the value to come: the column that takes it (-1: none), for which record, and the node that it must be.
        column, row, below, is_list = -1, record, 0, in_lists
        is_key = False
        while True:
            at = space_end(data, at, end)
            if at >= end:
                return False
            byte, start = byte_at(data, at), at
            if is_key:
                if byte != 34:
                    return False
                start += 1
                at, kind = text_end(data, marks, start, end)
                if at < 0:
                    return False
                node, row = nodes[depth - 1], rows[depth - 1]
                column, below, is_list = -1, -1, False
                if node >= 0:
                    if kind != TEXT:
                        return False
                    key = _key(data, start, at, node, by_length, text, where)
                    if key >= 0:
                        column, below, is_list = columns[key], belows[key], are_lists[key] != 0
                        if row != nobody and last[column, row] != 0:
                            return False
                at = space_end(data, at + 1, end)
                if at >= end or byte_at(data, at) != 58:
                    return False
                at, is_key = at + 1, False
                continue
            if byte == 123 or byte == 91:  # noqa: PLR1714 (numba knows no `in` here)
                if below >= 0 and is_list != (byte == 91):
                    return False
                at = space_end(data, at + 1, end)
                if at >= end:
                    return False
                if byte_at(data, at) != byte + 2:
                    if depth >= _DEEPEST:
                        return False
                    nodes[depth], rows[depth], places[depth] = below, row, start
                    owners[depth], brackets[depth] = column, byte
                    depth += 1
                    is_key = byte == 123
                    if not is_key:
                        column, is_list = -1, False
                    continue
                at += 1
                kind = OBJECT if byte == 123 else ARRAY
            elif byte == 34:
                start += 1
                at, kind = text_end(data, marks, start, end)
                if at < 0 or (below >= 0 and column < 0):
                    return False
                if column >= 0:
                    kinds[column, row], first[column, row], last[column, row] = kind, start, at
                    column = -1
                at += 1
            else:
                if byte == 45 or 48 <= byte <= 57:
                    at, kind = number_end(data, at, end)
                else:
                    at, kind = word_end(data, at, end)
                if at < 0 or (below >= 0 and (kind != NULL or column < 0)):
                    return False
            if column >= 0:
                kinds[column, row], first[column, row], last[column, row] = kind, start, at
            while depth > 0:
                at = space_end(data, at, end)
                if at >= end:
                    return False
                byte, bracket = byte_at(data, at), brackets[depth - 1]
                at += 1
                if byte == 44:
                    is_key = bracket == 123
                    if not is_key:
                        # Of a list only the first item is the record's.
                        column, below, row, is_list = -1, nodes[depth - 1], nobody, False
                    break
                if byte != bracket + 2:
                    return False
                depth -= 1
                column = owners[depth]
                if column >= 0:
                    row = rows[depth]
                    kinds[column, row], first[column, row] = OBJECT if bracket == 123 else ARRAY, places[depth]
                    last[column, row] = at
            if depth == 0:
                break
        if space_end(data, at, end) != end:
            return False
    return True
