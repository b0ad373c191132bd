"""spans: OTLP's spans in lines of plain JSON, many at once, without decoding them.

What is found is what `wire.spans` finds in the same lines decoded. Lines that are not plain, of another shape, with
log records, with events on spans, with the attributes that old libraries number, or that export nothing, are left to
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.ingest.cells import Column
from stillwatch.ingest.formats.attributes import (
    CALLS,
    FIRST_NUMBERED,
    NO_CALLS,
    NOT_NUMBERED,
    OPERATION,
    Attributes,
    Wanted,
    is_calling,
)
from stillwatch.ingest.formats.wire import FAILED, OK, AnyValue, Calls, value_of
from stillwatch.ingest.scanned import NotPlainError, lines_of
from stillwatch.ingest.tapes import are_texts, numbers, raws, reals, strings
from stillwatch.kernels.columns import I64
from stillwatch.kernels.lexing import ARRAY, ESCAPED, FALSE, FLOAT, INT, NULL, OBJECT, TEXT, TRUE
from stillwatch.kernels.tape import Names, Tape, items, members, named, sole, tape
from stillwatch.kernels.written import Values, are_whole

Bools = npt.NDArray[np.bool_]

_EXPORT, _RESOURCE, _SCOPE = (Names.of([name]) for name in ("resourceSpans", "scopeSpans", "spans"))
_LOGS = Names.of(["resourceLogs"])
_SPAN = Names.of("traceId spanId startTimeUnixNano attributes events status".split())
_STATUS, _PAIR, _LIST = Names.of(["code"]), Names.of(["key", "value"]), Names.of(["values"])
_ANY = Names.of("stringValue intValue doubleValue boolValue arrayValue kvlistValue".split())
_ERROR = Names.of(["STATUS_CODE_ERROR"])
_FAILED_CODE = 2

_STRING, _INT, _DOUBLE, _BOOL, _ARRAY, _MAP = range(6)
_ALLOWED = np.zeros((6, OBJECT + 1), np.bool_)
"""Which kind each field of a value may be of."""
for _field, _kinds in enumerate(
    [(TEXT, ESCAPED), (INT, TEXT, ESCAPED), (INT, FLOAT, TEXT, ESCAPED), (TRUE, FALSE), (OBJECT,), (OBJECT,)]
):
    _ALLOWED[_field, list(_kinds)] = True
_DECODER = msgspec.json.Decoder(AnyValue)


class _Pairs(NamedTuple):
    """Attributes: the key of each, the field that its value has (-1 for none), and where that, and the whole, lie."""

    keys: I64
    field: I64
    spots: I64
    values: I64


def spans(lines: bytes, wanted: Wanted) -> Calls | None:
    """The spans of the exports on some lines; None where these are to be decoded. Cost: about 3 us for a span."""
    try:
        data, starts, ends = lines_of(lines)
        given = tape(data, starts, ends)
        if given is None or (_member(given, given.roots, _LOGS, ()) >= 0).any():
            return None
        found, counts = _items(given, _member(given, given.roots, _EXPORT, (ARRAY,)))
        if not counts.all():
            return None
        for names in (_RESOURCE, _SCOPE):
            found = _items(given, _member(given, found, names, (ARRAY,)))[0]
        return _calls(given, found, wanted) if len(found) else None
    except NotPlainError:
        return None


def _members(given: Tape, objects: I64, names: Names) -> I64:
    found = members(given, objects, names)
    if found is None:
        raise NotPlainError
    return found


def _member(given: Tape, objects: I64, names: Names, kinds: tuple[int, ...]) -> I64:
    found: I64 = _members(given, objects, names)[0]
    _check(given, found, kinds)
    return found


def _check(given: Tape, spots: I64, kinds: tuple[int, ...]) -> None:
    """Raise NotPlainError where a value that is there is of no such kind."""
    there = np.bincount(given.kind[spots[spots >= 0]], minlength=OBJECT + 1)
    there[list(kinds)] = 0
    if kinds and there.any():
        raise NotPlainError


def _items(given: Tape, arrays: I64) -> tuple[I64, I64]:
    """The objects in lists, and how many are in each."""
    found, counts = items(given, arrays)
    _check(given, found, (OBJECT,))
    return found, counts


def _calls(given: Tape, spans: I64, wanted: Wanted) -> Calls:
    n = len(spans)
    traces, ids, starts, attributes, events, status = _members(given, spans, _SPAN)
    _check(given, traces, (TEXT, ESCAPED))
    _check(given, ids, (TEXT, ESCAPED))
    _check(given, starts, (INT, TEXT, NULL))
    _check(given, attributes, (ARRAY,))
    _check(given, events, (ARRAY,))
    _check(given, status, (OBJECT, NULL))
    if items(given, events)[1].any():
        raise NotPlainError
    failed = _failed(given, status)
    states = pa.array([OK, FAILED]).take(pa.array(failed))
    told = _attributes(given, attributes, wanted)
    return Calls(_places(given, traces, ids), _times(given.at(starts)), states, told, [], [False] * n)


def _failed(given: Tape, status: I64) -> npt.NDArray[np.int8]:
    """1 for each span that ended with an error, else 0."""
    codes = _member(given, np.where(given.at(status).kind == NULL, -1, status), _STATUS, (INT, TEXT))
    values = given.at(codes)
    names = named(given, np.where(values.kind == TEXT, codes, -1), _ERROR)
    assert names is not None
    is_number = values.kind == INT
    ones = (values.last - values.first == 1) & (given.data[values.first] == ord("0") + _FAILED_CODE)
    failed: npt.NDArray[np.int8] = ((is_number & ones) | (names == 0)).astype(np.int8)
    return failed


def _places(given: Tape, traces: I64, ids: I64) -> Column:
    ids_of = [strings(given.at(spots)).fill_null("") for spots in (traces, ids)]
    places = pc.binary_join_element_wise(*ids_of, ":")
    if pc.all(pc.string_is_ascii(places)).as_py():
        return pc.ascii_lower(places)
    return [place.lower() for place in places.to_pylist()]


def _times(values: Values) -> pa.Array:
    """Instants in nanoseconds; a number that is 0, an empty text, and what is no number are none."""
    is_there = are_whole(values)
    if (are_texts(values.kind) & ~is_there & (values.last > values.first)).any():
        raise NotPlainError
    kind = np.where(is_there, np.uint8(INT), np.uint8(NULL))
    is_zero = (values.kind == INT) & (values.last - values.first == 1) & (values.data[values.first] == ord("0"))
    return numbers(values._replace(kind=np.where(is_zero, np.uint8(NULL), kind)))


def _pairs(given: Tape, lists: I64) -> tuple[_Pairs, I64]:
    """The attributes in lists of them, and how many are in each."""
    found, counts = _items(given, lists)
    keys, values = _members(given, found, _PAIR)
    _check(given, keys, (TEXT,))
    _check(given, values, (OBJECT, NULL))
    values = np.where(given.at(values).kind == NULL, -1, values)
    return _Pairs(keys, *_any(given, values), values), counts


def _any(given: Tape, values: I64) -> tuple[I64, I64]:
    """Of each value the field that it has, and where that lies; -1 where it has none."""
    found = sole(given, values, _ANY)
    if found is None:
        raise NotPlainError
    field, spots = found
    there = field >= 0
    if not _ALLOWED[field[there], given.kind[spots[there]]].all():
        raise NotPlainError
    # What lists and maps hold must be values too, whether anybody looks at them or not.
    lists, maps = (spots[field == kind] for kind in (_ARRAY, _MAP))
    if len(lists):
        _any(given, _items(given, _member(given, lists, _LIST, (ARRAY,)))[0])
    if len(maps):
        _pairs(given, _member(given, maps, _LIST, (ARRAY,)))
    return field, spots


def _attributes(given: Tape, lists: I64, wanted: Wanted) -> Attributes:
    """The wanted attributes of those spans that make calls."""
    n = len(lists)
    known = list(dict.fromkeys([OPERATION, *CALLS, *FIRST_NUMBERED, *wanted]))
    pairs, counts = _pairs(given, lists)
    rows = np.repeat(np.arange(n), counts)
    found = named(given, pairs.keys, Names.of(known))
    if found is None:
        raise NotPlainError
    calling = np.zeros(n, np.bool_)
    calling[rows[(found >= 0) & (found < len(CALLS))]] = True
    order = np.argsort(found.astype(np.int16), kind="stable")
    cuts = np.searchsorted(found[order], np.arange(len(known) + 1))
    places = {name: order[a:b] for name, a, b in zip(known, cuts[:-1], cuts[1:], strict=True) if a < b}
    if not FIRST_NUMBERED.isdisjoint(places):
        raise NotPlainError
    columns: dict[str, Any] = {}
    for name, spots in places.items():
        owners = rows[spots]
        if (owners[1:] == owners[:-1]).any():
            raise NotPlainError
        if name == OPERATION:
            calling &= _are_calling(_column(given, pairs, spots, owners, n))
    for name, spots in places.items():
        is_told = calling[rows[spots]]
        if name in wanted and is_told.any():
            columns[name] = _column(given, pairs, spots[is_told], rows[spots[is_told]], n)
    return Attributes(calling.tolist(), columns, [NOT_NUMBERED] * n)


def _are_calling(operations: Column) -> Bools:
    if isinstance(operations, pa.Array) and operations.type == pa.string():
        return ~np.asarray(pc.is_in(operations, value_set=pa.array(sorted(NO_CALLS))))
    values = operations.to_pylist() if isinstance(operations, pa.Array) else operations
    return np.array([is_calling(value) for value in values], np.bool_)


def _column(given: Tape, pairs: _Pairs, places: I64, rows: I64, n: int) -> Column:
    """The values at some places among attributes, as a column of n rows."""
    spots = np.full(n, -1, np.int64)
    spots[rows] = pairs.spots[places]
    fields = set(np.flatnonzero(np.bincount(pairs.field[places] + 1)).tolist()) - {0}
    values = given.at(spots)
    if fields <= {_STRING + 1}:
        return strings(values)
    if fields == {_INT + 1} and (are_whole(values) | (values.kind == NULL)).all():
        return numbers(values._replace(kind=np.where(values.kind == NULL, np.uint8(NULL), np.uint8(INT))))
    if fields == {_DOUBLE + 1} and ((values.kind == FLOAT) | (values.kind == NULL)).all():
        return reals(values)
    spots[rows] = pairs.values[places]
    written = raws(given.at(spots)).dictionary_encode()
    made: Mapping[int | None, Any] = {
        code: value_of(_DECODER.decode(raw)) for code, raw in enumerate(written.dictionary.to_pylist())
    }
    return [None if code is None else made[code] for code in written.indices.to_pylist()]
