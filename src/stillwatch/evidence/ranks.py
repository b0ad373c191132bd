"""ranks: a score of each account against its peers, and how far above them the units of a group lie together.

Peers share script, habit of system prompts and volume, up to the 64 exchanges from which on a share is as precise as it
gets; so an agent's user is compared with agents' users and a light account with light ones. Each account's rank among
outsiders becomes a normal score. Accounts that have anything in common also behave alike: how much is measured on the
outsiders, as the correlation of units that meet at a hub, and the group's mean score is judged against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from stillwatch.detect.traits import KINDS
from stillwatch.evidence.signal import Subject
from stillwatch.kernels.evalues import share_e_log2, shift_e_log2
from stillwatch.kernels.rows import column_sums

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_PEERS = 60
"""Outsiders an account must be ranked among; with fewer it does not bet."""

KIN = tuple(
    number for number, kind in enumerate(KINDS) if kind.name in ("payment", "issuer", "network", "client", "system")
)
"""Kinds of hubs at which units may be alike for an innocent reason: one firm, one place, one tool."""

KIN_UNITS = (4, 300)
"""Outside units that must meet at a hub for it to show how alike they are, and beyond which it is half the world."""

FEWEST_HUBS = 8
"""Hubs of a kind below which it cannot show how alike units are."""

LEAST_KINSHIP, UNKNOWN_KINSHIP = 0.05, 0.15
"""Correlation assumed within any group: at least the first, and the second where no hub shows it."""

SAME_IN_ALL = 0.999
"""Largest correlation of a count: at 1 all units would be one, and a tally of none of them no likelihood."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a group ranks among its peers.

    `e_log2` the evidence, in bits; `n_units` that bet; `inside`, `outside` medians of the score, [lo, hi] a 95 %
    interval of the first; `mean` normal score of the units and the `kinship` it was judged against.
    """

    e_log2: float
    n_units: int
    inside: float
    outside: float
    lo: float
    hi: float
    mean: float
    kinship: float


def rank_units(subject: Subject, score: Floats, *, among: Mask | None = None) -> Ranking | None:
    """Rank the group's accounts by a score against outsiders of their peer group, and judge the mean of its units.

    The null: the mean of m units is sub-Gaussian with variance proxy kinship + (1 - kinship) / m, as that of m units
    which meet at any one hub.

    Args:
        score: (accounts,), nan where an account has none. among: members to rank; all by default.

    Returns:
        None where no member has `FEWEST_PEERS` peers with a score.
    """
    normal = np.full(len(score), np.nan)
    betting, outside = [], []
    for bets, reference in _peers(subject, score, among):
        normal[reference], normal[bets] = _normal_scores(score[reference], score[bets])
        betting.append(bets)
        outside.append(reference)
    if not betting:
        return None
    return _judged(subject, score, normal, np.sort(np.concatenate(betting)), np.concatenate(outside))


def _judged(subject: Subject, score: Floats, normal: Floats, bet: Ints, outside: Ints) -> Ranking:
    unit_mean = _means(normal[bet], subject.unit[bet])
    kinship = _kinship(subject, normal, outside)
    variance = kinship + (1 - kinship) / len(unit_mean)
    low, high = _median_interval(score[bet])
    return Ranking(
        e_log2=shift_e_log2(float(unit_mean.mean()), variance),
        n_units=len(unit_mean),
        inside=float(np.median(score[bet])),
        outside=float(np.median(score[outside])),
        lo=low,
        hi=high,
        mean=float(unit_mean.mean()),
        kinship=kinship,
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of a group's units show something, beside its peers.

    `e_log2` the evidence, in bits; `n_shown` of `n_units` that bet; `expected` the share of peers that show it;
    `kinship` the correlation it was judged against.
    """

    e_log2: float
    n_units: int
    n_shown: int
    expected: float
    kinship: float


def tally_units(subject: Subject, shows: Floats, *, among: Mask | None = None) -> Tally | None:
    """Count the group's units that show something few do, where a rank among so many ties says little.

    The null: the count is beta-binomial, each unit showing it as often as its peers do, and units correlated as those
    that meet at any one hub are.

    Args:
        shows: (accounts,) 1 or 0, nan where nobody knows. among: members to count; all by default.

    Returns:
        None where no member has `FEWEST_PEERS` peers of whom it is known.
    """
    standard, rate = np.full(len(shows), np.nan), np.full(len(shows), np.nan)
    betting, outside = [], []
    for bets, reference in _peers(subject, shows, among):
        share = (shows[reference].sum() + 1) / (len(reference) + 2)
        standard[reference] = (shows[reference] - share) / np.sqrt(share * (1 - share))
        rate[bets] = share
        betting.append(bets)
        outside.append(reference)
    if not betting:
        return None
    bet = np.sort(np.concatenate(betting))
    n_shown = int((_means(shows[bet], subject.unit[bet]) >= 0.5).sum())
    expected = _means(rate[bet], subject.unit[bet])
    kinship = min(_kinship(subject, standard, np.concatenate(outside)), SAME_IN_ALL)
    share = float(expected.mean())
    return Tally(share_e_log2(n_shown, len(expected), share, kinship), len(expected), n_shown, share, kinship)


def _peers(subject: Subject, score: Floats, among: Mask | None) -> Iterator[tuple[Ints, Ints]]:
    """For each peer group: the members that bet, and the outsiders they are compared with, all with a score."""
    population = subject.population
    at = np.flatnonzero(np.isfinite(score) & subject.eligible)
    inside = np.zeros(len(population), bool)
    inside[subject.candidate.members] = True
    bets = inside if among is None else inside & among
    for level in np.unique(population.peer[at[bets[at]]]):
        here = at[population.peer[at] == level]
        reference = here[~inside[here] & ~subject.set_aside[here]]
        if len(reference) >= FEWEST_PEERS:
            yield here[bets[here]], reference


def _normal_scores(reference: Floats, ours: Floats) -> tuple[Floats, Floats]:
    """Normal scores (van der Waerden) of mid-ranks among the reference, less their mean over the reference.

    An account of ours is ranked as if it were one more of the reference, and no member moves another's rank.
    """
    ordered, n = np.sort(reference), len(reference)

    def middle(values: Floats, own: int) -> Floats:
        below, upto = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        return np.asarray(ndtri((below + upto + own) / 2 / (n + own)))

    scores = middle(reference, 0)
    return scores - scores.mean(), middle(ours, 1) - scores.mean()


def _means(values: Floats, unit: Ints) -> Floats:
    _, at, size = np.unique(unit, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(at, values) / size)


def _kinship(subject: Subject, standard: Floats, outside: Ints) -> float:
    """Correlation of outside units that meet at a hub: per kind the mean of the products of its pairs, hubs weighted
    by their units, plus one standard error; the largest kind counts.
    """
    units = subject.traits.by_unit
    row = units.unit[outside]
    size = np.bincount(row)
    names = np.flatnonzero(size)
    score = np.bincount(row, standard[outside])[names] / size[names]
    kin, carried = units.of_kinds(KIN)
    n, sums, squares = (column_sums(carried, names, each) for each in (np.ones(len(names)), score, score**2))
    met = np.flatnonzero((n >= KIN_UNITS[0]) & (n <= KIN_UNITS[1]))
    largest, told = LEAST_KINSHIP, False
    for kind in KIN:
        hubs = met[units.kind[kin[met]] == kind]
        if len(hubs) >= FEWEST_HUBS:
            pairs = (sums[hubs] ** 2 - squares[hubs]) / (n[hubs] * (n[hubs] - 1))
            weight = n[hubs] / n[hubs].sum()
            mean = float((weight * pairs).sum())
            error = float(np.sqrt((weight**2 * (pairs - mean) ** 2).sum()))
            largest, told = max(largest, mean + error), True
    return min(largest, 1.0) if told else UNKNOWN_KINSHIP


def _median_interval(values: Floats) -> tuple[float, float]:
    """Distribution-free 95 % interval of a median from order statistics (normal approximation of the binomial)."""
    ordered = np.sort(values)
    half = 0.98 * np.sqrt(len(ordered))
    low = int(max(np.floor(len(ordered) / 2 - half), 0))
    high = int(min(np.ceil(len(ordered) / 2 + half), len(ordered) - 1))
    return float(ordered[low]), float(ordered[high])
