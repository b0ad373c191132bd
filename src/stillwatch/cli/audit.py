"""audit: `stillwatch audit`: training data in, what is in it out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillwatch.cli.mark import Accounts, Because, Campaigns, Decoys, Epoch, Gamma, SchemeName, Split, Tokenizers, Width
from stillwatch.errors import InputError

if TYPE_CHECKING:
    from stillwatch.audit.audit import Audit
    from stillwatch.audit.marks import MarkSearch

MARKS = {"finding": "bold red", "lead": "yellow", "estimate": "cyan", "nothing": "green"}
"""Colours of verdicts; the word stands beside them."""

MOST_NAMED = 5
"""Skipped names shown on the terminal; all are in audit.json."""

_Paths = list[Path] | None
Registers = Annotated[
    _Paths, typer.Option(help="Known data sets: a TOML or JSON register, or a data file; repeatable.")
]
Registries = Annotated[_Paths, typer.Option(help="A provider's registry of its own answers; repeatable.")]
Control = Annotated[_Paths, typer.Option(help="Other models' answers to the same prompts: the null of copies.")]


def audit(
    data: Annotated[list[Path], typer.Argument(help="Files or folders of rows: JSONL, JSON, Parquet, CSV.")],
    register: Registers = None, registry: Registries = None, control: Control = None,
    human: Annotated[list[Path] | None, typer.Option(help="Answers people wrote, of the same domain.")] = None,
    model: Annotated[list[Path] | None, typer.Option(help="Answers models wrote, of the same domain.")] = None,
    canaries: Annotated[list[Path] | None, typer.Option(help="A batch of canaries to look for; repeatable.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="The declared licence, instead of the metadata's.")
    ] = None,
    marks: Annotated[bool, typer.Option("--marks", help="Look for your own marks, as `mark detect` does.")] = False,
    tokenizer: Tokenizers = None, scheme: SchemeName = "gumbel", width: Width = 2, gamma: Gamma = 0.25,
    split: Split = "provider", epoch: Epoch = "1", accounts: Accounts = None, campaigns: Campaigns = None,
    because: Because = "audit", decoys: Decoys = 1000,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("audit"),
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:  # fmt: skip
    """Say what is in training data: licences, copies, model-written text, canaries.

    \b
    Examples:
      stillwatch audit data/train.jsonl
      stillwatch audit data/ --register known.toml --registry answers.registry --out audit
      stillwatch audit train.parquet --human people.jsonl --model models.jsonl --json
      stillwatch audit train.jsonl --marks --tokenizer tokenizer.json
    """
    from stillwatch.audit.audit import AuditRequest
    from stillwatch.audit.audit import audit as audit_data
    from stillwatch.cli.scan import mapping_option, progress
    from stillwatch.dossier.audit_report import check_audit_target, write_audit
    from stillwatch.home import Home

    check_audit_target(out)
    home = Home.of()
    if (tokenizer or accounts or campaigns) and not marks:
        raise InputError("keys and tokenizers are for marks, which were not asked for", do="Add --marks")
    asked = partial(
        _marks, tokenizer or [], scheme, width, gamma, split, epoch, accounts, campaigns, because, decoys, key_file
    )
    request = AuditRequest(
        data=data, registers=register or [], registries=registry or [], control=control or [], human=human or [],
        model=model or [], canaries=canaries or [], licence=licence, marks=asked() if marks else None,
        mapping=mapping_option(map_ or []),
    )  # fmt: skip
    with progress() as on_progress:
        key = home.root_key(key_file)
        found = audit_data(request, key=key, journal=home.journal, on_progress=on_progress)
        report = write_audit(found, out)
    if json_:
        typer.echo(json.dumps(found.to_dict() | {"out": str(out), "report": str(report)}, indent=2, sort_keys=True))
    else:
        _print(found, report)


def _marks(
    tokenizers: Sequence[Path], scheme: str, width: int, gamma: float, split: str, epoch: str, accounts: Path | None,
    campaigns: Path | None, because: str, decoys: int, key_file: Path | None,
) -> MarkSearch:  # fmt: skip
    """What to look for, with the keys: that they were asked for is journaled."""
    from stillwatch.audit.marks import MarkSearch
    from stillwatch.cli.mark import labels_of, ring_of
    from stillwatch.watermark.schemes import Scheme, parse_split
    from stillwatch.watermark.texts import load_tokenizer

    if not tokenizers:
        raise InputError(
            "marks need the tokenizer of the answers", got="no --tokenizer",
            do="Name yours: --tokenizer tokenizer.json; token ids are tested by stillwatch mark detect",
        )  # fmt: skip
    chosen = Scheme(name=scheme, width=width, gamma=gamma, split=parse_split(split))  # type: ignore[arg-type]
    readers = {str(path): load_tokenizer(path) for path in tokenizers}
    ring = ring_of(key_file)
    now = datetime.now(UTC)
    keys = ring.for_detection(labels_of(chosen, epoch, accounts, campaigns), because=because, now=now)
    return MarkSearch(
        scheme=chosen, keys=keys, routing=ring.routing(epoch=epoch, because=because, now=now),
        decoys=ring.decoys(decoys, epoch=epoch, because=because, now=now),
        readers=readers,
    )  # fmt: skip


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
    if found.skipped:
        named = ", ".join(found.skipped[:MOST_NAMED]) + (", ..." if len(found.skipped) > MOST_NAMED else "")
        console.print(Text(plain(f"Skipped {len(found.skipped):,}: {named}", cells=400)))
    console.print(Text(f"Report  {plain(report)}"))
