"""views: how alike two models answer the same prompt, seen in two ways, weighted by what is rare.

- `agreement`: the words of the opening, as runs of one to four, on the same prompt;
- `template`: the opening with every word masked that is not common, as runs of three to five.

Both are taken beyond chance: less the likeness of answers to different prompts. Openings, because answers part ways
as they go on: on public answers the first forty tokens told relatives from strangers better than two hundred. A run
that many control families also wrote for this prompt says little, so each counts with the logarithm of families over
families that have it, which takes out the prompt itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Likeness = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

VIEWS = {"agreement": (1, 4), "template": (3, 5)}
"""Each view with the shortest and the longest run of tokens it counts."""

N_TOKENS = 40
"""Tokens of an answer that are looked at."""

N_COMMON = 150
"""Tokens a template keeps: the most widespread over all answers; a stop list for any language, made from the data."""

N_OPENING_CHARACTERS = 1200

_TOKEN = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\d_]+|\d+|\n|[^\w\s]|_+"
)
"""A word, a number, a mark, a line end, or one character of a script that sets no spaces."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Tokens:
    """Numbers of tokens, and which of them a template keeps.

    Made from the answers of teachers and controls alone, so that nothing the suspect says moves what is compared.
    """

    def __init__(self, reference: Iterable[str]) -> None:
        self._numbers: dict[str, int] = {}
        spread: Counter[str] = Counter()
        for text in reference:
            spread.update(set(_tokens(text)))
        kept = sorted(spread.items(), key=lambda item: (-item[1], item[0]))[:N_COMMON]
        self._kept = {token for token, _ in kept}

    def row(self, text: str, *, view: str) -> Numbers:
        """A canonical answer's opening as token numbers; in a template, words that are not common are all one."""
        tokens = _tokens(text)
        if view == "template":
            tokens = [token if token in self._kept or not token[0].isalnum() else _masked(token) for token in tokens]
        numbers = self._numbers
        return np.array([numbers.setdefault(token, len(numbers)) for token in tokens], np.int64)

    def runs(self, text: str, *, view: str) -> Keys:
        """The runs of a canonical answer in one view. Cost: some 50 microseconds."""
        return runs(self.row(text, view=view), *VIEWS[view])


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text[:N_OPENING_CHARACTERS].casefold())[:N_TOKENS]


def _masked(token: str) -> str:
    return "\0number" if token[0].isdigit() else "\0word"


def runs(row: Numbers, shortest: int, longest: int) -> Keys:
    """The distinct runs of tokens of a row as sorted 64-bit keys; a row shorter than `shortest` has none."""
    found = []
    key = np.zeros(len(row), np.uint64)
    tokens = (row + 1).astype(np.uint64)
    for length in range(1, min(longest, len(row)) + 1):
        key = (key[: len(row) - length + 1] + tokens[length - 1 :]) * _MIX
        key ^= key >> np.uint64(29)
        if length >= shortest:
            found.append(key + np.uint64(length))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def likeness(shown: Sequence[Sequence[Keys]], kin: Sequence[str], *, start: int = 0) -> Likeness:
    """How alike each two models are on each prompt beyond another prompt: (models, models, prompts), -1 to 1.

    The cosine of the two sets of runs, less the same cosine with one of the answers taken from the prompt before, so
    that a wrapper, a greeting or a house style that stands on every answer does not count as agreement. Each run is
    weighted by log((1 + F) / (1 + f)), where f of the F families wrote it for this prompt (Robertson and Sparck Jones
    1976, over models instead of documents).

    Args:
        shown: for each model the runs of its answers, prompt by prompt in one order.
        kin: the family of every model, suspect and teachers included: the weights must not favour those left out.
        start: the first prompt to weigh; the result has those from it on. Nothing depends on later prompts.

    Cost: about 3 milliseconds a prompt for 30 models.
    """
    names = sorted(set(kin))
    family = np.array([names.index(one) for one in kin])
    n_prompts = len(shown[0])
    out = np.zeros((len(shown), len(shown), n_prompts - start), np.float32)
    nothing = [np.zeros(0, np.uint64)] * len(shown)
    for at in range(start, n_prompts):
        before = [rows[at - 1] for rows in shown] if at else nothing
        out[:, :, at - start] = _beyond([rows[at] for rows in shown], before, family, len(names))
    return out


def _beyond(here: Sequence[Keys], there: Sequence[Keys], family: Numbers, n_families: int) -> Likeness:
    """Cosines of the answers to this prompt, less the mean of both ways to pair them with another prompt's."""
    n = len(here)
    known, column = np.unique(np.concatenate([*here, *there]), return_inverse=True)
    owner = np.repeat(np.arange(2 * n), [len(one) for one in (*here, *there)])
    first = owner < n
    pairs = np.unique(column[first] * np.int64(n_families) + family[owner[first]])
    spread = np.bincount(pairs // n_families, minlength=len(known))
    weight = np.sqrt(np.log((1 + n_families) / (1 + spread))).astype(np.float32)
    has = np.zeros((2 * n, len(known)), np.float32)
    has[owner, column] = weight[column]
    norm = np.sqrt(np.square(has).sum(axis=1, keepdims=True))
    has /= np.where(norm > 0, norm, 1)
    across = has[:n] @ has[n:].T
    return np.asarray(has[:n] @ has[:n].T - (across + across.T) / 2, np.float32)
