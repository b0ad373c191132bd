"""ordering: rows in the order of a group and a keyed hash within it, by one sort of one word each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.kernels.columns import I64, U64


def order_by(group: npt.NDArray[np.integer], key: U64) -> I64:
    """Positions sorted by group, then key, shape (n,); rows equal in both come in any order.

    The group and as many leading bits of the key as fit beside it are sorted as one number, two to three times as fast
    as two sorts; where keys of a group agree in those bits but not in the rest, two sorts it is.

    Args:
        group: (n,) numbers from 0 up. key: (n,) hashes, spread over the whole range.
    """
    n_bits = np.uint64(max(int(group.max(initial=0)).bit_length(), 1))
    word = group.astype(np.uint64) << (np.uint64(64) - n_bits) | key >> n_bits
    order: I64 = np.argsort(word)
    word, ordered = word[order], key[order]
    if np.any((word[1:] == word[:-1]) & (ordered[1:] != ordered[:-1])):
        order = np.lexsort((key, group))
    return order


def ranks(values: U64) -> I64:
    """Rank of each value among the distinct ones, from 0, shape (n,).

    Cost: one look-up a row and one sort of the distinct values.
    """
    coded = pa.array(values).dictionary_encode()
    distinct = coded.dictionary.to_numpy()
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(distinct)] = np.arange(len(distinct))
    return np.asarray(rank[coded.indices.to_numpy()])
