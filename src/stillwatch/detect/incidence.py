"""incidence: who carries which hub, counted once per unit, and what a group's share of all activity predicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stillwatch.kernels.columns import frozen
from stillwatch.kernels.tallies import Counted, meet, predict, tally

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Incidence:
    """Units by hubs, prepared so that counting for a group costs what the group's own edges cost.

    Attributes:
        unit: (accounts,) row of each account in `carried`, -1 where the account takes no part.
        carried: (units, hubs) ones. kind: (hubs,) kind of each hub.
        cohort: (units,) cohort of each unit, that of its first account.
        activity: (units, kinds) hubs of each kind a unit carries, those nobody else carries included.
        totals: (cohorts, kinds) sums of `activity`. carriers: (hubs, cohorts) units that carry each hub.
    """

    unit: Ints
    carried: csr_matrix
    kind: Ints
    cohort: Ints
    activity: Ints
    totals: Ints
    carriers: Ints
    _counted: Counted = field(init=False, repr=False, compare=False)
    _of_kinds: dict[tuple[int, ...], tuple[Ints, csr_matrix]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        carried = self.carried
        arrays = (self.unit, carried.indptr, carried.indices, self.kind, self.cohort, self.activity, self.totals)
        counted = Counted(*(frozen(array.view()) for array in (*arrays, self.carriers)))
        object.__setattr__(self, "_counted", counted)

    def with_cohorts(self, cohort: Ints) -> Incidence:
        """The same counting by unit, with other cohorts, (accounts,)."""
        at = np.flatnonzero(self.unit >= 0)
        _, first = np.unique(self.unit[at], return_index=True)
        levels, totals, carriers = _by_cohort(self.carried, self.activity, cohort[at[first]])
        return replace(self, cohort=levels, totals=totals, carriers=carriers)

    def of_kinds(self, kinds: tuple[int, ...]) -> tuple[Ints, csr_matrix]:
        """The hubs of some kinds, and who carries them, (units, those hubs); found once."""
        if kinds not in self._of_kinds:
            hubs = np.flatnonzero(np.isin(self.kind, kinds))
            self._of_kinds[kinds] = hubs, self.carried[:, hubs]
        return self._of_kinds[kinds]

    def observed(self, members: Ints) -> Ints:
        """(hubs,) units of a group that carry each hub; a unit is in the group when any of its accounts is.

        Args:
            members: account positions; those that take no part are passed over.
        """
        return tally(self._counted, members)

    def expected(self, members: Ints, hubs: Ints) -> Floats:
        """(hubs,) how many carriers of some hubs the null puts into a group.

        The null: which carriers lie in the group does not depend on the hub, given cohort and activity. A group's
        share of a cohort is its share of the edges of the hub's kind, so that heavy users are expected to meet more.
        """
        return predict(self._counted, members, hubs)

    def met(self, members: Ints, within: Mask, *, first: int, least: int) -> tuple[Ints, Ints, Floats]:
        """Of the hubs from `first` on that are `within`, those `least` units carry, how many do, how many should."""
        return meet(self._counted, members, first=first, within=within, least=least)


def build_incidence(
    share: csr_matrix, alone: Ints, kind: Ints, *, unit: Ints, cohort: Ints, eligible: Mask | None = None
) -> Incidence:
    """Prepare counting by unit.

    Args:
        share: (accounts, hubs) who carries what. alone: (accounts, kinds) hubs only this account carries.
        kind: (hubs,). unit: (accounts,) what counts once. cohort: (accounts,).
        eligible: (accounts,) the population of the null; all by default.
    """
    n = share.shape[0]
    at = np.flatnonzero(np.ones(n, bool) if eligible is None else eligible)
    _, first, row = np.unique(unit[at], return_index=True, return_inverse=True)
    carried = csr_matrix((np.ones(share.nnz, np.float32), share.indices, share.indptr), shape=share.shape)
    if len(first) < n:
        joins = csr_matrix((np.ones(len(at), np.float32), (row, at)), shape=(len(first), n))
        carried = (joins @ carried).tocsr()
        carried.data[:] = 1.0
    n_kinds = alone.shape[1]
    activity = np.bincount(_row_of_edges(carried) * n_kinds + kind[carried.indices], minlength=len(first) * n_kinds)
    activity = activity.reshape(len(first), n_kinds) + _sums(alone[at], row, len(first))
    levels, totals, carriers = _by_cohort(carried, activity, cohort[at[first]])
    place = np.full(n, -1, np.int64)
    place[at] = row
    return Incidence(place, carried, kind, levels, activity, totals, carriers)


def _by_cohort(carried: csr_matrix, activity: Ints, cohort: Ints) -> tuple[Ints, Ints, Ints]:
    """`Incidence.cohort`, `totals` and `carriers` of units that lie in some cohorts, (units,)."""
    _, levels = np.unique(cohort, return_inverse=True)
    n_levels, n_hubs = int(levels.max(initial=-1)) + 1, carried.shape[1]
    flat = carried.indices.astype(np.int64) * n_levels + levels[_row_of_edges(carried)]
    carriers = np.bincount(flat, minlength=n_hubs * n_levels).reshape(n_hubs, n_levels)
    return levels, _sums(activity, levels, n_levels), carriers


def _row_of_edges(carried: csr_matrix) -> Ints:
    return np.repeat(np.arange(carried.shape[0]), np.diff(carried.indptr))


def _sums(counts: Ints, group: Ints, n: int) -> Ints:
    """(n, columns) sums of the rows of `counts` in each group."""
    return np.stack([np.bincount(group, column, minlength=n) for column in counts.T], axis=1).astype(np.int64)


def heaviest(weight: csr_matrix) -> tuple[Ints, Ints]:
    """The rows that hold anything, ascending, and the column that weighs most in each, the first of equals."""
    held = weight.tocoo()
    order = np.lexsort((held.col, -held.data, held.row))
    row, column = held.row[order].astype(np.int64), held.col[order].astype(np.int64)
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]][: len(row)])
    return row[first], column[first]
