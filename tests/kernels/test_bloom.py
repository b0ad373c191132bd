from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.kernels.bloom import BLOCK_BYTES, BlockedBloom

KEYS = st.lists(st.integers(1, 2**64 - 1), max_size=60)


def random_keys(n: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.random.default_rng(seed).integers(1, 2**64, n, np.uint64)


@given(keys=KEYS)
def test_nothing_added_is_missed(keys: list[int]) -> None:
    """Every key that was added is found, however full the filter; 0 never is."""
    held = BlockedBloom(2).add_many(np.array(keys, np.uint64))
    assert held.holds(np.array(keys, np.uint64)).all()
    assert not held.holds(np.zeros(1, np.uint64)).any()


@pytest.mark.parametrize("n_keys", [2_000, 10_000, 40_000])
def test_the_stated_rate_of_false_hits_is_the_measured_one(n_keys: int) -> None:
    """Among 400,000 keys never added as many are found as the filter says of itself, within four standard errors."""
    held = BlockedBloom(1024)
    held.extend(random_keys(n_keys, 1))
    stated = held.false_positive_rate()
    hits = int(held.holds(random_keys(400_000, 2)).sum())
    assert abs(hits - 400_000 * stated) < 4 * np.sqrt(400_000 * stated) + 3


def test_an_empty_filter_finds_nothing() -> None:
    """Nothing was added, so nothing is found, and the rate is 0."""
    held = BlockedBloom(3)
    assert held.false_positive_rate() == 0.0 and not held.holds(random_keys(100, 3)).any()


def test_the_size_is_what_was_asked_and_stays() -> None:
    """A filter takes 64 bytes a block and 12 more, empty or full."""
    empty = BlockedBloom(7)
    assert len(empty.to_bytes()) == len(empty.add_many(random_keys(10_000, 4)).to_bytes()) == 12 + 7 * BLOCK_BYTES


@pytest.mark.parametrize("data", [b"", b"SwF1", b"SwF1" + bytes(8), BlockedBloom(2).to_bytes()[:-1], b"x" * 76])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    """Bytes that are cut, of another kind or of no size hold no filter."""
    with pytest.raises(InputError):
        BlockedBloom.from_bytes(data)


def test_other_sizes_do_not_merge() -> None:
    """Bits of filters of two sizes mean different things."""
    with pytest.raises(InputError, match="do not merge"):
        BlockedBloom(2).merge(BlockedBloom(3))
    with pytest.raises(InputError, match="impossible size"):
        BlockedBloom(0)
