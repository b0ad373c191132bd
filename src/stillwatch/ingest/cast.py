"""cast: one column of any type as its canonical type.

Where the type alone decides, Arrow casts; the rest goes value by value through `values`. A value that cannot be read
becomes null and is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.ingest import values
from stillwatch.ingest.times import Bools, Times, read_times
from stillwatch.records import MESSAGE, TIMESTAMP

Cells: TypeAlias = "pa.Array | list[Any]"
"""A column as a reader found it: Arrow of any type, or plain Python values."""

CHAT = pa.list_(MESSAGE)
NAMES = pa.list_(pa.string())

_UNREADABLE = (TypeError, ValueError, OverflowError, RecursionError)
_BY_TYPE: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.string(): values.as_prose,
    pa.int64(): values.as_whole,
    pa.float64(): values.as_real,
    pa.bool_(): values.as_flag,
    CHAT: values.as_messages,
    NAMES: values.as_names,
}
_SIMPLE = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "account_id": values.as_account,
    "email_domain": values.as_domain,
    "prompt": values.as_prompt,
    "input_tokens": values.as_tokens,
    "output_tokens": values.as_tokens,
}


def cast(cells: Cells, kind: pa.DataType, name: str, notes: Counter[str]) -> tuple[pa.Array, Bools]:
    """The column `name` as `kind`, with the rows whose value could not be read (they are null). Cost: linear.

    Adds to `notes` how many texts held bytes that are not UTF-8 and how many instants had no zone.
    """
    if kind == TIMESTAMP:
        times = cast_times(cells, name, notes)
        return pa.array(times.us, mask=~times.valid).cast(TIMESTAMP), ~(times.valid | times.missing)
    array = _inferred(cells, kind)
    if array is not None and pa.types.is_nested(array.type) and not _is_sound(array):
        array, cells = None, _nested_text(array, name, notes)
    if array is not None and name != "email_domain":
        try:
            done = _cast(array, kind, name, notes)
        except (pa.ArrowException, *_UNREADABLE):
            done = None
        if done is not None:
            return done, np.zeros(len(done), np.bool_)
    read = _BY_NAME.get(name, _BY_TYPE[kind])
    if array is not None and pa.types.is_string(array.type):
        distinct = array.dictionary_encode()
        entries, spoilt = _one_by_one(distinct.dictionary, kind, read)
        lost = pa.array(spoilt).take(distinct.indices).fill_null(False)
        return entries.take(distinct.indices), lost.to_numpy(zero_copy_only=False)
    return _one_by_one(cells, kind, read)


def cast_times(cells: Cells, name: str, notes: Counter[str]) -> Times:
    """The column `name` as instants; a mixture of numbers and text is read too."""
    array = _inferred(cells, TIMESTAMP)
    if array is None:
        simple = (int, float, str)
        # What is neither is given a text that is no instant, so that it is rejected rather than missing.
        array = pa.array([str(v) if type(v) in simple else v if v is None else "?" for v in cells], pa.string())
    times = read_times(_text(array, name, notes) if _is_binary(array.type) else array)
    notes[f"{name}_without_zone"] += times.n_zoneless
    return times


def _inferred(cells: Cells, kind: pa.DataType) -> pa.Array | None:
    """The column as one Arrow array; None where its values are of several types."""
    if isinstance(cells, pa.Array):
        return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
    known = kind if kind in (CHAT, pa.string()) else _simple_type(cells, kind)
    try:
        array = pa.array(cells, known)
    except (pa.ArrowException, *_UNREADABLE):
        if known == kind or known is None:
            return None
        try:
            array = pa.array(cells)  # whole numbers above 64 bits
        except (pa.ArrowException, *_UNREADABLE):
            return None
    return array if isinstance(array, pa.Array) else None


def _simple_type(cells: Sequence[Any], kind: pa.DataType) -> pa.DataType | None:
    """The type of values that are all alike, so that Arrow need not: it looks for dateutil each time."""
    kinds = set(map(type, cells)) - {NoneType}
    if len(kinds) != 1:
        return None if kinds else pa.null()
    found = kinds.pop()
    return NAMES if found is list and kind == NAMES else _SIMPLE.get(found)


def _cast(array: pa.Array, kind: pa.DataType, name: str, notes: Counter[str]) -> pa.Array | None:
    """The array as `kind` where its type alone decides; None, or an Arrow error, where values must be looked at."""
    if pa.types.is_null(array.type):
        return array.cast(kind)
    if kind == pa.string():
        return _text(array, name, notes)
    given = array.type
    if _is_binary(given):
        array, given = _text(array, name, notes), pa.string()
    if kind in (pa.int64(), pa.float64()):
        if not (pa.types.is_integer(given) or pa.types.is_floating(given) or _is_text(given)):
            return None
        return _counts(array.cast(kind)) if kind == pa.int64() else _finite(array.cast(kind))
    same = given == kind or (kind == NAMES and given == pa.large_list(pa.string()))
    return array.cast(kind) if same else None


def _counts(array: pa.Array) -> pa.Array | None:
    return array if (pc.min(array).as_py() or 0) >= 0 else None


def _finite(array: pa.Array) -> pa.Array | None:
    odd = pc.invert(pc.is_finite(array))
    if not pc.any(odd).as_py():
        return array
    return None if pc.any(pc.is_inf(array)).as_py() else pc.if_else(odd, pa.scalar(None, array.type), array)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _text(array: pa.Array, name: str, notes: Counter[str]) -> pa.Array | None:
    """Text, with bytes that are not UTF-8 spelt out; numbers and the like in their usual form."""
    kind = array.type
    if _is_text(kind) or _is_binary(kind):
        text = pc.cast(array, options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            return _spelt_out(text.cast(pa.binary()), name, notes)
        return text
    if pa.types.is_floating(kind):
        return array.cast(pa.int64()).cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind):
        return array.cast(pa.string())
    return None


def _spelt_out(raw: pa.Array, name: str, notes: Counter[str]) -> pa.Array:
    text = pa.array([values.as_text(cell) for cell in raw.to_pylist()], pa.string())
    same = pc.sum(pc.equal(text.cast(pa.binary()), raw)).as_py() or 0
    notes[f"{name}_invalid_utf8"] += len(raw) - raw.null_count - same
    return text


def _is_sound(array: pa.Array) -> bool:
    """Whether all text in the array, at any depth, is UTF-8."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _nested_text(array: pa.Array, name: str, notes: Counter[str]) -> Cells:
    """Structures as Python values, with bytes of their texts that are not UTF-8 spelt out."""
    try:
        cells = array.cast(_with_binary(array.type)).to_pylist()
    except (pa.ArrowException, *_UNREADABLE):
        return array
    out: list[Any] = []
    for cell in cells:
        try:
            out.append(_decoded(cell, "strict"))
        except UnicodeDecodeError:
            out.append(_decoded(cell, "backslashreplace"))
            notes[f"{name}_invalid_utf8"] += 1
    return out


def _with_binary(kind: pa.DataType) -> pa.DataType:
    """The type with every text in it as bytes; a map as the list it is made of."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _with_binary(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_with_binary(kind.key_type), _with_binary(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_with_binary(kind.value_type))
    return pa.binary() if _is_text(kind) else kind


def _decoded(value: Any, errors: str) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors)
    if isinstance(value, dict):
        return {key: _decoded(inner, errors) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_decoded(inner, errors) for inner in value]
    return value


def _one_by_one(cells: Cells, kind: pa.DataType, read: Callable[[Any], Any]) -> tuple[pa.Array, Bools]:
    spoilt = np.zeros(len(cells), np.bool_)
    out: list[Any] = []
    for row, cell in enumerate(cells):
        try:
            # Arrow's own values are unpacked here, since a broken one breaks only then.
            out.append(read(cell.as_py() if isinstance(cell, pa.Scalar) else cell))
        except _UNREADABLE:
            out.append(None)
            spoilt[row] = True
    return pa.array(out, kind), spoilt
