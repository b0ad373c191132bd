"""canonical: one spelling of an answer, so that hosts, templates and white space do not look like models.

A host adds a leading space, a template leaves a role marker, an exporter keeps the end-of-text token or curls the
quotes. None of it comes from the model. On public answers leading white space alone moved one p-value from .003 to .12.
"""

from __future__ import annotations

import re
import unicodedata

STEPS = (
    "NFKC",
    "no control or zero-width characters",
    "straight quotes and plain dashes",
    "no special tokens",
    "no role marker at the start",
    "line ends as one newline, other white space as one space, none at the ends",
)
"""What `canonical` does, in order; named in every result. A change here is a new `VERSION`."""

VERSION = "canonical/1"

N_CHARACTERS = 4000
"""Characters of an answer that are looked at: what follows says more about token limits than about models."""

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    }
)
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_SPECIAL = re.compile(r"<\|[\w/ -]{1,40}\|>|</?s>|\[/?INST\]|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>", re.I)
_ROLE = re.compile(r"(?:#{1,6} *|\*\*)?(?:assistant|response|answer|output|ai|bot|model)(?:\*\*)? *:(?:\*\*)?", re.I)


def canonical(text: str) -> str:
    r"""The one spelling of an answer, of at most `N_CHARACTERS` characters; applying it twice changes nothing.

    >>> canonical("\n ### Response: \u201cYes\u201d,\r\n\n  she said.</s>")
    '"Yes",\nshe said.'
    """
    # Megabytes of leading space would otherwise push the answer out of sight.
    before, text = "", text.lstrip()[: 2 * N_CHARACTERS]
    while text != before:
        before, text = text, respelled(text)[:N_CHARACTERS].strip()
    return text


def respelled(text: str) -> str:
    """All of a text after one pass, in linear time: what one pass uncovers (a token within a token) is left."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    if _HIDDEN.search(text):
        text = _HIDDEN.sub("", text)
    if "<" in text or "[" in text:
        text = _SPECIAL.sub("", text)
    text = "\n".join(line for raw in text.splitlines() if (line := " ".join(raw.split())))
    role = _ROLE.match(text)
    return (text[role.end() :] if role and role.end() < len(text) else text).strip()
