"""appeal: `stillwatch appeal`: a person says whether a decision of the gate stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from stillwatch.errors import SettingsError


def appeal(
    appeal_id: Annotated[str, typer.Argument(help="The id the client was told, or the decision's.")],
    outcome: Annotated[str, typer.Argument(help="uphold or overturn.")],
    why: Annotated[str, typer.Option(help="The reason, for the journal.")],
    journal: Annotated[Path | None, typer.Option(help="The gate's journal, if not the one in STILLWATCH_HOME.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Uphold or overturn a decision; overturned accounts are left out of snapshots from then on.

    \b
    Examples:
      stillwatch appeal 5f0c1d overturn --why "A university course; the contract was checked."
      stillwatch appeal 5f0c1d uphold --why "Same work list as the other accounts."
    """
    from stillwatch.home import Home
    from stillwatch.journal import Journal
    from stillwatch.policy.appeals import settle_appeal
    from stillwatch.redact import plain_text

    if outcome not in ("uphold", "overturn"):
        raise SettingsError("an appeal has one of two outcomes", got=repr(outcome), expected="uphold or overturn")
    book = Journal(journal) if journal else Home.of().journal
    settled = settle_appeal(book, appeal_id, outcome, why=why, now=datetime.now(UTC))  # type: ignore[arg-type]
    if json_:
        said = {
            "appeal_id": settled.appeal_id,
            "account_id": settled.account_id,
            "outcome": settled.outcome,
            "receipt": settled.receipt,
        }
        typer.echo(json.dumps(said, indent=2, sort_keys=True))
        return
    done = {"uphold": "upheld", "overturn": "overturned"}[settled.outcome]
    typer.echo(f"{plain_text(settled.account_id)}: {done}. Receipt {settled.receipt}.")
