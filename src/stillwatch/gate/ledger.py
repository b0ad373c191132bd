"""ledger: decisions on their way into the journal, in batches, so that no call waits for the disk.

The queue is bounded. Where it is full, or the last batch could not be written, `offer` says no, and the policy's
on-failure mode decides: a gate that cannot write down what it does is a gate that fails. Once `flush` was called, as it
is where a signal ends the process, every row is written before `offer` returns.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Row = tuple[str, Mapping[str, Any], datetime]
State = Literal["unchecked", "checking", "whole", "broken"]

MOST_WAITING = 20_000
MOST_AT_ONCE = 256
LINGER_S = 0.05
"""How long decisions wait for company, and how long after a failure until the disk is tried again."""

FLUSH_S = 10.0
"""How long `flush` waits for the disk."""


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
        # A signal may come in the middle of an offer and make one of its own: unlike an Event, this takes no lock that
        # the interrupted one might hold.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._closed = threading.Event()
        self._is_ending = False
        self._process = os.getpid()
        self._failure: str | None = None
        self._broken: str | None = None
        self.journal: State = "unchecked"
        """What a check of the journal's past came to."""
        self.n_written = 0
        self.n_lost = 0
        """Decisions that were offered and not taken."""
        self._thread = threading.Thread(target=self._write, name="stillwatch-ledger", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why the last batch was not written; None where it was."""
        return self._broken or self._failure

    def offer(self, kind: str, body: Mapping[str, Any], ts: datetime) -> bool:
        """Take a row into the queue; False where it is full or nothing can be written. Waits once it was flushed."""
        if os.getpid() != self._process:
            # Threads do not come along into a fork: nobody would write.
            self._failure = "the process was forked after its gate was opened; open one in each worker"
            self.n_lost += 1
            return False
        if self._broken or self._closed.is_set() or len(self._waiting) >= self._most:
            self.n_lost += 1
            return False
        self._waiting.append((kind, body, ts))
        self._ring()
        if self._is_ending:
            return self.flush()
        # After a failure the row stays, and is written if the disk comes back; the call cannot rely on it.
        return self._failure is None

    def fail(self, why: str) -> None:
        """Take and write nothing any more: the journal is broken, and stays as it is."""
        self._broken, self.journal = why, "broken"
        self.n_lost += len(self._waiting)

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until all that was offered is written, and from now on do so at every offer. False where it is not.

        A signal handler may call it.
        """
        self._is_ending = True
        self._ring()
        until = time.monotonic() + timeout_s
        while self._waiting and not self._broken and time.monotonic() < until:
            time.sleep(0.001)
        return not self._waiting

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what waits, and stop."""
        self._closed.set()
        self._ring()
        if os.getpid() == self._process:
            self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ring(self) -> None:
        if self._bell.empty():
            self._bell.put(None)

    def _write(self) -> None:
        while True:
            self._bell.get()
            is_last = self._closed.wait(0 if self._is_ending else LINGER_S)
            while not self._bell.empty():
                self._bell.get()
            went_well = self._empty()
            if is_last or self._broken or (self._closed.is_set() and not self._waiting):
                if went_well:
                    self._empty()
                return
            if not went_well:
                self._closed.wait(LINGER_S)
                self._ring()

    def _empty(self) -> bool:
        """Write all that waits; False where a batch was not written, which stays."""
        while self._waiting and not self._broken:
            rows = [self._waiting[n] for n in range(min(MOST_AT_ONCE, len(self._waiting)))]
            try:
                self._shelf.append_all(rows if self._closed.is_set() else _in_turn(rows))
            except Exception as error:
                self._failure = f"{type(error).__name__}: {error}"
                return False
            for _ in rows:
                self._waiting.popleft()
            self._failure = None
            self.n_written += len(rows)
        return not self._waiting
