"""marks: which of our keys the answers of a data set carry: all rows as one text, by the detector of marks.

A single row says next to nothing of a mark, so none is judged. The distinct (window, token) pairs of all answers are
pooled, each counted once however many rows repeat it, and tested by `watermark/detector.py`: exact p, unused keys
scored on the same pairs, one family of tests. Above `MOST_PAIRS` a hashed sample of the pairs stands for all of them:
which ones it holds depends on the pair alone, so the p-values stay exact and only power is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from stillwatch.audit.findings import Finding
from stillwatch.audit.matching import P_FINDING
from stillwatch.kernels.columns import U64
from stillwatch.keys import Secret
from stillwatch.records import Evidence
from stillwatch.watermark.detector import Finding as Tested
from stillwatch.watermark.detector import Suspect, detect
from stillwatch.watermark.grams import Document, Grams, grams_of
from stillwatch.watermark.keys import MarkKey
from stillwatch.watermark.rows import evidence_rows, plain
from stillwatch.watermark.schemes import Scheme
from stillwatch.watermark.texts import Encode

MOST_PAIRS = 1 << 22
"""Distinct pairs a tokenizer's pool keeps: 32 MiB, and about ten seconds a thousand keys."""

MOST_TESTS_TOLD = 1000
"""Tests written out one by one in the detail of a finding."""

_ANSWERS_AT_ONCE = 1024
_AT_LEAST_NEW = 1 << 18
_ALL = 1 << 64
_VERDICTS = {"found": "finding", "not found": "nothing", "cannot tell": "cannot_tell"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSearch:
    """Which marks to look for: what `stillwatch mark detect` is told, with keys a `KeyRing` has handed out."""

    scheme: Scheme
    keys: Sequence[MarkKey]
    routing: Secret
    decoys: U64
    readers: Mapping[str, Encode]
    """Tokenizers by name; each reads all answers and counts as tests of its own."""

    threads: int = 2


@dataclass(slots=True)
class Pool:
    """The distinct pairs of all answers as one tokenizer reads them; the same in whatever order rows come."""

    encode: Encode
    width: int
    most: int = MOST_PAIRS
    below: int = _ALL
    """Pairs whose hash is below this are kept."""

    n_tokens: int = 0
    n_in_prompt: int = 0
    n_answers: int = 0
    _n_seen: int = 0
    _packed: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    _new: list[U64] = field(default_factory=list)
    _n_new: int = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take in the answers of some rows; windows that stand in a row's own prompt are left out."""
        for at in range(0, rows.num_rows, _ANSWERS_AT_ONCE):
            part = rows.slice(at, _ANSWERS_AT_ONCE)
            prompts, answers = part.column("prompt").to_pylist(), part.column("answer").to_pylist()
            asked = [(answer, prompt or "") for answer, prompt in zip(answers, prompts, strict=True) if answer]
            if asked:
                read = self.encode([text for pair in zip(*asked, strict=True) for text in pair])
                self._take(list(map(Document, read[: len(asked)], read[len(asked) :])))

    def grams(self) -> Grams:
        """The pool as the detector reads it."""
        self._settle()
        return Grams(self._packed, self.width, self.n_tokens, self._n_seen - len(self._packed), self.n_in_prompt)

    def _take(self, documents: list[Document]) -> None:
        new = grams_of(documents, width=self.width)
        self.n_answers += len(documents)
        self.n_tokens, self.n_in_prompt = self.n_tokens + new.n_tokens, self.n_in_prompt + new.n_in_prompt
        self._n_seen += len(new) + new.n_repeated
        self._new.append(self._kept(new.packed))
        self._n_new += len(self._new[-1])
        # As many new ones as there are old, at least: so no pair is sorted more than a few times.
        if self._n_new > max(len(self._packed), _AT_LEAST_NEW):
            self._settle()

    def _settle(self) -> None:
        """Take the pairs that came in since into the pool, each once."""
        every = np.sort(np.concatenate([self._packed, *self._new]))
        self._packed = every[np.insert(every[1:] != every[:-1], 0, True)] if len(every) else every
        self._new, self._n_new = [], 0
        while len(self._packed) > self.most:
            self.below //= 2
            self._packed = self._kept(self._packed)

    def _kept(self, packed: U64) -> U64:
        return packed if self.below == _ALL else packed[_hashed(packed) < np.uint64(self.below)]


def look_for_marks(
    search: MarkSearch,
    pools: Mapping[str, Pool],
    *,
    subject: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Test the pools, as one family: a finding for each key that is found, and one for all others together.

    Cost: keys and decoys times pairs, 2 to 15 ns each, over `search.threads`.
    """
    suspects = [Suspect(name=subject, tokenizer=name, grams=pool.grams()) for name, pool in pools.items()]
    tested = detect(
        suspects, search.keys, scheme=search.scheme, routing=search.routing, decoys=search.decoys, alpha=P_FINDING,
        threads=search.threads, on_progress=on_progress,
    )  # fmt: skip
    of = {one.tokenizer: one for one in suspects}
    table = evidence_rows(tested, suspects, scheme=search.scheme, alpha=P_FINDING).to_pylist()
    told = [(one, plain(one, of[one.tokenizer]), Evidence(**row)) for one, row in zip(tested, table, strict=True)]
    found = [
        Finding("marks", "finding", _says(one, pools, search.scheme, len(tested)), values, evidence)
        for one, values, evidence in told
        if one.verdict == "found"
    ]
    rest = sorted((each for each in told if each[0].verdict != "found"), key=lambda each: each[0].p_log10)
    return found + ([_others(rest, pools, search.scheme, len(tested))] if rest else [])


def _others(
    rest: Sequence[tuple[Tested, dict[str, Any], Evidence]], pools: Mapping[str, Pool], scheme: Scheme, n_tests: int
) -> Finding:
    """The keys that are not found, by the one that comes nearest; that something cannot be told comes first."""
    doubtful = [each for each in rest if each[0].verdict == "cannot tell"]
    one, _, evidence = (doubtful or rest)[0]
    detail = {"n_tests": n_tests, "n_not_found": len(rest), "n_cannot_tell": len(doubtful)}
    tests = {"tests": [values for _, values, _ in rest[:MOST_TESTS_TOLD]]}
    if not one.n:
        says = "Marks: cannot tell, the answers are too short to hold a window of the mark."
    elif doubtful:
        broken = "their null does not hold on these texts" if one.n_decoys else "there are no unused keys beside them"
        says = f"Marks: {len(doubtful)} of {n_tests} tests cannot be judged, {broken}. {_figures(one, pools, scheme)}"
    else:
        least = "no effect" if one.least_effect is None else f"an effect of {one.least_effect:.4f} a pair"
        says = f"No mark of {len(rest)} tested. Nearest: {_figures(one, pools, scheme)} {least} would have been found."
    return Finding("marks", _VERDICTS[one.verdict], says, detail | tests, evidence)


def _says(one: Tested, pools: Mapping[str, Pool], scheme: Scheme, n_tests: int) -> str:
    return (
        f"The answers carry the mark of {one.key.label.level} key {one.key.key_id} (epoch {one.key.label.epoch}): "
        f"{_figures(one, pools, scheme)} Among {n_tests} tests p = {_power(one.holm_log10)} (Holm). Whose key it is "
        "says mark detect --name-accounts; who copied it, nothing here."
    )


def _figures(one: Tested, pools: Mapping[str, Pool], scheme: Scheme) -> str:
    pool = pools[one.tokenizer]
    unmarked = 1.0 if scheme.name == "gumbel" else scheme.gamma
    sampled = "" if pool.below == _ALL else f", a sample of {pool.below / _ALL:.3g} of all"
    return (
        f"p = {_power(one.p_log10)}, {one.n_decoys_as_high} of {one.n_decoys:,} unused keys score as high; "
        f"{one.effect:.4f} a pair ({one.lo:.4f} to {one.hi:.4f}; unmarked {unmarked:g}) over {one.n:,} distinct pairs"
        f"{sampled} of {pool.n_answers:,} answers."
    )


def _power(p_log10: float) -> str:
    """A p-value of any size: 0.25, 3.1e-05, 2.4e-12345."""
    power = math.floor(p_log10)
    return f"{10**p_log10:.3g}" if p_log10 > -4 else f"{10 ** (p_log10 - power):.1f}e{power}"


def _hashed(packed: U64) -> U64:
    """Each pair mixed over 64 bits (the finaliser of SplitMix64: Steele, Lea and Flood 2014)."""
    z = packed + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)
