"""A scan that is interrupted, terminated or killed leaves nothing that looks like findings, and breaks none."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc
import pytest

from stillwatch.dossier.findings import Findings
from stillwatch.dossier.folder import read_findings, write_findings
from stillwatch.errors import FindingsError
from stillwatch.sim.world import Played
from tests.cli.running import ran_here
from tests.worlds import scanned, tree, written

CHILD = """
import os, sys
from pathlib import Path
from stillwatch.cli.main import main
from stillwatch.dossier import folder
from stillwatch.engine import local
from stillwatch import pipeline

moment = sys.argv.pop(1)

def stop_here():
    os.write(1, b"here\\n")
    os.read(0, 1)

class InSips:
    '''A source that gives few rows at a time, and stops for good once some have been spilled.'''

    def __init__(self, source):
        self.source = source

    def __getattr__(self, name):
        return getattr(self.source, name)

    def batches(self, **asked):
        for batch in self.source.batches(**asked):
            for start in range(0, batch.num_rows, 10):
                yield batch.slice(start, 10)
                if any(Path(os.environ["TMPDIR"]).iterdir()):
                    stop_here()

if moment == "reading":
    opened, engine = pipeline.open_logs, local.LocalEngine
    pipeline.open_logs = lambda *logs, **options: InSips(opened(*logs, **options))
    local.LocalEngine = lambda **limits: engine(**limits | {"memory_mb": 0})
elif moment == "writing":
    render = folder.render_report
    folder.render_report = lambda findings: (stop_here(), render(findings))[1]
elif moment == "swapping":
    rename = Path.rename
    def renamed(self, target):
        moved = rename(self, target)
        if not self.exists() and not self.name.startswith("."):
            stop_here()
        return moved
    Path.rename = renamed

main()
"""
"""A scan that stops at one moment, says so on standard output, and waits there for a signal."""

ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
"""How a process ends by each signal."""


@pytest.fixture
def log(loud: Played, tmp_path: Path) -> Path:
    """A log of thirty accounts."""
    some = pc.is_in(loud.exchanges["account_id"], loud.accounts["account_id"][:30].combine_chunks())
    return written(loud.exchanges.filter(some), tmp_path / "log.parquet")


@contextmanager
def stopped_at(moment: str, *words: object, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A scan that has come to a moment and waits there; it does not outlive the test."""
    spills = cwd / "tmp"
    spills.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, moment, *map(str, words)],
        cwd=cwd,
        env=os.environ | {"TMPDIR": str(spills)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stdout is not None
            said = child.stdout.readline()
            assert said == "here\n", child.communicate(timeout=60)[1]
            yield child
        finally:
            child.kill()


def ended(child: subprocess.Popen[str], by: signal.Signals) -> str:
    """Send the signal; what the scan then says on standard error."""
    child.send_signal(by)
    _, err = child.communicate(timeout=60)
    assert child.returncode == ENDS[by]
    return err


def hidden(folder: Path) -> list[str]:
    """What a scan keeps out of sight beside its target."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.slow
@pytest.mark.parametrize("by", ENDS)
@pytest.mark.parametrize("moment", ["reading", "writing"])
def test_an_end_half_way_leaves_the_earlier_findings(
    log: Path, tmp_path: Path, loud_findings: Findings, moment: str, by: signal.Signals
) -> None:
    """Earlier findings stay as they were, and a scan that is asked to end removes what it spilled and wrote."""
    out = tmp_path / "findings"
    write_findings(loud_findings, out)
    before = tree(out)
    with stopped_at(moment, "scan", log, "--out", out, cwd=tmp_path) as child:
        assert list((tmp_path / "tmp").iterdir()) if moment == "reading" else hidden(tmp_path)
        err = ended(child, by)
    assert tree(out) == before
    assert "Traceback" not in err
    if by != signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []
        assert hidden(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_end_while_writing_leaves_nothing_that_looks_whole(log: Path, tmp_path: Path, by: signal.Signals) -> None:
    """Where there were no findings there are none, and what a killed scan left cannot be read as findings."""
    out = tmp_path / "deep" / "findings"
    with stopped_at("writing", "scan", log, "--out", out, cwd=tmp_path) as child:
        (unfinished,) = (out.parent / name for name in hidden(out.parent))
        assert (unfinished / "campaigns.parquet").is_file()
        ended(child, by)
    assert not out.exists()
    assert unfinished.exists() == (by == signal.SIGKILL)
    with pytest.raises(FindingsError):
        read_findings(unfinished)


@pytest.mark.slow
def test_a_kill_between_old_and_new_is_mended(log: Path, tmp_path: Path, loud_findings: Findings) -> None:
    """Killed after the old findings were moved away, a scan leaves no folder, and the next puts all in order."""
    out = tmp_path / "findings"
    write_findings(loud_findings, out)
    before = tree(out)
    with stopped_at("swapping", "scan", log, "--out", out, cwd=tmp_path) as child:
        ended(child, signal.SIGKILL)
    assert not out.exists()
    assert before in [tree(tmp_path / name) for name in hidden(tmp_path)]
    write_findings(scanned(log), out)
    assert hidden(tmp_path) == []
    assert json.loads((out / "run.json").read_text())["counts"]["accounts"] == 30


@pytest.mark.slow
def test_an_interruption_between_old_and_new_gives_the_old_back(
    log: Path, tmp_path: Path, loud_findings: Findings
) -> None:
    """Ctrl-C after the old findings were moved away says that nothing was written, so they must be there again."""
    out = tmp_path / "findings"
    write_findings(loud_findings, out)
    before = tree(out)
    with stopped_at("swapping", "scan", log, "--out", out, cwd=tmp_path) as child:
        ended(child, signal.SIGINT)
    assert out.is_dir() and tree(out) == before


def test_an_interrupted_scan_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C ends with 130 and a line that says that nothing was written."""

    def interrupted(**_: object) -> Findings:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillwatch.cli.scan.run_scan", interrupted)
    ran = ran_here(capsys, "scan", tmp_path)
    assert ran.code == ENDS[signal.SIGINT]
    assert ran.err.strip() == "stillwatch: interrupted; nothing was written." and ran.out == ""


@pytest.mark.slow
def test_a_reader_that_goes_is_no_failure(log: Path, tmp_path: Path) -> None:
    """Where whoever reads standard output has gone, the findings are written all the same and the scan ends with 0."""
    with subprocess.Popen(
        [sys.executable, "-m", "stillwatch", "scan", str(log), "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 0
    assert read_findings(tmp_path / "findings").run["complete"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_takes_nothing_is_told_in_one_line(log: Path, tmp_path: Path) -> None:
    """Where standard output is full, there is one line and exit 2, no traceback, and the findings are whole."""
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "stillwatch", "scan", str(log), "--json"],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stderr.startswith("stillwatch: ") and ran.stderr.count("\n") == 1
    assert read_findings(tmp_path / "findings").run["complete"]


def test_the_next_scan_clears_what_a_killed_one_left(loud_findings: Findings, tmp_path: Path) -> None:
    """Unfinished folders of the same target go; those of another target, and files of other people, stay."""
    out = tmp_path / "findings"
    for name in (".findings.partial-abc", ".others.partial-abc", ".findings"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "campaigns.parquet").write_bytes(b"half")
    write_findings(loud_findings, out)
    assert hidden(tmp_path) == [".findings", ".others.partial-abc"]
    assert read_findings(out).campaigns.equals(loud_findings.campaigns)


def test_only_what_nobody_holds_is_cleared(loud_findings: Findings, tmp_path: Path) -> None:
    """The unfinished folder of a scan that still runs stays, and a name is no pattern."""
    for name in (".f1.partial-abc", ".f[1].partial-dead", ".f[1].partial-live"):
        (tmp_path / name).mkdir()
    held = os.open(tmp_path / ".f[1].partial-live", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_findings(loud_findings, tmp_path / "f[1]")
    finally:
        os.close(held)
    assert hidden(tmp_path) == [".f1.partial-abc", ".f[1].partial-live"]


def test_findings_with_somebody_s_notes_are_not_replaced(loud_findings: Findings, tmp_path: Path) -> None:
    """A findings folder into which a person has put something is theirs now, and stays as it is."""
    out = tmp_path / "findings"
    write_findings(loud_findings, out)
    (out / "notes.txt").write_text("important")
    before = tree(tmp_path)
    with pytest.raises(FindingsError):
        write_findings(loud_findings, out)
    assert tree(tmp_path) == before
