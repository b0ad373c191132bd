"""streamed: the filters of reasoning for a text that comes in pieces: the answer goes on at once, reasoning waits.

However a reply that opens with a reasoning block is cut into pieces, the pieces that leave are, joined, what
`filters.filtered` makes of the whole. Held back are: the reasoning until its block ends (at most `MOST_HELD` characters
of it), blanks before the first sign of a reply, and what may be the beginning of a tag (at most 213 characters).

A reply that opens with no block is an answer from its first sign on, unless its prompt opened the block: no stream can
know that, so whoever reads the prompt says it (`opens`).
"""

from __future__ import annotations

import re
from typing import Literal

from stillwatch.reasoning.filters import FENCE, MENTION, ON_A_LINE, OPEN, TAGS, Filter, merged, summarised

MOST_HELD = 1 << 20
"""Characters of reasoning that wait for the end of their block."""

MOST_BLANKS = 4096
"""Blanks before the first sign of a reply; a reply with more of them is an answer."""

_ANY_TAG = "|".join(TAGS)
_PARTIAL_TAG = rf"<(?:[a-z]{{0,9}}|(?:{_ANY_TAG})\s[^<>]{{0,200}})\Z"
_MAY_OPEN = re.compile(rf"\ufeff?\s*(?:{_PARTIAL_TAG})?\Z", re.IGNORECASE)
_MAY_BE_BEHIND = re.compile(_PARTIAL_TAG, re.IGNORECASE)
_MAY_BE_ON_A_LINE = re.compile(rf"^[ \t]*({_PARTIAL_TAG})", re.IGNORECASE | re.MULTILINE)
_BEHIND = re.compile(rf"<({_ANY_TAG})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)
_ANY_CLOSE = re.compile(rf"</({_ANY_TAG})>", re.IGNORECASE)
_CLOSE = {tag: re.compile(f"</{tag}>", re.IGNORECASE) for tag in TAGS}
_PIECE = 4096
"""Characters that are looked at in one go, so that many small blocks take linear time."""
_LONGEST_CLOSE = max(map(len, TAGS)) + 3


def shown(reasoning: str, how: Filter) -> str:
    """What a filter leaves of a text that is all reasoning, such as the field `reasoning_content`."""
    if how == "withhold":
        return ""
    return merged(reasoning) if how == "merge" else summarised(reasoning) if how == "summarise" else reasoning


class Held:
    """Reasoning that waits for its end.

    Args:
        how: the filter. most: characters that may wait; of a longer text the rest is left out of a summary, and all of
            it leaves unmerged where steps are merged.
    """

    def __init__(self, how: Filter, most: int = MOST_HELD) -> None:
        self._how, self._room = how, most
        self._parts: list[str] = []
        self.is_over = False

    def feed(self, text: str) -> str:
        """Take a piece; what may leave now: nothing, but for a text that is too long to be merged."""
        if self.is_over:
            return text if self._how == "merge" else ""
        self.is_over = len(text) > self._room
        if self.is_over and self._how == "merge":
            return self.take() + text
        self._parts.append(text[: self._room])
        self._room -= len(self._parts[-1])
        return ""

    def take(self) -> str:
        """What waits, as it came."""
        text = "".join(self._parts)
        self._parts.clear()
        return text

    def end(self) -> str:
        """What leaves at the end."""
        return shown(self.take(), self._how)


Where = Literal["start", "inside", "answer"]


class Streamed:
    """One reply in pieces. Cost: linear in the reply; memory as the head of this module says.

    Args:
        how: the filter. opens: the prompt opened the block, so that the reply begins inside it: all up to the first
            closing tag is reasoning, and all of a reply that has none. most: characters that may wait.
    """

    def __init__(self, how: Filter, *, opens: bool = False, most: int = MOST_HELD) -> None:
        self._how, self._opens, self._most = how, opens, most
        self._where: Where = "start"
        self._text = ""
        """What is not decided yet."""
        self._is_first, self._was_cut = True, False
        self._opening, self._tag, self._head = "", "", ""
        self._held, self._is_begun = Held(how, most), False
        self._is_behind, self._on_line = True, True
        self._fences, self._run = 0, 0
        self._unclosed: set[str] = set()

    def feed(self, text: str) -> str:
        """Take a piece of the reply; what of it, or of what waited, may leave now."""
        if self._how == "keep":
            return text
        out = []
        for at in range(0, len(text), _PIECE):
            self._text += text[at : at + _PIECE]
            out.append(self._go(is_last=False))
        return "".join(out)

    def end(self, *, was_cut: bool = False) -> str:
        """The reply is over: what still waited.

        Args:
            was_cut: a limit or a failure ended it, so that a block that nothing closed is reasoning whatever it says.
        """
        self._was_cut = was_cut
        out = [self._go(is_last=True)]
        while self._where == "inside":
            out.append(self._cut_off())
        return "".join(out)

    def _go(self, *, is_last: bool) -> str:
        out: list[str] = []
        steps = {"start": self._start, "inside": self._inside, "answer": self._answer}
        before = None
        while self._text and before != (self._where, self._is_behind, len(self._text)):
            before = self._where, self._is_behind, len(self._text)
            out.append(steps[self._where](is_last))
        return "".join(out)

    def _start(self, is_last: bool) -> str:
        opened = OPEN.match(self._text)
        if opened is not None:
            self._text = self._text[opened.end() :]
            self._enter(opened[0], opened[1].lower())
        elif is_last or len(self._text) > MOST_BLANKS or not _MAY_OPEN.match(self._text):
            if self._opens:
                self._enter("", "")
            else:
                # No block: what follows is one answer, in which a tag opens nothing.
                self._where, self._how = "answer", "keep"
        return ""

    def _enter(self, opening: str, tag: str) -> None:
        self._where, self._opening, self._tag = "inside", opening, tag
        self._held, self._head, self._is_begun = Held(self._how, self._most), "", False

    def _inside(self, is_last: bool) -> str:
        closed = (_CLOSE[self._tag] if self._tag else _ANY_CLOSE).search(self._text)
        if closed is None:
            n_ready = len(self._text) - (0 if is_last else _LONGEST_CLOSE - 1)
            ready, self._text = self._text[: max(0, n_ready)], self._text[max(0, n_ready) :]
            return self._reason(ready)
        out = self._reason(self._text[: closed.start()]) + self._over(closed[0])
        self._text = self._text[closed.end() :]
        self._where, self._is_first = "answer", False
        self._is_behind, self._on_line, self._run = True, True, 0
        return out

    def _reason(self, text: str) -> str:
        self._head += text[: 2 - len(self._head)]
        out = self._held.feed(text)
        return self._begun() + out if out else ""

    def _begun(self) -> str:
        """The opening tag, once."""
        first, self._is_begun = not self._is_begun, True
        return self._opening if first and self._how != "withhold" else ""

    def _over(self, closing: str) -> str:
        rest = self._held.end()
        return "" if self._how == "withhold" else self._begun() + rest + closing

    def _cut_off(self) -> str:
        """A block that nothing closed: reasoning to the end, unless its tag is plainly spoken of."""
        self._where = "answer"
        if not self._opening or self._was_cut or self._held.is_over or not MENTION.match(self._head):
            return self._over("")
        text = self._held.take()
        if self._is_first:
            return self._opening + text
        self._unclosed.add(self._tag)
        self._is_behind = False
        return self._passed(self._opening) + self.feed(text) + self._go(is_last=True)

    def _answer(self, is_last: bool) -> str:
        if self._how == "keep":
            text, self._text = self._text, ""
            return text
        return self._behind(is_last) if self._is_behind else self._line(is_last)

    def _behind(self, is_last: bool) -> str:
        """Right behind a block: blanks pass, and a tag opens another."""
        rest = self._text.lstrip()
        out = self._passed(self._text[: len(self._text) - len(rest)])
        self._text = rest
        opened = _BEHIND.match(rest)
        if opened is not None:
            return out + self._found(opened[0], opened[1].lower(), is_last)
        if rest and (is_last or not _MAY_BE_BEHIND.match(rest)):
            self._is_behind = False
        return out

    def _line(self, is_last: bool) -> str:
        """In an answer: a tag that begins a line outside fenced code opens a block."""
        # One sign before the text says whether it begins a line.
        text = ("\n" if self._on_line else "x") + self._text
        opened = ON_A_LINE.search(text)
        if opened is not None:
            start = opened.start(1) - 1
            out, self._text = self._passed(self._text[:start]), self._text[start:]
            return out + self._found(opened[1], opened[2].lower(), is_last)
        waits = None if is_last else _MAY_BE_ON_A_LINE.search(text)
        end = len(self._text) if waits is None else waits.start(1) - 1
        out, self._text = self._passed(self._text[:end]), self._text[end:]
        return out

    def _found(self, tag: str, name: str, is_last: bool) -> str:
        """A tag that opens a block, unless it stands in fenced code, or nothing closes it and it is spoken of."""
        rest = self._text[len(tag) :]
        if self._fences % 2 == 0 and name in self._unclosed and len(rest) < 2 and not is_last:
            return ""
        self._text = rest
        if self._fences % 2 or (name in self._unclosed and MENTION.match(rest)):
            self._is_behind = False
            return self._passed(tag)
        self._enter(tag, name)
        return ""

    def _passed(self, text: str) -> str:
        """A piece of the answer that leaves, with what has to be known of it."""
        if text:
            ticks = "`" * self._run + text
            self._fences += ticks.count(FENCE)
            self._run = (len(ticks) - len(ticks.rstrip("`"))) % 3
            newline = text.rfind("\n")
            self._on_line = (newline >= 0 or self._on_line) and not text[newline + 1 :].strip(" \t")
        return text
