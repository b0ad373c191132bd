"""delimited: column names and raw batches of CSV and TSV, plain or packed.

The separator is the commonest of comma, semicolon, tab and bar in the header. An empty field is missing; a quoted
empty one is an empty text. Where every quote stands as RFC 4180 has it Arrow parses; elsewhere the standard library
does, line by line, so that a quote left open costs its own row and not all rows up to the next quote.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from stillwatch.errors import InputError
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.raw import Columns, Raw
from stillwatch.ingest.stream import LONGEST_LINE_BYTES, Stream, blocks, first_block

_SEPARATORS = ",;\t|"
_LONGEST_HEADER_BYTES = 1 << 20
_QUOTE = ord('"')


@dataclass(frozen=True, slots=True)
class Header:
    """The first record: `names` as they stand there, the `separator`, and where the rows begin."""

    names: tuple[str, ...]
    separator: str
    n_bytes: int


def columns(file: LogFile) -> Columns:
    """The names in the header, as often as they stand there. Raises InputError where there is no sensible header."""
    block = first_block(file)
    return Columns(names=_header(block, file).names if block else ())


def read(file: LogFile, sources: Mapping[str, str]) -> Iterator[Raw]:
    """Raw batches of the columns `sources` (canonical -> theirs), all text. Cost: linear; memory: some blocks."""
    header: Header | None = None
    rest = b""
    with Stream(file) as stream:
        for block, n_long in blocks(stream):
            rejects = Counter(line_too_long=n_long)
            text = rest + block
            if header is None:
                if not text.strip():
                    yield Raw(done_bytes=stream.n_read, rejects=dict(+rejects))
                    continue
                header = _header(text, file)
                text = text[header.n_bytes :]
            cells, rest = _parse(text, header, sources, rejects, last=False)
            yield _raw(cells, stream.n_read, rejects)
        while header is not None and rest:
            rejects = Counter[str]()
            cells, rest = _parse(rest, header, sources, rejects, last=True)
            yield _raw(cells, stream.n_read, rejects)
        if stream.cut:
            yield Raw(done_bytes=file.n_bytes, rejects={"truncated_file": 1})


def _raw(cells: Mapping[str, pa.Array], done_bytes: int, rejects: Counter[str]) -> Raw:
    n_rows = len(next(iter(cells.values()), ()))
    return Raw(cells, n_rows, done_bytes=done_bytes, rejects=dict(+rejects))


def _header(block: bytes, file: LogFile) -> Header:
    start = block[:_LONGEST_HEADER_BYTES].lstrip(b"\r\n")
    lines = start.decode("utf-8", "replace")
    first = lines.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(lines, newline="\n"), delimiter=separator)
    try:
        names = next(reader)
    except csv.Error as error:
        raise InputError(f"{file.name} has no readable header", got=str(error), expected="a line of names") from error
    end = 0
    for _ in range(reader.line_num):
        end = start.find(b"\n", end) + 1 or len(start)
    return Header(tuple(names), separator, len(block) - len(block.lstrip(b"\r\n")) + end)


def _parse(
    text: bytes, header: Header, sources: Mapping[str, str], rejects: Counter[str], *, last: bool
) -> tuple[dict[str, pa.Array], bytes]:
    """The rows of `text`, and what of it belongs to a row that may end in the next block (never so where `last`)."""
    tidy, is_open = _quotes(text, header.separator)
    if tidy and is_open and not last and len(text) <= LONGEST_LINE_BYTES:
        return {}, text
    if tidy and not is_open:
        cells = _parse_tidy(text, header, sources)
        if cells is not None:
            return cells, b""
    return _parse_untidy(text, header, sources, rejects, last=last)


def _quotes(text: bytes, separator: str) -> tuple[bool, bool]:
    """Whether every quote opens a field, closes one or is doubled, and whether the text ends inside quotes."""
    data = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    neighbours = np.zeros(256, np.bool_)
    neighbours[[ord(separator), ord("\n"), ord("\r"), _QUOTE]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    return bool(neighbours[before].all() and neighbours[after].all()), len(quotes) % 2 == 1


def _parse_tidy(text: bytes, header: Header, sources: Mapping[str, str]) -> dict[str, pa.Array] | None:
    """The rows of a text whose quotes are in place; None where some row is of the wrong width."""
    at = {ours: str(header.names.index(theirs)) for ours, theirs in sources.items()}
    if not text.strip(b"\r\n"):
        return {ours: pa.array([], pa.binary()) for ours in at}
    names = [str(n) for n in range(len(header.names))]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(text),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=len(text) + 1, use_threads=False),
            parse_options=pa_csv.ParseOptions(delimiter=header.separator, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.binary() for name in names},
                include_columns=sorted(set(at.values())),
                check_utf8=False,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        # Not through Arrow's handler of invalid rows: it cannot be given one that is not UTF-8.
        return None
    return {ours: table.column(name).combine_chunks() for ours, name in at.items()}


def _parse_untidy(
    text: bytes, header: Header, sources: Mapping[str, str], rejects: Counter[str], *, last: bool
) -> tuple[dict[str, pa.Array], bytes]:
    """The rows of a text with quotes out of place; a record that breaks costs its first line, the next is tried."""
    # The module's own limit of 131,072 characters would refuse long prompts; it can only be set for the process.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    lines = io.StringIO(text.decode("utf-8", "surrogateescape"), newline="\n").readlines()
    rows: list[list[str]] = []
    rest = ""
    at = 0
    while at < len(lines) and not rest:
        start = at
        reader = csv.reader((lines[n] for n in range(start, len(lines))), delimiter=header.separator, strict=True)
        try:
            for row in reader:
                at = start + reader.line_num
                if len(row) == len(header.names):
                    rows.append(row)
                elif row:
                    rejects["row_wrong_width"] += 1
        except csv.Error:
            if start + reader.line_num == len(lines) and not last and len(text) <= LONGEST_LINE_BYTES:
                rest = "".join(lines[at:])
            else:
                rejects["row_broken_quotes"] += 1
                at += 1
    columns = {ours: header.names.index(theirs) for ours, theirs in sources.items()}
    cells = {ours: [row[n].encode("utf-8", "surrogateescape") or None for row in rows] for ours, n in columns.items()}
    return {ours: pa.array(column, pa.binary()) for ours, column in cells.items()}, rest.encode(
        "utf-8", "surrogateescape"
    )
