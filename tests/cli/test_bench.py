from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.sim.planting import PREFIX
from stillwatch.sim.world import Played, play
from tests.cli.running import ran_here
from tests.worlds import SEED, scenario, tree


@pytest.fixture(scope="module")
def quiet() -> Played:
    """A crowd without a campaign."""
    return play(scenario(campaign=False), seed=SEED)


@pytest.fixture
def place(quiet: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The crowd's logs and accounts, the key's home, and a temporary folder that can be looked into."""
    pq.write_table(quiet.exchanges, tmp_path / "logs.parquet")
    pq.write_table(quiet.accounts, tmp_path / "accounts.parquet")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("STILLWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What `stillwatch bench ... --json` says."""
    ran = ran_here(capsys, "bench", *words, "--json")
    assert ran.code == 0, ran.err
    said: dict[str, Any] = json.loads(ran.out)
    return said


def test_a_plain_campaign_is_found_and_counted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A large campaign that hides nothing is named, nobody planted is taken for one of theirs, and no file is left."""
    before = tree(place)
    said = told(capsys, "logs.parquet", "--accounts", "accounts.parquet", "--size", 150, "--tier", 0)
    (one,) = said["planted"]
    assert (one["size"], one["tier"]) == (150, 0)
    assert 0.9 * one["planted"] <= one["named"] <= one["planted"] <= 150
    assert one["verdicts"]["campaign"] == 1
    assert not [account for account in one["own_named"] if account.startswith(PREFIX)]
    assert said["accounts"] == len(set(pq.read_table("logs.parquet")["account_id"].to_pylist()))
    left = {name: data for name, data in tree(place).items() if not name.startswith("home/")}
    assert left == before


def test_every_size_meets_every_tier(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each pair, in order, and the words on the terminal say as much."""
    words = ("logs.parquet", "--size", 12, "--size", 20, "--tier", 1, "--tier", 3)
    said = told(capsys, *words)
    assert [(one["size"], one["tier"]) for one in said["planted"]] == [(12, 1), (12, 3), (20, 1), (20, 3)]
    shown = ran_here(capsys, "bench", *words)
    assert shown.code == 0 and "named of them" in shown.out and "simulated" in shown.out


def test_other_names_of_columns(place: Path, quiet: Played, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs that call a session an account are planted in those words, and the session column is no second account."""
    rows = quiet.exchanges.select(["account_id", "ts", "prompt"]).rename_columns(["session_id", "when", "asked"])
    pq.write_table(rows, place / "traces.parquet")
    maps = [word for pair in ("session_id=account_id", "when=ts", "asked=prompt") for word in ("--map", pair)]
    said = told(capsys, "traces.parquet", *maps, "--size", 15, "--tier", 0)
    assert said["planted"][0]["planted"] == 15


def test_their_ids_are_not_terminal_codes(place: Path, quiet: Played, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids with control characters never reach the terminal raw."""
    ids = pa.array([f"\x1b[31m{one}" for one in quiet.exchanges["account_id"].to_pylist()])
    rows = quiet.exchanges.set_column(quiet.exchanges.column_names.index("account_id"), "account_id", ids)
    pq.write_table(rows, place / "hostile.parquet")
    ran = ran_here(capsys, "bench", "hostile.parquet", "--size", 60, "--tier", 0)
    assert ran.code == 0 and "\x1b[31m" not in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ("--size", 1),
        ("--tier", 4),
        ("--like", "nobody"),
        ("--cover", 2),
        ("--exchanges", 0),
        ("--like", "relay", "--seed", -1),
    ],
)
def test_impossible_wishes_are_one_line(
    words: tuple[object, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be planted is refused with 2 and one line, and nothing is left behind."""
    ran = ran_here(capsys, "bench", "logs.parquet", *words)
    assert ran.code == 2 and ran.err.startswith("stillwatch: ") and ran.err.count("\n") == 1
    assert not list((place / "tmp").iterdir())
