"""local: shards, spilling, how much is in flight, and what is left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.engine.local import LocalEngine
from stillwatch.errors import StillwatchError

Batches = list[pa.RecordBatch]


def batch(accounts: list[int], *, start: int = 0) -> pa.RecordBatch:
    """Rows of some accounts, each with a number of its own and a text."""
    n = len(accounts)
    return pa.record_batch(
        {
            "account": pa.array(accounts, pa.uint64()),
            "row": pa.array(np.arange(start, start + n), pa.int64()),
            "text": pa.array([None if at % 5 == 0 else f"row {at}" for at in range(start, start + n)], pa.string()),
        }
    )


def many(n_batches: int = 12, size: int = 50) -> Batches:
    """Batches of unequal accounts, the two ends of the key space among them."""
    rng = np.random.default_rng(3)
    keys = np.r_[rng.integers(0, 2**64, 30, dtype=np.uint64), np.uint64(0), np.uint64(2**64 - 1)]
    return [batch(rng.choice(keys, size).tolist(), start=at * size) for at in range(n_batches)]


def same(rows: pa.RecordBatch) -> pa.RecordBatch:
    """A map kernel that changes nothing."""
    return rows


def labelled(table: pa.Table) -> pa.Table:
    """A reduce kernel that tells one shard's rows from another's by their smallest row."""
    label = min(table["row"].to_pylist())
    return table.append_column("shard", pa.array([label] * table.num_rows))


def rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    """Rows in the order of their numbers."""
    return [tuple(row.values()) for row in table.sort_by("row").to_pylist()]


@given(
    accounts=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60),
    n_shards=st.integers(1, 40),
    size=st.integers(1, 60),
)
def test_each_account_is_in_one_shard(accounts: list[int], n_shards: int, size: int) -> None:
    """Whatever the keys, the number of shards and the size of batches, no account is split and no row is lost."""
    accounts = [*accounts, *accounts[::-1], accounts[0]]
    batches = [batch(accounts[at : at + size], start=at) for at in range(0, len(accounts), size)]
    shards = LocalEngine(threads=2, memory_mb=64, n_shards=n_shards).shuffle(batches, same, by="account")
    table = shards.reduce(labelled)
    shards.close()
    assert sorted(table["row"].to_pylist()) == list(range(len(accounts)))
    homes: dict[int, set[int]] = {}
    for account, shard in zip(table["account"].to_pylist(), table["shard"].to_pylist(), strict=True):
        homes.setdefault(account, set()).add(shard)
    assert {len(home) for home in homes.values()} == {1}
    assert len(set(table["shard"].to_pylist())) <= n_shards


def test_shards_are_about_equal() -> None:
    """Keyed accounts spread over the shards; none holds far more than its part."""
    accounts = np.random.default_rng(4).integers(0, 2**64, 8000, dtype=np.uint64)
    shards = LocalEngine(threads=1, memory_mb=64, n_shards=8).shuffle([batch(accounts.tolist())], same, by="account")
    sizes = shards.reduce(lambda table: pa.table({"n": [table.num_rows]}))["n"].to_pylist()
    shards.close()
    assert len(sizes) == 8 and min(sizes) > 850 and max(sizes) < 1150


@pytest.mark.parametrize("threads", [1, 3])
def test_spilled_rows_are_the_rows(tmp_path: Path, threads: int) -> None:
    """What was spilled comes back as it was, nulls and texts included, and can be read twice."""
    kept = LocalEngine(threads=threads, memory_mb=64, n_shards=5).shuffle(many(), same, by="account")
    spilled = LocalEngine(threads=threads, memory_mb=0, n_shards=5, spill_dir=tmp_path).shuffle(
        many(), same, by="account"
    )
    assert list(tmp_path.iterdir())
    assert kept.n_rows == spilled.n_rows == 600
    expected = rows_of(kept.reduce(lambda table: table))
    assert rows_of(spilled.reduce(lambda table: table)) == expected
    assert rows_of(spilled.reduce(lambda table: table)) == expected
    spilled.close()
    assert list(tmp_path.iterdir()) == []
    spilled.close()


def test_nobody_else_reads_what_is_spilled(tmp_path: Path) -> None:
    """Facts name accounts, so the folder they are spilled to is for its owner alone."""
    shards = LocalEngine(threads=1, memory_mb=0, n_shards=2, spill_dir=tmp_path).shuffle(many(2), same, by="account")
    (folder,) = tmp_path.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    shards.close()


def test_little_is_kept_when_all_fits(tmp_path: Path) -> None:
    """Below the budget nothing touches the disk."""
    shards = LocalEngine(threads=1, memory_mb=64, n_shards=2, spill_dir=tmp_path).shuffle(many(), same, by="account")
    assert list(tmp_path.iterdir()) == []
    shards.close()


def test_no_batches_are_no_rows() -> None:
    """An empty input shuffles to nothing and maps to nothing."""
    engine = LocalEngine(threads=2, memory_mb=64, n_shards=3)
    shards = engine.shuffle([], same, by="account")
    assert shards.n_rows == 0
    shards.close()
    assert engine.map([], lambda rows: pa.table({"n": [rows.num_rows]})) == []


def test_empty_batches_are_no_rows() -> None:
    """A batch without rows, as a filter may leave it, is passed over."""
    engine = LocalEngine(threads=2, memory_mb=0, n_shards=3)
    shards = engine.shuffle([batch([]), batch([7, 7]), batch([])], same, by="account")
    assert shards.n_rows == 2
    assert shards.reduce(lambda table: table).num_rows == 2
    shards.close()


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["source", "kernel"])
def test_what_was_spilled_is_removed_after_any_error(tmp_path: Path, error: type[BaseException], where: str) -> None:
    """The first error, or an interruption, reaches the caller as it is, and the spill folder is gone."""
    batches = many()

    def source() -> Iterator[pa.RecordBatch]:
        for at, rows in enumerate(batches):
            if where == "source" and at == 9:
                assert list(tmp_path.iterdir()), "nothing was spilled yet"
                raise error("the ninth")
            yield rows

    def kernel(rows: pa.RecordBatch) -> pa.RecordBatch:
        if where == "kernel" and rows.column("row")[0].as_py() == 9 * 50:
            raise error("the ninth")
        return rows

    with pytest.raises(error, match="the ninth"):
        LocalEngine(threads=2, memory_mb=0, n_shards=4, spill_dir=tmp_path).shuffle(source(), kernel, by="account")
    assert list(tmp_path.iterdir()) == []


def test_an_error_stops_the_reading() -> None:
    """After an error no more than what was in flight is read: a log of a day does not run on for an hour."""
    taken = 0

    def source() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for rows in many(200, 2):
            taken += 1
            yield rows

    def failing(rows: pa.RecordBatch) -> pa.RecordBatch:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        LocalEngine(threads=2, memory_mb=64, n_shards=2).shuffle(source(), failing, by="account")
    assert taken <= 2 * 2


def test_reading_does_not_run_ahead_of_the_threads() -> None:
    """At most two batches a thread are in flight, however fast the source is: memory does not follow the log."""
    threads, lock = 2, threading.Lock()
    taken = done = most = 0

    def source() -> Iterator[pa.RecordBatch]:
        nonlocal taken, most
        for rows in many(60, 3):
            with lock:
                taken += 1
                most = max(most, taken - done)
            yield rows

    def counted(rows: pa.RecordBatch) -> pa.Table:
        nonlocal done
        with lock:
            done += 1
        return pa.table({"n": [rows.num_rows]})

    results = LocalEngine(threads=threads, memory_mb=64, n_shards=2).map(source(), counted)
    assert len(results) == 60
    assert most <= 2 * threads + 1


def test_an_error_in_a_reduction_reaches_the_caller(tmp_path: Path) -> None:
    """A failing reduce kernel is not swallowed, and the shards can still be closed."""

    def failing(table: pa.Table) -> pa.Table:
        raise ArithmeticError("this shard")

    shards = LocalEngine(threads=2, memory_mb=0, n_shards=4, spill_dir=tmp_path).shuffle(many(), same, by="account")
    with pytest.raises(ArithmeticError, match="this shard"):
        shards.reduce(failing)
    shards.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_is_told_in_our_words(tmp_path: Path) -> None:
    """Where nothing can be spilled (no folder, no space, no right), the error is of our family and says what to do."""
    engine = LocalEngine(threads=1, memory_mb=0, n_shards=2, spill_dir=tmp_path / "nowhere")
    with pytest.raises(StillwatchError):
        engine.shuffle(many(2), same, by="account")


def test_what_a_killed_process_spilled_is_removed(tmp_path: Path) -> None:
    """Spills of processes that are dead go; those of the living, and folders of other people, stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stays = {f"stillwatch-{os.getpid()}-abc", "stillwatch-notes-abc", "other"}
    for name in {f"stillwatch-{dead.pid}-abc", *stays}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0000-000000.arrow").write_bytes(b"ids")
    engine = LocalEngine(threads=1, memory_mb=0, n_shards=2, spill_dir=tmp_path)
    shards = engine.shuffle(many(2), same, by="account")
    (spilled,) = (path for path in tmp_path.iterdir() if path.name not in stays)
    assert spilled.stat().st_mode & 0o777 == 0o700
    shards.close()
    assert {path.name for path in tmp_path.iterdir()} == stays


def test_a_batch_may_be_a_view() -> None:
    """Slices and batches with an offset are routed like copies of them."""
    whole = batch([1, 2, 3, 1, 2, 3, 9])
    engine = LocalEngine(threads=1, memory_mb=0, n_shards=3)
    parts = engine.shuffle([whole.slice(0, 3), whole.slice(3)], same, by="account")
    copy = engine.shuffle([whole], same, by="account")
    assert rows_of(parts.reduce(lambda table: table)) == rows_of(copy.reduce(lambda table: table))
    parts.close()
    copy.close()
