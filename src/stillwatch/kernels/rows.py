"""rows: sparse matrices of ones, read row by row without copies: sums of columns, and which rows hold some."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stillwatch.kernels.columns import I64
from stillwatch.kernels.compile import jit

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.integer]


def column_sums(ones: csr_matrix, rows: I64, weight: F64) -> F64:
    """Sums of the columns of some rows, each row times its weight, added in the order of `rows`; shape (columns,).

    Args:
        ones: (all rows, columns), every entry 1. rows: which. weight: (rows,).

    Cost: about a ns an entry of these rows.
    """
    return _column_sums(ones.indptr, ones.indices, rows, weight, ones.shape[1])


def holding(ones: csr_matrix, columns: Bools) -> Bools:
    """Which rows hold an entry in one of the columns, (columns,); shape (rows,). Cost: at most a ns an entry."""
    return _holding(ones.indptr, ones.indices, columns)


@jit
def _column_sums(starts: Places, columns: Places, rows: I64, weight: F64, n_columns: int) -> F64:
    sums = np.zeros(n_columns, np.float64)
    for at in range(rows.size):
        for entry in range(starts[rows[at]], starts[rows[at] + 1]):
            sums[columns[entry]] += weight[at]
    return sums


@jit
def _holding(starts: Places, columns: Places, wanted: Bools) -> Bools:
    held = np.zeros(starts.size - 1, np.bool_)
    for row in range(held.size):
        for entry in range(starts[row], starts[row + 1]):
            if wanted[columns[entry]]:
                held[row] = True
                break
    return held
