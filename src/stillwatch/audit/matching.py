"""matching: which answers are copies of what a registry holds, and whether that is more than chance.

An answer is a copy where two of its spans are found and they are a twentieth of all its spans, or where as many of its
bands are found as texts of its length need (`BAND_BARS`). Both bars rise where the filter is so full that random keys
would reach them once in a million answers. The beginning that two plain texts share as a question counts for nothing
(`openings`). An answer of fewer than `MIN_WORDS` words is never judged. A short one that stands in several rows which
are otherwise different (`STOCK_ROWS`) is a stock phrase and no copy.

Every answer of a conversation is judged on its own, whatever stands before or after it. The share is of rows: a row is
a copy where one of its answers is. The test is of distinct answers.

A row is a lead; a finding is about the whole set. The null: somebody else answered. Two models that answer the same
prompt agree far more often than two that answer different ones, and whether the prompts are the same cannot be seen
where an answer has none, or has it in another template. So an answer whose prompt the registry knows counts where it is
a copy, at the rate `NULL_SAME_PROMPT`; any other only where it is a copy nearly whole (`WHOLE_SPANS`, `WHOLE_BANDS`),
at the rate `NULL_WHOLE`, or at the former where a plain text begins as one held does. Both lie above what was measured
on unrelated models that answered the same prompts, where prompts are told from answers (`benchmarks/audit.md`). Where a
control set has answers of the same kind, it stands instead (Fisher's exact test). More copies than `NULL_OTHER` allows,
the rate for other prompts, are a lead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from stillwatch.audit.openings import bands_beyond, begin_alike, shared_openings
from stillwatch.audit.registry import MIN_WORDS, Registry
from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.winnow import Prints

Bools = npt.NDArray[np.bool_]

BAND_BARS = ((MIN_WORDS, 6), (20, 3), (40, 2))
"""From so many words on, so many bands of `N_BANDS` make a copy: short answers agree because there is little to say."""

MIN_SPANS, SPAN_SHARE = 2, 0.05
_ODD = np.uint64(0x9E3779B97F4A7C15)
P_ROW = 1e-6
"""How often an answer may be called a copy because of the filter alone."""

WHOLE_SPANS, WHOLE_BANDS = 0.5, ((20, 16), (40, 4))
"""A copy is nearly whole where two spans and this share of all are found, or from so many words on so many bands."""

STOCK_ROWS, STOCK_WORDS = 3, 40
"""An answer of fewer words that stands in so many different rows is said by everybody, such as a closing courtesy."""

NULL_SAME_PROMPT, NULL_WHOLE, NULL_OTHER = 0.03, 1e-3, 2e-4
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
    """What was found about each answer of a set, shape (n,), in the order of its rows.

    `first`: it begins a row; `judged`, a copy, nearly whole, its prompt known, a plain text that begins as one held
    does, of few words; what stands for the answer and for its prompt.
    """

    first: Bools
    judged: Bools
    copied: Bools
    whole: Bools
    asked: Bools
    begun: Bools
    short: Bools
    prints: U64
    prompts: U64

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The answers of all parts, in order."""
        none, nothing = np.zeros(0, np.bool_), np.zeros(0, np.uint64)
        parts = [Rows(none, none, none, none, none, none, none, nothing, nothing), *parts]
        return Rows(*(np.concatenate([getattr(one, each.name) for one in parts]) for each in fields(cls)))

    def once(self) -> Rows:
        """The judged answers, equal ones once."""
        _, first = np.unique(self.prints[self.judged], return_index=True)
        return Rows(*(getattr(self, each.name)[self.judged][first] for each in fields(self)))

    def by_row(self, of: Bools) -> Bools:
        """Whether `of`, shape (n,), holds of any answer of each row, shape (n_rows,)."""
        return np.logical_or.reduceat(of, np.flatnonzero(self.first)) if len(of) else of

    def without_stock(self) -> Rows:
        """The same, where short copies that stand in `STOCK_ROWS` rows or more, not equal as a whole, are none."""
        at = np.flatnonzero(self.copied & self.short)
        if len(at) < STOCK_ROWS:
            return self
        begins = np.flatnonzero(self.first)
        # A sum over the row is the same for equal rows.
        rows = np.add.reduceat(self.prints * _ODD + self.prompts, begins)[np.searchsorted(begins, at, "right") - 1]
        seen = np.unique(np.stack([self.prints[at], rows], axis=1), axis=0)[:, 0]
        texts, n_rows = np.unique(seen, return_counts=True)
        kept = ~(self.short & np.isin(self.prints, texts[n_rows >= STOCK_ROWS]))
        return replace(self, copied=self.copied & kept, whole=self.whole & kept)


@dataclass(frozen=True, slots=True)
class Match:
    """A data set against one registry: the share of copies, and the probability of as many under the null."""

    registry: str
    n_rows: int
    share: Share
    """Rows that hold a copy, of the rows with an answer that was judged."""

    n_too_short: int
    n_answers: int
    """Answers judged, one a row or, in conversations, several."""

    n_same_prompt: int
    n_distinct: int
    """Distinct copies that count against the null."""

    expected: float
    p_log10: float
    p_lead_log10: float
    """Of as many distinct copies, were the rows whose prompt is not known answers to other prompts."""

    null: str
    smallest_share: float
    """The share from which on a finding would have been likely (9 in 10), had there been one."""


def match_rows(prints: Prints, registry: Registry, *, first: Bools | None = None, rate: float | None = None) -> Rows:
    """Judge the answers of a batch; `first` (n,) says which begin a row, all where it is not given.

    `rate` is the filter's false positive rate, worked out where it is not given.

    Cost: one look into the filter a print, about 60 ns each.
    """
    held = registry.held
    rate = held.false_positive_rate() if rate is None else rate
    n_spans = np.diff(prints.offsets)
    hits = held.holds(prints.spans)
    found = np.concatenate([[0], np.cumsum(hits)])
    begun = begin_alike(prints, held)
    n_shared = shared_openings(prints, held, hits, begun)
    spans = found[prints.offsets[1:]] - found[prints.offsets[:-1]] - n_shared
    bands = held.holds(prints.bands.reshape(-1)).reshape(prints.bands.shape).sum(axis=1)
    bands[bands <= bands_beyond(prints, n_shared, P_ROW)] = 0
    enough = spans >= _needed(n_spans, rate, MIN_SPANS)
    copied = enough & (spans >= SPAN_SHARE * n_spans) | _agree(prints, bands, BAND_BARS, rate)
    whole = enough & (spans >= WHOLE_SPANS * n_spans) | _agree(prints, bands, WHOLE_BANDS, rate)
    judged = prints.n_words >= MIN_WORDS
    # All bands of a text stand for it well enough to count it once.
    odd = 2 * np.arange(prints.bands.shape[1], dtype=np.uint64) + 1
    stands_for = np.bitwise_xor.reduce(prints.bands * odd, axis=1)
    return Rows(
        np.ones(len(judged), np.bool_) if first is None else first, judged, copied & judged, whole & copied & judged,
        held.holds(prints.prompts), begun, prints.n_words < STOCK_WORDS, stands_for, prints.prompts,
    )  # fmt: skip


def _agree(prints: Prints, bands: I64, bars: Sequence[tuple[int, int]], rate: float) -> Bools:
    """The rows of which as many bands are found as texts of their length need."""
    agree = np.zeros(len(bands), np.bool_)
    for n_words, bar in bars:
        enough = int(_needed(np.array([prints.bands.shape[1]]), rate, bar)[0])
        upper = min((n for n, _ in bars if n > n_words), default=np.iinfo(np.int64).max)
        agree |= (prints.n_words >= n_words) & (prints.n_words < upper) & (bands >= enough)
    return agree


def _needed(n: I64, rate: float, least: int) -> I64:
    """The fewest hits of n looks that random keys reach with probability at most `P_ROW`, and at least `least`."""
    distinct, at = np.unique(n, return_inverse=True)
    bars: I64 = np.maximum(least, stats.binom.isf(P_ROW, distinct, rate).astype(np.int64) + 1)
    return bars[at]


class _Kind(NamedTuple):
    """Distinct rows of one kind of `_KINDS`: how many, how many count, the law of that number, its mean."""

    n: int
    n_counted: int
    law: Any
    expected: float
    control: tuple[int, int] | None


def weigh_match(registry: Registry, rows: Rows, *, control: Rows | None = None, n_registries: int = 1) -> Match:
    """The copies among rows against the null; equal answers are shown each and tested once."""
    rows, control = rows.without_stock(), None if control is None else control.without_stock()
    judged, copied = rows.by_row(rows.judged), rows.by_row(rows.copied)
    once, others = rows.once(), None if control is None else control.once()
    kinds = [_kind(once, others, *kind) for kind in _KINDS]
    n, n_counted, expected = len(once.judged), sum(one.n_counted for one in kinds), sum(one.expected for one in kinds)
    p = beyond(n_counted, *(one.law for one in kinds))
    n_asked, n_copied = kinds[0].n + kinds[1].n, int(once.copied.sum())
    other = stats.binom(n_asked, NULL_SAME_PROMPT), stats.binom(n - n_asked, NULL_OTHER)
    # A control of the very kind of the rows has answered what a lead would ask.
    lead = p if all(one.control or not one.n for one in kinds) else beyond(n_copied, *other)
    stood = [one.control for one in kinds if one.control]
    alpha = P_FINDING / n_registries
    if stood:
        n_control, k_control = (sum(parts) for parts in zip(*stood, strict=True))
        bar = int(np.argmax(fisher(np.arange(n + 2), n, k_control, n_control) <= alpha))
        null = f"control: {k_control} of {n_control} distinct answers"
    else:
        bar = int(stats.poisson.isf(alpha, expected)) + 1
        null = (
            f"{NULL_SAME_PROMPT:g} of answers to a known prompt and of texts that begin as one held does, "
            f"{NULL_WHOLE:g} of others; all but the first count if nearly whole"
        )
    share = Share(int(copied.sum()), int(judged.sum()))
    return Match(
        registry=registry.about.name, n_rows=len(judged), share=share, n_too_short=len(judged) - share.total,
        n_answers=int(rows.judged.sum()), n_same_prompt=int(rows.asked.sum()), n_distinct=n_counted, expected=expected,
        p_log10=log10(p), p_lead_log10=log10(lead), null=null,
        smallest_share=smallest_share(min(n, share.total), expected, bar),
    )  # fmt: skip


_KINDS: tuple[tuple[Callable[[Rows], Bools], str, float], ...] = (
    (lambda rows: rows.asked, "copied", NULL_SAME_PROMPT),
    (lambda rows: rows.begun & ~rows.asked, "whole", NULL_SAME_PROMPT),
    (lambda rows: ~(rows.begun | rows.asked), "whole", NULL_WHOLE),
)
"""Which answers, what of them counts and at what rate: their prompt is known; they begin as a text held does, perhaps
with the same question; nothing is known of their prompts."""


def _kind(once: Rows, control: Rows | None, of: Callable[[Rows], Bools], counts: str, rate: float) -> _Kind:
    """The rows of a kind, with the control's rows of that kind or else the fixed rate."""
    mine = of(once)
    n, k = int(mine.sum()), int(once.copied[mine].sum())
    alike = None if control is None else of(control)
    if control is not None and alike is not None and n and alike.any():
        n_control, k_control = int(alike.sum()), int(control.copied[alike].sum())
        law = stats.hypergeom(n + n_control, k + k_control, n)
        return _Kind(n, k, law, n * k_control / n_control, (n_control, k_control))
    return _Kind(n, int(getattr(once, counts)[mine].sum()), stats.binom(n, rate), n * rate, None)


def is_finding(match: Match, *, n_registries: int) -> bool:
    """Whether there are more copies than the null allows, among so many registries asked."""
    return match.share.n > 0 and match.p_log10 <= math.log10(P_FINDING / n_registries)


def is_lead(match: Match, *, n_registries: int) -> bool:
    """Whether there are more copies than answers to other prompts allow, though not more than to the same ones."""
    bar = math.log10(P_FINDING / n_registries)
    return match.share.n > 0 and match.p_log10 > bar and match.p_lead_log10 <= bar


def beyond(n_found: int, *laws: Any) -> float:
    """P(sum >= n_found) of independent counts, frozen laws of SciPy; exact."""
    if n_found <= 0:
        return 1.0
    at = np.arange(n_found)
    below, beyond_ = np.eye(1, n_found)[0], 0.0
    for law in laws:
        # What lay below the bar so far and is lifted to it by this count.
        beyond_ += float(below @ law.sf(n_found - 1 - at))
        below = np.convolve(below, law.pmf(at))[:n_found]
    return beyond_


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


def begins(batch: pa.RecordBatch) -> Bools:
    """Which answers of a batch begin a row, shape (n,)."""
    return np.asarray(batch.column("first").to_numpy(zero_copy_only=False))


def places(batch: pa.RecordBatch, at: I64) -> list[tuple[int, int]]:
    """The (file, row) of the answers of a batch that stand at `at`."""
    files, rows = (batch.column(name).to_numpy()[at].tolist() for name in ("file", "row"))
    return list(zip(files, rows, strict=True))
