from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, ttest_1samp

from stillwatch.compare.students import among_students


def test_a_suspect_unlike_all_students_is_told() -> None:
    """Far below students that are all found both p-values are small, the rank's as small as their number allows."""
    known = among_students(-2.0, {"a": 8.0, "b": 9.0, "c": 7.5, "d": 8.5}, margin_min=4.0)
    assert (known.n, known.n_found, known.rank_p) == (4, 4, 1 / 5)
    assert known.lo == pytest.approx(0.05**0.25)
    assert known.p_value < 0.01


def test_the_p_is_that_of_one_more_draw() -> None:
    """Where suspect and students are draws of one normal distribution, the p-value is uniform."""
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(500):
        drawn = rng.normal(8, 3, 6)
        p_values.append(among_students(drawn[0], {str(n): x for n, x in enumerate(drawn[1:])}, margin_min=0.0).p_value)
    # Spreads under one are not believed, which can only raise a p-value.
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_many_students_give_the_t_of_the_mean() -> None:
    """With many students the prediction is the one-sample t statistic, scaled from the mean to one draw."""
    margins = np.random.default_rng(6).normal(8, 3, 200)
    t = ttest_1samp(margins, 2.0).statistic / np.sqrt(len(margins) + 1)
    expected = float(np.mean(np.random.default_rng(7).standard_t(199, 200_000) <= -t))
    found = among_students(2.0, dict(enumerate(margins.tolist())), margin_min=0.0)  # type: ignore[arg-type]
    assert found.p_value == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("students", [{}, {"a": 9.0}])
def test_too_few_students_say_nothing(students: dict[str, float]) -> None:
    """None or one student gives p = 1: there is no spread to speak of."""
    assert among_students(-5.0, students, margin_min=4.0).p_value == 1.0


def test_copies_of_one_student_are_not_three() -> None:
    """Margins that agree to the last digit are not believed to that digit."""
    near, far = (among_students(x, dict.fromkeys("abc", 8.0), margin_min=4.0).p_value for x in (5.0, -5.0))
    assert near > 0.05 and far < 0.01


def test_a_student_that_is_not_found_leaves_no_power() -> None:
    """One known student missed, and no share of such students is known to be found."""
    known = among_students(-2.0, {"a": 8.0, "b": 9.0, "c": 1.0}, margin_min=4.0)
    assert (known.n_found, known.lo) == (2, 0.0)
    assert among_students(float("inf"), {"a": 8.0, "b": 9.0}, margin_min=4.0).p_value == 1.0
