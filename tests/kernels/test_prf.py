from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from stillwatch.kernels.prf import green_counts, gumbel_sums, seeds, uniforms, window_word

MASK = (1 << 64) - 1


def siphash_2_4(word: int, k0: int, k1: int) -> int:
    """SipHash-2-4 of one 8-byte word, written from the paper in plain integers."""

    def rotated(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) & MASK

    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(n: int) -> None:
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotated(v[1], 13) ^ v[0]
            v[0] = rotated(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotated(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotated(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotated(v[1], 17) ^ v[2]
            v[2] = rotated(v[2], 32)

    for block in (word, 8 << 56):
        v[3] ^= block
        rounds(2)
        v[0] ^= block
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def splitmix(seed: int, token: int) -> float:
    x = (seed + (token + 1) * 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return ((x ^ x >> 31) // 4096 + 0.5) / 2**52


def words(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(values, np.uint64)


def test_the_reference_is_siphash_and_splitmix() -> None:
    """The reference of these tests gives the published values of both constructions."""
    assert siphash_2_4(0x0706050403020100, 0x0706050403020100, 0x0F0E0D0C0B0A0908) == 0x93F5F5799A932462
    assert splitmix(0, 0) == (0xE220A8397B1DCDAF // 4096 + 0.5) / 2**52


def test_numbers_are_those_of_the_published_constructions() -> None:
    """Seeds are SipHash-2-4 of the window, numbers the splitmix64 stream of the seed."""
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 2**64, (50, 3), dtype=np.uint64)
    tokens = rng.integers(0, 2**21, 50)
    got = seeds(drawn[:, 0], drawn[:, 1:])
    assert got.tolist() == [siphash_2_4(*map(int, row)) for row in drawn]
    assert uniforms(got, tokens).tolist() == [splitmix(int(s), int(t)) for s, t in zip(got, tokens, strict=True)]


def test_windows_of_different_width_are_different_words() -> None:
    """A window of one token is never the word of a window of two, and order counts."""
    rows = np.array([[0, 5], [5, 0], [5, 5]])
    assert len({*window_word(rows).tolist(), *window_word(rows[:, 1:]).tolist()}) == 5


def test_numbers_are_inside_the_open_interval() -> None:
    """Neither 0 nor 1 is ever drawn, so no logarithm is endless, and 1 - u is exact."""
    rng = np.random.default_rng(2)
    drawn = uniforms(rng.integers(0, 2**64, 200_000, dtype=np.uint64), rng.integers(0, 2**21, 200_000))
    assert drawn.min() > 0 and drawn.max() < 1
    assert 1 - (2**52 - 0.5) / 2**52 == 2**-53
    assert kstest(drawn, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("width", [1, 2])
def test_scores_are_the_sums_of_their_pairs(width: int) -> None:
    """Summing over sorted pairs with shared windows gives what pair by pair gives, for each key."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 40, (3000, width + 1))
    packed = np.zeros(len(rows), np.uint64)
    for column in range(width + 1):
        packed = packed << np.uint64(21) | rows[:, column].astype(np.uint64)
    packed = np.unique(packed)
    keys = rng.integers(0, 2**64, (3, 2), dtype=np.uint64)
    tokens = (packed & np.uint64(2**21 - 1)).astype(np.int64)
    word = packed >> np.uint64(21) | np.uint64(width) << np.uint64(62)
    for key, total, green in zip(
        keys, gumbel_sums(packed, keys, width), green_counts(packed, keys, width, 0.25), strict=True
    ):
        drawn = uniforms(seeds(word, key), tokens)
        assert total == pytest.approx(-np.log1p(-drawn).sum(), rel=1e-12)
        assert green == (drawn < 0.25).sum()


def test_nothing_to_score_scores_nothing() -> None:
    """No pairs give sums and counts of zero, and no keys give none."""
    none = np.zeros(0, np.uint64)
    assert gumbel_sums(none, words(1, 2).reshape(1, 2), 1).tolist() == [0.0]
    assert green_counts(words(1), np.zeros((0, 2), np.uint64), 1, 0.5).tolist() == []


def test_keys_alike_have_numbers_that_are_not() -> None:
    """Scores under keys that differ in one bit are no more correlated than independent ones."""
    rng = np.random.default_rng(4)
    word, tokens = rng.integers(0, 2**42, 50_000, dtype=np.uint64), rng.integers(0, 50_000, 50_000)
    base = rng.integers(0, 2**64, 2, dtype=np.uint64)
    first = -np.log1p(-uniforms(seeds(word, base), tokens))
    for bit in range(0, 64, 7):
        near = base ^ np.array([1 << bit, 0], np.uint64)
        other = -np.log1p(-uniforms(seeds(word, near), tokens))
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(50_000)
