"""`stillwatch import` and `doctor`: once to Parquet, whole or resumed; what a log carries and what it lacks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillwatch.ingest.convert import Conversion
from stillwatch.ingest.source import LogSource, open_logs
from tests import conversation as one
from tests.cli.running import ran_here
from tests.conftest import ROOT
from tests.needs import needs_module
from tests.receive.database import Database, connected


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
    return path


def rows(*paths: Path) -> list[dict[str, Any]]:
    source = open_logs(paths, now=datetime(2026, 11, 21, tzinfo=UTC))
    return [row for batch in source.batches() for row in batch.to_pylist()]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A gateway's logs in three files and the access log before it."""
    folder = tmp_path / "given"
    folder.mkdir()
    for n in range(3):
        request = f"request-{n}"
        payload = one.litellm() | {"litellm_call_id": f"call-{n}", "requester_ip_address": None}
        headers = {"x-request-id": request}
        payload["metadata"] = payload["metadata"] | {
            "requester_ip_address": None, "requester_custom_headers": headers, "requester_metadata": None,
        }  # fmt: skip
        write(folder / f"gateway-{n}.jsonl", payload, {"broken": 1})
    access = [one.access_log() | {"x-request-id": f"request-{n}"} for n in (2, 1, 0, 7)]
    write(folder / "access.jsonl", *access)
    return folder


def test_what_is_imported_is_what_the_logs_hold(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder holds the rows that a scan would read from the logs, with what became of the others, 0600."""
    done = ran_here(capsys, "import", logs, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert rows(tmp_path / "out" / "exchanges") == rows(tmp_path / "out") == rows(logs)
    assert told["rows"] == 4 and told["rejects"] == {"ts_missing": 3}
    assert told["notes"] == {"joined_by_request_id": 3}
    assert {row["ip"] for row in rows(tmp_path / "out" / "exchanges")} == {one.IP}
    manifest = json.loads((tmp_path / "out" / "_import.json").read_text())
    assert manifest["complete"] and len(manifest["files"]) == 4
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("stops_before", [1, 2, 3])
def test_an_interrupted_import_goes_on(
    stops_before: int, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before any file, nothing stands at the target; the same command goes on and gives the same rows."""
    whole = LogSource.batches
    calls = []

    def stopping(self: LogSource, **asked: Any) -> Any:
        calls.append(self)
        if len(calls) > stops_before:
            raise KeyboardInterrupt
        return whole(self, **asked)

    monkeypatch.setattr(LogSource, "batches", stopping)
    done = ran_here(capsys, "import", logs, "--out", tmp_path / "out")
    assert done.code == 130 and "the same command goes on" in done.err
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    again = ran_here(capsys, "import", logs, "--out", tmp_path / "out", "--json")
    told = json.loads(again.out)
    assert told["resumed_parts"] == stops_before
    assert rows(tmp_path / "out" / "exchanges") == rows(logs)
    assert (told["rows"], told["rejects"], told["notes"]) == (4, {"ts_missing": 3}, {"joined_by_request_id": 3})


def test_an_import_replaces_an_import_and_nothing_else(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier import at the target is replaced; a folder of anything else is refused and left as it is."""
    for _ in range(2):
        assert ran_here(capsys, "import", logs, "--out", tmp_path / "out").code == 0
    done = ran_here(capsys, "import", logs, "--out", logs)
    assert done.code == 2 and "holds no import" in done.err
    assert len(list(logs.iterdir())) == 4


def test_two_imports_to_one_place(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While an import is at work the same one is refused, and works once it is over."""
    files = [[file.path, file.sha256] for file in open_logs([logs], now=datetime.now(UTC)).describe().files]
    asked: dict[str, Any] = {
        "source": [str(logs)],
        "format": None,
        "since": None,
        "until": None,
        "mapping": {},
        "files": files,
    }
    with Conversion(tmp_path / "out", asked=asked):
        done = ran_here(capsys, "import", logs, "--out", tmp_path / "out")
        assert done.code == 2 and "another import" in done.err and "is at work" in done.err
    assert ran_here(capsys, "import", logs, "--out", tmp_path / "out").code == 0


def test_what_was_given_up_is_cleared(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of an import that was interrupted and never gone on with do not stay hidden beside the next."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Conversion, "finish", interrupted)
        assert ran_here(capsys, "import", logs, "--out", tmp_path / "out").code == 130
    write(logs / "more.jsonl", one.litellm())
    busy = Conversion(tmp_path / "out", asked={"another": "at work"})
    with busy:
        assert ran_here(capsys, "import", logs, "--out", tmp_path / "out").code == 0
        assert [path.name for path in tmp_path.glob(".out*")] == [busy.folder.name]
    assert ran_here(capsys, "import", logs, "--out", tmp_path / "out").code == 0
    assert not list(tmp_path.glob(".out*"))


def test_an_installed_package_brings_its_importer(tmp_path: Path) -> None:
    """An importer in a wheel that pip installed is found by its entry point, recognises its logs, and imports them."""
    needs_module("pip", "pip")
    files = {
        "acme_logs.py": "from stillwatch.ingest.importer import Importer, at\n"
        "ACME = Importer(name='acme', title='Acme', marks=(('acme_id', 'when'),),"
        " fields={'account_id': at('acme_id'), 'ts': at('when'), 'prompt': at('q.0.text')})\n",
        "acme_logs-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-logs\nVersion: 1\n",
        "acme_logs-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "acme_logs-1.dist-info/entry_points.txt": "[stillwatch.sources]\nacme = acme_logs:ACME\n",
        "acme_logs-1.dist-info/RECORD": "",
    }
    wheel = tmp_path / "acme_logs-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    place = tmp_path / "installed"
    words = ["pip", "--disable-pip-version-check", "install", "-q", "--no-index", "--no-deps", "--target", str(place)]
    subprocess.run([sys.executable, "-m", *words, str(wheel)], check=True, capture_output=True)
    log = write(tmp_path / "log.jsonl", {"acme_id": "a", "when": 1_793_527_200, "q": [{"text": "why"}]})
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), str(ROOT / "src")])}
    command = ["import", str(log), "--out", str(tmp_path / "out"), "--format", "acme"]
    done = subprocess.run(
        [sys.executable, "-m", "stillwatch", *command], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [(row["account_id"], row["prompt"]) for row in rows(tmp_path / "out")] == [("a", "why")]


def test_a_disk_that_is_full(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails ends with one line, and nothing stands at the target."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stillwatch.ingest.convert.os.fsync", full)
    done = ran_here(capsys, "import", logs, "--out", tmp_path / "out")
    assert done.code == 2 and "No space left" in done.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere/"], "nothing at nowhere/"),
        (["postgresql://u:secret@127.0.0.1:1/x"], "127.0.0.1:1/x cannot be reached"),
        (["postgresql://127.0.0.1:1/x", "logs"], "a database is imported alone"),
        (["logs", "--format", "kong"], "no importer has this name"),
    ],
)
def test_bad_input(words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be imported is one line that says why; no password is in it."""
    if words[0].startswith("postgresql"):
        needs_module("postgres", "psycopg")
    done = ran_here(capsys, "import", *words, "--out", tmp_path / "out")
    assert done.code == 2 and says in done.err and "secret" not in done.err


def test_scan_says_how_to_read_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A database among the logs of a scan is an error that names the command that reads it."""
    done = ran_here(capsys, "scan", "postgresql://127.0.0.1/x", "--out", tmp_path / "out")
    assert done.code == 2 and "stillwatch import URL --out logs" in done.err


def test_doctor_names_what_is_missing(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor gives each channel's share, its measured worth, and the switch of the program that wrote the log."""
    write(logs / "bare.jsonl", *(one.litellm() | {"messages": None, "litellm_call_id": f"b{n}"} for n in range(20)))
    told = json.loads(ran_here(capsys, "doctor", logs, "--json").out)
    channels = {channel["channel"]: channel for channel in told["channels"]}
    assert channels["account"]["share"] == 1.0
    assert channels["prompts"]["share"] == pytest.approx(3 / 24)
    assert "turn_off_message_logging: false" in str(channels["prompts"]["turn_on"])
    assert channels["prompts"]["named_without"] == 0
    assert channels["accounts file"]["share"] is None
    shown = ran_here(capsys, "doctor", logs).out
    assert "prompts are missing" in shown and "turn_off_message_logging" in shown


def test_doctor_reads_no_more_than_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a long log the beginning is looked at."""
    rows = [{"account_id": "a", "ts": 1_793_527_200 + n, "prompt": "x" * 1000} for n in range(40_000)]
    write(tmp_path / "log.jsonl", *rows)
    told = json.loads(ran_here(capsys, "doctor", tmp_path, "--rows", 1000, "--json").out)
    assert 1000 <= told["rows"] < 40_000


def test_formats_can_be_named_in_a_scan(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`scan --format` reads foreign logs with the importer it names."""
    done = ran_here(capsys, "scan", logs / "gateway-0.jsonl", "--format", "litellm", "--out", tmp_path / "o", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["counts"]["rows_kept"] == 1


@pytest.mark.services
def test_rejects_of_a_database_are_told_though_no_row_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database whose last rows are all rejected says so, and the import is whole."""
    needs_module("postgres", "psycopg")
    with Database.made() as made:
        with connected(made.url) as connection:
            connection.execute(
                'create table "LiteLLM_SpendLogs" (request_id text primary key, "startTime" timestamp(3))'
            )
            connection.execute("""insert into "LiteLLM_SpendLogs" values ('a', 'infinity'), ('b', null)""")
        done = ran_here(capsys, "import", made.url, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["rows"], told["rejects"]) == (0, {"ts_missing": 1, "ts_not_a_time": 1})


def test_doctor_sees_that_texts_are_only_stood_in_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where LiteLLM logs a word of its own for each prompt, the log has no prompts, and what turns them on is said."""
    hidden = {"messages": [{"role": "user", "content": "redacted-by-litellm"}]}
    log = write(tmp_path / "log.jsonl", one.litellm() | hidden)
    told = json.loads(ran_here(capsys, "doctor", log, "--json").out)
    (prompts,) = [row for row in told["channels"] if row["channel"] == "prompts"]
    assert prompts["share"] == 0.0 and "turn_off_message_logging" in json.dumps(prompts["turn_on"])
