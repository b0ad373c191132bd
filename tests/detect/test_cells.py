"""cells: hub pairs against a plain count of pairs, and which of them stand out."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect import cells
from stillwatch.detect.cells import FORMING_FAMILIES, Cells, find_cells, find_meetings, surplus_bits
from stillwatch.detect.population import Population
from stillwatch.detect.traits import KINDS, Traits
from tests.detect.making import Crew, town

N_MIN = 4
BLOCK = np.arange(40, 75)
MEETING = {"network": 2, "head": 2}


def small_town(seed: int) -> tuple[Population, Traits]:
    """Three hundred accounts; 35 of them share two networks and two templates."""
    return town(300, Crew(BLOCK, MEETING), seed=seed, n_hubs={"system": 3})


def pairs_by_hand(people: Population, traits: Traits) -> dict[tuple[int, int], tuple[int, float]]:
    """Every pair of hubs of two families that meets: how many units carry both, and how many chance predicts."""
    accounts = [set(np.flatnonzero(traits.share[:, hub].toarray().ravel()).tolist()) for hub in range(len(traits))]
    family = [KINDS[kind].family for kind in traits.kind]
    pairs = {}
    for one, other in combinations(FORMING_FAMILIES, 2):
        unit = np.arange(len(people)) if "identity" in (one, other) else people.unit
        left, right = (
            [hub for hub in np.flatnonzero(traits.forming).tolist() if family[hub] == each] for each in (one, other)
        )
        carriers = {hub: {int(unit[account]) for account in accounts[hub]} for hub in [*left, *right]}
        carriers = {hub: who for hub, who in carriers.items() if len(who) >= N_MIN}
        cohort = {int(unit[account]): int(people.cohort[account]) for account in reversed(range(len(people)))}
        degree = [
            {u: sum(u in carriers[hub] for hub in side if hub in carriers) for u in cohort} for side in (left, right)
        ]
        levels = sorted(set(cohort.values()))
        sums = {
            level: (
                sum(degree[0][u] for u in cohort if cohort[u] == level),
                sum(degree[1][u] for u in cohort if cohort[u] == level),
                sum(degree[0][u] * degree[1][u] for u in cohort if cohort[u] == level),
            )
            for level in levels
        }
        for a in (hub for hub in left if hub in carriers):
            for b in (hub for hub in right if hub in carriers):
                both = carriers[a] & carriers[b]
                expected = 0.0
                for level, (d, d2, product) in sums.items():
                    if d and d2:
                        here = [sum(cohort[u] == level for u in carriers[hub]) for hub in (a, b)]
                        expected += here[0] * here[1] * product / (d * d2)
                if both:
                    pairs[a, b] = (len(both), expected)
    return pairs


def found_in(traits: Traits) -> Cells:
    """The cells among all hubs that may form groups."""
    return find_cells(find_meetings(traits, n_min=N_MIN), within=traits.forming, n_min=N_MIN)


@pytest.mark.parametrize("seed", [1, 2])
def test_cells_are_counted_as_pairs_are(seed: int) -> None:
    """Each cell's count and expectation are those of going through all pairs of hubs, account by account."""
    people, traits = small_town(seed)
    pairs = pairs_by_hand(people, traits)
    found = found_in(traits)
    assert len(found.a) >= 4
    for a, b, observed, expected, bits in zip(
        found.a, found.b, found.observed, found.expected, found.bits, strict=True
    ):
        n, by_chance = pairs[int(a), int(b)]
        assert int(observed) == n >= N_MIN
        assert expected == pytest.approx(by_chance, rel=1e-5)
        assert bits == pytest.approx(n * math.log2(n / by_chance) - (n - by_chance) / math.log(2), rel=1e-5)


def test_no_stronger_pair_is_left_out() -> None:
    """Whatever stands out less than a cell that was found may be left out; nothing that stands out more is."""
    people, traits = small_town(3)
    found = found_in(traits)
    weakest = float(found.bits.min())
    told = set(zip(found.a.tolist(), found.b.tolist(), strict=True))
    for pair, (n, by_chance) in pairs_by_hand(people, traits).items():
        if n >= N_MIN and n > by_chance and pair not in told:
            assert n * math.log2(n / by_chance) - (n - by_chance) / math.log(2) <= weakest * (1 + 1e-6)


def test_a_planted_meeting_is_a_cell() -> None:
    """The networks and templates of a block of accounts meet, and its accounts sit in those cells."""
    _, traits = small_town(4)
    found = found_in(traits)
    carried = traits.share > 0
    seats = (carried[:, found.a].multiply(carried[:, found.b])).sum(axis=1)
    seated = np.flatnonzero(np.asarray(seats).ravel())
    assert len(np.intersect1d(seated, BLOCK)) >= 0.9 * len(BLOCK)
    assert len(np.intersect1d(seated, BLOCK)) >= 0.8 * len(seated)


@pytest.mark.parametrize("seed", range(6))
def test_popularity_makes_no_cell(seed: int) -> None:
    """A tool that a third of everybody uses meets popular networks all the time, as often as it should."""
    _, traits = town(500, seed=seed, n_hubs={"system": 3, "network": 40, "head": 60})
    assert np.asarray((traits.share > 0).sum(axis=0)).max() > 150
    assert len(found_in(traits).a) == 0


def test_one_organisation_counts_once() -> None:
    """Accounts of one payer that share networks and templates are one unit there, and make no cell of them."""
    people, traits = town(400, Crew(BLOCK, MEETING | {"payment": 1}), seed=5)
    assert len(np.unique(people.unit[BLOCK])) == 1
    found = found_in(traits)
    families = np.array([KINDS[kind].family for kind in traits.kind])
    assert not ((families[found.a] != "identity") & (families[found.b] != "identity")).any()


def test_nothing_makes_no_cell() -> None:
    """Without hubs to look at there are no cells."""
    _, traits = town(60, seed=6)
    found = find_cells(find_meetings(traits, n_min=N_MIN), within=np.zeros(len(traits), bool), n_min=N_MIN)
    assert all(len(getattr(found, name)) == 0 for name in ("a", "b", "observed", "expected", "bits"))


@given(x=st.integers(0, 400), mean=st.floats(1e-6, 400, allow_nan=False))
def test_surplus_bits_bound_the_tail(x: int, mean: float) -> None:
    """2^-bits is never below the chance of so many or more by the Poisson law, and 1 where nothing is surprising."""
    from scipy.stats import poisson  # an independent reference

    bits = float(surplus_bits(np.array([x]), np.array([mean]))[0])
    assert bits >= 0 and (bits > 0) <= (x > mean)
    assert 2.0**-bits >= float(poisson.sf(x - 1, mean)) * (1 - 1e-9)


@pytest.mark.skipif(not hasattr(cells, "stands_out"), reason="cells are chosen otherwise")
@given(bits=st.lists(st.floats(0, 80, allow_nan=False), max_size=30), more=st.integers(0, 1000))
def test_what_stands_out_is_what_benjamini_and_hochberg_keep(bits: list[float], more: int) -> None:
    """The cells kept are those of the step-up rule over all pairs looked at, by its definition."""
    n = len(bits) + more
    kept = cells.stands_out(np.array(bits), n)
    p = sorted(2.0**-value for value in bits)
    passing = [rank for rank, value in enumerate(p, start=1) if value <= cells.FALSE_CELLS * rank / n * (1 + 1e-12)]
    limit = p[passing[-1] - 1] if passing else -1.0
    assert kept.tolist() == [2.0**-value <= limit * (1 + 1e-12) for value in bits]
