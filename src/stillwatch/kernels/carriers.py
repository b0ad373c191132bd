"""carriers: what each account's edges to a group's hubs weigh, edge by edge, each account left out of its own rates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, frozen
from stillwatch.kernels.compile import jit

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


def likelihoods(
    edges: tuple[I32, I32], *, inside: Bools, met: Bools, unit: I64, pseudo_count: float, shrink: float
) -> tuple[F64, I32]:
    """Sum over an account's hubs of w / p, and how many hubs it carries; both of shape (accounts,).

    w is the hub's share of the members' edges, p the rate at which outsiders carry it, among those who `met` the group
    no less than the rate of these, shrunk to that of all. An account does not count in p, nor its unit in w.

    Args:
        edges: where each hub's accounts begin and end, (hubs + 1,), and the accounts, hub by hub.
        inside, met: (accounts,) members, and who met the group before. unit: (accounts,) numbers below accounts.
        pseudo_count: of p. shrink: accounts for which the rate of all counts beside those who met the group.

    Cost: about 10 ns an edge.
    """
    starts, accounts = (frozen(part.astype(np.int32, copy=False).view()) for part in edges)
    arrays = (frozen(inside.view()), frozen(met.view()), frozen(unit.view()))
    return _likelihoods(starts, accounts, *arrays, pseudo_count, shrink)


@jit
def _likelihoods(
    starts: I32, accounts: I32, inside: Bools, met: Bools, unit: I64, pseudo_count: float, shrink: float
) -> tuple[F64, I32]:
    n, n_hubs = inside.size, starts.size - 1
    n_out, n_met = 0, 0
    for account in range(n):
        n_out += not inside[account]
        n_met += met[account] and not inside[account]
    hubs_of, of_unit, here = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.int32)
    edges_in = 0
    for account in accounts:
        hubs_of[account] += 1
        of_unit[unit[account]] += inside[account]
        edges_in += inside[account]
    total = np.zeros(n, np.float64)
    for hub in range(n_hubs):
        carriers = accounts[starts[hub] : starts[hub + 1]]
        carried_in, carried_met = 0, 0
        for account in carriers:
            carried_in += inside[account]
            here[unit[account]] += inside[account]
            carried_met += met[account] and not inside[account]
        carried_out = carriers.size - carried_in
        for account in carriers:
            own, own_unit = int(not inside[account]), unit[account]
            weight = (carried_in - here[own_unit]) / max(edges_in - of_unit[own_unit], 1)
            rate = (carried_out - own + pseudo_count) / (n_out - own + 1)
            if met[account]:
                rate_met = (carried_met - own + shrink * rate) / (n_met - own + shrink)
                rate = max(rate_met, rate)
            total[account] += weight / rate
        for account in carriers:
            here[unit[account]] = 0
    return total, hubs_of
