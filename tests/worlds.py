"""Small worlds that several suites scan: a few hundred ordinary accounts, and among them one loud campaign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.dossier.findings import Findings
from stillwatch.dossier.folder import write_findings
from stillwatch.engine.engine import Engine
from stillwatch.engine.local import LocalEngine
from stillwatch.keys import RootKey, Secret
from stillwatch.pipeline import ScanRequest, scan
from stillwatch.records import FINDINGS
from stillwatch.settings import Settings
from stillwatch.sim.scenarios import Scenario, campaign, ordinary
from stillwatch.sim.world import Played

SEED = 2
KEY = RootKey(Secret(sha256(b"a key that no file holds by chance").digest()))
NOW = datetime(2026, 11, 21, tzinfo=UTC)

LOUD = campaign(
    "harvest",
    crew={"name": "harvest", "n_accounts": 80, "exchanges": 30, "spread": 0.4, "churn": 0.05},
    own={},
    per_card=10.0,
    rented=6,
    aged=0.0,
    templates={"head": 2, "tail": 2},
    elicit=1.0,
    n_phrases=1,
)
"""So plain that any detector worth the name finds it: tests of the machinery must not hang on its last bit of power."""

ORDINARY = (
    ordinary("consumer", n_accounts=460, exchanges=16, spread=0.6),
    ordinary("household", n_accounts=40),
    ordinary("coding_agent", n_accounts=40, exchanges=20),
    ordinary("rag_product", n_accounts=14, exchanges=30),
    ordinary("campus", n_accounts=30),
)


def scenario(*, campaign: bool = True) -> Scenario:
    """About 660 accounts and 12,000 exchanges in thirty days."""
    return Scenario(populations=ORDINARY, campaigns=(LOUD,) if campaign else ())


def crew_of(played: Played) -> set[str]:
    """The campaign's accounts, by the truth."""
    return set(played.truth.filter(pc.is_valid(played.truth["campaign"]))["account_id"].to_pylist())


def without(table: pa.Table, account_ids: set[str]) -> pa.Table:
    """The rows of everybody else."""
    return table.filter(pc.invert(pc.is_in(table["account_id"], pa.array(sorted(account_ids), pa.string()))))


def written(table: pa.Table, path: Path) -> Path:
    """A table as a Parquet file."""
    pq.write_table(table, path)
    return path


def scanned(
    logs: Path | Sequence[Path],
    *,
    accounts: Path | None = None,
    settings: Settings | None = None,
    engine: Engine | None = None,
    key: RootKey = KEY,
    **asked: Any,
) -> Findings:
    """Scan in this process, with a clock that only counts and a key that is always the same."""
    ticks = count()
    return scan(
        ScanRequest(logs=[logs] if isinstance(logs, Path) else list(logs), accounts=accounts, **asked),
        settings=settings or Settings(),
        engine=engine or LocalEngine(threads=2, memory_mb=64, n_shards=4),
        key=key,
        now=NOW,
        clock=lambda: float(next(ticks)),
    )


def saved(findings: Findings, folder: Path) -> dict[str, bytes]:
    """The bytes of every Parquet file of findings, once written."""
    write_findings(findings, folder)
    return parquets(folder)


def parquets(folder: Path) -> dict[str, bytes]:
    """The bytes of every Parquet file of a findings folder."""
    return {stem: (folder / f"{stem}.parquet").read_bytes() for stem in FINDINGS}


def in_files(table: pa.Table, n: int, *, seed: int) -> Iterator[pa.Table]:
    """The rows in another order, dealt into files of unequal length."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(table.num_rows)
    cuts = np.sort(rng.choice(np.arange(1, table.num_rows), n - 1, replace=False))
    for rows in np.split(order, cuts):
        yield table.take(pa.array(rows))


def tree(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder, by its path, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
