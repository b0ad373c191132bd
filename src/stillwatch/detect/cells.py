"""cells: pairs of hubs from two families that meet in more accounts than chance allows.

A cell is (one hub of one family, one hub of another). If the families were independent within a cohort, the number
of accounts that carry both would be close to what the popularity of each predicts. Popularity alone never makes a
cell: a tool half of all accounts use meets every network as often as it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, triu

from stillwatch.detect.traits import Traits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FORMING_FAMILIES = ("identity", "funding", "network_client", "content")

Pairs = Sequence[tuple[str, str]]

MEETINGS: Pairs = tuple(pair for pair in combinations(FORMING_FAMILIES, 2) if pair != ("identity", "funding"))
"""Families whose hubs may make a cell; a payment instrument and its issuer are one fact, and mail
domains stand beside issuers since both are compared within a country."""

TEMPLATES_ONLY: Pairs = (("content", "content"),)
"""Accounts that share several templates and nothing else: users of one tool, or of one work list."""

FALSE_CELLS = 0.01
"""Share of the cells that may be false (Benjamini & Hochberg); a false cell seats a handful of accounts at most."""


MOST_CELLS = 200_000
"""Cells kept, the strongest first."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Surprising cells: hub pairs `a`, `b`, the units that carry both, what the cohorts predicted, and the bits.

    Bits are the Chernoff bound on the Poisson upper tail, x log2(x / m) - (x - m) / ln 2.
    """

    a: Ints
    b: Ints
    observed: Ints
    expected: Floats
    bits: Floats


@dataclass(frozen=True, slots=True)
class Meetings:
    """The hubs of two families that share a unit, counted once for all the sets of hubs that form groups.

    Attributes:
        hubs: the hubs of either family. carried: (units, hubs of a family) ones. cohort: (units,).
        by_cohort: (cohorts, hubs of a family) units that carry each hub. at: which two hubs meet. observed: how often.
    """

    hubs: tuple[Ints, Ints]
    carried: tuple[csr_matrix, csr_matrix]
    cohort: Ints
    by_cohort: tuple[Ints, Ints]
    at: tuple[Ints, Ints]
    observed: Ints

    def standing_out(self, within: Mask, *, n_min: int) -> Cells:
        """The cells among the hubs `within`: met by `n_min` units or more, and kept by Benjamini & Hochberg (1995).

        A campaign of many templates and many networks makes many cells, each weak; so no fixed bar would do. The
        expectation is that of a configuration model per cohort (Chung & Lu 2002), n_a n_b sum(d d') / (sum d sum d');
        hubs that are not `within` count in no degree, so that what tests a group has no part in forming it.
        """
        inside = [within[hubs] for hubs in self.hubs]
        both = inside[0][self.at[0]] & inside[1][self.at[1]]
        met = np.flatnonzero(both & (self.observed >= n_min))
        a, b, observed = self.at[0][met], self.at[1][met], self.observed[met]
        degree = [carried @ some.astype(np.float64) for carried, some in zip(self.carried, inside, strict=True)]
        sums = [np.bincount(self.cohort, one) for one in degree]
        rate = np.bincount(self.cohort, degree[0] * degree[1]) / np.maximum(sums[0] * sums[1], 1.0)
        expected = np.zeros(len(met))
        for level, here in enumerate(rate):
            expected += here * (self.by_cohort[0][level, a] * self.by_cohort[1][level, b])
        bits = surplus_bits(observed, expected)
        ok = stands_out(bits, int(np.count_nonzero(both)))
        return Cells(self.hubs[0][a[ok]], self.hubs[1][b[ok]], observed[ok], expected[ok], bits[ok])


def find_meetings(traits: Traits, *, n_min: int, pairs: Pairs = MEETINGS) -> list[Meetings]:
    """Count how often the hubs that form groups meet, for each two families.

    Between two families paying units are counted, so that one organisation's accounts count once; where payment
    itself is one of the two, accounts are. Within one family only templates meet, and none meets itself.

    Args:
        n_min: units that must carry a hub.

    Cost: linear in account-hub edges times the hubs one account carries (bounded by `HUBS_PER_ACCOUNT`).
    """
    found = []
    for families in pairs:
        who = traits.incidence(families[0])
        inner = families[0] == families[1]
        enough = traits.forming & (who.carriers.sum(axis=1) >= n_min) & (traits.template if inner else True)
        left, right = (np.flatnonzero(enough & traits.of_family(family)) for family in families)
        a, b = who.carried[:, left], who.carried[:, right]
        met = (triu(a.T @ b, 1) if inner else a.T @ b).tocoo()
        by_cohort = (who.carriers[left].T, who.carriers[right].T)
        observed = met.data.astype(np.int64)
        found.append(Meetings((left, right), (a, b), who.cohort, by_cohort, (met.row, met.col), observed))
    return found


def find_cells(meetings: list[Meetings], *, within: Mask, n_min: int) -> Cells:
    """The cells among the hubs `within`, (h,), those of all families together, the strongest `MOST_CELLS`."""
    found = [one.standing_out(within, n_min=n_min) for one in meetings]
    cells = Cells(*(np.concatenate([getattr(one, name) for one in found]) for name in Cells.__slots__))
    if len(cells.bits) <= MOST_CELLS:
        return cells
    strongest = np.sort(np.lexsort((cells.b, cells.a, -cells.bits))[:MOST_CELLS])
    return Cells(*(getattr(cells, name)[strongest] for name in Cells.__slots__))


def stands_out(bits: Floats, n_looked_at: int) -> Mask:
    """Benjamini & Hochberg (1995) at `FALSE_CELLS`, with 2^-bits as p-values of the n cells looked at."""
    ordered = np.sort(bits)[::-1]
    allowed = np.log2(max(n_looked_at, 1) / (FALSE_CELLS * np.arange(1, len(bits) + 1)))
    passing = np.flatnonzero(ordered >= allowed)
    return bits >= (ordered[passing[-1]] if len(passing) else np.inf)


def surplus_bits(observed: npt.NDArray[np.generic], expected: Floats) -> Floats:
    """Chernoff bound on the Poisson upper tail, in bits: x log2(x / m) - (x - m) / ln 2 where x > m, else 0."""
    x = observed.astype(np.float64)
    more = x > expected
    ratio = np.where(more, x / np.maximum(expected, 1e-300), 1.0)
    return np.where(more, x * np.log2(ratio) - (x - expected) / np.log(2), 0.0)
