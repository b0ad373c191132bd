"""incidence: the heaviest column of each row, against a look at each row by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stillwatch.detect.incidence import heaviest

CELLS = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 3)), st.integers(1, 3), max_size=12)


@given(CELLS)
def test_the_heaviest_column_is_the_first_of_the_greatest(cells: dict[tuple[int, int], int]) -> None:
    """Rows that hold nothing are left out; of equal weights the lowest column counts."""
    rows, columns = ([at[side] for at in cells] for side in (0, 1))
    found = heaviest(csr_matrix((np.array(list(cells.values()), np.float64), (rows, columns)), shape=(5, 4)))
    expected = {}
    for row in sorted(set(rows)):
        weights = {column: weight for (at, column), weight in cells.items() if at == row}
        expected[row] = min(column for column, weight in weights.items() if weight == max(weights.values()))
    assert dict(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected
    assert found[0].tolist() == sorted(expected)
