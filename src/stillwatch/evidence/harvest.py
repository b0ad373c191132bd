"""harvest: what the pooled traffic of a group shows beside its peers: common work, and whether it serves training.

Content tests run on groups, pooled: one light account never shows enough. That its members work alike speaks for one
operator; only what they ask for, and that they never repeat one another, speaks for a harvest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stillwatch.detect.membership import enriched_hubs
from stillwatch.detect.population import Population
from stillwatch.evidence.capabilities import ELICITING
from stillwatch.evidence.ranks import Ranking, rank_units
from stillwatch.evidence.reading import Reading
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.evalues import mean_e_log2, too_few_e_log2
from stillwatch.kernels.rows import column_sums, holding
from stillwatch.kernels.tallies import repeats

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_PROMPTS = 8
"""Prompts an account must have shown before a share of them is a score."""

RANK_NULL = "normal-scores-among-peers-with-kinship/1"
RANK_H1 = "the group's units lie 0.5, 1, 1.5 or 2 standard deviations above their peers, in equal parts"
RANK_H0 = "the group's units rank among their peers as units that meet at any one hub do"


def ranked(
    signal: str,
    ranking: Ranking | None,
    detail: dict[str, object],
    *,
    family: str = "content",
    question: Question = "harvest",
) -> Finding | None:
    """A ranking as a finding; None stays None."""
    if ranking is None:
        return None
    return Finding(
        signal=signal,
        family=family,
        question=question,
        statistic=ranking.inside,
        n=ranking.n_units,
        effect=ranking.inside - ranking.outside,
        lo=ranking.lo - ranking.outside,
        hi=ranking.hi - ranking.outside,
        null_id=RANK_NULL,
        e_log2=ranking.e_log2,
        h1=RANK_H1,
        h0=RANK_H0,
        detail=detail
        | {
            "median_inside": ranking.inside,
            "median_outside": ranking.outside,
            "mean_normal_score": ranking.mean,
            "kinship": ranking.kinship,
        },
    )


def mean_of_halves(signal: str, halves: list[Finding | None]) -> Finding | None:
    """Average the e-values of the two ways to split a group into choosers and tested."""
    told = [half for half in halves if half is not None]
    if not told:
        return None
    best = max(told, key=lambda half: half.n)
    e_log2 = mean_e_log2(np.array([half.e_log2 if half else -np.inf for half in halves]))
    values = {name: getattr(best, name) for name in Finding.__slots__} | {"signal": signal, "e_log2": e_log2}
    return Finding(**values)


@dataclass(frozen=True, slots=True)
class WorkTemplates:
    """The group's exchanges are made of templates its units have in common, filled with payloads of their own.

    Templates are those one half of the units made its own; the score of an account of the other half is the share of
    its exchanges that show one. Fails on users of one product; to defeat it every account needs its own templates.
    """

    name: str = "work_templates"
    family: str = "content"
    question: Question = "operator"
    needs: tuple[str, ...] = ("prompt", "system_prompt")

    def weigh(self, subject: Subject) -> Finding | None:
        """Choose templates on one half of the units, rank the other half; swap; average."""
        coin = subject.population.coin
        return mean_of_halves(self.name, [self._half(subject, coin == side) for side in (False, True)])

    def _half(self, subject: Subject, choosers: Mask) -> Finding | None:
        population, traits, members = subject.population, subject.traits, subject.candidate.members
        content = traits.of_family("content") & traits.forming
        templates = enriched_hubs(traits, members[choosers[members]], within=content)
        if not templates.any():
            return None
        score = np.asarray(traits.by_hub[:, np.flatnonzero(templates)].max(axis=1).todense()).ravel()
        score = np.where(population.sampled >= FEWEST_PROMPTS, score, np.nan)
        return ranked(
            self.name,
            rank_units(subject, score, among=~choosers),
            {"templates": int(templates.sum())},
            question=self.question,
        )


@dataclass(frozen=True, slots=True)
class Partition:
    """A work list cut into shards: units that ought to repeat one another, as peers do, never repeat.

    Counted on the coordinated sample of distinct prompts. Null: repeats as among peers, with the overdispersion of
    random peer groups. Says nothing where peers never repeat either. To defeat it, send some prompts twice.
    """

    name: str = "partition"
    family: str = "content"
    question: Question = "harvest"
    needs: tuple[str, ...] = ("prompt",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Compare the repeats across the group's units with those of groups of peers of the same sizes."""
        if subject.reading is None:
            return None
        population = subject.population
        inside = np.zeros(len(population), bool)
        inside[subject.candidate.members] = True
        inside &= subject.eligible
        pools = _peer_pools(population, inside, subject.eligible & ~inside & ~subject.set_aside)
        if 2 * sum(n_here for _, n_here in pools) < int(inside.sum()) or not inside.any():
            return None
        draws = [_peer_draw(population, pools, turn) for turn in range(PARTITION_DRAWS)]
        owner, prompt = subject.reading.repeated
        *of_draws, observed = repeats(owner, prompt, [*draws, np.flatnonzero(inside)], subject.unit).tolist()
        counts = np.array(of_draws, dtype=np.float64)
        expected = float(counts.mean())
        if expected < 1:
            return None
        # Draws from one pool overlap; without replacement their variance falls short by the share drawn.
        drawn = sum(n_here for _, n_here in pools) / sum(len(pool) for pool, _ in pools)
        dispersion = max((float(counts.var(ddof=1)) / (1 - drawn) - expected) / expected**2, LEAST_DISPERSION)
        return Finding(
            signal=self.name,
            family=self.family,
            question=self.question,
            statistic=float(observed),
            n=len(np.unique(subject.unit[inside])),
            effect=observed / expected,
            lo=observed / max(float(counts.max()), 1.0),
            hi=observed / max(float(counts.min()), 1.0),
            null_id="peer-draws-negative-binomial/1",
            e_log2=too_few_e_log2(observed, expected, dispersion),
            h1="repeats across units are 1, 10 or 30 % of what peers show, in equal parts",
            h0="units repeat one another's prompts as groups of peers do",
            detail={"expected": expected, "dispersion": dispersion, "draws": PARTITION_DRAWS},
        )


LEAST_DISPERSION = 0.05
"""Smallest overdispersion of repeats: a dozen draws cannot show that there is less."""

PARTITION_DRAWS = 12
"""Groups of peers drawn to measure how often, and how unevenly, peers repeat one another."""


def _peer_pools(population: Population, inside: Mask, outsiders: Mask) -> list[tuple[Ints, int]]:
    """For each peer group with members: the outsiders to draw from and how many; without those that are too few."""
    levels, n_here = np.unique(population.peer[inside], return_counts=True)
    pools = [np.flatnonzero(outsiders & (population.peer == level)) for level in levels]
    return [(pool, int(n)) for pool, n in zip(pools, n_here, strict=True) if len(pool) >= 2 * n]


def _peer_draw(population: Population, pools: list[tuple[Ints, int]], turn: int) -> Ints:
    """As many outsiders of each peer group as there are members of it, in a keyed order of its own each turn."""
    account = population.profiles.column("account").to_numpy()
    drawn = []
    for pool, n_here in pools:
        scrambled = (account[pool] + np.uint64(turn)) * np.uint64(0x9E3779B97F4A7C15)
        scrambled ^= scrambled >> np.uint64(32)
        drawn.append(pool[np.argpartition(scrambled, n_here)[:n_here]])
    return np.concatenate(drawn)


@dataclass(frozen=True, slots=True)
class Elicitation:
    """The group asks for reasoning, for grading or for tool trajectories more often than its peers.

    Score: share of an account's prompts that match a pattern; one e-value for each of `capabilities.ELICITING`,
    averaged. Fails on classes told to show their work and on benchmark harnesses. To defeat it, ask in words the
    patterns do not know: then `contrast` remains.
    """

    name: str = "elicitation"
    family: str = "content"
    question: Question = "harvest"
    needs: tuple[str, ...] = ("prompt",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Rank each account's shares among its peers'; report the capability that ranks highest."""
        reading = subject.reading
        if reading is None:
            return None
        scores = {name: share_by_account(reading, reading.shows[name]) for name in ELICITING}
        rankings = {name: ranking for name in ELICITING if (ranking := rank_units(subject, scores[name])) is not None}
        if not rankings:
            return None
        name = max(rankings, key=lambda name: rankings[name].e_log2)
        bits = {f"{name}_bits": ranking.e_log2 for name, ranking in rankings.items()}
        mean = mean_e_log2(np.array(list(bits.values())))
        return ranked(self.name, replace(rankings[name], e_log2=mean), {"capability": name, **bits})


@dataclass(frozen=True, slots=True)
class Contrast:
    """Pooled n-grams: phrases one half of the group uses far more than peers recur in the other half.

    Phrases are word 3-grams (6 characters where a script has no spaces) in hashed buckets, chosen for the largest
    difference of mean account shares. Fails on any common topic; it shows likeness, not intent.
    """

    name: str = "contrast"
    family: str = "content"
    question: Question = "operator"
    needs: tuple[str, ...] = ("prompt",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Choose phrases on one half of the units, rank the other half; swap; average."""
        if subject.reading is None:
            return None
        return mean_of_halves(self.name, [self._half(subject, subject.reading, side) for side in (0, 1)])

    def _half(self, subject: Subject, reading: Reading, side: int) -> Finding | None:
        choosers = subject.population.coin == side
        n, owner, grams = len(subject.population), reading.owner, reading.grams
        inside = np.zeros(n, bool)
        inside[subject.candidate.members] = True
        ours = np.flatnonzero((inside & choosers)[owner])
        n_ours = len(np.unique(owner[ours]))
        n_theirs = reading.n_accounts[side] - n_ours
        if not (n_ours and n_theirs):
            return None
        sum_in = column_sums(grams, ours, reading.weight[ours])
        mean_in, mean_out = sum_in / n_ours, (reading.gram_sums[side] - sum_in) / n_theirs
        phrases = np.argpartition(mean_out - mean_in, CONTRAST_PHRASES)[:CONTRAST_PHRASES]
        phrases = phrases[(mean_in > 2 * mean_out)[phrases]]
        if not len(phrases):
            return None
        chosen = np.zeros(grams.shape[1], bool)
        chosen[phrases] = True
        score = share_by_account(reading, holding(grams, chosen))
        return ranked(
            self.name, rank_units(subject, score, among=~choosers), {"phrases": len(phrases)}, question=self.question
        )


CONTRAST_PHRASES = 40
"""Phrases chosen per half."""


def share_by_account(reading: Reading, shows: Mask) -> Floats:
    """Share of each account's prompts that show something; nan below `FEWEST_PROMPTS`, and for those read as near."""
    n_shown = np.bincount(reading.owner[shows], minlength=len(reading.near))
    enough = (reading.n_read >= FEWEST_PROMPTS) & ~reading.near
    return np.where(enough, n_shown / np.maximum(reading.n_read, 1), np.nan)
