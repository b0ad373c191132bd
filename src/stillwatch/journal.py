"""journal: the one hash-chained, append-only record of what was done and decided.

Each line is canonical JSON in ASCII and holds the SHA-256 of the line before it, so a line cannot be changed, moved or
taken out without breaking every later one. What a chain alone cannot show is that its end was cut off or that all of
it was written anew; for that, keep a receipt (what `append` returns) elsewhere and hand it to `verify`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillwatch.errors import JournalError

FORMAT = 1
START = "0" * 64
"""What the first line holds as the hash of the line before it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal, its place in the chain checked."""

    n: int
    ts: datetime
    kind: str
    body: dict[str, Any]
    prev: str
    sha256: str


class Journal:
    """A journal in one file (mode 0600), which any number of processes may append to at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, body: Mapping[str, Any], ts: datetime) -> str:
        """Add a line and return its receipt: its SHA-256, in hex. It is on disk when the call returns.

        Args:
            kind: what happened, such as `reveal` or `decision`.
            body: JSON values only; no raw text and no secret belongs here.
            ts: when it happened, with a time zone.

        Raises:
            JournalError: the body is not JSON, the last line is torn, or the file cannot be written.

        Cost: reads the last line only; one fsync.
        """
        return self.append_all([(kind, body, ts)])[0]

    def append_all(self, rows: Iterable[tuple[str, Mapping[str, Any], datetime]]) -> list[str]:
        """Add a line for each (kind, body, ts), all of them or none, and return their receipts.

        Raises:
            JournalError: as `append`; then no line was added.

        Cost: as one `append`, and the lines.
        """
        with self._locked(os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as descriptor:
            size = os.fstat(descriptor).st_size
            last = self._last_line(descriptor, size)
            n, prev = (last.n, last.sha256) if last else (0, START)
            lines, receipts = [], []
            for n_line, (kind, body, ts) in enumerate(rows, start=n + 1):
                if ts.tzinfo is None:
                    raise JournalError("a journal entry needs a time with a zone", got=ts.isoformat())
                record = {"v": FORMAT, "n": n_line, "ts": ts.astimezone(UTC).isoformat(), "kind": kind}
                lines.append(_encode(record | {"body": dict(body), "prev": prev}))
                prev = hashlib.sha256(lines[-1]).hexdigest()
                receipts.append(prev)
            written = b"".join(line + b"\n" for line in lines)
            try:
                if os.write(descriptor, written) != len(written):
                    raise JournalError(f"the journal {self.path} could not be written whole", do="Is the disk full?")
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, size)
                raise
        return receipts

    @property
    def is_absent(self) -> bool:
        """Whether nothing was ever written."""
        return not self.path.exists()

    def entries(self, *, kinds: Collection[str] | None = None) -> Iterator[Entry]:
        """Read the lines that stood in the journal when the call began, each one's place in the chain checked.

        Args:
            kinds: give only lines of these kinds; None gives all.

        Raises:
            JournalError: the first line that is torn, changed, moved or missing, by its number.
        """
        for entry, _ in self._lines(0, 0, START):
            if kinds is None or entry.kind in kinds:
                yield entry

    def _lines(self, at: int, n: int, prev: str) -> Iterator[tuple[Entry, bytes]]:
        """The lines from a byte on, before which `n` stand, the last of them with the hash `prev`; with their bytes."""
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
            size = os.fstat(descriptor).st_size
        if size < at:
            raise self._broken(f"line {n}", "what came after it was cut off")
        with self.path.open("rb") as file:
            file.seek(at)
            while at < size:
                n += 1
                line = file.readline(size - at)
                at += len(line)
                entry = self._read(line, where=f"line {n}")
                if (entry.n, entry.prev) != (n, prev):
                    raise self._broken(f"line {n}", "it does not follow the line before it")
                prev = entry.sha256
                yield entry, line

    def verify(self, *, receipts: Collection[str] = ()) -> int:
        """Check the whole chain and return its number of lines.

        Args:
            receipts: hashes of lines, kept elsewhere, that the journal must still hold.

        Raises:
            JournalError: the chain is broken, or a receipt's line is gone.
        """
        n, owed = 0, set(receipts)
        for entry in self.entries():
            n = entry.n
            owed.discard(entry.sha256)
        if owed:
            raise JournalError(
                f"the journal {self.path} was cut off or rewritten", got=f"no line for {len(owed)} receipts"
            )
        return n

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        try:
            if flags & os.O_CREAT:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be opened", got=error.strerror) from error
        try:
            fcntl.flock(descriptor, lock)
            yield descriptor
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be used", got=error.strerror) from error
        finally:
            os.close(descriptor)

    def _last_line(self, descriptor: int, size: int) -> Entry | None:
        tail, start = b"", size
        while start > 0 and b"\n" not in tail[:-1]:
            step = min(start, max(4096, len(tail)))
            start -= step
            tail = os.pread(descriptor, step, start) + tail
        return self._read(tail[tail[:-1].rfind(b"\n") + 1 :], where="the last line") if tail else None

    def _read(self, line: bytes, *, where: str) -> Entry:
        if not line.endswith(b"\n"):
            raise self._broken(where, "its end is missing")
        try:
            return _decode(line[:-1])
        except (ValueError, TypeError, RecursionError):
            raise self._broken(where, f"it is not an entry of format {FORMAT} in canonical JSON") from None

    def _broken(self, where: str, why: str) -> JournalError:
        do = "Keep the file as it is: it is evidence. Go on in a new journal."
        return JournalError(f"the journal {self.path} is broken at {where}: {why}", do=do)


def _encode(record: Mapping[str, Any]) -> bytes:
    """The one spelling of a record. What is written stays, so what could not be read again is refused here."""
    try:
        line = _canonical(record)
        if not _is_plain(record):
            _decode(line)
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(
            "a journal entry holds what JSON cannot", got=str(error), expected="text keys and plain values"
        ) from error
    return line


def _is_plain(record: Mapping[str, Any]) -> bool:
    """Whether a record that was spelled is sure to be read as it was: text keys, and nothing in its body has parts.

    Most are, and reading a line costs twice what writing it does.
    """
    body = record["body"]
    return (
        type(record["kind"]) is str and _TEXT.issuperset(map(type, body)) and _FLAT.issuperset(map(type, body.values()))
    )


def _decode(line: bytes) -> Entry:
    record = json.loads(line)
    # A second spelling, such as one with a doubled key, could be read in two ways.
    if not isinstance(record, dict) or _canonical(record) != line:
        raise ValueError("not an object in canonical JSON")
    types = {name: type(value) for name, value in record.items()}
    if types != _TYPES or record.pop("v") != FORMAT:
        raise TypeError("not the keys and types of an entry")
    record["ts"] = datetime.fromisoformat(record["ts"])
    return Entry(**record, sha256=hashlib.sha256(line).hexdigest())


_SPELL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def _canonical(record: object) -> bytes:
    return _SPELL(record).encode("ascii")


_TYPES = {"v": int, "n": int, "ts": str, "kind": str, "body": dict, "prev": str}
_TEXT, _FLAT = frozenset({str}), frozenset({str, int, float, bool, type(None)})
