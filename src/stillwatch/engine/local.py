"""local: the embedded Engine: threads map, rows are shuffled in memory and spilled to disk when large.

Memory holds about the spill budget, what arrives while that much is written, and one shard per thread, so it grows with
the accounts of a shard and not with the exchanges of the log. Kernels release the GIL, so threads are enough.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from stillwatch.engine.engine import Map, Reduce
from stillwatch.errors import StillwatchError

T = TypeVar("T")

MIX = np.uint64(0x9E3779B97F4A7C15)
"""Fibonacci hashing constant (Knuth, TAOCP 3, 6.4): spreads keyed account hashes over shards."""


class LocalEngine:
    """Threads of this process.

    Args:
        threads: worker threads. memory_mb: mapped rows kept in memory before they spill. n_shards: shards.
        spill_dir: where to spill; a private temporary folder by default, removed when the shards are closed.
    """

    def __init__(self, *, threads: int, memory_mb: int, n_shards: int, spill_dir: Path | None = None) -> None:
        self._threads, self._memory, self._n_shards, self._spill_dir = threads, memory_mb << 20, n_shards, spill_dir

    def shuffle(self, batches: Iterable[pa.RecordBatch], kernel: Map, *, by: str) -> LocalShards:
        """Map `kernel` over `batches` and gather rows whose uint64 column `by` is equal into one shard.

        Raises:
            StillwatchError: rows had to be spilled and the disk does not take them.
        """
        _sweep(self._spill_dir or Path(tempfile.gettempdir()))
        shards = LocalShards(self._n_shards, memory=self._memory, threads=self._threads, folder=self._spill_dir)
        try:
            for _ in _in_threads(batches, lambda batch: shards.add(kernel(batch), by=by), threads=self._threads):
                pass
        except BaseException:
            shards.close()
            raise
        return shards

    def map(self, batches: Iterable[pa.RecordBatch], kernel: Callable[[pa.RecordBatch], pa.Table]) -> list[pa.Table]:
        """Map a kernel whose results are few over `batches`; results in no particular order."""
        return list(_in_threads(batches, kernel, threads=self._threads))


class LocalShards:
    """Mapped rows by shard, in memory up to a budget and in Arrow files beyond it."""

    def __init__(self, n_shards: int, *, memory: int, threads: int, folder: Path | None) -> None:
        self._parts: list[list[pa.RecordBatch]] = [[] for _ in range(n_shards)]
        self._budget, self._held, self._threads = memory, 0, threads
        self._lock = threading.Lock()
        self._parent = folder
        self._folder: Path | None = None
        self._claim = -1
        self._spills = 0
        self.n_rows = 0

    def add(self, batch: pa.RecordBatch, *, by: str) -> None:
        """Route the rows of one mapped batch to their shards; thread-safe."""
        n_shards = len(self._parts)
        shard = ((batch.column(by).to_numpy() * MIX) >> np.uint64(32)) % np.uint64(n_shards)
        order = np.argsort(shard.astype(np.int16), kind="stable")
        ordered = batch.take(pa.array(order))
        bounds = np.searchsorted(shard[order], np.arange(n_shards + 1))
        with self._lock:
            for part, start, stop in zip(self._parts, bounds[:-1], bounds[1:], strict=True):
                if stop > start:
                    part.append(ordered.slice(start, stop - start))
            self._held += ordered.nbytes
            self.n_rows += batch.num_rows
            if self._held <= self._budget:
                return
            number, self._spills, self._held = self._spills, self._spills + 1, 0
            parts, self._parts = self._parts, [[] for _ in self._parts]
        # Others go on while this thread writes.
        try:
            self._spill(parts, number)
        except OSError as error:
            raise StillwatchError(
                "rows cannot be spilled to disk", got=error.strerror or str(error),
                do="Free space there, name another folder in TMPDIR, or raise scan.memory_mb.",
            ) from error  # fmt: skip

    def _spill(self, parts: list[list[pa.RecordBatch]], number: int) -> None:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=f"stillwatch-{os.getpid()}-", dir=self._parent))
                self._claim = _claim(self._folder)
        for index, part in enumerate(parts):
            if part:
                path = self._folder / f"{index:04d}-{number:06d}.arrow"
                with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, part[0].schema) as writer:
                    for batch in part:
                        writer.write_batch(batch)
                part.clear()

    def reduce(self, kernel: Reduce) -> pa.Table:
        """Run a kernel over every shard and return all results, in no particular order."""
        tables = list(
            _in_threads(range(len(self._parts)), lambda i: self._reduce_one(i, kernel), threads=self._threads)
        )
        return pa.concat_tables([table for table in tables if table is not None])

    def _reduce_one(self, index: int, kernel: Reduce) -> pa.Table | None:
        batches = list(self._parts[index])
        if self._folder is not None:
            for path in sorted(self._folder.glob(f"{index:04d}-*.arrow")):
                # Mapped, so that a kernel that looks at few columns reads no others.
                with pa.memory_map(str(path)) as stored:
                    batches += pa.ipc.open_file(stored).read_all().to_batches()
        return kernel(pa.Table.from_batches(batches)) if batches else None

    def close(self) -> None:
        """Give back memory and disk."""
        for part in self._parts:
            part.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1


def _sweep(parent: Path) -> None:
    """Remove what killed processes had spilled: account ids are in it."""
    for left in parent.glob("stillwatch-*-*"):
        named = re.fullmatch(r"stillwatch-(\d{1,9})-[^-]+", left.name)
        if named and not _lives(int(named[1])):
            # The claim tells a process of another container, whose number says nothing here, from a dead one.
            with suppress(OSError):
                claim = _claim(left)
                shutil.rmtree(left, ignore_errors=True)
                os.close(claim)


def _claim(folder: Path) -> int:
    """Lock a folder until the descriptor is closed or the process ends, however it ends.

    Raises:
        OSError: another process holds it, or it is no folder of ours.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _in_threads(items: Iterable[T], work: Callable[[T], object], *, threads: int) -> Iterator[object]:
    """Results of `work` as they finish; at most two items per thread are in flight, and the first error stops all."""
    pending: set[Future[object]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="stillwatch") as pool:
        try:
            for item in items:
                pending.add(pool.submit(work, item))
                if len(pending) >= 2 * threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for one in done:
                        yield one.result()
            for one in pending:
                yield one.result()
        finally:
            for one in pending:
                one.cancel()
