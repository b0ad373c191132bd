"""Sketches: no word survives, and what detection compares does."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.shingles import skeleton_keys
from stillwatch.receive.sketch import N_WORDS, sketch, sketched

KEY = bytes(range(32))


def heads(texts: list[str]) -> tuple[list[int], list[int]]:
    head, tail = skeleton_keys(pa.array(texts), HashKey(1, 2))
    return head.tolist(), tail.tolist()


def test_templates_survive() -> None:
    """Prompts of one template share the first and last words of their sketches; others share neither."""
    texts = [
        "Solve the following problem step by step: 17 apples. Grade your own answer from 1 to 10",
        "solve the following problem, step by step! 2,400 pears? grade your own answer from 2 to 5",
        "Write me a short poem about the sea in winter",
    ]
    plain, keyed = heads(texts), heads([sketch(text, KEY) for text in texts])
    for before, after in zip(plain, keyed, strict=True):
        assert (np.equal.outer(before, before) == np.equal.outer(after, after)).all()


@given(st.text(max_size=400))
def test_only_stand_ins_are_left(text: str) -> None:
    """A sketch is words of six letters and zeros, of a bounded number, whatever the text."""
    words = sketch(text, KEY).split(" ")
    assert len(words) <= 2 * N_WORDS + 1
    assert all(re.fullmatch(r"[a-z]{6}|0", word) for word in words)


def test_another_key_another_sketch() -> None:
    """The same text has another sketch under another key, and the same under the same."""
    assert sketch("how far is it", KEY) == sketch("how far is it", KEY)
    assert sketch("how far is it", KEY) != sketch("how far is it", bytes(32))


def test_long_texts_that_differ_in_the_middle_differ() -> None:
    """One word for the whole text keeps prompts apart that agree at both ends."""
    ends = "word " * 60
    one, other = (sketch(f"{ends}{middle} {ends}", KEY) for middle in ("seven", "eight"))
    assert one != other
    assert sum(a != b for a, b in zip(one.split(), other.split(), strict=True)) == 1


def test_only_texts_are_sketched() -> None:
    """Names, counts and roles stay; a message without text stays without."""
    row = {"account_id": "a", "prompt": "p", "messages": [{"role": "tool", "content": None}], "input_tokens": 3}
    assert sketched(row, KEY) == row | {"prompt": sketch("p", KEY)}
