"""delimited: column names and raw batches of CSV and TSV, plain or packed.

The separator is the commonest of comma, semicolon, tab and bar in the header. A row whose quotes do not close costs
that row only, not the rest of the file. An empty field is missing; a quoted empty one is an empty text.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pa_csv

from stillwatch.errors import InputError
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.raw import Columns, Raw
from stillwatch.ingest.stream import LONGEST_LINE_BYTES, Stream, blocks, first_block

_SEPARATORS = ",;\t|"
_LONGEST_HEADER_BYTES = 1 << 20
_END = "\x02end of block\x03"
"""A row of these closes every block that is parsed: where it does not come back, a quote was left open before it."""


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
    """The rows of `text`, and what of it belongs to rows not finished yet.

    A text that ends inside quotes waits for the next block, until it is longer than a row may be or the file ends
    (`last`); then the first line of its open row is rejected and the rest read afresh.
    """
    table = _table(text, header, sources, rejects)
    if table is not None:
        return table, b""
    if not last and len(text) <= LONGEST_LINE_BYTES:
        return {}, text
    start = _open_record(text, header)
    table = _table(text[:start], header, sources, rejects)
    rest = text[start:]
    if last or len(rest) > LONGEST_LINE_BYTES:
        rejects["row_broken_quotes"] += 1
        rest = rest[rest.find(b"\n") + 1 or len(rest) :]
    return table or {}, rest


def _table(
    text: bytes, header: Header, sources: Mapping[str, str], rejects: Counter[str]
) -> dict[str, pa.Array] | None:
    """All rows of `text` as columns; None where it ends inside quotes. Rows of the wrong width are counted."""
    wrong = 0

    def skip(row: pa_csv.InvalidRow) -> str:
        nonlocal wrong
        wrong += 1
        return "skip"

    end = header.separator.join([_END] * len(header.names)).encode()
    whole = text + (b"" if text.endswith(b"\n") or not text else b"\n") + end + b"\n"
    at = {ours: str(header.names.index(theirs)) for ours, theirs in sources.items()}
    names = [str(n) for n in range(len(header.names))]
    table = pa_csv.read_csv(
        pa.BufferReader(whole),
        read_options=pa_csv.ReadOptions(column_names=names, block_size=len(whole) + 1, use_threads=False),
        parse_options=pa_csv.ParseOptions(
            delimiter=header.separator, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.binary() for name in names},
            include_columns=sorted(set(at.values())),
            check_utf8=False,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    n_rows = table.num_rows - 1
    if n_rows < 0 or table.column(0)[n_rows].as_py() != _END.encode():
        return None
    rejects["row_wrong_width"] += wrong
    return {ours: table.column(name).slice(0, n_rows).combine_chunks() for ours, name in at.items()}


def _open_record(text: bytes, header: Header) -> int:
    """Where the last record of `text` begins, which has an open quote."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    lines = text.replace(b"\r", b" ").decode("latin-1")
    reader = csv.reader(io.StringIO(lines, newline="\n"), delimiter=header.separator)
    n_before = n_lines = 0
    for _ in reader:
        n_before, n_lines = n_lines, reader.line_num
    start = 0
    for _ in range(n_before):
        start = text.find(b"\n", start) + 1
    return start
