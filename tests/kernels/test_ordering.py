"""ordering: one sort for two keys, against NumPy's own two sorts."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.ordering import distinct_by_run, most_by_run, n_distinct, order_by, places, ranks

ROWS = st.lists(st.tuples(st.integers(0, 2**40), st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))), max_size=50)


@given(ROWS)
def test_order_by_equals_two_sorts(rows: list[tuple[int, int]]) -> None:
    """Groups and keys come in the order two sorts give them, also where keys differ in their last bits only."""
    group, key = np.array([g for g, _ in rows], np.int64), np.array([k for _, k in rows], np.uint64)
    order = order_by(group, key)
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert list(zip(group[order], key[order], strict=True)) == sorted(zip(group, key, strict=True))


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_ranks_equal_numpys(values: list[int]) -> None:
    """Ranks are places among the distinct values, ascending."""
    given_values = np.array(values, np.uint64)
    assert ranks(given_values).tolist() == np.unique(given_values, return_inverse=True)[1].tolist()


@given(st.lists(st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1))))
def test_distinct_by_run_equals_a_count_of_each_run(runs: list[list[int]]) -> None:
    """Each run's values ascending, with how often they occur; 0 is left out, and runs may be empty."""
    values = np.array([value for run in runs for value in run], np.uint64)
    offsets = np.cumsum([0, *(len(run) for run in runs)], dtype=np.int64)
    expected = [(at, *item) for at, run in enumerate(runs) for item in sorted(Counter(run).items()) if item[0]]
    assert list(zip(*(column.tolist() for column in distinct_by_run(values, offsets)), strict=True)) == expected


@given(st.lists(st.integers(0, 2**64 - 1)), st.sets(st.integers(0, 2**64 - 1)), st.integers(0, 2**64 - 1))
def test_places_are_those_of_a_list(values: list[int], among: set[int], shared: int) -> None:
    """A value stands where a list of them has it; one it lacks stands nowhere."""
    known = sorted(among | {shared})
    expected = [known.index(value) if value in known else -1 for value in [*values, shared]]
    assert places(np.array([*values, shared], np.uint64), np.array(known, np.uint64)).tolist() == expected
    assert places(np.array(values, np.uint64), np.zeros(0, np.uint64)).tolist() == [-1] * len(values)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_distinct_keys_of_each_group_are_counted(rows: list[tuple[int, int]]) -> None:
    """As sets of the keys count them; a group without rows holds none."""
    keys = np.array([0, 2**40, 2**63, 2**64 - 1], np.uint64)
    group, key = np.array([g for g, _ in rows], np.int64), keys[np.array([k for _, k in rows], np.int64)]
    expected = [len({k for g, k in rows if g == number}) for number in range(6)]
    assert n_distinct(group, key, 6).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=40), st.integers(1, 5))
def test_the_most_of_each_run_are_those_a_stable_sort_puts_first(rows: list[tuple[int, int]], most: int) -> None:
    """The largest counts of a run, of equals the first."""
    rows = sorted(rows, key=lambda row: row[0])
    kept = most_by_run(np.array([r for r, _ in rows], np.int64), np.array([c for _, c in rows], np.int64), most)
    for number in range(4):
        own = [at for at, (run, _) in enumerate(rows) if run == number]
        assert set(sorted(own, key=lambda at: -rows[at][1])[:most]) == {at for at in own if kept[at]}
