from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.watermark.grams import Document, Grams, grams_of

TOKENS = st.lists(st.integers(0, 5), max_size=30)


def document(tokens: list[int], prompt: list[int] | None = None) -> Document:
    return Document(np.array(tokens, np.int64), np.array(prompt or [], np.int64))


def pairs(grams: Grams) -> set[tuple[int, ...]]:
    """The pairs, unpacked: the tokens of the window, then the token."""
    mask, out = (1 << 21) - 1, set()
    for packed in grams.packed.tolist():
        out.add(tuple(packed >> 21 * at & mask for at in range(grams.width, -1, -1)))
    return out


def plain(documents: list[tuple[list[int], list[int]]], width: int) -> set[tuple[int, ...]]:
    """The same by sets of tuples."""
    out = set()
    for tokens, prompt in documents:
        seen = {tuple(prompt[at : at + width]) for at in range(len(prompt) - width + 1)}
        for at in range(width, len(tokens)):
            if tuple(tokens[at - width : at]) not in seen:
                out.add(tuple(tokens[at - width : at + 1]))
    return out


@given(st.lists(st.tuples(TOKENS, TOKENS), max_size=5), st.sampled_from([1, 2]))
def test_pairs_are_those_of_plain_sets(documents: list[tuple[list[int], list[int]]], width: int) -> None:
    """Each pair once over the corpus, none whose window stands in its own text's prompt, in any order of texts."""
    made = [document(tokens, prompt) for tokens, prompt in documents]
    grams = grams_of(made, width=width)
    assert pairs(grams) == plain(documents, width)
    assert np.array_equal(grams_of(made[::-1], width=width).packed, grams.packed)
    n_all = sum(max(len(tokens) - width, 0) for tokens, _ in documents)
    assert len(grams) + grams.n_repeated + grams.n_in_prompt == n_all


def test_a_prompt_rules_out_its_own_text_only() -> None:
    """What one text may have copied, another wrote by itself."""
    copied, own = document([1, 2, 3], [1]), document([1, 2, 3])
    assert pairs(grams_of([copied], width=1)) == {(2, 3)}
    assert pairs(grams_of([copied, own], width=1)) == {(1, 2), (2, 3)}


def test_a_repeated_text_says_nothing_new() -> None:
    """A thousand copies give the pairs of one; without deduplication they are all there."""
    one = document([5, 6, 7, 8, 5, 6, 9])
    assert np.array_equal(grams_of([one] * 1000, width=2).packed, grams_of([one], width=2).packed)
    assert len(grams_of([one] * 10, width=2, deduplicate=False)) == 50


@pytest.mark.parametrize("token", [-1, 2**21, 2**40])
def test_token_ids_out_of_range_are_refused(token: int) -> None:
    """A token id that would run into its neighbours is an error, in a text as in a prompt."""
    with pytest.raises(InputError, match="token id"):
        grams_of([document([1, token, 2])], width=1)
    with pytest.raises(InputError, match="token id"):
        grams_of([document([1, 2], [token])], width=1)


@pytest.mark.parametrize("width", [0, 3, -1])
def test_other_widths_are_refused(width: int) -> None:
    """Windows of 1 and 2 tokens are all there is."""
    with pytest.raises(InputError, match="window"):
        grams_of([document([1, 2, 3])], width=width)


def test_nothing_gives_nothing() -> None:
    """No text, an empty text and a text no longer than a window give no pair."""
    assert len(grams_of([], width=1)) == len(grams_of([document([]), document([4, 4])], width=2)) == 0
