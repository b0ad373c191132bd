"""dataset: training data in: files of any format and shape as batches of what was asked and what was answered.

Every row is delivered, or counted under a name with the file it stood in. A file that cannot be read at all is named
and the rest is read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.audit.shapes import COLUMNS, rows_of
from stillwatch.errors import InputError
from stillwatch.ingest import delimited, jsonl, parquet
from stillwatch.ingest.abreast import Progress
from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile, find_files
from stillwatch.ingest.raw import Raw
from stillwatch.ingest.stream import Stream, marked
from stillwatch.kernels.unroll import Unroller

BESIDE = set(
    "dataset_info.json dataset_infos.json croissant.json metadata.json state.json config.json audit.json "
    "croissant-patch.json canaries.json".split()
)
"""Files that describe a data set and are no part of its rows."""

_HEAD_BYTES = 64 << 10
_BATCH_ROWS = 8192
_EVERYTHING = Window(since=None, until=None, latest=2**63 - 1)
_BELOW_A_KEY = re.compile(
    rb'\{\s*(?:"[^"]*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[\w.+-]+|\[[^][{}]*\]|\{[^{}]*\})\s*,\s*)*"([^"]*)"\s*:\s*\[\s*\{'
)
"""The start of a JSON object up to its first array of objects, with the key that array stands under."""


@dataclass(slots=True)
class FileRead:
    """What became of one file: rows delivered by shape, rows rejected and things noted by reason, columns empty."""

    path: str
    n_bytes: int
    sha256: str = ""
    n_rows: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    empty_columns: list[str] = field(default_factory=list)
    unreadable: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        counted = {name: dict(sorted(getattr(self, name).items())) for name in ("shapes", "rejects", "notes")}
        plain = {name: getattr(self, name) for name in ("path", "n_bytes", "sha256", "n_rows", "unreadable")}
        return {**plain, **counted, "empty_columns": self.empty_columns}


class Dataset:
    """Files of training data; `batches` reads them once, `files` then says what became of each."""

    def __init__(self, paths: Sequence[str | Path], *, mapping: Mapping[str, str] | None = None) -> None:
        """Find the files; `mapping` (theirs -> ours) names columns. Raises InputError where there are none."""
        self._mapping = dict(mapping or {})
        for theirs, ours in self._mapping.items():
            if ours not in COLUMNS:
                raise InputError(
                    f"--map {theirs}={ours}: no such column", got=ours, expected="one of " + ", ".join(COLUMNS)
                )
        files, self.skipped = find_files(paths, patient=True)
        self._sources = [file for file in files if file.path.name.lower() not in BESIDE]
        if not self._sources:
            raise InputError("no data set in these files", got="only files that describe one")
        self.files = [FileRead(file.name, file.n_bytes) for file in self._sources]
        self.n_bytes = sum(file.n_bytes for file in self._sources)

    def batches(self, *, on_progress: Progress | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of exchanges (`shapes.ROWS`) with `file` and `row` (its number among those that could be read).

        A row never stands in two batches.

        Raises InputError where not one row of any file can be read. Memory: a batch, and a block of the file.
        """
        done = 0
        for at, file in enumerate(self._sources):
            read = self.files[at] = FileRead(file.name, file.n_bytes)
            try:
                with file.path.open("rb") as raw:
                    read.sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
                with tempfile.TemporaryDirectory(prefix="stillwatch-") as folder:
                    for batch, n_bytes in self._read(_straight(file, Path(folder), read), read):
                        files = pa.array(np.full(batch.num_rows, at), pa.int32())
                        yield batch.append_column("file", files)
                        if on_progress:
                            on_progress(done + min(n_bytes, file.n_bytes), self.n_bytes)
            except (InputError, OSError, pa.ArrowException) as error:
                # Other errors of Arrow's come without a system's own words.
                read.unreadable = str(getattr(error, "strerror", None) or error)
            done += file.n_bytes
        if not any(read.n_rows for read in self.files):
            raise InputError("no row could be read", got=self._why(), do="Check the files, or name columns with --map")

    def _read(self, file: LogFile, read: FileRead) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Batches of one file, with how many of its bytes are done."""
        if not file.n_bytes:
            raise InputError("an empty file")
        names = _names(file)
        sources = self._sources_of(names, closed=file.format != "jsonl")
        if not sources:
            raise InputError("no column of a known shape", got=", ".join(sorted(names)[:12]))
        filled: Counter[str] = Counter()
        for raw in _raws(file, sources):
            read.rejects.update(raw.rejects)
            read.notes.update(raw.notes)
            for ours, cells in raw.cells.items():
                filled[ours] += _n_filled(cells)
            rows = rows_of(raw.cells, raw.n_rows, read.notes) if raw.n_rows else None
            if rows is None:
                continue
            whole = rows.filter(pc.is_valid(rows["shape"]))
            begins = whole["first"].to_numpy()
            numbers = np.cumsum(begins) - 1
            n_rows = int(begins.sum())
            answered = np.unique(numbers[pc.is_valid(whole["answer"]).to_numpy()])
            read.rejects.update({"row_without_text": raw.n_rows - n_rows})
            read.shapes.update(whole["shape"].filter(whole["first"]).to_pylist())
            read.notes.update({"answer_empty": n_rows - len(answered)})
            placed = whole.append_column("row", pa.array(numbers + read.n_rows, pa.int64()))
            read.n_rows += n_rows
            bounds = [*np.flatnonzero(begins)[::_BATCH_ROWS].tolist(), whole.num_rows]
            for start, stop in itertools.pairwise(bounds):
                for batch in placed.slice(start, stop - start).combine_chunks().to_batches():
                    yield batch, raw.done_bytes
        read.empty_columns = sorted(theirs for ours, theirs in sources.items() if theirs in names and not filled[ours])
        read.rejects, read.notes = +read.rejects, +read.notes

    def _sources_of(self, names: Sequence[str], *, closed: bool) -> dict[str, str]:
        """Ours -> theirs; where the file is not `closed`, a key may first appear after the sample."""
        mapped = {ours: theirs for theirs, ours in self._mapping.items() if theirs in names or not closed}
        plain = {name: name for name in COLUMNS if name not in mapped and (name in names or not closed)}
        return mapped | plain

    def _why(self) -> str:
        reasons: Counter[str] = Counter()
        for read in self.files:
            reasons.update(read.rejects)
        named = [f"{reason} {n}" for reason, n in sorted(reasons.items())]
        named += [f"{read.path}: {read.unreadable}" for read in self.files[:3] if read.unreadable]
        return "; ".join(named) or "no rows"


def _names(file: LogFile) -> tuple[str, ...]:
    readers = {"parquet": parquet.columns, "jsonl": jsonl.columns, "csv": delimited.columns}
    return readers[file.format](file).names


def _raws(file: LogFile, sources: Mapping[str, str]) -> Iterator[Raw]:
    if file.format == "parquet":
        return parquet.read(file, sources, window=_EVERYTHING, threads=1)
    return delimited.read(file, sources) if file.format == "csv" else jsonl.read(file, sources)


def _n_filled(cells: Any) -> int:
    """Values that are neither null nor empty."""
    if isinstance(cells, list):
        return sum(value not in (None, "", []) for value in cells)
    return len(cells) - int(cells.null_count)


def _straight(file: LogFile, folder: Path, read: FileRead) -> LogFile:
    """The file itself, or its rows as UTF-8 in `folder`, where it is marked UTF-16 or UTF-32 or one JSON document."""
    if file.format == "parquet" or not file.n_bytes:
        return file
    with file.path.open("rb") as raw:
        encoding = "" if file.packing else marked(raw.read(4))
    if encoding:
        read.notes["file_utf32" if encoding.startswith("utf-32") else "file_utf16"] += 1
        file = _transcoded(file, folder, encoding)
    depth = _array_depth(file) if file.format == "jsonl" else 0
    if not depth:
        return file
    unroller, target = Unroller(depth=depth), folder / "unrolled.jsonl"
    with Stream(file) as stream, target.open("wb") as lines:
        for piece in stream.pieces():
            lines.write(unroller.feed(piece))
        if stream.cut:
            read.rejects["truncated_file"] += 1
    if not target.stat().st_size:
        raise InputError("a JSON document without a row")
    return replace(file, path=target, packing="", n_bytes=target.stat().st_size)


def _transcoded(file: LogFile, folder: Path, encoding: str) -> LogFile:
    target = folder / f"utf8{file.path.suffix}"
    with (
        file.path.open("r", encoding=encoding, errors="replace", newline="") as source,
        target.open("w", encoding="utf-8", errors="replace", newline="") as utf8,
    ):
        source.read(1)
        while piece := source.read(1 << 20):
            utf8.write(piece)
    return replace(file, path=target, n_bytes=target.stat().st_size)


def _array_depth(file: LogFile) -> int:
    """How deep the array of rows lies in a file that is one JSON document; 0 where it is lines, or no JSON at all."""
    with Stream(file) as stream:
        head = next(stream.pieces(), b"")[:_HEAD_BYTES].lstrip()
    if head.startswith(b"["):
        return 1
    below = _BELOW_A_KEY.match(head)
    if below is None or below[1].decode("utf-8", "replace") in COLUMNS:
        return 0
    line, _, more = head.partition(b"\n")
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        return 2
    return 0 if more.strip() or not set(first).isdisjoint(COLUMNS) else 2
