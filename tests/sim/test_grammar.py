from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stillwatch.errors import SettingsError
from stillwatch.sim.grammar import SLOT, Grammar, read_rules
from stillwatch.sim.tongues import LANGUAGES, grammar

EVERY_LANGUAGE = ("life", "study", "work", "code", "math", "write", "popular")


def test_rules_are_read_as_written() -> None:
    """Words, texts, weights, new lines and outer spaces mean what the notation says."""
    rules = read_rules("# note\nfruit: fig plum\n  ~ pear\n\ngap:\n  *2\n  \\s*\\n\n")
    assert rules == {"fruit": ("fig", "plum", "pear"), "gap": ("", "", " *\n")}


def seeds(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.random.default_rng(seed).integers(0, 2**63, n).astype(np.uint64)


def test_slots_expand_in_place_row_by_row() -> None:
    """Each row is one whole sentence of the grammar, and all alternatives are used."""
    grammar = Grammar({"a": ("x", "y"), "s": ("<{a}{^a}>", "plain")})
    texts = grammar.write("s", seeds(400, 0)).to_pylist()
    assert set(texts) == {"plain", "<xX>", "<xY>", "<yX>", "<yY>"}


def test_weights_are_odds() -> None:
    """A text with weight three comes about three times as often as one without."""
    grammar = Grammar(read_rules("s:\n  *3 a\n  b\n"))
    texts = grammar.write("s", seeds(4000, 1)).to_pylist()
    assert 2800 < texts.count("a") < 3200


def test_words_further_up_a_long_list_come_more_often() -> None:
    """A list of words is used with a heavy tail: its first word far more than its last, and every word somewhere."""
    words = tuple(f"w{number}" for number in range(60))
    texts = Grammar({"s": words}).write("s", seeds(9000, 6)).to_pylist()
    assert set(texts) == set(words)
    assert texts.count("w0") > 4 * texts.count("w59")


def test_equal_seeds_say_the_same() -> None:
    """A text depends on its seed and its symbol only, wherever it stands."""
    same = np.array([7, 8, 7], np.uint64)
    for language in LANGUAGES:
        texts = grammar().write(f"{language}_life", same).to_pylist()
        assert texts[0] == texts[2] != texts[1]


def test_a_paraphrase_changes_the_manner_only() -> None:
    """Under another manner the symbols of manner change, and what is said does not."""
    rules = {"manner": ("open",), "open": ("hi ", "hey ", "so "), "a": ("x", "y", "z"), "s": ("{open}{a}{a}",)}
    polite = Grammar(rules)
    same = np.full(200, 3, np.uint64)
    texts = polite.write("s", same, seeds(200, 4)).to_pylist()
    assert {text.split()[0] for text in texts} == {"hi", "hey", "so"}
    assert len({text.split()[1] for text in texts}) == 1


@given(st.text(alphabet="aäöüéßあ中z{}*1 ~:", max_size=12))
def test_any_literal_is_written_as_it_stands(literal: str) -> None:
    """What is no slot is written byte for byte; a capital is put on the first letter where it has one in Latin-1."""
    assume(not SLOT.search(literal))
    made = Grammar({"a": (literal,), "s": ("{a}", "{^a}")})
    texts = set(made.write("s", seeds(64, 5)).to_pylist())
    head = literal[:1].upper() if literal[:1] in set("aäöüéz") else literal[:1]
    assert texts == {literal, head + literal[1:]}


def test_an_unknown_symbol_is_named() -> None:
    """A slot without a rule is an error that names the symbol."""
    with pytest.raises(SettingsError, match="nowhere"):
        Grammar({"s": ("{nowhere}",)})


def test_a_circle_is_refused() -> None:
    """Rules that would expand for ever are an error when the grammar is made."""
    with pytest.raises(SettingsError, match="never ends"):
        Grammar({"s": ("{t}",), "t": ("a", "{s}")})


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_writes_every_start_symbol(language: str) -> None:
    """Each language has its own rules for what people say, and leaves no slot open."""
    for symbol in EVERY_LANGUAGE:
        assert f"{language}_{symbol}" in grammar()
        texts = grammar().write(f"{language}_{symbol}", seeds(50, 2)).to_pylist()
        assert all(text and "{" not in text.replace("{ ", "") for text in texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_people_rarely_collide(language: str) -> None:
    """Of two thousand everyday questions, at least 97 of 100 are said once only."""
    texts = grammar().write(f"{language}_life", seeds(2000, 3))
    assert len(texts.unique()) > 1940
