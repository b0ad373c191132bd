"""carriers: who carries a group's hubs, and what each account's edges weigh, it left out of its own rates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, frozen
from stillwatch.kernels.compile import jit

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Sorts = npt.NDArray[np.uint8]


class Edges(NamedTuple):
    """Account-hub edges, hub by hub: those of hub i are `accounts[starts[i]:starts[i + 1]]`, each with its `share`.

    Read-only, and of one type each, so that kernels are compiled once.
    """

    starts: I32
    accounts: I32
    share: F64

    @classmethod
    def of(cls, starts: npt.NDArray[np.integer], accounts: npt.NDArray[np.integer], share: F64) -> Edges:
        """Edges from the three arrays of a sparse matrix by column."""
        ends, carriers = (frozen(part.astype(np.int32, copy=False).view()) for part in (starts, accounts))
        return cls(ends, carriers, frozen(share.astype(np.float64, copy=False).view()))


class Carriers(NamedTuple):
    """The members of a group and everybody who carries one of some hubs, numbered from 0: the members first.

    Attributes:
        account: (carriers,) position of each. unit: (carriers,) its paying unit, by numbers below the carriers' count.
        edges: those of the hubs, in their order, with carriers instead of accounts.
    """

    account: I64
    unit: I32
    edges: Edges


class Weights(NamedTuple):
    """What the hubs of one family say of each carrier; zeros for those that carry none of these.

    Attributes:
        ratio: (told,) sum over its hubs of w / p, of the first carriers. n_hubs: (carriers,) how many it carries.
        dose: (carriers,) sum over its hubs of the share of its exchanges that show the hub.
    """

    ratio: F64
    n_hubs: I32
    dose: F64


class Grades(NamedTuple):
    """Bounds at which carriers are told apart by how many hubs they carry, and by their dose; ascending."""

    n_hubs: F64
    dose: F64


def gather(edges: Edges, hubs: I64, members: I64, unit: I64) -> Carriers:
    """Number a group and the carriers of some hubs, so that what follows costs what their edges cost.

    Args:
        hubs: (some,) which. members: positions of the group, each once. unit: (accounts,) numbers below accounts.

    Cost: about 10 ns an edge, and 8 bytes of memory an account.
    """
    account, units, starts, carrier, share = _gather(edges, hubs, members, frozen(unit.view()))
    return Carriers(account, units, Edges.of(starts, carrier, share))


def meeting(edges: Edges, a: I64, b: I64) -> tuple[I32, I32]:
    """Who carries both hubs of each pair: where each pair's accounts begin and end, (pairs + 1,), and the accounts.

    Args:
        a, b: (pairs,) hubs; the accounts of either ascend in `edges`.

    Cost: a few ns an edge of the hubs, for each pair they are in.
    """
    return _meeting(edges, a, b)


def weigh(
    edges: Edges, *, inside: Bools, met: Bools, unit: I32, n_outside: int, pseudo: float, shrink: float, n_told: int
) -> Weights:
    """Weigh the edges of one family's hubs.

    w is a hub's share of the members' edges, p the rate at which outsiders carry it, among those who `met` the group
    no less than the rate of these, shrunk to that of all. An account does not count in p, nor its unit in w.

    Args:
        edges: of the hubs, with carriers for accounts. n_outside: accounts outside, carriers or not.
        inside, met: (carriers,) members, and who met the group before; nobody else met it. unit: (carriers,) numbers
            below their count.
        pseudo: count that p is given. shrink: accounts for which the rate of all counts beside those who met the group.
        n_told: how many carriers are told their ratio, the first ones.

    Cost: a few ns an edge.
    """
    return Weights(*_weigh(edges, inside, met, unit, n_outside, pseudo, shrink, n_told))


def odds(
    weights: Weights, *, inside: Bools, n_outside: int, grades: Grades, pseudo: float, least: float
) -> tuple[F64, float]:
    """(told,) log2 e-value that a carrier is a member rather than an outsider, and that of those who carry nothing.

    c ratio + (1 - c) [carries none] / p_none, where c is the share of members that carry something; among carriers
    times how much likelier the level of its number of hubs is in members than in others, and that of its dose. An
    account is left out of its own rates.

    Args:
        inside: (carriers,) members. n_outside: accounts outside, carriers or not. grades: without bounds, no levels.
        pseudo: count that rates are given. least: added to every e-value, so that none is 0.

    Cost: about 10 ns a carrier.
    """
    return _odds(weights, inside, n_outside, grades, pseudo, least)


@jit
def _meeting(edges: Edges, a: I64, b: I64) -> tuple[I32, I32]:
    starts, most = np.zeros(a.size + 1, np.int32), 0
    for pair in range(a.size):
        size = edges.starts[a[pair] + 1] - edges.starts[a[pair]]
        most += min(size, edges.starts[b[pair] + 1] - edges.starts[b[pair]])
    found, n = np.empty(most, np.int32), 0
    for pair in range(a.size):
        one, last = edges.starts[a[pair]], edges.starts[a[pair] + 1]
        other, end = edges.starts[b[pair]], edges.starts[b[pair] + 1]
        while one < last and other < end:
            left, right = edges.accounts[one], edges.accounts[other]
            if left == right:
                found[n] = left
                n += 1
            one += left <= right
            other += right <= left
        starts[pair + 1] = n
    return starts, found[:n].copy()


@jit
def _gather(edges: Edges, hubs: I64, members: I64, unit: I64) -> tuple[I64, I32, I32, I32, F64]:
    n_edges = 0
    for hub in hubs:
        n_edges += edges.starts[hub + 1] - edges.starts[hub]
    number, unit_number = np.full(unit.size, -1, np.int32), np.full(unit.size, -1, np.int32)
    account = np.empty(min(members.size + n_edges, unit.size), np.int64)
    carrier, share = np.empty(n_edges, np.int32), np.empty(n_edges, np.float64)
    starts = np.zeros(hubs.size + 1, np.int32)
    n = 0
    for member in members:
        number[member] = n
        account[n] = member
        n += 1
    end = 0
    for i in range(hubs.size):
        for edge in range(edges.starts[hubs[i]], edges.starts[hubs[i] + 1]):
            one = edges.accounts[edge]
            if number[one] < 0:
                number[one] = n
                account[n] = one
                n += 1
            carrier[end] = number[one]
            share[end] = edges.share[edge]
            end += 1
        starts[i + 1] = end
    account = account[:n].copy()
    units, n_units = np.empty(n, np.int32), 0
    for i in range(n):
        own = unit[account[i]]
        if unit_number[own] < 0:
            unit_number[own] = n_units
            n_units += 1
        units[i] = unit_number[own]
    return account, units, starts, carrier, share


@jit
def _weigh(
    edges: Edges, inside: Bools, met: Bools, unit: I32, n_outside: int, pseudo: float, shrink: float, n_told: int
) -> tuple[F64, I32, F64]:
    n_hubs, dose, of_unit, sort_of, n_met = _counts(edges, inside, met, unit)
    ratio, here, edges_in = np.zeros(n_told, np.float64), np.zeros(inside.size, np.int32), of_unit.sum()
    strangers = np.empty(2, np.float64)
    for hub in range(edges.starts.size - 1):
        first, last = edges.starts[hub], edges.starts[hub + 1]
        carried_in, carried_met = 0, 0
        for one in edges.accounts[first:last]:
            if sort_of[one] & _INSIDE:
                carried_in += 1
                here[unit[one]] += 1
            else:
                carried_met += sort_of[one] & _MET
        carried_out = last - first - carried_in
        for sort in range(2):
            rate = _rate(carried_out - 1, n_outside - 1, sort, carried_met - 1, n_met - 1, pseudo, shrink)
            strangers[sort] = carried_in / max(edges_in, 1) / rate
        for one in edges.accounts[first:last]:
            if one >= n_told:
                continue
            sort = sort_of[one]
            if sort <= _MET:
                ratio[one] += strangers[sort]
            else:
                own, own_unit, sort = int(not inside[one]), unit[one], sort & _MET
                weight = (carried_in - here[own_unit]) / max(edges_in - of_unit[own_unit], 1)
                rate = _rate(carried_out - own, n_outside - own, sort, carried_met - own, n_met - own, pseudo, shrink)
                ratio[one] += weight / rate
        if carried_in:
            for one in edges.accounts[first:last]:
                if sort_of[one] & _INSIDE:
                    here[unit[one]] = 0
    return ratio, n_hubs, dose


@jit
def _rate(carried: int, n: int, met: int, carried_met: int, n_met: int, pseudo: float, shrink: float) -> float:
    """How often outsiders carry a hub: `carried` of n do, and `carried_met` of those who met the group."""
    rate = (carried + pseudo) / (n + 1)
    return max((carried_met + shrink * rate) / (n_met + shrink), rate) if met else rate


_MET, _KIN, _INSIDE = 1, 2, 4
"""Sorts of carriers: met the group before; of a unit that carries something in the group; member. Most are of the
first or of no sort, and of these one number a hub serves all."""


@jit
def _counts(edges: Edges, inside: Bools, met: Bools, unit: I32) -> tuple[I32, F64, I32, Sorts, int]:
    """Hubs and dose of each carrier, edges of members by unit, the sort of each, outsiders who met the group."""
    n, n_met = inside.size, 0
    n_hubs, dose, of_unit = np.zeros(n, np.int32), np.zeros(n, np.float64), np.zeros(n, np.int32)
    sort_of = np.empty(n, np.uint8)
    for edge in range(edges.accounts.size):
        one = edges.accounts[edge]
        n_hubs[one] += 1
        dose[one] += edges.share[edge]
    for one in range(n):
        if inside[one]:
            of_unit[unit[one]] += n_hubs[one]
    for one in range(n):
        n_met += met[one] and not inside[one]
        sort_of[one] = _MET * met[one] + _KIN * (of_unit[unit[one]] > 0) + _INSIDE * inside[one]
    return n_hubs, dose, of_unit, sort_of, n_met


@jit
def _odds(
    weights: Weights, inside: Bools, n_outside: int, grades: Grades, pseudo: float, least: float
) -> tuple[F64, float]:
    n_members, n_in, n_out = 0, 0, 0
    for one in range(inside.size):
        n_members += inside[one]
        n_in += inside[one] and weights.n_hubs[one] > 0
        n_out += not inside[one] and weights.n_hubs[one] > 0
    many = _level_bits(weights.n_hubs, weights.n_hubs, grades.n_hubs, inside)
    much = _level_bits(weights.dose, weights.n_hubs, grades.dose, inside)
    none_in = _lacking(n_in, n_members, pseudo, least) / _lacking(n_out, n_outside + 1, pseudo, least)
    none_out = _lacking(n_in, n_members + 1, pseudo, least) / _lacking(n_out, n_outside, pseudo, least)
    lacking_in, lacking = np.log2(none_in + least), np.log2(none_out + least)
    cover_in, cover_out = (n_in - 1 + pseudo) / max(n_members, 1), (n_in + pseudo) / (n_members + 1)
    bits = np.empty(weights.ratio.size, np.float64)
    for one in range(bits.size):
        own = int(inside[one])
        if weights.n_hubs[one] == 0:
            bits[one] = lacking_in if own else lacking
        else:
            bits[one] = np.log2((cover_in if own else cover_out) * weights.ratio[one] + least)
            bits[one] += much[own, _level(weights.dose[one], grades.dose)]
            bits[one] += many[own, _level(weights.n_hubs[one], grades.n_hubs)]
    return bits, lacking


@jit
def _lacking(some: int, n: int, pseudo: float, least: float) -> float:
    """Rate of those of n who carry none of a group's hubs, kept above 0 where all do and nobody is to be weighed."""
    return max(1.0 - (some + pseudo) / max(n, 1), least)


@jit
def _level_bits(values: npt.NDArray[np.generic], n_hubs: I32, bounds: F64, inside: Bools) -> F64:
    """(2, levels) log2 of how much likelier each level is in members than in others, to an outsider and to a member.

    Each account is left out of its own rate; those that carry nothing have no level.
    """
    n_levels = bounds.size + 1
    counts = np.zeros((2, n_levels), np.int64)
    for one in range(values.size):
        if n_hubs[one] > 0:
            counts[int(inside[one]), _level(values[one], bounds)] += 1
    n_out, n_in = counts[0].sum(), counts[1].sum()
    bits = np.empty((2, n_levels), np.float64)
    for own in range(2):
        for level in range(n_levels):
            rate_in = (max(counts[1, level] - own, 0) + 1.0) / (n_in - own + n_levels)
            rate_out = (max(counts[0, level] - (1 - own), 0) + 1.0) / (n_out - (1 - own) + n_levels)
            bits[own, level] = np.log2(rate_in / rate_out)
    return bits


_SAME = 1e-9
"""What a value may fall short of a bound it reaches: shares of a third add up to 1 in any order."""


@jit
def _level(value: float, bounds: F64) -> int:
    """How many of the bounds, ascending, a value reaches."""
    reached = 0
    while reached < bounds.size and value >= bounds[reached] - _SAME:
        reached += 1
    return reached
