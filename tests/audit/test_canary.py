from __future__ import annotations

import json
from datetime import UTC, datetime
from math import comb
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from stillwatch.audit.canary import Batch, Finder, canary_p, commit, committed, issue, read_batch
from stillwatch.errors import InputError
from stillwatch.journal import Journal
from tests.audit.making import KEY, ROOT, answers

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def batch(label: str = "spring", *, n: int = 5, n_decoys: int = 45) -> Batch:
    return issue(label, n=n, n_decoys=n_decoys, key=ROOT)


def rows(texts: list[str]) -> pa.RecordBatch:
    n = len(texts)
    columns = [
        pa.nulls(n, pa.large_string()),
        pa.array(texts, pa.large_string()),
        pa.array([0] * n),
        pa.array(range(n)),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["prompt", "answer", "file", "row"])


def looked(made: Batch, texts: list[str]) -> tuple[int, int, float, tuple[tuple[int, int], ...]]:
    finder = Finder(made, KEY)
    finder.look(rows(texts))
    found = finder.found(None)
    return found.canaries, found.decoys, 10**found.p_log10, found.places


def test_a_batch_follows_from_its_label_and_key() -> None:
    """The same label gives the same batch, another label no common text; canaries and decoys are all different."""
    one, other = batch(), batch("autumn")
    assert one == batch() and one.commitment() == batch().commitment() != other.commitment()
    texts = {*one.canaries, *one.decoys}
    assert len(texts) == 50 and not texts & {*other.canaries, *other.decoys}


def test_the_commitment_tells_nothing_and_is_found_again(tmp_path: Path) -> None:
    """The journal holds a hash and counts, no text; the batch read back from its file is the one committed to."""
    journal, made = Journal(tmp_path / "journal"), batch()
    assert committed(made, journal) is None
    receipt = commit(made, journal, ts=NOW)
    journal.verify(receipts=[receipt])
    assert not any(text.split(",")[0] in journal.path.read_text() for text in made.canaries)
    (tmp_path / "c.json").write_text(made.to_json())
    assert committed(read_batch(tmp_path / "c.json"), journal) == NOW
    assert committed(batch("autumn"), journal) is None


@pytest.mark.parametrize(
    "edit", [str, str.upper, lambda t: t.replace(" ", "\n"), lambda t: f"Somebody said: {t} And so on."]
)
def test_canaries_are_found_in_other_text(edit: object) -> None:
    """A canary re-cased, re-wrapped or inside a longer text is found, with its row; p is exact."""
    made, noise = batch(), answers(20, seed=1)
    texts = [*noise, edit(made.canaries[0]), edit(made.canaries[3])]  # type: ignore[operator]
    canaries, decoys, p, places = looked(made, texts)
    assert (canaries, decoys, places) == (2, 0, ((0, 20), (0, 21)))
    assert p == pytest.approx(comb(5, 2) / comb(50, 2))


def test_decoys_that_turn_up_speak_against_it() -> None:
    """Whoever holds the whole list holds decoys too, and nothing is shown."""
    made = batch()
    canaries, decoys, p, _ = looked(made, [*made.canaries, *made.decoys])
    assert (canaries, decoys) == (5, 45) and p == pytest.approx(1.0)
    assert looked(made, answers(500, seed=2))[:3] == (0, 0, 1.0)
    # The frames' own words are anybody's.
    assert (
        looked(
            made, ["Locals remember the eight villages as from north to south. In the old ledger the barges appear as"]
        )[0]
        == 0
    )


def test_the_p_is_valid() -> None:
    """Over random draws from a batch the p is at most alpha in at most a share alpha of them."""
    rng = np.random.default_rng(1)
    for size in (1, 4, 10):
        drawn = [int((rng.permutation(50)[:size] < 5).sum()) for _ in range(4000)]
        p = np.array([canary_p(n, size - n, n=5, n_decoys=45) for n in drawn])
        for alpha in (0.1, 0.05, 0.01):
            assert (p <= alpha).mean() <= alpha + 4 * (alpha / 4000) ** 0.5
    assert canary_p(3, 1, n=5, n_decoys=45) == pytest.approx(stats.hypergeom.sf(2, 50, 5, 4))


@pytest.mark.parametrize(
    ("canaries", "decoys"), [(["short"], ["d"]), (["ba de fi go hu ja ke"] * 2, ["lo mu na pe ri so tu"])]
)
def test_texts_that_nothing_can_find_are_refused(tmp_path: Path, canaries: list[str], decoys: list[str]) -> None:
    """A batch of other making, too short or alike to be told apart, is an error and no crash while rows are read."""
    texts = {"canaries": canaries, "decoys": decoys}
    (tmp_path / "c.json").write_text(json.dumps({"format": 1, "label": "x", "key_id": "k"} | texts))
    with pytest.raises(InputError, match="canary issue"):
        read_batch(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "label": 1}', "[" * 99_999])
def test_files_without_canaries_are_refused(tmp_path: Path, text: str) -> None:
    """A file of another kind is an error that says how to make one."""
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match="canary issue"):
        read_batch(tmp_path / "c.json")
    with pytest.raises(InputError, match="impossible number"):
        batch(n=0)
