"""verdict: figures into words. Two questions, two words each, and "cannot tell" for whatever misses a bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stillwatch.compare.canaries import Recall
from stillwatch.compare.contrast import Contrast
from stillwatch.compare.derivation import Nearness
from stillwatch.compare.equality import Equality
from stillwatch.compare.marks import FOUND, Marked
from stillwatch.compare.mistakes import Mistakes
from stillwatch.compare.rules import CANNOT_TELL, DERIVED, DIFFERENT, NOT_DERIVED, SAME, Rules, Word
from stillwatch.compare.students import Students, among_students


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that was measured against one teacher. `e_log2` values hold at any time; Holm's p is over teachers.

    `repeats` is the larger share of prompts on which suspect or teacher gave one and the same text; `students` are the
    margins of known students, the smaller of both views.
    """

    teacher: str
    n: int
    families: Mapping[str, str]
    equality: Equality
    equality_e_log2: float
    equality_anytime_p: float
    equality_power: float
    nearness: Sequence[Nearness] = ()
    nearness_e_log2: Mapping[str, float] = field(default_factory=dict)
    nearness_anytime_p: float = 1.0
    holm_p: float = 1.0
    power: Mapping[str, float] = field(default_factory=dict)
    students: Mapping[str, float] = field(default_factory=dict)
    contrasts: Sequence[Contrast] = ()
    mistakes: Mistakes | None = None
    recall: Recall | None = None
    marks: Sequence[Marked] = ()
    repeats: float = 0.0

    @property
    def n_families(self) -> int:
        """Unrelated control families."""
        return len(set(self.families.values()))

    @property
    def margin(self) -> float:
        """The smaller margin of the two views; minus infinity where there was none."""
        return min((one.margin for one in self.nearness), default=float("-inf"))

    @property
    def rank_p(self) -> float:
        """The larger rank p of the two views."""
        return max((one.rank_p for one in self.nearness), default=1.0)

    @property
    def permutation_p(self) -> float:
        """The larger permutation p of the two views, conditional on the controls: never shown without `rank_p`."""
        return max((one.permutation_p for one in self.nearness), default=1.0)

    def among_students(self, rules: Rules) -> Students:
        """How unlike known students the suspect is: its larger margin against the smaller of each of theirs."""
        largest = max((one.margin for one in self.nearness), default=float("inf"))
        return among_students(largest, self.students, margin_min=rules.margin_derived_min)


@dataclass(frozen=True, slots=True)
class Said:
    """A word and why."""

    word: Word
    why: str


def same_model(figures: Figures, rules: Rules, *, stop_early: bool) -> Said:
    """Question A. "Same" must be earned: a test with power found nothing, and no control is as near."""
    p = figures.equality_anytime_p if stop_early else figures.equality.p_value
    if p <= rules.alpha_different:
        return Said(DIFFERENT, f"the answers cannot change places: p {_p(p)}")
    fixed = figures.equality.p_value
    missing = [
        (fixed <= rules.alpha_different, f"p {_p(fixed)} would tell them apart, had it not been looked at early"),
        (figures.n < rules.n_same_min, f"{figures.n} prompts, {rules.n_same_min} needed"),
        (
            figures.equality_power < rules.power_same_min,
            f"the test tells {figures.equality_power:.0%} of the control families from the teacher, "
            f"{rules.power_same_min:.0%} needed",
        ),
        (
            figures.margin < rules.margin_same_min,
            "not told apart, but hardly nearer to the teacher than the best control is: a sibling would look like this"
            if figures.nearness
            else f"not told apart, but with {figures.n_families} unrelated control families nearness is not weighed",
        ),
    ]
    short = [why for misses, why in missing if misses]
    return Said(CANNOT_TELL, "; ".join(short)) if short else Said(SAME, f"not told apart: p {_p(fixed)}, with power")


def derived(figures: Figures, rules: Rules, *, stop_early: bool) -> Said:
    """Question B. "Derived" takes every hurdle in both views, or planted canaries or marks; "not" takes students."""
    canary = figures.recall
    if canary and canary.p_value is not None and canary.p_value <= rules.alpha_derived:
        return Said(DERIVED, f"{canary.n_recalled} planted canaries recalled, {canary.n_decoys_recalled} decoys")
    mark = next((one.finding for one in figures.marks if one.finding.verdict == FOUND), None)
    if mark:
        return Said(
            DERIVED, f"it carries the mark of key {mark.key.key_id}: p {10**mark.holm_log10:.2g}, none in controls"
        )
    if not figures.nearness:
        return Said(CANNOT_TELL, f"{figures.n_families} unrelated control families, {rules.n_families_min} needed")
    p = figures.nearness_anytime_p if stop_early else figures.holm_p
    both = f"rank p {_p(figures.rank_p)}, permutation p {_p(p)} conditional on the controls"
    missing = [
        (figures.n_families < rules.n_families_min, f"{figures.n_families} families, {rules.n_families_min} needed"),
        (figures.n < rules.n_derived_min, f"{figures.n} prompts, {rules.n_derived_min} needed"),
        (figures.repeats > 0.5, "suspect or teacher gives one text to most prompts"),
        (
            figures.rank_p > 1 / (1 + figures.n_families) + 1e-12,
            "an unrelated control is as near to the suspect or to the teacher",
        ),
        (p > rules.alpha_derived, f"{both}, {rules.alpha_derived:g} needed"),
        (
            figures.margin < rules.margin_derived_min,
            f"margin {figures.margin:.1f} over the best unrelated control, {rules.margin_derived_min:g} needed",
        ),
        (
            any(one.margin <= one.pair_margin for one in figures.nearness),
            "two unrelated control families are as much nearer to each other",
        ),
    ]
    short = [why for misses, why in missing if misses]
    if not short:
        return Said(DERIVED, f"margin {figures.margin:.1f} over the best unrelated control in both views; {both}")
    known = figures.among_students(rules)
    if _would_have_been_seen(figures, known, rules) and max(one.margin for one in figures.nearness) < 0:
        return Said(
            NOT_DERIVED,
            f"not as its known students are: all {known.n} are found (of such students at least {known.lo:.0%} are, "
            f"95 % bound), unrelated controls are nearer than this suspect, rank p {_p(known.rank_p)} of being one of "
            f"them, p {_p(known.p_value)} if their margins are normal",
        )
    return Said(CANNOT_TELL, "; ".join(short))


def _would_have_been_seen(figures: Figures, known: Students, rules: Rules) -> bool:
    """Whether enough real students of this teacher are known, each clears the margin, and the suspect is none such."""
    usable = figures.n_families >= rules.n_families_min and figures.n >= rules.n_derived_min and figures.repeats <= 0.5
    found = known.n >= rules.n_students_min and known.n_found == known.n
    return usable and found and known.p_value <= rules.alpha_not_derived


def _p(value: float) -> str:
    return f"{value:.2g}"
