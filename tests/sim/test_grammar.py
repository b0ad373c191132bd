from __future__ import annotations

import numpy as np
import pytest

from stillwatch.errors import SettingsError
from stillwatch.sim.grammar import Grammar, read_rules
from stillwatch.sim.tongues import LANGUAGES, grammar_for, grammar_of

EVERY_LANGUAGE = ("life", "study", "work", "code", "math", "write", "popular")


def test_rules_are_read_as_written() -> None:
    """Words, texts, weights, new lines and outer spaces mean what the notation says."""
    rules = read_rules("# note\nfruit: fig plum\n  ~ pear\n\ngap:\n  *2\n  \\s*\\n\n")
    assert rules == {"fruit": ("fig", "plum", "pear"), "gap": ("", "", " *\n")}


def test_slots_expand_in_place_row_by_row() -> None:
    """Each row is one whole sentence of the grammar, and all alternatives are used."""
    grammar = Grammar({"a": ("x", "y"), "s": ("<{a}{^a}>", "plain")})
    texts = grammar.write("s", 400, np.random.default_rng(0)).to_pylist()
    assert set(texts) == {"plain", "<xX>", "<xY>", "<yX>", "<yY>"}


def test_weights_are_odds() -> None:
    """A text with weight three comes about three times as often as one without."""
    grammar = Grammar(read_rules("s:\n  *3 a\n  b\n"))
    texts = grammar.write("s", 4000, np.random.default_rng(1)).to_pylist()
    assert 2800 < texts.count("a") < 3200


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
        assert symbol in grammar_of(language)
        texts = grammar_for(language, symbol).write(symbol, 50, np.random.default_rng(2)).to_pylist()
        assert all(text and "{" not in text for text in texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_people_rarely_collide(language: str) -> None:
    """Of two thousand everyday questions, at least 97 of 100 are said once only."""
    texts = grammar_for(language, "life").write("life", 2000, np.random.default_rng(3))
    assert len(texts.unique()) > 1940
