"""docs/simulate.md against the code, its commands and examples run as written."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stillwatch.cli.main import app
from stillwatch.sim.campaign import Campaign
from stillwatch.sim.scenarios import HARD_NEGATIVES, load_scenario, shipped
from stillwatch.sim.world import cast

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "simulate.md").read_text("utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def first_column(mark: str) -> list[str]:
    """The names in the first column of the table below a mark."""
    rows = PAGE.partition(f"<!-- {mark} -->\n")[2].split("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip().strip("`") for row in rows]


def test_tables_are_those_of_the_code() -> None:
    """Every scenario, every key of a campaign and every look-alike is listed, and no other."""
    assert first_column("scenarios") == list(shipped())
    assert first_column("campaign keys") == [field.name for field in fields(Campaign)]
    assert first_column("look-alikes") == list(HARD_NEGATIVES)


@pytest.mark.parametrize("command", block("sh").splitlines())
def test_commands_run_as_written(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the page ends well and leaves a world where it says."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    if "--out" in words:
        made = {path.name for path in (tmp_path / words[words.index("--out") + 1]).iterdir()}
        assert made == {"exchanges", "accounts.parquet", "truth.parquet", "allowlist.txt", "world.json"}


def test_the_example_scenario_can_be_cast(tmp_path: Path) -> None:
    """The TOML of the page is a scenario with the accounts it names."""
    path = tmp_path / "mine.toml"
    path.write_text(block("toml"), "utf-8")
    assert len(cast(load_scenario(path), seed=1)) == 900 + 50 + 40 + 60


def test_the_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of the page writes the worlds it names."""
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})  # noqa: S102 - the page's own example
    assert {path.name for path in tmp_path.iterdir()} == {*(f"tier-{tier}" for tier in range(4)), "small", "hackathon"}
