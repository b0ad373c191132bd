"""grammar: a context-free grammar that writes many texts at once.

Rules are text. `symbol: kettle lamp` lists words; otherwise each line under `symbol:` is one text, or, after `~`, more
words. `*3` before a text makes it three times as likely (alone: an empty one); `\\n` is a new line, `\\s` a space at
either end. `{symbol}` stands for a text of that symbol, `{^symbol}` for the same with a capital first letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.errors import SettingsError

SLOT = re.compile(r"\{(\^?\w+)\}")
WEIGHT = re.compile(r"(?:\*(\d+) ?)?(.*)")
EMPTY = pa.array([], pa.string())
NOTHING = pa.scalar("")
SPACE = pa.scalar(" ")
PARAGRAPH = pa.scalar("\n\n")


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


def join(parts: Sequence[pa.Array | pa.Scalar], separator: pa.Scalar = NOTHING) -> pa.Array:
    """Join strings row by row, leaving out nulls; at least one part is an array."""
    return pc.binary_join_element_wise(*parts, separator, null_handling="skip")


def take(texts: pa.Array, places: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """Texts at places. Built on the bare buffer, since `pa.array` looks for pandas at every call."""
    return texts.take(pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)]))


class Grammar:
    """Rules that write n texts of a symbol in one pass: every symbol is drawn once for all who want it.

    So a pass takes a few calls for each alternative, however many texts; time and memory are linear in what is written.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        self._rules = {symbol: [_pieces(text) for text in texts] for symbol, texts in rules.items()}
        wants = {
            symbol: {slot.lstrip("^") for text in texts for slot in SLOT.findall(text)}
            for symbol, texts in rules.items()
        }
        if missing := sorted(set().union(*wants.values()) - rules.keys()):
            raise SettingsError("a grammar uses symbols it has no rule for", got=", ".join(missing), do="Add the rules")
        try:
            self._order = tuple(TopologicalSorter(wants).static_order())
        except CycleError as error:
            raise SettingsError("a grammar never ends", got=" -> ".join(error.args[1])) from None
        self._plain = {s: pa.array(texts, pa.string()) for s, texts in rules.items() if not wants[s]}

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._rules

    def write(self, symbol: str, n: int, rng: np.random.Generator) -> pa.Array:
        """Write n independent texts of a symbol."""
        wanted, chosen, written = {symbol: n}, {}, {}
        for name in reversed(self._order):
            if name not in wanted:
                continue
            size = len(self._rules[name])
            choice = rng.integers(0, size, wanted[name])
            if name in self._plain:
                written[name] = take(self._plain[name], choice)
                continue
            chosen[name] = choice, np.bincount(choice, minlength=size).tolist(), dict(wanted)
            for pieces, count in zip(self._rules[name], chosen[name][1], strict=True):
                for slot in slots(pieces):
                    wanted[slot] = wanted.get(slot, 0) + count
        for name in reversed(chosen):
            choice, counts, used = chosen[name]
            parts = [
                _fill(pieces, count, written, used) for pieces, count in zip(self._rules[name], counts, strict=True)
            ]
            place = np.empty(len(choice), np.int64)
            place[np.argsort(choice, kind="stable")] = np.arange(len(choice))
            written[name] = take(pa.concat_arrays(parts), place)
        return written[symbol]


def _fill(pieces: Sequence[str | pa.Scalar], n: int, written: Mapping[str, pa.Array], used: dict[str, int]) -> pa.Array:
    """Write n texts of one alternative out of what is written, from where `used` says, and move that on."""
    parts: list[pa.Array | pa.Scalar] = []
    for piece in pieces:
        if isinstance(piece, str):
            slot = piece.lstrip("^")
            at = used.get(slot, 0)
            used[slot] = at + n
            text = written[slot].slice(at, n) if n else EMPTY
            parts.append(capital(text) if piece.startswith("^") else text)
        else:
            parts.append(piece)
    return join(parts) if any(isinstance(part, pa.Array) for part in parts) else pa.repeat(parts[0], n)


def slots(pieces: Sequence[str | pa.Scalar]) -> list[str]:
    """The symbols an alternative uses."""
    return [piece.lstrip("^") for piece in pieces if isinstance(piece, str)]


def _pieces(text: str) -> list[str | pa.Scalar]:
    """An alternative as slots (strings) and literals (scalars, made once: making one takes longer than using it)."""
    pieces = [piece if index % 2 else pa.scalar(piece) for index, piece in enumerate(SLOT.split(text))]
    return [piece for piece in pieces if isinstance(piece, str) or piece.as_py()] or [NOTHING]


def capital(texts: pa.Array) -> pa.Array:
    """The same texts with a capital first letter."""
    return join([pc.utf8_upper(pc.utf8_slice_codeunits(texts, 0, 1)), pc.utf8_slice_codeunits(texts, 1)])
