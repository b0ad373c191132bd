"""filters: what is shown of a reply's reasoning: all, merged steps, a summary, or nothing; the answer is never changed.

A reply is filtered only where it opens with a reasoning block (`<think>` ... `</think>` and the like), or ends one that
its prompt opened. What follows a block is the answer and leaves as it came, byte by byte, but for further blocks of the
same reply, which begin right after the first or on a line of their own, outside fenced code.
Inside the reasoning, code, formulas, numbers and citations are never altered: they are kept whole or left out whole.

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

OPEN = re.compile(rf"\ufeff?\s*<({'|'.join(TAGS)})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)
MENTION = re.compile(r" [a-z]")
"""How text goes on after a tag that is spoken of and opens nothing."""

_BARE_END = re.compile(rf"</({'|'.join(TAGS)})>", re.IGNORECASE)
_QUOTES = "`'\"\u2018\u2019\u201c\u201d\u00ab\u00bb"
"""What stands beside a tag that is spoken of."""

_ANY_OPEN = re.compile(rf"<({'|'.join(TAGS)})\b", re.IGNORECASE)
_TAG = rf"(<({'|'.join(TAGS)})(?:\s[^<>]{{0,200}})?>)"
_BEHIND = re.compile(rf"\s*{_TAG}", re.IGNORECASE)
ON_A_LINE = re.compile(rf"^[ \t]*{_TAG}", re.IGNORECASE | re.MULTILINE)
_CLOSE = {tag: re.compile(rf"</{tag}>", re.IGNORECASE) for tag in TAGS}
FENCE = "```"
_HELD = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})|(?P<formula>\$\$|\\\[)|\\begin\{(?P<name>\w{1,40}\*?)\}", re.MULTILINE
)
_NOT_PROSE = re.compile(
    r"[\d\t\"$\\`()\[\]{}<>|=+*/#_@&%^~:;\u00b0-\u00b3\u00b9\u00bc-\u00be\u00d7\u00f7\u2070-\u209f\u2150-\u218f"
    r"\u2190-\u2bff]|^ |^[-\u2022]|[ \u2212]-[ ]|\w[.!?]\w",
    re.MULTILINE,
)
"""Signs of code, formulas, numbers, citations, lists, tables and quotations; a paragraph with one is not prose."""

_BLANK = re.compile(r"(\n(?:[ \t]*\n)+)")
_STATEMENT = re.compile(r"(?:import|from|return|def|class|if|else|for|while|let|const|var|use|select|print)\b", re.I)
_SENTENCE_END = re.compile(r"(?<=[\u3002\uff01\uff1f])|(?<=[a-z]{4}[.!?])\s(?=[^\sa-z])")
"""After a word of four small letters: no initial and no abbreviation of a title or a journal."""

MIN_WORDS = 4
"""Words of a line that is joined to its neighbour; shorter ones may be verse, a list or a statement of a program."""

LONGEST_SENTENCE = 400
"""Characters of a sentence of a summary; a longer one would be the thought itself, written without full stops."""


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
    block that is never closed was cut off by a token limit: it is all reasoning, unless the tag is plainly spoken of. A
    prompt may have opened the block: then a closing tag with no opening before it ends it, wherever on its line it
    stands, unless it is quoted or in fenced code.
    """
    opened = OPEN.match(text)
    if opened is None:
        return _opened_by_the_prompt(text)
    start = opened.end()
    closed = _CLOSE[opened[1].lower()].search(text, start)
    if closed is not None:
        return Reply(text[:start], text[start : closed.start()], closed[0], text[closed.end() :])
    if MENTION.match(text, start):
        return Reply("", "", "", text)
    return Reply(text[:start], text[start:], "", "")


def _opened_by_the_prompt(text: str) -> Reply:
    """A reply that begins inside a block, up to the first closing tag that is not spoken of; else all answer."""
    fences, seen = 0, 0
    opened = _ANY_OPEN.search(text)
    for bare in _BARE_END.finditer(text, 0, opened.start() if opened else len(text)):
        start, end = bare.span()
        fences += text.count(FENCE, seen, start)
        seen = start
        quoted = any(mark and mark in _QUOTES for mark in (text[max(start - 1, 0) : start], text[end : end + 1]))
        if not quoted and fences % 2 == 0:
            return Reply("", text[:start], bare[0], text[end:])
    return Reply("", "", "", text)


def _further(answer: str) -> Iterator[tuple[str, Reply]]:
    """What follows a block, in parts that joined are all of it: plain text, and the block behind it, if any.

    A block that is not closed runs to the end, unless its tag is plainly spoken of.
    """
    at, look, fences, seen = 0, 0, 0, 0
    unclosed: set[str] = set()
    while (
        opened := (_BEHIND.match(answer, look) if look == at else None) or ON_A_LINE.search(answer, look)
    ) is not None:
        start, look = opened.span(1)
        fences += answer.count(FENCE, seen, start)
        seen, tag = start, opened[2].lower()
        if fences % 2:
            continue
        closed = None if tag in unclosed else _CLOSE[tag].search(answer, look)
        if closed is None:
            unclosed.add(tag)
            if MENTION.match(answer, look):
                continue
        inside, behind = closed.span() if closed else (len(answer), len(answer))
        yield answer[at:start], Reply(answer[start:look], answer[look:inside], answer[inside:behind], "")
        at = look = seen = behind
    yield answer[at:], Reply("", "", "", "")


def filtered(text: str, how: Filter) -> str:
    """The reply with its reasoning filtered; one without reasoning leaves as it came. Cost: linear in the text.

    Raises:
        SettingsError: no filter is called so.
    """
    ways: dict[str, Callable[[str], str]] = {"keep": str, "merge": merged, "summarise": summarised}
    if how != "withhold" and how not in ways:
        raise SettingsError("no filter is called so", got=repr(how), expected=", ".join([*ways, "withhold"]))
    reply = read_reply(text)
    if not (reply.opening or reply.closing):
        return text

    def shown(block: Reply) -> str:
        return "" if how == "withhold" else block.opening + ways[how](block.reasoning) + block.closing

    return shown(reply) + "".join(plain + shown(block) for plain, block in _further(reply.answer))


def merged(reasoning: str) -> str:
    """The steps run together: line breaks inside paragraphs of plain prose become blanks, and nothing else changes.

    A paragraph with any sign of code, a formula, a number, a citation or a list stays as it is.
    """
    return "".join(piece if held else _one_line(piece) for piece, held in _paragraphs(reasoning))


def summarised(reasoning: str) -> str:
    """The first sentence of the reasoning and the last of every paragraph of plain prose, verbatim and in order.

    Any other paragraph, and a sentence longer than `LONGEST_SENTENCE`, is left out whole. It says where a thought
    began and where it got to, not how.
    """
    kept: list[str] = []
    for paragraph, held in _paragraphs(reasoning):
        sentences = [] if held else [one.strip() for one in _SENTENCE_END.split(paragraph) if one.strip()]
        for one in [*(sentences[:1] if not kept else []), *sentences[-1:]]:
            kept += [one] if len(one) <= LONGEST_SENTENCE and kept[-1:] != [one] else []
    return "".join(f"\n{one}" for one in kept) + "\n" if kept else ""


def _paragraphs(reasoning: str) -> Iterator[tuple[str, bool]]:
    """The reasoning in parts that, joined, are the reasoning; True where a part is not plain prose."""
    pieces = list(_pieces(reasoning))
    for at, (piece, held) in enumerate(pieces):
        if held:
            yield piece, True
            continue
        parts = _BLANK.split(piece)
        for nth, part in enumerate(parts):
            # What stands beside a formula or code without a blank line between is a part of its paragraph.
            beside = (nth == 0 and at > 0) or (nth == len(parts) - 1 and at + 1 < len(pieces))
            yield part, beside or _NOT_PROSE.search(part) is not None


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
        closed = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE).search(text, opened.end())
        return closed.end() if closed else len(text)
    closing = {"$$": "$$", "\\[": "\\]"}.get(opened["formula"] or "", f"\\end{{{opened['name']}}}")
    at = text.find(closing, opened.end())
    return at + len(closing) if at >= 0 else len(text)


def _one_line(prose: str) -> str:
    """A paragraph of prose without the line breaks that plainly stand inside a sentence."""
    first, *rest = prose.split("\n")
    out = [first]
    for before, line in zip([first, *rest], rest, strict=False):
        wrapped = before[-1:].isalpha() and line[:1].islower()
        long = min(len(before.split()), len(line.split())) >= MIN_WORDS
        code = _STATEMENT.match(before) or _STATEMENT.match(line)
        out += [" " if wrapped and long and not code else "\n", line]
    return "".join(out)
