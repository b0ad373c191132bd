"""The same rows give the same bytes: however they are split, ordered, stored, shared out, spilled or repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stillwatch.dossier.findings import Findings
from stillwatch.engine.local import LocalEngine
from stillwatch.sim.world import Played, World
from tests.worlds import KEY, in_files, parquets, saved, scanned

Write = Callable[[pa.Table, Path], None]


def as_parquet(table: pa.Table, path: Path) -> None:
    """One Parquet file, in row groups of an odd size."""
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=777)


def as_turned_parquet(table: pa.Table, path: Path) -> None:
    """One Parquet file with its columns the other way round, its texts as dictionaries, and no compression."""
    names = table.column_names[::-1]
    pq.write_table(
        pa.table({name: encoded(table[name]) for name in names}), path.with_suffix(".parquet"), compression="none"
    )


def encoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as a dictionary, anything else as it is."""
    return pc.dictionary_encode(values) if pa.types.is_string(values.type) else values


def as_jsonl(table: pa.Table, path: Path) -> None:
    """One file of JSON lines; what is null is left out."""

    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    with path.with_suffix(".jsonl").open("w", encoding="utf-8") as file:
        for row in table.to_pylist():
            told = {name: plain(value) for name, value in row.items() if value is not None}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")


def in_folder(tables: Iterable[pa.Table], write: Write, folder: Path) -> Path:
    """Each table as a file of one folder."""
    folder.mkdir()
    for number, table in enumerate(tables):
        write(table, folder / f"part-{number:03d}")
    return folder


@pytest.fixture(scope="session")
def expected(loud_findings: Findings, loud_folder: Path) -> dict[str, bytes]:
    """The bytes of the findings of four files in the order of time; they hold a campaign."""
    assert loud_findings.campaigns.num_rows
    return parquets(loud_folder)


WAYS = [
    pytest.param(1, as_parquet, {"threads": 1, "memory_mb": 64, "n_shards": 1}, id="1-parquet-one-of-everything"),
    pytest.param(17, as_parquet, {"threads": 2, "memory_mb": 64, "n_shards": 16}, id="17-parquet"),
    pytest.param(3, as_turned_parquet, {"threads": 2, "memory_mb": 0, "n_shards": 4}, id="3-turned-spilling"),
    pytest.param(17, as_jsonl, {"threads": 1, "memory_mb": 0, "n_shards": 16}, id="17-jsonl-spilling"),
    pytest.param(1, as_jsonl, {"threads": 2, "memory_mb": 64, "n_shards": 4}, id="1-jsonl"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("n_files", "write", "limits"), WAYS)
def test_the_split_of_the_logs_moves_no_byte(
    loud: Played,
    loud_world: World,
    expected: dict[str, bytes],
    tmp_path: Path,
    n_files: int,
    write: Write,
    limits: dict[str, int],
) -> None:
    """Shuffled rows in any number of files of any format, with any engine limits, give the same Parquet files."""
    logs = in_folder(in_files(loud.exchanges, n_files, seed=n_files), write, tmp_path / "logs")
    spills = tmp_path / "spills"
    spills.mkdir()
    found = scanned(logs, accounts=loud_world.accounts, engine=LocalEngine(**limits, spill_dir=spills))
    assert saved(found, tmp_path / "findings") == expected
    assert list(spills.iterdir()) == []


def test_the_order_of_accounts_moves_no_byte(
    loud: Played, loud_world: World, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """An accounts file in another order, with accounts that never sent anything, gives the same Parquet files."""
    strangers = pa.table({"account_id": [f"stranger-{at}" for at in range(40)]})
    shuffled = next(in_files(loud.accounts, 1, seed=5))
    accounts = pa.concat_tables([strangers, shuffled], promote_options="default")
    pq.write_table(accounts, tmp_path / "accounts.parquet")
    found = scanned(loud_world.exchanges, accounts=tmp_path / "accounts.parquet")
    assert saved(found, tmp_path / "findings") == expected


def test_repeated_rows_are_counted_and_move_no_byte(
    loud: Played, loud_world: World, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """A file given twice and rows repeated in other files change nothing but the count of duplicates."""
    again = loud.exchanges.slice(1000, 3000)
    logs = in_folder([loud.exchanges, again, again], as_parquet, tmp_path / "logs")
    found = scanned(logs, accounts=loud_world.accounts)
    assert found.run["counts"]["duplicates"] == 6000
    assert found.run["counts"]["rows_kept"] == loud.exchanges.num_rows
    assert saved(found, tmp_path / "findings") == expected


def test_copies_without_an_id_are_known_by_content_and_instant(loud: Played, tmp_path: Path) -> None:
    """Where logs have no exchange ids, equal content at the same instant is one exchange."""
    rows = loud.exchanges.drop_columns(["exchange_id"])
    once = in_folder([rows], as_parquet, tmp_path / "once")
    twice = in_folder([rows, rows.slice(500, 900)], as_parquet, tmp_path / "twice")
    single, double = scanned(once), scanned(twice)
    assert (single.run["counts"]["duplicates"], double.run["counts"]["duplicates"]) == (0, 900)
    assert saved(single, tmp_path / "single") == saved(double, tmp_path / "double")


def test_one_exchange_logged_twice_at_two_instants_is_one(loud: Played, tmp_path: Path) -> None:
    """Rows of one account with one exchange id are one exchange, and which of them stays does not depend on order."""
    rows = loud.exchanges.slice(0, 2000)
    late = rows.set_column(
        rows.column_names.index("ts"), "ts", pc.add(rows["ts"], pa.scalar(1_000_000, pa.duration("us")))
    )
    one, other = (
        scanned(in_folder(tables, as_parquet, tmp_path / name))
        for name, tables in (("one", [rows, late]), ("other", [late, rows]))
    )
    assert one.run["counts"]["duplicates"] == other.run["counts"]["duplicates"] == rows.num_rows
    assert one.run["period"] == other.run["period"]
    assert saved(one, tmp_path / "a") == saved(other, tmp_path / "b")


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(loud_world: World, expected: dict[str, bytes], tmp_path: Path) -> None:
    """A process with another hash seed, in another time zone, agrees with this one to the byte."""
    key, out = tmp_path / "root", tmp_path / "findings"
    key.touch(mode=0o600)
    key.write_bytes(KEY.secret.reveal())
    asked = ["scan", str(loud_world.exchanges), "--accounts", str(loud_world.accounts), "--key-file", str(key)]
    subprocess.run(
        [sys.executable, "-m", "stillwatch", *asked, "--out", str(out), "--json"],
        env=os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu"},
        check=True,
        capture_output=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert parquets(out) == expected
