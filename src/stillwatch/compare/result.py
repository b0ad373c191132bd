"""result: a comparison as plain values for `--json`, and as Evidence about a model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from stillwatch.compare import canonical
from stillwatch.compare.battery import Compared
from stillwatch.compare.panel import Panel
from stillwatch.compare.plan import HYPOTHESES, Registered
from stillwatch.compare.rules import Rules
from stillwatch.compare.verdict import Figures
from stillwatch.records import EVIDENCE
from stillwatch.watermark.rows import evidence_rows, plain

VERSION = 1

ALTERNATIVES = (
    "the teacher learned from the suspect, or both from a third model",
    "both were made from the same weights or the same data under a licence",
    "the suspect passes questions on to the teacher",
    "a control is less unrelated than it was declared to be",
)
"""What likeness cannot tell from derivation; printed with every result."""


def as_plain(compared: Compared, panel: Panel, registered: Registered, rules: Rules) -> dict[str, Any]:
    """The whole result; the words at the top are those of the teacher that most is said of."""
    teachers = [_teacher(compared, n, panel, rules) for n in range(len(compared.figures))]
    whole: dict[str, Any] = _finite(
        {
            "version": VERSION,
            "suspect": panel.suspect,
            **teachers[compared.leading],
            "n_asked": compared.n_asked,
            "n_unanswered": compared.n_unanswered,
            "stopped_early": compared.stopped_early,
            "canonicalisation": {"version": canonical.VERSION, "steps": list(canonical.STEPS)},
            "set_aside": dict(panel.set_aside),
            "rejects": dict(registered.plan.get("rejects", {})),
            "alternatives": list(ALTERNATIVES),
            "rules": asdict(rules),
            "plan": {
                "sha256": registered.sha256,
                "journal_receipt": registered.receipt,
                "n_answers_known": registered.plan.get("n_answers_known"),
            },
            "teachers": teachers,
        }
    )
    return whole


def _teacher(compared: Compared, n: int, panel: Panel, rules: Rules) -> dict[str, Any]:
    one, same, derived = compared.figures[n], compared.same_model[n], compared.derived[n]
    known = one.among_students(rules)
    return {
        "teacher": one.teacher,
        "same_model": same.word,
        "derived": derived.word,
        "why": {"same_model": same.why, "derived": derived.why},
        "n_prompts": one.n,
        "p_values": {
            "equality": one.equality.p_value,
            "equality_anytime": one.equality_anytime_p,
            "rank": one.rank_p,
            "rank_bound": 1 / (1 + one.n_families),
            "permutation": one.permutation_p,
            "permutation_holm": one.holm_p,
            "permutation_anytime": one.nearness_anytime_p,
            "student_rank": known.rank_p,
            "student": known.p_value,
        },
        "margin": one.margin,
        "views": [asdict(view) for view in one.nearness],
        "power": {
            "equality": one.equality_power,
            "derived_if_it_repeated_this_share": dict(one.power),
            "known_students": dict(one.students),
            "share_of_such_students_found": {"found": known.n_found, "of": known.n, "lo": known.lo},
        },
        "controls": {"n_families": one.n_families, "families": dict(one.families)},
        "related": sorted(set(panel.controls) - set(one.families)),
        "canaries": asdict(one.recall) if one.recall else None,
        "marks": [plain(mark.finding, mark.suspect) for mark in one.marks] or None,
        "shared_errors": asdict(one.mistakes) if one.mistakes else None,
        "contrast": [asdict(view) for view in one.contrasts] or None,
    }


def evidence(compared: Compared, panel: Panel, registered: Registered, rules: Rules) -> pa.Table:
    """Every figure as a row of Evidence about the suspect. `e_log2` is null where there is no bet behind a figure."""
    rows = [
        _row(panel.suspect, one, registered, rules, **values) for one in compared.figures for values in _findings(one)
    ]
    marks = [
        evidence_rows(
            [mark.finding], [mark.suspect], scheme=mark.scheme, alpha=rules.alpha_derived, subject_kind="model"
        )
        for one in compared.figures
        for mark in one.marks
    ]
    return pa.concat_tables([pa.Table.from_pylist(rows, schema=EVIDENCE), *marks])


def _findings(one: Figures) -> Iterator[dict[str, Any]]:
    yield {
        "signal": "same_model", "family": "equality", "statistic": one.equality.statistic, "p": one.equality.p_value,
        "e_log2": one.equality_e_log2, "h0": HYPOTHESES["A"], "h1": "they are different models",
        "null_id": "labels swapped within prompts",
        "detail": {"power": one.equality_power, "anytime_p": one.equality_anytime_p},
    }  # fmt: skip
    for view in one.nearness:
        yield {
            "signal": view.view, "family": "likeness", "statistic": view.margin, "effect": view.excess, "lo": view.lo,
            "hi": view.hi, "p": view.permutation_p, "e_log2": one.nearness_e_log2.get(view.view),
            "h0": HYPOTHESES["B"], "h1": "the teacher is nearer to the suspect than every unrelated control",
            "null_id": "teacher and control swapped within prompts",
            "detail": {name: value for name, value in asdict(view).items() if name != "by_control"}
            | {"n_families": one.n_families, "power": dict(one.power)},
        }  # fmt: skip
    if one.recall is not None:
        yield {
            "signal": "canaries", "family": "planted", "statistic": float(one.recall.n_recalled),
            "p": one.recall.p_value, "n": one.recall.n_planted, "h0": "planted strings are no likelier than decoys",
            "h1": "the suspect learned the planted strings", "null_id": "hypergeometric over decoys",
            "detail": asdict(one.recall),
        }  # fmt: skip
    if one.mistakes is not None:
        yield {
            "signal": "shared_errors", "family": "errors", "statistic": one.mistakes.shared,
            "effect": one.mistakes.shared - one.mistakes.best_shared, "p": one.mistakes.permutation_p,
            "n": one.mistakes.n_wrong, "h0": "some control shares as many of the suspect's wrong answers",
            "h1": "the teacher shares more of them than every control",
            "null_id": "teacher and control swapped within prompts", "detail": asdict(one.mistakes),
        }  # fmt: skip
    for gain in one.contrasts:
        yield {
            "signal": f"contrast_{gain.view}", "family": "time", "statistic": gain.gain,
            "effect": gain.gain - gain.best_gain, "p": gain.permutation_p,
            "h0": "between the versions the suspect came as near to some control as to the teacher",
            "h1": "it came nearer to the teacher than to every control",
            "null_id": "teacher and control swapped within prompts", "detail": asdict(gain),
        }  # fmt: skip


def _row(suspect: str, one: Figures, registered: Registered, rules: Rules, **found: Any) -> dict[str, Any]:
    p, e_log2 = found.get("p"), found.get("e_log2")
    detail = {"version": VERSION, "teacher": one.teacher, "plan_sha256": registered.sha256, **found["detail"]}
    row = {
        "subject_kind": "model",
        "subject_id": suspect,
        "signal": found["signal"],
        "family": found["family"],
        "statistic": found["statistic"],
        "n": found.get("n", one.n),
        "effect": found.get("effect", found["statistic"]),
        "lo": found.get("lo"),
        "hi": found.get("hi"),
        "null_id": found["null_id"],
        "p_log10": math.log10(p) if p else None,
        "e_log2": e_log2,
        "h1": found["h1"],
        "h0": found["h0"],
        "settings_hash": rules.fingerprint(),
        "detail": json.dumps(_finite(detail), sort_keys=True, separators=(",", ":")),
    }
    named = json.dumps(_finite(row), sort_keys=True, separators=(",", ":")).encode()
    return {"evidence_id": hashlib.sha256(named).hexdigest()[:32], **row}


def _finite(value: Any) -> Any:
    """The value with null for whatever is no number, since JSON has no other word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
