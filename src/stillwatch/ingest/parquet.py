"""parquet: column names and raw batches of a Parquet file, through Arrow's own reader.

Only the columns asked for are read, and row groups whose statistics lie outside the window are not read at all.
Batches hold at most 64 k rows and about 32 MB of text, also where a dictionary stands for gigabytes. Arrow rather than
DuckDB reads the rows: it takes less time for plain batches, and does not refuse a file for one byte that is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import InputError
from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.footer import RowGroup, read_footer
from stillwatch.ingest.raw import BATCH_BYTES, BATCH_ROWS, Columns, Raw
from stillwatch.ingest.stream import unopened

_SHORT_BYTES = 16
"""A text column that takes less than this per row, its dictionary aside, is read as a dictionary."""

_SPELT_BYTES = 256 << 20
"""What Arrow may at most spell out at once of a dictionary that stands before plain pages."""

_PART_BATCHES = 3
"""Batches that a part of a file has at least, where its row groups are small."""

_READ_BYTES = 1 << 20
"""Stored bytes of a column that are read at once."""

_NESTED_ROWS = 2048
"""Rows at a time where a column is nested: the texts inside may be repeated from a dictionary, and large."""


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
    before = 0
    for part in parts(file, sources, window=window, threads=threads):
        done = before
        for raw in part:
            done = before + raw.done_bytes
            yield replace(raw, done_bytes=done)
        before = done


def parts(file: LogFile, sources: Mapping[str, str], *, window: Window, threads: int) -> list[Iterator[Raw]]:
    """The same in order, in parts of some row groups each that may be read side by side."""
    theirs = sorted(set(sources.values()))
    with _reading(file) as parquet:
        n_rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
        n_groups = parquet.num_row_groups
    footer = read_footer(file, n_rows=n_rows, is_nested=_is_nested(schema, theirs))
    wanted = _wanted_groups(footer, n_groups, schema, sources.get("ts"), window)
    n_outside = n_rows - sum(footer[g].n_rows for g in wanted) if footer else 0
    short, longest = _short_texts(file, footer, schema, theirs)
    longest = max(longest, _nested_bytes(file, footer, theirs))
    size = max(1, min(_batch_rows(footer, schema, theirs), _SPELT_BYTES // max(1, longest)))
    pieces = _pieces(footer, wanted, least=_PART_BATCHES * size) if footer else [(wanted, n_rows)]
    how = _How(
        file, sources, tuple(short), size, n_rows, one_by_one=_is_nested(schema, theirs),
        # Where there is one part only, Arrow's threads take its columns.
        use_threads=threads > 1 and len(pieces) == 1,
    )  # fmt: skip
    outside = [iter([Raw(n_outside=n_outside, done_bytes=_share(file, n_outside, n_rows))])] if n_outside else []
    return [*outside, *(_read_groups(how, groups, n) for groups, n in pieces)]


@dataclass(frozen=True, slots=True)
class _How:
    """How the parts of a file are read: columns, those to read as dictionaries, rows at a time."""

    file: LogFile
    sources: Mapping[str, str]
    short: tuple[str, ...]
    size: int
    n_rows: int
    one_by_one: bool
    use_threads: bool


def _pieces(footer: list[RowGroup], wanted: list[int], *, least: int) -> list[tuple[list[int], int]]:
    """The row groups wanted in runs of at least so many rows, and the rows of each run."""
    pieces: list[tuple[list[int], int]] = [([], 0)]
    for group in wanted:
        groups, n = pieces[-1]
        if n >= least:
            groups, n = [], 0
            pieces.append((groups, n))
        pieces[-1] = ([*groups, group], n + footer[group].n_rows)
    return pieces


def _read_groups(how: _How, wanted: list[int], n_rows: int) -> Iterator[Raw]:
    """Raw batches of these row groups, which hold `n_rows` rows."""
    n_done, theirs = 0, sorted(set(how.sources.values()))
    with _reading(how.file, how.short) as parquet:
        # A batch over two row groups is more than Arrow can make where a dictionary lies inside of lists.
        stretches = [[group] for group in wanted] if how.one_by_one else [wanted]
        batches = (
            parquet.iter_batches(how.size, row_groups=groups, columns=theirs, use_threads=how.use_threads)
            for groups in stretches
        )
        for batch in chain.from_iterable(batches):
            for part in _bites(batch):
                n_done += part.num_rows
                cells = {ours: _column(part, name) for ours, name in how.sources.items()}
                yield Raw(cells, part.num_rows, done_bytes=_share(how.file, n_done, how.n_rows))
    if n_done != n_rows:
        raise _damaged(how.file, f"{n_done} rows where the file announces {n_rows}")


def _share(file: LogFile, n_done: int, n_rows: int) -> int:
    return file.n_bytes * n_done // max(1, n_rows)


@contextmanager
def _reading(file: LogFile, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """The opened file; whatever Arrow finds wrong with it becomes an InputError that names it."""
    # Through a small buffer: whole column chunks, held as they are stored, would be fresh memory for each row group.
    options = {
        "page_checksum_verification": True, "read_dictionary": list(dictionaries),
        "pre_buffer": False, "buffer_size": _READ_BYTES,
    }  # fmt: skip
    try:
        with pq.ParquetFile(file.path, **options) as parquet:
            yield parquet
    except pa.ArrowMemoryError as error:
        raise InputError(
            f"{file.name} needs more memory than there is", got=" ".join(str(error).split())[:200],
            do="Write it with smaller row groups, or give this machine more memory",
        ) from error  # fmt: skip
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


def _short_texts(file: LogFile, footer: list[RowGroup], schema: pa.Schema, theirs: list[str]) -> tuple[list[str], int]:
    """The text columns to read as dictionaries, and the bytes of the longest entry in any dictionary of the others.

    As dictionaries: those that repeat themselves, all where the footer says nothing. That is cheaper, and their size
    is known before they are spelt out. Not those of mostly plain pages: Arrow would gather a row group of them.
    """
    names = [field.name for field in schema if field.name in theirs and _is_text(field.type)]
    if not footer:
        return names, 0
    allowed = _SHORT_BYTES * sum(group.n_rows for group in footer)
    repeating = [name for name in names if any(_has_dictionary(group, name) for group in footer)]
    plain = {name: sum(group.n_bytes([name]) for group in footer) for name in repeating}
    unsure = [name for name in repeating if plain[name] >= allowed]
    longest = dict.fromkeys(unsure, 0)
    for name, n_bytes, most in _dictionaries(file, footer, unsure):
        plain[name] -= n_bytes
        longest[name] = max(longest[name], most)
    short = [name for name in repeating if plain[name] < allowed]
    return short, max((most for name, most in longest.items() if name not in short), default=0)


def _dictionaries(file: LogFile, footer: list[RowGroup], names: list[str]) -> Iterator[tuple[str, int, int]]:
    """Bytes and longest entry of the dictionary of each column in each row group; reads their first pages only."""
    with _reading(file, names) as parquet:
        for at, group in enumerate(footer):
            for name in names:
                if _has_dictionary(group, name):
                    for batch in islice(parquet.iter_batches(1, row_groups=[at], columns=[name]), 1):
                        lengths = pc.binary_length(batch.column(0).dictionary)
                        yield name, pc.sum(lengths).as_py() or 0, pc.max(lengths).as_py() or 0


def _is_nested(schema: pa.Schema, theirs: list[str]) -> bool:
    heads = {name.partition(".")[0] for name in theirs}
    return any(pa.types.is_nested(field.type) for field in schema if field.name in heads)


def _nested_bytes(file: LogFile, footer: list[RowGroup], theirs: list[str]) -> int:
    """What a row of nested texts may take once it is spelt out: the longest in a dictionary, for each on the row."""
    heads = {name.partition(".")[0] for name in theirs}
    most = 0
    for at, group in enumerate(footer):
        paths = [path for path in group.chunks if "." in path and path.partition(".")[0] in heads]
        paths = [path for path in paths if _has_dictionary(group, path)]
        if not paths:
            continue
        with _reading(file, paths) as parquet:
            for batch in islice(parquet.iter_batches(1, row_groups=[at], columns=paths), 1):
                entries = [pc.max(pc.binary_length(one)).as_py() or 0 for one in _inner_dictionaries(batch.columns)]
                n_values = max(group.chunks[path].n_values for path in paths)
                most = max(most, -(-n_values // max(1, group.n_rows)) * sum(entries))
    return most


def _inner_dictionaries(arrays: Sequence[pa.Array]) -> Iterator[pa.Array]:
    """The dictionaries of texts at any depth."""
    for array in arrays:
        if pa.types.is_dictionary(array.type):
            if _is_text(array.type.value_type):
                yield array.dictionary
        elif pa.types.is_struct(array.type):
            yield from _inner_dictionaries([array.field(n) for n in range(array.type.num_fields)])
        elif pa.types.is_map(array.type):
            yield from _inner_dictionaries([array.keys, array.items])
        elif pa.types.is_nested(array.type):
            yield from _inner_dictionaries([array.values])


def _is_text(kind: pa.DataType) -> bool:
    large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    return bool(large or pa.types.is_string(kind) or pa.types.is_binary(kind))


def _has_dictionary(group: RowGroup, name: str) -> bool:
    return name in group.chunks and group.chunks[name].has_dictionary


def _wanted_groups(
    footer: list[RowGroup], n_groups: int, schema: pa.Schema, ts: str | None, window: Window
) -> list[int]:
    """The row groups that may hold rows inside the window."""
    groups = list(range(n_groups))
    if window.is_open or len(footer) != n_groups or ts not in schema.names:
        return groups
    timed = pa.types.is_timestamp(schema.field(ts).type)
    return [g for g in groups if not (timed and footer[g].is_outside(window, str(ts)))]


def _batch_rows(footer: list[RowGroup], schema: pa.Schema, theirs: list[str]) -> int:
    """Rows at a time, so that a batch holds about BATCH_BYTES."""
    nested = _is_nested(schema, theirs)
    n_rows = sum(group.n_rows for group in footer)
    n_bytes = sum(group.n_bytes(theirs) for group in footer)
    return max(
        1, min(_NESTED_ROWS if nested else BATCH_ROWS, BATCH_BYTES * n_rows // n_bytes if n_bytes else BATCH_ROWS)
    )


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column by its dotted name; a literal name with dots wins over a path."""
    parts = name.split(".")
    split = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in batch.schema.names)
    head = ".".join(parts[:split])
    if batch.schema.names.count(head) > 1:
        raise pa.ArrowInvalid(f"{batch.schema.names.count(head)} columns are called {head}")
    outer = batch.column(head)
    return pc.struct_field(outer, parts[split:]) if parts[split:] else outer


def _bites(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in slices of about BATCH_BYTES once its dictionaries are spelt out."""
    n = batch.num_rows
    sizes = np.zeros(n, np.int64)
    for array in batch.columns:
        if pa.types.is_dictionary(array.type):
            lengths = pc.binary_length(array.dictionary).fill_null(0)
            used = pc.min_max(array.indices)
            if (used["min"].as_py() or 0) < 0 or (used["max"].as_py() or 0) >= max(1, len(lengths)):
                raise pa.ArrowIndexError("an index lies outside its dictionary")
            longest = pc.max(lengths).as_py() or 0
            sizes += longest if longest * n <= BATCH_BYTES else lengths.take(array.indices).fill_null(0).to_numpy()
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
