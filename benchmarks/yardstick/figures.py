"""figures: counts with exact intervals, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

import numpy as np
import numpy.typing as npt

from stillwatch.audit.matching import Share

Floats = npt.NDArray[np.float64]


def exact(k: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a rate of k in n (Clopper and Pearson 1934); (0, 1) of nothing."""
    return Share(k, n).interval


def rate(k: int, n: int) -> str:
    """A rate in percent with its exact interval; a dash where there was nothing to count."""
    if not n:
        return "-"
    low, high = exact(k, n)
    digits = 1 if n < 5000 else 3
    return f"{100 * k / n:.{digits}f} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def mean_interval(values: Sequence[float], *, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """A mean and its percentile bootstrap interval, 95 %; nan of nothing.

    A bootstrap interval of a mean is too short where the tail is heavy: the largest values are those not yet seen.
    """
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means: Floats = array[rng.integers(0, len(array), (draws, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(array.mean()), float(low), float(high)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table as lines of Markdown."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows),
    ]


def paragraph(*said: str) -> list[str]:
    """Sentences as lines of a page."""
    return wrap(" ".join(said), 118, break_long_words=False, break_on_hyphens=False)


def short(value: float) -> str:
    """A number of three significant digits, whatever its size."""
    return "-" if np.isnan(value) else f"{value:.3g}"
