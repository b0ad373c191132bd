"""carriers: the kernels against the same sums written out account by account."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.carriers import Edges, Grades, Weights, gather, meeting, odds, weigh

N = 7

HUBS = st.lists(st.sets(st.integers(0, N - 1)), max_size=5)
SOME = st.sets(st.integers(0, N - 1))
UNITS = st.lists(st.integers(0, 3), min_size=N, max_size=N)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def edges_of(hubs: list[set[int]]) -> Edges:
    """The edges of hubs given as sets of accounts; account i shows hub h in (1 + i + h)/20 of its exchanges."""
    starts = np.cumsum([0, *(len(hub) for hub in hubs)])
    pairs = [(account, (1 + account + number) / 20) for number, hub in enumerate(hubs) for account in sorted(hub)]
    return Edges.of(starts, np.array([who for who, _ in pairs], np.int64), np.array([share for _, share in pairs]))


def ints(values: object) -> Ints:
    """As kernels take positions."""
    return np.array(values, np.int64)


@given(HUBS, SOME, SOME, UNITS, st.integers(0, N))
def test_weights_equal_sums_over_sets(
    hubs: list[set[int]], inside: set[int], met: set[int], unit: list[int], n_told: int
) -> None:
    """Each account's sum is that of its hubs, with its unit left out of what members carry and itself of the rates."""
    weights = weigh(
        edges_of(hubs), inside=_mask(inside), met=_mask(met), unit=np.array(unit, np.int32),
        n_outside=N - len(inside), pseudo=0.5, shrink=20.0, n_told=n_told,
    )  # fmt: skip
    assert len(weights.ratio) == n_told
    for one in range(N):
        carried = [number for number, hub in enumerate(hubs) if one in hub]
        assert weights.n_hubs[one] == len(carried)
        assert weights.dose[one] == pytest.approx(sum((1 + one + number) / 20 for number in carried))
        if one >= n_told:
            continue
        expected = sum(
            _share(one, hubs[number], hubs, inside, unit) / _rate(one, hubs[number], inside, met) for number in carried
        )
        assert weights.ratio[one] == pytest.approx(float(expected))


@given(HUBS, SOME, UNITS, st.data())
def test_a_group_and_the_carriers_of_some_hubs_are_numbered(
    hubs: list[set[int]], members: set[int], unit: list[int], data: st.DataObject
) -> None:
    """Members come first, then whoever carries one of the hubs; edges, shares and units stay whose they were."""
    some = data.draw(st.permutations(range(len(hubs)))) if hubs else []
    some = some[: data.draw(st.integers(0, len(some)))]
    edges = edges_of(hubs)
    found = gather(edges, ints(some), ints(sorted(members)), ints(unit))
    account = found.account.tolist()
    assert account[: len(members)] == sorted(members)
    assert sorted(account) == sorted(members.union(*(hubs[hub] for hub in some)))
    for at, hub in enumerate(some):
        start, stop = found.edges.starts[at : at + 2]
        assert [account[one] for one in found.edges.accounts[start:stop]] == sorted(hubs[hub])
        assert found.edges.share[start:stop].tolist() == [(1 + one + hub) / 20 for one in sorted(hubs[hub])]
    for left in range(len(account)):
        for right in range(len(account)):
            alike = unit[account[left]] == unit[account[right]]
            assert (found.unit[left] == found.unit[right]) == alike
    assert all(0 <= one < len(account) for one in found.unit)


@given(HUBS.filter(bool), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6))
def test_pairs_meet_in_those_who_carry_both(hubs: list[set[int]], pairs: list[tuple[int, int]]) -> None:
    """A hub meets another, or itself, in the accounts that both sets hold."""
    pairs = [(a % len(hubs), b % len(hubs)) for a, b in pairs]
    starts, found = meeting(edges_of(hubs), ints([a for a, _ in pairs]), ints([b for _, b in pairs]))
    assert len(starts) == len(pairs) + 1
    for at, (a, b) in enumerate(pairs):
        assert found[starts[at] : starts[at + 1]].tolist() == sorted(hubs[a] & hubs[b])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 40), st.integers(1, 90), st.booleans()), max_size=9))
def test_odds_equal_their_definition(carriers: list[tuple[int, int, int, bool]]) -> None:
    """Cover, ratio and the levels of hubs and dose, each account left out of its own rates."""
    n_hubs, parts, ratio, inside = ([row[at] for row in carriers] for at in range(4))
    dose = [part / 20 if hubs else 0.0 for part, hubs in zip(parts, n_hubs, strict=True)]
    weights = Weights(np.array(ratio, float), np.array(n_hubs, np.int32), np.array(dose, float))
    n_outside = 5 + inside.count(False)
    bits, lacking = odds(
        weights, inside=np.array(inside, bool), n_outside=n_outside, grades=GRADES, pseudo=0.5, least=LEAST
    )
    some = [one for one in range(len(carriers)) if n_hubs[one]]

    for one in range(len(carriers)):
        own = inside[one]
        if not n_hubs[one]:
            others = [max(n, 1) for n in (sum(inside) + (not own), n_outside + own)]
            none = [
                max(1 - (sum(inside[x] == side for x in some) + 0.5) / n, LEAST)
                for side, n in zip((True, False), others, strict=True)
            ]
            assert bits[one] == pytest.approx(np.log2(none[0] / none[1] + LEAST))
            continue
        cover = (sum(inside[x] for x in some) - own + 0.5) / max(sum(inside) + (not own), 1)
        expected = np.log2(cover * ratio[one] + LEAST)
        for values, bounds in ((n_hubs, GRADES.n_hubs), (dose, GRADES.dose)):
            alike = [
                inside[x] for x in some if x != one and _reached(values[x], bounds) == _reached(values[one], bounds)
            ]
            rest = [inside[x] for x in some if x != one]
            n_levels = len(bounds) + 1
            expected += np.log2((alike.count(True) + 1) / (rest.count(True) + n_levels))
            expected -= np.log2((alike.count(False) + 1) / (rest.count(False) + n_levels))
        assert bits[one] == pytest.approx(expected)
    assert np.isfinite(lacking)


def test_a_dose_reaches_a_bound_in_whatever_order_its_shares_are_added() -> None:
    """A tenth and nine tenths, or ten tenths, are the whole; in floats ten tenths are a little less."""
    assert sum([0.1] * 10) < 1.0
    dose = np.array([sum([0.1] * 10), 0.1 + 0.9, 0.95, 0.95])
    weights = Weights(np.ones(4), np.ones(4, np.int32), dose)
    inside = np.array([True, True, False, False])
    bits, _ = odds(weights, inside=inside, n_outside=9, grades=GRADES, pseudo=0.5, least=LEAST)
    assert bits[0] == bits[1] > bits[2]


GRADES, LEAST = Grades(n_hubs=np.array([2.0, 4.0]), dose=np.array([0.25, 0.5, 1.0])), 2.0**-20


def _reached(value: float, bounds: Floats) -> int:
    return sum(value >= bound for bound in bounds)


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
