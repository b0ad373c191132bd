"""scan: what the verb takes, what it writes, what it says and how it ends."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.records import FINDINGS
from stillwatch.sim.world import Played, World
from tests.cli.running import Ran, ran_apart
from tests.worlds import crew_of, tree, written

Run = Callable[..., Ran]


pytestmark = pytest.mark.usefixtures("known_key")


@pytest.fixture
def log(loud: Played, tmp_path: Path) -> Path:
    """A log of two hundred exchanges: nothing in it to find."""
    return written(loud.exchanges.slice(0, 200), tmp_path / "log.parquet")


def one_line(ran: Ran) -> str:
    """The single line of a refusal: on standard error alone, and not a traceback."""
    assert ran.code == 2
    assert ran.out == ""
    line, _, rest = ran.err.partition("\n")
    assert rest == "" and line.startswith("stillwatch: ") and line.isprintable()
    assert "Traceback" not in line and "Error(" not in line
    return line


def test_no_campaign_is_no_failure(run: Run, log: Path) -> None:
    """Nothing found ends with 0, also when a campaign would have been a failure."""
    assert run("scan", log).code == 0
    assert run("scan", log, "--fail-on", "campaign").code == 0


def test_a_campaign_is_a_failure_where_asked(run: Run, loud_world: World, tmp_path: Path) -> None:
    """A campaign ends with 3 under --fail-on campaign, after everything was written."""
    found = run("scan", loud_world.exchanges, "--accounts", loud_world.accounts, "--fail-on", "campaign")
    assert found.code == 3
    assert pq.read_metadata(tmp_path / "findings" / "campaigns.parquet").num_rows == 1
    assert "1 campaign" in found.out


def test_an_allowlist_excuses(run: Run, loud: Played, loud_world: World, tmp_path: Path) -> None:
    """Ids on plain lines are not reported, and not a failure."""
    (tmp_path / "licensed.txt").write_text("# under contract\n" + "\n".join(sorted(crew_of(loud))) + "\n")
    asked = ["scan", loud_world.exchanges, "--accounts", loud_world.accounts, "--allowlist", "licensed.txt"]
    ran = run(*asked, "--fail-on", "campaign", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["counts"]["licensed_accounts"] == len(crew_of(loud))


def test_json_is_all_there_is_on_standard_output(loud_world: World, tmp_path: Path) -> None:
    """--json prints one JSON document that agrees with the files and nothing else; a campaign by itself ends with 0."""
    ran = ran_apart(
        "scan", loud_world.exchanges, "--accounts", loud_world.accounts, "--json", "--out", "here", cwd=tmp_path
    )
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    campaigns = pq.read_table(tmp_path / "here" / "campaigns.parquet")
    assert [row["campaign_id"] for row in said["campaigns"]] == campaigns["campaign_id"].to_pylist()
    assert set(said["campaigns"][0]) == set(campaigns.column_names)
    assert len(said["leads"]) == pq.read_metadata(tmp_path / "here" / "leads.parquet").num_rows
    run_json = json.loads((tmp_path / "here" / "run.json").read_text())
    assert said["counts"] == run_json["counts"] and said["rejects"] == run_json["rejects"]
    assert said["channels"] == run_json["channels"]
    assert (tmp_path / said["report"]).is_file() and said["out"] == "here"


def test_a_person_is_told_where_the_report_is(run: Run, log: Path, tmp_path: Path) -> None:
    """Without --json the summary names the report, and standard error stays empty off a terminal."""
    ran = run("scan", log)
    assert "findings/report.html" in ran.out and ran.err == ""
    assert (tmp_path / "findings" / "report.html").is_file()


@pytest.mark.parametrize("before", ["absent", "deep", "empty"])
def test_the_folder_is_private_whatever_the_mask(run: Run, log: Path, tmp_path: Path, before: str) -> None:
    """The findings folder has mode 0700 and its files 0600, new, nested, or in place of an open empty folder."""
    out = tmp_path / ("a/b/out" if before == "deep" else "out")
    if before == "empty":
        out.mkdir(mode=0o755)
    assert run("scan", log, "--out", out).code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.parquet" for name in FINDINGS),
        "run.json",
        "report.html",
    }


def test_a_window_is_half_open(run: Run, loud: Played, log: Path) -> None:
    """--since is inside, --until is not, and a time without a zone is UTC."""
    ts = pq.read_table(log)["ts"].to_pylist()
    since, until = ts[50], ts[150]
    asked = ["scan", log, "--json", "--since", since.replace(tzinfo=None).isoformat(), "--until", until.isoformat()]
    assert json.loads(run(*asked).out)["counts"]["rows_kept"] == sum(since <= at < until for at in ts)


def test_columns_can_be_named(run: Run, loud: Played, tmp_path: Path) -> None:
    """--map reads a foreign column as ours, several of them, and run.json keeps the names."""
    rows = loud.exchanges.slice(0, 100).rename_columns(
        {"account_id": "wer", "ts": "wann"} | {name: name for name in loud.exchanges.column_names[2:]}
    )
    log = written(rows, tmp_path / "foreign.parquet")
    assert "--map" in one_line(run("scan", log))
    assert run("scan", log, "--map", "wer=account_id", "--map", "wann=ts").code == 0
    mapped = json.loads((tmp_path / "findings" / "run.json").read_text())["input"]["mapping"]
    assert mapped == {"wer": "account_id", "wann": "ts"}


def corrupt(path: Path) -> Path:
    """A file that begins like Parquet and is none."""
    path.write_bytes(b"PAR1" + b"\x07" * 200 + b"PAR1")
    return path


def cut(path: Path, table: pa.Table) -> Path:
    """A Parquet file without its last hundred bytes."""
    written(table, path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def linked(folder: Path) -> Path:
    """A folder that holds a link to a file that is not there."""
    folder.mkdir()
    (folder / "gone.parquet").symlink_to(folder / "nowhere")
    return folder


REFUSED: dict[str, tuple[Callable[[Path], list[Any]], str]] = {
    "no such path": (lambda at: [at / "nowhere"], "nowhere"),
    "no match": (lambda at: [at / "*.parquet.none"], "parquet.none"),
    "empty folder": (lambda at: [made(at / "void")], "void"),
    "corrupt parquet": (lambda at: [corrupt(at / "bad.parquet")], "bad.parquet"),
    "cut parquet": (lambda at: [cut(at / "cut.parquet", pq.read_table(at / "log.parquet"))], "cut.parquet"),
    "missing columns": (lambda at: [written(pa.table({"x": [1]}), at / "x.parquet")], "account_id and ts"),
    "no rows": (lambda at: [written(pq.read_table(at / "log.parquet").slice(0, 0), at / "none.parquet")], "no"),
    "map without =": (lambda at: [at / "log.parquet", "--map", "user"], "theirs=ours"),
    "map to nothing": (lambda at: [at / "log.parquet", "--map", "prompt=shoe_size"], "shoe_size"),
    "map from nothing": (lambda at: [at / "log.parquet", "--map", "nobody=prompt"], "nobody"),
    "map twice": (lambda at: [at / "log.parquet", "--map", "ip=prompt", "--map", "ip=model"], "twice"),
    "since": (lambda at: [at / "log.parquet", "--since", "yesterday"], "'yesterday'"),
    "since before time": (lambda at: [at / "log.parquet", "--since", "0001-01-01T00:00+23:00"], "--since"),
    "until after time": (lambda at: [at / "log.parquet", "--until", "9999-12-31T23:59-10:00"], "--until"),
    "link to nothing": (lambda at: [linked(at / "links")], "link to nothing"),
    "until": (lambda at: [at / "log.parquet", "--until", "2026-13-01"], "--until"),
    "empty window": (lambda at: [at / "log.parquet", "--since", "2031-01-01"], "--since"),
    "unknown engine": (lambda at: [at / "log.parquet", "--engine", "abacus"], "'abacus'"),
    "unknown failure": (lambda at: [at / "log.parquet", "--fail-on", "lead"], "'lead'"),
    "no threads": (lambda at: [at / "log.parquet", "--threads", "0"], "threads"),
    "no such settings": (lambda at: [at / "log.parquet", "--config", at / "none.toml"], "none.toml"),
    "bad settings": (
        lambda at: [at / "log.parquet", "--config", text(at / "s.toml", "[scan]\nthraeds = 2")],
        "threads",
    ),
    "no such accounts": (lambda at: [at / "log.parquet", "--accounts", at / "none.csv"], "none.csv"),
    "corrupt accounts": (lambda at: [at / "log.parquet", "--accounts", corrupt(at / "acc.parquet")], "acc.parquet"),
    "no such allowlist": (lambda at: [at / "log.parquet", "--allowlist", at / "none.toml"], "none.toml"),
    "bad allowlist": (lambda at: [at / "log.parquet", "--allowlist", text(at / "l.toml", "[[licensed]]\n")], "l.toml"),
    "no such key": (lambda at: [at / "log.parquet", "--key-file", at / "none"], "none"),
    "open key": (lambda at: [at / "log.parquet", "--key-file", keyed(at / "key", 32, 0o644)], "0600"),
    "short key": (lambda at: [at / "log.parquet", "--key-file", keyed(at / "key", 31, 0o600)], "31 bytes"),
    "key folder": (lambda at: [at / "log.parquet", "--key-file", made(at / "void")], "void"),
}
"""What is asked of `scan`, and a word that the refusal must hold."""


def made(path: Path) -> Path:
    """A new folder."""
    path.mkdir()
    return path


def text(path: Path, content: str) -> Path:
    """A text file."""
    path.write_text(content)
    return path


def keyed(path: Path, n_bytes: int, mode: int) -> Path:
    """A key file."""
    path.write_bytes(bytes(range(1, n_bytes + 1)))
    path.chmod(mode)
    return path


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line(run: Run, log: Path, tmp_path: Path, what: str) -> None:
    """Bad input ends with 2 and one line that names what is wrong; no findings folder appears."""
    ask, word = REFUSED[what]
    assert word in one_line(run("scan", *ask(tmp_path)))
    assert not (tmp_path / "findings").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_bad_input_leaves_earlier_findings_alone(run: Run, log: Path, tmp_path: Path) -> None:
    """A scan that fails does not touch the findings of the one before."""
    assert run("scan", log).code == 0
    before = tree(tmp_path / "findings")
    one_line(run("scan", corrupt(tmp_path / "bad.parquet")))
    assert tree(tmp_path / "findings") == before


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u202eb", "a\x00b", "\udcffa"])
def test_a_hostile_name_cannot_steer_the_terminal(run: Run, tmp_path: Path, name: str) -> None:
    """A path with control characters is refused in one printable line."""
    one_line(run("scan", f"{tmp_path}/{name}"))


@pytest.mark.parametrize("holding", ["notes.txt", ".hidden", "campaigns.parquet", "sub/notes.txt"])
def test_a_folder_of_somebody_else_is_not_touched(run: Run, log: Path, tmp_path: Path, holding: str) -> None:
    """--out at a folder that no scan wrote is refused, and everything in it and beside it stays."""
    mine = tmp_path / "mine"
    (mine / holding).parent.mkdir(parents=True)
    (mine / holding).write_text("important")
    before = tree(tmp_path)
    assert "mine" in one_line(run("scan", log, "--out", mine))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", ['{"experiment": 7}', "not json", "[]"])
def test_a_run_json_of_somebody_else_is_not_ours(run: Run, log: Path, tmp_path: Path, content: str) -> None:
    """A folder with a run.json that no scan wrote is somebody's work, and is not replaced."""
    mine = made(tmp_path / "mine")
    (mine / "run.json").write_text(content)
    (mine / "thesis.txt").write_text("important")
    before = tree(tmp_path)
    one_line(run("scan", log, "--out", mine))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_out_must_be_a_folder(run: Run, log: Path, tmp_path: Path, kind: str) -> None:
    """--out at a file or through a link is refused, and what it names stays."""
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("important")
    else:
        made(tmp_path / "elsewhere")
        target.symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    one_line(run("scan", log, "--out", target))
    assert tree(tmp_path) == before and target.is_symlink() == (kind == "link")


def test_settings_are_read_where_the_command_runs(run: Run, log: Path, tmp_path: Path) -> None:
    """stillwatch.toml of the working folder counts, and a mistake in it is refused in one line."""
    (tmp_path / "stillwatch.toml").write_text("[scan]\nn_min_population = 7\n")
    assert run("scan", log).code == 0
    assert json.loads((tmp_path / "findings/run.json").read_text())["settings"]["scan"]["n_min_population"] == 7
    (tmp_path / "stillwatch.toml").write_text("[scan]\nn_min_population = 'few'\n")
    assert "n_min_population" in one_line(run("scan", log))


def test_the_key_is_made_once(
    run: Run, log: Path, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key from elsewhere the first scan makes the root key, 0600, and the next uses it."""
    monkeypatch.delenv("STILLWATCH_KEY")
    ids = []
    for _ in range(2):
        assert run("scan", log).code == 0
        ids.append(json.loads((tmp_path / "findings/run.json").read_text())["key_ids"])
    key = own_home / "keys" / "root"
    assert ids[0] == ids[1] and stat.S_IMODE(key.stat().st_mode) == 0o600 and key.stat().st_size == 32


def test_a_process_ends_as_the_function_does(log: Path, tmp_path: Path) -> None:
    """In a process of its own: 0 and a summary, 2 and one line, and the version without loading anything heavy."""
    fine = ran_apart("scan", log, cwd=tmp_path)
    assert fine.code == 0 and fine.err == ""
    one_line(ran_apart("scan", "nowhere", cwd=tmp_path))
    assert re.fullmatch(r"stillwatch \d+\.\d+\.\d+\S*\n", ran_apart("--version", cwd=tmp_path).out)
