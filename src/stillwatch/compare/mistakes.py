"""mistakes: wrong answers that suspect and teacher share, where the right answer is known.

Right answers have one cause for everybody; the same wrong answer to the same question seldom has two. Only prompts that
the suspect got wrong count, and the teacher must share more of its mistakes than any control does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatch.compare.derivation import grouped, sign_flip_p

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_CHOICE = re.compile(r"(?<![A-Za-z])([A-J])(?![A-Za-z'])")
_N_SHORT = 200


@dataclass(frozen=True, slots=True)
class Mistakes:
    """How often suspect and teacher give the same wrong answer; rates are of the prompts the suspect got wrong."""

    n_wrong: int
    shared: float
    best_shared: float
    best_control: str
    rank_p: float
    permutation_p: float


def final_answer(text: str, expected: str) -> str:
    """What a text answers, read as the expected answer is written: the last number, the last choice, or all of it.

    >>> final_answer("3 boxes of 4 make 12.", "14"), final_answer("So the answer is (C).", "B")
    ('12', 'C')
    """
    wanted = expected.strip()
    if _NUMBER.fullmatch(wanted):
        numbers = _NUMBER.findall(text)
        return _plain_number(numbers[-1]) if numbers else ""
    if re.fullmatch(r"[A-J]", wanted):
        choices = _CHOICE.findall(text)
        return choices[-1] if choices else ""
    folded = " ".join(re.findall(r"\w+", text.casefold()))
    return folded if len(folded) <= _N_SHORT else ""


def shared_mistakes(
    texts: Mapping[str, Sequence[str]],
    expected: Sequence[str | None],
    families: Mapping[str, str],
    *,
    suspect: str,
    teacher: str,
    seed: int,
) -> Mistakes | None:
    """Compare wrong answers prompt by prompt; None where nothing is expected or the suspect made no mistake.

    Args:
        texts: canonical answers by model, in the order of `expected`, which is None where no answer is known.
    """
    known = [at for at, want in enumerate(expected) if want]
    given = {
        model: [final_answer(rows[at], expected[at] or "") for at in known]
        for model, rows in texts.items()
        if model in families or model in (suspect, teacher)
    }
    right = [final_answer(expected[at] or "", expected[at] or "") for at in known]
    wrong = [n for n, answer in enumerate(given[suspect]) if answer and answer != right[n]]
    if not wrong or not families:
        return None
    alike = {
        model: np.array([float(answers[n] == given[suspect][n]) for n in wrong])
        for model, answers in given.items()
        if model != suspect
    }
    rates = {model: float(same.mean()) for model, same in alike.items() if model in families}
    best = max(sorted(rates), key=lambda model: rates[model])
    shared = float(alike[teacher].mean())
    names = sorted(rates)
    groups = grouped(families, {model: n for n, model in enumerate(names)})
    n_reaching = sum(max(rates[names[m]] for m in members) >= shared for members in groups.values())
    gaps = np.stack([alike[teacher] - alike[model] for model in names])
    return Mistakes(
        n_wrong=len(wrong),
        shared=shared,
        best_shared=rates[best],
        best_control=best,
        rank_p=(1 + n_reaching) / (1 + len(groups)),
        permutation_p=sign_flip_p(gaps, seed=seed),
    )


def _plain_number(text: str) -> str:
    plain = text.replace(",", "")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
