"""peers: the re-implemented methods find what their papers say they find."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.yardstick.peers import LOG_OFFSET, dcube, fraudar, shared_cards


def suspiciousness(carried: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...]) -> float:
    """Edge weight of a block for each of its nodes, with FRAUDAR's column weights, counted naively."""
    weight = 1 / np.log(carried.sum(axis=0) + LOG_OFFSET)
    block = (carried * weight)[np.ix_(rows, columns)]
    return float(block.sum()) / (len(rows) + len(columns))


def test_the_first_block_is_at_least_half_as_dense_as_the_best() -> None:
    """FRAUDAR's guarantee (theorem 2 of the paper), against every block of small random graphs."""
    rng = np.random.default_rng(11)
    for _ in range(5):
        carried = (rng.random((6, 5)) < 0.4).astype(float)
        (found, *_) = fraudar(csr_matrix(carried), 1)
        columns = [c for n in range(1, 6) for c in combinations(range(5), n)]
        rows = [r for n in range(1, 7) for r in combinations(range(6), n)]
        best = max(suspiciousness(carried, r, c) for r in rows for c in columns)
        ours = max(suspiciousness(carried, tuple(found.tolist()), c) for c in columns)
        assert ours >= best / 2


def test_a_planted_block_is_found_and_then_removed() -> None:
    """Twenty accounts that share ten objects in a sparse crowd are the first block; the second is another one."""
    rng = np.random.default_rng(3)
    carried = (rng.random((300, 200)) < 0.01).astype(float)
    carried[:20, :10] = 1
    carried[40:48, 50:56] = 1
    blocks = fraudar(csr_matrix(carried), 2)
    assert [block.tolist() for block in blocks] == [list(range(20)), list(range(40, 48))]


def test_popular_objects_weigh_less() -> None:
    """An object that everybody carries does not make everybody a block."""
    carried = np.zeros((400, 40))
    carried[:, 0] = 1
    carried[:15, 1:12] = 1
    assert fraudar(csr_matrix(carried), 1)[0].tolist() == list(range(15))


def test_a_dense_tensor_block_is_found() -> None:
    """D-Cube finds a block of a sparse tensor, and the next one once that is removed."""
    rng = np.random.default_rng(8)
    noise = np.column_stack([rng.integers(0, 400, 900), rng.integers(0, 200, 900), rng.integers(0, 200, 900)])
    blocks = [
        np.stack(np.meshgrid(np.arange(a, a + 12), np.arange(b, b + 5), np.arange(c, c + 4)), axis=-1).reshape(-1, 3)
        for a, b, c in ((50, 20, 30), (300, 120, 90))
    ]
    tuples = np.unique(np.concatenate([noise, blocks[0], blocks[1][:180]]), axis=0).astype(np.int64)
    found = dcube(tuples, 2)
    assert sorted(each.tolist()[0] for each in found) == [50, 300]
    assert all(len(each) == 12 for each in found)


def test_nothing_has_no_block() -> None:
    """Accounts without any trait give no block and no error."""
    assert fraudar(csr_matrix((5, 4))) == []
    assert dcube(np.zeros((0, 3), np.int64)) == []


def test_cards_of_four_or_more() -> None:
    """The rule names those on a card of four accounts, and nobody on a card of three."""
    carried = np.zeros((9, 3))
    carried[:4, 0] = carried[4:7, 1] = carried[:, 2] = 1
    paid = np.array([True, True, False])
    assert shared_cards(csr_matrix(carried), paid).tolist() == [0, 1, 2, 3]
