"""ordering: one sort for two keys, against NumPy's own two sorts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.ordering import order_by, ranks

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
