"""Any Engine gives the same rows, however the batches are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.engine.engine import Engine
from stillwatch.engine.local import LocalEngine
from tests.contracts.seams import implementations

Make = Callable[[Path], Engine]

ENGINES: dict[str, Make] = {
    "LocalEngine": lambda folder: LocalEngine(threads=2, memory_mb=64, n_shards=4),
    "LocalEngine, one of everything": lambda folder: LocalEngine(threads=1, memory_mb=64, n_shards=1),
    "LocalEngine, spilling": lambda folder: LocalEngine(threads=2, memory_mb=0, n_shards=3, spill_dir=folder),
}

N_ROWS = 2_000


def rows() -> pa.Table:
    """Some accounts, very unequal, with a value each row."""
    rng = np.random.default_rng(7)
    account = (rng.zipf(1.3, N_ROWS) % 97).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return pa.table({"account": account, "value": rng.integers(-(2**40), 2**40, N_ROWS)})


def in_batches(table: pa.Table, size: int, *, seed: int) -> list[pa.RecordBatch]:
    """The rows in another order, cut into batches of one size."""
    order = np.random.default_rng(seed).permutation(table.num_rows)
    batches: list[pa.RecordBatch] = table.take(pa.array(order)).combine_chunks().to_batches(max_chunksize=size)
    return batches


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A map kernel."""
    return pa.record_batch(
        {"account": batch.column("account"), "value": pa.array(batch.column("value").to_numpy() * 2)}
    )


def summed(table: pa.Table) -> pa.Table:
    """A reduce kernel: one row an account."""
    return table.group_by("account").aggregate([("value", "sum"), ("value", "count"), ("value", "min")])


def as_rows(table: pa.Table) -> list[tuple[object, ...]]:
    """Rows, sorted, whatever the order of columns."""
    return sorted(tuple(row[name] for name in sorted(row)) for row in table.to_pylist())


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Each Engine in turn; what it spills is gone when its shards are closed."""
    yield ENGINES[request.param](tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_engine_is_here() -> None:
    """An Engine that is added to the package is added to this suite."""
    assert {made.__name__ for made in implementations(Engine)} == {name.partition(",")[0] for name in ENGINES}


@pytest.mark.parametrize("size", [1, 37, N_ROWS])
def test_shuffling_gives_what_one_group_by_gives(engine: Engine, size: int) -> None:
    """Mapped, shuffled and reduced, the rows are those of one group-by over everything."""
    table = rows() if size > 1 else rows().slice(0, 200)
    expected = as_rows(summed(pa.Table.from_batches([doubled(batch) for batch in table.to_batches()])))
    batches = in_batches(table, size, seed=size)
    shards = engine.shuffle(iter(batches), doubled, by="account")
    assert shards.n_rows == table.num_rows
    assert as_rows(shards.reduce(summed)) == expected
    assert as_rows(shards.reduce(summed)) == expected
    shards.close()


def test_an_account_is_never_split(engine: Engine) -> None:
    """No account appears in the results of two shards."""
    shards = engine.shuffle(in_batches(rows(), 100, seed=1), lambda batch: batch, by="account")
    accounts = shards.reduce(lambda table: table.select(["account"]).group_by("account").aggregate([]))
    shards.close()
    assert len(set(accounts["account"].to_pylist())) == accounts.num_rows


def test_mapping_gives_every_result(engine: Engine) -> None:
    """`map` returns one result a batch, in whatever order."""
    table = rows()
    results = engine.map(in_batches(table, 33, seed=2), lambda batch: pa.table({"n": [batch.num_rows]}))
    assert sum(result["n"][0].as_py() for result in results) == N_ROWS
    assert len(results) == -(-N_ROWS // 33)


@pytest.mark.parametrize("at", [0, 3, 19])
def test_the_first_error_stops_everything(engine: Engine, at: int) -> None:
    """An error in a kernel reaches the caller as it is, and nothing is left behind."""
    batches = in_batches(rows(), 100, seed=3)
    failing = batches[at].column("value")[0].as_py()

    def kernel(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.column("value")[0].as_py() == failing:
            raise ArithmeticError("this batch")
        return batch

    with pytest.raises(ArithmeticError, match="this batch"):
        engine.shuffle(iter(batches), kernel, by="account")


def test_an_error_in_the_source_reaches_the_caller(engine: Engine) -> None:
    """A log that breaks half-way is reported, not taken for its end."""

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from in_batches(rows(), 100, seed=4)[:5]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        engine.shuffle(breaking(), doubled, by="account")
