from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.audit.matching import is_finding, match_rows, weigh_match
from stillwatch.audit.openings import bands_beyond, begin_alike, ends_of, shared_openings
from stillwatch.audit.registry import Registry, fill, printed
from stillwatch.audit.shapes import ROWS
from stillwatch.kernels.winnow import fingerprint
from tests.audit.making import KEY, ROOT, answers
from tests.audit.test_matching import reworded

N = 200
LENGTHS = [(20, 100), (60, 100), (100, 60), (150, 40)]
"""Words of a question and of the answer that follows it with nothing between."""


def rows_of(texts: Sequence[str], prompts: Sequence[str] | None = None) -> pa.RecordBatch:
    asked = [None] * len(texts) if prompts is None else list(prompts)
    columns = [asked, list(texts), ["plain"] * len(texts), [True] * len(texts)]
    return pa.record_batch([pa.array(one, kind.type) for one, kind in zip(columns, ROWS, strict=True)], schema=ROWS)


def copied(texts: Sequence[str], registered: Sequence[str]) -> tuple[int, bool]:
    """How many of plain texts are copies of registered plain texts, and whether that is a finding."""
    registry = fill(Registry.empty("set", key=ROOT, memory_bytes=1 << 20), [rows_of(registered)], KEY, whole=True)
    match = weigh_match(registry, match_rows(printed(rows_of(texts), KEY, whole=True), registry))
    return match.share.n, is_finding(match, n_registries=1)


def joined(questions: Sequence[str], said: Sequence[str]) -> list[str]:
    return [f"{one} {other}" for one, other in zip(questions, said, strict=True)]


@pytest.mark.parametrize(("asked", "said"), LENGTHS)
def test_other_answers_to_the_same_questions_are_no_copies(asked: int, said: int) -> None:
    """Plain texts that begin with a registered text's question and go on in other words: none a copy, no finding."""
    questions = answers(N, seed=1, n_words=asked)
    theirs, ours = (joined(questions, answers(N, seed=seed, n_words=said)) for seed in (2, 3))
    assert copied(ours, theirs) == (0, False)


KEPT: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "trimmed": lambda text: " ".join(text.split()[:-10]),
    "re-wrapped": lambda text: text.upper().replace(" ", "\n "),
    "one word in twelve": reworded,
}


@pytest.mark.parametrize(
    ("asked", "said", "edit"),
    # Of a short answer with every run broken, behind a long question, too little is left to tell.
    [(*pair, edit) for pair in LENGTHS for edit in KEPT if edit != "one word in twelve" or pair[0] < pair[1]],
)
def test_the_copied_answer_is_still_told_behind_its_question(asked: int, said: int, edit: str) -> None:
    """The same question and an edited copy of the answer: most are copies, all with no word changed; a finding."""
    questions, said_ = answers(N, seed=1, n_words=asked), answers(N, seed=2, n_words=said)
    n, found = copied(joined(questions, list(map(KEPT[edit], said_))), joined(questions, said_))
    assert n >= (0.75 * N if edit == "one word in twelve" else N)
    assert found


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_registered_text_within_a_longer_one_is_a_copy(where: str) -> None:
    """A text held whole counts whatever stands before or behind it: its end is reached."""
    theirs, others = answers(N, seed=1, n_words=100), answers(N, seed=2, n_words=100)
    longer = joined(others, theirs) if where == "before" else joined(theirs, others)
    assert copied(longer, theirs) == (N, True)


def test_what_a_whole_set_begins_with_makes_no_copies() -> None:
    """Two unrelated sets whose texts all begin with one preamble of 60 words share it and nothing else."""
    [preamble] = answers(1, seed=9, n_words=60)
    theirs, ours = (joined([preamble] * N, answers(N, seed=seed)) for seed in (1, 2))
    assert copied(ours, theirs) == (0, False)


def test_only_texts_without_a_prompt_have_openings() -> None:
    """Where prompts are known they are left out already: nothing more is kept of the set, and none is looked for."""
    texts, asked = answers(5, seed=1), [f"Question {at}?" for at in range(5)]
    plain, paired = (printed(rows_of(texts, prompts), KEY, whole=True) for prompts in (None, asked))
    held = Registry.empty("set", key=ROOT, memory_bytes=1 << 16).held
    held.extend(plain.spans)
    held.extend(ends_of(plain, np.array([False] * 5)))
    hits = held.holds(plain.spans)
    hits[plain.offsets[1:] - 1] = False
    assert not begin_alike(plain, held).any()
    held.extend(ends_of(plain, np.array([True] * 5)))
    assert begin_alike(plain, held).all() and not begin_alike(paired, held).any()
    assert (shared_openings(plain, held, hits, begin_alike(plain, held)) == np.diff(plain.offsets) - 1).all()


def test_texts_without_a_span_have_neither_end_nor_opening() -> None:
    """Empty, null and short texts give no key; a set of nothing is nothing."""
    for texts in ([], ["", None, "too short to have a span"]):
        prints = fingerprint(pa.array(texts, pa.large_string()), KEY)
        assert not len(ends_of(prints, np.ones(len(texts), np.bool_)))
        held = Registry.empty("set", key=ROOT, memory_bytes=1 << 16).held
        begun = begin_alike(prints, held)
        assert not begun.any()
        assert shared_openings(prints, held, np.zeros(0, np.bool_), begun).tolist() == [0] * len(texts)
        assert bands_beyond(prints, np.zeros(len(texts), np.int64), 1e-6).tolist() == [0] * len(texts)


def test_begin_alike_and_little_else_is_weighed_as_the_same_question() -> None:
    """Texts that begin alike count at the rate of a known prompt: one copy in thirty of them is no finding."""
    questions, theirs, ours = (answers(N, seed=seed, n_words=60) for seed in (1, 2, 3))
    n_same = N // 33
    assert copied(joined(questions, theirs[:n_same] + ours[n_same:]), joined(questions, theirs)) == (n_same, False)
