from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.compare.canonical import N_CHARACTERS, canonical


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("  \n Hello  there ", "Hello there"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("one\n\n \n two", "one\ntwo"),
        ("\ufeff\u200bHi\u00a0you", "Hi you"),
        ("\u2018it\u2019s\u2019 \u201cso\u201d \u2014 ok", "'it's' \"so\" - ok"),
        ("<|im_start|>assistant: Yes<|im_end|>", "Yes"),
        ("[/INST] Yes </s>", "Yes"),
        ("### Response:\nYes", "Yes"),
        ("Answer:", "Answer:"),
        ("The answer: yes", "The answer: yes"),
        ("", ""),
    ],
)
def test_what_a_host_adds_is_taken_off(written: str, plain: str) -> None:
    """White space, hidden characters, quotes, tokens and role markers do not look like a model."""
    assert canonical(written) == plain


@given(st.text(max_size=300))
def test_once_is_enough(text: str) -> None:
    """A canonical text is its own canonical form, whatever was in it."""
    once = canonical(text)
    assert canonical(once) == once


@given(
    st.text(alphabet=st.characters(categories=["L", "N", "Zs"]), max_size=100), st.sampled_from([" ", "\n", " \r\n "])
)
def test_white_space_at_the_ends_is_no_difference(text: str, space: str) -> None:
    """Leading and trailing white space, which moved a p-value thirtyfold on public answers, changes nothing."""
    assert canonical(space + text + space) == canonical(text)


def test_leading_space_hides_nothing() -> None:
    """However much space stands before an answer, the answer is seen."""
    assert canonical(" \n" * 100_000 + "Yes.") == "Yes."


def test_long_and_hostile_texts_end() -> None:
    """A text of megabytes, of nested markers, or of broken surrogates is cut, not stalled on."""
    assert len(canonical("word " * 1_000_000)) <= N_CHARACTERS
    assert canonical("assistant:" * 100 + "x").endswith("x")
    assert canonical("\ud800 x") == "\ud800 x"
