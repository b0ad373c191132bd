"""times: instants in any common spelling, as microseconds since 1970 in UTC, a column at a time.

Whole and fractional numbers are seconds, milliseconds, microseconds or nanoseconds by their size: below 1e11 seconds,
below 1e14 milliseconds, below 1e17 microseconds. Text is ISO 8601 or such a number. What has no zone is read as UTC
and counted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

EARLIEST_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""An instant before the year 2000 is a mistake: no model was served then."""

_FIRST_US = -62_135_596_800_000_000
_LIMIT_US = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_ISO = (
    r"^\s*(?P<y>\d{4})-(?P<mo>\d{2})-(?P<d>\d{2})"
    r"(?:[Tt ](?P<h>\d{2}):(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,6})\d*)?)?"
    r"\s*(?P<z>[Zz]|UTC|GMT|(?P<zs>[+-])(?P<zh>\d{2}):?(?P<zm>\d{2})?)?)?\s*$"
)
_WHOLE = r"^\s*[+-]?(\d{1,18}|[0-8]\d{18})\s*$"
_FRACTION = r"^\s*[+-]?\d{1,20}\.\d*([eE][+-]?\d{1,2})?\s*$"


@dataclass(frozen=True, slots=True)
class Times:
    """A column of instants: `us` (0 where not valid), `missing` (null, not-a-number or blank text), `valid`.

    `n_zoneless` of them had no zone and were read as UTC.
    """

    us: Ints
    missing: Bools
    valid: Bools
    n_zoneless: int


def as_us(moment: datetime) -> int:
    """A datetime as microseconds since 1970; without a zone it is UTC."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def read_times(array: pa.Array) -> Times:
    """Read a column of timestamps, dates, numbers or text; a value of any other type is not valid. Cost: linear."""
    kind, n = array.type, len(array)
    missing = np.asarray(array.is_null()) if array.null_count else _no(n)
    zoned = np.ones(n, np.bool_)
    if pa.types.is_timestamp(kind):
        us, valid = _scaled(_integers(array.cast(pa.int64())), kind.unit)
        zoned = zoned if kind.tz else _no(n)
    elif pa.types.is_date(kind):
        us, valid = _scaled(_integers(array.cast(pa.timestamp("s")).cast(pa.int64())), "s")
        zoned = _no(n)
    elif pa.types.is_integer(kind):
        us, valid = _whole_numbers(_integers(array.cast(pa.int64(), safe=False)))
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = array.cast(pa.float64(), safe=False)
        missing = np.asarray(numbers.is_null(nan_is_null=True))
        us, valid = _fractions(numbers)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = array.cast(pa.string())
        us, valid, zoned = _text(text)
        if not valid.all():
            missing = missing | np.asarray(pc.equal(pc.utf8_trim_whitespace(text), "").fill_null(True))
    else:
        us, valid = np.zeros(n, np.int64), _no(n)
    valid = valid & ~missing
    return Times(np.where(valid, us, 0), missing, valid, int(np.count_nonzero(valid & ~zoned)))


def _no(n: int) -> Bools:
    return np.zeros(n, np.bool_)


def _integers(array: pa.Array) -> Ints:
    """Whole numbers without nulls; the one whose size has no int64 is moved by one, it is absurd either way."""
    values: Ints = (array.fill_null(0) if array.null_count else array).to_numpy()
    return np.maximum(values, -(2**63) + 1)


def _scaled(values: Ints, unit: str) -> tuple[Ints, Bools]:
    """Counts of `unit` as microseconds; what lies past the year 9999 either way is not valid."""
    per_second = _UNITS[unit]
    if per_second > 1_000_000:
        return values // (per_second // 1_000_000), np.ones(len(values), np.bool_)
    factor = 1_000_000 // per_second
    valid = np.abs(values) <= _LIMIT_US // factor
    return np.where(valid, values, 0) * factor, valid


def _whole_numbers(values: Ints) -> tuple[Ints, Bools]:
    size = np.abs(values)
    us = values // 1000
    for below, factor in ((10**17, 1), (10**14, 10**3), (10**11, 10**6)):
        us = np.where(size < below, np.where(size < below, values, 0) * factor, us)
    return us, np.ones(len(values), np.bool_)


def _fractions(array: pa.Array) -> tuple[Ints, Bools]:
    values = np.nan_to_num(array.fill_null(0.0).to_numpy(zero_copy_only=False), nan=0.0, posinf=9e18, neginf=-9e18)
    size = np.abs(values)
    valid = size < 9e18
    factor = np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)
    return np.rint(np.where(valid, values, 0.0) * factor).astype(np.int64), valid


def _text(array: pa.Array) -> tuple[Ints, Bools, Bools]:
    """Instants of text, which of them are valid, and which need no zone or have one."""
    us, valid, zoned = _usual(array) or _iso(array)
    if not valid.all():
        rest = pc.if_else(pa.array(valid), pa.scalar(None, pa.string()), array)
        for pattern, kind in ((_WHOLE, pa.int64()), (_FRACTION, pa.float64())):
            hit = np.asarray(pc.match_substring_regex(rest, pattern).fill_null(False))
            if hit.any():
                numbers = pc.utf8_ltrim(pc.utf8_trim_whitespace(rest.filter(pa.array(hit))), characters="+").cast(kind)
                read = _fractions(numbers) if kind == pa.float64() else _whole_numbers(_integers(numbers))
                us[hit], valid[hit] = read
                zoned |= hit
    return us, valid, zoned


def _usual(array: pa.Array) -> tuple[Ints, Bools, Bools] | None:
    """The same where every text is an instant as Arrow reads them, four times as fast; None where one is not.

    Arrow also takes an hour without minutes, and the year 0: what `_iso` refuses is left to it.
    """
    if not pc.all(pc.equal(pc.binary_slice(array.cast(pa.binary()), 13, 14), b":")).as_py():
        return None
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        with suppress(pa.ArrowInvalid):
            read = array.cast(kind).cast(pa.int64())
            valid = np.asarray(read.is_valid())
            us: Ints = (read.fill_null(0) if read.null_count else read).to_numpy()
            return None if us.min() < _FIRST_US else (us.copy(), valid, np.full(len(us), kind.tz is not None) & valid)
    return None


def _iso(array: pa.Array) -> tuple[Ints, Bools, Bools]:
    parts = pc.extract_regex(array, _ISO)
    matched = np.asarray(parts.is_valid())
    columns = dict(zip([field.name for field in parts.type], parts.flatten(), strict=True))

    def number(name: str, default: str = "0") -> Ints:
        column = columns[name].fill_null(default)
        column = pc.if_else(pc.equal(column, ""), default, column)
        if name == "f":
            column = pc.utf8_rpad(column, 6, "0")
        return _integers(column.cast(pa.int64()))

    year, month, day = number("y", "2000"), number("mo", "1"), number("d", "1")
    hour, minute, second = number("h"), number("mi"), number("s")
    zone_hour, zone_minute = number("zh"), number("zm")
    valid = matched & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60) & (year >= 1)
    valid &= (zone_hour < 24) & (zone_minute < 60)
    months = (year - 1970) * 12 + np.clip(month, 1, 12) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    length = ((months + 1).astype("datetime64[M]").astype("datetime64[D]") - first).astype(np.int64)
    valid &= (day >= 1) & (day <= length)
    sign = np.where(np.asarray(pc.equal(columns["zs"], "-").fill_null(False)), 1, -1)
    seconds = (first.astype(np.int64) + day - 1) * 86_400 + hour * 3600 + minute * 60 + second
    seconds += sign * (zone_hour * 3600 + zone_minute * 60)
    zoned = np.array(pc.greater(pc.utf8_length(columns["z"]), 0).fill_null(False))
    return seconds * 1_000_000 + number("f"), valid, zoned
