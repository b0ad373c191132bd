"""battery: the tests run over one panel, prompt by prompt, stopping early where that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from stillwatch.compare.canaries import Canaries, Recall, recall
from stillwatch.compare.contrast import Contrast, contrast
from stillwatch.compare.derivation import holm
from stillwatch.compare.equality import N_MAX_PAIRS, contrasts, permutation_test, read
from stillwatch.compare.hearing import Hearing
from stillwatch.compare.marks import Marked, Marks, look_for
from stillwatch.compare.mistakes import Mistakes, shared_mistakes
from stillwatch.compare.panel import Panel
from stillwatch.compare.power import derivation_power, equality_power
from stillwatch.compare.rules import DERIVED, SAME, Rules
from stillwatch.compare.verdict import Figures, Said, derived, same_model
from stillwatch.errors import InputError

Ask = Callable[[str], Sequence[str] | None]
"""The suspect: a prompt in, its raw answers out; None where it gave none."""

OnProgress = Callable[[str, int, int], None]

N_BATCH = 10
N_LARGE_BATCH = 50
N_FINE = 200
"""Prompts between two looks when stopping early: few up to `N_FINE`, then more, since looks grow with the square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came out, by teacher in the order given: the figures and the two words."""

    figures: tuple[Figures, ...]
    same_model: tuple[Said, ...]
    derived: tuple[Said, ...]
    n_asked: int
    n_unanswered: int
    stopped_early: bool

    @property
    def leading(self) -> int:
        """The position of the teacher that most is said of, or else the nearest."""

        def weight(n: int) -> tuple[bool, bool, float, int]:
            return self.derived[n].word == DERIVED, self.same_model[n].word == SAME, self.figures[n].margin, -n

        return max(range(len(self.figures)), key=weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What may be given beside the answers: right answers by prompt; canaries and marks of the first teacher."""

    expected: Mapping[str, str] | None = None
    canaries: Canaries | None = None
    marks: Marks | None = None


def compare(
    panel: Panel,
    ask: Ask,
    *,
    rules: Rules,
    seed: int,
    stop_early: bool,
    extras: Extras = Extras(),
    on_progress: OnProgress = lambda step, done, total: None,
) -> Compared:
    """Put the panel's prompts to the suspect and answer both questions for every teacher.

    Args:
        ask: called once for each prompt, in the panel's order. stop_early: look after every batch and stop once nothing
            more can change; the words then rest on bets, which stopping does not spoil.

    Raises:
        InputError: the suspect answered nothing.

    Cost: per prompt some 5 milliseconds for 30 models; then 0.5 s for each control family, and 4 s at 800 prompts.
    """
    is_planted = extras.canaries is not None or extras.marks is not None
    hearing = Hearing(panel, rules, seed, is_planted=is_planted)
    n, asked, stopped = len(panel.prompts), 0, False
    while asked < n and not stopped:
        size = n if not stop_early else N_BATCH if asked < N_FINE else N_LARGE_BATCH
        for at in range(asked, min(asked + size, n)):
            hearing.hear(at, ask(panel.prompts[at]))
            on_progress("ask", at + 1, n)
        asked = min(asked + size, n)
        hearing.look()
        stopped = stop_early and asked < n and hearing.settled()
    if not hearing.n:
        raise InputError("the suspect answered no prompt", do="Look into the archived replies, if it is an endpoint.")
    measured = [_figures(hearing, teacher, extras, on_progress) for teacher in panel.teachers]
    adjusted = holm([one.permutation_p for one in measured])
    anytime = holm([one.nearness_anytime_p for one in measured])
    figures = tuple(
        replace(one, holm_p=p, nearness_anytime_p=q) for one, p, q in zip(measured, adjusted, anytime, strict=True)
    )
    return Compared(
        figures=figures,
        same_model=tuple(same_model(one, rules, stop_early=stop_early) for one in figures),
        derived=tuple(derived(one, rules, stop_early=stop_early) for one in figures),
        n_asked=asked,
        n_unanswered=asked - hearing.n,
        stopped_early=stopped,
    )


def _figures(hearing: Hearing, teacher: str, extras: Extras, on_progress: OnProgress) -> Figures:
    panel, rules, seed = hearing.panel, hearing.rules, hearing.seed
    families = panel.unrelated(teacher)
    ours, theirs = hearing.texts[panel.suspect], hearing.texts[teacher]
    near = hearing.near(teacher)
    return Figures(
        teacher=teacher,
        n=hearing.n,
        families=families,
        equality=permutation_test(contrasts(read(ours[:N_MAX_PAIRS]), read(theirs[:N_MAX_PAIRS])), seed=seed),
        equality_e_log2=hearing.e_log2(teacher),
        equality_anytime_p=2.0 ** -hearing.best_e[teacher],
        equality_power=equality_power(
            theirs, hearing.texts, families, alpha=rules.alpha_different, seed=seed,
            on_progress=lambda done, total: on_progress("power", done, total),
        ),
        nearness=near,
        nearness_e_log2=hearing.gap_e_log2(teacher),
        nearness_anytime_p=2.0 ** -hearing.best_near[teacher],
        power=_power(hearing, teacher, families) if near else {},
        students={
            student: min(one.margin for one in hearing.near(teacher, suspect=student, n_permutations=1))
            for student in (panel.students if near else ())
        },
        contrasts=_contrasts(hearing, teacher, families) if near else (),
        mistakes=_mistakes(hearing, extras, families, teacher),
        recall=_recall(hearing, extras, families, teacher),
        marks=_marks(hearing, extras, families, teacher, on_progress),
        repeats=max(_repeats(ours), _repeats(theirs)),
    )  # fmt: skip


def _power(hearing: Hearing, teacher: str, families: Mapping[str, str]) -> dict[str, float]:
    return derivation_power(
        hearing.views, hearing.models, families, teacher=teacher, margin_min=hearing.rules.margin_derived_min,
        seed=hearing.seed,
    )  # fmt: skip


def _contrasts(hearing: Hearing, teacher: str, families: Mapping[str, str]) -> tuple[Contrast, ...]:
    panel = hearing.panel
    if panel.before is None:
        return ()
    return tuple(
        contrast(
            x, hearing.models, families, suspect=panel.suspect, before=panel.before, teacher=teacher, view=view,
            seed=hearing.seed,
        )
        for view, x in hearing.views.items()
    )  # fmt: skip


def _recall(hearing: Hearing, extras: Extras, families: Mapping[str, str], teacher: str) -> Recall | None:
    if extras.canaries is None or teacher != hearing.panel.teachers[0]:
        return None
    return recall(extras.canaries, hearing.raw, hearing.panel.outputs, families)


def _marks(
    hearing: Hearing, extras: Extras, families: Mapping[str, str], teacher: str, on_progress: OnProgress
) -> tuple[Marked, ...]:
    if extras.marks is None or teacher != hearing.panel.teachers[0]:
        return ()
    return look_for(
        extras.marks, hearing.raw, {model: hearing.panel.outputs[model] for model in families},
        name=hearing.panel.suspect, alpha=hearing.rules.alpha_derived,
        on_progress=lambda done, total: on_progress("marks", done, total),
    )  # fmt: skip


def _mistakes(hearing: Hearing, extras: Extras, families: Mapping[str, str], teacher: str) -> Mistakes | None:
    if extras.expected is None:
        return None
    wanted = [extras.expected.get(prompt) for prompt in hearing.prompts]
    return shared_mistakes(
        hearing.texts, wanted, families, suspect=hearing.panel.suspect, teacher=teacher, seed=hearing.seed
    )


def _repeats(texts: Sequence[str]) -> float:
    return Counter(texts).most_common(1)[0][1] / len(texts)
