"""scanned: records of plain JSON read without decoding them: the values at each path, those alike as Arrow arrays.

What is found is what decoding the same records finds. Records that are not plain (see `kernels.lexing`), of another
shape than asked for, or with a key twice, are not read here: one such record leaves all given with it to the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from stillwatch.ingest.cells import Column, listed
from stillwatch.ingest.chat import CHAT_OF_ANY_SHAPE, TURNS
from stillwatch.ingest.nodes import FIRST, Node, below
from stillwatch.ingest.tapes import are_texts, chats, numbers, raws, reals, strings
from stillwatch.kernels.columns import I64, Bytes
from stillwatch.kernels.lexing import ARRAY, ESCAPED, FLOAT, INT, TEXT, Words, line_ends
from stillwatch.kernels.picking import paths, pick
from stillwatch.kernels.written import Values, texts

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)


class NotPlainError(ValueError):
    """These records are for the decoder."""


class Scanner:
    """Reads records of one shape: the tree of paths below a node."""

    def __init__(self, node: Node) -> None:
        self._is_list = node.is_list
        self._columns: list[tuple[str, Node]] = []
        self._inside: dict[int, Scanner] = {}
        tree: list[dict[str, tuple[int, int, bool]]] = []
        self._add(node.inner[FIRST] if node.is_list else node, f"{FIRST}." if node.is_list else "", tree)
        self._paths = paths(tree, len(self._columns))

    def _add(self, node: Node, prefix: str, tree: list[dict[str, tuple[int, int, bool]]]) -> int:
        """Add a node to the tree, with all below it; its number."""
        keys: dict[str, tuple[int, int, bool]] = {}
        number = len(tree)
        tree.append(keys)
        for key, child in node.inner.items():
            column = len(self._columns)
            self._columns.append((prefix + key, child))
            inner = child.inner[FIRST] if child.is_list else child
            under = f"{prefix}{key}.{FIRST}." if child.is_list else f"{prefix}{key}."
            below = self._add(inner, under, tree) if child.is_typed else -1
            keys[key] = (column, below, child.is_list)
        return number

    def found(self, data: Bytes, starts: I64, ends: I64, prefix: str = "") -> dict[str, Column]:
        """The values at each path of the records that lie in `data` from each start to its end.

        Raises NotPlainError where they are not read here.
        """
        picked = pick(data, starts, ends, self._paths, are_lists=self._is_list) if self._paths else None
        if picked is None:
            raise NotPlainError
        found: dict[str, Column] = {}
        for n, (path, child) in enumerate(self._columns):
            values = picked.of(n)
            if not values.kind.any() and (child.given is not msgspec.Raw or not values.last.any()):  # null is 0
                continue
            more: Mapping[str, Column]
            if child.is_typed:
                more = self._opened(n, values, prefix + path) if are_texts(values.kind).any() else {}
            else:
                column = _column(child.given, values, picked.marks)
                more = {prefix + path: column}
                if child.inner:
                    below(child, listed(column), f"{prefix}{path}.", found)
            for where, column in more.items():
                found[where] = _either(column, found[where]) if where in found else column
        return found

    def _opened(self, n: int, values: Values, path: str) -> Mapping[str, Column]:
        """What is found in the texts that stand where records are asked for; an empty one is nothing."""
        node = self._columns[n][1]
        if not (are_texts(values.kind) | (values.kind == 0)).all():
            raise NotPlainError
        if n not in self._inside:
            self._inside[n] = Scanner(node)
        offsets, data = texts(values)
        starts, ends = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
        is_empty = starts == ends
        if is_empty.any():
            starts, ends = np.where(is_empty, len(data), starts), np.where(is_empty, len(data) + 2, ends)
            data = np.concatenate([data, np.frombuffer(b"[]" if node.is_list else b"{}", np.uint8)])
        return self._inside[n].found(data, starts, ends, f"{path}.")


def found_in(scanner: Scanner, lines: bytes) -> tuple[dict[str, Column], int]:
    """The values at each path of the records on some lines, and how many records there are.

    Raises NotPlainError where they are not read here. Cost: about 1 ns a byte, and 50 ns a value asked for.
    """
    data, starts, ends = lines_of(lines)
    return scanner.found(data, starts, ends), len(starts)


def lines_of(lines: bytes) -> tuple[Bytes, I64, I64]:
    """Lines as bytes, and where each begins and ends. Raises NotPlainError where they are no UTF-8."""
    if len(lines) >= 1 << 31:
        raise NotPlainError
    if not lines.isascii():
        try:
            lines.decode()
        except UnicodeDecodeError as error:
            raise NotPlainError from error
    data: Bytes = np.frombuffer(lines, np.uint8)
    ends = line_ends(data)
    return data, np.concatenate([[0], ends[:-1] + 1]), ends


def _either(column: Column, other: Column) -> Column:
    """A path that stands once as one key and once as several."""
    return [b if a is None else a for a, b in zip(listed(column), listed(other), strict=True)]


def _column(kind: Any, values: Values, marks: Words) -> Column:
    """Values as what `kind` has msgspec decode them to."""
    if kind is msgspec.Raw:
        return raws(values)
    there = set(np.flatnonzero(np.bincount(values.kind)).tolist()) - {0}
    is_chat = kind is TURNS or kind is CHAT_OF_ANY_SHAPE
    if (kind is Any or is_chat) and there <= {TEXT, ESCAPED}:
        return strings(values)
    if is_chat and there == {ARRAY}:
        found = chats(values, marks)
        if found is not None:
            return found
    if kind is Any and there == {INT}:
        return numbers(values)
    if kind is Any and there == {FLOAT}:
        return reals(values)
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
    try:
        return [None if raw is None else decoder.decode(raw) for raw in raws(values).to_pylist()]
    except _REFUSED as error:
        raise NotPlainError from error
