"""Instants in any spelling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.ingest.times import as_us, read_times

MOMENT = datetime(2026, 4, 22, 17, 3, 9, 123_456, tzinfo=UTC)
US = 1_776_877_389_123_456

moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1))  # noqa: DTZ001 (a zone is added)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def test_reference_instant() -> None:
    """The constant of this file is the instant it is said to be."""
    assert as_us(MOMENT) == US == round(MOMENT.timestamp() * 1e6)


@given(moments, zones, st.sampled_from(["T", " ", "t"]))
def test_iso_text_agrees_with_the_standard_library(moment: datetime, zone: timezone, separator: str) -> None:
    """ISO text with a zone gives the instant that datetime gives."""
    text = moment.replace(tzinfo=zone).isoformat(sep=separator)
    times = read_times(pa.array([text]))
    assert times.us.tolist() == [as_us(datetime.fromisoformat(text))]
    assert times.valid.all() and times.n_zoneless == 0


@given(moments)
def test_text_without_a_zone_is_utc_and_counted(moment: datetime) -> None:
    """Text without a zone is UTC, and is counted."""
    times = read_times(pa.array([moment.isoformat(), moment.isoformat() + "Z"]))
    assert times.us.tolist() == [as_us(moment.replace(tzinfo=UTC))] * 2
    assert times.n_zoneless == 1


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-04-22T17:03:09.123456Z", US),
        ("2026-04-22 17:03:09.123456 UTC", US),
        ("2026-04-22T19:03:09.1234569+02:00", US),
        ("2026-04-22T12:33:09,123456-0430", US),
        (" 2026-04-22T17:03:09.123456+00 ", US),
        ("2026-04-22T17:03Z", US - 9_123_456),
        ("2026-04-22", US - US % 86_400_000_000),
        ("1776877389", US - 123_456),
        ("1776877389.123456", US),
        ("1776877389123", US - 456),
        ("1776877389123456", US),
        ("1776877389123456789", US),
    ],
)
def test_spellings(text: str, us: int) -> None:
    """Every common spelling of one instant is read alike."""
    assert read_times(pa.array([text])).us.tolist() == [us]


@pytest.mark.parametrize(
    "text", ["2026-02-30", "2026-13-01", "2026-01-01T25:00", "2026-01-01T10:61Z", "soon", "1e9", "?"]
)
def test_no_instant(text: str) -> None:
    """Text that is no instant is not valid, and does not spoil its neighbours."""
    times = read_times(pa.array([text, "2026-04-22"]))
    assert times.valid.tolist() == [False, True]
    assert not times.missing.any()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_arrow_timestamps(unit: str, zone: str | None) -> None:
    """Arrow timestamps of each unit keep their instant; those without a zone are counted."""
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = read_times(pa.array([1_776_877_389 * factor, None], pa.timestamp(unit, zone)))
    assert times.us.tolist() == [US - 123_456, 0]
    assert times.missing.tolist() == [False, True]
    assert times.n_zoneless == (zone is None)


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_numbers_by_magnitude(factor: int, kind: pa.DataType) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds are told apart by size, as whole or real numbers."""
    number = 1_776_877_389 * factor
    times = read_times(pa.array([number if kind == pa.int64() else float(number)], kind))
    assert times.us.tolist() == [US - 123_456]


def test_numbers_that_are_no_instants() -> None:
    """Not-a-number is missing, infinity is not valid, and the smallest integer does not wrap round to a date."""
    times = read_times(pa.array([float("nan"), float("inf"), None, 1.0]))
    assert times.missing.tolist() == [True, False, True, False]
    assert times.valid.tolist() == [False, False, False, True]
    assert read_times(pa.array([-(2**63)], pa.int64())).us[0] < 0
    assert not read_times(pa.array([2**62], pa.timestamp("s", "UTC"))).valid.any()


@pytest.mark.parametrize("array", [pa.array([True]), pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"1"])])
def test_other_types(array: pa.Array) -> None:
    """A column of another type holds no instants, and is not missing either."""
    times = read_times(array)
    assert not times.valid.any() and not times.missing.any()


def test_blank_text_is_missing() -> None:
    """Blank text is missing rather than wrong."""
    assert read_times(pa.array(["", "  ", None, "x"])).missing.tolist() == [True, True, True, False]


def test_empty_columns() -> None:
    """A column without rows gives no instants, whatever its type."""
    for kind in (pa.string(), pa.int64(), pa.float64(), pa.timestamp("ns"), pa.date32(), pa.null(), pa.bool_()):
        assert read_times(pa.array([], kind)).us.dtype == np.int64


@given(
    st.from_regex(
        r"[0-2]\d{3}-[01]\d-[0-3]\d[T ][0-2]\d(:[0-6]\d(:[0-6]\d(\.\d{1,7})?)?)?(Z|[+-][012]\d(:?\d\d)?)?",
        fullmatch=True,
    )
)
def test_a_column_of_usual_spelling_is_read_as_any_other(text: str) -> None:
    """Texts that Arrow reads itself give what they give beside one that it does not read."""
    alone, beside = read_times(pa.array([text, None, text])), read_times(pa.array([text, None, text, "?"]))
    for name in ("us", "valid", "missing"):
        assert getattr(alone, name).tolist() == getattr(beside, name).tolist()[:3]
    assert alone.n_zoneless == beside.n_zoneless
