from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Context, Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact, gamma

from stillwatch.errors import StillwatchError
from stillwatch.watermark.tails import (
    benjamini_hochberg,
    binomial_p_log10,
    gamma_p_log10,
    holm,
    larger_mean_p_log10,
    larger_share_p_log10,
)


@pytest.fixture(autouse=True)
def many_digits() -> Iterator[None]:
    """Decimal arithmetic of 60 digits and any exponent, for references that neither round nor underflow."""
    with localcontext(Context(prec=60, Emin=-(10**9), Emax=10**9)):
        yield


@pytest.mark.parametrize(
    ("hits", "n"), [(0, 10), (10, 10), (30, 100), (400, 1000), (999, 1000), (9_000, 20_000), (20_000, 20_000)]
)
def test_the_binomial_tail_is_exact(hits: int, n: int) -> None:
    """It is the sum of its terms in 60 digits, down to 1e-12000."""
    total, term = Decimal(0), Decimal("0.25") ** n
    for k in range(n, hits - 1, -1):
        total += term
        term = term * k * 3 / (n - k + 1)
    assert binomial_p_log10(hits, n, 0.25) == pytest.approx(float(total.log10()), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("score", "n"), [(0.5, 1), (1e5, 1), (1.0, 50), (60.0, 50), (3000.0, 1000), (30_000.0, 1000), (40_000.0, 20_000)]
)
def test_the_gamma_tail_is_exact(score: float, n: int) -> None:
    """It is e^-x times the sum of x^k / k! in 60 digits, at 1e-40000 as at 0.4."""
    x = Decimal(score)
    term = total = Decimal(1)
    for k in range(1, n):
        term = term * x / k
        total += term
    expected = float(total.log10() - x / Decimal(10).ln())
    assert gamma_p_log10(score, n) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_tails_never_underflow() -> None:
    """A p-value of 1e-10000 is a number, and more evidence always gives less."""
    assert gamma_p_log10(1e5, 10_000) < -10_000
    assert binomial_p_log10(40_000, 40_000, 0.25) == pytest.approx(40_000 * math.log10(0.25))
    falling = [gamma_p_log10(score, 500) for score in np.linspace(400, 20_000, 300)]
    assert all(later < earlier for earlier, later in pairwise(falling))
    falling = [binomial_p_log10(hits, 6000, 0.25) for hits in range(1400, 6001, 20)]
    assert all(later < earlier for earlier, later in pairwise(falling))


def test_tails_join_where_they_change_method() -> None:
    """Across the point where scipy's tail gives out there is no step."""
    near = [gamma_p_log10(score, 100) for score in np.linspace(800, 1100, 600)]
    assert np.abs(np.diff(near, 2)).max() < 1e-3
    assert gamma_p_log10(500.0, 100) == pytest.approx(gamma.logsf(500.0, 100) / math.log(10), rel=1e-9)
    assert binomial_p_log10(90, 100, 0.25) == pytest.approx(binom.logsf(89, 100, 0.25) / math.log(10), rel=1e-9)


def test_nothing_seen_is_no_evidence() -> None:
    """No pairs, no hits and no score give p = 1."""
    assert gamma_p_log10(0.0, 0) == gamma_p_log10(0.0, 5) == binomial_p_log10(0, 0, 0.25) == 0.0
    assert larger_mean_p_log10(5.0, 5, 0.0, 0) == larger_share_p_log10(3, 5, 0, 0) == 0.0


@pytest.mark.parametrize("bad", [(-1.0, 3), (math.nan, 3), (math.inf, 3), (1.0, -1)])
def test_impossible_scores_are_refused(bad: tuple[float, int]) -> None:
    """A negative, endless or missing score is an error, not a p-value."""
    with pytest.raises(StillwatchError, match="impossible"):
        gamma_p_log10(*bad)


@pytest.mark.parametrize("bad", [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 0.0), (1, 2, 1.0)])
def test_impossible_counts_are_refused(bad: tuple[int, int, float]) -> None:
    """More hits than pairs, or a share of nothing or all, is an error."""
    with pytest.raises(StillwatchError, match="impossible"):
        binomial_p_log10(*bad)


def test_the_control_tests_are_the_textbook_ones() -> None:
    """Shares are compared by Fisher's exact test, means by the ratio of two Gammas, uniform where nothing differs."""
    exact = fisher_exact([[40, 60], [20, 80]], alternative="greater").pvalue
    assert larger_share_p_log10(40, 100, 20, 100) == pytest.approx(math.log10(exact), rel=1e-9)
    rng = np.random.default_rng(5)
    p = np.array([10 ** larger_mean_p_log10(rng.gamma(80), 80, rng.gamma(120), 120) for _ in range(2000)])
    assert abs((p <= 0.05).mean() - 0.05) < 0.02
    assert abs(p.mean() - 0.5) < 0.03
    assert larger_mean_p_log10(50_000.0, 20_000, 20_000.0, 20_000) < -800


def test_adjusted_p_values_are_those_of_the_papers() -> None:
    """Holm and Benjamini-Hochberg, by hand on four p-values, in the order given, at most 1 and monotone."""
    p = np.log10([0.01, 0.04, 0.03, 0.005])
    assert 10 ** holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert 10 ** benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([-20_000.0, 0.0, 0.0]).tolist() == pytest.approx([-20_000 + math.log10(3), 0.0, 0.0])
    assert holm([]).tolist() == benjamini_hochberg([]).tolist() == []
