"""tallies: the kernels against counts over sets and sums of fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.columns import frozen
from stillwatch.kernels.tallies import Counted, meet, n_units, predict, repeats, tally

N_UNITS, N_HUBS, N_KINDS, N_COHORTS = 5, 6, 2, 3
KIND = [0, 0, 0, 1, 1, 1]

CARRIED = st.lists(st.sets(st.integers(0, N_HUBS - 1)), min_size=N_UNITS, max_size=N_UNITS)
COHORT = st.lists(st.integers(0, N_COHORTS - 1), min_size=N_UNITS, max_size=N_UNITS)
UNIT = st.lists(st.integers(-1, N_UNITS - 1), min_size=8, max_size=8)
GROUP = st.sets(st.integers(0, 7))


def counted(carried: list[set[int]], cohort: list[int], unit: list[int]) -> Counted:
    """Units that carry sets of hubs, none of them alone."""
    activity = np.array([[sum(KIND[hub] == kind for hub in hubs) for kind in range(N_KINDS)] for hubs in carried])
    totals, carriers = np.zeros((N_COHORTS, N_KINDS), np.int64), np.zeros((N_HUBS, N_COHORTS), np.int64)
    for hubs, level, row in zip(carried, cohort, activity, strict=True):
        totals[level] += row
        carriers[sorted(hubs), level] += 1
    starts = np.cumsum([0, *(len(hubs) for hubs in carried)]).astype(np.int32)
    flat = np.array([hub for one in carried for hub in sorted(one)], np.int32)
    unit_, kind, level_of = np.array(unit), np.array(KIND), np.array(cohort)
    arrays: list[np.ndarray[Any, Any]] = [unit_, starts, flat, kind, level_of, activity, totals, carriers]
    return Counted(*(frozen(array) for array in arrays))


@given(CARRIED, COHORT, UNIT, GROUP)
def test_counts_and_predictions_are_those_of_sets(
    carried: list[set[int]], cohort: list[int], unit: list[int], group: set[int]
) -> None:
    """A unit counts once however many of its accounts are in the group, and not at all where it takes no part."""
    given_, members = counted(carried, cohort, unit), np.array(sorted(group), np.int64)
    units = {unit[account] for account in group} - {-1}
    n_met = [sum(hub in carried[one] for one in units) for hub in range(N_HUBS)]
    expected = [_expected(hub, units, carried, cohort) for hub in range(N_HUBS)]
    assert tally(given_, members).tolist() == n_met
    assert predict(given_, members, np.arange(N_HUBS)) == pytest.approx([float(one) for one in expected])


@given(CARRIED, COHORT, UNIT, GROUP, st.sets(st.integers(1, 4)), st.integers(1, 3))
def test_a_group_meets_what_enough_of_it_carries(
    carried: list[set[int]], cohort: list[int], unit: list[int], group: set[int], within: set[int], least: int
) -> None:
    """Only hubs of the stretch looked at, and of those only the ones within, that so many units carry."""
    given_, members = counted(carried, cohort, unit), np.array(sorted(group), np.int64)
    mask = np.isin(np.arange(1, 5), sorted(within))
    hubs, observed, expected = meet(given_, members, first=1, within=mask, least=least)
    counts = tally(given_, members)
    assert hubs.tolist() == [hub for hub in sorted(within) if counts[hub] >= least]
    assert observed.tolist() == counts[hubs].tolist()
    assert expected.tolist() == predict(given_, members, hubs).tolist()


def _expected(hub: int, units: set[int], carried: list[set[int]], cohort: list[int]) -> Fraction:
    """Carriers of the hub in each cohort times the group's share of the cohort's edges of the hub's kind."""
    total = Fraction(0)
    for level in range(N_COHORTS):
        here = [one for one in range(N_UNITS) if cohort[one] == level]
        edges = {one: sum(KIND[other] == KIND[hub] for other in carried[one]) for one in here}
        share = Fraction(sum(edges[one] for one in here if one in units), max(sum(edges.values()), 1))
        total += share * sum(hub in carried[one] for one in here)
    return total


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=30))
def test_units_are_counted_once_a_value(rows: list[tuple[int, int, bool]]) -> None:
    """As sets of units count them; only the rows asked for."""
    rows = sorted(rows)
    unit, value = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
    counts = n_units(value, unit, where=np.array([where for _, _, where in rows], bool))
    expected = [len({u for u, v, where in rows if where and v == one}) for one in range(int(value.max(initial=-1)) + 1)]
    assert counts.tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=30),
    st.lists(st.integers(0, 3), min_size=7, max_size=7),
    st.lists(st.sets(st.integers(0, 6)), max_size=4),
)
def test_repeats_are_pairs_of_units_and_values_less_values(
    rows: list[tuple[int, int]], units: list[int], groups: list[set[int]]
) -> None:
    """Each group by itself, whatever was counted before; accounts of one unit do not repeat one another."""
    rows = sorted(rows)
    owner, value = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
    found = repeats(owner, value, [np.array(sorted(group), np.int64) for group in groups], np.array(units, np.int64))
    pairs = [{(units[o], v) for o, v in rows if o in group} for group in groups]
    assert found.tolist() == [len(each) - len({v for _, v in each}) for each in pairs]
