"""Made-up models: families with habits of their own, students of one of them, and hosts that add white space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from stillwatch.suspects.answers import Answers

SHARED = "the a of to in and is it that this for with on as are be can you we they from or by an at not".split()
N_OWN = 400
_SHARED = np.array(SHARED)


class Model:
    """Answers prompts in its own words: the same prompt and the same draw give the same answer."""

    def __init__(self, seed: int, *, own: float = 0.5) -> None:
        rng = np.random.default_rng(seed)
        self._words = np.array([f"w{n}" for n in rng.integers(0, 4000, N_OWN)])
        self._openers = [" ".join(rng.choice(SHARED, 3)) for _ in range(6)]
        self._seed, self._own = seed, own

    def answer(self, n_prompt: int, *, draw: int = 0, noise: float = 0.2) -> str:
        """An answer to a prompt; `noise` is the share of words that differ from draw to draw."""
        fixed = np.random.default_rng([self._seed, n_prompt])
        opener = self._openers[int(fixed.integers(len(self._openers)))]
        own = self._words[fixed.integers(N_OWN, size=30)]
        words = np.where(fixed.random(30) < self._own, own, _SHARED[fixed.integers(len(SHARED), size=30)])
        again = np.random.default_rng([self._seed, n_prompt, draw, 7])
        words = np.where(again.random(30) < noise, self._words[again.integers(N_OWN, size=30)], words)
        return f"{opener} {' '.join(words)}.".capitalize()


def prompts(n: int) -> list[str]:
    """So many prompts."""
    return [f"Question {at}: what about topic {at * 7919 % 1000}?" for at in range(n)]


def answers(name: str, texts: Sequence[str], *, family: str | None = None) -> Answers:
    """Texts as the answers of a model to `prompts`."""
    return Answers(
        name=name,
        family=family or name,
        outputs={prompt: (text,) for prompt, text in zip(prompts(len(texts)), texts, strict=True)},
        source=f"{name:0<64}"[:64],
    )


@cache
def spoken(seed: int, n: int, *, draw: int = 0) -> tuple[str, ...]:
    """The answers of the model of this seed."""
    model = Model(seed)
    return tuple(model.answer(at, draw=draw) for at in range(n))


def student(seed: int, teacher: int, n: int, *, share: float) -> list[str]:
    """A model of its own that answers as the teacher would on a share of the prompts."""
    own, other = Model(seed), Model(teacher)
    learned = np.random.default_rng(seed).random(n) < share
    return [(other if learned[at] else own).answer(at, draw=3) for at in range(n)]


def controls(n: int, *, n_families: int = 14) -> list[Answers]:
    """Unrelated models, one in three with a sibling of its family."""
    found = []
    for at in range(n_families):
        found.append(answers(f"control-{at}", spoken(100 + at, n), family=f"family-{at}"))
        if at % 3 == 0:
            found.append(answers(f"control-{at}b", spoken(100 + at, n, draw=1), family=f"family-{at}"))
    return found
