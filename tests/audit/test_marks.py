from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.audit.audit import Audit, AuditRequest, audit
from stillwatch.audit.findings import Finding
from stillwatch.audit.marks import MOST_PAIRS, MarkSearch, Pool
from stillwatch.audit.shapes import TEXT
from stillwatch.dossier.audit_report import render_audit
from stillwatch.journal import Journal
from stillwatch.records import EVIDENCE
from stillwatch.watermark.grams import Document, Tokens, grams_of
from stillwatch.watermark.keys import KeyRing, Label
from stillwatch.watermark.schemes import Scheme
from tests.audit.making import ROOT, write_rows
from tests.watermark.making import ASKED, mark, ring, written

BOTH = Scheme(split=(("provider", 0.5), ("account", 0.5)))
LEAN = Scheme(name="kgw", width=1, delta=3.0)


def encode(texts: Sequence[str]) -> list[Tokens]:
    """A tokenizer of which each word is a number."""
    return [np.array([int(word) for word in text.split()], np.int64) for text in texts]


def spelt(documents: Sequence[Document]) -> list[str]:
    return [" ".join(map(str, one.tokens.tolist())) for one in documents]


def rows(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"prompt": f"{at} {at + 1}", "completion": text} for at, text in enumerate(texts)]


def search(keys: KeyRing, scheme: Scheme = BOTH, accounts: Sequence[str] = ("ann", "bob"), n: int = 200) -> MarkSearch:
    labels = [Label("1"), *(Label("1", account=one) for one in accounts)] if scheme is BOTH else [Label("1")]
    return MarkSearch(
        scheme=scheme, keys=keys.for_detection(labels, **ASKED), routing=keys.routing(epoch="1", **ASKED),
        decoys=keys.decoys(n, epoch="1", **ASKED), readers={"numbers": encode},
    )  # fmt: skip


def audited(folder: Path, texts: Sequence[str], marks: MarkSearch | None) -> tuple[Audit, list[Finding]]:
    data = write_rows(folder / "train.jsonl", rows(texts))
    found = audit(AuditRequest(data=[data], marks=marks), key=ROOT, journal=Journal(folder / "journal"))
    return found, [one for one in found.findings if one.check == "marks"]


@pytest.mark.parametrize("scheme", [BOTH, LEAN], ids=["gumbel", "kgw"])
def test_a_mark_in_half_of_the_answers_is_found_and_the_key_named(scheme: Scheme, tmp_path: Path) -> None:
    """Marked answers among as many unmarked ones give a finding for each key that marked, with Evidence."""
    keys = ring(tmp_path)
    texts = spelt(written(mark(keys, scheme), seed=1, n_texts=60) + written(None, seed=2, n_texts=60))
    found, said = audited(tmp_path, texts, search(keys, scheme))
    shown = [one for one in said if one.verdict == "finding"]
    assert {one.detail["level"] for one in shown} == set(scheme.levels())
    assert all("0 of 200 unused keys" in one.says and "120 answers" in one.says for one in shown)
    # Bob's key marked nothing.
    assert [one.verdict for one in said[len(shown) :]] == (["nothing"] if scheme is BOTH else [])
    assert found.evidence.schema.equals(EVIDENCE)
    evidence = [row for row in found.evidence.to_pylist() if row["family"] == "marks"]
    assert len(evidence) == len(said) and {row["subject_kind"] for row in evidence} == {"dataset"}
    assert min(row["p_log10"] for row in evidence) < -6
    page = render_audit(found)
    assert "marks in the answers" in page and shown[0].detail["key_id"] in page
    assert "ann" not in json.dumps([one.says for one in said]) and json.dumps(found.to_dict())


def test_unmarked_answers_give_no_finding_and_what_would_have_been_found(tmp_path: Path) -> None:
    """Of twenty sets that no key marked none gives a finding; the smallest effect that would be one is told."""
    keys = ring(tmp_path)
    looked = search(keys, accounts=[f"a{at}" for at in range(20)])
    for seed in range(20):
        _, said = audited(tmp_path, spelt(written(None, seed=seed, n_texts=20)), looked)
        assert [one.verdict for one in said] == ["nothing"]
        assert "would have been found" in said[0].says and said[0].detail["n_tests"] == 21


def test_a_row_repeated_counts_once(tmp_path: Path) -> None:
    """A row that stands there a thousand times has the pairs of one."""
    keys = ring(tmp_path)
    texts = spelt(written(mark(keys, BOTH), seed=1, n_texts=1))
    once, often = (audited(tmp_path, texts * n, search(keys))[1][0].evidence for n in (1, 1000))
    assert once and often and (once.n, once.statistic) == (often.n, often.statistic)


def test_the_pool_is_that_of_all_rows_at_once_in_any_order(tmp_path: Path) -> None:
    """Batches, in any order, give the pairs that `grams_of` finds in all texts; windows of prompts are left out."""
    texts = spelt(written(None, seed=3, n_texts=50))
    prompts = [" ".join(text.split()[:30]) for text in texts]
    table = pa.table({"prompt": pa.array(prompts, TEXT), "answer": pa.array(texts, TEXT)})
    whole = grams_of(list(map(Document, encode(texts), encode(prompts))), width=2)
    for most in (MOST_PAIRS, 1000):
        pools = [Pool(encode, 2, most), Pool(encode, 2, most)]
        for pool, batches in zip(pools, (table.to_batches(7), table.to_batches(11)[::-1]), strict=True):
            for batch in batches:
                pool.add(batch)
        grams, other = (pool.grams() for pool in pools)
        assert np.array_equal(grams.packed, other.packed) and grams.n_in_prompt == whole.n_in_prompt > 0
        if most == MOST_PAIRS:
            assert np.array_equal(grams.packed, whole.packed) and grams.n_repeated == whole.n_repeated
        else:
            assert 0 < len(grams) <= most and np.isin(grams.packed, whole.packed).all()


def test_a_sample_of_the_pairs_still_finds_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pairs are too many a sample of them is tested, and what share they are is told."""
    monkeypatch.setattr(Pool.__init__, "__defaults__", (1500, *(Pool.__init__.__defaults__ or ())[1:]))
    keys = ring(tmp_path)
    _, said = audited(tmp_path, spelt(written(mark(keys, LEAN), seed=1, n_texts=60)), search(keys, LEAN))
    assert said[0].verdict == "finding" and "a sample of 0." in said[0].says
    assert 0 < said[0].detail["n"] <= 1500


@pytest.mark.parametrize(("texts", "n", "says"), [(["1", "2"], 200, "too short"), (None, 0, "no unused keys")])
def test_what_cannot_be_judged_is_said(texts: list[str] | None, n: int, says: str, tmp_path: Path) -> None:
    """Answers of one token, and a mark without unused keys beside it, cannot be told."""
    keys = ring(tmp_path)
    texts = texts or spelt(written(mark(keys, LEAN), seed=1, n_texts=60))
    _, said = audited(tmp_path, texts, search(keys, LEAN, n=n))
    assert [one.verdict for one in said] == ["cannot_tell"] and says in said[0].says


def test_marks_that_were_not_asked_for_were_not_examined(tmp_path: Path) -> None:
    """Without --marks nothing is said of marks but that."""
    _, said = audited(tmp_path, ["1 2 3"], None)
    assert [one.verdict for one in said] == ["not_examined"]
