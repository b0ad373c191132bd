"""Running the command line: in this process where only words matter, in one of its own where the process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from stillwatch.cli.main import main


class Ran(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def ran_here(capsys: pytest.CaptureFixture[str], *words: object) -> Ran:
    """Run a command in this process."""
    capsys.readouterr()
    with _argv(["stillwatch", *map(str, words)]):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Ran(code, *capsys.readouterr())


def ran_apart(*words: object, cwd: Path) -> Ran:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "stillwatch", *map(str, words)],
        capture_output=True,
        check=False,
        cwd=cwd,
        env=dict(os.environ),
        text=True,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@contextmanager
def _argv(argv: list[str]) -> Iterator[None]:
    """Other words on the command line; the process's handling of signals comes back afterwards."""
    before, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = argv
    try:
        yield
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
