"""peers: other ways to find coordinated accounts, re-implemented from their papers, on the same accounts and traits.

FRAUDAR (Hooi et al., KDD 2016): greedy peeling of the account-trait graph, edges weighted by 1 / log(degree + 5).
D-Cube (Shin et al., WSDM 2017): greedy peeling of a tensor account x trait x trait to the densest block, density by
the geometric mean of its sides. IsolationForest (scikit-learn) on what accounts do. A rule on shared cards. None has
a null: the first two return a block whatever is there.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LOG_OFFSET: Final = 5.0
"""Added to a degree before the logarithm, as in FRAUDAR's section 4."""

N_BLOCKS: Final = 3
FEWEST_ON_A_CARD: Final = 4


def run_peers(population: Any, traits: Any, kinds: list[str], *, seed: int) -> dict[str, list[str]]:
    """The accounts each peer names.

    Args:
        kinds: the name of each kind of trait, as `traits.kind` counts them.
    """
    carried = csr_matrix((traits.share > 0).astype(np.float64))
    kind = np.array(kinds)[traits.kind]
    content, paid, network = (
        np.isin(kind, names) for names in (("head", "tail", "system"), ("payment",), ("network",))
    )
    pays, leaves = (_tuples(carried, content, other) for other in (paid, network))
    n = carried.shape[0]
    forest = isolation_forest(population, seed=seed)
    found = {
        "FRAUDAR, first block": fraudar(carried)[:1],
        f"FRAUDAR, {N_BLOCKS} blocks": fraudar(carried),
        "D-Cube, template x card, first block": dcube(pays)[:1],
        f"D-Cube, template x card, {N_BLOCKS} blocks": dcube(pays),
        "D-Cube, template x network, first block": dcube(leaves)[:1],
        f"D-Cube, template x network, {N_BLOCKS} blocks": dcube(leaves),
        "IsolationForest, its own threshold": [forest],
        f"{FEWEST_ON_A_CARD} accounts or more on a card": [shared_cards(carried, paid)],
    }
    ids = population.account_ids
    return {
        name: [ids[at] for at in np.flatnonzero(np.isin(np.arange(n), np.concatenate(blocks)))] if blocks else []
        for name, blocks in found.items()
    }


def fraudar(carried: csr_matrix, n_blocks: int = N_BLOCKS) -> list[Ints]:
    """Accounts of the densest blocks, one after the other; a block's edges are removed before the next is sought.

    Cost: edges times the logarithm of the nodes, for each block.
    """
    edges, blocks = csr_matrix(carried), []
    for _ in range(n_blocks):
        degree = np.asarray(edges.sum(axis=0)).ravel()
        weighted = csr_matrix(edges.multiply(1.0 / np.log(degree + LOG_OFFSET)[None, :]))
        if not weighted.nnz:
            break
        rows, columns = _densest(weighted)
        blocks.append(rows)
        coo = edges.tocoo()
        keep = ~(np.isin(coo.row, rows) & np.isin(coo.col, columns))
        edges = csr_matrix((coo.data[keep], (coo.row[keep], coo.col[keep])), shape=edges.shape)
    return blocks


def _densest(weighted: csr_matrix) -> tuple[Ints, Ints]:
    """Rows and columns of the subgraph of largest weight per node that peeling the lightest node each time meets."""
    n_rows = weighted.shape[0]
    by_row, by_column = csr_matrix(weighted), csc_matrix(weighted)
    weight = np.concatenate([np.asarray(weighted.sum(axis=1)).ravel(), np.asarray(weighted.sum(axis=0)).ravel()])
    there = weight > 0
    total, n_left = float(weighted.sum()), int(there.sum())
    heap = [(w, node) for node, w in enumerate(weight.tolist()) if w > 0]
    heapq.heapify(heap)
    removed: list[int] = []
    best, best_at = total / max(n_left, 1), 0
    while heap and n_left > 1:
        w, node = heapq.heappop(heap)
        if not there[node] or w > weight[node] + 1e-12:
            continue
        there[node] = False
        total, n_left = total - weight[node], n_left - 1
        removed.append(node)
        matrix, at, shift = (by_row, node, n_rows) if node < n_rows else (by_column, node - n_rows, 0)
        span = slice(matrix.indptr[at], matrix.indptr[at + 1])
        for other, lost in zip((matrix.indices[span] + shift).tolist(), matrix.data[span].tolist(), strict=True):
            if there[other]:
                weight[other] -= lost
                heapq.heappush(heap, (float(weight[other]), other))
        if total / n_left > best:
            best, best_at = total / n_left, len(removed)
    kept = np.concatenate([np.asarray(weighted.sum(axis=1)).ravel(), np.asarray(weighted.sum(axis=0)).ravel()]) > 0
    kept[removed[:best_at]] = False
    return np.flatnonzero(kept[:n_rows]), np.flatnonzero(kept[n_rows:])


def _tuples(carried: csr_matrix, first: Mask, second: Mask) -> Ints:
    """(tuples, 3): every account with every pair of a trait of the first and of the second kind that it carries."""
    one, two = (csr_matrix(carried[:, np.flatnonzero(these)]) for these in (first, second))
    rows = [
        np.stack(
            [
                np.full(len(a) * len(b), account),
                np.repeat(a, len(b)),
                np.tile(b, len(a)),
            ],
            axis=1,
        )
        for account in range(carried.shape[0])
        if len(a := one.indices[one.indptr[account] : one.indptr[account + 1]])
        and len(b := two.indices[two.indptr[account] : two.indptr[account + 1]])
    ]
    return np.concatenate(rows).astype(np.int64) if rows else np.zeros((0, 3), np.int64)


def dcube(tuples: Ints, n_blocks: int = N_BLOCKS) -> list[Ints]:
    """First coordinates of the densest blocks, one after the other; a block's tuples are removed before the next.

    Each step takes the longest side and peels off it the values of mass at most the side's mean, the lightest first
    (the maximum-cardinality policy of D-Cube). Cost: tuples times steps, some logarithm of the longest side.
    """
    rest, blocks = tuples, []
    for _ in range(n_blocks):
        if not len(rest):
            break
        inside = _densest_block(rest)
        blocks.append(np.unique(rest[inside, 0]))
        rest = rest[~inside]
    return blocks


def _densest_block(tuples: Ints) -> Mask:
    n_modes = tuples.shape[1]
    codes = [np.unique(tuples[:, mode], return_inverse=True)[1] for mode in range(n_modes)]
    there = [np.ones(int(code.max()) + 1, bool) for code in codes]
    gone_at = [np.full(len(each), np.iinfo(np.int64).max) for each in there]
    left = np.ones(len(tuples), bool)
    mass, step = float(len(tuples)), 0
    sides = [float(each.sum()) for each in there]
    best, best_step = _density(mass, sides), 0
    while mass > 0:
        mode = int(np.argmax(sides))
        of = np.bincount(codes[mode][left], minlength=len(there[mode])).astype(np.float64)
        light = np.flatnonzero(there[mode] & (of <= mass / sides[mode]))
        for value in light[np.argsort(of[light], kind="stable")]:
            mass, sides[mode], step = mass - of[value], sides[mode] - 1, step + 1
            there[mode][value], gone_at[mode][value] = False, step
            if sides[mode] and _density(mass, sides) > best:
                best, best_step = _density(mass, sides), step
        left &= there[mode][codes[mode]]
    kept: Mask = np.logical_and.reduce([gone_at[mode][codes[mode]] > best_step for mode in range(n_modes)])
    return kept


def _density(mass: float, sides: list[float]) -> float:
    return mass / float(np.prod(sides)) ** (1 / len(sides)) if all(sides) else 0.0


def isolation_forest(population: Any, *, seed: int) -> Ints:
    """Accounts that a forest isolates early, from volume, token counts and hours; its own threshold."""
    from sklearn.ensemble import IsolationForest

    n_exchanges = population.counter("n_exchanges").astype(np.float64)
    rhythm = population.profiles.column("rhythm").combine_chunks().flatten().to_numpy().reshape(len(population), -1)
    hours = rhythm.reshape(len(rhythm), 7, 24).sum(axis=1) / np.maximum(rhythm.sum(axis=1), 1)[:, None]
    features = np.column_stack(
        [
            np.log1p(n_exchanges),
            np.log1p(population.counter("input_tokens") / n_exchanges),
            np.log1p(population.counter("output_tokens") / n_exchanges),
            np.log1p((population.counter("last_ts") - population.counter("first_ts")) / 3.6e9),
            -(hours * np.log(np.maximum(hours, 1e-12))).sum(axis=1),
            hours[:, :6].sum(axis=1),
        ]
    )
    said = IsolationForest(random_state=seed, n_jobs=1).fit_predict(features)
    return np.flatnonzero(said < 0)


def shared_cards(carried: csr_matrix, paid: Mask) -> Ints:
    """Accounts on a card that pays for `FEWEST_ON_A_CARD` or more."""
    cards = csr_matrix(carried[:, np.flatnonzero(paid)])
    popular = np.asarray(cards.sum(axis=0)).ravel() >= FEWEST_ON_A_CARD
    return np.flatnonzero(np.asarray(cards[:, np.flatnonzero(popular)].sum(axis=1)).ravel() > 0)
