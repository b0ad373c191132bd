"""phrases: who belongs to a group, told a second time by what its prompts say.

The hubs of a group are what opens, closes or instructs an exchange. A template in the midst of a prompt, or a relay
whose accounts send little of their own among what their customers send, shows there hardly or not at all. So the
phrases that one half of a group has to itself are looked for in the prompts of the others, members and those who come
near. It moves who is named, never what is found: no question about the group is asked of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from stillwatch.detect.groups import Candidate, believed
from stillwatch.detect.population import Population
from stillwatch.detect.texts import NEAR_BITS
from stillwatch.evidence.reading import Reading
from stillwatch.kernels.rows import column_sums, holding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PHRASES = 40
"""Phrases chosen by each half of a group."""

COMMON = 0.02
"""Least mean share of the choosers' prompts that shows a phrase."""

THEIR_OWN = 100.0
"""Times a phrase must be more frequent among the choosers than outside: a template others use too does not tell."""

FEWEST_READ = 12
"""Accounts of which the rates of a group are learned."""

LEAST_LIKENESS, MOST_LIKENESS = 0.02, 0.9
"""Bounds of the intraclass correlation of prompts of one account."""


def told_by_prompts(candidate: Candidate, population: Population, reading: Reading) -> Candidate:
    """The candidate with odds that take the prompts read again into account; those not read keep theirs.

    The factor is the ratio of two beta-binomial likelihoods (Skellam 1948) of how many prompts of an account show a
    phrase that the other half of the group has to itself: one law fitted to the surest members, one to outsiders.
    Unchanged where the group has no such phrase. Cost: linear in the n-grams read.
    """
    shown, n_read = _shown(candidate, population, reading)
    read = n_read > 0
    surest = read & (candidate.bits >= np.log2(9.0))
    others = read & (candidate.membership < 0.5)
    if not shown.any() or surest.sum() < FEWEST_READ or others.sum() < FEWEST_READ:
        return candidate
    at = np.flatnonzero(read)
    told = (_likelihood(shown, n_read, at, given) for given in (surest, others))
    bits = candidate.bits.copy()
    bits[at] += next(told) - next(told)
    members, membership = believed(bits)
    return replace(candidate, members=members, membership=membership, bits=bits)


def _shown(candidate: Candidate, population: Population, reading: Reading) -> tuple[Floats, Floats]:
    """Prompts of each account that show a phrase the other half of the group has to itself, and prompts read."""
    n, owner = len(population), reading.owner
    near = candidate.bits >= NEAR_BITS
    shows = np.zeros(len(owner), bool)
    for side in (0, 1):
        others = np.flatnonzero(population.coin[owner] != side)
        ours = np.flatnonzero(((candidate.membership >= 0.5) & (population.coin == side))[owner])
        theirs = np.flatnonzero((~near & ~reading.near & (population.coin == side))[owner])
        shows[others] = holding(reading.grams, _phrases(reading, ours, theirs))[others]
    return np.bincount(owner[shows], minlength=n).astype(np.float64), reading.n_read.astype(np.float64)


def _phrases(reading: Reading, ours: Ints, theirs: Ints) -> npt.NDArray[np.bool_]:
    """(buckets,) which are phrases that the prompts `ours` have to themselves beside `theirs`.

    Those who come near are neither: of a group that lacks some of its members they may be these.
    """
    chosen = np.zeros(reading.grams.shape[1], bool)
    n_ours, n_theirs = (len(np.unique(reading.owner[which])) for which in (ours, theirs))
    if n_ours < FEWEST_READ or n_theirs < FEWEST_READ:
        return chosen
    inside, outside = (
        column_sums(reading.grams, which, reading.weight[which]) / n
        for which, n in ((ours, n_ours), (theirs, n_theirs))
    )
    own = np.flatnonzero((inside >= COMMON) & (inside > THEIR_OWN * outside))
    worth = inside[own] * np.log2(inside[own] / (outside[own] + 0.5 / n_theirs))
    chosen[own[np.argsort(-worth, kind="stable")[:PHRASES]]] = True
    return chosen


def _likelihood(shown: Floats, n_read: Floats, at: Ints, given: npt.NDArray[np.bool_]) -> Floats:
    """log2 beta-binomial likelihood of the accounts `at`, the law fitted by moments to those `given`."""
    k, n = shown[given], n_read[given]
    mean = (k.sum() + 0.5) / (n.sum() + 1.0)
    weight = n / n.sum()
    spread = float((weight * (k / n - mean) ** 2).sum()) / (mean * (1 - mean))
    alone = float((weight / n).sum())
    likeness = np.clip((spread - alone) / max(1 - alone, 1e-9), LEAST_LIKENESS, MOST_LIKENESS)
    a, b = (share * (1 - likeness) / likeness for share in (mean, 1 - mean))
    return np.asarray((betaln(shown[at] + a, n_read[at] - shown[at] + b) - betaln(a, b)) / np.log(2))
