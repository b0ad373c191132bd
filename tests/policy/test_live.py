from __future__ import annotations

from pathlib import Path

import pytest

from stillwatch.errors import PolicyError
from stillwatch.policy.live import Live
from stillwatch.policy.reading import load_policy
from tests.policy.making import EXAMPLE


def replace_file(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text, "utf-8")
    draft.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "gate.toml"
    file.write_text(EXAMPLE, "utf-8")
    return file


NEWER = EXAMPLE.replace('version = "2026-06-01"', 'version = "newer"')


def test_a_renamed_file_is_taken_at_once(path: Path) -> None:
    """The next look finds the new policy, and the one after nothing."""
    live = Live(path, load_policy)
    before = live.current
    assert not live.look().changed
    replace_file(path, NEWER)
    assert live.look().changed
    assert (before.version, live.current.version) == ("2026-06-01", "newer")
    assert not live.look().changed


def test_a_file_written_in_place_is_taken_when_it_rests(path: Path) -> None:
    """Half a file is never taken: the first look only sees that it moves."""
    live = Live(path, load_policy)
    path.write_text(NEWER + "#", "utf-8")
    assert not live.look().changed
    path.write_text(NEWER + "# more", "utf-8")
    assert not live.look().changed
    assert live.look().changed
    assert live.current.version == "newer"


def test_a_bad_file_keeps_the_old(path: Path) -> None:
    """What is wrong is said at every look until it is mended; the old policy stays in force."""
    live = Live(path, load_policy)
    replace_file(path, NEWER.replace("deny", "denied"))
    for _ in range(3):
        look = live.look()
        assert not look.changed
        assert "denied" in (look.error or "")
        assert live.current.version == "2026-06-01"
    replace_file(path, NEWER)
    assert live.look().error is None
    assert live.current.version == "newer"


def test_a_file_that_is_gone_keeps_the_old(path: Path) -> None:
    """A file taken away changes nothing, is said, and is taken when it is back."""
    live = Live(path, load_policy)
    path.unlink()
    assert "is gone" in (live.look().error or "")
    assert live.current.version == "2026-06-01"
    path.write_text(NEWER, "utf-8")
    assert live.look().changed


def test_nothing_is_in_force_without_a_good_first_file(tmp_path: Path) -> None:
    """There is no gate without a policy."""
    with pytest.raises(PolicyError):
        Live(tmp_path / "none.toml", load_policy)
