"""population: who is one paying unit, who shares a cohort, and that the order of the logs decides neither."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect.days import count_days
from stillwatch.detect.population import SMALLEST_COHORT, build_population, dense, joined_units, with_fallback
from stillwatch.detect.profiles import profile
from tests.detect.making import START_US, accounts_file, facts, keys, numbered, population

VALUES = st.lists(st.integers(-1, 6), min_size=1, max_size=25)


def joined_by_hand(columns: list[list[int]]) -> list[set[int]]:
    """Accounts that share a value, or share one with somebody who shares one, found by growing."""
    n = len(columns[0])
    left, groups = set(range(n)), []
    while left:
        group: set[int] = {min(left)}
        grown: set[int] = set()
        while group != grown:
            grown = group
            shared = [{column[at] for at in group} - {-1} for column in columns]
            group = group | {
                at for at in left for column, values in zip(columns, shared, strict=True) if column[at] in values
            }
        groups.append(group)
        left -= group
    return groups


@given(org=VALUES, data=st.data())
def test_units_are_those_who_share_a_card_or_a_firm(org: list[int], data: st.DataObject) -> None:
    """Accounts joined by any chain of shared values are one unit; unknown values join nobody."""
    card = data.draw(st.lists(st.integers(-1, 6), min_size=len(org), max_size=len(org)))
    links = [pa.chunked_array([pa.array(numbered(np.array(column), "x"), pa.string())]) for column in (org, card)]
    unit = joined_units(len(org), links)
    groups = defaultdict(set)
    for at, number in enumerate(unit.tolist()):
        groups[number].add(at)
    assert sorted(groups.values(), key=min) == joined_by_hand([org, card])
    assert unit.tolist() == dense(unit).tolist()


def test_without_accounts_everybody_is_one() -> None:
    """Where nothing is known of payment or firm, each account is a unit."""
    people = population(facts(np.arange(50)))
    assert np.array_equal(people.unit, np.arange(50))


@given(labels=st.lists(st.integers(-50, 50), max_size=40))
def test_labels_are_numbered_as_they_come(labels: list[int]) -> None:
    """Dense numbers keep who is with whom, and begin at 0 with the first."""
    numbers = dense(np.array(labels, np.int64)).tolist()
    assert numbers == [list(dict.fromkeys(labels)).index(label) for label in labels]


def test_no_cohort_is_too_small_to_carry_a_null() -> None:
    """A country of few accounts is compared with enough others, whatever the sizes of the rest."""
    n = 4 * SMALLEST_COHORT
    country = ["aa"] * (2 * SMALLEST_COHORT) + ["bb"] * 5 + ["cc"] * (n - 2 * SMALLEST_COHORT - 5)
    people = population(facts(np.arange(n)), accounts_file(n, country=country))
    assert np.bincount(people.cohort).min() >= SMALLEST_COHORT


def test_a_large_country_has_a_cohort_of_its_own() -> None:
    """Accounts of two large countries are never each other's null."""
    n = 4 * SMALLEST_COHORT
    country = ["aa", "bb"] * (n // 2)
    people = population(facts(np.arange(n)), accounts_file(n, country=country))
    assert people.cohort.tolist() == [0, 1] * (n // 2)


def test_a_fallback_is_taken_level_by_level() -> None:
    """An account has the finest label whose group is large enough; leftovers too few join the largest group."""
    fine, coarse, all_of_them = np.repeat([1, 2, 3], [5, 2, 1]), np.repeat([11, 12], [5, 3]), np.full(8, 99)
    assert with_fallback([fine, coarse, all_of_them], 3).tolist() == [1] * 5 + [12] * 3
    assert with_fallback([fine, coarse, all_of_them], 4).tolist() == [1] * 8


def test_rows_of_accounts_may_come_in_any_order() -> None:
    """Profiles and the accounts file in another order, and strangers in it, give the same population."""
    n = 60
    table = facts(np.repeat(np.arange(n), 3), network=keys(3, np.arange(3 * n) % 17))
    accounts = accounts_file(n, country=[f"c{at % 3}" for at in range(n)], org_id=numbered(np.arange(n) // 4, "org"))
    order = np.random.default_rng(1).permutation(n)
    stranger = pa.table({"account_id": ["nobody"], "country": ["c1"], "org_id": ["org-1"]})
    one = build_population(profile(table), accounts)
    other = build_population(
        profile(table).take(pa.array(order)), pa.concat_tables([stranger, accounts.take(pa.array(order[::-1]))])
    )
    assert one.account_ids == sorted(one.account_ids) == other.account_ids
    for name in ("unit", "cohort", "script", "offsets"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert all(np.array_equal(one.sample[name], other.sample[name]) for name in one.sample)
    assert one.accounts.equals(other.accounts)


@pytest.mark.parametrize("named", [[], [0, 3], [3, 9, 4, 0]])
def test_days_are_counted_for_those_asked(named: list[int]) -> None:
    """Exchanges of the accounts named, day by day in UTC, before 1970 as well; nobody else's."""
    rng = np.random.default_rng(2)
    who, day = rng.integers(0, 6, 300), rng.integers(-3, 4, 300)
    table = facts(who, ts=day * 86_400_000_000 + rng.integers(0, 86_400_000_000, 300))
    counted = count_days(table, accounts=np.sort(keys(1, named)))
    expected: dict[tuple[int, int], int] = defaultdict(int)
    for account, at in zip(who.tolist(), day.tolist(), strict=True):
        if account in named:
            expected[int(keys(1, account)[0]), at] += 1
    got = {(row["account"], row["day"]): row["n"] for row in counted.to_pylist()}
    assert got == expected and len(got) == counted.num_rows
    assert START_US // 86_400_000_000 == 20_514
