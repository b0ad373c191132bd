"""population: every account of a scan side by side, with the cohort and the paying unit it belongs to.

Accounts are in the order of their ids, so whatever is computed here is the same for any split of the logs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stillwatch.detect.profiles import SAMPLED, flat_values
from stillwatch.kernels.writing import SCRIPTS

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Found = TypeVar("Found")

SMALLEST_COHORT = 250
"""Accounts below which a (country, script) cohort is too small to carry a null of its own and joins the rest."""

SMALLEST_PEER_GROUP = 300
"""Accounts below which a peer group joins the next coarser one."""

PAYING = ("org_id", "payment_fingerprint")
"""Account columns that make accounts one paying unit: what the provider can see belongs together."""


@dataclass(frozen=True, slots=True)
class Population:
    """All accounts of a scan; every array has one entry per account unless it says otherwise.

    Attributes:
        account_ids: ids, ascending.
        profiles: `records.PROFILES`, one row per account in the same order.
        accounts: `records.ACCOUNTS` columns that were given, aligned, null where an account was not listed.
        offsets: (n + 1,) where each account's sampled rows start in `sample`.
        sample: flat arrays of the sampled rows: `row_id` and each name of `profiles.SAMPLED`.
        unit: paying unit (accounts joined by organisation or payment instrument).
        coin: 0 or 1, keyed, the same for all accounts of a unit: one half chooses, the other is tested.
        script: main writing system of the prompts, as in `kernels.writing.SCRIPTS`.
        with_system: whether most exchanges bear a system prompt, the mark of a product rather than a person.
        peer: accounts that share script, volume and `with_system`: those a content score is ranked among.
        country: dense country of the account, -1 where unknown; only ever used to compare within one.
        cohort: accounts that share script, country and `with_system`; nulls are taken within it, never across it.
    """

    account_ids: list[str]
    profiles: pa.Table
    accounts: pa.Table
    offsets: Ints
    sample: dict[str, Keys]
    unit: Ints
    coin: Ints
    script: Ints
    with_system: npt.NDArray[np.bool_]
    peer: Ints
    country: Ints
    cohort: Ints
    _found: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.account_ids)

    @property
    def sampled(self) -> Ints:
        """Sampled rows of each account."""
        return np.diff(self.offsets)

    def once(self, name: str, find: Callable[[Population], Found]) -> Found:
        """What `find` makes of the population, found the first time it is asked for under that name."""
        if name not in self._found:
            self._found[name] = find(self)
        found: Found = self._found[name]
        return found

    def counter(self, name: str) -> Ints:
        """One integer column of the profiles."""
        values: Ints = self.profiles.column(name).to_numpy()
        return values


def build_population(profiles: pa.Table, accounts: pa.Table | None) -> Population:
    """Line up profiles and the accounts file.

    Args:
        profiles: `records.PROFILES`, unique accounts, any order.
        accounts: `records.ACCOUNTS` or None; accounts without exchanges are left out.
    """
    profiles = profiles.take(pc.sort_indices(profiles.column("account_id"))).combine_chunks()
    account_ids: list[str] = profiles.column("account_id").to_pylist()
    listed = _align(accounts, profiles.column("account_id"))
    sample = {name: flat_values(profiles, f"rows_{name}") for name in SAMPLED} | {
        "row_id": flat_values(profiles, "rows")
    }
    offsets = np.zeros(len(account_ids) + 1, np.int64)
    np.cumsum(profiles.column("rows").combine_chunks().value_lengths().to_numpy(), out=offsets[1:])
    script = _main_script(offsets, sample["script"])
    owner = np.repeat(np.arange(len(account_ids)), np.diff(offsets))
    told = np.bincount(owner, sample["system"] != 0, minlength=len(account_ids))
    with_system = told * 2 >= np.diff(offsets)
    unit = joined_units(len(account_ids), [listed.column(name) for name in PAYING if name in listed.column_names])
    return Population(
        account_ids=account_ids,
        profiles=profiles,
        accounts=listed,
        offsets=offsets,
        sample=sample,
        unit=unit,
        coin=_coins(unit, profiles.column("account").to_numpy()),
        script=script,
        with_system=with_system,
        peer=_peers(profiles.column("n_exchanges").to_numpy(), script, with_system),
        country=_countries(listed),
        cohort=_cohorts(_countries(listed), script, with_system),
    )


def joined_units(n: int, links: list[pa.ChunkedArray]) -> Ints:
    """Join accounts that share a value in any of the columns; returns a dense unit number per account."""
    rows, columns, width = [], [], 0
    for link in links:
        codes = link.combine_chunks().dictionary_encode()
        known = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
        rows.append(known)
        columns.append(codes.indices.drop_null().to_numpy().astype(np.int64) + width)
        width += len(codes.dictionary)
    if not width:
        return np.arange(n)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, n + column)), shape=(n + width, n + width))
    _, label = connected_components(graph, directed=False)
    return dense(label[:n])


def dense(labels: npt.NDArray[np.generic]) -> Ints:
    """Renumber labels 0..k-1 in the order they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]


def _coins(unit: Ints, account: Keys) -> Ints:
    """A keyed coin per unit: a bit of the smallest key among its accounts."""
    smallest = np.full(int(unit.max(initial=0)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, unit, account)
    return ((smallest[unit] >> np.uint64(32)) & np.uint64(1)).astype(np.int64)


def with_fallback(labels: list[Ints], smallest: int) -> Ints:
    """The finest label of each account whose group has `smallest` accounts, then the next coarser.

    What is left over at the coarsest level and still too few joins the largest group, so that nobody is a null of
    their own; where no group is large enough that is everybody.

    Args:
        labels: from fine to coarse; labels of different levels must not be equal.
    """
    label = labels[0]
    for coarser in labels[1:]:
        _, inverse, size = np.unique(label, return_inverse=True, return_counts=True)
        label = np.where(size[inverse] < smallest, coarser, label)
    names, inverse, size = np.unique(label, return_inverse=True, return_counts=True)
    return np.asarray(np.where(size[inverse] < smallest, names[np.argmax(size)], label)) if len(names) else label


def _main_script(offsets: Ints, script: Keys) -> Ints:
    n = len(offsets) - 1
    owner = np.repeat(np.arange(n), np.diff(offsets))
    counts = np.bincount(owner * len(SCRIPTS) + script, minlength=n * len(SCRIPTS)).reshape(n, len(SCRIPTS))
    return np.asarray(counts.argmax(axis=1), np.int64)


def _countries(accounts: pa.Table) -> Ints:
    if "country" not in accounts.column_names:
        return np.full(accounts.num_rows, -1)
    codes = accounts.column("country").combine_chunks().dictionary_encode().indices.fill_null(-1)
    return np.asarray(codes.to_numpy(), np.int64)


def _cohorts(country: Ints, script: Ints, with_system: npt.NDArray[np.bool_]) -> Ints:
    habit = script * 2 + with_system
    levels = [-(habit + 1000), -(with_system.astype(np.int64) + 2)]
    if (country >= 0).any():
        levels.insert(0, habit * 1_000_000 + country + 1)
    return dense(with_fallback(levels, SMALLEST_COHORT))


def _peers(n_exchanges: Ints, script: Ints, with_system: npt.NDArray[np.bool_]) -> Ints:
    """Peer groups; volume is below 4, 16, 64 exchanges or more, from where a share is as precise as it gets."""
    volume = np.searchsorted([4, 16, 64], n_exchanges, side="right")
    fine = script * 64 + volume * 2 + with_system
    return dense(with_fallback([fine, volume * 2 + with_system + 1000, with_system + 2000], SMALLEST_PEER_GROUP))


def _align(accounts: pa.Table | None, account_ids: pa.ChunkedArray) -> pa.Table:
    if accounts is None:
        return pa.table({"account_id": account_ids})
    at = pc.index_in(account_ids, value_set=accounts.column("account_id").combine_chunks())
    return accounts.take(at).set_column(accounts.column_names.index("account_id"), "account_id", account_ids)
