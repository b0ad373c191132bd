"""redact: strings made safe for where they are shown: a terminal, a spreadsheet, a page.

Account names, prompts and user agents are written by strangers. Nothing is dropped: a character that could act or
hide is replaced by its escape, so a reader sees that it was there. For a terminal that reads markup (rich), pass the
result as plain text, not as markup.
"""

from __future__ import annotations

import html
import re

# Unicode 16, Default_Ignorable_Code_Point (what is drawn as nothing: zero width, bidi overrides, tags, fillers), and
# the controls, line separators, surrogates, interlinear marks and non-characters.
_ACTING_OR_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Spreadsheets read the full-width forms too."""


def plain_text(value: object) -> str:
    r"""The value as one line of text that cannot move the cursor, reverse its neighbours or hide.

    >>> print(plain_text("ann\x1b[2Kbob\u202e"))
    ann\x1b[2Kbob\u202e
    """
    return _ACTING_OR_HIDDEN.sub(_escape, str(value))


def spreadsheet_safe(value: object) -> str:
    """The value as text that no spreadsheet runs as a formula: a leading apostrophe marks it as text.

    Pass strings that others wrote; a negative number of our own is a number, not text, and needs no guard.

    >>> spreadsheet_safe('=HYPERLINK("http://example.org")')
    '\\'=HYPERLINK("http://example.org")'
    """
    text = plain_text(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text


def html_text(value: object) -> str:
    """The value as HTML text, safe between tags and inside a quoted attribute.

    >>> html_text('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(plain_text(value), quote=True)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
