from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.errors import InputError
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.winnow import (
    BAND_ROWS,
    N_BANDS,
    SHINGLE_WORDS,
    SPAN_WORDS,
    WINDOW,
    Prints,
    fingerprint,
    span_keys,
)

KEY = HashKey(1, 2)
VOCABULARY = [f"w{n}" for n in range(4000)]


def prose(n: int, seed: int) -> list[str]:
    return [str(word) for word in np.random.default_rng(seed).choice(VOCABULARY, n)]


def one(text: str | None, **options: object) -> Prints:
    prompt = options.pop("prompt", None)
    asked = None if prompt is None else pa.array([prompt])
    return fingerprint(pa.array([text], pa.large_string()), KEY, prompt=asked, **options)  # type: ignore[arg-type]


def spans(prints: Prints) -> set[int]:
    return set(prints.spans.tolist())


@pytest.mark.parametrize(
    "edit", [str.upper, lambda t: f"  {t}!\n", lambda t: t.replace(" ", "\r\n  "), lambda t: t.replace(" ", ", ")]
)
def test_case_space_and_punctuation_do_not_matter(edit: object) -> None:
    """A text re-cased, trimmed, re-wrapped or with commas between its words has the same prints."""
    text = " ".join(prose(90, 1))
    plain, edited = one(text), one(edit(text))  # type: ignore[operator]
    assert spans(plain) == spans(edited)
    assert (plain.bands == edited.bands).all() and plain.n_words == edited.n_words == 90


def test_words_are_those_of_a_plain_reading() -> None:
    """The number of words is that of a regular expression; digits count, ideographs are words of their own."""
    for text in ("It's 1,000.5 — naïve façade", "a_b c-d e", "ΑΒΓ абв 12x", ""):
        assert one(text).n_words[0] == len(re.findall(r"[^\W_]+", text))
    assert one("漢字かな abc").n_words[0] == 5


def test_digits_are_told_apart() -> None:
    """Unlike in a prompt's skeleton, a number is part of what an answer says."""
    words = " ".join(prose(25, 2))
    assert not spans(one(f"{words} 17 {words}")) & spans(one(words.replace("w", "v")))
    assert one("1 2 3").bands[0, 0] != one("1 2 4").bands[0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_a_common_run_of_span_and_window_is_always_seen(seed: int) -> None:
    """Winnowing's guarantee: two texts that share SPAN_WORDS + WINDOW - 1 words in a row share a span."""
    shared = prose(SPAN_WORDS + WINDOW - 1, seed)
    a = " ".join(prose(40 + seed, 100 + seed) + shared + prose(31, 200 + seed))
    b = " ".join(prose(17, 300 + seed) + shared + prose(55, 400 + seed))
    assert spans(one(a)) & spans(one(b))


def test_a_shorter_common_run_is_never_seen() -> None:
    """A span is SPAN_WORDS words long: one word less in common is nothing in common."""
    shared = prose(SPAN_WORDS - 1, 1)
    a = " ".join([*prose(50, 2), *shared, *prose(50, 3)])
    b = " ".join([*prose(50, 4), *shared, *prose(50, 5)])
    assert not spans(one(a)) & spans(one(b))


def test_winnowing_keeps_few_spans_of_all() -> None:
    """About 2 in WINDOW + 1 spans are kept, and they are among all spans of the text."""
    text = " ".join(prose(5000, 1))
    offsets, every = span_keys(pa.array([text]), KEY, n_words=SPAN_WORDS)
    kept = one(text)
    assert offsets[-1] == len(set(every.tolist())) == 5000 - SPAN_WORDS + 1
    assert spans(kept) <= set(every.tolist())
    assert len(kept.spans) / len(every) == pytest.approx(2 / (WINDOW + 1), rel=0.15)


@pytest.mark.parametrize("n_common", [300, 600, 900])
def test_bands_agree_as_often_as_the_jaccard_index_says(n_common: int) -> None:
    """Over many pairs of known Jaccard index J the share of equal bands is J ** BAND_ROWS."""
    equal = []
    for seed in range(60):
        common = prose(n_common, seed)
        a, b = (" ".join(common + prose(1000 - n_common, 1000 * side + seed)) for side in (1, 2))
        grams = [
            {tuple(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}
            for words in (a.split(), b.split())
        ]
        jaccard = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
        equal.append(((one(a).bands == one(b).bands).mean(), jaccard**BAND_ROWS))
    measured, expected = np.mean(equal, axis=0)
    spread = np.sqrt(expected * (1 - expected) / (60 * N_BANDS / BAND_ROWS))
    assert abs(measured - expected) < 4 * spread + 0.01


def test_what_repeats_the_prompt_is_left_out() -> None:
    """An answer that quotes its prompt has no span of the quotation, and keeps those of its own words."""
    asked, own = " ".join(prose(60, 1)), " ".join(prose(60, 2))
    answer = f"{asked} {own}"
    masked = one(answer, prompt=f"Rewrite: {asked}")
    assert not spans(masked) & spans(one(asked))
    assert spans(masked) & spans(one(own))
    assert one(asked, prompt=asked).bands.max() == 0
    assert spans(one(answer)) & spans(one(asked))


def test_nothing_has_no_prints() -> None:
    """Null, empty and wordless texts have no words, spans, bands or prompt key; short ones no spans."""
    for text in (None, "", " ...!? \n"):
        prints = one(text, prompt=text)
        assert (prints.n_words[0], len(prints.spans), int(prints.bands.max()), int(prints.prompts[0])) == (0, 0, 0, 0)
    assert len(one(" ".join(prose(SPAN_WORDS - 1, 1))).spans) == 0
    assert len(one(" ".join(prose(SPAN_WORDS, 1))).spans) == 1


def test_prints_depend_on_the_key_and_not_on_the_batch() -> None:
    """Another key shares nothing; rows give the same prints in any batch, slice or string type."""
    texts = [" ".join(prose(n, n)) for n in (5, 40, 200)] + [None]
    whole = fingerprint(pa.array(texts), KEY)
    other = fingerprint(pa.array(texts), HashKey(3, 4))
    assert not set(whole.spans.tolist()) & set(other.spans.tolist())
    again = fingerprint(pa.array(["x", *texts, "y"], pa.large_string()).slice(1, 4), KEY)
    assert all((a == b).all() for a, b in zip(whole, again, strict=True))


@pytest.mark.parametrize("text", [b"\xff\xfe\x80 ok " * 30, b"a" * 100_000, "\U0001f600".encode() * 500, b"\0" * 50])
def test_hostile_bytes_are_read_through(text: bytes) -> None:
    """Invalid UTF-8, a word of 100,000 letters and characters of no word do not break the kernel."""
    assert len(fingerprint(pa.array([text, b"after it"], pa.binary()), KEY).n_words) == 2


def test_impossible_arguments_are_refused() -> None:
    """A span of one word, and prompts of another number, are errors."""
    with pytest.raises(InputError, match="impossible span"):
        one("a b", n_words=1)
    with pytest.raises(InputError, match="prompts do not go"):
        fingerprint(pa.array(["a"]), KEY, prompt=pa.array(["a", "b"]))
