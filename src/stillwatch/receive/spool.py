"""spool: the exchange log on disk: canonical rows as JSON lines, in files of a bounded size, 0600 in a folder 0700."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.errors import InputError
from stillwatch.ingest.formats.exchangelog import MARK, VERSION
from stillwatch.receive.sketch import sketched

LARGEST_BYTES = 256 << 20
"""A file is closed and the next begun beyond this size."""


class Spool:
    """Appends exchanges to `folder`; safe to share between threads.

    Args:
        key: the 32 bytes that sketches are keyed with; None keeps the texts as they are.
        name: what the files begin with; each process that writes needs its own.
        is_durable: whether `append` waits until the rows are on disk.
    """

    def __init__(
        self, folder: Path, *, key: bytes | None, name: str, is_durable: bool = True, largest_bytes: int = LARGEST_BYTES
    ) -> None:
        self._folder, self._key, self._name = folder, key, name
        self._is_durable, self._largest = is_durable, largest_bytes
        self._lock = threading.Lock()
        self._file = -1
        self._size = 0
        try:
            for place in (folder.parent, folder):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}", got=error.strerror, do="Name another folder") from error

    def append(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write rows and return their number; all of them lie in one file, whole.

        Raises InputError where the disk does not take them; none of them then counts as written.
        """
        lines, n_rows = [], 0
        for row in rows:
            given = {name: _plain(value) for name, value in row.items() if value is not None and value is not False}
            lines.append(
                msgspec.json.encode({MARK: VERSION} | (given if self._key is None else sketched(given, self._key)))
            )
            n_rows += 1
        if not lines:
            return 0
        text = b"\n".join(lines) + b"\n"
        with self._lock:
            try:
                self._write(text)
            except OSError as error:
                self._end()  # whatever is left of these rows shall not run into the next
                raise InputError("the exchange log cannot be written", got=error.strerror, do="Free space") from error
        return n_rows

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, text: bytes) -> None:
        if self._size + len(text) > self._largest:
            self._end()
        if self._file < 0:
            self._open()
        done = os.write(self._file, text)
        if done != len(text):
            os.ftruncate(self._file, self._size)
            raise OSError(28, "no space left")
        self._size += done
        if self._is_durable:
            os.fsync(self._file)

    def _open(self) -> None:
        for number in range(1_000_000):
            path = self._folder / f"{self._name}-{number:06d}.jsonl"
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            self._size = 0
            if self._is_durable:
                folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)  # without it a crash may take the name of the file, and so its rows
                finally:
                    os.close(folder)
            return
        raise OSError(17, "too many files in the folder")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
