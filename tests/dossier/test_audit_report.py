from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stillwatch.audit.audit import Audit, AuditRequest, audit
from stillwatch.dossier.audit_report import FILES, PATCH, RESULT, check_audit_target, render_audit, write_audit
from stillwatch.errors import FindingsError
from stillwatch.journal import Journal
from tests.audit.making import ROOT, answers, pairs, registry_of, write_rows

SECRET = "zebrafinch"
HOSTILE = '</style><script>alert(1)</script>"\x1b[2K\u202e'


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """An audit with a finding, of a set whose name and columns are hostile."""
    folder = tmp_path_factory.mktemp("report")
    theirs = [f"{SECRET} {text}" for text in answers(50, seed=1)]
    registry = registry_of(theirs)
    registry.save(folder / "r.registry")
    (folder / "set").mkdir()
    write_rows(folder / "set" / "rows.jsonl", pairs(theirs[:20] + answers(200, seed=2)))
    (folder / "set" / "x.csv").write_text("nothing,known\n1,2\n", "utf-8")
    (folder / "set" / "dataset_info.json").write_text(json.dumps({"name": HOSTILE, "license": HOSTILE}), "utf-8")
    request = AuditRequest(data=[folder / "set"], registries=[folder / "r.registry"])
    return audit(request, key=ROOT, journal=Journal(folder / "journal"))


def test_the_page_says_what_was_found_and_runs_nothing(found: Audit) -> None:
    """The page names the finding, allows its one stylesheet only, and holds no script and no address to load."""
    page = render_audit(found)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;" in page
    assert "1 finding" in page and "copies of registry" in page and "<svg" in page
    assert not re.search(r"<script|javascript:|https?://|\son\w+=|style=", page)
    assert page.count("<style>") == 1 and "\x1b" not in page and "\u202e" not in page


def test_no_text_of_a_row_is_on_the_page_or_in_the_files(found: Audit, tmp_path: Path) -> None:
    """What stands in the rows is on no page and in no file of the audit."""
    write_audit(found, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert SECRET.encode() not in path.read_bytes()


def test_the_folder_is_whole_private_and_replaced(found: Audit, tmp_path: Path) -> None:
    """All files are written with mode 0600 into a folder of mode 0700, twice over the same place."""
    out = tmp_path / "out"
    for _ in range(2):
        write_audit(found, out)
        assert {path.name for path in out.iterdir()} == set(FILES)
        assert stat.S_IMODE(out.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    assert json.loads((out / RESULT).read_text())["n_rows"] == 220
    assert "rai:dataLimitations" in json.loads((out / PATCH).read_text())
    assert pq.read_table(out / "evidence.parquet").equals(found.evidence)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_folder_is_never_overwritten(tmp_path: Path) -> None:
    """A folder with anything else in it, or a file, is refused before any work."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(FindingsError):
            check_audit_target(tmp_path / name)
    check_audit_target(tmp_path / "new")
