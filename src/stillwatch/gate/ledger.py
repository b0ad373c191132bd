"""ledger: decisions on their way into the journal, in batches, so that no call waits for the disk.

The queue is bounded. Where it is full, or the last batch could not be written, `offer` says no, and the policy's
on-failure mode decides: a gate that cannot write down what it does is a gate that fails.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from stillwatch.errors import StillwatchError

Row = tuple[str, Mapping[str, Any], datetime]

MOST_WAITING = 20_000
MOST_AT_ONCE = 256
LINGER_S = 0.05
"""How long decisions wait for company, and how long after a failure until the disk is tried again."""


def _in_turn(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows, other threads let in now and then: a call would wait milliseconds for the interpreter otherwise."""
    for n, row in enumerate(rows):
        if n % 8 == 0:
            time.sleep(0)
        yield row


class Shelf(Protocol):
    """What the ledger writes to: a journal."""

    def append_all(self, rows: Iterable[Row]) -> Sequence[str]:
        """Write all rows, or raise and write none."""
        ...


class Ledger:
    """A bounded queue and the thread that empties it into a journal. Close it, or leave it by `with`, to flush.

    Args:
        shelf: the journal. most_waiting: decisions that may wait; about a kilobyte each.
    """

    def __init__(self, shelf: Shelf, *, most_waiting: int = MOST_WAITING) -> None:
        self._shelf, self._most = shelf, most_waiting
        self._waiting: deque[Row] = deque()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._failure: str | None = None
        self.n_written = 0
        self.n_lost = 0
        """Decisions that were offered and not taken."""
        self._thread = threading.Thread(target=self._write, name="stillwatch-ledger", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why the last batch was not written; None where it was."""
        return self._failure

    def offer(self, kind: str, body: Mapping[str, Any], ts: datetime) -> bool:
        """Take a row into the queue; False where it is full or nothing can be written. Never waits."""
        if self._closed.is_set() or len(self._waiting) >= self._most:
            self.n_lost += 1
            return False
        self._waiting.append((kind, body, ts))
        if not self._wake.is_set():
            self._wake.set()
        # After a failure the row stays, and is written if the disk comes back; the call cannot rely on it.
        return self._failure is None

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what waits, and stop."""
        self._closed.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self) -> None:
        while True:
            self._wake.wait()
            is_last = self._closed.wait(LINGER_S)
            self._wake.clear()
            went_well = self._empty()
            if is_last or (self._closed.is_set() and not self._waiting):
                if went_well:
                    self._empty()
                return
            if not went_well:
                self._wake.set()

    def _empty(self) -> bool:
        """Write all that waits; False where a batch was not written, which stays."""
        while self._waiting:
            rows = [self._waiting[n] for n in range(min(MOST_AT_ONCE, len(self._waiting)))]
            try:
                self._shelf.append_all(rows if self._closed.is_set() else _in_turn(rows))
            except (StillwatchError, OSError, ValueError, TypeError) as error:
                self._failure = f"{type(error).__name__}: {error}"
                return False
            for _ in rows:
                self._waiting.popleft()
            self._failure = None
            self.n_written += len(rows)
        self._failure = None
        return True
