"""derivation: question B, did the suspect learn from this teacher? Likeness beyond the best unrelated control.

Unrelated models resemble each other too, and some more than others, so the teacher must clear four hurdles, each in
both
views: it is nearer to the suspect than every control family is, to the suspect and to the teacher alike (rank); not by
the luck of these prompts (permutation); by a margin that is many times the spread among the controls (margin); and by
more than any two control families exceed the rest of the controls (pairs). One hurdle missed is "cannot tell".

Likeness has no direction: it is the same whichever of the two learned from the other, or if both learned from a third.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Likeness = npt.NDArray[np.float32]

N_PERMUTATIONS = 9999
_N_BLOCK = 500


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near suspect and teacher are in one view, against the controls.

    `similarity` and `best` are means over prompts; `margin` is by how much the teacher exceeds the best control, in
    standard deviations over control families; `pair_margin` is the largest such margin between two control families.
    `rank_p` is at least 1 / (1 + families); `permutation_p` is conditional on these controls; `lo` and `hi` bound the
    excess over the best control with 95 % (normal, over prompts).
    """

    view: str
    similarity: float
    best: float
    best_control: str
    margin: float
    pair_margin: float
    rank_p: float
    permutation_p: float
    excess: float
    lo: float
    hi: float
    n: int
    by_control: Mapping[str, float]


def nearness(
    likeness: Likeness,
    models: Sequence[str],
    families: Mapping[str, str],
    *,
    suspect: str,
    teacher: str,
    view: str,
    seed: int,
    n_permutations: int = N_PERMUTATIONS,
) -> Nearness:
    """Weigh one view.

    Args:
        likeness: (models, models, prompts), as `views.likeness` gives it, of at least four control families.
        models: the names along its first two axes. families: of the controls that are unrelated to both.
    """
    at = {model: n for n, model in enumerate(models)}
    s, t = at[suspect], at[teacher]
    means = likeness.mean(axis=2, dtype=np.float64)
    groups = grouped(families, at)
    to_suspect, to_teacher = _to_families(means[s], groups), _to_families(means[t], groups)
    similarity = float(means[s, t])
    best_family = list(groups)[int(to_suspect.argmax())]
    best_control = max((models[m] for m in groups[best_family]), key=lambda name: float(means[s, at[name]]))
    n_reaching = max(int((to_suspect >= similarity).sum()), int((to_teacher >= similarity).sum()))
    rivals = [m for members in groups.values() for m in members]
    gaps = likeness[s, t][None, :].astype(np.float64) - likeness[s, rivals]
    excess = gaps[int(gaps.mean(axis=1).argmin())]
    error = 1.96 * float(excess.std(ddof=1)) / np.sqrt(len(excess)) if len(excess) > 1 else float("inf")
    return Nearness(
        view=view,
        similarity=similarity,
        best=float(max(to_suspect.max(), to_teacher.max())),
        best_control=best_control,
        margin=_margin(similarity, to_suspect, to_teacher),
        pair_margin=_largest_pair(means, groups, models),
        rank_p=(1 + n_reaching) / (1 + len(groups)),
        permutation_p=sign_flip_p(gaps, seed=seed, n_permutations=n_permutations),
        excess=float(excess.mean()),
        lo=float(excess.mean()) - error,
        hi=float(excess.mean()) + error,
        n=likeness.shape[2],
        by_control={models[m]: float(means[s, m]) for m in rivals},
    )


def grouped(families: Mapping[str, str], at: Mapping[str, int]) -> dict[str, list[int]]:
    """The positions of the controls, by family, in the order of their names."""
    groups: dict[str, list[int]] = {}
    for model, family in sorted(families.items(), key=lambda item: (item[1], item[0])):
        groups.setdefault(family, []).append(at[model])
    return groups


def sign_flip_p(gaps: Floats, *, seed: int, n_permutations: int = N_PERMUTATIONS) -> float:
    """One-sided paired permutation p that every row of `gaps`, (controls, prompts), has a mean above 0.

    Swapping teacher and control on a prompt flips the sign of its gap. The largest p over controls is a valid p for
    "at least one control is as near" whatever the dependence between them (Berger 1982, intersection-union), so the
    choice of the best control costs nothing.
    """
    n_controls, n = gaps.shape
    seen = gaps.sum(axis=1)
    least = seen - 1e-9 * np.abs(gaps).sum(axis=1)
    rng = np.random.default_rng(seed)
    reached = np.zeros(n_controls, np.int64)
    for start in range(0, n_permutations, _N_BLOCK):
        signs = rng.choice(np.array([-1.0, 1.0]), size=(min(_N_BLOCK, n_permutations - start), n))
        reached += (signs @ gaps.T >= least).sum(axis=0)
    return float((1 + reached.max()) / (1 + n_permutations))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = highest
    return [float(p) for p in adjusted]


def _to_families(row: Floats, groups: Mapping[str, list[int]]) -> Floats:
    """How near the nearest model of each family is."""
    return np.array([row[members].max() for members in groups.values()])


def _margin(similarity: float, to_one: Floats, to_other: Floats) -> float:
    """Excess over the best control seen from either side, in the larger of the two spreads."""
    spread = max(float(to_one.std(ddof=1)), float(to_other.std(ddof=1)))
    excess = similarity - max(float(to_one.max()), float(to_other.max()))
    return excess / spread if spread > 0 else 0.0


def _largest_pair(means: Floats, groups: Mapping[str, list[int]], models: Sequence[str]) -> float:
    """The largest margin of one control family against another, the rest of the controls being their controls.

    Two models that each go by their own name as family are left out: nobody said that they are unrelated.
    """
    said = {name: len(members) > 1 or models[members[0]] != name for name, members in groups.items()}
    found = [-np.inf]
    for one, other in combinations(groups, 2):
        if said[one] or said[other]:
            rest = {name: members for name, members in groups.items() if name not in (one, other)}
            found += [
                _margin(float(means[a, b]), _to_families(means[a], rest), _to_families(means[b], rest))
                for a in groups[one]
                for b in groups[other]
            ]
    return float(max(found))


def margin_of(row: Floats, similarity: float, to_teacher: Floats, groups: Mapping[str, list[int]]) -> float:
    """The margin of a made-up suspect whose mean likeness to every model is `row`; for power."""
    return _margin(similarity, _to_families(row, groups), to_teacher)
