"""e-values: exact means under their nulls, numbers worked by hand, and no overflow."""

from fractions import Fraction
from math import comb, inf, log2, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import betabinom, binom, hypergeom, nbinom, poisson

from stillwatch.errors import StillwatchError
from stillwatch.kernels.evalues import (
    conformal_p,
    e_bh,
    hub_e_log2,
    mean_e_log2,
    rank_e_log2,
    share_e_log2,
    too_few_e_log2,
)

AT_MOST_ONE = 1 + 1e-9


def hub_e_exact(x: int, n: int, share: Fraction) -> float:
    """The hub's e-value by exact integration of the polynomial, in rational numbers."""
    upper = Fraction(0)
    for k in range(n - x + 1):
        power = x + k + 1
        upper += Fraction((-1) ** k * comb(n - x, k), power) * (1 - share**power)
    return float(upper / (1 - share) / (share**x * (1 - share) ** (n - x)))


@pytest.mark.parametrize("share", [Fraction(1, 1000), Fraction(1, 7), Fraction(9, 10)], ids=str)
def test_the_hub_e_value_is_the_integral_it_claims_to_be(share: Fraction) -> None:
    """For every count of a small hub, the value agrees with exact rational integration."""
    got = hub_e_log2(np.arange(13), 12, float(share))
    expected = [log2(hub_e_exact(x, 12, share)) for x in range(13)]
    np.testing.assert_allclose(got, expected, atol=1e-10)


@pytest.mark.parametrize(("n", "share"), [(1, 0.5), (5, 0.3), (200, 0.01), (1000, 0.9), (3000, 0.5), (20, 1e-9)])
def test_the_hub_e_value_has_mean_one_under_the_binomial(n: int, share: float) -> None:
    """Summed against the binomial null it is 1, and at most 1 where the true share is smaller."""
    x = np.arange(n + 1)
    bits = hub_e_log2(x, n, share)
    mean = np.exp2(bits + binom.logpmf(x, n, share) / np.log(2)).sum()
    assert mean == pytest.approx(1, abs=1e-9)
    smaller = np.exp2(bits + binom.logpmf(x, n, share / 2) / np.log(2)).sum()
    assert smaller <= AT_MOST_ONE


@pytest.mark.parametrize(("population", "group", "n"), [(20, 5, 10), (100, 50, 99), (1000, 10, 300), (10, 9, 9)])
def test_the_hub_e_value_is_safe_without_replacement(population: int, group: int, n: int) -> None:
    """Under the hypergeometric null the mean is at most 1 (Hoeffding 1963, theorem 4)."""
    x = np.arange(max(0, n - (population - group)), min(n, group) + 1)
    bits = hub_e_log2(x, n, group / population)
    assert np.exp2(bits + hypergeom.logpmf(x, population, group, n) / np.log(2)).sum() <= AT_MOST_ONE


def test_the_hub_e_value_rises_with_hits_through_the_far_tail() -> None:
    """Over all counts of a large hub the bits rise, convexly, without a step where the incomplete beta underflows."""
    bits = hub_e_log2(np.arange(4001), 4000, 0.5)
    assert np.isfinite(bits).all()
    assert (np.diff(bits) > 0).all() and (np.diff(bits, 2) > -1e-8).all()


def test_the_hub_e_value_is_sane_at_its_ends() -> None:
    """No carriers and a group that is everybody say nothing; huge hubs are finite; scalars keep their shape."""
    assert hub_e_log2(0, 0, 0.3) == pytest.approx(0, abs=1e-12)
    assert hub_e_log2([0, 3, 10], 10, 1.0).tolist() == [0, 0, 0]
    huge = hub_e_log2([0, 100, 25_000, 25_000_000], 25_000_000, 1e-3)
    assert np.isfinite(huge).all() and (np.diff(huge) > 0).all()
    assert hub_e_log2(25_000_000, 25_000_000, 1e-3) == pytest.approx(25e6 * log2(1e3) - log2(25e6), abs=0.01)
    assert hub_e_log2(1, 2, 0.5).shape == () and hub_e_log2([[1]], [2, 3], 0.5).shape == (1, 2)


@pytest.mark.parametrize(("x", "n", "share"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 0.0), (1, 2, 1.5), (1, 2, nan)])
def test_impossible_hubs_are_refused(x: int, n: int, share: float) -> None:
    """More hits than carriers, negative hits and shares outside (0, 1] raise an error."""
    with pytest.raises(StillwatchError, match="impossible"):
        hub_e_log2(x, n, share)


def test_the_rank_calibrator_integrates_to_one() -> None:
    """The integral of e over p in (0, 1) is 1: with u = -ln p, numerically to 300 and 1 / u beyond."""
    below, _ = quad(lambda u: 2 ** float(rank_e_log2(np.exp(-u))) * np.exp(-u), 0, 300, limit=400, epsabs=1e-12)
    assert below + 1 / 300 == pytest.approx(1, abs=1e-9)


def test_the_rank_calibrator_gives_the_published_values() -> None:
    """It agrees with the formula as printed, is -1 bit at p = 1, smooth near it, falling, and finite at the least p."""
    p = np.array([0.5, 0.1, 0.01, 1e-6])
    printed = (1 - p + p * np.log(p)) / (p * np.log(p) ** 2)
    np.testing.assert_allclose(rank_e_log2(p), np.log2(printed), rtol=1e-12)
    assert rank_e_log2(1.0) == -1
    assert np.isfinite(rank_e_log2(5e-324))
    near_one = rank_e_log2(np.exp(-np.linspace(0.0099, 0.0101, 201)))
    assert (np.diff(near_one) > 0).all() and np.diff(near_one).max() < 1e-6


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1, nan])
def test_impossible_p_values_are_refused(p: float) -> None:
    """A p-value lies in (0, 1]."""
    with pytest.raises(StillwatchError, match="out of range"):
        rank_e_log2(p)


def test_conformal_p_values_count_ties_against_the_finding() -> None:
    """p is one more than the number of references at least as high, over one more than their number."""
    assert conformal_p([5, 3, 3.5, 0], [1, 2, 3, 3]).tolist() == [1 / 5, 3 / 5, 1 / 5, 1]
    assert conformal_p([1.0], []).tolist() == [1]
    assert conformal_p([], [1.0]).shape == (0,)
    assert conformal_p([nan, 9], [1, nan]).tolist() == [1, 2 / 3]
    assert conformal_p([inf], [inf, 0]).tolist() == [2 / 3]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_conformal_p_values_are_valid_over_every_leave_one_out(scores: list[int]) -> None:
    """Taking each of exchangeable scores as the new one, at most a share p of them reach a p-value of p or less."""
    p = [float(conformal_p(scores[i], scores[:i] + scores[i + 1 :])) for i in range(len(scores))]
    assert all(sum(value <= level for value in p) <= level * len(scores) + 1e-9 for level in p)


def test_means_of_e_values_are_means() -> None:
    """The mean is taken of e-values, not of bits, without overflow; no e-value at all says nothing."""
    assert mean_e_log2([1, 3]) == pytest.approx(log2(5))
    assert mean_e_log2([5000, -inf]) == 4999
    assert mean_e_log2([]) == 0
    assert mean_e_log2([-inf, -inf]) == -inf
    assert mean_e_log2([inf, 0]) == inf
    assert mean_e_log2([nan, 2]) == 1
    assert mean_e_log2(np.full(1000, -2000.0)) == pytest.approx(-2000)


@given(st.lists(st.integers(-3, 12), max_size=12), st.integers(0, 10))
def test_e_bh_chooses_what_the_definition_chooses(bits: list[int], alpha_log2: int) -> None:
    """q <= alpha picks exactly the largest set of k hypotheses whose e-values all reach m / (k alpha)."""
    alpha, e, m = 2.0**-alpha_log2, [2.0**b for b in bits], len(bits)
    k = max((k for k in range(m + 1) if sum(value * k * alpha >= m for value in e) >= k), default=0)
    expected = [value * k * alpha >= m for value in e] if k else [False] * m
    assert (e_bh(bits) <= alpha).tolist() == (expected if alpha < 1 else [True] * m)


def test_e_bh_gives_the_values_worked_by_hand() -> None:
    """q of rank i is the least m / (k e_(k)) over k >= i, capped at 1, in the order given."""
    got = e_bh(np.log2([1.0, 80.0, 40.0, 4.0]))
    np.testing.assert_allclose(got, [1, 4 / 80, 4 / 80, 1 / 3])
    assert e_bh([]).shape == (0,)
    assert e_bh([-inf, nan, 5000, inf]).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(("expected", "dispersion"), [(0.3, 0.0), (40.0, 0.0), (40.0, 0.1), (40.0, 1e-12), (12.0, 3.0)])
def test_too_few_has_mean_one_under_its_null(expected: float, dispersion: float) -> None:
    """Summed against the negative binomial (or Poisson) null the mean is 1, and at most 1 for a larger mean."""
    counts = np.arange(4000)
    bits = np.array([too_few_e_log2(int(count), expected, dispersion) for count in counts])
    for mean in (expected, 1.5 * expected):
        if dispersion < 1e-9:
            null = poisson.logpmf(counts, mean)
        else:
            null = nbinom.logpmf(counts, 1 / dispersion, 1 / (1 + dispersion * mean))
        total = np.exp2(bits + null / np.log(2)).sum()
        assert total <= AT_MOST_ONE
        assert mean > expected or total == pytest.approx(1, abs=1e-5)


def test_too_few_rewards_absence_less_when_counts_are_overdispersed() -> None:
    """Fewer events give more bits, overdispersion gives fewer, and nothing expected gives none."""
    bits = [too_few_e_log2(n, 40, 0.1) for n in (0, 1, 10, 40, 1000)]
    assert bits == sorted(bits, reverse=True) and bits[0] > 10 and bits[-1] < -10
    assert too_few_e_log2(0, 40, 0) > too_few_e_log2(0, 40, 0.1) > too_few_e_log2(0, 40, 5) > 0
    assert too_few_e_log2(0, 0, 1) == too_few_e_log2(7, 0, 0) == 0
    assert too_few_e_log2(0, 40, 0) == pytest.approx(log2(np.exp(40 * np.array([0.99, 0.9, 0.7])).mean()))


@pytest.mark.parametrize("given_", [(-1, 1.0, 1.0), (0, -1.0, 1.0), (0, 1.0, -1.0), (0, nan, 1.0), (0, inf, 1.0)])
def test_impossible_counts_are_refused(given_: tuple[int, float, float]) -> None:
    """Negative and non-finite numbers raise an error."""
    with pytest.raises(StillwatchError, match="out of range"):
        too_few_e_log2(*given_)


@pytest.mark.parametrize("share", [0.004, 0.2, 0.9])
@pytest.mark.parametrize("correlation", [0.001, 0.05, 0.999])
def test_a_share_has_mean_one_under_its_null(share: float, correlation: float) -> None:
    """Summed over the beta-binomial law the mean is 1; it is less where fewer show it, and rises with every unit."""
    n, tosses = 40, (1 - correlation) / correlation
    e_values = np.exp2([share_e_log2(x, n, share, correlation) for x in range(n + 1)])
    for true, bound in ((share, 1.0), (share / 2, AT_MOST_ONE)):
        mean = float((betabinom.pmf(np.arange(n + 1), n, true * tosses, (1 - true) * tosses) * e_values).sum())
        assert mean <= bound + 1e-6 and (true != share or abs(mean - 1) < 1e-6)
    assert (np.diff(e_values) > 0).all()


def test_correlated_units_say_less() -> None:
    """The same count is worth less the more alike units are, and nearly a toss-up where all are one."""
    bits = [share_e_log2(18, 40, 0.06, correlation) for correlation in (0.01, 0.05, 0.3, 0.999)]
    assert bits == sorted(bits, reverse=True) and bits[0] > 15 and bits[-1] < 5


@pytest.mark.parametrize(
    "given_", [(-1, 3, 0.5, 0.1), (4, 3, 0.5, 0.1), (1, 3, 0.0, 0.1), (1, 3, 0.5, 1.0), (1, 3, nan, 0.1)]
)
def test_impossible_shares_are_refused(given_: tuple[int, int, float, float]) -> None:
    """A count beyond its units, a share or a correlation that is none."""
    with pytest.raises(StillwatchError):
        share_e_log2(*given_)
