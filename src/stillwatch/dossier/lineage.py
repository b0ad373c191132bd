"""lineage: what the registry remembers of a scan's campaigns: put into run.json, read back, and said in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.dossier import words
from stillwatch.dossier.findings import Findings
from stillwatch.errors import LineageError
from stillwatch.lineages import Gone, Lineage, Lineages, Remembered, Review, Verdict

REVIEWED = {"confirm": "confirmed", "dismiss": "dismissed", "watch": "watched"}


@dataclass(frozen=True, slots=True)
class Memory:
    """What run.json says of lineages; `problem` where the registry could not be used, None where nobody asked it."""

    campaigns: Mapping[str, Lineage]
    gone: tuple[Gone, ...]
    problem: str | None


def remember(findings: Findings, registry: Lineages, *, at: datetime) -> Findings:
    """Record the campaigns of a scan and return the findings with their lineages in `run`.

    A registry that cannot be used costs the memory, not the findings: `run` says what was wrong, and no review counts.
    """
    try:
        said = recorded(findings, registry, at=at)
    except LineageError as error:
        return replace(findings, run={**findings.run, "lineages": {"problem": str(error)}})
    told = {"key_id": registry.key_id, "campaigns": [asdict(one) for one in said.campaigns]}
    gone = [asdict(one) for one in said.gone]
    return replace(findings, run={**findings.run, "lineages": {**told, "gone": gone}})


def recorded(findings: Findings, registry: Lineages, *, at: datetime) -> Remembered:
    """The lineages of a scan's campaigns; a scan that is not in the registry is recorded.

    Raises:
        LineageError: the registry cannot be used.
    """
    campaigns = {one: members_of(findings, one) for one in findings.campaigns["campaign_id"].to_pylist()}
    return registry.remember(campaigns, logs=_logs(findings.run), at=at)


def members_of(findings: Findings, campaign_id: str) -> list[str]:
    """The accounts that a campaign names."""
    table = findings.members
    return [str(one) for one in table.filter(pc.equal(table["campaign_id"], campaign_id))["account_id"].to_pylist()]


def memory_of(run: Mapping[str, Any]) -> Memory:
    """Read the lineages of run.json leniently: what is of another shape is left out."""
    said = run.get("lineages")
    if not isinstance(said, Mapping):
        return Memory({}, (), None)
    campaigns = {one.campaign_id: one for each in _each(said.get("campaigns")) if (one := _lineage(each))}
    gone = [
        Gone(str(each.get("lineage_id")), str(each.get("campaign_id")), n)
        for each in _each(said.get("gone"))
        if isinstance(n := each.get("n_accounts"), int) and 0 <= n < words.MAX_COUNT
    ]
    problem = said.get("problem")
    return Memory(campaigns, tuple(gone), None if problem is None else str(problem))


def of_folder(folder: Path, registry: Lineages) -> Mapping[str, Lineage]:
    """The lineages of a findings folder's campaigns with today's reviews; nothing is recorded.

    Where the registry does not know the scan they are what run.json holds; none where that cannot be read.

    Raises:
        LineageError: there is a registry, and it cannot be used.
    """
    try:
        run = json.loads((folder / "run.json").read_text("utf-8"))
        campaigns = pq.read_table(folder / "campaigns.parquet", columns=["campaign_id"])["campaign_id"].to_pylist()
        members = pq.read_table(folder / "members.parquet", columns=["campaign_id", "account_id"])
    except (OSError, ValueError, RecursionError, pa.ArrowException):
        return {}
    if not isinstance(run, dict):
        return {}
    accounts: dict[str, list[str]] = {str(one): [] for one in campaigns}
    for campaign, account in zip(*(members[name].to_pylist() for name in members.column_names), strict=True):
        accounts.setdefault(str(campaign), []).append(str(account))
    known = registry.known({str(one): accounts[str(one)] for one in campaigns}, logs=_logs(run))
    return memory_of(run).campaigns if known is None else {one.campaign_id: one for one in known.campaigns}


def is_dismissed(lineage: Lineage | None) -> bool:
    """Whether an analyst's dismissal stands for a campaign."""
    review = lineage.review if lineage else None
    return review is not None and review.verdict == "dismiss" and review.holds


def dismissed(findings: Findings) -> set[str]:
    """The campaigns of a scan that an analyst's dismissal stands for."""
    known = memory_of(findings.run).campaigns
    return {one for one in findings.campaigns["campaign_id"].to_pylist() if is_dismissed(known.get(one))}


def ancestry(lineage: Lineage) -> str:
    """What a campaign is to earlier scans: 'Lineage l..., the same as in earlier scans, first seen on 3 Sep 2026.'"""
    said = {
        "new": "new: no earlier scan holds it",
        "same": f"known from earlier scans, first recorded on {words.day(lineage.since)}",
        "merged": f"first recorded on {words.day(lineage.since)}; it took in {words.listed(lineage.absorbed, most=4)}",
        "split": f"a smaller part of {words.listed(lineage.split_from, most=4)}, which went on elsewhere",
    }
    return f"Lineage {words.plain(lineage.lineage_id, cells=20)}, {words.named(lineage.status, said)}."


def reviewed(review: Review) -> str:
    """What an analyst said: 'dismissed by review on 3 Sep 2026: a class of students'."""
    said = f"{REVIEWED[review.verdict]} by review on {words.day(review.at)}: {review.why}"
    if review.holds:
        return said
    lapsed = "most of these accounts were not reviewed, or a kindred lineage was not dismissed"
    return f"no longer {said} ({lapsed}; review it again)"


def standing(lineage: Lineage | None) -> str:
    """The review that stands for a campaign, in three words: 'dismissed by review'; empty where none does."""
    review = lineage.review if lineage else None
    return f"{REVIEWED[review.verdict]} by review" if review is not None and review.holds else ""


def gone_in_words(gone: Gone) -> str:
    """A lineage that is not in this scan: 'campaign c..., 80 accounts (lineage l...)'."""
    return (
        f"campaign {words.plain(gone.campaign_id, cells=20)}, {words.counted(gone.n_accounts, 'account')} "
        f"(lineage {words.plain(gone.lineage_id, cells=20)})"
    )


def _logs(run: Mapping[str, Any]) -> list[str]:
    """What names the logs of a scan: the hashes of its files, and the window."""
    source = run.get("input")
    source = source if isinstance(source, Mapping) else {}
    hashes = [f"sha256:{file.get('sha256')}" for file in _each(source.get("files"))]
    return [*hashes, f"since:{source.get('since')}", f"until:{source.get('until')}"]


def _lineage(said: Mapping[str, Any]) -> Lineage | None:
    campaign_id, lineage_id, status, since = (
        said.get(name) for name in ("campaign_id", "lineage_id", "status", "since")
    )
    absorbed, split_from = said.get("absorbed"), said.get("split_from")
    if not (isinstance(campaign_id, str) and isinstance(lineage_id, str) and isinstance(status, str)):
        return None
    if not (isinstance(since, str) and isinstance(absorbed, list | tuple) and isinstance(split_from, list | tuple)):
        return None
    kin = tuple(map(str, absorbed)), tuple(map(str, split_from))
    return Lineage(campaign_id, lineage_id, status, since, *kin, review=_review(said.get("review")))


def _review(said: object) -> Review | None:
    if not isinstance(said, Mapping) or said.get("verdict") not in get_args(Verdict):
        return None
    verdict = cast("Verdict", said["verdict"])
    holds = said.get("holds") is True
    return Review(verdict, str(said.get("why")), str(said.get("at")), str(said.get("campaign_id")), holds)


def _each(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
