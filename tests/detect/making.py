"""Populations made by hand: facts with the keys one wants, and nothing read, hashed or drawn by the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.detect.population import Population, build_population
from stillwatch.detect.profiles import profile
from stillwatch.detect.traits import Traits, find_traits
from stillwatch.kernels.hashing import HashKey
from stillwatch.records import ACCOUNTS, FACTS

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

KEY = HashKey(0x0123456789ABCDEF, 0x0FEDCBA987654321)

START_US = 1_772_409_600_000_000
"""2 March 2026, a Monday."""


def keys(kind: int, number: npt.ArrayLike) -> Keys:
    """A key for each number of one kind, 0 (nothing was said) for a negative one; SplitMix64 (Steele et al. 2014)."""
    numbers = np.atleast_1d(np.asarray(number, np.int64))
    mixed = (numbers + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(kind << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.where(numbers < 0, np.uint64(0), mixed)


def facts(account: npt.ArrayLike, **columns: npt.ArrayLike) -> pa.Table:
    """`records.FACTS`, one row per entry of `account` (a number each), sorted as `deduplicate` leaves them.

    Columns of the same length stand for themselves; absent ones are what a log without them gives, and `row_id` and
    `ts` are then different for each row.
    """
    who = np.asarray(account, np.int64)
    n = len(who)
    given: dict[str, Any] = {
        "account": keys(1, who),
        "account_id": pa.array([f"a{number:06d}" for number in who.tolist()], pa.string()),
        "row_id": keys(2, np.arange(n)),
        "ts": START_US + np.arange(n, dtype=np.int64) * 1_000_003,
        "input_tokens": np.full(n, -1, np.int64),
        "output_tokens": np.full(n, -1, np.int64),
        "script": np.zeros(n, np.uint8),
    }
    for name in FACTS.names:
        if name in columns:
            given[name] = columns[name]
        given.setdefault(name, np.zeros(n, np.uint64))
    arrays = [
        pa.array(given[field.name], field.type) if not isinstance(given[field.name], pa.Array) else given[field.name]
        for field in FACTS
    ]
    return pa.Table.from_arrays(arrays, schema=FACTS).sort_by([("account", "ascending"), ("row_id", "ascending")])


def accounts_file(n: int, **columns: Sequence[Any]) -> pa.Table:
    """`records.ACCOUNTS` columns for accounts 0..n-1."""
    given = {"account_id": [f"a{number:06d}" for number in range(n)]} | columns
    return pa.table({name: pa.array(values, ACCOUNTS.field(name).type) for name, values in given.items()})


def population(table: pa.Table, accounts: pa.Table | None = None) -> Population:
    """Facts of a population, lined up; account number i is at position i where all of 0..n-1 sent something."""
    return build_population(profile(table), accounts)


def numbered(values: Ints, prefix: str) -> list[str | None]:
    """Numbers as names, None for a negative one."""
    return [None if value < 0 else f"{prefix}-{value}" for value in values.tolist()]


@dataclass(frozen=True)
class Crew:
    """Accounts that share things of their own: kind to how many of it they rotate through."""

    accounts: Ints
    shares: Mapping[str, int]


def town(
    n: int,
    *crews: Crew,
    seed: int,
    n_rows: int = 12,
    n_hubs: Mapping[str, int] | None = None,
    n_cards: int | None = None,
    country: list[str] | None = None,
) -> tuple[Population, Traits]:
    """Accounts whose networks, templates and cards are drawn independently of one another, some far more popular.

    Args:
        crews: who draws from hubs of their own instead, kind by kind.
        n_hubs: hubs of each kind to draw from. n_cards: cards, two accounts each by default. country: of each account.
    """
    rng = np.random.default_rng(seed)
    sizes = {"network": n, "head": n, "tail": n, "system": n // 8 + 1} | dict(n_hubs or {})
    who = np.repeat(np.arange(n), n_rows)
    columns: dict[str, Keys] = {}
    for kind, (name, size) in enumerate(sizes.items()):
        habits = skewed(rng, size, (n, 4))
        for number, crew in enumerate(crews, start=1):
            if name in crew.shares:
                own = rng.integers(0, crew.shares[name], (len(crew.accounts), 4))
                habits[crew.accounts] = number * 10_000_000 + own
        columns[name] = keys(10 + kind, habits[who, rng.integers(0, 4, len(who))])
    card = rng.permutation(n) // 2 if n_cards is None else skewed(rng, n_cards, (n,))
    for number, crew in enumerate(crews, start=1):
        if "payment" in crew.shares:
            card[crew.accounts] = number * 10_000_000 + rng.integers(0, crew.shares["payment"], len(crew.accounts))
    known = {"payment_fingerprint": numbered(card, "card")} | ({"country": country} if country else {})
    made = population(facts(who, **columns), accounts_file(n, **known))
    return made, find_traits(made, key=KEY)


def skewed(rng: np.random.Generator, size: int, shape: tuple[int, ...]) -> Ints:
    """Numbers below `size`, the lowest the most popular (Zipf with exponent 0.8)."""
    weight = np.arange(1, size + 1) ** -0.8
    return rng.choice(size, shape, p=weight / weight.sum())
