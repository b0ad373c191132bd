"""sketch: a text without its words: keyed stand-ins for those at either end, and one for the whole.

What detection compares survives: the same words give the same stand-ins, so templates, shared openings and repeated
prompts are seen under one key. What does not survive is what the words say: searches for kinds of requests find
nothing in a sketch. A stand-in can be guessed by whoever holds the key, and common words can be told by their
frequency; a sketch is a guard against reading logs, not against analysing them.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

N_WORDS = 48
"""Words kept at either end. Both ends of a scan's own templates lie within."""

_TOKENS = re.compile(r"\d+|[^\W\d_]+")
_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_DIGEST_BYTES = 7
TEXTS = ("system_prompt", "prompt", "completion")
_ROLES = frozenset("system developer user assistant tool function model".split())


def sketch(text: str, key: bytes) -> str:
    """The sketch of a text: numbers as `0`, words as six letters of a keyed hash (BLAKE2b), the middle as one word.

    `key` has at most 64 bytes. Cost: about a microsecond a word kept, and one hash of the text.
    """
    tokens = _TOKENS.findall(text.casefold())
    words = tokens if len(tokens) <= 2 * N_WORDS else [*tokens[:N_WORDS], *tokens[-N_WORDS:]]
    stood = ["0" if word[0].isdigit() else _stand_in(word, key) for word in words]
    middle = len(stood) // 2
    return " ".join([*stood[:middle], _stand_in(f"\0{text}", key), *stood[middle:]])


def sketched(row: dict[str, Any], key: bytes) -> dict[str, Any]:
    """A canonical row with every text in it sketched; the conversation keeps its roles, those that are some."""
    out = dict(row)
    for name in TEXTS:
        if isinstance(out.get(name), str):
            out[name] = sketch(out[name], key)
    if isinstance(out.get("messages"), list):
        out["messages"] = [_turn(turn, key) for turn in out["messages"]]
    return out


def _turn(turn: Any, key: bytes) -> dict[str, Any]:
    role, content = turn.get("role"), turn.get("content")
    said = sketch(content, key) if isinstance(content, str) else None
    return {"role": role if role in _ROLES else None, "content": said}


def _stand_in(word: str, key: bytes) -> str:
    number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), key=key, digest_size=_DIGEST_BYTES).digest())
    letters = bytearray()
    for _ in range(6):
        number, letter = divmod(number, 26)
        letters.append(_LETTERS[letter])
    return letters.decode()
