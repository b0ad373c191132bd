"""tongues: the languages of a simulated world, read from texts/, and which grammar writes what."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from stillwatch.sim.grammar import Grammar, read_rules

LANGUAGES: Final = ("en", "de", "es", "zh", "ja")


@cache
def grammar_of(language: str) -> Grammar:
    """The grammar of one of `LANGUAGES`."""
    folder = files("stillwatch.sim") / "texts"
    shared, own = (read_rules((folder / f"{name}.txt").read_text("utf-8")) for name in ("shared", language))
    return Grammar({**shared, **own})


def grammar_for(language: str, symbol: str) -> Grammar:
    """The grammar that writes a symbol in a language: its own, or English where it has no rule."""
    grammar = grammar_of(language)
    return grammar if symbol in grammar else grammar_of("en")
