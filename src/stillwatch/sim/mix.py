"""mix: what a campaign would share with the accounts of real logs: measured in one pass, without any text of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa

from stillwatch.errors import InputError

LOOKED_AT: Final = ("ts", "account_id", "ip", "user_agent", "tls_fingerprint", "model")
"""Columns of the exchanges that are read."""

FEWEST_BEHIND: Final = 3
"""Accounts an address must serve before a planted campaign may leave through it too."""

MOST_EGRESS: Final = 500
BATCHES_HELD: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What a campaign would have in common with the logs.

    Attributes:
        columns, account_columns: canonical columns that hold anything; the accounts' are empty without a file of them.
        egress: addresses that several accounts leave through, with the number of accounts.
        clients: pairs of user agent and TLS fingerprint, either may be None, with the number of accounts.
        models: names of models, the oldest first.
    """

    first: datetime
    last: datetime
    n_accounts: int
    columns: frozenset[str]
    account_columns: frozenset[str] = frozenset()
    egress: Sequence[tuple[str, int]] = ()
    clients: Sequence[tuple[str | None, str | None, int]] = ()
    models: Sequence[str] = ()


def measure_mix(
    batches: Iterable[pa.RecordBatch], accounts: pa.Table | None, *, columns: Callable[[], Sequence[str]]
) -> Mix:
    """Measure logs.

    Args:
        batches: columns `LOOKED_AT` of every exchange. accounts: `records.ACCOUNTS`, or None without a file of them.
        columns: asked when all batches are read: the canonical columns that hold anything.

    Raises:
        InputError: there is no exchange.

    Memory: linear in the distinct combinations of account, address, client and model.
    """
    parts: list[pa.Table] = []
    for batch in batches:
        parts.append(_distinct(pa.Table.from_batches([batch])))
        if len(parts) > BATCHES_HELD:
            parts = [_distinct(pa.concat_tables(parts))]
    if not sum(part.num_rows for part in parts):
        raise InputError("no exchange could be read", do="Look with: stillwatch doctor")
    rows = _distinct(pa.concat_tables(parts))
    table = pa.table({}) if accounts is None else accounts
    held = [name for name in table.column_names if table[name].null_count < table.num_rows]
    return Mix(
        first=min(rows["first"].to_pylist()),
        last=max(rows["last"].to_pylist()),
        n_accounts=len(rows["account_id"].unique()),
        columns=frozenset(columns()),
        account_columns=frozenset(held),
        egress=_egress(rows),
        clients=_clients(rows),
        models=_models(rows),
    )


def _distinct(table: pa.Table) -> pa.Table:
    """One row for each account, address, client and model, with the first and the last time."""
    names = list(LOOKED_AT[1:])
    plain = {name: table[name].cast(pa.string()) for name in names}
    low, high = ("ts", "ts") if "ts" in table.column_names else ("first", "last")
    grouped = pa.table(plain | {"low": table[low], "high": table[high]}).group_by(names)
    found = grouped.aggregate([("low", "min"), ("high", "max")])
    return found.rename_columns({"low_min": "first", "high_max": "last"})


def _egress(rows: pa.Table) -> list[tuple[str, int]]:
    """Addresses that several accounts leave through, those of most accounts first."""
    pairs = rows.group_by(["ip", "account_id"]).aggregate([]).to_pylist()
    behind = Counter(pair["ip"] for pair in pairs if pair["ip"])
    return sorted(((ip, n) for ip, n in behind.items() if n >= FEWEST_BEHIND), key=lambda each: (-each[1], each[0]))[
        :MOST_EGRESS
    ]


def _clients(rows: pa.Table) -> list[tuple[str | None, str | None, int]]:
    names = ["user_agent", "tls_fingerprint"]
    pairs = rows.group_by([*names, "account_id"]).aggregate([]).to_pylist()
    users = Counter((pair["user_agent"], pair["tls_fingerprint"]) for pair in pairs)
    return sorted(((agent, tls, n) for (agent, tls), n in users.items()), key=lambda each: (-each[2], str(each)))


def _models(rows: pa.Table) -> list[str]:
    """Names of models by when they were first seen."""
    first = rows.group_by("model").aggregate([("first", "min")]).to_pylist()
    ordered = sorted(first, key=lambda one: (one["first_min"], str(one["model"])))
    return [one["model"] for one in ordered if one["model"]]
