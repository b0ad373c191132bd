"""groups: accounts that meet in surprising cells, grown by propagation and peeled; candidates, not verdicts.

Groups form three times: on each half of the hubs (the halves are keyed coins) and on all. What formed on one half is
tested by `evidence` on the other; what formed on all is what a finding reports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import bmat, csr_matrix
from scipy.sparse.csgraph import connected_components

from stillwatch.detect.cells import FORMING_FAMILIES, Cells, find_cells, hub_counts, surplus_bits
from stillwatch.detect.population import Population
from stillwatch.detect.traits import Traits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FORMING_ROUNDS = 3
"""Times the cells are looked for again without the groups already found, so that what a group made popular is
judged on everybody else."""

SMALLEST_MEETING = 4
"""Fewest carriers that make a meeting; two or three accounts share most things by chance or kinship."""

OWN_BITS = 4.0
"""Surplus bits of a hub a group made its own: one false hub in 16 groups, harmless since each is weighed by its rate."""

HALF = 0.5
"""Pseudo-count of the rates of hubs (Krichevsky & Trofimov 1981)."""

TINY = 2.0**-20
"""Floor of a membership e-value: no single family can rule an account out for good."""

MEMBERSHIP_ROUNDS = 8
"""Most rounds of propagation; it stops as soon as no account moves."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group to be weighed.

    Attributes:
        members: account positions, ascending, membership >= 0.5. membership: (accounts,) probability of belonging.
        halves: the group as formed on hub fold 0 and on fold 1 alone; None where that half did not show it.
    """

    members: Ints
    membership: Floats
    bits: Floats
    halves: tuple[Ints | None, Ints | None]


def find_candidates(population: Population, traits: Traits, *, n_min: int) -> list[Candidate]:
    """Find the groups worth weighing, largest first.

    Args:
        n_min: accounts below which a group is not weighed.

    Cost: linear in account-hub edges; no pairs of accounts.
    """
    halves = [form_groups(population, traits, within=traits.forming & (traits.fold == fold), n_min=n_min) for fold in (0, 1)]
    candidates = []
    for seed in form_groups(population, traits, within=traits.forming, n_min=n_min):
        bits = membership_bits(population, traits, seed, within=traits.forming)
        membership = 1.0 / (1.0 + np.exp2(-np.clip(bits, -1000, 1000)))
        members = np.flatnonzero(membership >= 0.5)
        if len(members) >= n_min:
            matched = tuple(_best_match(members, half) for half in halves)
            candidates.append(Candidate(members, membership, bits, (matched[0], matched[1])))
    return _distinct(candidates)


def form_groups(population: Population, traits: Traits, *, within: Mask, n_min: int) -> list[Ints]:
    """Group accounts that share surprising cells of the hubs `within`, then peel and look again."""
    groups: list[Ints] = []
    left = np.ones(len(population), bool)
    share = traits.share
    for _ in range(FORMING_ROUNDS):
        rest = replace(traits, share=_only(share, left))
        found = _components(rest, find_cells(population, rest, within=within, n_min=SMALLEST_MEETING), n_min)
        found = [group for group in (_propagate(population, rest, seed, within) for seed in found) if len(group) >= n_min]
        if not found:
            break
        groups += found
        left[np.concatenate(found)] = False
    return sorted(groups, key=lambda group: (-len(group), int(group[0])))


def enriched_hubs(population: Population, traits: Traits, group: Ints, *, within: Mask) -> Mask:
    """The hubs a group made its own: carried by more of its units than its share of the cohorts predicts.

    Identity hubs are counted by account, the others by paying unit. A hub needs `SMALLEST_MEETING` carriers and
    `OWN_BITS` beyond the logarithm of the hubs looked at.
    """
    inside = np.zeros(len(population), bool)
    inside[group] = True
    result = np.zeros(len(traits), bool)
    for family in FORMING_FAMILIES:
        hubs = np.flatnonzero(within & traits.of_family(family))
        unit = np.arange(len(population)) if family == "identity" else population.unit
        counts = hub_counts(population, traits, hubs, inside=inside, unit=unit)
        bits = surplus_bits(counts.observed, counts.expected)
        result[hubs[(counts.observed >= SMALLEST_MEETING) & (bits >= np.log2(len(hubs) + 1) + OWN_BITS)]] = True
    return result


def membership_bits(population: Population, traits: Traits, group: Ints, *, within: Mask) -> Floats:
    """log2 odds that an account belongs to a group, from the hubs it shares with it.

    Per family an e-value with a published alternative: a member carries one of the hubs the group made its own, hub h
    with weight w_h (its share of the members' edges), or, as often as members do, none of them. An outsider carries
    each as often as outsiders do, so the e-value is c sum w_h [carries h] / p_h + (1 - c) [carries none] / p_none.
    Families multiply; the prior is the group's share of the population. An account is left out of the rates it is
    compared with.

    Returns:
        (accounts,) bits; cost linear in edges.
    """
    n, size = len(population), len(group)
    inside = np.zeros(n, bool)
    inside[group] = True
    own = enriched_hubs(population, traits, group, within=within)
    total = np.full(n, np.log2((size + 0.5) / (n - size + 0.5)))
    for family in FORMING_FAMILIES:
        hubs = np.flatnonzero(own & traits.of_family(family))
        if len(hubs):
            total += np.log2(_carrier_e(traits, hubs, inside))
    return total


def _carrier_e(traits: Traits, hubs: Ints, inside: Mask) -> Floats:
    edges = traits.share[:, hubs].tocoo()
    row, column = edges.row, edges.col
    member = inside[row]
    n_in, n_out = int(inside.sum()), int((~inside).sum())
    edges_in = np.bincount(column[member], minlength=len(hubs))
    edges_out = np.bincount(column[~member], minlength=len(hubs))
    weight = (edges_in[column] - member) / np.maximum(edges_in.sum() - member, 1)
    rate_out = (edges_out[column] - ~member + HALF) / (n_out - ~member + 1)
    carried = np.bincount(row, weight / rate_out, minlength=len(inside))
    some = np.bincount(row, minlength=len(inside)) > 0
    some_in, some_out = int(some[inside].sum()), int(some[~inside].sum())
    cover = (some_in - (some & inside) + HALF) / (n_in - inside + 1)
    none_out = 1.0 - (some_out - (some & ~inside) + HALF) / (n_out - ~inside + 1)
    return np.asarray(np.where(some, cover * carried, (1.0 - cover) / none_out) + TINY)


def _propagate(population: Population, traits: Traits, group: Ints, within: Mask) -> Ints:
    """Grow and peel: account to hub to account until nobody joins or leaves."""
    for _ in range(MEMBERSHIP_ROUNDS):
        grown = np.flatnonzero(membership_bits(population, traits, group, within=within) >= 0)
        if np.array_equal(grown, group):
            break
        group = grown
        if not len(group):
            break
    return group


def _components(traits: Traits, cells: Cells, n_min: int) -> list[Ints]:
    """Accounts joined by the cells they sit in."""
    if not len(cells.a):
        return []
    carried = (traits.share > 0).astype(np.int8).tocsc()
    sits = carried[:, cells.a].multiply(carried[:, cells.b]).tocsr()
    graph = bmat([[None, sits], [sits.T, None]], format="csr")
    _, label = connected_components(graph, directed=False)
    n = traits.share.shape[0]
    seated = np.flatnonzero(np.diff(sits.indptr) > 0)
    order = seated[np.argsort(label[:n][seated], kind="stable")]
    edges = np.flatnonzero(np.diff(label[order])) + 1
    return [np.sort(part) for part in np.split(order, edges) if len(part) >= n_min]


def _only(share: csr_matrix, left: Mask) -> csr_matrix:
    kept = share.copy()
    kept.data[~np.repeat(left, np.diff(share.indptr))] = 0.0
    kept.eliminate_zeros()
    return kept


def _best_match(members: Ints, groups: list[Ints]) -> Ints | None:
    """The group that overlaps most, if it overlaps by more than half of the smaller of the two."""
    best, most = None, 0
    for group in groups:
        common = len(np.intersect1d(members, group, assume_unique=True))
        if common > most and 2 * common > min(len(members), len(group)):
            best, most = group, common
    return best


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """Drop a candidate whose members are mostly those of a larger one."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (-len(one.members), int(one.members[0]))):
        taken = any(2 * len(np.intersect1d(candidate.members, one.members)) > len(candidate.members) for one in kept)
        if not taken:
            kept.append(candidate)
    return kept
