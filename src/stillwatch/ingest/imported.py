"""imported: files of foreign formats: which importer reads a file, and its raw batches.

JSON may stand one record per line, as lists of records, or as one document over many lines; Parquet and CSV give their
columns as the top keys of records; protobuf holds OTLP.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.ingest import delimited, parquet
from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.extract import Cells, Extractor, Found
from stillwatch.ingest.formats import protobuf
from stillwatch.ingest.importer import Importer, dotted, named, recognise
from stillwatch.ingest.jsonl import lenient
from stillwatch.ingest.raw import Columns, Raw
from stillwatch.ingest.stream import BLOCK_BYTES, Stream, blocks, first_block
from stillwatch.ingest.values import as_text

_SAMPLE_LINES = 200
_LARGEST_DOCUMENT_BYTES = 512 << 20
_PART_BYTES = 1 << 20
"""Decoded and taken apart at a time: what that makes stays in the processor's cache."""
_BATCH_RECORDS = 4096
_PEEK_BYTES = 1 << 16
_OPENING_BYTES = 1 << 20
_ANYWHERE = Window(since=None, until=None, latest=0)
_OTLP_NAMES = ("resourceSpans", "resourceLogs")

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)


def choose(file: LogFile, columns: Columns) -> tuple[Importer, Columns] | None:
    """The importer that reads a file, and the dotted names a sample of it shows; None where its columns are read as
    they are called. `columns` are those of a table. Raises InputError where the importer asked for cannot read it."""
    records = _sample(file) if file.format == "jsonl" else []
    tables = {"jsonl": [], "protobuf": [_OTLP_NAMES]}.get(file.format, [columns.names])
    samples: list[Sequence[str]] = [*tables, *map(dotted, records)]
    importer = named(file.importer) if file.importer else recognise(samples)
    if importer is None:
        return None
    if importer.explode is not None:
        if file.format in ("parquet", "csv"):
            raise InputError(f"{file.name} is a table", expected=f"{importer.title} as JSON", do="Name another format")
        samples += _exploded(file, importer, records)
    names = tuple(dict.fromkeys(name for keys in samples for name in keys))
    return importer, Columns(names=names, n_rows=columns.n_rows)


def _exploded(file: LogFile, importer: Importer, records: Sequence[Any]) -> Iterator[Sequence[str]]:
    """The keys of the rows that a sample of records holds."""
    if file.format == "protobuf":
        yield from map(protobuf.names, protobuf.exports(_whole(file))[0][:_SAMPLE_LINES])
    for record in records:
        with suppress(*_REFUSED):
            converted = msgspec.convert(record, importer.record, strict=False)
            yield list(importer.names([converted])) if importer.names else []


def read(file: LogFile, importer: Importer, wanted: Iterable[str], *, window: Window, threads: int) -> Iterator[Raw]:
    """Raw batches of the canonical columns `wanted`, beside REQUEST, SPAN and ASIDE where the importer has them.

    Records that are no model call are rejected as `not_an_exchange`. Cost: linear; memory: a block and its values, of
    a document over many lines all of it.
    """
    extractor = Extractor(importer, wanted)
    readers: Mapping[str, Callable[[], Iterator[Raw]]] = {
        "jsonl": lambda: (_read_document if _is_document(_opening(file)) else _read_lines)(file, extractor),
        "protobuf": lambda: _read_protobuf(file, extractor),
        "parquet": lambda: _read_table(
            parquet.read(file, _heads(extractor, parquet.columns(file)), window=_ANYWHERE, threads=threads), extractor
        ),
        "csv": lambda: _read_table(delimited.read(file, _heads(extractor, delimited.columns(file))), extractor),
    }
    return readers[file.format]()


def raw(found: Cells, done_bytes: int, rejects: Counter[str], notes: Counter[str]) -> Raw:
    """What an extractor found as a raw batch."""
    if found.n_excluded:
        rejects["not_an_exchange"] += found.n_excluded
    return Raw(found.columns, found.n_rows, done_bytes=done_bytes, rejects=+rejects, notes=+notes)


def decode(block: bytes, extractor: Extractor, rejects: Counter[str], notes: Counter[str]) -> list[Any]:
    """The records on the lines of a block; what cannot be read is counted by name."""
    try:
        return _flat(extractor.decoder.decode_lines(block))
    except _REFUSED:
        pass
    kept: list[Any] = []
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            kept += _flat([extractor.decoder.decode(line)])
        except _REFUSED:
            kept += _patiently(line, extractor, rejects, notes)
    return kept


def n_empty(records: Sequence[Any], extractor: Extractor) -> int:
    """How many records hold none of what their format explodes: they would leave no row and no trace."""
    return records.count(type(records[0])()) if extractor.importer.explode is not None and records else 0


def _flat(found: Sequence[Any]) -> list[Any]:
    """Records, those inside lists among them."""
    if list in set(map(type, found)):
        return [record for one in found for record in (one if type(one) is list else (one,))]
    return list(found)


def _patiently(line: bytes, extractor: Extractor, rejects: Counter[str], notes: Counter[str]) -> list[Any]:
    """The records of one line that is not as its type has it."""
    try:
        value, note = msgspec.json.decode(line), ""
    except _REFUSED:
        value, note = lenient(line, lists=True)
    if note and value is None:
        rejects[note] += 1
        return []
    kept = []
    for record in value if isinstance(value, list) else [value]:
        if isinstance(record, dict):
            kept += _shaped(record, extractor, rejects)
        else:
            rejects["line_not_an_object"] += 1
    if note and kept:
        notes[note] += 1
    return kept


def _shaped(record: Mapping[str, Any], extractor: Extractor, rejects: Counter[str]) -> list[Any]:
    """A record as the extractor takes it; of one that it does not take, the parts it takes."""
    parts = extractor.importer.parts
    shaped = []
    try:
        return [extractor.shaped(record)]
    except _REFUSED:
        inside = list(parts(record)) if parts else []
    for part in inside:
        try:
            shaped.append(extractor.shaped(part))
        except _REFUSED:
            rejects["record_of_another_shape"] += 1
    rejects["record_of_another_shape"] += not inside
    return shaped


def _read_lines(file: LogFile, extractor: Extractor) -> Iterator[Raw]:
    with Stream(file) as stream:
        for block, n_long in blocks(stream):
            rejects, notes = Counter[str](line_too_long=n_long), Counter[str]()
            with _uncollected():
                found = extractor.gathered(_found(block, extractor, rejects, notes))
            yield raw(found, stream.n_read, rejects, notes)
            del found  # its memory serves the next block
        if stream.cut:
            yield Raw(done_bytes=file.n_bytes, rejects={"truncated_file": 1})


def _found(block: bytes, extractor: Extractor, rejects: Counter[str], notes: Counter[str]) -> Iterator[Found]:
    """What the lines of a block hold. One line that is not plain shall cost few others their speed."""
    found = extractor.scanned(block)
    if found is not None:
        yield found
        return
    for part in _parts(block):
        found = extractor.scanned(part)
        if found is None:
            records = decode(part, extractor, rejects, notes)
            rejects["record_of_another_shape"] += n_empty(records, extractor)
            found = extractor.found(records)
        yield found


def _parts(block: bytes) -> Iterator[bytes]:
    """Whole lines of a block, a part at a time."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + _PART_BYTES) + 1 or len(block)
        yield block[start:end]
        start = end


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cycle collector: it would go through a block's objects again and again, and they hold no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_document(file: LogFile, extractor: Extractor) -> Iterator[Raw]:
    text = _whole(file)
    rejects, notes = Counter[str](), Counter[str]()
    try:
        records = _flat([extractor.decoder.decode(text)])
    except _REFUSED:
        records = _patiently(text, extractor, rejects, notes)
    rejects["record_of_another_shape"] += n_empty(records, extractor)
    for start in range(0, max(1, len(records)), _BATCH_RECORDS):
        yield raw(extractor.cells(records[start : start + _BATCH_RECORDS]), file.n_bytes, rejects, notes)
        rejects, notes = Counter(), Counter()


def _read_protobuf(file: LogFile, extractor: Extractor) -> Iterator[Raw]:
    exports, is_cut = protobuf.exports(_whole(file))
    coming = iter(_grouped(exports, _PART_BYTES))
    n_bytes, n_done = sum(map(len, exports)), 0
    for first in coming:
        rejects: Counter[str] = Counter()
        parts = [first, *islice(coming, BLOCK_BYTES // _PART_BYTES - 1)]
        with _uncollected():
            found = extractor.gathered(_exploded_parts(parts, extractor, rejects))
        n_done += sum(len(export) for part in parts for export in part)
        yield raw(found, file.n_bytes * n_done // max(1, n_bytes), rejects, Counter())
    if is_cut:
        yield Raw(done_bytes=file.n_bytes, rejects={"truncated_file": 1})


def _exploded_parts(parts: Iterable[Sequence[bytes]], extractor: Extractor, rejects: Counter[str]) -> Iterator[Found]:
    for exports in parts:
        exploded, n_refused = protobuf.explode(exports, extractor.paths)
        rejects["record_of_another_shape"] += n_refused
        yield extractor.found_in(exploded)


def _grouped(exports: Sequence[bytes], n_bytes: int) -> Iterator[Sequence[bytes]]:
    """Exports in groups of about as many bytes."""
    start = size = 0
    for n, export in enumerate(exports, start=1):
        size += len(export)
        if size >= n_bytes or n == len(exports):
            yield exports[start:n]
            start, size = n, 0


def _read_table(raws: Iterator[Raw], extractor: Extractor) -> Iterator[Raw]:
    for part in raws:
        columns = {head: _values(cells) for head, cells in part.cells.items()}
        records = [
            extractor.shaped(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)
        ]
        yield raw(extractor.cells(records), part.done_bytes, Counter(part.rejects), Counter(part.notes))


def _values(cells: Any) -> list[Any]:
    """A column as Python values; text that is not UTF-8 is spelt out."""
    if not isinstance(cells, pa.Array):
        return list(cells)
    cells = cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        cells = cells.cast(pa.large_binary())
    binary = pa.types.is_large_binary(cells.type) or pa.types.is_binary(cells.type)
    try:
        values = cells.to_pylist()
    except UnicodeDecodeError:
        return [None] * len(cells)  # bytes that are no text, deep inside a structure
    return [as_text(value) for value in values] if binary else values


def _heads(extractor: Extractor, columns: Columns) -> dict[str, str]:
    """The top keys that are looked at, of those a table has."""
    heads = dict.fromkeys(path.partition(".")[0] for path in extractor.paths)
    heads |= dict.fromkeys(extractor.importer.whole_keys)
    return {head: head for head in heads if head in columns.names}


def _whole(file: LogFile) -> bytes:
    """All bytes of a file, unpacked. Raises InputError above what is sensible to hold."""
    held, size = [], 0
    with Stream(file) as stream:
        for piece in stream.pieces():
            held.append(piece)
            size += len(piece)
            if size > _LARGEST_DOCUMENT_BYTES:
                raise InputError(
                    f"{file.name} is one document of more than {_LARGEST_DOCUMENT_BYTES >> 20} MiB",
                    expected="one record per line",
                    do="For a list in a file: jq -c '.[]' FILE > FILE.jsonl",
                )
    return b"".join(held)


def _opening(file: LogFile) -> bytes:
    """The start of a file with all of its first line: little where that is enough, since every reading begins here."""
    held, size = [], 0
    with Stream(file) as stream:
        for piece in stream.pieces():
            held.append(piece)
            size += len(piece)
            if size >= _OPENING_BYTES:
                start = b"".join(held)
                return start if b"\n" in start[:-_PEEK_BYTES].lstrip() else first_block(file)
    return first_block(file)


def _is_document(block: bytes) -> bool:
    """Whether a file that begins with this block is one value over many lines: its first line only begins one."""
    # Only the first line is copied: a block is large, and every reading begins here.
    start = len(block) - len(block.lstrip()) if block[:1].isspace() else 0
    end = block.find(b"\n", start)
    first = block[start:end].strip() if end >= 0 else b""
    if not (first == b"{" or first.startswith(b"[")) or not block[end : end + _PEEK_BYTES].strip():
        return False
    try:
        msgspec.json.decode(first)
    except _REFUSED:
        return True
    return False


def _sample(file: LogFile) -> list[Mapping[str, Any]]:
    """Some records from the start of a file of JSON."""
    block = first_block(file)
    if _is_document(block):
        found = _loaded(_whole(file))
    else:
        lines = block.split(b"\n", _SAMPLE_LINES)[:_SAMPLE_LINES]
        found = [record for line in lines if line.strip() for record in islice(_loaded(line), _SAMPLE_LINES)]
    return [record for record in found[:_SAMPLE_LINES] if isinstance(record, dict)]


def _loaded(text: bytes) -> list[Any]:
    try:
        value = msgspec.json.decode(text)
    except _REFUSED:
        value, _ = lenient(text, lists=True)
    return value if isinstance(value, list) else [value]
