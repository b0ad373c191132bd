"""ordering: rows in the order of a group and a keyed hash within it, distinct hashes, and where they stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.kernels.columns import I64, U64, frozen
from stillwatch.kernels.compile import jit


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


def n_distinct(group: npt.NDArray[np.integer], key: U64, n_groups: int) -> I64:
    """How many distinct keys each group holds, shape (groups,); keys that agree in their leading bits count as one.

    As many bits are compared as fit beside the group in one number, 40 with 16 million groups. Cost: one sort of
    numbers, several times as fast as an order.

    Args:
        group: (n,) numbers from 0 up. key: (n,) hashes, spread over the whole range.
    """
    n_bits = np.uint64(max(n_groups.bit_length(), 1))
    word = group.astype(np.uint64) << (np.uint64(64) - n_bits) | key >> n_bits
    word.sort()
    new = np.r_[True, word[1:] != word[:-1]][: len(word)]
    return np.bincount((word[new] >> (np.uint64(64) - n_bits)).astype(np.int64), minlength=n_groups)


def ranks(values: U64) -> I64:
    """Rank of each value among the distinct ones, from 0, shape (n,).

    Cost: one look-up a row and one sort of the distinct values.
    """
    coded = pa.array(values).dictionary_encode()
    distinct = coded.dictionary.to_numpy()
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(distinct)] = np.arange(len(distinct))
    return np.asarray(rank[coded.indices.to_numpy()])


def places(values: U64, among: U64) -> I64:
    """Where each value stands among distinct ones, shape (n,); -1 where it does not. Cost: one look-up a value."""
    found = pc.index_in(pa.array(values), value_set=pa.array(among))
    return np.asarray(found.fill_null(-1).to_numpy(), np.int64)


def distinct_by_run(values: U64, offsets: I64) -> tuple[I64, U64, I64]:
    """(run, value, count) of what occurs in each run, by run then value; 0 is nothing and left out.

    Run i is `values[offsets[i]:offsets[i + 1]]`. Cost: one sort of each run.
    """
    return _distinct_by_run(frozen(values.view()), frozen(offsets.view()))


def most_by_run(run: I64, count: I64, most: int) -> npt.NDArray[np.bool_]:
    """Which entries are the `most` of their run, those with the largest counts; of equals the first. Shape (n,).

    Args:
        run: (n,) ascending. count: (n,) from 1 to a bound on which the cost of a run depends.
    """
    return _most_by_run(frozen(run.view()), frozen(count.view()), most)


@jit
def _most_by_run(run: I64, count: I64, most: int) -> npt.NDArray[np.bool_]:
    kept = np.ones(run.size, np.bool_)
    n_of = np.zeros(count.max() + 1 if count.size else 1, np.int64)
    first = 0
    while first < run.size:
        last = first
        while last < run.size and run[last] == run[first]:
            last += 1
        if last - first > most:
            n_of[:] = 0
            for at in range(first, last):
                n_of[count[at]] += 1
            least, room = n_of.size, most
            while room > 0:
                least -= 1
                room -= n_of[least]
            # Of those that have just enough, so many are left over.
            room += n_of[least]
            for at in range(first, last):
                kept[at] = count[at] > least
                if count[at] == least and room > 0:
                    kept[at] = True
                    room -= 1
        first = last
    return kept


@jit
def _distinct_by_run(values: U64, offsets: I64) -> tuple[I64, U64, I64]:
    run, value, count = np.empty(values.size, np.int64), np.empty_like(values), np.empty(values.size, np.int64)
    n = 0
    for at in range(offsets.size - 1):
        first = n
        for one in np.sort(values[offsets[at] : offsets[at + 1]]):
            if one == 0:
                continue
            if n > first and value[n - 1] == one:
                count[n - 1] += 1
            else:
                run[n], value[n], count[n] = at, one, 1
                n += 1
    return run[:n].copy(), value[:n].copy(), count[:n].copy()
