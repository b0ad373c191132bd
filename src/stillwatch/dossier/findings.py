"""findings: the tables of one scan, held together for whoever presents them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from stillwatch.dossier.activity import Activity
from stillwatch.errors import FindingsError
from stillwatch.records import FINDINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one scan found: the eight tables of `records.FINDINGS`, run.json, and what each campaign did.

    `run` is read leniently, since it comes from a file; what it lacks is shown as not known:

        version              "0.1.0"
        settings             Settings.to_dict(); its section bars holds the bars of this run
        settings_fingerprint hexadecimal
        key_ids              {purpose: id}
        input                {files: [{path, sha256, n_bytes, n_rows}], mapping and guesses: {theirs: ours},
                             unknown_columns: [], skipped: [], since, until}
        counts               {rows_read, rows_kept, duplicates, accounts, licensed_accounts, overturned_accounts}
        period               {first, last}: ISO timestamps of the exchanges kept
        rejects, notes       {reason: rows}: rows not read, and rows read otherwise than they stood
        licences_not_applied [{entry, reason}]
        channels             {examined: [], absent: []}

    Raises `FindingsError` when a table lacks a column of its schema.
    """

    campaigns: pa.Table
    leads: pa.Table
    members: pa.Table
    evidence: pa.Table
    evidence_rows: pa.Table
    traits: pa.Table
    member_traits: pa.Table
    explanations: pa.Table
    run: Mapping[str, Any]
    activity: Mapping[str, Activity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stem, schema in FINDINGS.items():
            missing = set(schema.names) - set(getattr(self, stem).column_names)
            if missing:
                raise FindingsError(
                    f"the table {stem} is not of this version",
                    got=f"no column {', '.join(sorted(missing))}",
                    expected=", ".join(schema.names),
                    do="Scan the logs again with this version.",
                )
