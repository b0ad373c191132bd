from __future__ import annotations

import json
import os
import re
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
import typer.main

from stillwatch.cli.main import app
from stillwatch.journal import Journal
from stillwatch.keys import RootKey
from stillwatch.watermark.keys import KeyRing
from stillwatch.watermark.schemes import Scheme
from tests.audit.making import answers, pairs, write_rows
from tests.cli.running import Ran, ran_here
from tests.needs import needs_module
from tests.test_docs import ROOT, blocks, table
from tests.watermark import making

OWN, THEIRS = answers(400, seed=1), answers(120, seed=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything the commands of the pages name."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "logs" / "may.jsonl", pairs(THEIRS[:60], start=900))
    write_rows(tmp_path / "june.jsonl", pairs(THEIRS[60:], start=990))
    write_rows(tmp_path / "data" / "train.jsonl", pairs(OWN + THEIRS[:8]))
    write_rows(tmp_path / "theirs.jsonl", pairs(THEIRS, start=900))
    write_rows(tmp_path / "others.jsonl", pairs(answers(1200, seed=3)))
    write_rows(tmp_path / "people.jsonl", pairs(answers(300, seed=4)))
    write_rows(tmp_path / "models.jsonl", pairs(answers(300, seed=5)))
    (tmp_path / "known.toml").write_text(blocks(ROOT / "docs" / "audit.md", "toml")[0], "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def commands(page: str) -> list[str]:
    return [line for block in blocks(ROOT / "docs" / page, "sh") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("page", ["audit.md", "registry.md", "canary.md"])
def test_the_commands_of_the_page_run_as_written(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command on the page, in its order, exits with 0."""
    if page == "audit.md":
        assert ran_here(capsys, "registry", "build", "logs", "--out", "answers.registry").code == 0
        assert ran_here(capsys, "canary", "issue", "spring").code == 0
    if page == "registry.md":
        for name in ("shard-1", "shard-2"):
            assert ran_here(capsys, "registry", "build", "june.jsonl", "--out", f"{name}.registry").code == 0
    for line in (line for line in commands(page) if "--marks" not in line):
        ran = ran_here(capsys, *shlex.split(line)[1:])
        assert ran.code == 0, (line, ran.err)


def test_marks_are_looked_for_as_the_page_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's command with --marks finds the provider's mark, journals that its key was asked for, names nobody."""
    tokenizers = needs_module("tokenizers", "tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{at}": at for at in range(5000)}, unk_token="w0"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save("tokenizer.json")
    root = RootKey.load(Path(os.environ["STILLWATCH_HOME"]))
    mark = making.mark(KeyRing(root, journal=Journal(place / "journal")), Scheme())
    texts = [" ".join(f"w{token}" for token in one.tokens) for one in making.written(mark, seed=1, n_texts=30)]
    write_rows(Path("data", "train.jsonl"), pairs(texts))
    (line,) = (line for line in commands("audit.md") if "--marks" in line)
    found = said(ran_here(capsys, *shlex.split(line)[1:], "--json"))
    (one,) = (one for one in found["findings"] if one["check"] == "marks")
    assert one["verdict"] == "finding" and one["detail"]["n_decoys"] == 1000 and one["detail"]["level"] == "provider"
    (evidence,) = (row for row in found["evidence"] if row["family"] == "marks")
    assert evidence["signal"] == "mark_gumbel" and evidence["subject_kind"] == "dataset"
    assert one["detail"]["key_id"] in Path("audit", "report.html").read_text("utf-8")
    shown = ran_here(capsys, *shlex.split(line)[1:])
    assert "marks" in shown.out and one["detail"]["key_id"] in shown.out
    journal = Path(os.environ["STILLWATCH_HOME"], "journal").read_text("utf-8")
    assert '"because":"audit"' in journal.replace(" ", "") and one["detail"]["key_id"] in journal


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["audit"], "audit"),
        (["canary", "issue"], "canary"),
        *((["registry", name], "registry") for name in ("build", "update", "info", "match")),
    ],
)
def test_option_tables_are_the_options(words: list[str], page: str) -> None:
    """Each page lists the options of its commands with their defaults, in the order of --help."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = vars(command)["commands"][word]
    options = [
        (found.opts[0], "" if found.default in (None, False, ()) or found.multiple else str(found.default))
        for found in command.params
        if found.param_type_name == "option" and found.opts[0] != "--help"
    ]
    assert [(row[0], row[1]) for row in table(f"docs/{page}.md", f"options: {' '.join(words)}")] == options
    assert re.search(r"Examples:", command.help)


def test_logs_of_a_gateway_make_a_registry(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A conversation that ends in a question is answered by the row's completion; prompts alone make no registry."""
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "Tell me more about it."}]
    write_rows(place / "gateway.jsonl", [{"messages": turns, "completion": text} for text in THEIRS])
    write_rows(place / "asked.jsonl", [{"messages": turns}] * 3)
    built = ("registry", "build", "--memory-mb", 1, "--json")
    assert said(ran_here(capsys, *built, "gateway.jsonl", "--out", "g.registry"))["n_answers"] == len(THEIRS)
    copied = write_rows(place / "copied.jsonl", [{"text": text} for text in THEIRS[:20]])
    assert said(ran_here(capsys, "registry", "match", "g.registry", copied, "--json"))["n_copied"] == 20
    refused = ran_here(capsys, *built, "asked.jsonl", "--out", "none.registry")
    assert refused.code == 2 and "no answer in these logs" in refused.err and not Path("none.registry").exists()


def test_a_registry_is_built_grown_merged_and_asked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two shards merged give the registry of all logs; it finds its answers in the data and tells none."""
    build = ("registry", "build", "--memory-mb", 1, "--json")
    said(ran_here(capsys, *build, "logs", "--out", "a.registry"))
    said(ran_here(capsys, *build, "june.jsonl", "--out", "b.registry"))
    said(ran_here(capsys, *build, "logs", "june.jsonl", "--out", "all.registry"))
    grown = said(ran_here(capsys, "registry", "update", "a.registry", "--merge", "b.registry", "--json"))
    assert grown["n_answers"] == 120
    assert Path("a.registry").read_bytes() == Path("all.registry").read_bytes()
    assert said(ran_here(capsys, "registry", "info", "a.registry", "--json"))["filter_bytes"] == 1 << 20
    ran = ran_here(capsys, "registry", "match", "a.registry", "data", "--control", "others.jsonl", "--json")
    match = said(ran)
    assert match["verdict"] == "finding" and match["n_copied"] == 8
    assert not any(word in ran.out for word in THEIRS[0].split() if len(word) > 5)


def test_an_audit_prints_a_table_or_json_and_writes_its_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both forms name the copies with both licences; the folder is private."""
    words = ("audit", "data", "--register", "known.toml", "--licence", "mit", "--out", "out")
    ran = ran_here(capsys, *words)
    assert ran.code == 0 and "finding" in ran.out and "CC-BY-NC-4.0" in " ".join(ran.out.split())
    found = said(ran_here(capsys, *words, "--json"))
    overlap = next(one for one in found["findings"] if one["check"] == "overlap")
    assert overlap["verdict"] == "finding" and overlap["detail"]["n_copied"] == 8
    assert overlap["detail"]["declared"] == "MIT" and overlap["detail"]["licence"] == "CC-BY-NC-4.0"
    assert stat.S_IMODE(Path("out").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["audit", "absent"], "nothing at absent"),
        (["audit", "data", "--out", "data"], "holds something else"),
        (["audit", "data", "--map", "x"], "--map is not understood"),
        (["audit", "data", "--registry", "known.toml"], "not a registry"),
        (["audit", "data", "--marks"], "marks need the tokenizer"),
        (["audit", "data", "--tokenizer", "known.toml"], "--marks"),
        (["registry", "info", "absent"], "cannot read the registry"),
        (["registry", "update", "absent"], "nothing to add"),
        (["registry", "build", "logs", "--out", "known.toml"], "is there already"),
        (["canary", "issue", "x", "--out", "known.toml"], "is there already"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    words: list[str], says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is said in one line, with exit 2, and nothing is written."""
    before = sorted(place.rglob("*"))
    ran = ran_here(capsys, *words)
    assert ran.code == 2 and says in ran.err and len(ran.err.strip().splitlines()) == 1
    assert sorted(place.rglob("*")) == before


def test_the_issued_file_is_private_and_shown_nowhere(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The canaries are in their file only, which is its owner's alone; what is printed is the commitment."""
    out = said(ran_here(capsys, "canary", "issue", "spring", "--n", 3, "--decoys", 50, "--json"))
    content = json.loads(Path("canaries.json").read_text())
    assert stat.S_IMODE(Path("canaries.json").stat().st_mode) == 0o600
    assert len(content["canaries"]) == 3 and len(out["commitment"]) == 64
    assert not any(text in json.dumps(out) for text in content["canaries"])
