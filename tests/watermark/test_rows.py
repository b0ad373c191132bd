from __future__ import annotations

import json
from pathlib import Path

from stillwatch.records import EVIDENCE, Evidence
from stillwatch.watermark.detector import Suspect, detect
from stillwatch.watermark.grams import grams_of
from stillwatch.watermark.rows import evidence_rows
from stillwatch.watermark.schemes import Scheme
from tests.watermark import making


def test_findings_become_evidence(tmp_path: Path) -> None:
    """One row for each test, in the one schema, with its null named, its p-value, no bits, and no account's name."""
    ring, scheme = making.ring(tmp_path), Scheme(split=(("provider", 0.5), ("account", 0.5)))
    mark = making.mark(ring, scheme, account="acct-secret")
    suspects = [Suspect(name="s.npy", tokenizer="ids", grams=grams_of(making.written(mark, seed=1), width=2))]
    keys = [making.key(ring), making.key(ring, "acct-secret")]
    decoys = ring.decoys(50, epoch="1")
    found = detect(suspects, keys, scheme=scheme, routing=mark.routing, decoys=decoys)
    table = evidence_rows(found, suspects, scheme=scheme, alpha=0.001, subject_kind="model")
    assert table.schema.equals(EVIDENCE)
    rows = [Evidence.from_row(row) for row in table.to_pylist()]
    assert {row.subject_id for row in rows} == {"s.npy"} and {row.subject_kind for row in rows} == {"model"}
    assert len({row.evidence_id for row in rows}) == 2
    for row, one in zip(rows, found, strict=True):
        detail = json.loads(row.detail)
        assert row.p_log10 is not None and row.p_log10 < -6 and row.e_log2 is None
        assert row.lo < row.effect < row.hi and row.n == one.n and row.null_id.startswith("mark/1 gamma(")
        assert (detail["key_id"], detail["verdict"], detail["n_decoys"]) == (one.key.key_id, "found", 50)
        assert "acct-secret" not in json.dumps(table.to_pylist())
    again = evidence_rows(found, suspects, scheme=scheme, alpha=0.001, subject_kind="model")
    assert again.equals(table)


def test_a_text_too_short_has_no_effect(tmp_path: Path) -> None:
    """Where there was nothing to measure, the row says null, not NaN."""
    ring, scheme = making.ring(tmp_path), Scheme()
    suspects = [Suspect(name="s", tokenizer="ids", grams=grams_of([], width=2))]
    decoys = ring.decoys(5, epoch="1")
    found = detect(suspects, [making.key(ring)], scheme=scheme, routing=ring.routing(epoch="1"), decoys=decoys)
    (row,) = evidence_rows(found, suspects, scheme=scheme, alpha=0.001).to_pylist()
    assert (row["n"], row["effect"], row["lo"], row["p_log10"]) == (0, None, None, 0.0)
