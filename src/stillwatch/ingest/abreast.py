"""abreast: one pass over log files, their parts read side by side, with an account of every row.

Parts are handed out in the order of the files; with one thread the batches come in that order too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from threading import Lock

import pyarrow as pa

from stillwatch.ingest.conform import Tally, Window, conform
from stillwatch.ingest.files import OpenFile, read_parts
from stillwatch.ingest.raw import Raw
from stillwatch.records import REQUIRED_EXCHANGE_COLUMNS

Progress = Callable[[int, int], None]
"""Called with the stored bytes done and in all."""


class Pass:
    """One reading of the files: `tally` and `n_rows` of each file, rejected rows included, grow while it goes on."""

    def __init__(
        self, opened: Sequence[OpenFile], *, columns: Sequence[str], window: Window, on_progress: Progress | None
    ) -> None:
        self._opened, self._columns, self._window, self._on_progress = opened, columns, window, on_progress
        self._needed = sorted({*columns, *REQUIRED_EXCHANGE_COLUMNS})
        self._lock = Lock()
        self._done = [0]
        self._total = sum(entry.file.n_bytes for entry in opened)
        self.tally = Tally()
        self.n_rows = [0] * len(opened)

    def batches(self, *, threads: int) -> Iterator[pa.RecordBatch]:
        """The batches; memory is a few of them for each thread."""
        # What lies in other formats is parsed under the GIL, or waits for rows of the files before it.
        plain = all(entry.file.format == "parquet" and entry.importer is None for entry in self._opened)
        threads = threads if plain else 1
        parts = self._parts(threads)
        if threads == 1:
            yield from self._stream(parts)
        else:
            yield from side_by_side([self._stream(parts) for _ in range(threads)])

    def _parts(self, threads: int) -> Iterator[tuple[int, Iterator[Raw]]]:
        for at, entry in enumerate(self._opened):
            for part in read_parts(entry, self._needed, window=self._window, threads=threads):
                yield at, part

    def _stream(self, parts: Iterator[tuple[int, Iterator[Raw]]]) -> Iterator[pa.RecordBatch]:
        """The batches of the next part, and the next, until none is left."""
        while True:
            with self._lock:
                at, part = next(parts, (-1, iter(())))
                mine = len(self._done)
                self._done.append(0)
            if at < 0:
                return
            for raw in part:
                tally = Tally(n_outside=raw.n_outside, rejects=Counter(raw.rejects), notes=Counter(raw.notes))
                batch = None
                if raw.n_rows:
                    batch = conform(raw.cells, columns=self._columns, window=self._window, tally=tally)
                with self._lock:
                    self.tally.add(tally)
                    self.n_rows[at] += raw.n_rows + raw.n_outside + raw.n_joined + sum(raw.rejects.values())
                    self._done[mine] = raw.done_bytes
                    if self._on_progress:
                        self._on_progress(min(sum(self._done), self._total), self._total)
                if batch is not None and batch.num_rows:
                    yield batch


def side_by_side(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """The batches of several streams as they come; each has a thread, which is at most one batch ahead."""
    with ThreadPoolExecutor(len(streams), thread_name_prefix="stillwatch-reading") as pool:
        ahead = {pool.submit(next, stream, None): stream for stream in streams}
        while ahead:
            ready, _ = wait(ahead, return_when=FIRST_COMPLETED)
            for one in ready:
                stream, batch = ahead.pop(one), one.result()
                if batch is not None:
                    ahead[pool.submit(next, stream, None)] = stream
                    yield batch
