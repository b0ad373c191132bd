"""columns: Arrow columns as the raw buffers a kernel reads, without one Python object per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.kernels.compile import jit

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

WORD = 8
"""Bytes of one 64-bit word."""


class Spans(NamedTuple):
    """n runs of bytes: row i is `data[offsets[i]:offsets[i + 1]]` and null where `valid[i]` is 0.

    `valid` is empty when no row is null. All three arrays are read-only, so that every kernel is compiled for one
    type of array only. Kernels take it as it is.
    """

    data: Bytes
    offsets: I64
    valid: Bytes


def text_spans(array: pa.Array) -> Spans:
    """Spans of a string, binary, large or view array; offsets widened to int64, slices and nulls respected.

    Raises InputError for other types. Copies the offsets (8 bytes a row), never the text; views are cast first.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return Spans(frozen(np.zeros(0, np.uint8)), frozen(np.zeros(len(array) + 1, np.int64)), validity(array))
    if pa.types.is_string_view(kind):
        array = array.cast(pa.large_string())
    elif pa.types.is_binary_view(kind):
        array = array.cast(pa.large_binary())
    kind = array.type
    wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    if not (wide or pa.types.is_string(kind) or pa.types.is_binary(kind)):
        raise InputError("a column cannot be read as text", got=str(kind), expected="string or binary")
    _, offsets, data = array.buffers()
    return Spans(_read(data, np.uint8), _offsets(offsets, array, wide=wide), validity(array))


def list_spans(array: pa.Array) -> tuple[pa.Array, Spans]:
    """The child values a list array uses, and spans over them counted in words of `WORD` bytes, without data.

    Raises InputError for other types. The caller fills the spans with one word per child value.
    """
    kind = array.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        array = array.cast(pa.large_list(kind.value_field))
    wide = pa.types.is_large_list(array.type)
    if not (wide or pa.types.is_list(array.type)):
        raise InputError("a column cannot be read as lists", got=str(kind), expected="list")
    offsets = _offsets(array.buffers()[1], array, wide=wide)
    first, last = int(offsets[0]), int(offsets[-1])
    used = array.values.slice(first, last - first)
    return used, Spans(frozen(np.zeros(0, np.uint8)), frozen((offsets - first) * WORD), validity(array))


def number_words(array: pa.Array) -> tuple[U64, Bytes]:
    """Integers, booleans, floats, dates or timestamps (microseconds) as words of 64 bits, one form per value.

    The second array is as in `Spans.valid`. -0.0 is written as 0.0 and every NaN as one NaN. Raises InputError for
    other types.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.uint64), validity(array)
    if pa.types.is_floating(kind):
        floats = _values(array.cast(pa.float64()), np.float64) + 0.0
        return np.where(np.isnan(floats), np.nan, floats).view(np.uint64), validity(array)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        array = array.cast(pa.int64(), safe=False)
    else:
        raise InputError("a column cannot be read as numbers", got=str(kind), expected="number, time or boolean")
    return _values(array, np.uint64), validity(array)


def by_value(array: pa.Array, compute: Callable[[pa.Array], U64]) -> U64:
    """`compute(array)`, done once per dictionary entry where the array is dictionary-encoded.

    `compute` gives uint64 whose last axis runs over rows and which is 0 for null. Cost: the smaller of rows and
    entries.
    """
    if not pa.types.is_dictionary(array.type):
        return compute(array)
    if len(array.dictionary) > len(array):
        return compute(array.cast(array.type.value_type))
    table = compute(array.dictionary)
    null = np.zeros((*table.shape[:-1], 1), np.uint64)
    codes = array.indices.cast(pa.int64()).fill_null(len(array.dictionary)).to_numpy()
    return np.concatenate([table, null], axis=-1)[..., codes]


def validity(array: pa.Array) -> Bytes:
    """One byte per row, 1 where the row is not null; empty when none is null."""
    if array.null_count == 0:
        return frozen(np.zeros(0, np.uint8))
    bitmap = array.buffers()[0]
    if bitmap is None:
        return frozen(np.zeros(len(array), np.uint8))
    bits = np.frombuffer(bitmap, np.uint8)
    first = array.offset // 8
    flags = np.unpackbits(bits[first : (array.offset + len(array) + 7) // 8], bitorder="little")
    return frozen(flags[array.offset % 8 :][: len(array)])


def frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The same array, made read-only."""
    array.flags.writeable = False
    return array


def _read(buffer: pa.Buffer | None, dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    return frozen(np.zeros(0, dtype)) if buffer is None else frozen(np.frombuffer(buffer, dtype))


def _offsets(buffer: pa.Buffer | None, array: pa.Array, *, wide: bool) -> I64:
    if len(array) == 0:
        return frozen(np.zeros(1, np.int64))
    stored = _read(buffer, np.int64) if wide else _read(buffer, np.int32)
    return frozen(stored[array.offset : array.offset + len(array) + 1].astype(np.int64))


def _values(array: pa.Array, dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    return _read(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


@jit
def is_null(valid: Bytes, row: int) -> bool:
    """Whether a row is null, inside kernels."""
    return valid.size > 0 and valid[row] == 0
