"""turns: a conversation's exchanges, from a list of turns or from one text in which turns are marked.

An exchange is what was asked and one answer to it. Every answer is an exchange of its own, so that a copy is seen
whatever stands before or after it in the same row; only the first answer after a question carries that question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ASKS = set("user human prompter customer".split())
ANSWERS = set("assistant gpt bot model chatgpt claude bard ai".split())
CONTENT = ("content", "value", "text")

Exchange = tuple[str | None, str | None]
"""What was asked, what was answered; either may be missing, never both."""

_HEAD = 400
"""Characters in which the first turn of a marked text begins; further down the words are the text's own."""

_LONGEST = 40
"""Characters a mark takes at most."""

_MOST_TURNS = 20_000
"""Marks at which a text is taken apart; what comes after is left in one piece."""

_ASK = "user|human|prompter|customer|instruction|question|prompt|query|q"
_ANSWER = "assistant|gpt|bot|model|chatgpt|claude|bard|ai|response|answer|completion|output|a"
_FORMS = (
    r"(?i:<\|?(?:(?:im_start|start_header_id|start)\|>|start_of_turn>)?(?:{})(?:\|?>(?:<\|message\|>)?|<\|[a-z_]{{3,20}}\|>|(?=\n)))",
    r"\[{}INST\]",
    r"(?i:\[\|?(?:{})\|?\]:?)",
    r"(?i:#{{2,6}} ?(?:{})(?::|(?=\s*\n)))",
    r"(?im:^[ \t]*\*{{0,2}}(?:{})\*{{0,2}}:\*{{0,2}})",
    r"(?:(?<=\s)(?:{}):)",
)
"""How a turn is marked: special tokens, [INST], brackets, hashes, a word and a colon at the start of a line, or in
capitals anywhere. A text keeps to one way and one pair of words."""

_INSTRUCTED = 1
_AT_LINES = 4
_CAPITALS = 5
_END = re.compile(r"(?:</?s>|<\|[a-z_]{2,20}\|>|<end_of_turn>|<eos>)\Z", re.IGNORECASE)


def _words(form: int, *, asks: bool) -> str:
    if form == _INSTRUCTED:
        return "" if asks else "/"
    words = _ASK if asks else _ANSWER
    return words.upper() if form == _CAPITALS else words


_NEEDS = ("<", "INST]", "[", "##", ":", ":")
_MARKS = [
    (_NEEDS[at], re.compile(form.format(_words(at, asks=True))), re.compile(form.format(_words(at, asks=False))))
    for at, form in enumerate(_FORMS)
]
_MAY_HOLD = rf"(?i)\[INST\]|(?:[<|\[#>*\s]|^)(?:{_ASK})(?:[\]|>:<*]|\s*\n)"
"""RE2 for Arrow: no text in which `in_text` finds anything is without it."""

_MOST_ENDS = 8


def in_lists(turns: Iterable[Any], text_of: Callable[[Any], str | None], odd: Callable[[], None]) -> list[Exchange]:
    """The exchanges of a list of turns, (role, content) or (from, value); `odd` is called for each that is none."""
    found: list[Exchange] = []
    asked: list[str] = []
    for one in turns:
        turn: Mapping[str, Any] = one if isinstance(one, dict) else {}
        role = turn.get("role") or turn.get("from")
        text = text_of(next((turn[name] for name in CONTENT if turn.get(name)), None))
        if text and not text.isspace() and str(role).lower() in ASKS:
            asked.append(text)
        elif text and not text.isspace() and str(role).lower() in ANSWERS:
            found.append(("\n".join(asked) or None, text))
            asked = []
        elif text is None or role is None:
            odd()
    return [*found, ("\n".join(asked), None)] if asked else found


def may_be_marked(texts: pa.Array) -> pa.Array:
    """Of each text whether its beginning may hold a marked turn; cheap, and never false where `in_text` finds one."""
    return pc.match_substring_regex(pc.utf8_slice_codeunits(texts, 0, _HEAD + _LONGEST), _MAY_HOLD)


def in_text(text: str) -> list[Exchange]:
    """The exchanges of a text whose turns are marked (`### Instruction:`, `Human:`, `<|user|>` ...); none where not.

    What stands before the first turn comes first, as a question that nobody answers. Cost: one pass over the text.
    """
    start, found_as = _HEAD + 1, None
    for form, (needs, ask, answer) in enumerate(_MARKS):
        first = ask.search(text, 0, start + _LONGEST) if text.find(needs, 0, start + _LONGEST) >= 0 else None
        reply = answer.search(text, first.end()) if first and first.start() < start else None
        if first and reply:
            start, found_as = first.start(), (form, first[0].strip(), reply[0].strip())
    if found_as is None:
        return []
    form, asks, answers = found_as
    found: list[Exchange] = [(_filled(text[:start]), None)]
    asked = ""
    parts = _split(asks, answers, form == _AT_LINES).split(text[start:], maxsplit=_MOST_TURNS)
    for mark, part in zip(parts[1::2], parts[2::2], strict=True):
        said = _ended(part)
        if mark == answers:
            found.append((_filled(asked), _filled(said)))
            asked = ""
        else:
            asked = f"{asked}\n{said}"
    found.append((_filled(asked), None))
    return [one for one in found if one != (None, None)] if any(answer for _, answer in found) else []


@lru_cache(maxsize=256)
def _split(asks: str, answers: str, at_lines: bool) -> re.Pattern[str]:
    either = f"({re.escape(asks)}|{re.escape(answers)})"
    return re.compile(rf"^[ \t]*{either}" if at_lines else either, re.MULTILINE)


def _ended(text: str) -> str:
    """The text without the tokens that end a turn."""
    text = text.rstrip()
    for _ in range(_MOST_ENDS):
        end = _END.search(text, max(0, len(text) - _LONGEST)) if text.endswith(">") else None
        if end is None:
            break
        text = text[: end.start()].rstrip()
    return text


def _filled(text: str) -> str | None:
    return text.strip() or None
