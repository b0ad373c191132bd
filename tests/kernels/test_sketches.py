"""Sketches: exact while small, close when large, and closed to damaged bytes. Law 1 is held in tests/contracts."""

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.kernels.hashing import HashKey, hash_strings
from stillwatch.kernels.sketches import MOST, BottomK, LogHistogram, Rhythm, hour_of_week, log2_bins


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(2, 12))
def test_bottom_k_keeps_the_smallest_keys_with_exact_counts(keys: list[int], k: int) -> None:
    """The kept keys and counts are those of a plain count, sorted and cut; 0 is left out."""
    sketch = BottomK(k).add_many(np.array(keys, np.uint64))
    expected = sorted(Counter(key for key in keys if key).items())[:k]
    assert list(zip(sketch.keys.tolist(), sketch.counts.tolist(), strict=True)) == expected


def test_bottom_k_counts_distinct_keys_exactly_until_full_and_closely_after() -> None:
    """The estimate is exact below k and within four standard errors of the truth far above it."""
    keys = hash_strings(pa.array([f"prompt {i}" for i in range(50_000)]), HashKey(3, 4))
    assert BottomK(64).add_many(np.tile(keys[:63], 3)).estimate_distinct() == 63
    assert BottomK(64).estimate_distinct() == 0
    estimate = BottomK(1024).add_many(keys).add_many(keys).estimate_distinct()
    assert abs(estimate / 50_000 - 1) < 4 / np.sqrt(1022)


def test_bottom_k_keeps_the_largest_key() -> None:
    """Keys of 64 bits keep every bit."""
    sketch = BottomK(2).add_many(np.array([2**64 - 1, 2**63], np.uint64))
    assert sketch.keys.tolist() == [2**63, 2**64 - 1]


def test_counts_stop_at_the_largest_instead_of_wrapping() -> None:
    """Doubling a sketch beyond 32 bits saturates."""
    sketch, week = BottomK(2).add_many(np.array([7], np.uint64)), Rhythm().add_many(np.array([0]))
    for _ in range(33):
        sketch, week = sketch.merge(sketch), week.merge(week)
    assert sketch.counts.tolist() == [MOST] and week.counts.max() == MOST


def test_sketches_are_values() -> None:
    """Adding leaves the sketch added to unchanged, and its arrays cannot be written."""
    empty = BottomK(4)
    full = empty.add_many(np.array([1], np.uint64))
    assert empty != full and len(empty.keys) == 0
    with pytest.raises(ValueError, match="read-only"):
        full.keys[0] = 2
    with pytest.raises(TypeError, match="no key of a dictionary"):
        hash(full)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_log2_bins_are_bit_lengths(values: list[int]) -> None:
    """A count falls into the bin of its bit length, at most 31; a negative one is not counted."""
    expected = [-1 if value < 0 else min(value.bit_length(), 31) for value in values]
    assert log2_bins(np.array(values, np.int64)).tolist() == expected


@given(st.lists(st.datetimes(timezones=st.just(UTC)), max_size=30))
def test_hours_of_the_week_are_those_of_the_calendar(instants: list[datetime]) -> None:
    """Hour 0 is Monday 00:00 UTC, before 1970 as well as after."""
    ts_us = [(instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for instant in instants]
    expected = [24 * instant.weekday() + instant.hour for instant in instants]
    assert hour_of_week(np.array(ts_us, np.int64)).tolist() == expected


def test_strided_and_extreme_input_is_read() -> None:
    """Every second value, no value and the ends of int64 are fine."""
    values = np.array([1, 99, 4, 99], np.int64)
    assert log2_bins(values[::2]).tolist() == [1, 3]
    assert hour_of_week(values[:0]).shape == (0,)
    ends = hour_of_week(np.array([-(2**63), 2**63 - 1], np.int64))
    assert ((ends >= 0) & (ends < 168)).all()


def test_histograms_count_what_is_known() -> None:
    """Unknown counts are left out; a narrow histogram holds the rest in its last bin."""
    histogram = LogHistogram(4).add_many(np.array([-1, 0, 1, 2, 3, 4, 1000], np.int64))
    assert histogram.counts.tolist() == [1, 1, 2, 2]
    assert LogHistogram().add_many(np.array([2**62])).counts[31] == 1


@pytest.mark.parametrize("size", [-1, 0, 1, 2**32])
def test_impossible_sizes_are_refused(size: int) -> None:
    """A sketch holds at least two entries and has a size that its bytes can say."""
    with pytest.raises(InputError, match="impossible size"):
        BottomK(size)
    with pytest.raises(InputError, match="impossible size"):
        LogHistogram(size)


def test_unlike_sketches_do_not_merge() -> None:
    """Sizes must agree."""
    with pytest.raises(InputError, match="do not merge"):
        BottomK(4).merge(BottomK(5))
    with pytest.raises(InputError, match="do not merge"):
        LogHistogram(4).merge(LogHistogram(5))


def test_damaged_bytes_are_refused() -> None:
    """Truncated, lengthened, mistaken and inconsistent bytes raise an error that says so."""
    good = BottomK(3).add_many(np.array([5, 9], np.uint64)).to_bytes()
    rhythm = Rhythm().to_bytes()
    unsorted = good[:12] + good[20:28] + good[12:20] + good[28:]
    unseen = good[:-1] + b"\0" if good[-4:] == b"\0\0\0\1" else good[:-4] + bytes(4)
    overfull = good[:4] + (2).to_bytes(4, "little") + (3).to_bytes(4, "little") + good[12:]
    for bad in (b"", good[:11], good[:-1], good + b"\0", b"XXXX" + good[4:], unsorted, unseen, overfull, rhythm):
        with pytest.raises(InputError, match="bytes hold"):
            BottomK.from_bytes(bad)
    for bad in (rhythm[:-4], good, rhythm[:4] + bytes(8), LogHistogram().to_bytes()):
        with pytest.raises(InputError, match="bytes hold"):
            Rhythm.from_bytes(bad)


def test_every_flipped_byte_is_read_or_refused() -> None:
    """No single damaged byte leads to anything but a sketch or an InputError."""
    good = BottomK(3).add_many(np.array([5, 9], np.uint64)).to_bytes()
    for at, flip in itertools.product(range(len(good)), (1, 128, 255)):
        bad = bytearray(good)
        bad[at] ^= flip
        try:
            sketch = BottomK.from_bytes(bytes(bad))
        except InputError:
            continue
        assert sketch.to_bytes() == bytes(bad)
