"""review: `stillwatch review`: what an analyst says of a campaign, journaled, and remembered by the next scan."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from stillwatch.errors import FindingsError, SettingsError
from stillwatch.redact import plain_text

if TYPE_CHECKING:
    from stillwatch.dossier.findings import Findings
    from stillwatch.keys import RootKey
    from stillwatch.lineages import Verdict

JOURNALED = "review"
"""The kind of a review's line in the journal."""


def review(
    campaign: Annotated[str, typer.Argument(help="The campaign's id, or its beginning.")],
    verdict: Annotated[str, typer.Argument(metavar="confirm|dismiss|watch", help="What you say of it.")],
    why: Annotated[str, typer.Option(help="The reason, in a sentence; it is shown in later reports.")],
    folder: Annotated[Path, typer.Option("--findings", help="Findings folder that a scan wrote.")] = Path("findings"),
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the review as JSON on standard output.")] = False,
) -> None:
    """Confirm, dismiss or watch a campaign; later scans remember it.

    \b
    Examples:
      stillwatch review c41f0b7d22e9a6c3 dismiss --why "a class at a school we know"
      stillwatch review c41f confirm --why "cards traced to one buyer" --findings march
    """
    from stillwatch.dossier.folder import read_findings
    from stillwatch.dossier.lineage import members_of, recorded, reviewed
    from stillwatch.home import Home
    from stillwatch.lineages import REGISTRY, Lineages
    from stillwatch.lineages import Verdict as Known

    if verdict not in get_args(Known):
        raise SettingsError("a review is one of three words", got=repr(verdict), expected=", ".join(get_args(Known)))
    home, now = Home.of(), datetime.now(UTC)
    findings = read_findings(folder)
    campaign_id = _campaign(findings, campaign, folder)
    key = home.root_key(key_file)
    _check_key(findings, key, folder)
    registry, journal = Lineages(home.folder / REGISTRY, key=key), home.journal
    lineage = next(one for one in recorded(findings, registry, at=now).campaigns if one.campaign_id == campaign_id)
    receipts: list[str] = []
    said = registry.review(
        lineage, members_of(findings, campaign_id), cast("Verdict", verdict), why=why, at=now,
        journal=lambda body: receipts.append(journal.append(JOURNALED, body, now)),
    )  # fmt: skip
    if json_:
        told = {"campaign_id": campaign_id, "lineage_id": lineage.lineage_id, "verdict": said.verdict, "why": said.why}
        typer.echo(json.dumps(told | {"at": said.at, "receipt": receipts[0]}, indent=2, sort_keys=True))
        return
    typer.echo(plain_text(f"Campaign {campaign_id} (lineage {lineage.lineage_id}) is {reviewed(said)}"))
    typer.echo(f"Later scans remember it. Receipt in the journal: {receipts[0]}")


def _campaign(findings: Findings, named: str, folder: Path) -> str:
    from stillwatch.dossier.explain import find_group, what_there_is
    from stillwatch.dossier.words import plain

    group = find_group(findings, named)
    if group is None:
        raise FindingsError(f"{folder} holds no campaign {plain(named, cells=40)}", got=what_there_is(findings))
    campaign_id = str(group["campaign_id"])
    if campaign_id not in findings.campaigns["campaign_id"].to_pylist():
        raise FindingsError(
            f"{plain(campaign_id, cells=40)} is a lead, which accuses nobody and names no members to remember it by",
            got=what_there_is(findings), do="Review a campaign.",
        )  # fmt: skip
    return campaign_id


def _check_key(findings: Findings, key: RootKey, folder: Path) -> None:
    """Another key would begin lineages that no scan of this home carries on."""
    ids = findings.run.get("key_ids")
    theirs = ids.get("rows") if isinstance(ids, dict) else None
    if theirs != key.key_id("rows"):
        raise FindingsError(
            f"{folder} was scanned under another key", got=f"key id {str(theirs)[:40]}", expected=key.key_id("rows"),
            do="Name its key with --key-file, or scan again.",
        )  # fmt: skip
