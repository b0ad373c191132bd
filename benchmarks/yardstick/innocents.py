"""innocents: groups that are innocent by the truth, weighed as if a scan had found them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stillwatch.detect.groups import Candidate
from stillwatch.detect.traits import N_HALVES

if TYPE_CHECKING:
    from benchmarks.yardstick.trial import Trial, Truth

FEWEST = 12
"""Accounts of the smallest group, as `scan.n_min_accounts`."""

ANYBODY = "anybody"
"""A group drawn of all accounts: every null is true of it."""

MOST_DRAWN = 60
"""Accounts of a group drawn of a large population."""


def groups_to_weigh(population: Any, truth: Truth, trial: Trial) -> dict[str, Candidate]:
    """By name, one group of each population, or as many of its accounts as `MOST_DRAWN`, drawn by the trial's seed.

    The truth chose the members, so no half of the hubs did: every half tests all of them.
    """
    of = np.array([truth.population[account] for account in population.account_ids])
    groups = {}
    for place, name in enumerate(trial.groups_of):
        there = np.arange(len(of)) if name == ANYBODY else np.flatnonzero(of == name)
        if len(there) > MOST_DRAWN:
            there = np.sort(np.random.default_rng([trial.seed, place]).choice(there, MOST_DRAWN, replace=False))
        if len(there) < FEWEST:
            continue
        inside = np.zeros(len(of))
        inside[there] = 1.0
        groups[name] = Candidate(there, inside, np.where(inside > 0, 20.0, -20.0), (there,) * N_HALVES)
    return groups
