"""rows: findings of the detector as Evidence, one row each, without a name that a key id does not carry."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa

from stillwatch.records import EVIDENCE
from stillwatch.watermark.detector import Finding, Suspect
from stillwatch.watermark.grams import Grams
from stillwatch.watermark.schemes import Scheme

DETAIL_VERSION = 1


def evidence_rows(
    findings: Sequence[Finding],
    suspects: Sequence[Suspect],
    *,
    scheme: Scheme,
    alpha: float,
    subject_kind: str = "dataset",
) -> pa.Table:
    """One Evidence row for each finding.

    `subject_kind` is `dataset` for texts found somewhere and `model` for what a model answered. `p_log10` is of this
    test alone; the p-values of the whole family, decoys and the base model are in `detail`. `e_log2` is null: a p-value
    is never shown as bits. `settings_hash` covers the scheme, alpha, the number of tests and of decoys and the
    tokenizer's file; `evidence_id` that, the key, and the very pairs of the text and of its control.
    """
    of = {(one.name, one.tokenizer): one for one in suspects}
    inputs = {place: _inputs(one) for place, one in of.items()}
    rows = []
    for finding in findings:
        suspect = of[finding.text, finding.tokenizer]
        settings = asdict(scheme) | {"alpha": alpha, "n_tests": len(findings), "n_decoys": finding.n_decoys}
        settings |= {"tokenizer_sha256": suspect.tokenizer_sha256}
        rows.append(_row(finding, suspect, scheme, settings, inputs[finding.text, finding.tokenizer], subject_kind))
    return pa.Table.from_pylist(rows, schema=EVIDENCE)


def plain(finding: Finding, suspect: Suspect) -> dict[str, Any]:
    """A finding as plain values, fit for JSON: the key by its id and level, never by an account's name."""
    names = (each.name for each in fields(finding) if each.name not in ("key", "decoy_scores"))
    values = {name: _rounded(getattr(finding, name)) for name in names}
    grams = suspect.grams
    read = {"n_tokens": grams.n_tokens, "n_repeated": grams.n_repeated, "n_in_prompt": grams.n_in_prompt}
    label = finding.key.label
    return values | read | {"key_id": finding.key.key_id, "level": label.level, "epoch": label.epoch}


def _inputs(suspect: Suspect) -> dict[str, str | None]:
    """The SHA-256 of what was tested and of its control: every pair, and what was left out to get them."""
    return {"input_sha256": _digest(suspect.grams), "base_sha256": _digest(suspect.base) if suspect.base else None}


def _digest(grams: Grams) -> str:
    counts = f"{grams.width} {grams.n_tokens} {grams.n_repeated} {grams.n_in_prompt}\n"
    return hashlib.sha256(counts.encode() + grams.packed.astype("<u8").tobytes()).hexdigest()


def _row(
    finding: Finding,
    suspect: Suspect,
    scheme: Scheme,
    settings: dict[str, Any],
    inputs: dict[str, str | None],
    subject_kind: str,
) -> dict[str, Any]:
    values = plain(finding, suspect) | inputs | {"tokenizer_sha256": suspect.tokenizer_sha256}
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    named = json.dumps(
        [subject_kind, finding.text, finding.tokenizer, finding.key.key_id, fingerprint, inputs], sort_keys=True
    )
    null = f"gamma({finding.n}, 1)" if scheme.name == "gumbel" else f"binomial({finding.n}, {scheme.gamma})"
    return {
        "evidence_id": hashlib.sha256(named.encode()).hexdigest()[:16],
        "subject_kind": subject_kind,
        "subject_id": finding.text,
        "signal": f"mark_{scheme.name}",
        "family": "marks",
        **{name: values[name] for name in ("score", "n", "effect", "lo", "hi", "p_log10")},
        "statistic": values["score"],
        "null_id": f"mark/1 {null}",
        "e_log2": None,
        "h1": "the text, or what wrote it, was made with answers that carry this key",
        "h0": "the key had no part in the text",
        "settings_hash": fingerprint,
        "detail": json.dumps({"v": DETAIL_VERSION, "scheme": asdict(scheme)} | values, sort_keys=True),
    }


def _rounded(value: object) -> object:
    """Numbers to nine digits, far below meaning; what is not a number becomes null."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
