"""Where an installation keeps its state, and what it finds there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stillwatch.home import Home
from stillwatch.keys import KEY_VARIABLE


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STILLWATCH_HOME": "/srv/sw", "XDG_DATA_HOME": "/data", "HOME": "/home/u"}, "/srv/sw"),
        ({"XDG_DATA_HOME": "/data", "HOME": "/home/u"}, "/data/stillwatch"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/u"}, "/home/u/.local/share/stillwatch"),
        ({"STILLWATCH_HOME": "", "XDG_DATA_HOME": "", "HOME": "/home/u"}, "/home/u/.local/share/stillwatch"),
    ],
)
def test_the_state_folder_follows_the_environment(environ: dict[str, str], expected: str) -> None:
    """Our own variable, then the XDG one if absolute, then the default."""
    assert Home.of(environ).folder == Path(expected)


def test_the_process_names_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment it is this process's; key and journal lie in the folder it names."""
    monkeypatch.setenv("STILLWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    home = Home.of()
    home.journal.append("review", {}, datetime(2026, 1, 1, tzinfo=UTC))
    assert home.root_key().secret == Home.of({"STILLWATCH_HOME": str(tmp_path / "home")}).root_key().secret
    assert sorted(path.name for path in (tmp_path / "home").iterdir() if path.name in ("keys", "journal")) == [
        "journal",
        "keys",
    ]


def test_a_key_in_the_environment_comes_before_the_folder(tmp_path: Path) -> None:
    """The environment an installation was found in may hold its key; nothing is then made in its folder."""
    home = Home.of({"STILLWATCH_HOME": str(tmp_path), KEY_VARIABLE: "ab" * 32})
    assert home.root_key().secret.reveal() == bytes.fromhex("ab" * 32)
    assert not list(tmp_path.iterdir())
