"""contrast: did the suspect come nearer to the teacher between two versions, by more than to any control?

A version from before the suspected time takes out what the suspect had by birth: base model, house style, common web
text. What it cannot take out is anything else that changed at the same time, so a contrast supports and never decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatch.compare.derivation import Likeness, grouped, sign_flip_p


@dataclass(frozen=True, slots=True)
class Contrast:
    """How much nearer to the teacher in one view, and to the control that gained most."""

    view: str
    gain: float
    best_gain: float
    best_control: str
    rank_p: float
    permutation_p: float


def contrast(
    likeness: Likeness,
    models: Sequence[str],
    families: Mapping[str, str],
    *,
    suspect: str,
    before: str,
    teacher: str,
    view: str,
    seed: int,
) -> Contrast:
    """Compare the gains, paired by prompt; the p-value holds against every control at once (intersection-union)."""
    at = {model: n for n, model in enumerate(models)}
    gains = likeness[at[suspect]].astype(float) - likeness[at[before]]
    names = sorted(families)
    means = {model: float(gains[at[model]].mean()) for model in names}
    best = max(names, key=lambda model: means[model])
    to_teacher = gains[at[teacher]]
    groups = grouped(families, {model: n for n, model in enumerate(names)})
    n_reaching = sum(max(means[names[m]] for m in members) >= to_teacher.mean() for members in groups.values())
    return Contrast(
        view=view,
        gain=float(to_teacher.mean()),
        best_gain=means[best],
        best_control=best,
        rank_p=(1 + n_reaching) / (1 + len(groups)),
        permutation_p=sign_flip_p(to_teacher[None, :] - gains[[at[model] for model in names]], seed=seed),
    )
