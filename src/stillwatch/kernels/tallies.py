"""tallies: how many units of a group carry each hub, and how many its share of all activity predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64
from stillwatch.kernels.compile import jit

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


class Counted(NamedTuple):
    """Units by hubs, and what is known of either; all read-only.

    Attributes:
        unit: (accounts,) unit of each account, -1 where it takes no part.
        starts, hubs: the hubs of unit i are `hubs[starts[i]:starts[i + 1]]`. kind: (all hubs,).
        cohort: (units,). activity: (units, kinds) hubs of each kind a unit carries. totals: (cohorts, kinds) its sums.
        carriers: (all hubs, cohorts) units that carry each hub.
    """

    unit: I64
    starts: I32
    hubs: I32
    kind: I64
    cohort: I64
    activity: I64
    totals: I64
    carriers: I64


def tally(counted: Counted, members: I64) -> I64:
    """How many units of a group carry each hub, shape (hubs,). Cost: a few ns an edge of theirs, and one a hub."""
    return _tally(counted, _units(counted.unit, members))


def predict(counted: Counted, members: I64, hubs: I64) -> F64:
    """How many carriers of some hubs a group's share of each cohort's activity predicts, shape (some hubs,).

    Cost: a few ns for each hub and cohort of the group.
    """
    return _predict(counted, _units(counted.unit, members), hubs)


def meet(counted: Counted, members: I64, *, first: int, within: Bools, least: int) -> tuple[I64, I64, F64]:
    """Of the hubs from `first` on that are `within`, those that `least` units carry, how many do, and how many should.

    Args:
        members: accounts of a group. within: (hubs looked at,). least: 1 or more.
    """
    return _meet(counted, members, first, within, least)


def n_units(value: I64, unit: I64, *, where: Bools) -> I64:
    """How many units show each value, shape (values,), by the rows `where`; ascending in unit. Cost: ns a row."""
    return _n_units(value, unit, where)


def repeats(owner: I64, value: I64, groups: Sequence[I64], unit: I64) -> I64:
    """How often each group's units repeat one another: pairs of a unit and a value, less values. Shape (groups,).

    Args:
        owner: (rows,) ascending. value: (rows,) from 0 up. groups: owners, each once. unit: (owners,).

    Cost: ns a row of the groups' owners, and 8 bytes a value.
    """
    ends = np.cumsum([0, *(len(group) for group in groups)])
    by_unit = [group[np.argsort(unit[group], kind="stable")] for group in groups]
    return _repeats(owner, value, np.concatenate(by_unit) if groups else ends[:0], ends, unit)


@jit
def _n_units(value: I64, unit: I64, where: Bools) -> I64:
    n_values = value.max() + 1 if value.size else 0
    counts, last = np.zeros(n_values, np.int64), np.full(n_values, -1, np.int64)
    for row in range(value.size):
        if where[row] and last[value[row]] != unit[row]:
            last[value[row]] = unit[row]
            counts[value[row]] += 1
    return counts


@jit
def _repeats(owner: I64, value: I64, members: I64, ends: I64, unit: I64) -> I64:
    n_units = unit.max() + 1 if unit.size else 1
    counts, last = np.zeros(ends.size - 1, np.int64), np.full(value.max() + 1 if value.size else 0, -1, np.int64)
    for group in range(counts.size):
        first = group * n_units
        for one in members[ends[group] : ends[group + 1]]:
            for row in range(np.searchsorted(owner, one), np.searchsorted(owner, one, side="right")):
                before = last[value[row]]
                if before >= first and before != first + unit[one]:
                    counts[group] += 1
                last[value[row]] = first + unit[one]
    return counts


@jit
def _meet(counted: Counted, members: I64, first: int, within: Bools, least: int) -> tuple[I64, I64, F64]:
    units = _units(counted.unit, members)
    counts, met, n = np.zeros(within.size, np.int32), np.empty(within.size, np.int64), 0
    for unit in units:
        for hub in counted.hubs[counted.starts[unit] : counted.starts[unit + 1]]:
            at = hub - first
            if 0 <= at < within.size and within[at]:
                counts[at] += 1
                if counts[at] == least:
                    met[n] = at
                    n += 1
    found = np.sort(met[:n])
    return found + first, counts[found].astype(np.int64), _predict(counted, units, found + first)


@jit
def _units(unit: I64, members: I64) -> I64:
    """The units of some accounts, ascending and each once."""
    units, n = np.sort(unit[members]), 0
    for one in units:
        if one >= 0 and (n == 0 or units[n - 1] != one):
            units[n] = one
            n += 1
    return units[:n].copy()


@jit
def _tally(counted: Counted, units: I64) -> I64:
    counts = np.zeros(counted.kind.size, np.int64)
    for unit in units:
        for hub in counted.hubs[counted.starts[unit] : counted.starts[unit + 1]]:
            counts[hub] += 1
    return counts


@jit
def _predict(counted: Counted, units: I64, hubs: I64) -> F64:
    n_cohorts, n_kinds = counted.totals.shape
    inside = np.zeros((n_cohorts, n_kinds), np.int64)
    here = np.zeros(n_cohorts, np.bool_)
    for unit in units:
        here[counted.cohort[unit]] = True
        for kind in range(n_kinds):
            inside[counted.cohort[unit], kind] += counted.activity[unit, kind]
    share = inside / np.maximum(counted.totals, 1)
    cohorts = np.flatnonzero(here)
    expected = np.zeros(hubs.size, np.float64)
    for i in range(hubs.size):
        for cohort in cohorts:
            expected[i] += counted.carriers[hubs[i], cohort] * share[cohort, counted.kind[hubs[i]]]
    return expected
