from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stillwatch.compare.marks import FOUND, Marks, look_for
from stillwatch.watermark.grams import Document, Tokens
from stillwatch.watermark.schemes import Scheme
from tests.watermark import making

SCHEME = Scheme()


def encode(texts: Sequence[str]) -> list[Tokens]:
    return [np.array([int(word) for word in text.split()], np.int64) for text in texts]


def spelled(documents: Sequence[Document]) -> dict[str, tuple[str, ...]]:
    """Documents as answers by prompt: every token is a word."""
    return {str(9000 + n): (" ".join(map(str, one.tokens)),) for n, one in enumerate(documents)}


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    ring = making.ring(tmp_path)
    return Marks(
        scheme=SCHEME, keys=[making.key(ring)],
        routing=ring.routing(epoch="1", **making.ASKED),
        decoys=ring.decoys(200, epoch="1", **making.ASKED),
        tokenizers={"words": encode}, files={"words": "0" * 64},
    )  # fmt: skip


def test_our_mark_is_found_and_nobody_elses(marks: Marks, tmp_path: Path) -> None:
    """Marked answers are found beyond the controls; unmarked ones are not; no key is in the plan."""
    marked = spelled(making.written(making.mark(making.ring(tmp_path), SCHEME), seed=1))
    plain = spelled(making.written(None, seed=2))
    controls = {"c": spelled(making.written(None, seed=3)), "d": spelled(making.written(None, seed=4))}
    (one,) = look_for(marks, marked, controls, name="suspect", alpha=0.001)
    assert one.finding.verdict == FOUND and one.finding.beyond_base_p_log10 is not None
    (other,) = look_for(marks, plain, controls, name="suspect", alpha=0.001)
    assert other.finding.verdict == "not found" and other.finding.least_effect is not None
    assert marks.keys[0].secret.reveal().hex() not in repr(marks.plan())


def test_a_mark_that_controls_carry_too_is_not_learned_from_us(marks: Marks, tmp_path: Path) -> None:
    """Where unrelated controls carry it as strongly, the text came from elsewhere: never "found"."""
    mark = making.mark(making.ring(tmp_path), SCHEME)
    marked = spelled(making.written(mark, seed=1))
    (one,) = look_for(marks, marked, {"c": spelled(making.written(mark, seed=5))}, name="suspect", alpha=0.001)
    assert one.finding.verdict == "cannot tell"


def test_marked_text_in_the_prompt_does_not_count(marks: Marks, tmp_path: Path) -> None:
    """A suspect that repeats a marked prompt has learned nothing."""
    texts = [texts[0] for texts in spelled(making.written(making.mark(making.ring(tmp_path), SCHEME), seed=1)).values()]
    (one,) = look_for(marks, {text: (text,) for text in texts}, {}, name="suspect", alpha=0.001)
    assert one.finding.verdict != FOUND


def test_silence_is_no_mark(marks: Marks) -> None:
    """Answers too short for a window say nothing, and stop nothing."""
    (one,) = look_for(marks, {"1": ("",), "2": ("5",)}, {"c": {"3": ("4",)}}, name="suspect", alpha=0.001)
    assert one.finding.verdict == "cannot tell"
