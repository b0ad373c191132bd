"""groups: accounts that meet in surprising cells, grown by propagation and peeled; candidates, not verdicts.

Groups form on all hubs and, for the tests, on each half of them (hubs are halved by keyed coins, more than once). What
formed on one half is tested by `evidence` on the other; what formed on all is what a finding reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix
from sknetwork.clustering import Louvain

from stillwatch.detect.cells import MEETINGS, TEMPLATES_ONLY, Cells, Meetings, Pairs, find_cells, find_meetings
from stillwatch.detect.growth import Growth, jaccard, overlap, propagate
from stillwatch.detect.incidence import heaviest
from stillwatch.detect.membership import SMALLEST_MEETING
from stillwatch.detect.population import Population
from stillwatch.detect.traits import N_HALVES, Traits
from stillwatch.kernels.carriers import meeting

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_GROUPS = 8
"""Groups grown per round, the strongest first; a bound on the work, far above any campaign count on record."""

THE_SAME = 0.9
"""Jaccard index of two candidates from which only one is weighed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group to be weighed.

    Attributes:
        members: account positions, ascending, membership >= 0.5. membership: (accounts,) probability of belonging.
        halves: the group as formed on each half of the hubs alone; None where that half did not show it.
    """

    members: Ints
    membership: Floats
    bits: Floats
    halves: tuple[Ints | None, ...]

    def without(self, known: Mask) -> Candidate:
        """The group without some accounts, which are outsiders to it from now on."""
        bits = np.where(known, -np.inf, self.bits)
        halves = tuple(None if half is None else half[~known[half]] for half in self.halves)
        return Candidate(self.members[~known[self.members]], np.where(known, 0.0, self.membership), bits, halves)


def believed(bits: Floats) -> tuple[Ints, Floats]:
    """Who is of a group, by log2 odds: positions of membership >= 0.5, ascending, and (accounts,) membership."""
    membership = 1.0 / (1.0 + np.exp2(-np.clip(bits, -1000, 1000)))
    return np.flatnonzero(membership >= 0.5), membership


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
        on_half = [pool.submit(form, within=part, rounds=(MEETINGS, TEMPLATES_ONLY)) for part in parts]
        public: dict[bytes, Ints] = {}
        growth, *growths = (Growth(traits, hubs, public) for hubs in (everything, *parts))
        seeds = (half.result() for half in on_half)
        settling = pool.map(partial(_settled, n_min=n_min), growths, seeds)
        settled = list(pool.map(lambda seed: list(growth.settled(seed, n_min=n_min)), whole.result()))
        halves = list(settling)
    candidates = []
    for found in chain.from_iterable(settled):
        bits = found.of_everybody()
        members, membership = believed(bits)
        if len(members) >= n_min:
            matched = tuple(_best_match(members, half) for half in halves)
            candidates.append(Candidate(members, membership, bits, matched))
    return _distinct(candidates)


def form_groups(
    population: Population,
    traits: Traits,
    meetings: list[Meetings],
    *,
    within: Mask,
    n_min: int,
    rounds: Sequence[Pairs],
) -> list[Ints]:
    """Group accounts that share surprising cells of the hubs `within`, then peel and look again; the largest first.

    Accounts of one paying unit make no group: their operator is in plain sight. Templates form groups of everybody,
    since a part of a campaign found before would take them from the rest of it.

    Args:
        meetings: those of the first round, of all the traits. rounds: the families that meet in each.
    """
    groups: list[Ints] = []
    gone = np.zeros(len(population), bool)
    rest = traits
    for turn, pairs in enumerate(rounds):
        if turn:
            rest = traits.without(population, gone) if gone.any() and pairs is not TEMPLATES_ONLY else traits
            meetings = find_meetings(rest, n_min=SMALLEST_MEETING, pairs=pairs)
        found = _communities(rest, find_cells(meetings, within=within, n_min=SMALLEST_MEETING), n_min)
        found = [seed for seed in found if len(np.unique(population.unit[seed])) > 1][:MOST_GROUPS]
        found = [group for group in (propagate(rest, seed, within) for seed in found) if len(group) >= n_min]
        if found:
            groups += found
            gone[np.concatenate(found)] = True
    return sorted(groups, key=lambda group: (-len(group), int(group[0])))


def _settled(growth: Growth, seeds: list[Ints], n_min: int) -> list[Ints]:
    """The groups that seeds on some of the hubs hold."""
    found = (one.reaching(0.0) for seed in seeds for one in growth.settled(seed, n_min=n_min))
    return [group for group in found if len(group) >= n_min]


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
    starts, seats = meeting(traits.edges, hubs[a[inner]], hubs[b[inner]])
    sits = csc_matrix((np.ones(len(seats)), seats, starts), shape=(traits.share.shape[0], len(inner)))
    belongs = csr_matrix((cells.bits[inner], (np.arange(len(inner)), community[a[inner]])), dtype=np.float64)
    seated, label = heaviest(sits.tocsr() @ belongs)
    if not len(seated):
        return []
    strength = np.bincount(community[a[inner]], cells.bits[inner])
    each = strength / np.maximum(np.bincount(label, minlength=len(strength)), 1)
    order = np.lexsort((seated, label, -each[label]))
    edges = np.flatnonzero(np.diff(label[order])) + 1
    return [np.sort(seated[part]) for part in np.split(order, edges) if len(part) >= n_min]


def _best_match(members: Ints, groups: list[Ints]) -> Ints | None:
    """The group most like the members, if it overlaps by more than half of the smaller of the two."""
    alike = [group for group in groups if overlap(members, group) > 0.5]
    return max(alike, key=lambda group: jaccard(members, group), default=None)


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """Of candidates that are nearly the same, the one whose members belong most; largest first.

    Those that overlap otherwise are all weighed, and `evidence.judge.apart` decides.
    """
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (-one.bits[one.members].sum(), int(one.members[0]))):
        if all(jaccard(candidate.members, one.members) < THE_SAME for one in kept):
            kept.append(candidate)
    return sorted(kept, key=lambda one: (-len(one.members), int(one.members[0])))
