"""ranks: a score of each account against its peers; the units of a group bet together.

Peers share script, habit of system prompts and volume, up to the 64 exchanges from which on a share is as precise as it
gets; so an agent's user is compared with agents' users and a light account with light ones. Each account's rank among
outsiders is a conformal p-value, and the calibrator of Vovk and Sellke turns it into an e-value. Within a unit e-values
are averaged, across units they multiply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatch.evidence.signal import Subject
from stillwatch.kernels.evalues import conformal_p, mean_e_log2, rank_e_log2

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_PEERS = 60
"""Outsiders an account must be ranked among; with fewer it does not bet."""

STAKES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of its money a unit may bet; the total is averaged over them."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a group ranks among its peers: total e-value, units that bet, medians inside and outside with an interval."""

    e_log2: float
    n_units: int
    inside: float
    outside: float
    lo: float
    hi: float


def rank_units(subject: Subject, score: Floats, *, among: Mask | None = None) -> Ranking | None:
    """Rank the group's accounts by a score against outsiders of their peer group, and let its units bet.

    Args:
        score: (accounts,), nan where an account has none. among: members to rank; all by default.

    Returns:
        None where no member has `FEWEST_PEERS` peers with a score.
    """
    population = subject.population
    at = np.flatnonzero(np.isfinite(score) & subject.eligible)
    inside = np.zeros(len(population), bool)
    inside[subject.candidate.members] = True
    member, peer, value = inside[at], population.peer[at], score[at]
    bets = member if among is None else member & among[at]
    e_log2 = np.full(len(at), np.nan)
    references = []
    for level in np.unique(peer[bets]):
        here = peer == level
        reference = value[here & ~member]
        if len(reference) >= FEWEST_PEERS:
            betting = np.flatnonzero(here & bets)
            e_log2[betting] = rank_e_log2(conformal_p(value[betting], reference))
            references.append(reference)
    if not references:
        return None
    bet = np.flatnonzero(np.isfinite(e_log2))
    total, n_units = _across_units(e_log2[bet], subject.unit[at[bet]])
    low, high = _median_interval(value[bet])
    outside = float(np.median(np.concatenate(references)))
    return Ranking(total, n_units, float(np.median(value[bet])), outside, low, high)


def _across_units(e_log2: Floats, unit: Ints) -> tuple[float, int]:
    """The units' bets as one e-value, in bits: each stakes a share of its money on the mean e-value of its accounts.

    Averaged over the stakes of `STAKES`, since only part of a group may take part in what is scored.
    """
    _, at, size = np.unique(unit, return_inverse=True, return_counts=True)
    mean = np.bincount(at, np.exp2(e_log2)) / size
    totals = [np.log2(1.0 - stake + stake * mean).sum() for stake in STAKES]
    return mean_e_log2(np.array(totals)), len(size)


def _median_interval(values: Floats) -> tuple[float, float]:
    """Distribution-free 95 % interval of a median from order statistics (normal approximation of the binomial)."""
    ordered = np.sort(values)
    half = 0.98 * np.sqrt(len(ordered))
    low = int(max(np.floor(len(ordered) / 2 - half), 0))
    high = int(min(np.ceil(len(ordered) / 2 + half), len(ordered) - 1))
    return float(ordered[low]), float(ordered[high])
