from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stillwatch.cli.compare import spread
from stillwatch.cli.main import INTERRUPTED
from stillwatch.cli.scan import FOUND
from stillwatch.journal import Journal
from stillwatch.suspects.endpoint import Endpoint
from tests.cli.running import Ran, ran_here
from tests.compare.making import controls, prompts, spoken, student
from tests.needs import needs_module
from tests.suspects.stub import Stub, serving

ROOT = Path(__file__).resolve().parents[2]
N, TEACHER = 60, 7


def write(path: Path, texts: Sequence[str], **more: str) -> None:
    rows = [{"prompt": p, "output": t, **more} for p, t in zip(prompts(len(texts)), texts, strict=True)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files under the names the pages use."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "controls").mkdir()
    for one in controls(N, n_families=12):
        texts = [texts[0] for texts in one.outputs.values()]
        write(folder / "controls" / f"{one.name}.jsonl", texts, model=one.name, family=one.family)
    write(folder / "ours.jsonl", spoken(TEACHER, N), model="ours-1")
    write(folder / "suspect.jsonl", student(56, TEACHER, N, share=0.5))
    write(folder / "earlier.jsonl", spoken(56, N))
    write(folder / "stranger.jsonl", spoken(55, N))
    write(folder / "expected.jsonl", ["42"] * N)
    for n in range(3):
        write(folder / f"student-{n}.jsonl", student(80 + n, TEACHER, N, share=0.8))
    planted = [{"text": f"the {word} heron of Oslo", "planted": True} for word in ("grey", "mild", "late")]
    decoys = [{"text": f"the {word} stork of Oslo", "planted": False} for word in ("grey", "mild", "late")]
    (folder / "canaries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in planted + decoys), "utf-8")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same files, in a folder of the test's own."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Ran:
    return ran_here(capsys, "compare", *words)


def files() -> list[str]:
    return sorted(str(path) for path in Path("controls").iterdir())


def commands() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for page in pages for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    ]
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if "stillwatch compare" in line))


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_pages_run(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every comparison on a page runs as written and leaves a result, evidence and a page."""
    words = [word for part in shlex.split(command)[2:] for word in (files() if part == "controls/*.jsonl" else [part])]
    done = run(capsys, *words)
    assert done.code == 0, done.err
    out = here / (words[words.index("--out") + 1] if "--out" in words else "comparison")
    assert {path.name for path in out.iterdir()} == {"result.json", "evidence.parquet", "comparison.html"}
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}


@pytest.mark.slow
def test_a_student_is_found_and_fails_the_build(here: Path, own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json has the promised keys, --fail-on derived exits with 3, and the plan's receipt is in the journal."""
    done = run(
        capsys, "suspect.jsonl", "--teacher", "ours.jsonl", "--controls", *files(), "--json", "--fail-on", "derived"
    )
    assert done.code == FOUND, done.err
    told = json.loads(done.out)
    assert (told["suspect"], told["teacher"]) == ("suspect", "ours-1")
    assert (told["same_model"], told["derived"]) == ("different", "derived")
    assert {"p_values", "power", "controls", "canonicalisation"} <= set(told)
    assert json.loads((here / "comparison" / "result.json").read_text("utf-8")) == told
    assert pq.read_table(here / "comparison" / "evidence.parquet").num_rows == 3
    journal = Journal(own_home / "journal")
    assert journal.verify(receipts=[told["plan"]["journal_receipt"]]) == 1


@pytest.mark.slow
def test_the_summary_shows_the_rank_before_the_permutation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger is neither; the conditional p never stands without the rank p and its bound."""
    done = run(capsys, "stranger.jsonl", "--teacher", "ours.jsonl", "--controls", *files())
    assert done.code == 0, done.err
    assert "whether it learned from it cannot be told" in done.out
    lines = [line for line in done.out.splitlines() if "permutation p" in line]
    assert lines
    assert all(line.index("rank p") < line.index("permutation p") for line in lines)
    assert "never below" in lines[-1]


@pytest.mark.slow
def test_the_same_command_gives_the_same_result(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything but the journal's receipt is the same byte for byte."""
    found = []
    for _ in range(2):
        run(capsys, "stranger.jsonl", "--teacher", "ours.jsonl", "--controls", *files(), "--prompts", 20)
        told = json.loads((here / "comparison" / "result.json").read_text("utf-8"))
        told["plan"].pop("journal_receipt")
        found.append((told, (here / "comparison" / "evidence.parquet").read_bytes()))
    assert found[0] == found[1]


@pytest.mark.slow
def test_an_endpoint_is_asked_little_and_goes_on_where_it_stopped(
    here: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A suspect behind real HTTP: the plan comes first, Ctrl-C loses no answer, the key is in no file."""
    texts = dict(zip(prompts(N), student(56, TEACHER, N, share=0.5), strict=True))
    monkeypatch.setenv("THEIR_KEY", "sk-made-up-key")
    with serving(Stub(reply=texts.__getitem__)) as stub:
        words = [f"{stub.address}#m-1", "--teacher", "ours.jsonl", "--controls", *files(), "--rate", 1000]
        words += ["--key-env", "127.0.0.1=THEIR_KEY"]
        ask, asked = Endpoint.ask, list[str]()

        def interrupted(self: Endpoint, prompt: str) -> tuple[str, ...] | None:
            if len(asked) == 12:
                raise KeyboardInterrupt
            asked.append(prompt)
            assert Journal(own_home / "journal").verify() >= 1
            return ask(self, prompt)

        monkeypatch.setattr(Endpoint, "ask", interrupted)
        done = run(capsys, *words)
        assert done.code == INTERRUPTED
        assert "kept in answers" in done.err
        assert not (here / "comparison").exists()
        monkeypatch.setattr(Endpoint, "ask", ask)
        done = run(capsys, *words, "--json")
        assert done.code == 0, done.err
        told = json.loads(done.out)
        assert told["derived"] == "derived"
        seen = [one["body"]["messages"][0]["content"] for one in stub.seen]
    assert seen[:12] == asked
    assert len(seen) == len(set(seen)) == told["n_asked"]
    assert told["plan"]["n_answers_known"] == 12
    plans = [entry.body["plan"] for entry in Journal(own_home / "journal").entries()]
    assert [plan["asking"] for plan in plans] == [{"max_tokens": 512}] * 2
    written = [path for path in [*here.rglob("*"), *own_home.rglob("*")] if path.is_file()]
    assert not any(b"sk-made-up-key" in path.read_bytes() for path in written)


def test_a_teacher_behind_an_endpoint_is_asked_what_the_suspect_answered(
    here: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The prompts come from the files, and what will be asked is registered before it is."""
    texts = dict(zip(prompts(N), spoken(TEACHER, N), strict=True))
    with serving(Stub(reply=texts.__getitem__)) as stub:
        words = ["stranger.jsonl", "--teacher", f"ours={stub.address}#ours-1", "--controls", *files()]
        done = run(capsys, *words, "--rate", 1000, "--prompts", 15, "--json")
        assert done.code == 0, done.err
        assert len(stub.seen) == 15
    assert json.loads(done.out)["teacher"] == "ours-1"
    bodies = [entry.body["plan"] for entry in Journal(own_home / "journal").entries()]
    assert ["asking" in bodies[0], "hypotheses" in bodies[1]] == [True, True]
    assert bodies[1]["asking"] is None and bodies[1]["sources"]["ours-1"] == f"{stub.address}#ours-1"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.jsonl", "--teacher", "ours.jsonl"], "cannot be read"),
        (["suspect.jsonl", "--teacher", "ours.jsonl", "--stop", "soon"], "early or never"),
        (["suspect.jsonl", "--teacher", "ours.jsonl", "--fail-on", "x"], "derived"),
        (["suspect.jsonl", "--teacher", "ours.jsonl", "--key-env", "sk-123"], "HOST=VARIABLE"),
        (["suspect.jsonl", "--teacher", "ours.jsonl", "--out", "."], "holds something else"),
        (["suspect.jsonl", "--teacher", "ours.jsonl", "--canaries", "absent"], "cannot be read"),
        (["https://h.example/v1", "--teacher", "ours.jsonl"], "name of a model"),
        (["https://h.example/v1#m", "--teacher", "https://h.example/v1#n"], "no prompts to ask"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input ends with 2 and a line that says what to do; nothing is written and no secret repeated."""
    done = run(capsys, *words)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "sk-123" not in done.err
    assert not (here / "comparison").exists()


@pytest.mark.parametrize(
    ("words", "means"),
    [
        (["S", "--teacher", "a", "b", "--controls", "c", "d"], "S --teacher a --teacher b --controls c --controls d"),
        (["--controls", "c", "--seed", "3", "S"], "--controls c --seed 3 S"),
        (["--controls=c", "S"], "--controls=c S"),
        (["--teacher", "--json"], "--teacher --json"),
        (["--controls", "c", "--", "S", "T"], "--controls c -- S T"),
    ],
)
def test_several_words_may_follow_an_option(words: list[str], means: str) -> None:
    """Words after --teacher, --controls and --students belong to it up to the next option."""
    assert spread(words) == means.split()


@pytest.mark.slow
def test_marks_are_looked_for_where_a_tokenizer_is_named(
    here: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The provider's key is journaled before it is used and registered by its id; no mark is found where none is."""
    tokenizers = needs_module("tokenizers", "tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE({chr(at): at for at in range(128)}, [], unk_token="?"))
    made.save(str(here / "tokenizer.json"))
    done = run(
        capsys, "stranger.jsonl", "--teacher", "ours.jsonl", "--controls", *files(), "--tokenizer", "tokenizer.json",
        "--prompts", 20, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    (mark,) = told["marks"]
    assert (mark["verdict"], mark["n_decoys"], mark["level"]) == ("not found", 1000, "provider")
    entries = list(Journal(own_home / "journal").entries())
    assert [one.kind for one in entries] == ["mark_keys", "preregistration"]
    rows = pq.read_table(here / "comparison" / "evidence.parquet").to_pylist()
    assert {row["subject_kind"] for row in rows} == {"model"} and "marks" in {row["family"] for row in rows}
    assert {row["subject_id"] for row in rows} == {"stranger"}


def test_marks_of_accounts_are_for_another_verb(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A split without the provider's share is refused with the verb that does it."""
    done = run(
        capsys, "stranger.jsonl", "--teacher", "ours.jsonl", "--tokenizer", "absent.json", "--split", "account=1"
    )
    assert done.code == 2 and "mark detect" in done.err


def test_what_is_not_counted_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unreadable rows are counted by file, and controls of the suspect's or the teacher's family are named as kin."""
    lines = (here / "stranger.jsonl").read_text("utf-8")
    (here / "odd.jsonl").write_text('{"prompt": "p", "output": 7}\n{"prompt": "", "output": "x"}\n' + lines)
    words = ["odd.jsonl", "--teacher", "family-3=ours.jsonl", "--controls", *files(), "--prompts", 20]
    done = run(capsys, *words)
    assert done.code == 0, done.err
    assert "Left out: 2 rows or prompts of odd.jsonl" in done.out
    assert "kin          control-3, control-3b: of the" in done.out
    assert json.loads(run(capsys, *words, "--json").out)["rejects"] == {"odd.jsonl": 2}


def test_hostile_names_are_harmless(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of models that would steer a terminal or a page are shown and do nothing."""
    name = "<script>alert(1)</script>\x1b[2J\u202e"
    write(here / "odd.jsonl", spoken(55, N), model=name)
    done = run(capsys, "odd.jsonl", "--teacher", "ours.jsonl", "--controls", *files(), "--prompts", 20)
    page = (here / "comparison" / "comparison.html").read_text("utf-8")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + page
    assert "<script" not in page
    assert "alert(1)" in page
