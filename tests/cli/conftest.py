"""What tests of scanning verbs share: a key that is always the same, and a folder to run in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Ran, ran_here
from tests.worlds import KEY


@pytest.fixture
def known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key decides which hubs form a group and which test it, so it is the same at every run."""
    monkeypatch.setenv("STILLWATCH_KEY", KEY.secret.reveal().hex())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The command line, run in this process and in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: ran_here(capsys, *words)
