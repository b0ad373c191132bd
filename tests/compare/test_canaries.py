from __future__ import annotations

import json
from math import comb
from pathlib import Path

import pytest

from stillwatch.compare.canaries import Canaries, Canary, read_canaries, recall
from stillwatch.errors import InputError

PLANTED = [f"the heron of {word} counts quietly" for word in ("Oslo", "Lima", "Bari", "Kyiv", "Doha", "Graz")]
DECOYS = [f"the heron of {word} counts quietly" for word in ("Bonn", "Rome", "Cork", "Lyon", "Pisa", "Brno")]
FAMILIES = {"c1": "f1", "c2": "f2", "c3": "f3"}


def listed(*, decoys: bool = True) -> Canaries:
    return Canaries(
        tuple(Canary(text) for text in PLANTED) + tuple(Canary(text, False) for text in DECOYS * decoys), ""
    )


def quiet(*extra: str) -> dict[str, dict[str, tuple[str, ...]]]:
    return {name: {"p": ("nothing to see", *extra)} for name in FAMILIES}


def test_planted_beyond_decoys_is_exact() -> None:
    """All six planted and no decoy: p is one over the ways to choose six of twelve."""
    one = recall(listed(), {"p": tuple(text.upper() for text in PLANTED)}, quiet(), FAMILIES)
    assert (one.n_recalled, one.n_decoys_recalled) == (6, 0)
    assert one.p_value == pytest.approx(1 / comb(12, 6))
    assert one.rank_p == pytest.approx(1 / 4)


def test_decoys_that_come_up_take_the_p_away() -> None:
    """A suspect that says everything of the kind learned nothing in particular; one that says nothing has p = 1."""
    assert recall(listed(), {"p": (*PLANTED, *DECOYS)}, quiet(), FAMILIES).p_value == pytest.approx(1.0)
    assert recall(listed(), {"p": ("none",)}, quiet(), FAMILIES).p_value == pytest.approx(1.0)


def test_a_canary_in_the_question_is_no_recall() -> None:
    """A model that repeats a question with a canary in it has learned nothing; elsewhere the canary counts."""
    asked = f"Say this: {PLANTED[0]}"
    assert recall(listed(), {asked: (PLANTED[0],), "p": ("none",)}, quiet(), FAMILIES).n_recalled == 0
    assert recall(listed(), {asked: (PLANTED[0],), "p": (PLANTED[0],)}, quiet(), FAMILIES).n_recalled == 1


def test_a_canary_at_the_end_of_a_long_answer_counts() -> None:
    """All of an answer is searched, however long, and white space before it hides nothing."""
    long = f"{' ' * 50_000}{'word ' * 50_000}{PLANTED[1]}"
    assert recall(listed(), {"p": (long,)}, quiet(), FAMILIES).n_recalled == 1


def test_a_canary_that_controls_know_is_no_secret() -> None:
    """What an unrelated model says too is left out of the count."""
    one = recall(listed(), {"p": tuple(PLANTED)}, quiet(PLANTED[0]), FAMILIES)
    assert (one.n_by_controls, one.n_planted, one.n_recalled) == (1, 5, 5)


def test_without_decoys_there_is_only_a_rank() -> None:
    """No decoys, no exact p; and a canary with a prompt counts only in the answer to it."""
    one = recall(listed(decoys=False), {"p": tuple(PLANTED)}, quiet(), FAMILIES)
    assert one.p_value is None
    bound = Canaries((Canary(PLANTED[0], True, "q"),), "")
    assert recall(bound, {"p": (PLANTED[0],)}, quiet(), FAMILIES).n_recalled == 0
    assert recall(bound, {"q": (PLANTED[0],)}, quiet(), FAMILIES).n_recalled == 1


def test_files_of_canaries(tmp_path: Path) -> None:
    """Plain lines are planted; JSON lines say whether they are, and for which prompt."""
    plain = tmp_path / "canaries.txt"
    plain.write_text("\n".join([*PLANTED, ""]))
    assert read_canaries(plain).listed == tuple(Canary(text) for text in PLANTED)
    rows = tmp_path / "canaries.jsonl"
    rows.write_text(
        json.dumps({"text": PLANTED[0], "planted": False}) + "\n" + json.dumps({"text": PLANTED[1], "prompt": "q"})
    )
    assert read_canaries(rows).listed == (Canary(PLANTED[0], False), Canary(PLANTED[1], True, "q"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no planted canary"),
        (b"short\n", "line 1 is too short"),
        (b"a secret string\nA  secret string\n", "line 2 repeats"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_bad_files_of_canaries_are_refused_unquoted(tmp_path: Path, content: bytes, says: str) -> None:
    """The error names the line and never the string."""
    path = tmp_path / "canaries.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_canaries(path)
    assert "secret" not in str(caught.value)
