"""folder: a findings folder, written whole or not at all, and read back.

`run.json` is written last. A folder without a run.json that says `complete` is not a findings folder, whatever else
lies in it.
"""

from __future__ import annotations

import json
import stat
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.dossier.findings import Findings
from stillwatch.dossier.report import render_report
from stillwatch.dossier.whole import write_whole
from stillwatch.errors import FindingsError
from stillwatch.records import FINDINGS, SCHEMA_VERSION

RUN = "run.json"
REPORT = "report.html"

NULLABLE = {"p_log10", "e_log2", "capabilities", "not_examined", "would_change", "best_innocent", "failed_bar"}
"""Columns of findings in which a value may be missing."""


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
    write_whole(folder.absolute(), partial(_fill, findings))
    return folder.absolute() / REPORT


def read_findings(folder: Path) -> Findings:
    """Read a findings folder; pictures that need the facts (`activity`) are not in it.

    Raises:
        FindingsError: the folder is absent, unfinished, damaged or from another version.
    """
    try:
        run = json.loads(_plain_file(folder / RUN).read_text("utf-8"))
        if not (isinstance(run, dict) and run.get("complete")):
            raise FindingsError(f"{folder} is unfinished", do="Scan again.")
        if run.get("schema_version") != SCHEMA_VERSION:
            raise FindingsError(
                f"{folder} is from another version",
                got=str(run.get("schema_version")), expected=str(SCHEMA_VERSION), do="Scan again.",
            )  # fmt: skip
        tables = {stem: _read_table(folder, stem) for stem in FINDINGS}
    except (OSError, ValueError, RecursionError, OverflowError, pa.ArrowException) as error:
        raise FindingsError(
            f"{folder} is not a findings folder", got=str(error)[:200], do="Name one, or scan again."
        ) from error
    return Findings(run=run, **tables)


def _read_table(folder: Path, stem: str) -> pa.Table:
    """One table, of the types of its schema and whole: what a reader may rely on whoever had the folder before."""
    schema, path = FINDINGS[stem], _plain_file(folder / f"{stem}.parquet")
    table = pq.ParquetFile(path).read()
    table.validate(full=True)
    for field in schema:
        if field.name not in table.column_names:
            continue  # Findings names all of them
        column = table.column(field.name)
        if column.type != field.type:
            raise FindingsError(
                f"{path} is not of this version", got=f"{field.name} as {str(column.type)[:40]}",
                expected=str(field.type), do="Scan again.",
            )  # fmt: skip
        if column.null_count and field.name not in NULLABLE:
            raise FindingsError(f"{path} was changed", got=f"{field.name} without a value", do="Scan again.")
        if pa.types.is_timestamp(field.type):
            column.to_pylist()  # an instant beyond the calendar is refused here
    return table


def _plain_file(path: Path) -> Path:
    """A file that stands in the folder itself: no link out of it, and nothing that would be waited for."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise FindingsError(
            f"{path} is no plain file", got="a link, a folder or a device", do="Scan again into another --out."
        )
    return path


def _fill(findings: Findings, folder: Path) -> None:
    for stem in FINDINGS:
        # Fixed writer settings: the bytes depend on the rows alone.
        pq.write_table(getattr(findings, stem), folder / f"{stem}.parquet", compression="zstd", version="2.6")
    (folder / REPORT).write_text(render_report(findings), "utf-8")
    run = {"complete": True, "schema_version": SCHEMA_VERSION} | dict(findings.run)
    (folder / RUN).write_text(json.dumps(run, indent=2, sort_keys=True) + "\n", "utf-8")
