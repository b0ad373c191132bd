from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.journal import Journal
from tests.cli.running import ran_here
from tests.needs import needs_module
from tests.policy.making import EXAMPLE
from tests.policy.mmdb import write_mmdb
from tests.policy.test_compiling import write_findings

PLAIN = EXAMPLE.replace('mmdb = "geo.mmdb"\n', "").replace('countries = ["XX"]\n', "")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a policy, findings and a log, and a state folder."""
    monkeypatch.setenv("STILLWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.toml").write_text(PLAIN, "utf-8")
    (tmp_path / "restricted.txt").write_text("# Names\nExample Trading\n", "utf-8")
    write_findings(tmp_path / "findings")
    rows = [
        {"account_id": who, "ts": datetime(2026, 6, 1, hour, tzinfo=UTC), "model": "small-1", "output_tokens": 100}
        for hour in range(5)
        for who in ("ann", "zoe")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    return tmp_path


def test_check_says_what_each_level_may_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every level with its models and budgets, in words and in JSON."""
    ran = ran_here(capsys, "policy", "check", "gate.toml")
    assert ran.code == 0
    assert "10,000 tokens per account in 3,600 s, 2,000 at once" in ran.out
    said = json.loads(ran_here(capsys, "policy", "check", "gate.toml", "--json").out)
    assert list(said["levels"]) == sorted(["none", "email", "phone", "payment", "organisation"])
    assert said["on_failure"] == "deny"


def test_check_says_what_an_account_is_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of reasoning: by level, by what the gate decides, by verdict, or by name; a word nobody knows is refused."""
    words = """
[reasoning]
levels = { none = "merge" }
actions = { slow = "summarise" }
verdicts = { shared_access = "withhold" }
[[reasoning.accounts]]
org_id = "lab"
show = "keep"
"""
    (place / "gate.toml").write_text(PLAIN + words, "utf-8")
    ran = ran_here(capsys, "policy", "check", "gate.toml", "--account", "ann")
    assert "  reasoning     merge" in ran.out and "  organisation lab: keep" in ran.out
    assert "account ann\n  allow         merge, by level:none\n" in ran.out
    assert "  slow          summarise, by action:slow\n" in ran.out

    def shown(*more: str) -> set[str]:
        ran = ran_here(capsys, "policy", "check", "gate.toml", "--json", "--account", "ann", *more)
        return {one["show"] for one in json.loads(ran.out)["account"]["reasoning"].values()}

    assert shown("--verdict", "shared_access") == {"withhold"}
    assert shown("--verdict", "shared_access", "--level", "organisation") == {"merge", "summarise"}
    assert shown("--verdict", "shared_access", "--org", "lab") == {"keep"}
    for wrong in (("--level", "king"), ("--verdict", "lead")):
        ran = ran_here(capsys, "policy", "check", "gate.toml", "--account", "ann", *wrong)
        assert ran.code == 2 and wrong[0] in ran.err and ran.err.count("\n") == 1


def test_check_refuses_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the file, the key and the nearest word."""
    (place / "gate.toml").write_text(PLAIN.replace("on_failure", "on_failre"), "utf-8")
    ran = ran_here(capsys, "policy", "check", "gate.toml")
    assert ran.code == 2
    assert "gate.toml" in ran.err
    assert "Did you mean on_failure?" in ran.err
    assert ran.err.count("\n") == 1


def test_check_reads_the_files_that_a_policy_names(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what they hold, also from another folder: paths begin at the policy's."""
    (place / "elsewhere").mkdir()
    os.chdir(place / "elsewhere")
    ran = ran_here(capsys, "policy", "check", "../gate.toml")
    assert ran.code == 0 and "[screening] lists: ../restricted.txt, 1 name\n" in ran.out
    said = json.loads(ran_here(capsys, "policy", "check", "../gate.toml", "--json").out)
    assert said["files"] == ["[screening] lists: ../restricted.txt, 1 name"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"), ("a folder", "Is a directory"), (b"", "holds no name"),
        (b"# only a comment\n\n", "holds no name"), (b"\xff\xfeX\x00", "is not UTF-8"),
    ],
)  # fmt: skip
def test_check_refuses_a_list_that_cannot_be_read(
    place: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, says: str
) -> None:
    """One line: the key, the path, what is wrong, and what to do. Screening says the same."""
    path = place / "restricted.txt"
    path.unlink()
    if content == "a folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    (place / "organisations.csv").write_text("org_id,name\no1,x\n", "utf-8")
    for words in (("check", "gate.toml"), ("screen", "organisations.csv", "--policy", "gate.toml")):
        ran = ran_here(capsys, "policy", *words)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "gate.toml: [screening] lists names restricted.txt, which" in ran.err and says in ran.err
        assert "Put the file there" in ran.err or "Bring the list" in ran.err


@pytest.mark.services
@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_check_refuses_a_database_that_cannot_be_read(
    place: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    """As the gate would, at its start."""
    needs_module("geo", "maxminddb")
    (place / "gate.toml").write_text(EXAMPLE, "utf-8")
    if content is not None:
        (place / "geo.mmdb").write_bytes(content)
    ran = ran_here(capsys, "policy", "check", "gate.toml")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "gate.toml: [networks] mmdb names geo.mmdb, which cannot be read" in ran.err
    write_mmdb(place / "geo.mmdb", {"192.0.2.0/24": "XX"})
    assert ran_here(capsys, "policy", "check", "gate.toml").code == 0


def test_compile_then_simulate(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found is compiled, and the replay says whom it would hit and how many known good."""
    ran = ran_here(capsys, "policy", "compile", "findings", "--policy", "gate.toml", "--json")
    assert (ran.code, json.loads(ran.out)["n_accounts"]) == (0, 3)
    words = ("policy", "simulate", "log.parquet", "--policy", "gate.toml", "--snapshot", "gate.snapshot")
    said = json.loads(ran_here(capsys, *words, "--json").out)
    assert said["n_calls"] == 10
    assert said["groups"]["named"]["n_accounts_refused"] == 1
    assert said["groups"]["unnamed"]["n_accounts_refused"] == 0
    shown = ran_here(capsys, *words).out
    assert "Known good (licensed, verified or in no finding): 0 of 1" in shown


def test_a_lineage_file_is_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Campaigns of one lineage are one; a file that is no map is refused."""
    (place / "lineages.json").write_text('{"c1": "L", "c2": "L"}', "utf-8")
    words = ("policy", "compile", "findings", "--json", "--lineages", "lineages.json")
    assert json.loads(ran_here(capsys, *words).out)["n_lineages"] == 1
    for bad in ("[]", "{", '{"c1": 2}', "[" * 99_999):
        (place / "lineages.json").write_text(bad, "utf-8")
        assert ran_here(capsys, *words).code == 2


def test_recorded_lineages_are_taken(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the scan knew both campaigns as one lineage, they are one."""
    run = json.loads((place / "findings" / "run.json").read_text("utf-8"))
    same = {"lineage_id": "L", "status": "same", "since": "2026-05-01T00:00:00+00:00", "absorbed": [], "split_from": []}
    run["lineages"] = {"campaigns": [same | {"campaign_id": one, "review": None} for one in ("c1", "c2")], "gone": []}
    (place / "findings" / "run.json").write_text(json.dumps(run), "utf-8")
    ran = ran_here(capsys, "policy", "compile", "findings", "--json")
    assert json.loads(ran.out)["n_lineages"] == 1


def test_a_dismissal_that_the_scan_recorded_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where this home's registry does not know the scan, run.json says who was dismissed, if it still held."""
    for holds, n_dismissed in ((True, 1), (False, 0)):
        run = json.loads((place / "findings" / "run.json").read_text("utf-8"))
        said = {"verdict": "dismiss", "why": "x", "at": "2026-05-01", "campaign_id": "c1", "holds": holds}
        kept = {"status": "new", "since": "2026-05-01T00:00:00+00:00", "absorbed": [], "split_from": []}
        run["lineages"] = {"campaigns": [kept | {"campaign_id": "c1", "lineage_id": "L", "review": said}], "gone": []}
        (place / "findings" / "run.json").write_text(json.dumps(run), "utf-8")
        ran = ran_here(capsys, "policy", "compile", "findings", "--json")
        assert json.loads(ran.out)["n_dismissed"] == n_dismissed
        assert not (place / "home" / "registry.sqlite").exists()


def test_an_appeal_takes_an_account_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An overturned account is not in the next snapshot; upheld later, it is again."""
    journal = Journal(place / "home" / "journal")
    body = {"decision_id": "d1", "account_id": "ann", "action": "deny", "appeal_id": "a1"}
    journal.append("decision", body, datetime(2026, 6, 1, tzinfo=UTC))
    ran = ran_here(capsys, "appeal", "a1", "overturn", "--why", "A class.")
    assert (ran.code, ran.out.startswith("ann: overturned.")) == (0, True)
    compiled = ("policy", "compile", "findings", "--policy", "gate.toml", "--json")
    assert json.loads(ran_here(capsys, *compiled).out)["n_accounts"] == 2
    upheld = ran_here(capsys, "appeal", "a1", "uphold", "--why", "No class.", "--json")
    assert json.loads(upheld.out)["outcome"] == "uphold"
    assert json.loads(ran_here(capsys, *compiled).out)["n_accounts"] == 3
    assert ran_here(capsys, "appeal", "a1", "forgive", "--why", "x").code == 2
    assert ran_here(capsys, "appeal", "nobody", "uphold", "--why", "x").code == 2


def test_screening_queues_for_a_person(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that resemble a listed one wait until somebody answers."""
    (place / "restricted.txt").write_text("Zaphod Trading Company\n", "utf-8")
    (place / "organisations.csv").write_text('org_id,name\no1,"ZAPHOD TRADING, Ltd."\no2,Bakery\n', "utf-8")
    said = json.loads(ran_here(capsys, "policy", "screen", "organisations.csv", "--policy", "gate.toml", "--json").out)
    assert [row["org_id"] for row in said["queued"]] == ["o1"]
    assert "1 wait for a person" in ran_here(capsys, "policy", "review").out
    assert ran_here(capsys, "policy", "review", "o1", "cleared", "--why", "Another one.").code == 0
    assert json.loads(ran_here(capsys, "policy", "review", "--json").out) == {"waiting": []}
    assert ran_here(capsys, "policy", "review", "o1").code == 2
    (place / "organisations.csv").write_text("id,name\no1,x\n", "utf-8")
    assert ran_here(capsys, "policy", "screen", "organisations.csv", "--policy", "gate.toml").code == 2
