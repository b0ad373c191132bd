"""folder: a findings folder, written whole or not at all, and read back.

Everything is written into a hidden folder beside the target, flushed, and renamed into place; `run.json` is written
last. A folder without a run.json that says `complete` is not a findings folder, whatever else lies in it.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq

from stillwatch.dossier.findings import Findings
from stillwatch.dossier.report import render_report
from stillwatch.errors import FindingsError
from stillwatch.records import FINDINGS, SCHEMA_VERSION

RUN = "run.json"
REPORT = "report.html"


def check_target(folder: Path) -> None:
    """Refuse, before any work is done, a target that holds something else than findings.

    Raises:
        FindingsError: `folder` is a file, or a folder with content that no scan wrote.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FindingsError(f"{folder} is not a folder", do="Name another --out.")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
        raise FindingsError(
            f"{folder} is not empty and holds no findings", expected="a new folder, or one that a scan wrote",
            do="Name another --out; nothing was changed.",
        )  # fmt: skip


def _is_ours(folder: Path) -> bool:
    """Whether a scan wrote this folder, whole, and nobody has put anything into it since."""
    if {path.name for path in folder.iterdir()} - {RUN, REPORT, *(f"{stem}.parquet" for stem in FINDINGS)}:
        return False
    try:
        run = json.loads((folder / RUN).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    says = {"schema_version", "settings_fingerprint"}
    return isinstance(run, dict) and run.get("complete") is True and says <= set(run)


def write_findings(findings: Findings, folder: Path) -> Path:
    """Write a findings folder (mode 0700) and return the path of its report.

    An earlier folder of findings at the same place is replaced, if it holds nothing else. Interrupted at any point,
    the target is either the old folder or the new one, or absent after a kill; never a mixture.

    Raises:
        FindingsError: the target holds something else, or cannot be written.
    """
    check_target(folder)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            claim = _claim(partial)
            try:
                _fill(findings, partial)
                _swap(partial, folder)
            finally:
                os.close(claim)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise FindingsError(f"cannot write {folder}", got=str(error.strerror), do="Name another --out.") from error
    return folder / REPORT


def read_findings(folder: Path) -> Findings:
    """Read a findings folder; pictures that need the facts (`activity`) are not in it.

    Raises:
        FindingsError: the folder is absent, unfinished, damaged or from another version.
    """
    try:
        run = json.loads((folder / RUN).read_text("utf-8"))
        if not (isinstance(run, dict) and run.get("complete")):
            raise FindingsError(f"{folder} is unfinished", do="Scan again.")
        if run.get("schema_version") != SCHEMA_VERSION:
            raise FindingsError(
                f"{folder} is from another version",
                got=str(run.get("schema_version")), expected=str(SCHEMA_VERSION), do="Scan again.",
            )  # fmt: skip
        tables = {stem: pq.read_table(folder / f"{stem}.parquet") for stem in FINDINGS}
    except (OSError, ValueError) as error:
        raise FindingsError(
            f"{folder} is not a findings folder", got=str(error)[:200], do="Name one, or scan again."
        ) from error
    return Findings(run=run, **tables)


def _fill(findings: Findings, folder: Path) -> None:
    for stem in FINDINGS:
        # Fixed writer settings: the bytes depend on the rows alone.
        pq.write_table(getattr(findings, stem), folder / f"{stem}.parquet", compression="zstd", version="2.6")
    (folder / REPORT).write_text(render_report(findings), "utf-8")
    run = {"complete": True, "schema_version": SCHEMA_VERSION} | dict(findings.run)
    (folder / RUN).write_text(json.dumps(run, indent=2, sort_keys=True) + "\n", "utf-8")
    for path in folder.iterdir():
        path.chmod(0o600)
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _swap(partial: Path, folder: Path) -> None:
    if folder.exists():
        old = partial.with_name(partial.name.replace(".partial-", ".replaced-"))
        try:
            folder.rename(old)
            partial.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(folder)


def _sweep(folder: Path) -> None:
    """Mend what a killed scan of the same target left behind: put back what it had moved away, drop the rest.

    A partial folder that another scan holds is left to it.
    """
    name = glob.escape(folder.name)
    for old in sorted(folder.parent.glob(f".{name}.replaced-*")):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)
    for left in folder.parent.glob(f".{name}.partial-*"):
        with suppress(OSError):
            claim = _claim(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(claim)


def _claim(folder: Path) -> int:
    """Lock a folder until the descriptor is closed or the process ends; OSError where another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
