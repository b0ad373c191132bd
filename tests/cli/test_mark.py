"""mark: what the verb takes, what it says, what it writes into the journal, and how it ends."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stillwatch.cli.mark import write_secret
from stillwatch.journal import Journal
from stillwatch.keys import RootKey
from stillwatch.records import EVIDENCE
from stillwatch.watermark.keys import KeyRing
from stillwatch.watermark.schemes import Scheme
from stillwatch.watermark.tickets import open_ticket
from tests.cli.running import Ran, ran_here
from tests.watermark import making

Run = Callable[..., Ran]
SPLIT = "provider=0.5,account=0.5"


@pytest.fixture
def home() -> Path:
    return Path(os.environ["STILLWATCH_HOME"])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Run:
    """The command line beside a marked text, an unmarked one and a list of accounts."""
    monkeypatch.chdir(tmp_path)
    ring = KeyRing(RootKey.load(home), journal=Journal(tmp_path / "elsewhere"))
    mark = making.mark(ring, Scheme(split=(("provider", 0.5), ("account", 0.5))))
    for name, texts in (("marked", making.written(mark, seed=1)), ("plain", making.written(None, seed=2))):
        np.save(tmp_path / f"{name}.npy", np.stack([one.tokens for one in texts]))
    (tmp_path / "accounts.txt").write_text("ann\nbob\nann\n\n")
    return lambda *words: ran_here(capsys, "mark", *words)


def kinds(home: Path) -> list[str]:
    return [entry.kind for entry in Journal(home / "journal").entries()]


def test_a_mark_is_found_and_told(run: Run) -> None:
    """The marked text is found with its p-value, decoys and effect; the unmarked one is not."""
    ran = run("detect", "marked.npy", "plain.npy", "--split", SPLIT, "--fail-on", "found")
    assert ran.code == 3 and ran.out.startswith("1 of 2 tests found a mark.")
    assert "FOUND  provider key" in ran.out and "NOT FOUND  provider key" in ran.out
    assert "0 of 1,000 unused keys score as high" in ran.out
    assert ran.out.count("enough to be found") == 1
    marked, plain = (line for line in ran.out.splitlines() if "● this key" in line)
    assert marked.index("●") > plain.index("●") and "█" in marked and "█" in plain
    ran = run("detect", "plain.npy", "--split", SPLIT, "--fail-on", "found")
    assert ran.code == 0 and ran.out.startswith("No mark found in 1 tests.")


def test_accounts_are_named_only_where_asked(run: Run, home: Path) -> None:
    """By default a found account is a key id; naming it is an option and a line of the journal."""
    words = ("detect", "marked.npy", "--split", SPLIT, "--accounts", "accounts.txt", "--because", "case 12")
    quiet = run(*words)
    assert "ann" not in quiet.out.replace("scanned", "") and kinds(home) == ["mark_keys"] * 3
    named = run(*words, "--name-accounts")
    assert "ann" in named.out and "bob" not in named.out
    assert kinds(home) == ["mark_keys"] * 6 + ["reveal"]
    entry = list(Journal(home / "journal").entries())[3]
    assert entry.body["because"] == "case 12" and entry.body["keys"] == {"account": 2, "provider": 1}


def test_json_and_evidence_agree(run: Run, tmp_path: Path) -> None:
    """The JSON holds every test; the Parquet file is Evidence, closed to others."""
    ran = run(
        "detect", "marked.npy", "--base", "plain.npy", "--split", SPLIT, "--accounts", "accounts.txt", "--json",
        "--out", "deep/e.parquet", "--about", "model",
    )  # fmt: skip
    said = json.loads(ran.out)
    table = pq.read_table(tmp_path / "deep/e.parquet")
    assert table.schema.equals(EVIDENCE) and stat.S_IMODE((tmp_path / "deep/e.parquet").stat().st_mode) == 0o600
    assert table["p_log10"].to_pylist() == [one["p_log10"] for one in said["findings"]]
    provider, *accounts = said["findings"]
    assert provider["verdict"] == "found" and {one["verdict"] for one in accounts} == {"found", "not found"}
    assert said["n_tests"] == 3 and all(one["beyond_base_p_log10"] is not None for one in said["findings"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["e.parquet"]


def test_a_short_text_says_so(run: Run, tmp_path: Path) -> None:
    """A text of too few tokens is no finding and no crash."""
    np.save(tmp_path / "short.npy", np.array([1]))
    assert "too short" in run("detect", "short.npy").out


def test_a_ticket_opens_with_the_seal(run: Run, tmp_path: Path) -> None:
    """The seal key that is written opens the ticket that is printed, and the mark is what was asked for."""
    assert run("keys", "--seal", "s.key").code == 0
    assert stat.S_IMODE((tmp_path / "s.key").stat().st_mode) == 0o600
    (tmp_path / "policy.md").write_text("Accounts under review.")
    ran = run(
        "ticket", "--account", "ann", "--policy", "policy.md", "--split", SPLIT, "--scheme", "kgw", "--delta", "3"
    )
    mark = open_ticket(ran.out.strip(), RootKey.load(tmp_path, key_file=tmp_path / "s.key").secret)
    assert (mark.scheme.name, mark.scheme.delta, sorted(mark.keys)) == ("kgw", 3.0, ["account", "provider"])


def test_findings_go_to_any_name(run: Run, tmp_path: Path) -> None:
    """Also to one that is not UTF-8; an earlier file is replaced whole, and nothing else is left."""
    (tmp_path / "out").mkdir()
    for _ in range(2):
        assert run("detect", "marked.npy", "--split", SPLIT, "--out", "out/a\udcff").code == 0
    assert [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()] == [b"a\xff"]


def test_a_key_that_does_not_fit_on_the_disk_is_not_left_behind(tmp_path: Path) -> None:
    """Half a seal key neither stays nor stands in the way of the next attempt."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError):
            write_secret(tmp_path / "s.key", "0" * 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_an_epoch_cannot_move_the_cursor(run: Run) -> None:
    """What is shown of a name is one line."""
    assert run("keys", "--epoch", "a\n\x1b[2Kb").out.count("\n") == 1


def test_key_ids_are_shown_and_keys_are_not(run: Run) -> None:
    """Another epoch has another key; the id is the same in words and in JSON."""
    first, second = run("keys"), run("keys", "--epoch", "2")
    shown = json.loads(run("keys", "--json").out)
    assert shown["key_id"] in first.out and shown["key_id"] not in second.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("detect", "absent.npy"), "absent.npy is not there"),
        (("detect", "marked.npy", "--scheme", "synthid"), "no scheme"),
        (("detect", "marked.npy", "--width", "4"), "no such window"),
        (("detect", "marked.npy", "--split", "provider=0.5"), "add up to 1"),
        (("detect", "marked.npy", "--accounts", "accounts.txt"), "marks no windows by account"),
        (("detect", "marked.npy", "--accounts", "absent.txt", "--split", SPLIT), "absent.txt cannot be read"),
        (("detect", "marked.npy", "--fail-on", "x"), "--fail-on"),
        (("detect", "marked.npy", "--about", "x"), "--about"),
        (("detect", "marked.npy", "--alpha", "2"), "--alpha"),
        (("detect", "marked.npy", "--tokenizer", "absent.json"), "tokenizer"),
        (("ticket", "--account", "ann", "--split", SPLIT), "is off"),
        (("ticket", "--account", "ann"), "disagree"),
        (("ticket", "--split", SPLIT, "--policy", "p"), "disagree"),
        (("ticket", "--account", "ann", "--split", SPLIT, "--policy", "p"), "policy p cannot be read"),
        (("ticket", "--account", "", "--split", SPLIT, "--policy", "accounts.txt"), "account is blank"),
        (("ticket", "--account", "a\udcff", "--split", SPLIT, "--policy", "accounts.txt"), "account is not UTF-8"),
        (("ticket", "--epoch", "\udcff"), "epoch is not UTF-8"),
        (("detect", "marked.npy", "--epoch", " "), "epoch is blank"),
        (("keys", "--seal", "marked.npy"), "File exists"),
        (("detect", "marked.npy", "--out", "."), "--out . is no file"),
        (("detect", "marked.npy", "--out", ""), "--out . is no file"),
        (("detect", "marked.npy", "--out", "/dev/null"), "--out /dev/null is no file"),
    ],
)
def test_bad_input_is_one_line(run: Run, words: tuple[str, ...], says: str) -> None:
    """What cannot be done ends with 2 and one line that says what is wrong."""
    ran = run(*words)
    assert ran.code == 2 and ran.out == ""
    assert says in ran.err and ran.err.count("\n") == 1
