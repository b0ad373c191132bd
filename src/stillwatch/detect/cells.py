"""cells: pairs of hubs from two families that meet in more accounts than chance allows.

A cell is (one hub of one family, one hub of another). If the families were independent within a cohort, the number
of accounts that carry both would be close to what the popularity of each predicts. Popularity alone never makes a
cell: a tool half of all accounts use meets every network as often as it should.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stillwatch.detect.population import Population
from stillwatch.detect.traits import Traits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FORMING_FAMILIES = ("identity", "network_client", "content")

SURPLUS_BITS = 10.0
"""Bits a cell must show beyond the logarithm of the number of cells looked at: one false cell in about 1,000 scans."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Surprising cells: hub pairs `a`, `b`, the units that carry both, what the cohorts predicted, and the bits."""

    a: Ints
    b: Ints
    observed: Ints
    expected: Floats
    bits: Floats


def find_cells(population: Population, traits: Traits, *, within: Mask, n_min: int) -> Cells:
    """Find the cells among the hubs `within`.

    Between two families the observed count is of paying units, not accounts, so that one organisation's accounts
    count once; where payment itself is one of the two, accounts are counted. The expectation is that of a
    configuration model per cohort (Chung & Lu 2002): n_a n_b sum(d d') / (sum d sum d'). Bits are the Chernoff bound
    on the Poisson upper tail, x log2(x / m) - (x - m) / ln 2.

    Args:
        within: (h,) hubs that may take part. n_min: smallest count that makes a cell.

    Cost: linear in account-hub edges times the hubs one account carries (bounded by `HUBS_PER_ACCOUNT`).
    """
    found = []
    for first, second in combinations(FORMING_FAMILIES, 2):
        unit = np.arange(len(population)) if first == "identity" else population.unit
        sides = [_side(traits, within & traits.of_family(family), unit, n_min) for family in (first, second)]
        found.append(_cells_between(sides[0], sides[1], unit_cohorts(unit, population.cohort), n_min))
    return Cells(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def unit_cohorts(unit: Ints, cohort: Ints) -> Ints:
    """Each unit's cohort: that of its first account."""
    _, first = np.unique(unit, return_index=True)
    return cohort[first]


def by_unit(share: csr_matrix, unit: Ints) -> csr_matrix:
    """Which unit carries which hub, as ones."""
    n = len(unit)
    joins = csr_matrix((np.ones(n, np.float32), (unit, np.arange(n))), shape=(int(unit.max(initial=-1)) + 1, n))
    carried = (joins @ (share > 0).astype(np.float32)).tocsr()
    carried.data[:] = 1.0
    return carried


def _side(traits: Traits, within: Mask, unit: Ints, n_min: int) -> tuple[Ints, csr_matrix]:
    """Hubs of one family with enough carriers, and who carries them."""
    hubs = np.flatnonzero(within)
    carried = by_unit(traits.share[:, hubs], unit)
    popular = np.flatnonzero(np.asarray(carried.sum(axis=0)).ravel() >= n_min)
    return hubs[popular], carried[:, popular]


def _cells_between(
    left: tuple[Ints, csr_matrix], right: tuple[Ints, csr_matrix], cohort: Ints, n_min: int
) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    (hubs_a, a), (hubs_b, b) = left, right
    met = (a.T @ b).tocoo()
    n_looked_at = met.nnz
    keep = met.data >= n_min
    row, column, observed = met.row[keep], met.col[keep], met.data[keep].astype(np.int64)
    expected = np.zeros(len(row))
    for level in range(int(cohort.max(initial=-1)) + 1):
        inside = cohort == level
        part_a, part_b = a[inside], b[inside]
        degree_a, degree_b = (np.asarray(part.sum(axis=1)).ravel() for part in (part_a, part_b))
        total = float(degree_a.sum()) * float(degree_b.sum())
        if total:
            n_a, n_b = (np.asarray(part.sum(axis=0)).ravel() for part in (part_a, part_b))
            expected += n_a[row] * n_b[column] * (float(degree_a @ degree_b) / total)
    bits = surplus_bits(observed, expected)
    ok = bits >= np.log2(n_looked_at + 1) + SURPLUS_BITS
    return hubs_a[row[ok]], hubs_b[column[ok]], observed[ok], expected[ok], bits[ok]


def surplus_bits(observed: npt.NDArray[np.generic], expected: Floats) -> Floats:
    """Chernoff bound on the Poisson upper tail, in bits: x log2(x / m) - (x - m) / ln 2 where x > m, else 0."""
    x = observed.astype(np.float64)
    more = x > expected
    ratio = np.where(more, x / np.maximum(expected, 1e-300), 1.0)
    return np.where(more, x * np.log2(ratio) - (x - expected) / np.log(2), 0.0)


@dataclass(frozen=True, slots=True)
class HubCounts:
    """Per hub: units that carry it, those of them inside a group, and how many inside the null predicts."""

    carriers: Ints
    observed: Ints
    expected: Floats


def hub_counts(
    population: Population, traits: Traits, hubs: Ints, *, inside: Mask, unit: Ints, eligible: Mask | None = None
) -> HubCounts:
    """Count the carriers of hubs inside a group, against the group's share of each cohort's activity.

    The share is of the edges of the hub's kind, hubs carried by one account included, so that heavy users are
    expected to meet more, and those who share much are not thereby expected to. A unit is inside when any of its
    accounts is.

    Args:
        eligible: (accounts,) the population of the null; all by default.
    """
    at = np.flatnonzero(np.ones(len(population), bool) if eligible is None else eligible)
    _, joined = np.unique(unit[at], return_inverse=True)
    within = np.zeros(int(joined.max(initial=-1)) + 1, bool)
    within[joined[inside[at]]] = True
    cohort = unit_cohorts(joined, population.cohort[at])
    counts = HubCounts(np.zeros(len(hubs), np.int64), np.zeros(len(hubs), np.int64), np.zeros(len(hubs)))
    for kind in np.unique(traits.kind[hubs]):
        asked = traits.kind[hubs] == kind
        start, stop = np.searchsorted(traits.kind, [kind, kind + 1])
        carried = by_unit(traits.share[at, start:stop], joined)
        activity = np.diff(carried.indptr) + np.bincount(joined, traits.alone[at, kind], minlength=len(within))
        carried = carried[:, hubs[asked] - start]
        counts.carriers[asked] = np.asarray(carried.sum(axis=0)).ravel()
        counts.observed[asked] = np.asarray(carried[within].sum(axis=0)).ravel()
        for level in np.unique(cohort[within]):
            here = cohort == level
            share = activity[here & within].sum() / max(activity[here].sum(), 1)
            counts.expected[asked] += np.asarray(carried[here].sum(axis=0)).ravel() * share
    return counts
