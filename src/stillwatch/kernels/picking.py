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
    ESCAPED,
    I32,
    NULL,
    Words,
    bare_end,
    byte_at,
    marked,
    space_end,
    text_end,
)
from stillwatch.kernels.written import Values

_DEEPEST = 64
_LONGEST_KEY = 255
_NONE: Word = -1
_TOP: Word = 0


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
def _stack() -> Any:
    return np.empty(_DEEPEST, np.int64)


@jit
def _pick(
    data: Bytes, marks: Words, starts: I64, ends: I64, by_length: I32, text: Bytes, where: I64, columns: I64,
    belows: I64, are_lists: Bytes, in_lists: bool, kinds: Any, first: Any, last: Any,
) -> bool:  # fmt: skip
    """Whether all are sound.

    `nodes`, `rows`, `owners`, `brackets`: of the objects and lists around a value the node, record, column and bracket.
    `column`, `row`, `below`, `is_list`: of the value to come the column that takes it (-1: none), for which record, and
    the node that it must be (-1: any); instead there may be a text, which is opened later, or null.
    """
    nodes, rows, owners, brackets, nobody = _stack(), _stack(), _stack(), _stack(), starts.size
    for record in range(starts.size):
        at, end, depth, is_key, is_done = np.int64(starts[record]), np.int64(ends[record]), 0, False, False
        column, row, below, is_list = _NONE, record, _TOP, in_lists
        while True:
            at = space_end(data, at, end)
            if at >= end:
                break
            byte, start, top = byte_at(data, at), at, depth - 1
            if is_done:  # behind a value
                if depth == 0 or (byte != 44 and byte != brackets[top] + 2):
                    return False
                at, is_key = at + 1, brackets[top] == 123
                if byte != 44:
                    depth = top
                    if owners[top] >= 0:
                        last[owners[top], rows[top]] = at
                else:  # of a list only the first item is the record's
                    column, row, below, is_list, is_done = -1, nobody, nodes[top], False, False
                continue
            is_open = byte == 123 or byte == 91  # noqa: PLR1714 (numba knows no `in` here)
            at, kind = text_end(data, marks, at + 1, end) if byte == 34 else bare_end(data, at, end)
            is_other = is_list != (byte == 91) if is_open else column < 0 or (byte != 34 and kind != NULL)
            if at < 0 or depth >= _DEEPEST or (is_key and byte != 34) or (not is_key and below >= 0 and is_other):
                return False
            if is_key:
                key = _key(data, start + 1, at, nodes[top], by_length, text, where) if nodes[top] >= 0 else -1
                at, row, column, below = space_end(data, at + 1, end), rows[top], -1, -1
                if key >= 0:
                    column, below, is_list = columns[key], belows[key], are_lists[key] != 0
                is_twice = column >= 0 and row != nobody and last[column, row] != 0
                if is_twice or (kind == ESCAPED and nodes[top] >= 0) or at >= end or byte_at(data, at) != 58:
                    return False
                at, is_key = at + 1, False
                continue
            if column >= 0:
                kinds[column, row], first[column, row], last[column, row] = kind, start + (byte == 34), at
            at, is_done = at + (byte == 34), True
            if is_open:
                nodes[depth], rows[depth], owners[depth], brackets[depth] = below, row, column, byte
                depth, at, column, is_list, is_key = depth + 1, space_end(data, at, end), -1, False, byte == 123
                is_done = at < end and byte_at(data, at) == byte + 2
        if depth > 0 or not is_done:
            return False
    return True
