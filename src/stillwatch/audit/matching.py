"""matching: which rows are copies of what a registry holds, and whether that is more than chance.

A row is a copy where two of its spans are found and they are a twentieth of all its spans, or where as many of its
bands are found as texts of its length need (`BAND_BARS`). Both bars rise where the filter is so full that random keys
would reach them once in a million rows. An answer of fewer than `MIN_WORDS` words is never judged.

A row is a lead; a finding is about the whole set. The null: somebody else answered. Two models that answer the same
prompt agree far more often than two that answer different ones, so a row whose prompt the registry knows has the rate
`NULL_SAME_PROMPT`, every other `NULL_OTHER`; both lie above what was measured on unrelated models
(`benchmarks/audit.md`). Where a control set is given, Fisher's exact test against it stands instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from stillwatch.audit.registry import MIN_WORDS, Registry
from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.winnow import Prints

Bools = npt.NDArray[np.bool_]

BAND_BARS = ((MIN_WORDS, 6), (20, 3), (40, 2))
"""From so many words on, so many bands of `N_BANDS` make a copy: short answers agree because there is little to say."""

MIN_SPANS, SPAN_SHARE = 2, 0.05
P_ROW = 1e-6
"""How often a row may be called a copy because of the filter alone."""

NULL_SAME_PROMPT, NULL_OTHER = 0.03, 2e-4
P_FINDING = 1e-3
"""The largest p of a finding, over all registries asked (Bonferroni)."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """A count of a total with its exact interval (Clopper and Pearson 1934, 95 %)."""

    n: int
    total: int

    @property
    def value(self) -> float:
        """n / total, 0 of nothing."""
        return self.n / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The exact interval of the probability behind the count."""
        if not self.total:
            return 0.0, 1.0
        tail = (1 - CONFIDENCE) / 2
        low = stats.beta.ppf(tail, self.n, self.total - self.n + 1) if self.n else 0.0
        high = stats.beta.ppf(1 - tail, self.n + 1, self.total - self.n) if self.n < self.total else 1.0
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Rows:
    """What was found about each row of a set, shape (n,): judged at all, a copy, its prompt known, its print."""

    judged: Bools
    copied: Bools
    asked: Bools
    prints: U64

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, in order."""
        nothing = np.zeros(0, np.bool_)
        parts = [Rows(nothing, nothing, nothing, np.zeros(0, np.uint64)), *parts]
        judged, copied, asked = (
            np.concatenate([getattr(one, n) for one in parts]) for n in ("judged", "copied", "asked")
        )
        return Rows(judged, copied, asked, np.concatenate([one.prints for one in parts]))


@dataclass(frozen=True, slots=True)
class Match:
    """A data set against one registry: the share of copies, and the probability of as many under the null."""

    registry: str
    n_rows: int
    share: Share
    n_too_short: int
    n_same_prompt: int
    n_distinct: int
    expected: float
    p_log10: float
    null: str
    smallest_share: float
    """The share from which on a finding would have been likely (9 in 10), had there been one."""


def match_rows(prints: Prints, registry: Registry, *, rate: float | None = None) -> Rows:
    """Judge the rows of a batch; `rate` is the filter's false positive rate, worked out where it is not given.

    Cost: one look into the filter a print, about 60 ns each.
    """
    held = registry.held
    rate = held.false_positive_rate() if rate is None else rate
    n_spans = np.diff(prints.offsets)
    found = np.concatenate([[0], np.cumsum(held.holds(prints.spans))])
    spans = found[prints.offsets[1:]] - found[prints.offsets[:-1]]
    bands = held.holds(prints.bands.reshape(-1)).reshape(prints.bands.shape).sum(axis=1)
    copied = (spans >= _needed(n_spans, rate, MIN_SPANS)) & (spans >= SPAN_SHARE * n_spans)
    for n_words, bar in BAND_BARS:
        enough = int(_needed(np.array([prints.bands.shape[1]]), rate, bar)[0])
        upper = min((n for n, _ in BAND_BARS if n > n_words), default=np.iinfo(np.int64).max)
        copied |= (prints.n_words >= n_words) & (prints.n_words < upper) & (bands >= enough)
    judged = prints.n_words >= MIN_WORDS
    # All bands of a text stand for it well enough to count it once.
    whole = np.bitwise_xor.reduce(prints.bands * (2 * np.arange(prints.bands.shape[1], dtype=np.uint64) + 1), axis=1)
    return Rows(judged, copied & judged, held.holds(prints.prompts), whole)


def _needed(n: I64, rate: float, least: int) -> I64:
    """The fewest hits of n looks that random keys reach with probability at most `P_ROW`, and at least `least`."""
    distinct, at = np.unique(n, return_inverse=True)
    bars: I64 = np.maximum(least, stats.binom.isf(P_ROW, distinct, rate).astype(np.int64) + 1)
    return bars[at]


def weigh_match(registry: Registry, rows: Rows, *, control: Rows | None = None, n_registries: int = 1) -> Match:
    """The copies among rows against the null; equal rows are shown each and tested once."""
    judged, copied, asked = rows.judged, rows.copied, rows.asked
    prints, first = np.unique(rows.prints[judged], return_index=True)
    once_copied, once_asked = copied[judged][first], asked[judged][first]
    n, n_copied, n_asked = len(prints), int(once_copied.sum()), int(once_asked.sum())
    alpha = P_FINDING / n_registries
    if control is not None and control.judged.any():
        _, other = np.unique(control.prints[control.judged], return_index=True)
        n_control, k_control = len(other), int(control.copied[control.judged][other].sum())
        expected = n * k_control / n_control
        p = fisher(n_copied, n, k_control, n_control)
        bar = int(np.argmax(fisher(np.arange(n + 2), n, k_control, n_control) <= alpha))
        null = f"control: {k_control} of {n_control} distinct rows"
    else:
        expected = n_asked * NULL_SAME_PROMPT + (n - n_asked) * NULL_OTHER
        p = tail(n_copied, n_asked, n - n_asked)
        bar = int(stats.poisson.isf(alpha, expected)) + 1
        null = f"{NULL_SAME_PROMPT:g} of rows with a known prompt, {NULL_OTHER:g} of others"
    return Match(
        registry=registry.about.name, n_rows=len(judged), share=Share(int(copied.sum()), int(judged.sum())),
        n_too_short=int((~judged).sum()), n_same_prompt=int(asked.sum()), n_distinct=n_copied, expected=expected,
        p_log10=log10(float(p)), null=null, smallest_share=smallest_share(n, expected, bar),
    )  # fmt: skip


def is_finding(match: Match, *, n_registries: int) -> bool:
    """Whether there are more copies than the null allows, among so many registries asked."""
    return match.share.n > 0 and match.p_log10 <= math.log10(P_FINDING / n_registries)


def tail(n_found: int, n_same: int, n_other: int) -> float:
    """P(X + Y >= n_found), X of `n_same` rows at `NULL_SAME_PROMPT`, Y of `n_other` at `NULL_OTHER`; exact."""
    if n_found <= 0:
        return 1.0
    below = np.arange(n_found)
    same = stats.binom.pmf(below, n_same, NULL_SAME_PROMPT)
    beyond = stats.binom.sf(n_found - 1 - below, n_other, NULL_OTHER)
    return float(stats.binom.sf(n_found - 1, n_same, NULL_SAME_PROMPT) + same @ beyond)


def fisher(k: Any, n: int, k_control: int, n_control: int) -> Any:
    """P(K >= k) of k copies among n rows, were the control's k_control of n_control alike (Fisher's exact test)."""
    # Above n there is nothing: the p of what cannot happen is 0, so a bar is always found.
    return np.where(np.asarray(k) > n, 0.0, stats.hypergeom.sf(np.asarray(k) - 1, n + n_control, k + k_control, n))


def smallest_share(n: int, expected: float, bar: int) -> float:
    """The smallest share of copies of n rows that reaches `bar` copies with probability 0.9 (Poisson), at most 1."""
    if not n:
        return 1.0
    return float(min(1.0, max(0.0, stats.gamma.ppf(0.9, max(bar, 1)) - expected) / n))


def log10(p: float) -> float:
    """log10 of a probability, never below what a double can hold."""
    return math.log10(max(p, 5e-324))


def places(batch: pa.RecordBatch, copied: Bools) -> list[tuple[int, int]]:
    """The (file, row) of the rows of a batch that are copies."""
    at = np.flatnonzero(copied)
    files, rows = (batch.column(name).to_numpy()[at].tolist() for name in ("file", "row"))
    return list(zip(files, rows, strict=True))
