"""rows: sparse rows of ones against SciPy's own products."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stillwatch.kernels.rows import column_sums, holding

ENTRIES = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=20)


def ones(entries: set[tuple[int, int]]) -> csr_matrix:
    """Six rows and four columns."""
    row, column = (np.array([entry[at] for entry in sorted(entries)], np.int64) for at in (0, 1))
    return csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(6, 4))


@given(ENTRIES, st.lists(st.integers(0, 5), max_size=8), st.data())
def test_column_sums_are_a_product(entries: set[tuple[int, int]], rows: list[int], data: st.DataObject) -> None:
    """Rows may be missing, and come again; weights of eighths add up exactly."""
    weight = [data.draw(st.integers(-8, 8)) / 8 for _ in rows]
    expected = [sum(w for row, w in zip(rows, weight, strict=True) if (row, column) in entries) for column in range(4)]
    assert column_sums(ones(entries), np.array(rows, np.int64), np.array(weight, np.float64)).tolist() == expected


@given(ENTRIES, st.sets(st.integers(0, 3)))
def test_rows_hold_columns(entries: set[tuple[int, int]], wanted: set[int]) -> None:
    """A row holds one of them or none."""
    held = holding(ones(entries), np.isin(np.arange(4), sorted(wanted)))
    assert held.tolist() == [any((row, column) in entries for column in wanted) for row in range(6)]
