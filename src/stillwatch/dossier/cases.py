"""cases: one campaign with all that speaks for it and against it, ready to be presented.

Nothing is judged here: bits, verdicts and margins are read from the findings. Only the waterfall's steps are worked
out: what each family says on its own (within a family e-values are averaged, Law 2), and the step from the strongest
of them to the total.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.dossier.activity import Activity
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.lineage import memory_of
from stillwatch.kernels.evalues import mean_e_log2
from stillwatch.lineages import Lineage
from stillwatch.records import Campaign, Evidence, Trait
from stillwatch.settings import Bars

HARVEST_FAMILIES = ("content",)
"""Families that answer `harvest?` where the detail of the evidence does not name its `question`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of a waterfall: what a family of evidence, or a signal where there is one family, says on its own."""

    label: str
    bits: float


@dataclass(frozen=True, slots=True)
class Question:
    """One question a campaign must answer: what speaks for it, where that ends, and the bar it must clear."""

    label: str
    steps: tuple[Step, ...]
    total: float
    bar: float

    @property
    def joint(self) -> float:
        """Bits from the strongest step to the total: below 0 where evidence is averaged, above where it multiplies."""
        return self.total - max(step.bits for step in self.steps) if self.steps else 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One campaign as a reader meets it; tables are sorted, and cut where the case says so."""

    number: int
    campaign: Campaign
    questions: tuple[Question, ...]
    members: list[dict[str, Any]]
    n_members: int
    evidence: list[Evidence]
    rows: Mapping[str, list[dict[str, Any]]]
    traits: list[Trait]
    explanations: list[dict[str, Any]]
    activity: Activity | None
    lineage: Lineage | None


def bars_of(run: Mapping[str, Any]) -> Bars:
    """The bars this run was judged by, from its recorded settings; today's where the run does not say."""
    settings = run.get("settings")
    recorded = settings.get("bars") if isinstance(settings, Mapping) else None
    if not isinstance(recorded, Mapping):
        return Bars()
    names = [option.name for option in fields(Bars) if isinstance(recorded.get(option.name), int | float)]
    return replace(Bars(), **{name: float(recorded[name]) for name in names})


def campaigns_of(findings: Findings) -> list[Campaign]:
    """Every campaign, the one with most exchanges first."""
    rows = [campaign_of(row) for row in findings.campaigns.to_pylist()]
    return sorted(rows, key=lambda row: (-(row.n_exchanges or 0), row.campaign_id))


def campaign_of(row: Mapping[str, Any]) -> Campaign:
    """A row of `campaigns` or `leads` as the noun."""
    lists = {"capabilities": dict(row["capabilities"] or ()), "not_examined": list(row["not_examined"] or ())}
    return Campaign.from_row({**row, **lists})


def leads_of(findings: Findings) -> list[dict[str, Any]]:
    """Every group that was weighed and not reported, the nearest to a campaign first."""
    return sorted(findings.leads.to_pylist(), key=lambda row: (-_least(row), row["campaign_id"]))


def cases_of(findings: Findings, *, n_cases: int, n_members: int) -> list[Case]:
    """The first `n_cases` campaigns, each with its first `n_members` members; cost is cases times table rows."""
    bars = bars_of(findings.run)
    return [
        case_of(findings, campaign, number=number, bars=bars, n_members=n_members)
        for number, campaign in enumerate(campaigns_of(findings)[:n_cases], start=1)
    ]


def case_of(findings: Findings, campaign: Campaign, *, number: int, bars: Bars, n_members: int) -> Case:
    """All that speaks for and against one group, a campaign or a lead, with its first `n_members` members."""
    key = campaign.campaign_id
    members = _where(findings.members, "campaign_id", key)
    order = [("membership", "descending"), ("bits", "descending"), ("account_id", "ascending")]
    evidence = [Evidence.from_row(row) for row in _where(findings.evidence, "subject_id", key).to_pylist()]
    evidence.sort(
        key=lambda row: (question_of(row) == "harvest", row.family, -(row.e_log2 or 0.0), row.signal, row.evidence_id)
    )
    traits = [Trait.from_row(row) for row in _where(findings.traits, "campaign_id", key).to_pylist()]
    traits.sort(key=lambda row: (row.expected - row.n_inside, row.kind, row.trait_key))
    explanations = _where(findings.explanations, "campaign_id", key).to_pylist()
    explanations.sort(key=lambda row: (row["bits"], row["hypothesis"]))
    return Case(
        number=number,
        campaign=campaign,
        questions=_questions(campaign, evidence, bars),
        members=members.sort_by(order).slice(0, n_members).to_pylist(),
        n_members=members.num_rows,
        evidence=evidence,
        rows=_rows(findings.evidence_rows, [row.evidence_id for row in evidence]),
        traits=traits,
        explanations=explanations,
        activity=findings.activity.get(key),
        lineage=memory_of(findings.run).campaigns.get(key),
    )


def _questions(campaign: Campaign, evidence: list[Evidence], bars: Bars) -> tuple[Question, ...]:
    operator = _steps([row for row in evidence if question_of(row) == "operator"])
    harvest = _steps([row for row in evidence if question_of(row) == "harvest"])
    margin = campaign.innocent_margin_bits
    return (
        Question("One operator?", operator, campaign.operator_bits, bars.operator_bits_min),
        Question("A harvest?", harvest, campaign.harvest_bits, bars.harvest_bits_min),
        Question("Beyond innocent causes?", (), margin, bars.innocent_margin_bits_min),
    )


def _steps(evidence: list[Evidence]) -> tuple[Step, ...]:
    """Bits of each family, or of each signal where all are of one family; evidence without an e-value is left out."""
    counted = [row for row in evidence if row.e_log2 is not None]
    one_family = len({row.family for row in counted}) == 1
    grouped: dict[str, list[float]] = {}
    for row in counted:
        grouped.setdefault(row.signal if one_family else row.family, []).append(row.e_log2 or 0.0)
    steps = [Step(label, mean_e_log2(values)) for label, values in grouped.items()]
    return tuple(sorted(steps, key=lambda step: (-step.bits, step.label)))


def question_of(evidence: Evidence) -> str:
    """Which question a piece of evidence answers: `operator` or `harvest`."""
    try:
        named = json.loads(evidence.detail or "{}")
    except (ValueError, RecursionError):
        named = {}
    question = named.get("question") if isinstance(named, dict) else None
    if question in ("operator", "harvest"):
        return str(question)
    return "harvest" if evidence.family in HARVEST_FAMILIES else "operator"


def _rows(table: pa.Table, evidence_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    kept = table.filter(pc.is_in(table["evidence_id"], value_set=pa.array(evidence_ids, pa.string())))
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(kept.to_pylist(), key=lambda row: (row["evidence_id"], row["row_id"], row["role"])):
        rows.setdefault(row["evidence_id"], []).append(row)
    return rows


def _where(table: pa.Table, column: str, value: str) -> pa.Table:
    return table.filter(pc.equal(table[column], value))


def _least(row: Mapping[str, Any]) -> float:
    return min(row["operator_bits"] or 0.0, row["harvest_bits"] or 0.0)
