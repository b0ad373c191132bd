"""days: what each account of interest did on each day; a second look at the facts, not at the log."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

DAY_US = 86_400_000_000

DAYS = pa.schema([pa.field("account", pa.uint64()), pa.field("day", pa.int64()), pa.field("n", pa.int64())])


def count_days(facts: pa.Table, *, accounts: npt.NDArray[np.uint64]) -> pa.Table:
    """Exchanges per (account, day since 1970 in UTC) of the accounts named (ascending keys); any other is left out."""
    account = facts.column("account").to_numpy()
    if not len(accounts):
        return DAYS.empty_table()
    at = np.minimum(np.searchsorted(accounts, account), len(accounts) - 1)
    rows = np.flatnonzero(accounts[at] == account)
    day = facts.column("ts").to_numpy()[rows] // DAY_US
    order = np.lexsort((day, at[rows]))
    who, day = at[rows][order], day[order]
    first = np.flatnonzero(np.r_[True, (who[1:] != who[:-1]) | (day[1:] != day[:-1])][: len(who)])
    return pa.table([accounts[who[first]], day[first], np.diff(np.r_[first, len(who)])], schema=DAYS)
