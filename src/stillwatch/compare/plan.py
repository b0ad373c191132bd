"""plan: what will be tested, registered in the journal before the first query, so that nothing is fitted afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from stillwatch.compare import canonical, views
from stillwatch.compare.panel import Panel, prompts_sha256
from stillwatch.compare.rules import Rules
from stillwatch.journal import Journal

KIND = "preregistration"
VERSION = 2

HYPOTHESES = {
    "A": "suspect and teacher could change places on every prompt: they are the same model",
    "B": "at least one unrelated control is as near to the suspect as the teacher is",
}


@dataclass(frozen=True, slots=True)
class Registered:
    """A plan, its SHA-256, and the receipt of its line in the journal."""

    plan: Mapping[str, Any]
    sha256: str
    receipt: str


def make_plan(
    panel: Panel,
    *,
    rules: Rules,
    seed: int,
    stop_early: bool,
    n_known: int | None = None,
    canaries_sha256: str | None = None,
    expected_sha256: str | None = None,
    marks: Mapping[str, Any] | None = None,
    rejects: Mapping[str, int] = MappingProxyType({}),
    asking: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that could be chosen after the fact, as plain values without any text of prompt or answer.

    Args:
        rejects: unreadable rows and refused prompts, by file or endpoint.
        asking: options sent to the suspect's endpoint.
        n_known: how many of the suspect's answers were there before the plan, from a file or an earlier run.
        marks: `Marks.plan`, where marks are looked for.
    """
    stop = (
        "after a batch, once A says different and B says derived or, where neither known students nor canaries nor "
        "marks are given, is out of reach; else after all prompts"
        if stop_early
        else "after all prompts"
    )
    return {
        "version": VERSION,
        "hypotheses": HYPOTHESES,
        "suspect": panel.suspect,
        "teachers": list(panel.teachers),
        "controls": list(panel.controls),
        "students": list(panel.students),
        "before": panel.before,
        "families": dict(panel.families),
        "sources": dict(panel.sources),
        "set_aside": dict(panel.set_aside),
        "rejects": dict(rejects),
        "asking": dict(asking) if asking is not None else None,
        "n_prompts": len(panel.prompts),
        "n_answers_known": n_known,
        "prompts_sha256": panel.prompts_sha256(),
        "seed": seed,
        "rules": asdict(rules),
        "stop": stop,
        "canonicalisation": canonical.VERSION,
        "views": {name: list(lengths) for name, lengths in views.VIEWS.items()},
        "canaries_sha256": canaries_sha256,
        "expected_sha256": expected_sha256,
        "marks": marks,
    }


def plan_of_asking(address: str, model: str, prompts: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a teacher or a control behind an endpoint will be asked, before it is."""
    return {
        "version": VERSION,
        "asking": {"address": address, "model": model, "options": dict(options)},
        "n_prompts": len(prompts),
        "prompts_sha256": prompts_sha256(prompts),
    }


def register(plan: Mapping[str, Any], journal: Journal, *, now: datetime) -> Registered:
    """Hash the plan and put plan and hash into the journal. It is on disk when the call returns.

    Raises:
        JournalError: the journal cannot be written; nothing may be asked then.
    """
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    receipt = journal.append(KIND, {"sha256": digest, "plan": plan}, now)
    return Registered(plan, digest, receipt)
