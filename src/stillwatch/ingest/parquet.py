"""parquet: column names and raw batches of a Parquet file, through Arrow's own reader.

Only the columns asked for are read, and row groups whose statistics lie outside the window are not read at all. Batches
hold at most 64 k rows and about 32 MB of text, also where a dictionary stands for gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import InputError
from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.raw import BATCH_BYTES, BATCH_ROWS, Columns, Raw
from stillwatch.ingest.stream import unopened
from stillwatch.ingest.times import read_times

_SHORT_BYTES = 16
"""A text column that takes less than this per row on disk is read as a dictionary."""


def columns(file: LogFile) -> Columns:
    """The dotted names of all columns, nested ones too, and the exact number of rows."""
    with _reading(file) as parquet:
        schema = parquet.schema_arrow
        names = [name for field in schema for name in _names(field, "")]
        chats = frozenset(field.name for field in schema if _is_chat(field.type))
        return Columns(names=tuple(names), chats=chats, n_rows=parquet.metadata.num_rows)


def read(file: LogFile, sources: Mapping[str, str], *, window: Window, threads: int) -> Iterator[Raw]:
    """Raw batches of the columns `sources` (canonical -> theirs); pruned rows are reported as outside the window.

    Raises InputError where the file turns out to be damaged.
    """
    theirs = sorted(set(sources.values()))
    with _reading(file, theirs) as parquet:
        meta = parquet.metadata
        groups, n_rows = _wanted_groups(meta, parquet.schema_arrow, sources.get("ts"), window)
        n_done = meta.num_rows - n_rows
        if n_done:
            yield Raw(n_outside=n_done, done_bytes=_share(file, n_done, meta.num_rows))
        size = min(BATCH_ROWS, max(1, int(BATCH_BYTES * n_rows / max(1, _stored_bytes(meta, groups, theirs)))))
        for batch in parquet.iter_batches(size, row_groups=groups, columns=theirs, use_threads=threads > 1):
            for part in _bites(batch):
                n_done += part.num_rows
                cells = {ours: _column(part, name) for ours, name in sources.items()}
                yield Raw(cells, part.num_rows, done_bytes=_share(file, n_done, meta.num_rows))
        if n_done != meta.num_rows:
            raise _damaged(file, f"{n_done} rows where the file announces {meta.num_rows}")


def _share(file: LogFile, n_done: int, n_rows: int) -> int:
    return file.n_bytes * n_done // max(1, n_rows)


@contextmanager
def _reading(file: LogFile, theirs: list[str] | None = None) -> Iterator[pq.ParquetFile]:
    """The opened file; whatever Arrow finds wrong with it becomes an InputError that names it."""
    try:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as parquet:
            short = _short_texts(parquet, theirs) if theirs else []
            if not short:
                yield parquet
                return
        with pq.ParquetFile(file.path, page_checksum_verification=True, read_dictionary=short) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise unopened(file, error) from error
        raise _damaged(file, " ".join(str(error).split())[:200]) from error


def _damaged(file: LogFile, got: str) -> InputError:
    with file.path.open("rb") as raw:
        start = raw.read(4)
    if start != b"PAR1":
        return InputError(
            f"{file.name} is not a Parquet file",
            got=f"a file that starts with {start!r}",
            expected="PAR1",
            do="If it holds JSON lines or CSV, rename it to .jsonl or .csv",
        )
    return InputError(
        f"{file.name} is damaged", got=got, expected="a whole Parquet file", do="Copy it again, or leave it out"
    )


def _names(field: pa.Field, prefix: str) -> Iterator[str]:
    name = prefix + field.name
    yield name
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _names(inner, f"{name}.")


def _is_chat(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    return any(field.name == "role" for field in kind.value_type)


def _short_texts(parquet: pq.ParquetFile, theirs: list[str]) -> list[str]:
    """The text columns that repeat themselves: cheaper to read as a dictionary, and safe to bound before decoding."""
    schema, meta = parquet.schema_arrow, parquet.metadata
    sizes: dict[str, int] = {}
    for g in range(meta.num_row_groups):
        group = meta.row_group(g)
        for c in range(group.num_columns):
            chunk = group.column(c)
            if chunk.path_in_schema in theirs and chunk.has_dictionary_page:
                sizes[chunk.path_in_schema] = sizes.get(chunk.path_in_schema, 0) + chunk.total_uncompressed_size
    texts = {field.name for field in schema if pa.types.is_string(field.type)}
    return [name for name, size in sizes.items() if name in texts and size < _SHORT_BYTES * meta.num_rows]


def _wanted_groups(meta: pq.FileMetaData, schema: pa.Schema, ts: str | None, window: Window) -> tuple[list[int], int]:
    """The row groups that may hold rows inside the window, and their rows."""
    groups = list(range(meta.num_row_groups))
    kind = schema.field(ts).type if ts in schema.names else None
    if groups and not window.is_open and pa.types.is_timestamp(kind):
        at = [meta.row_group(0).column(c).path_in_schema for c in range(meta.num_columns)].index(ts)
        groups = [g for g in groups if not _outside(meta.row_group(g).column(at).statistics, kind, window)]
    return groups, sum(meta.row_group(g).num_rows for g in groups)


def _outside(statistics: Any, kind: pa.DataType, window: Window) -> bool:
    """Whether a row group certainly holds no wanted row; one with null instants is read, so that they are counted."""
    if statistics is None or not statistics.has_min_max or not statistics.has_null_count or statistics.null_count:
        return False
    ends = [statistics.min_raw, statistics.max_raw]
    if not all(isinstance(end, int) for end in ends):
        return False
    times = read_times(pa.array(ends, pa.int64()).cast(kind))
    first, last = (int(us) for us in times.us)
    late = window.until is not None and first >= window.until
    return bool(times.valid.all()) and (late or (window.since is not None and last < window.since))


def _stored_bytes(meta: pq.FileMetaData, groups: list[int], theirs: list[str]) -> int:
    """Uncompressed bytes of the columns to read."""
    total = 0
    for g in groups:
        group = meta.row_group(g)
        for c in range(group.num_columns):
            chunk = group.column(c)
            path = chunk.path_in_schema
            if any(path == name or path.startswith(f"{name}.") for name in theirs):
                total += chunk.total_uncompressed_size
    return total


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column by its dotted name; a literal name with dots wins over a path."""
    parts = name.split(".")
    split = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in batch.schema.names)
    outer = batch.column(".".join(parts[:split]))
    return pc.struct_field(outer, parts[split:]) if parts[split:] else outer


def _bites(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in slices of about BATCH_BYTES once its dictionaries are spelt out."""
    n = batch.num_rows
    sizes = np.zeros(n, np.int64)
    for array in batch.columns:
        if pa.types.is_dictionary(array.type):
            if len(array.dictionary):
                lengths = pc.binary_length(array.dictionary).fill_null(0).take(array.indices)
                sizes += lengths.fill_null(0).to_numpy()
        elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
            sizes += pc.binary_length(array).fill_null(0).to_numpy()
        else:
            sizes += array.nbytes // max(1, n)
    ends = np.cumsum(sizes)
    start = 0
    while start < n:
        limit = BATCH_BYTES + (ends[start - 1] if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        yield batch.slice(start, stop - start)
        start = stop
