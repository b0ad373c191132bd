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
        ratio: (carriers,) sum over its hubs of w / p. n_hubs: (carriers,) how many it carries.
        shares: (edges,) shares of exchanges that show a hub, those of the first carrier first.
    """

    ratio: F64
    n_hubs: I32
    shares: F64


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
    edges: Edges, *, inside: Bools, met: Bools, unit: I32, n_outside: int, pseudo: float, shrink: float
) -> Weights:
    """Weigh the edges of one family's hubs.

    w is a hub's share of the members' edges, p the rate at which outsiders carry it, among those who `met` the group
    no less than the rate of these, shrunk to that of all. An account does not count in p, nor its unit in w.

    Args:
        edges: of the hubs, with carriers for accounts. n_outside: accounts outside, carriers or not.
        inside, met: (carriers,) members, and who met the group before; nobody else met it. unit: (carriers,) numbers
            below their count.
        pseudo: count that p is given. shrink: accounts for which the rate of all counts beside those who met the group.

    Cost: about 10 ns an edge.
    """
    return Weights(*_weigh(edges, inside, met, unit, n_outside, pseudo, shrink))


def levels(values: npt.NDArray[np.generic], bounds: F64, inside: Bools) -> tuple[I64, I64]:
    """(2, bounds + 1) how many outsiders, and how many of those `inside`, reach so many of `bounds`; where each counts.

    Args:
        values: (n,) of each carrier. bounds: ascending.

    Returns:
        The counts, and the place of each carrier in them, row by row, (n,).
    """
    return _levels(values, bounds, inside)


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
    edges: Edges, inside: Bools, met: Bools, unit: I32, n_outside: int, pseudo: float, shrink: float
) -> tuple[F64, I32, F64]:
    n = inside.size
    n_hubs, of_unit, starts, n_met = _counts(edges, inside, met, unit)
    ratio, here, edges_in = np.zeros(n, np.float64), np.zeros(n, np.int32), of_unit.sum()
    shares, strangers = np.empty(edges.accounts.size, np.float64), np.empty(2, np.float64)
    for hub in range(edges.starts.size - 1):
        first, last = edges.starts[hub], edges.starts[hub + 1]
        carried_in, carried_met = 0, 0
        for one in edges.accounts[first:last]:
            if inside[one]:
                carried_in += 1
                here[unit[one]] += 1
            elif met[one]:
                carried_met += 1
        carried_out = last - first - carried_in
        # Most carriers are of no unit of the group: of these there are two sorts only.
        for sort in range(2):
            rate = _rate(carried_out - 1, n_outside - 1, sort, carried_met - 1, n_met - 1, pseudo, shrink)
            strangers[sort] = carried_in / max(edges_in, 1) / rate
        for edge in range(first, last):
            one = edges.accounts[edge]
            shares[starts[one]] = edges.share[edge]
            starts[one] += 1
            own, own_unit, sort = int(not inside[one]), unit[one], int(met[one])
            if own and of_unit[own_unit] == 0:
                ratio[one] += strangers[sort]
            else:
                weight = (carried_in - here[own_unit]) / max(edges_in - of_unit[own_unit], 1)
                rate = _rate(carried_out - own, n_outside - own, sort, carried_met - own, n_met - own, pseudo, shrink)
                ratio[one] += weight / rate
        for one in edges.accounts[first:last]:
            here[unit[one]] = 0
    return ratio, n_hubs, shares


@jit
def _rate(carried: int, n: int, met: int, carried_met: int, n_met: int, pseudo: float, shrink: float) -> float:
    """How often outsiders carry a hub: `carried` of n do, and `carried_met` of those who met the group."""
    rate = (carried + pseudo) / (n + 1)
    return max((carried_met + shrink * rate) / (n_met + shrink), rate) if met else rate


@jit
def _counts(edges: Edges, inside: Bools, met: Bools, unit: I32) -> tuple[I32, I32, I32, int]:
    """Hubs of each carrier, edges of members by unit, where each carrier's edges begin, outsiders who met the group."""
    n, n_met, end = inside.size, 0, 0
    n_hubs, of_unit, starts = np.zeros(n, np.int32), np.zeros(n, np.int32), np.empty(n, np.int32)
    for one in edges.accounts:
        n_hubs[one] += 1
        of_unit[unit[one]] += inside[one]
    for one in range(n):
        n_met += met[one] and not inside[one]
        starts[one] = end
        end += n_hubs[one]
    return n_hubs, of_unit, starts, n_met


@jit
def _levels(values: npt.NDArray[np.generic], bounds: F64, inside: Bools) -> tuple[I64, I64]:
    n_levels = bounds.size + 1
    counts, places = np.zeros((2, n_levels), np.int64), np.empty(values.size, np.int64)
    for one in range(values.size):
        reached = 0
        while reached < bounds.size and values[one] >= bounds[reached]:
            reached += 1
        counts[int(inside[one]), reached] += 1
        places[one] = int(inside[one]) * n_levels + reached
    return counts, places
