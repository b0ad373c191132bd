"""explain: `stillwatch explain`: why a campaign was reported, or what is known of one account."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillwatch.errors import FindingsError

if TYPE_CHECKING:
    from stillwatch.dossier.telling import Line

Named = Annotated[Path, typer.Option("--findings", help="Findings folder that a scan wrote.")]

OUR_ID = re.compile(r"c[0-9a-f]{15}")
"""What a campaign's id looks like; such a word is never taken for an account that nothing is known of."""


def explain(
    named: Annotated[str, typer.Argument(metavar="CAMPAIGN|ACCOUNT", help="A campaign, a lead, or an account id.")],
    folder: Named = Path("findings"),
    json_: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON on standard output.")] = False,
) -> None:
    """Say why a campaign was reported and why not something innocent, or what is known of an account.

    \b
    Examples:
      stillwatch explain c41f0b7d22e9a6c3
      stillwatch explain c41f --findings march --json
      stillwatch explain acct-7
    """
    from stillwatch.dossier.explain import explain as explained_by
    from stillwatch.dossier.explain import what_there_is
    from stillwatch.dossier.folder import read_findings
    from stillwatch.dossier.telling import tell

    findings = read_findings(folder)
    explained = explained_by(findings, named)
    if explained.get("found") is False and OUR_ID.fullmatch(named):
        raise FindingsError(f"{folder} holds no campaign {named}", got=what_there_is(findings))
    if json_:
        typer.echo(json.dumps(explained, indent=2, sort_keys=True))
    else:
        _print(tell(explained))


def _print(lines: list[Line]) -> None:
    from rich.console import Console, Group, RenderableType
    from rich.padding import Padding
    from rich.text import Text

    from stillwatch.cli.summary import print_parts

    parts: list[RenderableType] = []
    for line in lines:
        if line.is_heading and parts:
            parts.append(Text())
        style = "bold" if line.is_heading else ""
        parts.append(Padding(Text(line.text, style=style, overflow="fold"), (0, 0, 0, 2 * line.indent)))
    print_parts(Console(), [Group(*parts)])
