"""fingerprint: SHA-256 of files, worked out beside the reading of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from stillwatch.errors import InputError
from stillwatch.ingest.discover import LogFile, printable


class Fingerprints:
    """The SHA-256 of each file, in hex, computed once by one background thread."""

    def __init__(self, files: Sequence[LogFile]) -> None:
        self._paths = [file.path for file in files]
        self._found: dict[Path, str] = {}
        self._failed: OSError | None = None
        # A daemon: an interrupted scan must not wait for hashes nobody will read.
        self._thread = Thread(target=self._work, name="stillwatch-fingerprints", daemon=True)

    def start(self) -> None:
        """Begin, unless begun."""
        if self._thread.ident is None:
            self._thread.start()

    def wait(self) -> dict[Path, str]:
        """All hashes; raises InputError where a file could not be read any more."""
        self.start()
        self._thread.join()
        if self._failed is not None:
            name = printable(self._failed.filename or "a file")
            raise InputError(f"{name} changed or vanished while it was read", do="Scan logs that are no longer written")
        return self._found

    def _work(self) -> None:
        try:
            for path in self._paths:
                with path.open("rb") as file:
                    self._found[path] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            self._failed = error
