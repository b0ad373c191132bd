from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    decoys = ring.decoys(50, epoch="1", **making.ASKED)
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


def test_an_id_covers_texts_control_tokenizer_and_settings(tmp_path: Path) -> None:
    """Another text, control, tokenizer file, number of decoys or bar gives other evidence; the same gives the same."""
    ring, scheme = making.ring(tmp_path), Scheme()
    texts = [grams_of(making.written(None, seed=seed), width=2) for seed in (1, 2)]
    cases: list[tuple[dict[str, Any], int, float]] = [
        ({}, 50, 0.001), ({"grams": texts[1]}, 50, 0.001), ({"base": texts[0]}, 50, 0.001),
        ({"base": texts[1]}, 50, 0.001), ({"tokenizer_sha256": "a"}, 50, 0.001), ({}, 60, 0.001), ({}, 50, 0.01),
    ]  # fmt: skip
    ids, settings = [], []
    for changes, n_decoys, alpha in [*cases, cases[0]]:
        suspect = replace(Suspect(name="s.npy", tokenizer="t", grams=texts[0]), **changes)
        found = detect(
            [suspect], [making.key(ring)], scheme=scheme, routing=ring.routing(epoch="1", **making.ASKED),
            decoys=ring.decoys(n_decoys, epoch="1", **making.ASKED), alpha=alpha,
        )  # fmt: skip
        (row,) = evidence_rows(found, [suspect], scheme=scheme, alpha=alpha).to_pylist()
        ids.append(row["evidence_id"])
        settings.append(row["settings_hash"])
    assert len(set(ids)) == len(cases) and ids[0] == ids[-1]
    assert len(set(settings)) == 4


def test_a_text_too_short_has_no_effect(tmp_path: Path) -> None:
    """Where there was nothing to measure, the row says null, not NaN."""
    ring, scheme = making.ring(tmp_path), Scheme()
    suspects = [Suspect(name="s", tokenizer="ids", grams=grams_of([], width=2))]
    decoys = ring.decoys(5, epoch="1", **making.ASKED)
    found = detect(
        suspects,
        [making.key(ring)],
        scheme=scheme,
        routing=ring.routing(epoch="1", **making.ASKED),
        decoys=decoys,
    )
    (row,) = evidence_rows(found, suspects, scheme=scheme, alpha=0.001).to_pylist()
    assert (row["n"], row["effect"], row["lo"], row["p_log10"]) == (0, None, None, 0.0)
