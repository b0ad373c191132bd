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
    is never shown as bits.
    """
    of = {(one.name, one.tokenizer): one for one in suspects}
    settings = json.dumps(asdict(scheme) | {"alpha": alpha}, sort_keys=True)
    fingerprint = hashlib.sha256(settings.encode()).hexdigest()
    rows = [_row(one, of[one.text, one.tokenizer], scheme, fingerprint, subject_kind) for one in findings]
    return pa.Table.from_pylist(rows, schema=EVIDENCE)


def plain(finding: Finding, suspect: Suspect) -> dict[str, Any]:
    """A finding as plain values, fit for JSON: the key by its id and level, never by an account's name."""
    names = (each.name for each in fields(finding) if each.name not in ("key", "decoy_scores"))
    values = {name: _rounded(getattr(finding, name)) for name in names}
    grams = suspect.grams
    read = {"n_tokens": grams.n_tokens, "n_repeated": grams.n_repeated, "n_in_prompt": grams.n_in_prompt}
    label = finding.key.label
    return values | read | {"key_id": finding.key.key_id, "level": label.level, "epoch": label.epoch}


def _row(finding: Finding, suspect: Suspect, scheme: Scheme, fingerprint: str, subject_kind: str) -> dict[str, Any]:
    values = plain(finding, suspect)
    named = "\n".join((finding.text, finding.tokenizer, finding.key.key_id, fingerprint))
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
