"""What the tests of ingest share: a clock, a plain log, and one writer for each format."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zstandard

from stillwatch.ingest.source import LogSource, open_logs
from stillwatch.records import EXCHANGES

Rows = list[dict[str, Any]]

NOW_IS = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """The clock of every test."""
    return NOW_IS


@pytest.fixture
def log_rows() -> Rows:
    """Six ordinary exchanges of two accounts, an hour apart."""
    return [
        {
            "account_id": f"acct-{n % 2}",
            "ts": datetime(2026, 11, 1, n, 30, 5, 250_000, tzinfo=UTC),
            "model": "orion" if n % 3 else None,
            "prompt": f'Wie weit ist es, bitte: {n} km?\nZweite, Zeile "{n}"',
            "input_tokens": 10 + n,
            "temperature": n / 4,
            "ip": "192.0.2.7",
        }
        for n in range(6)
    ]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def as_table(rows: Rows) -> pa.Table:
    """Rows as a table, canonical columns in their own type where the values have it."""

    def column(name: str) -> pa.Array:
        cells = [row.get(name) for row in rows]
        try:
            return pa.array(cells, EXCHANGES.field(name).type if name in EXCHANGES.names else None)
        except pa.ArrowException:
            return pa.array(cells)

    return pa.table({name: column(name) for name in dict.fromkeys(name for row in rows for name in row)})


def write_parquet(path: Path, rows: Rows) -> Path:
    """Write rows as Parquet."""
    pq.write_table(as_table(rows), path)
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    """Write rows as JSON lines, packed as the name says."""
    text = "".join(json.dumps({k: _plain(v) for k, v in row.items()}, ensure_ascii=False) + "\n" for row in rows)
    return write_packed(path, text.encode())


def write_csv(path: Path, rows: Rows) -> Path:
    """Write rows as CSV, packed as the name says; missing is an empty field, empty text a quoted one."""
    table = as_table(rows)
    for at, name in enumerate(table.column_names):
        if pa.types.is_timestamp(table.schema.field(name).type):
            table = table.set_column(at, name, pa.array([_plain(row.get(name)) for row in rows], pa.string()))
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink)
    return write_packed(path, sink.getvalue().to_pybytes())


def write_packed(path: Path, data: bytes) -> Path:
    """Write bytes as they are, as gzip or as zstd, by the name."""
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    path.write_bytes(data)
    return path


@pytest.fixture(params=["parquet", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Rows], Path]:
    """A writer of rows for every format: the test runs once for each."""
    form: str = request.param
    writer = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}[form.partition(".")[0]]
    return lambda rows: writer(tmp_path / f"log.{form}", rows)


@pytest.fixture
def writers() -> Mapping[str, Callable[[Path, Rows], Path]]:
    """The writers by format."""
    return {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}


@pytest.fixture
def packed() -> Callable[[Path, bytes], Path]:
    """The writer of raw bytes, packed as the name says."""
    return write_packed


class Reading:
    """Everything one reading of some logs gave."""

    def __init__(self, source: LogSource, **options: Any) -> None:
        self.source = source
        self.batches = list(source.batches(**options))
        self.rejects, self.notes = source.rejects(), source.notes()
        self.n_rows = sum(batch.num_rows for batch in self.batches)
        self.rows: Rows = [row for batch in self.batches for row in batch.to_pylist()]

    @property
    def n_accounted(self) -> int:
        """Rows delivered, rejected or outside the window."""
        n_outside: int = self.notes.get("outside_window", 0)
        n_rejected: int = sum(self.rejects.values())
        return int(self.n_rows) + n_rejected + n_outside

    def column(self, name: str) -> list[Any]:
        """One column of all rows."""
        return [row[name] for row in self.rows]


@pytest.fixture
def reading(now: datetime) -> Callable[..., Reading]:
    """Open logs and read them to the end."""

    def read(*paths: str | Path, mapping: Mapping[str, str] | None = None, **options: Any) -> Reading:
        return Reading(open_logs(paths, mapping=mapping, now=now), **options)

    return read


@pytest.fixture
def table() -> Callable[[Rows], pa.Table]:
    """Rows as a table."""
    return as_table


@pytest.fixture
def lines(tmp_path: Path) -> Callable[[Sequence[bytes]], Path]:
    """A JSON lines file of exactly these lines."""

    def write(given: Sequence[bytes]) -> Path:
        path = tmp_path / "lines.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in given))
        return path

    return write
