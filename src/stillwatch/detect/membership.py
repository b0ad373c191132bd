"""membership: how surely an account belongs to a group, from the hubs it shares with it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stillwatch.detect.cells import FORMING_FAMILIES, stands_out, surplus_bits
from stillwatch.detect.traits import Traits
from stillwatch.kernels.carriers import Edges, gather, levels, weigh

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALLEST_MEETING = 4
"""Fewest carriers that make a meeting; two or three accounts share most things by chance or kinship."""

LEANING = 2.0
"""Times the expected carriers from which a hub leans towards a group."""

HALF = 0.5
"""Pseudo-count of the rates of hubs (Krichevsky & Trofimov 1981)."""

DOSES = np.array([0.1, 0.25, 0.5, 0.75, 1.0])
"""Where doses are told apart: the share of an account's exchanges that show what its group shares."""

COUNTS = np.array([2.0, 3.0, 5.0, 9.0, 17.0])
"""Where the number of hubs that an account shares with its group is told apart."""

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
    for family in FORMING_FAMILIES:
        result[_enriched(traits, group, within, family)] = True
    return result


def _enriched(traits: Traits, group: Ints, within: Mask, family: str) -> Ints:
    """`enriched_hubs` of one family, ascending."""
    n_hubs, met, observed, expected = _met(traits, group, within, family, SMALLEST_MEETING)
    return met[stands_out(surplus_bits(observed, expected), n_hubs)]


def _leaning(traits: Traits, group: Ints, within: Mask, family: str) -> Ints:
    """The hubs of a family that lean towards a group: `LEANING` times the units it should have carry them; ascending.

    One such hub says nothing; an account that carries a dozen, as all who come through one pool of exits do, does.
    """
    _, met, observed, expected = _met(traits, group, within, family, 2)
    return met[observed >= LEANING * expected]


def _met(traits: Traits, group: Ints, within: Mask, family: str, least: int) -> tuple[int, Ints, Ints, Floats]:
    """Of a family's hubs `within`: how many, those that `least` of a group carry, how many do and should."""
    hubs = traits.span(family)
    looked_at = within[hubs] & traits.of_family(family)[hubs]
    n_hubs = int(np.count_nonzero(looked_at))
    return n_hubs, *traits.incidence(family).met(group, looked_at, first=hubs.start, least=least)


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


def explained_away(traits: Traits, group: Ints) -> Ints:
    """Templates of the group that a third or more of their users outside it use too, if it has others.

    A public judge prompt that a campaign also sends says nothing about those who send it; where a group has no
    template of its own, nothing is explained away. How many of the group use one is told by its core, the half of it
    that fits best: users of a public template who got in for that alone must not vouch for it.
    """
    own = _enriched(traits, group, traits.forming, "content")
    if not len(own):
        return own
    bits = belonging(traits, group, within=traits.forming).bits[: len(group)]
    core = group[bits >= np.median(bits)]
    users, users_in_core = (traits.by_account.observed(some)[own] for some in (group, core))
    carriers = traits.edges.starts[own + 1] - traits.edges.starts[own]
    public = 3 * np.minimum(users_in_core * (len(group) / len(core)), users) < 2 * carriers
    return own[public] if not public.all() else own[:0]


def belonging(traits: Traits, group: Ints, *, within: Mask, joint: bool = True, own_content: bool = False) -> Belonging:
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

    Cost: linear in the edges of the group, and of the hubs that lean to it.
    """
    n, size = traits.share.shape[0], len(group)
    own = {family: (_leaning if joint else _enriched)(traits, group, within, family) for family in FORMING_FAMILIES}
    if own_content:
        own["content"] = np.intersect1d(own["content"], _enriched(traits, group, within, "content"), assume_unique=True)
    carriers = gather(traits.edges, np.concatenate(list(own.values())), group, traits.by_unit.unit)
    inside = np.arange(len(carriers.account)) < size
    met, carded = np.zeros(len(inside), bool), np.zeros(len(inside), bool)
    ends = np.cumsum([0, *(len(hubs) for hubs in own.values())])
    cards, *others = (_between(carriers.edges, first, last) for first, last in pairwise(ends))
    carded[cards.accounts] = True
    elsewhere = float(np.log2((size + 0.5) / (n - size + 0.5)))
    bits = np.full(len(inside), elsewhere)
    for family, edges in zip(FORMING_FAMILIES[1:], others, strict=True):
        if len(edges.accounts):
            more, lacking = _carrier_bits(edges, inside, met, carriers.unit, n, graded=family != "funding")
            bits += np.where(carded, 0.0, more) if family == "funding" else more
            elsewhere += lacking
            if joint:
                met[edges.accounts] = True
    if len(cards.accounts):
        vouching = inside & (bits > 0) if joint else inside
        nobody, alone = np.zeros(len(inside), bool), np.arange(len(inside), dtype=np.int32)
        more, lacking = _carrier_bits(cards, vouching, nobody, alone, n, graded=False)
        bits += more
        elsewhere += lacking
    return Belonging(carriers.account, bits, elsewhere, n)


def _between(edges: Edges, first: int, last: int) -> Edges:
    """The edges of some of the hubs."""
    start, stop = edges.starts[first], edges.starts[last]
    return Edges.of(edges.starts[first : last + 1] - start, edges.accounts[start:stop], edges.share[start:stop])


def _carrier_bits(
    edges: Edges, inside: Mask, met: Mask, unit: npt.NDArray[np.int32], n: int, *, graded: bool
) -> tuple[Floats, float]:
    """One family's e-value in bits of each carrier of any family, and that of those who carry none.

    Outsiders' rates are taken apart for accounts that `met` the group. `unit` is what an account is left out with:
    accounts of one payer would vouch for one another. `graded`: weigh how many hubs a carrier shares, and how much.
    """
    n_in = int(np.count_nonzero(inside))
    n_out = n - n_in
    weights = weigh(edges, inside=inside, met=met, unit=unit, n_outside=n_out, pseudo=HALF, shrink=SHRINK)
    at = np.flatnonzero(weights.n_hubs)
    own, n_hubs = inside[at], weights.n_hubs[at]
    some_in = int(np.count_nonzero(own))
    some_out = len(at) - some_in
    cover = np.where(own, (some_in - 1 + HALF) / max(n_in, 1), (some_in + HALF) / (n_in + 1))
    none_in = _lacking(some_in, n_in) / _lacking(some_out, n_out + 1)
    none_out = _lacking(some_in, n_in + 1) / _lacking(some_out, n_out)
    lacking = float(np.log2(none_out + TINY))
    bits = np.where(inside, np.log2(none_in + TINY), lacking)
    carried = np.log2(cover * weights.ratio[at] + TINY)
    if graded:
        dose = np.add.reduceat(weights.shares, np.cumsum(n_hubs) - n_hubs)
        carried += _level_bits(dose, DOSES, own)
        carried += _level_bits(n_hubs, COUNTS, own)
    bits[at] = carried
    return bits, lacking


def _level_bits(values: npt.NDArray[np.generic], bounds: Floats, member: Mask) -> Floats:
    """log2 of how much likelier a level is in members than in others, each account left out of its own rate."""
    (outside, inside), place = levels(values, bounds, member)
    n_levels, own = len(outside), np.array([[0], [1]])
    rate_in = (np.maximum(inside - own, 0) + 1.0) / (inside.sum() - own + n_levels)
    rate_out = (np.maximum(outside - (1 - own), 0) + 1.0) / (outside.sum() - (1 - own) + n_levels)
    return np.asarray(np.log2(rate_in / rate_out).ravel()[place])


def _lacking(some: int, n: int) -> float:
    """Rate of those of n who carry none of a group's hubs, kept above 0 where all do and nobody is to be weighed."""
    return max(1.0 - (some + HALF) / max(n, 1), TINY)
