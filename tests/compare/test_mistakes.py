from __future__ import annotations

import numpy as np
import pytest

from stillwatch.compare.mistakes import final_answer, shared_mistakes

FAMILIES = {f"c{at}": f"f{at}" for at in range(5)}


@pytest.mark.parametrize(
    ("text", "expected", "answer"),
    [
        ("So 3 x 4 = 12.", "14", "12"),
        ("The total is 1,204.50 dollars", "7", "1204.5"),
        ("I think (C) fits best", "B", "C"),
        ("no idea", "14", ""),
        ("Paris, France.", "Rome", "paris france"),
        ("x" * 500, "Rome", ""),
    ],
)
def test_the_answer_is_read_as_it_is_expected(text: str, expected: str, answer: str) -> None:
    """The last number, the last choice, or a short text; what is none of these is no answer."""
    assert final_answer(text, expected) == answer


def test_shared_mistakes_stand_out() -> None:
    """A suspect that repeats the teacher's wrong numbers is nearer to it than controls that err on their own."""
    rng = np.random.default_rng(0)
    expected = [str(at) for at in range(80)]
    wrong = [str(1000 + at) for at in range(80)]
    texts = {"s": wrong, "t": [w if rng.random() < 0.7 else e for w, e in zip(wrong, expected, strict=True)]}
    texts |= {name: [str(rng.integers(1000, 9999)) for _ in range(80)] for name in FAMILIES}
    one = shared_mistakes(texts, expected, FAMILIES, suspect="s", teacher="t", seed=0)
    assert one is not None
    assert one.n_wrong == 80
    assert one.shared > 0.5 > one.best_shared
    assert one.rank_p == pytest.approx(1 / 6)
    assert one.permutation_p < 0.001


def test_right_answers_and_common_mistakes_are_no_sign() -> None:
    """Being right together counts for nothing, and a mistake that everybody makes is nobody's."""
    texts = {name: ["7"] * 30 for name in ("s", "t", *FAMILIES)}
    assert shared_mistakes(texts, ["7"] * 30, FAMILIES, suspect="s", teacher="t", seed=0) is None
    one = shared_mistakes(texts, ["8"] * 30, FAMILIES, suspect="s", teacher="t", seed=0)
    assert one is not None
    assert one.permutation_p == 1.0
    assert shared_mistakes(texts, [None] * 30, FAMILIES, suspect="s", teacher="t", seed=0) is None
