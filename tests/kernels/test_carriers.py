"""carriers: the kernel against the same sums written out account by account."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.carriers import likelihoods

N = 7


@given(
    st.lists(st.sets(st.integers(0, N - 1)), max_size=5),
    st.sets(st.integers(0, N - 1)),
    st.sets(st.integers(0, N - 1)),
    st.lists(st.integers(0, 3), min_size=N, max_size=N),
)
def test_the_kernel_equals_sums_over_sets(
    hubs: list[set[int]], inside: set[int], met: set[int], unit: list[int]
) -> None:
    """Each account's sum is that of its hubs, with its unit left out of what members carry and itself of the rates."""
    starts = np.cumsum([0, *(len(hub) for hub in hubs)]).astype(np.int32)
    accounts = np.array([account for hub in hubs for account in sorted(hub)], np.int32)
    total, n_carried = likelihoods(
        (starts, accounts), inside=_mask(inside), met=_mask(met), unit=np.array(unit, np.int64),
        pseudo_count=0.5, shrink=20.0,
    )  # fmt: skip
    for one in range(N):
        carried = [hub for hub in hubs if one in hub]
        assert n_carried[one] == len(carried)
        assert total[one] == pytest.approx(
            float(sum(_share(one, hub, hubs, inside, unit) / _rate(one, hub, inside, met) for hub in carried))
        )


def _mask(accounts: set[int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(np.arange(N), sorted(accounts))


def _share(one: int, hub: set[int], hubs: list[set[int]], inside: set[int], unit: list[int]) -> Fraction:
    """The hub's share of the edges of members of other units."""
    others = {account for account in inside if unit[account] != unit[one]}
    edges = sum(len(any_hub & inside) for any_hub in hubs)
    own = sum(len(any_hub & (inside - others)) for any_hub in hubs)
    return Fraction(len(hub & others), max(edges - own, 1))


def _rate(one: int, hub: set[int], inside: set[int], met: set[int]) -> Fraction:
    """How often other outsiders carry the hub; those who met the group, where the account did and it is more."""
    others = set(range(N)) - inside - {one}
    rate = (len(hub & others) + Fraction(1, 2)) / (len(others) + 1)
    if one not in met:
        return rate
    alike = others & met
    return max((len(hub & alike) + 20 * rate) / (len(alike) + 20), rate)
