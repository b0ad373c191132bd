"""explain: why a campaign was reported or a group was not, and what is known of one account, from the findings alone.

Nothing is judged again: bits, verdicts and margins are read from the findings folder, and what it does not hold is
said to be missing. The result is plain values, fit for JSON; `telling` puts them into sentences.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.dossier import words
from stillwatch.dossier.cases import Case, bars_of, campaign_of, case_of, question_of
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.lineage import ancestry, memory_of, reviewed
from stillwatch.errors import FindingsError
from stillwatch.evidence.innocent import HYPOTHESES, OWN_USE
from stillwatch.evidence.mixture import WORK
from stillwatch.records import Evidence
from stillwatch.settings import Bars

SHORTEST_PREFIX = 4
"""Fewest characters that may stand for a campaign's id."""

MAX_LISTED = 12
NOTHING = "nothing was found on this account"


def explain(findings: Findings, named: str) -> dict[str, Any]:
    """Explain a campaign, a lead or an account.

    Args:
        named: an account id, a campaign's id, or the beginning of one that no other has. An account wins.

    Returns:
        `kind` is `campaign`, `lead` or `account`; an account that nothing is known of has `found` False.

    Raises:
        FindingsError: several campaigns begin so.
    """
    if not _rows_of(findings, named):
        group = find_group(findings, named)
        if group is not None:
            return dict(_finite(_explain_group(findings, group)))
    return dict(_finite(_explain_account(findings, named)))


def find_group(findings: Findings, named: str) -> dict[str, Any] | None:
    """The row of `campaigns` or `leads` of this id, or of the only id that begins so; None where there is none.

    Raises:
        FindingsError: several ids begin so.
    """
    beginning: list[dict[str, Any]] = []
    for table in (findings.campaigns, findings.leads):
        ids = table["campaign_id"]
        exact = table.filter(pc.equal(ids, pa.scalar(_storable(named), pa.string())))
        if exact.num_rows:
            return dict(exact.slice(0, 1).to_pylist()[0])
        if len(named) >= SHORTEST_PREFIX:
            beginning += table.filter(pc.starts_with(ids, pattern=_storable(named))).to_pylist()
    if len(beginning) > 1:
        raise FindingsError(
            f"several campaigns or leads begin with {words.plain(named, cells=40)}",
            got=_ids([row["campaign_id"] for row in beginning]), do="Give more of the id.",
        )  # fmt: skip
    return beginning[0] if beginning else None


def what_there_is(findings: Findings) -> str:
    """The campaigns and leads of a scan, for whoever asked for another."""
    parts = [
        f"{name} {_ids(ids)}"
        for name, table in (("campaigns", findings.campaigns), ("leads", findings.leads))
        if (ids := table["campaign_id"].to_pylist())
    ]
    return ", and ".join(parts) or "neither a campaign nor a lead"


def _explain_group(findings: Findings, row: Mapping[str, Any]) -> dict[str, Any]:
    bars, campaign = bars_of(findings.run), campaign_of(row)
    case = case_of(findings, campaign, number=1, bars=bars, n_members=0)
    reported = row["verdict"] == "campaign"
    lineage = case.lineage
    return {
        "kind": "campaign" if reported else "lead",
        "campaign_id": campaign.campaign_id,
        "verdict": words.named(campaign.verdict, words.VERDICTS),
        "n_accounts": campaign.n_accounts,
        "n_exchanges": campaign.n_exchanges,
        "first_seen": _iso(campaign.first_seen),
        "last_seen": _iso(campaign.last_seen),
        "claim": words.claim(campaign) if reported else None,
        "strength": words.strength(campaign) if reported else None,
        "missed": None if reported else words.missed(row.get("failed_bar"), row.get("shortfall")),
        "lineage": None if lineage is None else ancestry(lineage),
        "review": None if lineage is None or lineage.review is None else reviewed(lineage.review),
        "bars": _bars(case, bars),
        "questions": [_question(case, name) for name in ("operator", "harvest")],
        "innocent": [_innocent(one, case, bars) for one in case.explanations],
        "belongs": _belongs(case),
        "traits": [asdict(one) for one in case.traits[:MAX_LISTED]],
        "n_traits": len(case.traits),
        "not_examined": list(campaign.not_examined),
        "rows_lie_in": _manifest(findings.run),
    }


def _bars(case: Case, bars: Bars) -> list[dict[str, Any]]:
    """Each bar with what was reached; `spare` is negative by what is missing, in the bar's own unit."""
    campaign = case.campaign
    reached = [
        ("q_value", campaign.q_value, bars.q_max, bars.q_max - campaign.q_value),
        *(
            (name, value, bar, value - bar)
            for name, value, bar in (
                ("operator_bits", campaign.operator_bits, bars.operator_bits_min),
                ("harvest_bits", campaign.harvest_bits, bars.harvest_bits_min),
                ("innocent_margin_bits", campaign.innocent_margin_bits, bars.innocent_margin_bits_min),
            )
        ),
    ]
    return [
        {"bar": name, "value": value, "limit": bar, "spare": spare, "cleared": spare >= 0}
        for name, value, bar, spare in reached
    ]


def _question(case: Case, name: str) -> dict[str, Any]:
    total = case.campaign.operator_bits if name == "operator" else case.campaign.harvest_bits
    evidence = [one for one in case.evidence if question_of(one) == name]
    evidence.sort(key=lambda one: (-(one.e_log2 or 0.0), one.signal, one.evidence_id))
    return {"question": name, "bits": total, "evidence": [_evidence(one, case) for one in evidence]}


def _evidence(one: Evidence, case: Case) -> dict[str, Any]:
    rows = case.rows.get(one.evidence_id, [])
    told = ("evidence_id", "signal", "family", "h1", "h0", "statistic", "n", "effect", "lo", "hi", "null_id", "p_log10")
    return {
        **{name: getattr(one, name) for name in told},
        "bits": one.e_log2,
        "n_rows": rows[0]["n_total"] if rows else 0,
        "rows": [{name: row[name] for name in ("row_id", "account_id", "role")} for row in rows[:MAX_LISTED]],
    }


def _belongs(case: Case) -> dict[str, float] | None:
    """Which share of a member's exchanges shows the group's templates, as the evidence says; None where it does not."""
    names = ("belongs", "belongs_low", "belongs_high")
    for one in case.evidence:
        try:
            detail = json.loads(one.detail or "{}")
        except (ValueError, RecursionError):
            continue
        told = {name: detail.get(name) for name in names} if isinstance(detail, dict) else {}
        shares = {name: float(share) for name, share in told.items() if isinstance(share, float | int)}
        if len(shares) == len(names) and all(0 <= share <= 1 for share in shares.values()):
            return shares
    return None


def _innocent(row: Mapping[str, Any], case: Case, bars: Bars) -> dict[str, Any]:
    """One innocent explanation: what it says, which evidence it leaves open, and by how much it is beaten."""
    known = next((one for one in (*HYPOTHESES, OWN_USE) if one.name == row["hypothesis"]), None)
    found = {one.signal: one.e_log2 for one in case.evidence}
    left = known.leaves if known else ()
    return {
        "hypothesis": row["hypothesis"],
        "says": known.says if known else None,
        "bits": row["bits"],
        "beaten": row["bits"] >= bars.innocent_margin_bits_min,
        "is_best": row["hypothesis"] == case.campaign.best_innocent,
        "leaves_open": [{"signal": name, "bits_for_all": found.get(name)} for name in left],
        "explains": sorted(set(found) - set(left)) if known else [],
        "would_change": row["would_change"],
    }


def _explain_account(findings: Findings, account_id: str) -> dict[str, Any]:
    memory = memory_of(findings.run)
    said: dict[str, Any] = {"kind": "account", "account_id": account_id, "found": False}
    member_of = []
    for row in _where(findings.members, "account_id", account_id):
        group = find_group(findings, row["campaign_id"])
        lineage = memory.campaigns.get(row["campaign_id"])
        member_of.append(
            {
                "campaign_id": row["campaign_id"],
                "membership": row["membership"],
                "bits": row["bits"],
                "n_exchanges": row["n_exchanges"],
                "campaign": words.claim(campaign_of(group)) if group else None,
                "review": reviewed(lineage.review) if lineage and lineage.review else None,
                "hubs": (hubs := _hubs(findings, row["campaign_id"], account_id)),
                "belongs_at_least": max((hub["share"] or 0.0 for hub in hubs if hub["kind"] in WORK), default=0.0),
            }
        )
    named_in = _named_in(findings, account_id)
    if not member_of and not named_in:
        return said | {"says": NOTHING}
    return said | {
        "found": True,
        "member_of": member_of,
        "alone": sorted({one["campaign_id"] for one in named_in if one["of"] == "account"}),
        "named_in": named_in,
        "rows_lie_in": _manifest(findings.run),
    }


def _hubs(findings: Findings, campaign_id: str, account_id: str) -> list[dict[str, Any]]:
    """The campaign's traits that an account carries, with the share of its exchanges that shows each."""
    known = {(one["kind"], one["trait_key"]): one for one in _where(findings.traits, "campaign_id", campaign_id)}
    carried = [
        one for one in _where(findings.member_traits, "account_id", account_id) if one["campaign_id"] == campaign_id
    ]
    return [known[one["kind"], one["trait_key"]] | one for one in carried if (one["kind"], one["trait_key"]) in known]


def _named_in(findings: Findings, account_id: str) -> list[dict[str, Any]]:
    """Evidence in whose sample of rows the account has some, with those rows."""
    rows: dict[str, list[str]] = {}
    for row in _where(findings.evidence_rows, "account_id", account_id):
        rows.setdefault(row["evidence_id"], []).append(row["row_id"])
    evidence = findings.evidence
    wanted = evidence.filter(pc.is_in(evidence["evidence_id"], value_set=pa.array(sorted(rows), pa.string())))
    campaigns = set(findings.campaigns["campaign_id"].to_pylist())
    named = [
        {
            "campaign_id": one["subject_id"],
            "reported": one["subject_id"] in campaigns,
            "of": one["subject_kind"],
            "signal": one["signal"],
            "evidence_id": one["evidence_id"],
            "rows": sorted(rows[one["evidence_id"]])[:MAX_LISTED],
        }
        for one in wanted.to_pylist()
    ]
    return sorted(named, key=lambda one: (not one["reported"], one["campaign_id"], one["signal"], one["evidence_id"]))


def _rows_of(findings: Findings, account_id: str) -> bool:
    """Whether the findings name an account of just this id."""
    return any(_where(table, "account_id", account_id) for table in (findings.members, findings.evidence_rows))


def _where(table: pa.Table, column: str, value: str) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = table.filter(
        pc.equal(table[column], pa.scalar(_storable(value), pa.string()))
    ).to_pylist()
    return kept


def _storable(text: str) -> str:
    """An argument that is no Unicode text equals nothing that a table holds."""
    return text if text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text) else "\0"


def _manifest(run: Mapping[str, Any]) -> dict[str, Any]:
    """The files among whose rows the named ones lie: a row id is a hash of content, which holds no place."""
    source, keys = run.get("input"), run.get("key_ids")
    files = source.get("files") if isinstance(source, Mapping) else None
    kept = [one for one in files if isinstance(one, Mapping)] if isinstance(files, list) else []
    told = ("path", "sha256", "first_row", "n_rows")
    return {
        "key_id": str(keys.get("rows")) if isinstance(keys, Mapping) and "rows" in keys else None,
        "n_files": len(kept),
        "files": [{name: one.get(name) for name in told} for one in kept[:MAX_LISTED]],
    }


def _ids(ids: list[str]) -> str:
    shown = ", ".join(words.plain(one, cells=20) for one in ids[:MAX_LISTED])
    return f"{shown} and {words.count(len(ids) - MAX_LISTED)} more" if len(ids) > MAX_LISTED else shown


def _finite(value: Any) -> Any:
    """Plain values in which every number is one that JSON can hold; None for the others."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _iso(value: object) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else None
