"""guarding: the journal's whole past, checked while the gate runs: at its start, and what is added once a minute.

A journal that was tampered with makes the gate fail, as the policy's `on_failure` says, until it is started anew.
"""

from __future__ import annotations

import logging
import threading
import time

from stillwatch.checked import CheckedJournal
from stillwatch.errors import JournalError
from stillwatch.gate.ledger import Ledger

_LOG = logging.getLogger("stillwatch")

START_S = 2.0
"""How long a start waits for the check; a longer one goes on in the background."""

LOOK_EVERY_S = 60.0


class Guard:
    """Checks a journal in a thread, and has the ledger fail where it is broken.

    Raises:
        JournalError: it is found broken within `start_s` seconds.
    """

    def __init__(
        self, journal: CheckedJournal, ledger: Ledger, *, every_s: float = LOOK_EVERY_S, start_s: float = START_S
    ) -> None:
        self._journal, self._ledger, self._every_s = journal, ledger, every_s
        ledger.journal = "checking"
        self._error: JournalError | None = None
        self._stop, self._is_known = threading.Event(), threading.Event()
        threading.Thread(target=self._watch, name="stillwatch-journal", daemon=True).start()
        self._is_known.wait(start_s)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Check no more."""
        self._stop.set()

    def _watch(self) -> None:
        check = self._journal.check
        while True:
            try:
                check(self._turn)
                check, self._ledger.journal = self._journal.look, "whole"
            except _Stopped:
                return
            except JournalError as error:
                self._fails(error)
            self._is_known.set()
            if self._error is not None or self._stop.wait(self._every_s):
                return

    def _fails(self, error: JournalError) -> None:
        if isinstance(error.__cause__, OSError):
            # It could not be read, which says nothing of what is in it; what is added fails by itself.
            _LOG.warning("The journal is not checked: %s", error)
            return
        _LOG.error("The gate fails from now on: %s", error)
        self._error = error
        self._ledger.fail(str(error))

    def _turn(self) -> None:
        if self._stop.is_set():
            raise _Stopped
        # A call would wait milliseconds for the interpreter otherwise.
        time.sleep(0)


class _Stopped(Exception):
    """The gate was closed in the middle of a check."""
