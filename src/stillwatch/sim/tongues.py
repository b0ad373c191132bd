"""tongues: the languages of a simulated world, read from texts/, and which rule writes what."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

from stillwatch.sim.grammar import MANNER, SLOT, Grammar, read_rules

LANGUAGES: Final = ("en", "de", "es", "zh", "ja")


@cache
def grammar() -> Grammar:
    """All languages in one grammar; the rule `life` of English is `en_life`."""
    folder = files("stillwatch.sim") / "texts"
    shared = read_rules((folder / "shared.txt").read_text("utf-8"))
    rules: dict[str, tuple[str, ...]] = {MANNER: ()}
    for language in LANGUAGES:
        own = {**shared, **read_rules((folder / f"{language}.txt").read_text("utf-8"))}
        rules[MANNER] += tuple(f"{language}_{symbol}" for symbol in own.pop(MANNER, ()))
        for symbol, texts in own.items():
            rules[f"{language}_{symbol}"] = tuple(_in(language, text) for text in texts)
    return Grammar(rules)


def _in(language: str, text: str) -> str:
    """A text whose slots name the rules of a language."""
    return SLOT.sub(lambda found: "{" + re.sub(r"(\w+)", rf"{language}_\1", found[1]) + "}", text)


def symbol_for(language: str, symbol: str) -> int:
    """The number of the rule that writes a symbol in a language: its own, or English where it has none."""
    numbers = grammar().symbols
    return numbers.get(f"{language}_{symbol}", numbers[f"en_{symbol}"])
