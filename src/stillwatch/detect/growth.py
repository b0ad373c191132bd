"""growth: from a seed to the whole of its group and back to those who surely belong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from stillwatch.detect.membership import (
    SMALLEST_MEETING,
    explained_away,
    membership_bits,
)
from stillwatch.detect.traits import Traits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

JOIN_BITS = 2.5
"""Odds at which an account joins a growing group: about 6 to 1, so that it does not grow into its surroundings."""

MEMBERSHIP_ROUNDS = 6
"""Most rounds of propagation; it stops as soon as no account moves."""

MADE_AGAIN, MADE_BY_HALF = 0.8, 0.6
"""Jaccard index of a whole seed and what its members make of it, and of that and what its better half makes."""

SPLITS_OF_A_SEED = 3
"""Most groups that are looked for in one seed."""

SETTLING_ROUNDS = 8
"""Most rounds in which a group grows into its campaign, and most in which it is peeled again."""

STAY_BITS = 1.58
"""Odds of 3 at which an account vouches for others while a group is peeled."""


def propagate(traits: Traits, group: Ints, within: Mask) -> Ints:
    """Grow and peel: account to hub to account; joining takes `JOIN_BITS`, leaving odds below even."""
    for _ in range(MEMBERSHIP_ROUNDS):
        bits = membership_bits(traits, group, within=within, joint=False)
        stays = np.zeros(len(bits), bool)
        stays[group] = bits[group] >= 0
        grown = np.flatnonzero(stays | (bits >= JOIN_BITS))
        if np.array_equal(grown, group):
            break
        group = grown
        if not len(group):
            break
    return group


def settled_bits(traits: Traits, seed: Ints, *, within: Mask, n_min: int) -> Iterator[Floats]:
    """log2 odds that an account belongs to a group, for each group a seed holds.

    A seed is whole when its members make it again, and their better half most of them. Another is a part of a group,
    or a group with others in it, and so may a whole one be: its core is let grow until it stands. What neither reaches
    is a seed again.
    """
    for _ in range(SPLITS_OF_A_SEED):
        bits = membership_bits(traits, seed, within=_telling(traits, seed, within))
        group = np.flatnonzero(bits >= 0)
        core = seed[bits[seed] >= np.median(bits[seed])]
        again = np.flatnonzero(membership_bits(traits, core, within=_telling(traits, core, within)) >= 0)
        if jaccard(seed, group) >= MADE_AGAIN and jaccard(group, again) >= MADE_BY_HALF:
            yield bits
            seed = np.setdiff1d(seed, group, assume_unique=True)
        bits = _grown(traits, core, within)
        yield bits
        seed = np.setdiff1d(seed, np.flatnonzero(bits >= 0), assume_unique=True)
        if len(seed) < n_min:
            return


def _grown(traits: Traits, group: Ints, within: Mask) -> Floats:
    """Bits of the group that a core grows into.

    It grows over every hub that leans to it until it stands, and is peeled by content it made its own alone: among
    hundreds of phrases some lean to anybody.
    """
    nothing = np.full(traits.share.shape[0], -np.inf)
    for own_content, least in ((False, 0.0), (True, STAY_BITS)):
        for _ in range(SETTLING_ROUNDS):
            if len(group) < SMALLEST_MEETING:
                return nothing
            bits = membership_bits(traits, group, within=_telling(traits, group, within), own_content=own_content)
            before, group = group, np.flatnonzero(bits >= least)
            if np.array_equal(before, group):
                break
    if len(group) < SMALLEST_MEETING:
        return nothing
    templates = ~traits.of_family("content") | traits.template
    return membership_bits(traits, group, within=_telling(traits, group, within) & templates)


def _telling(traits: Traits, group: Ints, within: Mask) -> Mask:
    """The hubs that tell who belongs to a group."""
    return within & ~explained_away(traits, group)


def overlap(a: Ints, b: Ints) -> float:
    """Share of the smaller of two sets of accounts that is in the other."""
    return len(np.intersect1d(a, b, assume_unique=True)) / max(min(len(a), len(b)), 1)


def jaccard(a: Ints, b: Ints) -> float:
    """Jaccard index of two sets of accounts."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(len(a) + len(b) - common, 1)
