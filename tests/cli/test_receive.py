"""`stillwatch receive`: it does not listen without a token; what it does with one is in receive/test_real.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import ran_here
from tests.needs import needs_module


@pytest.mark.parametrize(
    ("token", "says"),
    [(None, "Make one: head"), ("", "Make one: head"), ("short", "expected 16 or more")],
)
def test_no_token_no_listener(
    token: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token that nobody guesses it ends with one line that says how to make one, before it listens."""
    needs_module("receive", "uvicorn")
    if token is not None:
        monkeypatch.setenv("STILLWATCH_RECEIVE_TOKEN", token)
    done = ran_here(capsys, "receive", "--out", tmp_path / "received", "--port", 1)
    assert done.code == 2 and says in done.err


def test_a_token_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token file that cannot be read is named."""
    done = ran_here(capsys, "receive", "--out", tmp_path / "received", "--token-file", tmp_path / "nothing")
    assert done.code == 2 and "nothing" in done.err
