"""students: what known students of the teacher allow to be said of a suspect that is not like them.

Likeness that is not there proves little: most students of common teachers leave none. "Not derived" is said only where
real students of this very teacher are known, all of them found, and the suspect is none like them. The null is that the
suspect is one more such student. Its rank among k students is at least 1 / (k + 1); the second p-value takes their
margins as draws from a normal distribution (prediction interval for one more draw: Student's t with k - 1 degrees of
freedom), and is never shown without the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

SPREAD_MIN = 1.0
"""Least spread of students' margins that is believed: a margin is itself no surer than one spread of the controls."""


@dataclass(frozen=True, slots=True)
class Students:
    """Known students, how many are found, and how unlike them the suspect is.

    `lo` is the exact lower 95 % bound of the share of such students that are found (Clopper and Pearson 1934): the
    power behind "not derived".
    """

    n: int
    n_found: int
    lo: float
    rank_p: float
    p_value: float


def among_students(margin: float, students: Mapping[str, float], *, margin_min: float) -> Students:
    """Place a suspect's margin among those of known students; without two of them both p-values are 1."""
    margins = np.array(list(students.values()), np.float64)
    n, n_found = len(margins), int((margins >= margin_min).sum())
    lo = 0.05 ** (1 / n) if n and n_found == n else 0.0
    if n < 2 or not np.isfinite(margin):
        return Students(n, n_found, lo, 1.0, 1.0)
    spread = max(float(margins.std(ddof=1)), SPREAD_MIN)
    below = (margin - float(margins.mean())) / (spread * np.sqrt(1 + 1 / n))
    rank_p = (1 + int((margins <= margin).sum())) / (1 + n)
    return Students(n, n_found, lo, rank_p, float(student_t.cdf(below, n - 1)))
