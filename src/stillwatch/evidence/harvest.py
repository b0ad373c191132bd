"""harvest: does the pooled traffic of a group serve training, compared with its peers?

Content tests run on groups, pooled: one light account never shows enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stillwatch.detect.groups import enriched_hubs
from stillwatch.detect.population import Population
from stillwatch.evidence.capabilities import ELICITING, tag_prompts
from stillwatch.evidence.ranks import Ranking, peer_groups, rank_units
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.evalues import mean_e_log2, too_few_e_log2
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.shingles import ngram_hashes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_PROMPTS = 8
"""Prompts an account must have shown before a share of them is a score."""

RANK_NULL = "conformal-rank-among-peers/1"
RANK_H1 = "ranks follow a power law towards the top (mixture over its exponent)"
RANK_H0 = "the group's units rank among their peers as anybody would"


def unit_half(subject: Subject) -> Mask:
    """A keyed coin per unit, the same for all its accounts: one half chooses, the other is tested."""
    account = subject.population.profiles.column("account").to_numpy()
    coin = np.full(int(subject.unit.max(initial=0)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(coin, subject.unit, account)
    return (coin[subject.unit] >> np.uint64(32)) & np.uint64(1) == 1


def ranked(signal: str, ranking: Ranking | None, detail: dict[str, object]) -> Finding | None:
    """A ranking as a finding; None stays None."""
    if ranking is None:
        return None
    return Finding(
        signal=signal,
        family="content",
        question="harvest",
        statistic=ranking.inside,
        n=ranking.n_units,
        effect=ranking.inside - ranking.outside,
        lo=ranking.lo - ranking.outside,
        hi=ranking.hi - ranking.outside,
        null_id=RANK_NULL,
        e_log2=ranking.e_log2,
        h1=RANK_H1,
        h0=RANK_H0,
        detail=detail | {"median_inside": ranking.inside, "median_outside": ranking.outside},
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
    question: Question = "harvest"
    needs: tuple[str, ...] = ("prompt", "system_prompt")

    def weigh(self, subject: Subject) -> Finding | None:
        """Choose templates on one half of the units, rank the other half; swap; average."""
        coin = unit_half(subject)
        return mean_of_halves(self.name, [self._half(subject, coin == side) for side in (False, True)])

    def _half(self, subject: Subject, choosers: Mask) -> Finding | None:
        population, traits, members = subject.population, subject.traits, subject.candidate.members
        content = traits.of_family("content")
        templates = enriched_hubs(population, traits, members[choosers[members]], within=content)
        if not templates.any():
            return None
        score = np.asarray(traits.share[:, np.flatnonzero(templates)].max(axis=1).todense()).ravel()
        score = np.where(population.sampled >= FEWEST_PROMPTS, score, np.nan)
        return ranked(self.name, rank_units(subject, score, among=~choosers), {"templates": int(templates.sum())})


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
        population = subject.population
        inside = np.zeros(len(population), bool)
        inside[subject.candidate.members] = True
        peers = peer_groups(population)
        inside &= subject.eligible
        outsiders = subject.eligible & ~inside
        draws = [_peer_draw(population, inside, outsiders, peers, turn) for turn in range(PARTITION_DRAWS)]
        if any(draw is None for draw in draws) or not inside.any():
            return None
        owner, prompt = _prompt_pairs(population)
        counts = np.array(
            [_repeats(subject.unit, owner, prompt, draw) for draw in draws if draw is not None], dtype=np.float64
        )
        observed = _repeats(subject.unit, owner, prompt, inside)
        expected = float(counts.mean())
        if expected < 1:
            return None
        dispersion = max((float(counts.var(ddof=1)) - expected) / expected**2, 0.01)
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


PARTITION_DRAWS = 20
"""Groups of peers drawn to measure how often, and how unevenly, peers repeat one another."""


def _prompt_pairs(population: Population) -> tuple[Ints, npt.NDArray[np.uint64]]:
    prompts = population.profiles.column("prompts").combine_chunks()
    return np.repeat(np.arange(len(population)), prompts.value_lengths().to_numpy()), prompts.flatten().to_numpy()


def _repeats(unit: Ints, owner: Ints, prompt: npt.NDArray[np.uint64], who: Mask) -> int:
    """Prompts sent by one more unit than the first, summed over prompts."""
    taken = who[owner]
    pairs = np.unique(np.stack([prompt[taken], unit[owner[taken]].astype(np.uint64)]), axis=1)
    return int(pairs.shape[1] - len(np.unique(pairs[0])))


def _peer_draw(population: Population, inside: Mask, outsiders: Mask, peers: Ints, turn: int) -> Mask | None:
    """As many outsiders of each peer group as there are members of it; None where peers are too few."""
    account = population.profiles.column("account").to_numpy()
    scrambled = (account + np.uint64(turn)) * np.uint64(0x9E3779B97F4A7C15)
    scrambled ^= scrambled >> np.uint64(32)
    drawn = np.zeros(len(population), bool)
    n_matched = 0
    for peer in np.unique(peers[inside]):
        n_here = int((inside & (peers == peer)).sum())
        pool = np.flatnonzero(outsiders & (peers == peer))
        if len(pool) < 2 * n_here:
            continue
        drawn[pool[np.argsort(scrambled[pool], kind="stable")][:n_here]] = True
        n_matched += n_here
    return drawn if 2 * n_matched >= int(inside.sum()) else None


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
        if subject.texts is None or not len(subject.texts):
            return None
        shows, n = tag_prompts(subject.texts.prompts), len(subject.population)
        scores = {name: share_by_account(n, subject.texts.owner, shows[name]) for name in ELICITING}
        rankings = {name: ranking for name in ELICITING if (ranking := rank_units(subject, scores[name])) is not None}
        if not rankings:
            return None
        name = max(rankings, key=lambda name: rankings[name].e_log2)
        bits = {f"{name}_bits": ranking.e_log2 for name, ranking in rankings.items()}
        mean = mean_e_log2(np.array(list(bits.values())))
        return ranked(self.name, replace(rankings[name], e_log2=mean), {"capability": name} | bits)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Pooled n-grams: phrases one half of the group uses far more than peers recur in the other half.

    Phrases are word 3-grams (6 characters where a script has no spaces) in hashed buckets, chosen for the largest
    difference of mean account shares. Fails on any common topic; it shows likeness, not intent.
    """

    key: HashKey
    name: str = "contrast"
    family: str = "content"
    question: Question = "harvest"
    needs: tuple[str, ...] = ("prompt",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Choose phrases on one half of the units, rank the other half; swap; average."""
        if subject.texts is None or not len(subject.texts):
            return None
        offsets, bucket = ngram_hashes(subject.texts.prompts, self.key)
        shape = (len(subject.texts), 1 << 18)
        grams = csr_matrix((np.ones(len(bucket), np.float32), bucket, offsets), shape=shape)
        coin = unit_half(subject)
        return mean_of_halves(self.name, [self._half(subject, grams, coin == side) for side in (False, True)])

    def _half(self, subject: Subject, grams: csr_matrix, choosers: Mask) -> Finding | None:
        texts, n = subject.texts, len(subject.population)
        assert texts is not None  # weigh() returned before for subjects without text
        inside = np.zeros(n, bool)
        inside[subject.candidate.members] = True
        owner = texts.owner
        n_prompts = np.bincount(owner, minlength=n)
        weight = 1.0 / np.maximum(n_prompts[owner], 1)
        ours, theirs = inside & choosers, ~inside & choosers
        if not (ours[owner].any() and theirs[owner].any()):
            return None
        mean_in = (grams.T @ (weight * ours[owner])) / max(len(np.unique(owner[ours[owner]])), 1)
        mean_out = (grams.T @ (weight * theirs[owner])) / max(len(np.unique(owner[theirs[owner]])), 1)
        phrases = np.argsort(-(mean_in - mean_out), kind="stable")[:CONTRAST_PHRASES]
        phrases = phrases[(mean_in > 2 * mean_out)[phrases]]
        if not len(phrases):
            return None
        shows = np.asarray(grams[:, phrases].sum(axis=1)).ravel() > 0
        score = share_by_account(n, owner, shows)
        return ranked(self.name, rank_units(subject, score, among=~choosers), {"phrases": len(phrases)})


CONTRAST_PHRASES = 40
"""Phrases chosen per half."""


def share_by_account(n: int, owner: Ints, shows: Mask) -> Floats:
    """Share of each account's prompts that show something; nan below `FEWEST_PROMPTS`."""
    total = np.bincount(owner, minlength=n)
    share = np.bincount(owner, shows, minlength=n) / np.maximum(total, 1)
    return np.where(total >= FEWEST_PROMPTS, share, np.nan)
