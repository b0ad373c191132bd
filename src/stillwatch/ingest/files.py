"""files: one log file of any format: its columns named, its rows as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa

from stillwatch.ingest import delimited, imported, jsonl, parquet
from stillwatch.ingest.conform import DERIVED, Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.importer import REQUEST, SPAN, Importer
from stillwatch.ingest.join import Join
from stillwatch.ingest.names import Aliases, Names, require, resolve
from stillwatch.ingest.raw import Columns, Raw
from stillwatch.records import EXCHANGES


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file whose columns are known and named; `importer` where it is of a foreign format, `join` where others are."""

    file: LogFile
    columns: Columns
    names: Names
    importer: Importer | None = None
    join: Join | None = None


def open_file(
    file: LogFile, *, mapping: Mapping[str, str], schema: pa.Schema, required: Sequence[str], aliases: Aliases
) -> OpenFile | None:
    """Read what names the columns of a file (a footer, the first lines); None where it holds nothing at all.

    Raises InputError where it cannot be read, lacks a required column, or has two for one.
    """
    readers = {"parquet": parquet.columns, "csv": delimited.columns}
    columns = readers[file.format](file) if file.n_bytes and file.format in readers else Columns(names=())
    if file.n_bytes and schema is EXCHANGES:
        found = imported.choose(file, columns)
        if found is not None:
            importer, columns = found
            return OpenFile(file=file, columns=columns, names=Names({}, {}, unknown=()), importer=importer)
    if file.n_bytes and file.format == "jsonl":
        columns = jsonl.columns(file)
    if not columns.names:
        return None
    names = resolve(
        columns.names, chats=columns.chats, mapping=mapping, canonical=schema.names, aliases=aliases, where=file.name
    )
    require(names, required, columns=columns.names, where=file.name)
    return OpenFile(file=file, columns=columns, names=names)


def mapped(opened: Sequence[OpenFile], mapping: Mapping[str, str]) -> list[OpenFile]:
    """The files, those of foreign formats named, `mapping` heeded in each format of which some file shows the key.

    In all files of it: one that shows no such key at its start shall not name other accounts than the next.
    """
    shown: dict[str, set[str]] = {}
    for entry in opened:
        if entry.importer:
            shown.setdefault(entry.importer.name, set()).update(entry.columns.names)
    return [_named(entry, entry.importer, mapping, shown) if entry.importer else entry for entry in opened]


def _named(entry: OpenFile, importer: Importer, mapping: Mapping[str, str], shown: Mapping[str, set[str]]) -> OpenFile:
    """The file as `importer` reads it; of its places, those that the sample shows are named as guesses."""
    importer = importer.mapped({theirs: ours for theirs, ours in mapping.items() if theirs in shown[importer.name]})
    there = set(entry.columns.names)
    guesses = {
        place.path: ours
        for ours, places in importer.fields.items()
        if ours in EXCHANGES.names
        for place in places
        if place.path in there and place.path not in mapping
    }
    # No column of the file is called so: nothing else may read it by its name.
    sources = {ours: f"{importer.name}:{ours}" for ours in importer.fields if ours in EXCHANGES.names}
    return replace(entry, names=Names(sources, guesses, unknown=()), importer=importer)


def link(opened: Sequence[OpenFile]) -> list[OpenFile]:
    """The files, those that tell of requests aside last; each completes, or is completed by, those that share an id."""
    aside = [entry for entry in opened if entry.importer and set(entry.importer.asides) & set(entry.columns.names)]
    others = [entry for entry in opened if entry not in aside]
    if not aside or not any(_may_be_completed(entry) for entry in opened):
        return list(opened)
    join = Join([(entry.file, entry.importer) for entry in aside if entry.importer])
    return [replace(entry, join=join) if entry.importer else entry for entry in [*others, *aside]]


def _may_be_completed(entry: OpenFile) -> bool:
    importer = entry.importer
    return importer is not None and not {REQUEST, SPAN}.isdisjoint(importer.fields) and importer.name != "envoy"


def read_file(entry: OpenFile, wanted: Sequence[str], *, window: Window, threads: int) -> Iterator[Raw]:
    """The raw batches of a file with those of the canonical columns `wanted` that it has, or may turn out to have."""
    return chain.from_iterable(read_parts(entry, wanted, window=window, threads=threads))


def read_parts(entry: OpenFile, wanted: Sequence[str], *, window: Window, threads: int) -> list[Iterator[Raw]]:
    """The same in parts that may be read side by side; `Raw.done_bytes` are those of the part."""
    sources = entry.names.sources
    needed = set(wanted)
    if needed & set(DERIVED):
        needed.add("messages")
    if entry.importer is not None:
        raws = imported.read(entry.file, entry.importer, needed, window=window, threads=threads)
        return [entry.join.complete(raws, are_exchanges=entry.importer.is_exchange) if entry.join else raws]
    chosen = {name: sources[name] for name in sorted(needed) if name in sources}
    if entry.file.format == "parquet":
        return parquet.parts(entry.file, chosen, window=window, threads=threads)
    if entry.file.format == "csv":
        return [delimited.read(entry.file, chosen)]
    # A key may first appear after the sample; canonical names are therefore looked for in every line.
    return [jsonl.read(entry.file, chosen | {name: name for name in sorted(needed) if name not in sources})]
