"""membership: how surely an account belongs to a group, from the hubs it shares with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stillwatch.detect.cells import FORMING_FAMILIES, stands_out, surplus_bits
from stillwatch.detect.traits import Traits
from stillwatch.kernels.carriers import Edges, Grades, Weights, gather, odds, weigh

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALLEST_MEETING = 4
"""Fewest carriers that make a meeting; two or three accounts share most things by chance or kinship."""

LEANING = 2.0
"""Times the expected carriers from which a hub leans towards a group."""

HALF = 0.5
"""Pseudo-count of the rates of hubs (Krichevsky & Trofimov 1981)."""

GRADES = Grades(n_hubs=np.array([2.0, 3.0, 5.0, 9.0, 17.0]), dose=np.array([0.1, 0.25, 0.5, 0.75, 1.0]))
"""Where the number of hubs that an account shares with its group is told apart, and where its dose is: the share of an
account's exchanges that show what its group shares."""

UNGRADED = Grades(n_hubs=np.zeros(0), dose=np.zeros(0))

TINY = 2.0**-20
"""Floor of a membership e-value: no single family can rule an account out for good."""

SHRINK = 20.0
"""Outsiders the overall rate counts for beside those who met the group."""


def enriched_hubs(traits: Traits, group: Ints, *, within: Mask) -> Mask:
    """The hubs a group made its own: carried by more of its units than its share of the cohorts predicts.

    Identity hubs are counted by account, the others by paying unit. A hub needs `SMALLEST_MEETING` carriers and
    a surplus that stands out among all the hubs looked at.
    """
    result = np.zeros(len(traits), bool)
    shown = Shown.of(traits, group, within=within, least=SMALLEST_MEETING)
    for family in FORMING_FAMILIES:
        result[shown.own(family, within)] = True
    return result


@dataclass(frozen=True, slots=True)
class Shown:
    """The hubs that some of a group carry, counted once for all that is asked of them.

    Attributes:
        families: by family, the hubs that enough of the group's units carry, ascending; how many do; and should.
    """

    traits: Traits
    families: Mapping[str, tuple[Ints, Ints, Floats]]

    @classmethod
    def of(cls, traits: Traits, group: Ints, *, within: Mask, least: int = 2) -> Shown:
        """Count the hubs `within` that `least` units of a group carry."""
        found = {}
        for family in FORMING_FAMILIES:
            hubs = traits.span(family)
            looked_at = within[hubs] & traits.of_family(family)[hubs]
            found[family] = traits.incidence(family).met(group, looked_at, first=hubs.start, least=least)
        return cls(traits, found)

    def own(self, family: str, within: Mask) -> Ints:
        """Those of `within` the group made its own, as `enriched_hubs`; ascending."""
        hubs, observed, expected = self.families[family]
        met = within[hubs] & (observed >= SMALLEST_MEETING)
        span = self.traits.span(family)
        n_hubs = int(np.count_nonzero(within[span] & self.traits.of_family(family)[span]))
        return hubs[met][stands_out(surplus_bits(observed[met], expected[met]), n_hubs)]

    def leaning(self, family: str, within: Mask) -> Ints:
        """Those of `within` that lean to the group: `LEANING` times the units it should have carry them; ascending.

        One such hub says nothing; an account that carries a dozen, as all who come through one pool of exits do, does.
        """
        hubs, observed, expected = self.families[family]
        return hubs[within[hubs] & (observed >= LEANING * expected)]


@dataclass(frozen=True, slots=True)
class Belonging:
    """log2 odds that each account belongs to a group.

    Attributes:
        accounts: positions of the group, as it was given, and then of everybody who carries a hub that leans to it.
        bits: of each of these. elsewhere: of anybody else. n: accounts of the population.
    """

    accounts: Ints
    bits: Floats
    elsewhere: float
    n: int

    def of_everybody(self) -> Floats:
        """(accounts,) bits."""
        bits = np.full(self.n, self.elsewhere)
        bits[self.accounts] = self.bits
        return bits

    def reaching(self, least: float) -> Ints:
        """Who has `least` bits, ascending."""
        if self.elsewhere >= least:
            return np.flatnonzero(self.of_everybody() >= least)
        return np.sort(self.accounts[self.bits >= least])


def explained_away(traits: Traits, group: Ints, shown: Shown | None = None) -> Ints:
    """Templates of the group that a third or more of their users outside it use too, if it has others.

    A public judge prompt that a campaign also sends says nothing about those who send it; where a group has no
    template of its own, nothing is explained away. How many of the group use one is told by its core, the half of it
    that fits best by what the group made its own: users of a public template who got in for that alone must not vouch
    for it.

    Args:
        shown: what the group shows `within` the hubs that form groups; counted here by default.
    """
    shown = shown or Shown.of(traits, group, within=traits.forming)
    of_families = [shown.own(family, traits.forming) for family in FORMING_FAMILIES]
    own = of_families[FORMING_FAMILIES.index("content")]
    if not len(own):
        return own
    bits = _belonging(traits, group, of_families, joint=True, members_only=True).bits
    core = group[bits >= np.median(bits)]
    users, users_in_core = (traits.by_account.observed(some)[own] for some in (group, core))
    carriers = traits.edges.starts[own + 1] - traits.edges.starts[own]
    public = 3 * np.minimum(users_in_core * (len(group) / len(core)), users) < 2 * carriers
    return own[public] if not public.all() else own[:0]


def belonging(
    traits: Traits,
    group: Ints,
    *,
    within: Mask,
    joint: bool = True,
    own_content: bool = False,
    shown: Shown | None = None,
) -> Belonging:
    """log2 odds that an account belongs to a group, from the hubs it shares with it.

    Per family an e-value with a published alternative: a member carries one of the hubs that lean towards the group,
    hub h with weight w_h (its share of the members' edges), or, as often as members do, none of them. An outsider
    carries each as often as outsiders do, so the e-value is c sum w_h [carries h] / p_h + (1 - c) [carries none] /
    p_none; among carriers it is multiplied by how much likelier its number of hubs, and its share of exchanges that
    show one, are in members. Families multiply, each given the one before: among accounts that meet the group at its
    networks, a template is as rare as it is among outsiders there, not among everybody. The prior is the group's share
    of the population. An account is left out, with all of its paying unit, of the rates it is compared with.

    A payment instrument and its issuer are one fact, so who carries a card of the group is not also asked for its
    issuer; and a card vouches for an account only where others on it belong for what else they show.

    Args:
        group: positions, ascending.
        joint: take each family given the one before and every hub that leans; False while a group grows, when only
            hubs it made its own count, and the members it has not reached yet are no outsiders to learn from.
        own_content: of content, take only what the group made its own.
        shown: what the group shows within these hubs and others; counted here by default.

    Cost: linear in the edges of the group, and of the hubs that lean to it.
    """
    shown = shown or Shown.of(traits, group, within=within)
    own = [(shown.leaning if joint else shown.own)(family, within) for family in FORMING_FAMILIES]
    if own_content:
        content = FORMING_FAMILIES.index("content")
        own[content] = np.intersect1d(own[content], shown.own("content", within), assume_unique=True)
    return _belonging(traits, group, own, joint=joint, members_only=False)


def _belonging(traits: Traits, group: Ints, own: Sequence[Ints], *, joint: bool, members_only: bool) -> Belonging:
    """`belonging` by some hubs of each family; to `members_only`, or to all who carry one."""
    n, size = traits.share.shape[0], len(group)
    carriers = gather(traits.edges, np.concatenate(own), group, traits.by_unit.unit)
    inside = np.arange(len(carriers.account)) < size
    met, carded = np.zeros(len(inside), bool), np.zeros(len(inside), bool)
    ends = np.cumsum([0, *(len(hubs) for hubs in own)])
    cards, *others = (_between(carriers.edges, first, last) for first, last in pairwise(ends))
    carded[cards.accounts] = True
    elsewhere = float(np.log2((size + 0.5) / (n - size + 0.5)))
    bits = np.full(size if members_only else len(inside), elsewhere)
    told = slice(len(bits))
    for family, edges in zip(FORMING_FAMILIES[1:], others, strict=True):
        if len(edges.accounts):
            graded = family != "funding"
            carrying = _weigh(edges, inside, met, carriers.unit, n, n_told=len(bits))
            more, lacking = _odds(carrying, inside, n, graded=graded)
            bits += more if graded else np.where(carded[told], 0.0, more)
            elsewhere += lacking
            if joint:
                met |= carrying.n_hubs > 0
    if len(cards.accounts):
        vouching = inside.copy()
        if joint:
            vouching[:size] = bits[:size] > 0
        nobody, alone = np.zeros(len(inside), bool), np.arange(len(inside), dtype=np.int32)
        carrying = _weigh(cards, vouching, nobody, alone, n, n_told=len(bits))
        more, lacking = _odds(carrying, vouching, n, graded=False)
        bits += more
        elsewhere += lacking
    return Belonging(carriers.account[told], bits, elsewhere, n)


def _between(edges: Edges, first: int, last: int) -> Edges:
    """The edges of some of the hubs."""
    start, stop = edges.starts[first], edges.starts[last]
    return Edges.of(edges.starts[first : last + 1] - start, edges.accounts[start:stop], edges.share[start:stop])


def _weigh(edges: Edges, inside: Mask, met: Mask, unit: npt.NDArray[np.int32], n: int, *, n_told: int) -> Weights:
    """One family's hubs, as they weigh for the first carriers of any family.

    Outsiders' rates are taken apart for accounts that `met` the group. `unit` is what an account is left out with:
    accounts of one payer would vouch for one another.
    """
    n_outside = n - int(np.count_nonzero(inside))
    return weigh(
        edges, inside=inside, met=met, unit=unit, n_outside=n_outside, pseudo=HALF, shrink=SHRINK, n_told=n_told
    )


def _odds(carrying: Weights, inside: Mask, n: int, *, graded: bool) -> tuple[Floats, float]:
    """One family's e-value in bits of the carriers told, and that of those who carry none.

    `graded`: weigh how many hubs a carrier shares, and how much.
    """
    n_outside = n - int(np.count_nonzero(inside))
    grades = GRADES if graded else UNGRADED
    return odds(carrying, inside=inside, n_outside=n_outside, grades=grades, pseudo=HALF, least=TINY)
