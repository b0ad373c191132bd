"""cells: the values that records have at one place, a list or an Arrow array, and what its reader makes of them.

A list and an array of the same values give the same column; an array costs no Python object for a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from types import NoneType
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.ingest.cast import CHAT, NAMES
from stillwatch.ingest.chat import Turn, conversation, prose
from stillwatch.ingest.importer import Place
from stillwatch.ingest.tapes import chats_in
from stillwatch.records import MESSAGE

Column: TypeAlias = "pa.Array | list[Any]"
"""Arrays are of texts, whole numbers, numbers, conversations (CHAT), or bytes, which are what msgspec calls Raw."""

_BAD_VALUE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_TEXT = frozenset({str, NoneType})
_LISTS = frozenset({list, NoneType})
_PEEK = 64
_ROLE, _CONTENT = attrgetter("role"), attrgetter("content")


def first(places: Sequence[Place], found: Mapping[str, Column]) -> Column:
    """Of each row the first value among `places`; an empty text is none. Empty where no row has any."""
    values: Column = []
    for place in places:
        column = found.get(place.path, [])
        if not _says_something(column):
            continue
        column = _without_blanks(_read(place, column))
        if not values:
            values = column
        elif _says_something(column):
            values = _merged(values, column)
        if not _has_gaps(values):
            break
    return values


def listed(column: Column) -> list[Any]:
    """The values of a column as the decoder of JSON gives them."""
    if not isinstance(column, pa.Array):
        return list(column)
    values: list[Any] = column.to_pylist()
    if column.type == CHAT:
        return [turns and [Turn(**turn) for turn in turns] for turns in values]
    return values if column.type != pa.binary() else [None if one is None else msgspec.Raw(one) for one in values]


def joined(columns: Sequence[Column | int]) -> Column:
    """Parts of a column, one after the other; of a part that is a number that many rows have no value."""
    arrays = [one for one in columns if isinstance(one, pa.Array)]
    kinds = {one.type for one in arrays}
    if len(kinds) == 1 and not any(isinstance(one, list) for one in columns):
        kind = kinds.pop()
        return pa.concat_arrays([pa.nulls(one, kind) if isinstance(one, int) else one for one in columns])
    lists = ([None] * one if isinstance(one, int) else listed(one) for one in columns)
    return list(chain.from_iterable(lists))


def taken(column: Column, rows: Sequence[int]) -> Column:
    """Some rows of a column."""
    return column.take(pa.array(rows, pa.int64())) if isinstance(column, pa.Array) else [column[row] for row in rows]


def chats(values: Column) -> Any:
    """Conversations as an Arrow array, built flat; as plain values where one holds what is no conversation."""
    if isinstance(values, pa.Array):
        return values if values.type == CHAT else list(map(_plain, listed(values)))
    if not set(map(type, values)) <= _LISTS:
        return list(map(_plain, values))
    turns = list(chain.from_iterable(filter(None, values)))
    are_all_told = all(values)
    ends = [0, *accumulate(map(len, values) if are_all_told else [len(value) if value else 0 for value in values])]
    try:
        roles = pa.array(list(map(_ROLE, turns)), pa.string())
        contents = pa.array(list(map(_CONTENT, turns)), pa.string())
    except (pa.ArrowException, *_BAD_VALUE):
        return list(map(_plain, values))
    starts = pa.array(ends, pa.int32(), mask=None if are_all_told else [*(not value for value in values), False])
    struct = pa.StructArray.from_arrays([roles, contents], fields=list(MESSAGE))
    return pa.ListArray.from_arrays(starts, struct).cast(CHAT)


def _plain(value: Any) -> Any:
    """A conversation without types of ours, so that `conform` reads it though another of its batch is none."""
    if type(value) is not list:
        return value
    return [{"role": one.role, "content": one.content} if type(one) is Turn else one for one in value]


def _says_something(column: Column) -> bool:
    if isinstance(column, pa.Array):
        return bool(column.null_count < len(column))
    return not set(map(type, column)) <= {NoneType}


def _has_gaps(column: Column) -> bool:
    return bool(column.null_count) if isinstance(column, pa.Array) else None in column


def _without_blanks(column: Column) -> Column:
    if isinstance(column, pa.Array):
        if column.type != pa.string() or pc.min(pc.binary_length(column)).as_py() != 0:
            return column
        return pc.if_else(pc.equal(pc.binary_length(column), 0), pa.scalar(None, pa.string()), column)
    return [None if type(value) is str and not value else value for value in column] if "" in column else column


def _merged(values: Column, others: Column) -> Column:
    """The values, and where there is none the others."""
    if isinstance(values, pa.Array) and isinstance(others, pa.Array) and values.type == others.type:
        if values.type != CHAT:
            return pc.coalesce(values, others)
        return pc.if_else(values.is_valid(), values, others)
    pairs = zip(listed(values), listed(others), strict=True)
    return [other if value is None else value for value, other in pairs]


def _read(place: Place, column: Column) -> Column:
    """What the reader of a place makes of every value; each text that stands on many rows is read once."""
    if place.read is None:
        return column
    if isinstance(column, pa.Array):
        return _read_array(place, column)
    read, kinds = place.read, set(map(type, column))
    if read is prose and kinds <= _TEXT:
        return column
    if read is conversation and kinds <= _LISTS and _is_simple(column):
        return column if all(column) else [value or None for value in column]
    if msgspec.Raw in kinds:
        column = [bytes(value) if type(value) is msgspec.Raw else value for value in column]
    try:
        if (kinds <= _TEXT or kinds == {msgspec.Raw}) and 2 * len(set(column[:_PEEK])) <= _PEEK:
            known = {value: None if value is None else read(value) for value in set(column)}
            return list(map(known.__getitem__, column))
        return [None if value is None else read(value) for value in column]
    except _BAD_VALUE:
        return [_patiently(place, value) for value in column]


def _read_array(place: Place, column: pa.Array) -> Column:
    if place.read is conversation:
        chat = column if column.type == CHAT else chats_in(column)
        if chat is not None:
            return chat
    if place.read is prose and column.type == pa.string():
        return column
    if column.type == CHAT or 2 * len(column[:_PEEK].unique()) > _PEEK:
        return [_patiently(place, value) for value in listed(column)]
    table = column.dictionary_encode()
    made = [_patiently(place, value) for value in table.dictionary.to_pylist()]
    kinds = set(map(type, made))
    for kind, arrow in ((str, pa.string()), (list, NAMES)):
        if kind in kinds and kinds <= {kind, NoneType}:
            try:
                return pa.array(made, arrow).take(table.indices)
            except (pa.ArrowException, *_BAD_VALUE):
                break
    made.append(None)
    return [made[code] for code in table.indices.fill_null(len(made) - 1).to_pylist()]


def _is_simple(conversations: Sequence[list[Any] | None]) -> bool:
    """Whether these conversations are nothing but turns of text, as their reader would leave them."""
    turns = list(chain.from_iterable(filter(None, conversations)))
    return set(map(type, turns)) <= {Turn} and set(map(type, map(_CONTENT, turns))) <= {str}


def _patiently(place: Place, value: Any) -> Any:
    """What cannot be read is handed on as it is, so that `conform` counts it as unreadable."""
    assert place.read is not None
    try:
        return None if value is None else place.read(value)
    except _BAD_VALUE:
        return value
