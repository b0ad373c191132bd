"""groups: accounts that meet in surprising cells, grown by propagation and peeled; candidates, not verdicts.

Groups form on all hubs and, for the tests, on each half of them (hubs are halved by keyed coins, more than once). What
formed on one half is tested by `evidence` on the other; what formed on all is what a finding reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix
from sknetwork.clustering import Louvain

from stillwatch.detect.cells import (
    FORMING_FAMILIES,
    MEETINGS,
    TEMPLATES_ONLY,
    Cells,
    Meetings,
    Pairs,
    find_cells,
    find_meetings,
    stands_out,
    surplus_bits,
)
from stillwatch.detect.population import Population
from stillwatch.detect.traits import N_HALVES, Traits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_GROUPS = 8
"""Groups grown per round, the strongest first; a bound on the work, far above any campaign count on record."""

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

JOIN_BITS = 2.5
"""Odds at which an account joins a growing group: about 6 to 1, so that it does not grow into its surroundings."""

MADE_AGAIN, MADE_BY_HALF = 0.8, 0.6
"""Jaccard index of a whole seed and what its members make of it, and of that and what its better half makes."""

THE_SAME = 0.9
"""Jaccard index of two candidates from which only one is weighed."""

SPLITS_OF_A_SEED = 3
"""Most groups that are looked for in one seed."""

SETTLING_ROUNDS = 8
"""Most rounds in which a group grows into its campaign, and most in which it is peeled again."""

STAY_BITS = 1.58
"""Odds of 3 at which an account vouches for others while a group is peeled."""

MEMBERSHIP_ROUNDS = 6
"""Most rounds of propagation; it stops as soon as no account moves."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group to be weighed.

    Attributes:
        members: account positions, ascending, membership >= 0.5. membership: (accounts,) probability of belonging.
        halves: the group as formed on each half of the hubs alone; None where that half did not show it.
        templates_only: whether it formed on templates alone, which anybody may send.
    """

    members: Ints
    membership: Floats
    bits: Floats
    halves: tuple[Ints | None, ...]
    templates_only: bool = False


def find_candidates(population: Population, traits: Traits, *, n_min: int, threads: int = 1) -> list[Candidate]:
    """Find the groups worth weighing, largest first.

    Args:
        n_min: accounts below which a group is not weighed. threads: sets of hubs that form groups side by side.

    Cost: linear in account-hub edges; no pairs of accounts.
    """
    meetings = find_meetings(traits, n_min=SMALLEST_MEETING)
    everything, parts = traits.forming, [traits.forming & traits.half(number) for number in range(N_HALVES)]
    form = partial(form_groups, population, traits, meetings, n_min=n_min)
    with ThreadPoolExecutor(threads) as pool:
        whole = pool.submit(form, within=everything, rounds=(MEETINGS, MEETINGS, TEMPLATES_ONLY))
        halves = list(
            pool.map(
                lambda within: _settled(traits, form(within=within, rounds=(MEETINGS, TEMPLATES_ONLY)), within, n_min),
                parts,
            )
        )
    candidates = []
    for seed, templates_only in whole.result():
        for bits in settled_bits(traits, seed, within=everything, n_min=n_min):
            membership = 1.0 / (1.0 + np.exp2(-np.clip(bits, -1000, 1000)))
            members = np.flatnonzero(membership >= 0.5)
            if len(members) >= n_min:
                matched = tuple(_best_match(members, half) for half in halves)
                candidates.append(Candidate(members, membership, bits, matched, templates_only))
    return _distinct(candidates)


def form_groups(
    population: Population,
    traits: Traits,
    meetings: list[Meetings],
    *,
    within: Mask,
    n_min: int,
    rounds: Sequence[Pairs],
) -> list[tuple[Ints, bool]]:
    """Group accounts that share surprising cells of the hubs `within`, then peel and look again.

    Accounts of one paying unit make no group: their operator is in plain sight. With each group comes whether it
    formed on templates alone.

    Args:
        meetings: those of the first round, of all the traits. rounds: the families that meet in each.
    """
    groups: list[tuple[Ints, bool]] = []
    gone = np.zeros(len(population), bool)
    rest = traits
    for turn, pairs in enumerate(rounds):
        if turn:
            rest = traits.without(population, gone) if gone.any() and pairs is not TEMPLATES_ONLY else traits
            meetings = find_meetings(rest, n_min=SMALLEST_MEETING, pairs=pairs)
        found = _communities(rest, find_cells(meetings, within=within, n_min=SMALLEST_MEETING), n_min)
        found = [seed for seed in found if len(np.unique(population.unit[seed])) > 1][:MOST_GROUPS]
        found = [group for group in (_propagate(rest, seed, within) for seed in found) if len(group) >= n_min]
        if found:
            groups += [(group, pairs is TEMPLATES_ONLY) for group in found]
            gone[np.concatenate(found)] = True
    return sorted(groups, key=lambda found: (-len(found[0]), int(found[0][0])))


def _settled(traits: Traits, seeds: list[tuple[Ints, bool]], within: Mask, n_min: int) -> list[Ints]:
    found = (bits for seed, _ in seeds for bits in settled_bits(traits, seed, within=within, n_min=n_min))
    return [group for bits in found if len(group := np.flatnonzero(bits >= 0)) >= n_min]


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
        if _jaccard(seed, group) >= MADE_AGAIN and _jaccard(group, again) >= MADE_BY_HALF:
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
    for content, least in ((leaning_hubs, 0.0), (enriched_hubs, STAY_BITS)):
        for _ in range(SETTLING_ROUNDS):
            if len(group) < SMALLEST_MEETING:
                return nothing
            bits = membership_bits(traits, group, within=_telling(traits, group, within), content=content)
            before, group = group, np.flatnonzero(bits >= least)
            if np.array_equal(before, group):
                break
    if len(group) < SMALLEST_MEETING:
        return nothing
    templates = ~traits.of_family("content") | traits.template
    return membership_bits(traits, group, within=_telling(traits, group, within) & templates)


def _telling(traits: Traits, group: Ints, within: Mask) -> Mask:
    return within & ~explained_away(traits, group)


def _jaccard(a: Ints, b: Ints) -> float:
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(len(a) + len(b) - common, 1)


def overlap(a: Ints, b: Ints) -> float:
    """Share of the smaller of two sets of accounts that is in the other."""
    return len(np.intersect1d(a, b, assume_unique=True)) / max(min(len(a), len(b)), 1)


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
    traits: Traits, group: Ints, *, within: Mask, joint: bool = True, content: Callable[..., Mask] | None = None
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

    Returns:
        (accounts,) bits; cost linear in edges.
    """
    n, size = traits.share.shape[0], len(group)
    inside = np.zeros(n, bool)
    inside[group] = True
    own = (leaning_hubs if joint else enriched_hubs)(traits, group, within=within)
    if joint and content is enriched_hubs:
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


def _propagate(traits: Traits, group: Ints, within: Mask) -> Ints:
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


def _communities(traits: Traits, cells: Cells, n_min: int) -> list[Ints]:
    """Accounts seated in the same community of cells, the one with most bits an account first.

    Hubs are joined by the bits of the cells they make and parted by modularity (Louvain; Blondel et al. 2008), so that
    a network or a phrase which two groups share does not make them one. An account belongs where its cells weigh most.
    """
    if not len(cells.a):
        return []
    hubs, ends = np.unique(np.concatenate([cells.a, cells.b]), return_inverse=True)
    n_hubs, n_cells = len(hubs), len(cells.a)
    a, b = ends[:n_cells], ends[n_cells:]
    joined = csr_matrix((np.tile(cells.bits, 2), (np.r_[a, b], np.r_[b, a])), shape=(n_hubs, n_hubs))
    community = Louvain(shuffle_nodes=False, sort_clusters=False).fit_predict(joined)
    inner = np.flatnonzero(community[a] == community[b])
    carried = traits.by_hub[:, hubs]
    carried.data[:] = 1.0
    sits = carried[:, a[inner]].multiply(carried[:, b[inner]])
    belongs = csr_matrix((cells.bits[inner], (np.arange(len(inner)), community[a[inner]])), dtype=np.float64)
    weight = (sits.tocsr() @ belongs).tocsr()
    seated = np.flatnonzero(np.diff(weight.indptr) > 0)
    if not len(seated):
        return []
    weight = weight[seated].tocoo()
    heaviest = np.lexsort((weight.col, -weight.data, weight.row))
    label = weight.col[heaviest][np.r_[True, np.diff(weight.row[heaviest]) > 0]].astype(np.int64)
    strength = np.bincount(community[a[inner]], cells.bits[inner])
    each = strength / np.maximum(np.bincount(label, minlength=len(strength)), 1)
    order = np.lexsort((seated, label, -each[label]))
    edges = np.flatnonzero(np.diff(label[order])) + 1
    return [np.sort(seated[part]) for part in np.split(order, edges) if len(part) >= n_min]


def _best_match(members: Ints, groups: list[Ints]) -> Ints | None:
    """The group most like the members, if it overlaps by more than half of the smaller of the two."""
    alike = [group for group in groups if overlap(members, group) > 0.5]
    return max(alike, key=lambda group: _jaccard(members, group), default=None)


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """Of candidates that are nearly the same, the one whose members belong most; largest first.

    Those that overlap otherwise are all weighed, and `evidence.judge.apart` decides.
    """
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (-one.bits[one.members].sum(), int(one.members[0]))):
        if all(_jaccard(candidate.members, one.members) < THE_SAME for one in kept):
            kept.append(candidate)
    return sorted(kept, key=lambda one: (-len(one.members), int(one.members[0])))
