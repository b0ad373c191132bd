"""accounts: the file that says what the provider knows of each account, in the canonical columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.errors import InputError
from stillwatch.ingest.cast import cast
from stillwatch.ingest.conform import Fates, Window, blank
from stillwatch.ingest.discover import find_files
from stillwatch.ingest.files import open_file, read_file
from stillwatch.ingest.names import ACCOUNT_ALIASES
from stillwatch.ingest.raw import Raw
from stillwatch.records import ACCOUNTS

_ALWAYS = Window(since=None, until=None, latest=0)


def read_accounts(path: str | Path, *, mapping: Mapping[str, str] | None = None) -> tuple[pa.Table, dict[str, int]]:
    """All accounts of a file, folder or pattern, one row each, sorted, and what was lost or changed, by name.

    `mapping` (theirs -> ours) may name columns of the logs too; they are passed over. Of an e-mail address only the
    domain is kept. Of several rows for one account the first in the order of all columns stays, nulls last, so that
    the order of rows and files does not matter. Raises InputError as `open_logs` does.
    Memory: the whole table. Cost: n log n.
    """
    own = {theirs: ours for theirs, ours in (mapping or {}).items() if ours in ACCOUNTS.names}
    files, _ = find_files([path])
    counts: Counter[str] = Counter()
    tables: list[pa.Table] = []
    for file in files:
        entry = open_file(file, mapping=own, schema=ACCOUNTS, required=("account_id",), aliases=ACCOUNT_ALIASES)
        if entry is not None:
            for raw in read_file(entry, ACCOUNTS.names, window=_ALWAYS, threads=1):
                counts += Counter(raw.rejects) + Counter(raw.notes)
                if raw.n_rows:
                    tables.append(pa.Table.from_batches([_conform(raw, counts)]))
    if not tables:
        raise InputError(f"{files[0].name} holds no account", expected="one row per account", do="Check --accounts")
    table = _distinct(pa.concat_tables(tables), counts)
    return table, {reason: n for reason, n in sorted(counts.items()) if n}


def _conform(raw: Raw, counts: Counter[str]) -> pa.RecordBatch:
    account, unreadable = cast(raw.cells["account_id"], pa.string(), "account_id", counts)
    fates = Fates(np.ones(raw.n_rows, np.bool_))
    fates.claim("account_id_not_text", unreadable)
    fates.claim("account_id_missing", blank(account))
    counts.update(fates.counts)
    arrays = [account]
    for field in ACCOUNTS:
        if field.name in raw.cells and field.name != "account_id":
            array, spoilt = cast(raw.cells[field.name], field.type, field.name, counts)
            counts[f"{field.name}_unreadable"] += int(np.count_nonzero(spoilt))
            arrays.append(array)
        elif field.name != "account_id":
            arrays.append(pa.nulls(raw.n_rows, field.type))
    return pa.record_batch(arrays, schema=ACCOUNTS).filter(pa.array(fates.kept))


def _distinct(table: pa.Table, counts: Counter[str]) -> pa.Table:
    table = table.sort_by([(name, "ascending") for name in ACCOUNTS.names]).combine_chunks()
    ids = table.column("account_id").combine_chunks()
    if len(ids) < 2:
        return table
    repeated = pc.equal(ids[1:], ids[:-1])
    counts["account_id_repeated"] += pc.sum(repeated).as_py()
    return table.filter(pa.concat_arrays([pa.array([True]), pc.invert(repeated)]))
