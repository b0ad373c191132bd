"""comparison: one page about a model, offline, without a script, whatever the models are called."""

from __future__ import annotations

import copy
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stillwatch.dossier.comparison import MAX_ROWS, check_folder, render_comparison, write_comparison
from stillwatch.errors import FindingsError
from stillwatch.records import EVIDENCE
from tests.dossier.test_report import Page

VIEW = {
    "view": "agreement", "similarity": 0.31, "best": 0.12, "best_control": "c-1", "margin": 6.5, "pair_margin": 1.4,
    "rank_p": 0.05, "permutation_p": 1e-4, "excess": 0.2, "lo": 0.15, "hi": 0.25, "n": 200,
    "by_control": {f"c-{at}": 0.12 - at / 500 for at in range(60)},
}  # fmt: skip

TEACHER: dict[str, Any] = {
    "teacher": "ours-1", "same_model": "different", "derived": "derived", "n_prompts": 200, "margin": 6.5,
    "why": {"same_model": "the answers cannot change places", "derived": "margin 6.5"},
    "p_values": {
        "equality": 1e-4, "equality_anytime": 1e-9, "rank": 0.05, "rank_bound": 0.05, "permutation": 1e-4,
        "permutation_holm": 1e-4, "permutation_anytime": 1e-7, "student_rank": 0.25, "student": 0.008,
    },
    "views": [VIEW, VIEW | {"view": "template"}],
    "power": {
        "equality": 1.0, "derived_if_it_repeated_this_share": {"0.05": 0.0, "0.5": 1.0}, "known_students": {"s": 8.0},
        "share_of_such_students_found": {"found": 1, "of": 1, "lo": 0.05},
    },
    "controls": {"n_families": 19, "families": {f"c-{at}": f"f-{at % 19}" for at in range(60)}},
    "related": [], "contrast": None,
    "marks": [
        {
            "verdict": "found", "key_id": "c" * 16, "holm_log10": -212.4, "n": 4000, "n_decoys": 1000,
            "n_decoys_as_high": 0,
        }
    ],
    "canaries": {
        "n_planted": 3, "n_recalled": 3, "n_decoys": 3, "n_decoys_recalled": 0, "n_by_controls": 0, "p_value": 0.05,
        "rank_p": 0.05,
    },
    "shared_errors": {
        "n_wrong": 40, "shared": 0.5, "best_shared": 0.1, "best_control": "c-1", "rank_p": 0.05, "permutation_p": 0.001
    },
}  # fmt: skip

RESULT: dict[str, Any] = {
    "version": 1, "suspect": "m-1", **TEACHER, "n_asked": 200, "n_unanswered": 0, "stopped_early": True,
    "canonicalisation": {"version": "canonical/1", "steps": ["NFKC"]}, "set_aside": {},
    "alternatives": ["both learned from a third model"], "rules": {"margin_derived_min": 4.0},
    "plan": {"sha256": "a" * 64, "journal_receipt": "b" * 64, "n_answers_known": 200}, "teachers": [TEACHER],
}  # fmt: skip


def test_the_page_says_both_words_and_shows_the_rank() -> None:
    """Words, both p-values, power, alternatives and the plan are on the page; it allows nothing but its style."""
    page = Page(render_comparison(RESULT))
    assert not page.open
    assert not {"script", "link", "img", "iframe", "form"} & page.tags
    for said in (
        "different",
        "derived",
        "rank",
        "never below",
        "conditional on these controls",
        "a" * 64,
        "third model",
        "10^-212.4",
        "0 of 1000 unused keys",
        "rank of the suspect among known students",
    ):
        assert said in page.text
    assert page.text.index("rank") < page.text.index("conditional on these controls")
    assert not [
        value for name, value in page.attributes if name in ("style", "src", "onclick") or "javascript" in value
    ]


def test_the_picture_shows_the_teacher_among_the_controls() -> None:
    """The teacher stands where its likeness puts it, the rows are capped, and what is left out is counted."""
    page = render_comparison(RESULT)
    assert "The teacher is number 1 of 61" in page
    assert "bar for derived" in page
    assert f"{61 - MAX_ROWS} more controls" in page
    last = copy.deepcopy(RESULT)
    last["teachers"][0]["views"][0]["similarity"] = -0.5
    shown = render_comparison(last)
    assert "The teacher is number 61 of 61" in shown
    assert "ours-1" in shown


def test_nothing_measured_is_said_so() -> None:
    """Without views, canaries or a bar the page still stands and says that likeness was not weighed."""
    bare = copy.deepcopy(RESULT)
    bare["teachers"][0] |= {"views": [], "canaries": None, "shared_errors": None, "marks": None}
    assert "not weighed" in Page(render_comparison(bare)).text
    flat = copy.deepcopy(RESULT)
    flat["teachers"][0]["views"][0] |= {"margin": None, "similarity": 0.12}
    assert Page(render_comparison(flat)).text


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "\x1b[2J\u202e", '"><script>', "a" * 10_000, "{{ 71 * 73 }}"]
)
def test_hostile_names_do_nothing(name: str) -> None:
    """Whatever a model is called, the page parses, holds no new tag, and stays small."""
    odd = copy.deepcopy(RESULT) | {"suspect": name}
    odd["teacher"] = odd["teachers"][0]["teacher"] = name
    odd["teachers"][0]["controls"]["families"]["c-1"] = name
    page = render_comparison(odd)
    assert not {"script", "img"} & Page(page).tags
    assert "\x1b" not in page
    assert "5183" not in page
    assert len(page) < 400_000


def test_the_folder_is_whole_and_only_ours(tmp_path: Path) -> None:
    """Three files for the owner alone; an earlier comparison is replaced, anything else is left alone."""
    evidence = pa.Table.from_pylist([], schema=EVIDENCE)
    page = write_comparison(RESULT, evidence, tmp_path / "out")
    write_comparison(RESULT, evidence, tmp_path / "out")
    assert {path.name for path in page.parent.iterdir()} == {"result.json", "evidence.parquet", "comparison.html"}
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(FindingsError, match="something else"):
        check_folder(tmp_path / "out")
    with pytest.raises(FindingsError, match="not a folder"):
        check_folder(page)
