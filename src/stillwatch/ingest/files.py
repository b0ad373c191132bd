"""files: one log file of any format: its columns named, its rows as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from stillwatch.ingest import delimited, jsonl, parquet
from stillwatch.ingest.conform import DERIVED, Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.names import Aliases, Names, require, resolve
from stillwatch.ingest.raw import Columns, Raw


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file whose columns are known and named."""

    file: LogFile
    columns: Columns
    names: Names


def open_file(
    file: LogFile, *, mapping: Mapping[str, str], schema: pa.Schema, required: Sequence[str], aliases: Aliases
) -> OpenFile | None:
    """Read what names the columns of a file (a footer, the first lines); None where it holds nothing at all.

    Raises InputError where it cannot be read, lacks a required column, or has two for one.
    """
    readers = {"parquet": parquet.columns, "jsonl": jsonl.columns, "csv": delimited.columns}
    columns = readers[file.format](file) if file.n_bytes else Columns(names=())
    if not columns.names:
        return None
    names = resolve(
        columns.names, chats=columns.chats, mapping=mapping, canonical=schema.names, aliases=aliases, where=file.name
    )
    require(names, required, columns=columns.names, where=file.name)
    return OpenFile(file=file, columns=columns, names=names)


def read_file(entry: OpenFile, wanted: Sequence[str], *, window: Window, threads: int) -> Iterator[Raw]:
    """The raw batches of a file with those of the canonical columns `wanted` that it has, or may turn out to have."""
    sources = entry.names.sources
    needed = set(wanted)
    if any(name in needed and name not in sources for name in DERIVED):
        needed.add("messages")
    chosen = {name: sources[name] for name in sorted(needed) if name in sources}
    if entry.file.format == "parquet":
        return parquet.read(entry.file, chosen, window=window, threads=threads)
    if entry.file.format == "csv":
        return delimited.read(entry.file, chosen)
    # A key may first appear after the sample; canonical names are therefore looked for in every line.
    return jsonl.read(entry.file, chosen | {name: name for name in sorted(needed) if name not in sources})
