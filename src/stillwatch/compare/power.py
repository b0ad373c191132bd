"""power: what these tests could have found, for this teacher, these controls and this many prompts.

A teacher whose answers are like everybody's has no detectable students however many there are, so power is reported per
teacher and never as one number. It is an upper bound: the made-up student repeats the teacher's very words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stillwatch.compare.derivation import Likeness, grouped, margin_of
from stillwatch.compare.equality import contrasts, permutation_test, read

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Shares of prompts on which a made-up student answers as the teacher did."""

N_MAX_PROMPTS = 200
N_PERMUTATIONS = 999


def equality_power(
    teacher: Sequence[str],
    controls: Mapping[str, Sequence[str]],
    families: Mapping[str, str],
    *,
    alpha: float,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """The share of control families that the equality test tells from the teacher, one model of each.

    Taken at the first `N_MAX_PROMPTS` prompts at most, so with more of them it is a lower bound. Cost: 0.2 s a family.
    """
    one_of = {family: model for model, family in sorted(families.items(), reverse=True)}
    n = min(len(teacher), N_MAX_PROMPTS)
    ours, n_told = read(teacher[:n]), 0
    for done, family in enumerate(sorted(one_of), start=1):
        contrast = contrasts(ours, read(controls[one_of[family]][:n]))
        n_told += permutation_test(contrast, seed=seed, n_permutations=N_PERMUTATIONS).p_value <= alpha
        on_progress(done, len(one_of))
    return n_told / len(one_of) if one_of else 0.0


def derivation_power(
    views: Mapping[str, Likeness],
    models: Sequence[str],
    families: Mapping[str, str],
    *,
    teacher: str,
    margin_min: float,
    seed: int,
) -> dict[str, float]:
    """For each of `SHARES`, the share of controls that would clear the margin if they repeated the teacher so often."""
    at = {model: n for n, model in enumerate(models)}
    t = at[teacher]
    n_prompts = next(iter(views.values())).shape[2]
    rng = np.random.default_rng(seed)
    draws = rng.random((len(families), n_prompts))
    found = dict.fromkeys(SHARES, 0)
    for draw, (control, family) in zip(draws, sorted(families.items()), strict=True):
        rest = {model: other for model, other in families.items() if other != family}
        groups = grouped(rest, at)
        for share in SHARES:
            found[share] += all(
                _margin_of_student(x, t, at[control], draw < share, groups) >= margin_min for x in views.values()
            )
    return {f"{share:g}": found[share] / len(families) if families else 0.0 for share in SHARES}


def _margin_of_student(
    likeness: Likeness, teacher: int, control: int, repeats: np.ndarray, groups: Mapping[str, list[int]]
) -> float:
    row = np.where(repeats[None, :], likeness[teacher], likeness[control]).mean(axis=1, dtype=np.float64)
    to_teacher = likeness[teacher].mean(axis=1, dtype=np.float64)
    others = np.array([to_teacher[members].max() for members in groups.values()])
    return margin_of(row, float(row[teacher]), others, groups)
