from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from stillwatch.cli.main import app
from stillwatch.sim.scenarios import shipped

run = CliRunner().invoke


def test_a_world_is_written_where_asked(tmp_path: Path) -> None:
    """Exchanges, accounts and the truth lie in the folder, and the truth is outside the logs."""
    out = tmp_path / "world"
    done = run(app, ["simulate", "small-provider", "--seed", "4", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert pq.read_table(out / "exchanges").num_rows == told["n_exchanges"]
    assert pq.read_table(out / "accounts.parquet").num_rows == told["n_accounts"] == 50
    assert pq.read_table(out / "truth.parquet").column_names == ["account_id", "population", "campaign"]
    assert not Path(told["truth"]).is_relative_to(told["exchanges"])
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_the_list_names_every_scenario() -> None:
    """`--list` prints what is shipped, one a line."""
    done = run(app, ["simulate", "--list"])
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(shipped())


def test_show_writes_nothing(tmp_path: Path) -> None:
    """`--show` says what a scenario is made of and leaves no folder."""
    out = tmp_path / "world"
    done = run(app, ["simulate", "empty", "--show", "--json", "--out", str(out)])
    blocks = {block["block"]: block for block in json.loads(done.stdout)["blocks"]}
    assert blocks["consumer"]["n_accounts"] == 1500 and blocks["consumer"]["follows"]
    assert not out.exists()


def test_a_wrong_name_is_one_line_and_exit_2(tmp_path: Path) -> None:
    """An unknown scenario, none at all, or a folder of somebody else's is refused with what to do."""
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    for words in (["nothing"], [], ["demo", "--out", str(tmp_path)], ["demo", "--threads", "0"]):
        done = run(app, ["simulate", *words])
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("stillwatch: ")
    assert (tmp_path / "mine.txt").read_text("utf-8") == "mine"
