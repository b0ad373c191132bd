"""filters: what is shown of a reply's reasoning: all, merged steps, a summary, or nothing; the answer is never changed.

A reply is filtered only where it opens with a reasoning block (`<think>` ... `</think>` and the like). Everything after
the block's first closing tag is the answer and leaves as it came, byte by byte. Inside the reasoning, code, formulas,
numbers and citations are never altered: they are kept whole or left out whole.

What it buys, as measured by others (docs/mark.md): without its traces a student of a reasoning model loses much on
mathematics and nothing on code; a summary can be inverted in part; merging steps costs little and protects little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from stillwatch.errors import SettingsError

Filter = Literal["keep", "merge", "summarise", "withhold"]

TAGS = ("think", "thinking", "thought", "reasoning")

_OPEN = re.compile(rf"\s*<({'|'.join(TAGS)})>")
_HELD = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})|(?P<formula>\$\$|\\\[)|\\begin\{(?P<name>\w{1,40}\*?)\}", re.MULTILINE
)
_SPAN = re.compile(r"(`+)[^`]{1,500}\1|\$[^$\n]{1,500}\$|\\\([^()]{0,500}\\\)|\[[^\[\]]{0,200}\]|\([^()]{0,200}\)")
"""What stands inside prose and is not to be cut or altered: code, formulas, and brackets, which hold citations."""

_LINE = re.compile(r"[ \t]*[|>]| {4}|\t")
"""How lines begin that are not prose: tables, quotations and indented code."""

_SENTENCE_END = re.compile(r"(?<=[\u3002\uff01\uff1f])|(?<=[.!?])\s+(?=[^\sa-z\d])")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in four parts that, joined, are the reply; all but the answer are empty where it has no reasoning."""

    opening: str
    reasoning: str
    closing: str
    answer: str


def read_reply(text: str) -> Reply:
    """Find the reasoning a reply opens with; a reply without one is all answer.

    The block ends at its first closing tag, whatever the reasoning holds, so that no filter can reach the answer. A
    block that is never closed was cut off by a token limit: it is all reasoning. A tag further on is answer.
    """
    opened = _OPEN.match(text)
    if opened is None:
        return Reply("", "", "", text)
    start, closing = opened.end(), f"</{opened[1]}>"
    reasoning, closing, answer = text[start:].partition(closing)
    return Reply(text[:start], reasoning, closing, answer)


def filtered(text: str, how: Filter) -> str:
    """The reply with its reasoning filtered; one without reasoning leaves as it came. Cost: linear in the text.

    Raises:
        SettingsError: no filter is called so.
    """
    ways: dict[str, Callable[[str], str]] = {"keep": str, "merge": merged, "summarise": summarised}
    if how != "withhold" and how not in ways:
        raise SettingsError("no filter is called so", got=repr(how), expected=", ".join([*ways, "withhold"]))
    reply = read_reply(text)
    if how == "withhold":
        return reply.answer
    return reply.opening + ways[how](reply.reasoning) + reply.closing + reply.answer


def merged(reasoning: str) -> str:
    """The steps run together: line breaks between lines of prose become blanks, and nothing else changes.

    Code, formulas, brackets, tables, quotations and indented lines stay as they are.
    """
    return "".join(piece if held else _one_line(piece) for piece, held in _pieces(reasoning))


def summarised(reasoning: str) -> str:
    """The first sentence of the reasoning and the last of every paragraph, verbatim and in order.

    Code and formulas on lines of their own are left out. It says where a thought began and where it got to, not how.
    """
    kept: list[str] = []
    for piece, held in _pieces(reasoning):
        for paragraph in [] if held else re.split(r"\n[ \t]*\n", piece):
            sentences = [one.strip() for one in _sentences(paragraph) if one.strip()]
            kept += sentences[:1] if sentences and not kept else []
            kept += sentences[-1:] if sentences and kept[-1:] != sentences[-1:] else []
    return "".join(f"\n{one}" for one in kept) + "\n" if kept else ""


def _pieces(reasoning: str) -> Iterator[tuple[str, bool]]:
    """The reasoning in pieces that, joined, are the reasoning; True where a piece is code or a formula, kept whole.

    What is opened and never closed runs to the end.
    """
    at = 0
    while (opened := _HELD.search(reasoning, at)) is not None:
        yield reasoning[at : opened.start()], False
        at = _end(reasoning, opened)
        yield reasoning[opened.start() : at], True
    yield reasoning[at:], False


def _end(text: str, opened: re.Match[str]) -> int:
    if fence := opened["fence"]:
        closed = re.compile(rf"^ {{0,3}}{fence}{fence[0]}*[ \t]*$", re.MULTILINE).search(text, opened.end())
        return closed.end() if closed else len(text)
    closing = {"$$": "$$", "\\[": "\\]"}.get(opened["formula"] or "", f"\\end{{{opened['name']}}}")
    at = text.find(closing, opened.end())
    return at + len(closing) if at >= 0 else len(text)


def _spans(prose: str) -> Iterator[tuple[int, int]]:
    return ((found.start(), found.end()) for found in _SPAN.finditer(prose))


def _one_line(prose: str) -> str:
    """Prose without its inner line breaks; those inside a span and around lines that are not prose stay."""
    out, at = [], 0
    for start, end in (*_spans(prose), (len(prose), len(prose))):
        out += [re.sub(r"(?<=\S)[ \t]*\n\s*(?=\S)", _joined, prose[at:start]), prose[start:end]]
        at = end
    return "".join(out)


def _joined(found: re.Match[str]) -> str:
    line_before = found.string.rfind("\n", 0, found.start()) + 1
    last_break = found[0].rfind("\n") + found.start() + 1
    prose = not (_LINE.match(found.string, line_before) or _LINE.match(found.string, last_break))
    return " " if prose else found[0]


def _sentences(paragraph: str) -> Iterator[str]:
    spans = list(_spans(paragraph))
    start = nth = 0
    for found in _SENTENCE_END.finditer(paragraph):
        while nth < len(spans) and spans[nth][1] <= found.start():
            nth += 1
        if nth == len(spans) or found.start() <= spans[nth][0]:
            yield paragraph[start : found.end()]
            start = found.end()
    yield paragraph[start:]
