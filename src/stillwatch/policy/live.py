"""live: a file that is read again when it changes, and stays what it was where the new one cannot be used."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from stillwatch.errors import StillwatchError

T = TypeVar("T")
_Seen = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the file found."""

    changed: bool
    """A new value is in force from now on."""
    error: str | None
    """Why the file as it stands is not in force; the value before it still is. None where it is."""


class Live(Generic[T]):
    """The value of a file, swapped as a whole. `current` may be read from any thread at any time.

    A file put in place by rename is taken at the next look. One written in place is taken once two looks in a row saw
    it unchanged, so that half of it is never taken for all.
    """

    def __init__(self, path: Path, load: Callable[[Path], T]) -> None:
        """Read the file a first time. Raises what `load` raises: nothing is in force without a first good file."""
        self.path = path
        self._load = load
        self._lock = threading.Lock()
        self._taken = self._pending = _seen(path)
        self._error: str | None = None
        self.current: T = load(path)

    def look(self) -> Look:
        """See whether the file changed. Cost: one stat where it did not; call it every second or so."""
        with self._lock:
            now = _seen(self.path)
            if now is None:
                self._error, self._taken = f"{self.path} is gone", None
                return Look(False, self._error)
            renamed = self._taken is None or now[:2] != self._taken[:2]
            settled = now == self._pending
            self._pending = now
            if now == self._taken or not (renamed or settled):
                return Look(False, self._error)
            return self._take(now)

    def _take(self, now: _Seen) -> Look:
        try:
            value = self._load(self.path)
        except StillwatchError as error:
            self._taken, self._error = now, str(error)
            return Look(False, self._error)
        if _seen(self.path) != now:
            # It changed while it was read.
            return Look(False, self._error)
        self.current, self._taken, self._error = value, now, None
        return Look(True, None)


def _seen(path: Path) -> _Seen | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
