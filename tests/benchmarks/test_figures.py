"""figures: intervals and tables of the benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.yardstick.figures import exact, mean_interval, paragraph, rate, short, table


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (3, 40), (0, 310_000), (1, 1)])
def test_intervals_are_exact(k: int, n: int) -> None:
    """They are those of the exact binomial test of another package."""
    other = binomtest(k, n).proportion_ci(method="exact")
    assert exact(k, n) == pytest.approx((other.low, other.high))


def test_nothing_counted_is_nothing_known() -> None:
    """No trials give the whole interval and a dash."""
    assert exact(0, 0) == (0.0, 1.0) and rate(0, 0) == "-"
    assert math.isnan(mean_interval([])[0]) and short(math.nan) == "-"


def test_a_bootstrap_interval_holds_the_mean() -> None:
    """Same values and seed give the same interval, around the mean, as wide as theory says of a normal sample."""
    values = np.random.default_rng(5).normal(3, 1, 400).tolist()
    mean, low, high = mean_interval(values)
    assert (mean, low, high) == mean_interval(values)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)


def test_tables_are_markdown() -> None:
    """A head, a rule, and as many cells in each row."""
    lines = table(("a", "b"), [(1, "x"), (2, "y")])
    assert lines == ["| a | b |", "|---|---|", "| 1 | x |", "| 2 | y |"]
    assert all(len(line) <= 118 for line in paragraph("word " * 200))
