"""source: the seam where logs come in, and the files that open it.

    source = open_logs(["logs/"], mapping={"uid": "account_id"}, now=now)
    for batch in source.batches(columns=["account_id", "ts", "prompt"]): ...
    source.rejects(), source.describe()

Every row of every file is delivered, outside the window, or rejected under a name: the three add up to the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.ingest.abreast import Pass, Progress, side_by_side
from stillwatch.ingest.conform import DERIVED, Tally, Window
from stillwatch.ingest.discover import find_files
from stillwatch.ingest.files import OpenFile, link, mapped, open_file, read_file
from stillwatch.ingest.filtered import FilteredReader, can_filter
from stillwatch.ingest.fingerprint import Fingerprints
from stillwatch.ingest.importer import Importer
from stillwatch.ingest.names import EXCHANGE_ALIASES, check_mapping, listing
from stillwatch.ingest.times import as_us
from stillwatch.records import ACCOUNTS, EXCHANGES, REQUIRED_EXCHANGE_COLUMNS

_AHEAD = timedelta(days=1)
"""How far ahead of the clock an instant may lie before it is rejected."""

_MAPPABLE = list(dict.fromkeys([*EXCHANGES.names, *ACCOUNTS.names]))
"""What `--map` may name: one mapping serves the logs and the accounts file."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of the manifest. `n_rows`, rejected rows included, and `first_row` are None until they are known."""

    path: str
    sha256: str
    n_bytes: int
    n_rows: int | None
    first_row: int | None


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """What a Source holds: canonical columns present and absent, guesses (theirs -> ours), columns not understood.

    A column that was read and never held a value counts as absent.
    """

    columns: tuple[str, ...]
    absent: tuple[str, ...]
    guesses: Mapping[str, str]
    unknown: tuple[str, ...]
    files: tuple[FileFacts, ...]
    skipped: tuple[str, ...]


class Source(Protocol):
    """Logs in: canonical batches out, with an account of every row that is not in them."""

    def describe(self) -> SourceDescription:
        """The files, with their hashes, and the columns; row counts are complete once `batches` was read to its end."""
        ...

    def batches(
        self,
        *,
        columns: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Batches of exactly `columns` (all where None) with since <= ts < until; a column the logs lack is null.

        Types are those of `records.EXCHANGES`, where texts may come as a dictionary. They may come in any order.
        """
        ...

    def prompts(
        self,
        *,
        accounts: pa.Array,
        since: datetime | None = None,
        until: datetime | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Batches of `account_id` and `prompt` that hold every row of `accounts` in the window; others may be there."""
        ...

    def rejects(self) -> dict[str, int]:
        """Rows that were not delivered, by reason."""
        ...

    def notes(self) -> dict[str, int]:
        """What was delivered, but not as it stood in the logs, by reason; and `outside_window`, `empty_file`."""
        ...


def open_logs(
    paths: Sequence[str | Path],
    *,
    mapping: Mapping[str, str] | None = None,
    now: datetime,
    threads: int = 1,
    has_accounts: bool = False,
) -> LogSource:
    """Open logs: files, folders and patterns, of any mixture of formats and columns, each read once.

    `mapping` (theirs -> ours) settles what names mean; `now` is the clock by which instants lie in the future;
    with `threads` above 1, parts of Parquet files are read side by side and their batches come in any order.
    `has_accounts` says that an accounts file is read under the same mapping, so that it may name columns of that file.
    Opening reads footers and the first lines only.
    Raises InputError where nothing can be read, a file lacks a required column, or two columns claim one name.
    """
    mapping = mapping or {}
    check_mapping(mapping, canonical=_MAPPABLE)
    files, skipped = find_files(paths)
    opened: list[OpenFile] = []
    empty: list[str] = []
    for file in files:
        entry = open_file(
            file,
            mapping=mapping,
            schema=EXCHANGES,
            required=REQUIRED_EXCHANGE_COLUMNS,
            aliases=EXCHANGE_ALIASES,
        )
        if entry is None:
            empty.append(file.name)
        else:
            _check_exchanges(entry)
            opened.append(entry)
    if not opened:
        raise InputError(f"{', '.join(empty[:3])}: no rows at all", got="only empty files", do="Check the path")
    _check_used(mapping, opened, has_accounts=has_accounts)
    opened = link(mapped(opened, mapping))
    return LogSource(opened, skipped=skipped, empty=empty, latest=as_us(now + _AHEAD), threads=threads)


def _check_exchanges(entry: OpenFile) -> None:
    """Raise InputError for an accounts file among the logs: its sign-ups would pass for exchanges."""
    guessed = entry.names.guesses.get("created_at") == "ts" and set(entry.names.sources) == {"account_id", "ts"}
    telling = sorted(set(entry.columns.names) & set(ACCOUNTS.names) - {"account_id", "created_at"})
    if guessed and telling:
        raise InputError(
            f"{entry.file.name} holds accounts, not exchanges",
            got=listing(telling),
            do="Give it with --accounts, and name the logs so that it is not among them",
        )


def _check_used(mapping: Mapping[str, str], opened: Sequence[OpenFile], *, has_accounts: bool) -> None:
    """Raise InputError for a mapped column no file has, unless it may be meant for the accounts file."""
    found = {name for entry in opened for name in entry.columns.names}
    for theirs, ours in mapping.items():
        is_theirs = ours in ACCOUNTS.names and (has_accounts or ours not in EXCHANGES.names)
        if theirs not in found and not is_theirs:
            raise InputError(f"--map {theirs}={ours}: no file has a column {theirs}", got=listing(sorted(found)))


class LogSource:
    """Log files as a Source. Reading again is allowed; counts are those of the fullest reading."""

    def __init__(
        self, opened: Sequence[OpenFile], *, skipped: Sequence[str], empty: Sequence[str], latest: int, threads: int
    ) -> None:
        self._opened, self._skipped, self._latest, self._threads = opened, tuple(skipped), latest, threads
        self._fingerprints = Fingerprints([entry.file for entry in opened])
        self._n_rows: list[int | None] = [entry.columns.n_rows for entry in opened]
        self._read: set[str] = set()
        self._tallies = [Tally(notes=Counter({"empty_file": len(empty)} if empty else {}))]

    def describe(self) -> SourceDescription:
        """See Source; waits for the hashes of the files."""
        hashes = self._fingerprints.wait()
        files, first = [], 0 if self._opened else None
        for entry, n_rows in zip(self._opened, self._n_rows, strict=True):
            file = entry.file
            files.append(FileFacts(file.name, hashes[file.path], file.n_bytes, n_rows, first))
            first = None if first is None or n_rows is None else first + n_rows
        filled = {name for tally in self._tallies for name in tally.filled}
        declared = {name for entry in self._opened for name in entry.names.sources} | self._derived()
        present = tuple(name for name in EXCHANGES.names if name in filled | (declared - self._read))
        guesses = {theirs: ours for entry in self._opened for theirs, ours in entry.names.guesses.items()}
        return SourceDescription(
            columns=present,
            absent=tuple(name for name in EXCHANGES.names if name not in present),
            guesses=dict(sorted(guesses.items())),
            unknown=tuple(sorted({name for entry in self._opened for name in entry.names.unknown})),
            files=tuple(files),
            skipped=self._skipped,
        )

    def batches(
        self,
        *,
        columns: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Source; memory is a few batches."""
        wanted = _in_order(EXCHANGES.names if columns is None else columns)
        window = Window(
            since=as_us(since) if since else None, until=as_us(until) if until else None, latest=self._latest
        )
        self._fingerprints.start()
        reading = Pass(self._opened, columns=wanted, window=window, on_progress=on_progress)
        self._tallies.append(reading.tally)
        yield from reading.batches(threads=self._threads)
        self._n_rows = list(reading.n_rows)
        self._read |= set(wanted)

    def prompts(
        self,
        *,
        accounts: pa.Array,
        since: datetime | None = None,
        until: datetime | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Source; filtered while reading where DuckDB can, and read whole where it cannot."""
        total = sum(entry.file.n_bytes for entry in self._opened)
        filtered = [entry for entry in self._opened if can_filter(entry.file, entry.names.sources)]
        whole, done = [entry for entry in self._opened if entry not in filtered], [0]
        files = iter(filtered)

        def prompts_of_files() -> Iterator[pa.RecordBatch]:
            """The prompts of the next file, and the next, until none is left."""
            with closing(FilteredReader(accounts)) as reader:
                for entry in files:
                    try:
                        yield from reader.read(entry.file, entry.names.sources)
                    except duckdb.Error:
                        whole.append(entry)
                        continue
                    done.append(entry.file.n_bytes)
                    if on_progress:
                        on_progress(sum(done), total)

        yield from side_by_side([prompts_of_files() for _ in range(self._threads)])
        rest = LogSource(whole, skipped=(), empty=(), latest=self._latest, threads=self._threads)
        yield from rest.batches(columns=["account_id", "prompt"], since=since, until=until, on_progress=on_progress)

    def parts(self) -> list[LogSource]:
        """One source for each file, in the order in which they are to be read."""
        return [
            LogSource([entry], skipped=(), empty=(), latest=self._latest, threads=self._threads)
            for entry in self._opened
        ]

    def importers(self) -> dict[str, Importer]:
        """The importers that read these files, by name; none for files whose columns are read as they are called."""
        return {entry.importer.name: entry.importer for entry in self._opened if entry.importer}

    def remember(self) -> None:
        """Take note of the request ids, as a reading does, where rows of other files wait for them."""
        for entry in self._opened:
            if entry.join is not None:
                for _ in read_file(
                    entry, ["ts"], window=Window(since=None, until=None, latest=0), threads=self._threads
                ):
                    pass

    def rejects(self) -> dict[str, int]:
        """See Source."""
        return self._fullest([tally.rejects for tally in self._tallies])

    def notes(self) -> dict[str, int]:
        """See Source."""
        outside = [Counter(outside_window=tally.n_outside) for tally in self._tallies if tally.n_outside]
        return self._fullest([*(tally.notes for tally in self._tallies), *outside])

    @staticmethod
    def _fullest(counts: Sequence[Counter[str]]) -> dict[str, int]:
        """Each reason's largest count: reading the same rows again does not lose them again."""
        most: Counter[str] = Counter()
        for count in counts:
            most |= count
        return dict(sorted(most.items()))

    def _derived(self) -> set[str]:
        return set(DERIVED) if any("messages" in entry.names.sources for entry in self._opened) else set()


def _in_order(columns: Sequence[str]) -> list[str]:
    unknown = [name for name in columns if name not in EXCHANGES.names]
    if unknown:
        raise InputError(f"{unknown[0]} is no canonical column", expected=", ".join(EXCHANGES.names))
    return [name for name in EXCHANGES.names if name in set(columns)]
