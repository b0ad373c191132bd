"""audit: `stillwatch audit`: training data in, what is in it out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stillwatch.audit.audit import Audit

MARKS = {"finding": "bold red", "lead": "yellow", "estimate": "cyan", "nothing": "green"}
"""Colours of verdicts; the word stands beside them."""


def audit(
    data: Annotated[list[Path], typer.Argument(help="Files or folders of rows: JSONL, JSON, Parquet, CSV.")],
    register: Annotated[
        list[Path] | None, typer.Option(help="Known data sets: a TOML or JSON register, or a data file; repeatable.")
    ] = None,
    registry: Annotated[
        list[Path] | None, typer.Option(help="A provider's registry of its own answers; repeatable.")
    ] = None,
    control: Annotated[
        list[Path] | None, typer.Option(help="Other models' answers to the same prompts: the null of copies.")
    ] = None,
    human: Annotated[list[Path] | None, typer.Option(help="Answers people wrote, of the same domain.")] = None,
    model: Annotated[list[Path] | None, typer.Option(help="Answers models wrote, of the same domain.")] = None,
    canaries: Annotated[list[Path] | None, typer.Option(help="A batch of canaries to look for; repeatable.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="The declared licence, instead of the metadata's.")
    ] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("audit"),
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Say what is in training data: licences, copies, model-written text, canaries.

    \b
    Examples:
      stillwatch audit data/train.jsonl
      stillwatch audit data/ --register known.toml --registry answers.registry --out audit
      stillwatch audit train.parquet --human people.jsonl --model models.jsonl --json
    """
    from stillwatch.audit.audit import AuditRequest
    from stillwatch.audit.audit import audit as audit_data
    from stillwatch.cli.scan import mapping_option, progress
    from stillwatch.dossier.audit_report import check_audit_target, write_audit
    from stillwatch.journal import Journal
    from stillwatch.keys import RootKey, state_home

    check_audit_target(out)
    home = state_home(os.environ)
    request = AuditRequest(
        data=data, registers=register or [], registries=registry or [], control=control or [], human=human or [],
        model=model or [], canaries=canaries or [], licence=licence, mapping=mapping_option(map_ or []),
    )  # fmt: skip
    with progress() as on_progress:
        key = RootKey.load(home, key_file=key_file, environ=os.environ)
        found = audit_data(request, key=key, journal=Journal(home / "journal"), on_progress=on_progress)
        report = write_audit(found, out)
    if json_:
        typer.echo(json.dumps(found.to_dict() | {"out": str(out), "report": str(report)}, indent=2, sort_keys=True))
    else:
        _print(found, report)


def _print(found: Audit, report: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from stillwatch.audit.audit import counted
    from stillwatch.dossier.audit_report import VERDICTS
    from stillwatch.dossier.words import plain

    console = Console()
    shapes = ", ".join(f"{n:,} {shape}" for shape, n in counted(found.files, "shapes").items())
    console.print(Text(f"\n{plain(found.name, cells=60)}: {found.n_rows:,} rows ({shapes})\n"))
    table = Table(box=None, padding=(0, 2, 1, 0), show_header=False)
    for one in found.findings:
        word = Text(VERDICTS[one.verdict], style=MARKS.get(one.verdict, "dim"))
        table.add_row(Text(one.check), word, Text(plain(one.says)))
    console.print(table)
    for name in ("rejects", "notes"):
        reasons = counted(found.files, name)
        if reasons:
            console.print(Text(f"{name.capitalize():<8}" + ", ".join(f"{key} {n:,}" for key, n in reasons.items())))
    for file in found.files:
        if file["unreadable"]:
            console.print(Text(plain(f"Not read {file['path']}: {file['unreadable']}", cells=160)))
    console.print(Text(f"Report  {plain(report)}"))
