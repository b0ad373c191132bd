"""grammar: a context-free grammar, laid out as tables from which a kernel writes many texts at once.

Rules are text. `symbol: kettle lamp` lists words; otherwise each line under `symbol:` is one text, or, after `~`, more
words. `*3` before a text makes it three times as likely (alone: an empty one); `\\n` is a new line, `\\s` a space at
either end. `{symbol}` stands for a text of that symbol, `{^symbol}` for the same with a capital first letter. Of a long
list of words those further up come more often. The symbols that the rule `manner` lists are how a thing is said, not
what: a paraphrase changes only them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stillwatch.errors import SettingsError
from stillwatch.sim.kernels import write_texts

SLOT = re.compile(r"\{(\^?\w+)\}")
WEIGHT = re.compile(r"(?:\*(\d+) ?)?(.*)")
PARAGRAPH: Final = np.frombuffer(b"\n\n", np.uint8)
SHORTEST_SKEWED: Final = 24
MANNER: Final = "manner"

Array = np.ndarray[Any, Any]


def read_rules(text: str) -> dict[str, tuple[str, ...]]:
    """Read rules in the notation above; lines that begin with # are comments."""
    rules: dict[str, list[str]] = {}
    symbol = ""
    for line in text.splitlines():
        if line.startswith("  ~"):
            rules[symbol] += line[3:].split()
        elif line.startswith("  "):
            weight, body = WEIGHT.fullmatch(line[2:]).groups()  # type: ignore[union-attr]
            rules[symbol] += [body.replace("\\n", "\n").replace("\\s", " ")] * int(weight or 1)
        elif line and not line.startswith("#"):
            symbol, _, listed = line.partition(":")
            rules[symbol] = listed.split()
    return {symbol: tuple(texts) for symbol, texts in rules.items()}


def strings(offsets: Array, data: Array) -> pa.Array:
    """Offsets and bytes as an Arrow column, without a copy."""
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


class Grammar:
    """Rules as tables: `tables` is what `kernels.write_texts` reads, `symbols` numbers their names.

    The tables are the bytes of all literals, the first piece of each alternative, the first alternative of each symbol,
    whether it is a long list of words, whether it is of manner, the first byte of each piece, its symbol (-1: it is a
    literal), and whether it begins with a capital letter.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        manner = set(rules.get(MANNER, ()))
        rules = {symbol: texts for symbol, texts in rules.items() if symbol != MANNER}
        _check(rules, manner)
        self.symbols: Final = {symbol: number for number, symbol in enumerate(rules)}
        pool, spans, pieces, alternatives, symbol_of, capital_of = bytearray(), [0], [0], [0], [], []
        for texts in rules.values():
            for text in texts:
                for index, piece in enumerate(SLOT.split(text)):
                    if index % 2 or piece:
                        pool += b"" if index % 2 else piece.encode()
                        spans.append(len(pool))
                        symbol_of.append(self.symbols[piece.lstrip("^")] if index % 2 else -1)
                        capital_of.append(bool(index % 2) and piece.startswith("^"))
                pieces.append(len(symbol_of))
            alternatives.append(len(pieces) - 1)
        plain = [len(texts) >= SHORTEST_SKEWED and not any(map(SLOT.search, texts)) for texts in rules.values()]
        self.tables: Final = (
            np.frombuffer(bytes(pool) or b"\0", np.uint8),
            np.array(pieces, np.int64),
            np.array(alternatives, np.int64),
            np.array(plain, np.bool_),
            np.array([symbol in manner for symbol in rules], np.bool_),
            np.array(spans, np.int64),
            np.array(symbol_of, np.int64),
            np.array(capital_of, np.bool_),
        )

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.symbols

    def write(self, symbol: str, seeds: Array, manners: Array | None = None) -> pa.Array:
        """One text of a symbol for each seed; equal seeds give equal texts, up to their manner where one is given."""
        column = np.ascontiguousarray(seeds, np.uint64)[:, None]
        manner = column if manners is None else np.ascontiguousarray(manners, np.uint64)[:, None]
        symbols, capitals = np.full(column.shape, self.symbols[symbol], np.int64), np.zeros(column.shape, np.bool_)
        return self.join(symbols, column, manner, capitals)

    def join(self, symbols: Array, seeds: Array, manners: Array, capitals: Array) -> pa.Array:
        """Texts of several parts (rows, parts), a paragraph each; a part whose symbol is -1 is left out."""
        return strings(*write_texts(self.tables, symbols, seeds, manners, capitals, PARAGRAPH))


def _check(rules: Mapping[str, Sequence[str]], manner: set[str]) -> None:
    wants = {s: {slot.lstrip("^") for text in texts for slot in SLOT.findall(text)} for s, texts in rules.items()}
    if missing := sorted((set().union(*wants.values()) | manner) - rules.keys()):
        raise SettingsError("a grammar uses symbols it has no rule for", got=", ".join(missing), do="Add the rules")
    try:
        TopologicalSorter(wants).prepare()
    except CycleError as error:
        raise SettingsError("a grammar never ends", got=" -> ".join(error.args[1])) from None
