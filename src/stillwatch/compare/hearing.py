"""hearing: what the suspect has said so far, and what every bet on it has won; looked at as often as one likes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillwatch.compare.betting import equality_scores, nearness_e_log2, payoffs, wealth_log2
from stillwatch.compare.canonical import canonical
from stillwatch.compare.derivation import N_PERMUTATIONS, Likeness, Nearness, nearness
from stillwatch.compare.equality import N_MAX_PAIRS, contrasts, read
from stillwatch.compare.panel import Panel
from stillwatch.compare.rules import Rules
from stillwatch.compare.views import VIEWS, Keys, Tokens, likeness

N_FUTILE = 100
"""Prompts after which derivation is out of reach if the teacher is not even ahead of the best control."""

N_FEWEST_FAMILIES = 4
"""Control families below which there is no spread to speak of, and likeness is not weighed at all."""


class Hearing:
    """Answers so far, likeness so far, and the wealth of each bet after each look.

    `best_e` and `best_near` are the largest log2 wealth seen at any look, by teacher: against "the same model", and
    against "some unrelated control is as near", in the worse of the two views. `is_planted` says that canaries or marks
    are looked for, which any later answer may hold.
    """

    def __init__(self, panel: Panel, rules: Rules, seed: int, *, is_planted: bool = False) -> None:
        self.panel, self.rules, self.seed, self._is_planted = panel, rules, seed, is_planted
        self.models = panel.labels
        self.kin = [panel.families[model] for model in self.models]
        reference = [*panel.teachers, *panel.controls]
        self.tokens = Tokens(text for model in reference for text in panel.texts[model])
        self.texts: dict[str, list[str]] = {model: [] for model in self.models}
        self.raw: dict[str, Sequence[str]] = {}
        self.prompts: list[str] = []
        self.shown: dict[str, list[list[Keys]]] = {view: [[] for _ in self.models] for view in VIEWS}
        self.views: dict[str, Likeness] = {
            view: np.zeros((len(self.models), len(self.models), 0), np.float32) for view in VIEWS
        }
        self.scores = {teacher: np.zeros(0) for teacher in panel.teachers}
        self.best_e = dict.fromkeys(panel.teachers, 0.0)
        self.best_near = dict.fromkeys(panel.teachers, 0.0)

    @property
    def n(self) -> int:
        """Prompts the suspect has answered."""
        return len(self.prompts)

    def hear(self, at: int, answers: Sequence[str] | None) -> bool:
        """Take in the suspect's answers to the prompt at this place; whether there was one."""
        texts = [text for answer in answers or () if (text := canonical(answer))]
        if not texts:
            return False
        prompt = self.panel.prompts[at]
        self.prompts.append(prompt)
        self.raw[prompt] = answers or ()
        for model in self.models:
            self.texts[model].append(texts[0] if model == self.panel.suspect else self.panel.texts[model][at])
        return True

    def look(self) -> None:
        """Weigh what was heard since the last look."""
        self.weigh_likeness()
        self.place_bets()

    def weigh_likeness(self) -> None:
        """Bring `views` up to what was heard."""
        for view, rows in self.shown.items():
            start = self.views[view].shape[2]
            for model, keys in zip(self.models, rows, strict=True):
                keys += [self.tokens.runs(text, view=view) for text in self.texts[model][start:]]
            fresh = likeness(rows, self.kin, start=start)
            self.views[view] = np.concatenate([self.views[view], fresh], axis=2)

    def place_bets(self) -> None:
        """Let every bet run on what was heard, against each teacher."""
        ours = read(self.texts[self.panel.suspect][:N_MAX_PAIRS])
        for teacher in self.panel.teachers:
            start = len(self.scores[teacher])
            if start < min(self.n, N_MAX_PAIRS):
                pairs = contrasts(ours, read(self.texts[teacher][:N_MAX_PAIRS]))
                self.scores[teacher] = np.concatenate([self.scores[teacher], equality_scores(pairs, start=start)])
                self.best_e[teacher] = float(max(0.0, wealth_log2(payoffs(self.scores[teacher])).max()))
            near = min(self.gap_e_log2(teacher).values(), default=0.0)
            self.best_near[teacher] = max(self.best_near[teacher], near)

    def e_log2(self, teacher: str) -> float:
        """log2 of the wealth now, against "suspect and teacher are the same model"."""
        scores = self.scores[teacher]
        return float(wealth_log2(payoffs(scores))[-1]) if len(scores) else 0.0

    def gap_e_log2(self, teacher: str) -> dict[str, float]:
        """The bet on the teacher against every unrelated control, in each view."""
        families = self.panel.unrelated(teacher)
        at = {model: n for n, model in enumerate(self.models)}
        rivals = [at[model] for model in sorted(families)]
        return {
            view: nearness_e_log2((x[0, at[teacher]][None, :] - x[0, rivals]).astype(np.float64))
            for view, x in self.views.items()
            if rivals
        }

    def settled(self) -> bool:
        """Whether more prompts would change nothing: A says different, B has every hurdle behind it or out of reach."""
        for teacher in self.panel.teachers:
            if 2.0 ** -self.best_e[teacher] > self.rules.alpha_different:
                return False
            # A margin that happens to be low at some look must not become the word "not derived".
            may_give_up = not self.panel.students and not self._is_planted
            if len(set(self.panel.unrelated(teacher).values())) < self.rules.n_families_min:
                if not may_give_up:
                    return False
                continue
            margin = min(one.margin for one in self.near(teacher, n_permutations=1))
            bar = np.log2(len(self.panel.teachers) / self.rules.alpha_derived)
            reached = margin >= self.rules.margin_derived_min and self.best_near[teacher] >= bar
            futile = self.n >= N_FUTILE and margin < 0 and may_give_up
            if not (reached and self.n >= self.rules.n_derived_min) and not futile:
                return False
        return True

    def near(self, teacher: str, *, suspect: str | None = None, n_permutations: int = N_PERMUTATIONS) -> list[Nearness]:
        """Each view of the suspect, or of somebody else in its place; empty where the controls are too few."""
        families = self.panel.unrelated(teacher)
        if len(set(families.values())) < N_FEWEST_FAMILIES:
            return []
        return [
            nearness(
                x,
                self.models,
                families,
                suspect=suspect or self.panel.suspect,
                teacher=teacher,
                view=view,
                seed=self.seed,
                n_permutations=n_permutations,
            )
            for view, x in self.views.items()
        ]
