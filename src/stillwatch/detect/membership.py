"""membership: how surely an account belongs to a group, from the hubs it shares with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix

from stillwatch.detect.cells import FORMING_FAMILIES, stands_out, surplus_bits
from stillwatch.detect.traits import Traits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALLEST_MEETING = 4
"""Fewest carriers that make a meeting; two or three accounts share most things by chance or kinship."""

LEANING = 2.0
"""Times the expected carriers from which a hub leans towards a group."""

HALF = 0.5
"""Pseudo-count of the rates of hubs (Krichevsky & Trofimov 1981)."""

DOSES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Where doses are told apart: the share of an account's exchanges that show what its group shares."""

COUNTS = (2, 3, 5, 9, 17)
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
        hubs = within & traits.of_family(family)
        who = traits.incidence(family)
        observed = who.observed(group)
        met = np.flatnonzero(hubs & (observed >= SMALLEST_MEETING))
        bits = surplus_bits(observed[met], who.expected(group, met))
        result[met[stands_out(bits, int(hubs.sum()))]] = True
    return result


def leaning_hubs(traits: Traits, group: Ints, *, within: Mask) -> Mask:
    """The hubs that lean towards a group: `LEANING` times as many of its units carry them as its share predicts.

    One such hub says nothing; an account that carries a dozen, as all who come through one pool of exits do, does.
    """
    result = np.zeros(len(traits), bool)
    for family in FORMING_FAMILIES:
        hubs = within & traits.of_family(family)
        who = traits.incidence(family)
        observed = who.observed(group)
        met = np.flatnonzero(hubs & (observed >= 2))
        result[met[observed[met] >= LEANING * who.expected(group, met)]] = True
    return result


def explained_away(traits: Traits, group: Ints) -> Mask:
    """Templates of the group that a third or more of their users outside it use too, if it has others.

    A public judge prompt that a campaign also sends says nothing about those who send it; where a group has no
    template of its own, nothing is explained away. How many of the group use one is told by its core, the half of it
    that fits best: users of a public template who got in for that alone must not vouch for it.
    """
    content = enriched_hubs(traits, group, within=traits.of_family("content") & traits.forming)
    bits = membership_bits(traits, group, within=traits.forming)[group]
    core = group[bits >= np.median(bits)]
    carriers = traits.by_account.carriers.sum(axis=1)
    ours = traits.by_account.observed(core) * (len(group) / len(core))
    public = content & (3 * np.minimum(ours, traits.by_account.observed(group)) < 2 * carriers)
    return public if (content & ~public).any() else np.zeros(len(traits), bool)


def membership_bits(
    traits: Traits, group: Ints, *, within: Mask, joint: bool = True, own_content: bool = False
) -> Floats:
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
        joint: take each family given the one before and every hub that leans; False while a group grows, when only
            hubs it made its own count, and the members it has not reached yet are no outsiders to learn from.
        own_content: of content, take only what the group made its own.

    Returns:
        (accounts,) bits; cost linear in edges.
    """
    n, size = traits.share.shape[0], len(group)
    inside = np.zeros(n, bool)
    inside[group] = True
    own = (leaning_hubs if joint else enriched_hubs)(traits, group, within=within)
    if own_content:
        own &= ~traits.of_family("content") | enriched_hubs(traits, group, within=within)
    total = np.full(n, np.log2((size + 0.5) / (n - size + 0.5)))
    met = np.zeros(n, bool)
    cards = np.flatnonzero(own & traits.of_family("identity"))
    carded = np.zeros(n, bool)
    carded[traits.by_hub[:, cards].indices] = True
    for family in FORMING_FAMILIES[1:]:
        hubs = np.flatnonzero(own & traits.of_family(family))
        if len(hubs):
            carried = traits.by_hub[:, hubs]
            dose = np.asarray(carried.tocsr().sum(axis=1)).ravel() if family != "funding" else None
            bits = _carrier_bits(carried, inside, met, unit=traits.by_unit.unit, dose=dose)
            total += np.where(carded, 0.0, bits) if family == "funding" else bits
            if joint:
                met[carried.indices] = True
    if len(cards):
        vouching = inside & (total > 0) if joint else inside
        total += _carrier_bits(traits.by_hub[:, cards], vouching, np.zeros(n, bool), unit=np.arange(n))
    return total


def _carrier_bits(carried: csc_matrix, inside: Mask, met: Mask, *, unit: Ints, dose: Floats | None = None) -> Floats:
    """One family's e-value of every account in bits, from who carries the hubs that lean to a group, (accounts, hubs).

    Outsiders' rates are taken apart for accounts that `met` the group. `unit` is what an account is left out with:
    accounts of one payer would vouch for one another.
    """
    n_hubs = carried.shape[1]
    row, column = carried.indices.astype(np.int64), np.repeat(np.arange(n_hubs), np.diff(carried.indptr))
    carries = np.zeros(len(inside), bool)
    carries[row] = True
    at, place = np.flatnonzero(carries), (np.cumsum(carries) - 1)[row]
    member, own = inside[row], inside[at]
    n_in = int(np.count_nonzero(inside))
    n_out, some_in = len(inside) - n_in, int(np.count_nonzero(own))
    some_out = len(at) - some_in
    edges_in = np.bincount(column[member], minlength=n_hubs)
    kin_edges = _of_own_unit(unit[row] * n_hubs + column, member)
    unit_edges = np.bincount(unit[row], member)[unit[row]]
    weight = (edges_in[column] - kin_edges) / np.maximum(edges_in.sum() - unit_edges, 1)
    edges_out = np.bincount(column[~member], minlength=n_hubs)
    rate_out = (edges_out[column] - ~member + HALF) / (n_out - ~member + 1)
    n_met = int(np.count_nonzero(met & ~inside))
    edges_met = np.bincount(column[met[row] & ~member], minlength=n_hubs)
    own_met = met[row] & ~member
    rate_met = (edges_met[column] - own_met + SHRINK * rate_out) / (n_met - own_met + SHRINK)
    rate = np.where(met[row], np.maximum(rate_met, rate_out), rate_out)
    carried = np.bincount(place, weight / rate, minlength=len(at))
    cover = (some_in - own + HALF) / (n_in - own + 1)
    none_in = _lacking(some_in, n_in) / _lacking(some_out, n_out + 1)
    none_out = _lacking(some_in, n_in + 1) / _lacking(some_out, n_out)
    bits: Floats = np.full(len(inside), np.log2(none_out + TINY))
    bits[inside] = np.log2(none_in + TINY)
    bits[at] = np.log2(cover * carried + TINY)
    if dose is not None:
        bits[at] += _level_bits(np.searchsorted(DOSES, dose[at], side="right"), len(DOSES) + 1, own)
        n_carried = np.bincount(place)
        bits[at] += _level_bits(np.searchsorted(COUNTS, n_carried, side="right"), len(COUNTS) + 1, own)
    return bits


def _level_bits(level: Ints, n_levels: int, member: Mask) -> Floats:
    """log2 of how much likelier a level is in members than in others, each account left out of its own rate."""
    inside, outside = (np.bincount(level[who], minlength=n_levels)[level] for who in (member, ~member))
    rate_in = (inside - member + 1.0) / (member.sum() - member + n_levels)
    rate_out = (outside - ~member + 1.0) / ((~member).sum() - ~member + n_levels)
    return np.asarray(np.log2(rate_in / rate_out))


def _of_own_unit(key: Ints, member: Mask) -> Ints:
    """For each edge, how many edges of members have its key."""
    _, at = np.unique(key, return_inverse=True)
    return np.bincount(at, member)[at].astype(np.int64)


def _lacking(some: int, n: int) -> float:
    """Rate of those of n who carry none of a group's hubs, kept above 0 where all do and nobody is to be weighed."""
    return max(1.0 - (some + HALF) / max(n, 1), TINY)
