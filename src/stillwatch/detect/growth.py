"""growth: from a seed to the whole of its group and back to those who surely belong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from stillwatch.detect.membership import SMALLEST_MEETING, Belonging, Shown, belonging, explained_away
from stillwatch.detect.traits import Traits

Ints = npt.NDArray[np.int64]
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
        found = belonging(traits, group, within=within, joint=False)
        stays = group[found.bits[: len(group)] >= 0]
        grown = np.union1d(stays, found.reaching(JOIN_BITS))
        if np.array_equal(grown, group):
            break
        group = grown
        if not len(group):
            break
    return group


@dataclass(frozen=True, slots=True)
class Growth:
    """How seeds grow into groups over some hubs.

    Attributes:
        within: (h,) the hubs that form groups here. public: templates explained away, by group, whatever is `within`.
    """

    traits: Traits
    within: Mask
    public: dict[bytes, Ints] = field(default_factory=dict)
    _steps: dict[tuple[bytes, bool, float], Ints] = field(default_factory=dict, init=False)

    def settled(self, seed: Ints, *, n_min: int) -> Iterator[Belonging]:
        """The groups a seed holds.

        A seed is whole when its members make it again, and their better half most of them. Another is a part of a
        group, or a group with others in it, and so may a whole one be: its core is let grow until it stands. What
        neither reaches is a seed again.
        """
        for _ in range(SPLITS_OF_A_SEED):
            found = self._belonging(seed)
            group, own = found.reaching(0.0), found.bits[: len(seed)]
            core = seed[own >= np.median(own)]
            again = self._moved(core, False, 0.0)
            if jaccard(seed, group) >= MADE_AGAIN and jaccard(group, again) >= MADE_BY_HALF:
                yield found
                seed = np.setdiff1d(seed, group, assume_unique=True)
            grown = self._grown(core)
            if grown is not None:
                yield grown
                seed = np.setdiff1d(seed, grown.reaching(0.0), assume_unique=True)
            if len(seed) < n_min:
                return

    def _grown(self, group: Ints) -> Belonging | None:
        """The group that a core grows into, if any.

        It grows over every hub that leans to it until it stands, and is peeled by content it made its own alone:
        among hundreds of phrases some lean to anybody.
        """
        for own_content, least in ((False, 0.0), (True, STAY_BITS)):
            for _ in range(SETTLING_ROUNDS):
                if len(group) < SMALLEST_MEETING:
                    return None
                before, group = group, self._moved(group, own_content, least)
                if np.array_equal(before, group):
                    break
        if len(group) < SMALLEST_MEETING:
            return None
        return self._belonging(group, among=~self.traits.of_family("content") | self.traits.template)

    def _moved(self, group: Ints, own_content: bool, least: float) -> Ints:
        """Who has `least` bits for a group, as it stands; worked out once, since many seeds grow into one group."""
        step = _digest(group), own_content, least
        if step not in self._steps:
            self._steps[step] = self._belonging(group, own_content=own_content).reaching(least)
        return self._steps[step]

    def _belonging(self, group: Ints, *, own_content: bool = False, among: Mask | None = None) -> Belonging:
        """Who belongs to a group by the hubs that tell, of those `among`."""
        shown = Shown.of(self.traits, group, within=self.traits.forming)
        key = _digest(group)
        if key not in self.public:
            self.public[key] = explained_away(self.traits, group, shown)
        telling = self.within.copy() if among is None else self.within & among
        telling[self.public[key]] = False
        return belonging(self.traits, group, within=telling, own_content=own_content, shown=shown)


def _digest(group: Ints) -> bytes:
    return blake2b(group.data, digest_size=16).digest()


def overlap(a: Ints, b: Ints) -> float:
    """Share of the smaller of two sets of accounts that is in the other."""
    return len(np.intersect1d(a, b, assume_unique=True)) / max(min(len(a), len(b)), 1)


def jaccard(a: Ints, b: Ints) -> float:
    """Jaccard index of two sets of accounts."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(len(a) + len(b) - common, 1)
