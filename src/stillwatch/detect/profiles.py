"""profiles: facts of one account into its Profile, and Profiles into one another (Law 1).

A Profile is a commutative monoid: counters add, and the two samples are bottom-k by keyed hash, so parts
merged in any order equal the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.kernels.ordering import order_by, ranks
from stillwatch.kernels.sketches import hour_of_week, log2_bins
from stillwatch.records import HOURS_PER_WEEK, LOG_BINS, PROFILES, PROMPTS_PER_PROFILE, ROWS_PER_PROFILE

SAMPLED = ("model", "network", "client", "system", "head", "tail", "script")
"""The facts a Profile keeps of each sampled exchange, as `rows_<name>`."""

Ints = npt.NDArray[np.int64]


def deduplicate(facts: pa.Table) -> pa.Table:
    """Keep one fact per exchange: of equal content and instant, or equal exchange id, the smallest row id.

    Only rows of one account are ever taken for copies of each other: providers' ids collide across accounts. Nor are
    rows under one id that tell of different prompts: some gateways let the client choose it (LiteLLM's header
    x-litellm-call-id), and whoever sends the same with every request would have made one request. A row that tells of
    no prompt is a copy of those under its id that do.

    Args:
        facts: any rows of `records.FACTS`; all rows of an account must be in one call.

    Returns:
        The kept rows, sorted by account and row id, whatever the order they came in: a row stays if no row before
        it, by row id and then exchange id, has its row id, or its exchange id and prompt. Cost: one sort, a second
        where exchange ids exist.
    """
    facts = facts.combine_chunks()
    return facts.take(pa.array(_distinct(facts)))


def _distinct(facts: pa.Table) -> Ints:
    """The rows that `deduplicate` keeps, in its order, of facts in one piece."""
    account, row_id, exchange = (facts.column(name).to_numpy() for name in ("account", "row_id", "exchange"))
    if not exchange.any():
        order = order_by(ranks(account), row_id)
        keep = ~_repeats(account.take(order), row_id.take(order))
        return order if keep.all() else order[keep]
    order = np.lexsort((exchange, exchange == 0, row_id, account))
    account, row_id, exchange = account[order], row_id[order], exchange[order]
    keep = ~_repeats(account, row_id)
    named = np.flatnonzero(exchange)
    by_exchange = named[np.lexsort((named, exchange[named], account[named]))]
    group = np.cumsum(~_repeats(account[by_exchange], exchange[by_exchange])) - 1
    keep[_copies(by_exchange, group, facts.column("prompt").to_numpy()[order])] = False
    return order[keep]


def _copies(rows: Ints, group: Ints, prompt: npt.NDArray[np.uint64]) -> Ints:
    """The copies among rows, given group by group in their order, each group under one exchange id."""
    are_several = np.bincount(group)[group] > 1
    rows, group = rows[are_several], group[are_several]
    if not len(rows):
        return rows
    told = prompt[rows]
    order = np.lexsort((rows, told, group))
    is_told = np.bincount(group, weights=told != 0)[group] > 0
    return np.concatenate([rows[order][_repeats(group[order], told[order])], rows[(told == 0) & is_told]])


def _repeats(*columns: npt.NDArray[np.uint64] | Ints) -> npt.NDArray[np.bool_]:
    """Rows equal to the row before them."""
    repeats = np.zeros(len(columns[0]), bool)
    repeats[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return repeats


def profile(facts: pa.Table) -> pa.Table:
    """Summarise facts as one `records.PROFILES` row per account, sorted by account; copies count once.

    Args:
        facts: any rows of `records.FACTS`; all rows of an account must be in one call.

    Cost: that of `deduplicate`, plus one sort of the prompts.
    """
    facts = facts.combine_chunks()
    order = _distinct(facts)
    taken = {
        name: facts.column(name).to_numpy().take(order)
        for name in ("account", "row_id", "ts", "input_tokens", "output_tokens", "prompt", "conversation")
    }
    account = taken["account"]
    starts = np.flatnonzero(np.r_[True, account[1:] != account[:-1]][: len(account)])
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(account)]))
    columns: dict[str, pa.Array] = {"account": pa.array(account[starts])}
    columns["account_id"] = facts.column("account_id").combine_chunks().take(pa.array(order[starts]))
    columns["n_exchanges"] = pa.array(np.bincount(group, minlength=len(starts)))
    for name in ("input_tokens", "output_tokens"):
        columns[name] = pa.array(_reduce(np.add, np.maximum(taken[name], 0), starts))
        columns[name.replace("tokens", "log2")] = _histogram(group, log2_bins(taken[name]), len(starts), LOG_BINS)
    columns["first_ts"] = pa.array(_reduce(np.minimum, taken["ts"], starts))
    columns["last_ts"] = pa.array(_reduce(np.maximum, taken["ts"], starts))
    columns["rhythm"] = _histogram(group, hour_of_week(taken["ts"]), len(starts), HOURS_PER_WEEK)
    rows = np.flatnonzero(np.arange(len(account)) - starts[group] < ROWS_PER_PROFILE) if len(starts) else starts
    lengths = np.bincount(group[rows], minlength=len(starts))
    columns["rows"] = _lists(taken["row_id"][rows], lengths)
    sampled = order[rows]
    for name in SAMPLED:
        columns[f"rows_{name}"] = _lists(facts.column(name).to_numpy()[sampled], lengths)
    prompt = taken["prompt"]
    told = np.flatnonzero(prompt)
    columns |= _prompt_sample(group[told], prompt[told], np.ones(len(told), np.int64), len(starts))
    opening = taken["conversation"]
    told = np.flatnonzero(opening)
    columns["conversations"] = _conversations(group[told], opening[told], len(starts))
    return pa.table([columns[name] for name in PROFILES.names], schema=PROFILES)


def merge_profiles(parts: Sequence[pa.Table]) -> pa.Table:
    """Merge Profiles of disjoint exchanges; rows of one account become one, sorted by account.

    Args:
        parts: tables of `records.PROFILES`, any order; an empty table is neutral.
    """
    whole = pa.concat_tables([PROFILES.empty_table(), *parts]).combine_chunks()
    names, group = np.unique(whole.column("account").to_numpy(), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(names)))
    columns: dict[str, pa.Array] = {"account": pa.array(names)}
    columns["account_id"] = whole.column("account_id").combine_chunks().take(pa.array(order[starts]))
    for name in ("n_exchanges", "input_tokens", "output_tokens"):
        columns[name] = pa.array(_reduce(np.add, whole.column(name).to_numpy()[order], starts))
    columns["first_ts"] = pa.array(_reduce(np.minimum, whole.column("first_ts").to_numpy()[order], starts))
    columns["last_ts"] = pa.array(_reduce(np.maximum, whole.column("last_ts").to_numpy()[order], starts))
    for name, width in (("rhythm", HOURS_PER_WEEK), ("input_log2", LOG_BINS), ("output_log2", LOG_BINS)):
        counts = flat_values(whole, name).reshape(-1, width)[order].astype(np.int64)
        columns[name] = _fixed(_reduce(np.add, counts, starts), width)
    owner = np.repeat(group, _lengths(whole, "rows"))
    row_id = flat_values(whole, "rows")
    rows = _smallest(owner, row_id, ROWS_PER_PROFILE)
    lengths = np.bincount(owner[rows], minlength=len(names))
    columns["rows"] = _lists(row_id[rows], lengths)
    for name in SAMPLED:
        columns[f"rows_{name}"] = _lists(flat_values(whole, f"rows_{name}")[rows], lengths)
    owner = np.repeat(group, _lengths(whole, "prompts"))
    counts = flat_values(whole, "prompt_counts").astype(np.int64)
    columns |= _prompt_sample(owner, flat_values(whole, "prompts"), counts, len(names))
    owner = np.repeat(group, _lengths(whole, "conversations"))
    columns["conversations"] = _conversations(owner, flat_values(whole, "conversations"), len(names))
    return pa.table([columns[name] for name in PROFILES.names], schema=PROFILES)


def _smallest(group: Ints, key: npt.NDArray[np.uint64], k: int) -> Ints:
    """Positions of the k smallest keys of each group, by group then key."""
    order = order_by(group, key)
    return order[_rank_within(group[order]) < k]


def _rank_within(group: Ints) -> Ints:
    """How many rows of the same group stand before each row, of rows sorted by group."""
    at = np.arange(len(group))
    begins = np.r_[True, group[1:] != group[:-1]][: len(group)]
    return np.asarray(at - np.maximum.accumulate(np.where(begins, at, 0)))


def _prompt_sample(group: Ints, prompt: npt.NDArray[np.uint64], counts: Ints, n: int) -> dict[str, pa.Array]:
    order = order_by(group, prompt)
    group, prompt, counts = group[order], prompt[order], counts[order]
    first = np.flatnonzero(np.r_[True, (group[1:] != group[:-1]) | (prompt[1:] != prompt[:-1])][: len(group)])
    total = _reduce(np.add, counts, first)
    group, prompt = group[first], prompt[first]
    keep = _rank_within(group) < PROMPTS_PER_PROFILE
    lengths = np.bincount(group[keep], minlength=n)
    return {
        "prompts": _lists(prompt[keep], lengths),
        "prompt_counts": _lists(total[keep].astype(np.uint32), lengths),
    }


def _conversations(group: Ints, opening: npt.NDArray[np.uint64], n: int) -> pa.Array:
    """As prompts are sampled, so that two accounts with one conversation keep or drop it together."""
    return _prompt_sample(group, opening, np.ones(len(opening), np.int64), n)["prompts"]


def _reduce(how: np.ufunc, values: npt.NDArray[np.int64], starts: Ints) -> npt.NDArray[np.int64]:
    if not len(starts):
        return values[:0]
    reduced: npt.NDArray[np.int64] = how.reduceat(values, starts)
    return reduced


def _histogram(group: Ints, bins: Ints, n: int, width: int) -> pa.Array:
    known = bins >= 0
    counts = np.bincount(group[known] * width + bins[known], minlength=n * width)
    return _fixed(counts, width)


def _fixed(counts: npt.NDArray[np.int64], width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(counts.reshape(-1).astype(np.uint32)), width)


def _lists(values: npt.NDArray[np.generic], lengths: Ints) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def flat_values(table: pa.Table, name: str) -> npt.NDArray[np.uint64]:
    """All values of a list column, in row order."""
    flat: npt.NDArray[np.uint64] = table.column(name).combine_chunks().flatten().to_numpy()
    return flat


def _lengths(table: pa.Table, name: str) -> Ints:
    lengths: Ints = table.column(name).combine_chunks().value_lengths().to_numpy().astype(np.int64)
    return lengths
