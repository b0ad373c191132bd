from __future__ import annotations

import csv
import io
import sys
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.redact import html_text, plain_text, spreadsheet_safe

ANY_TEXT = st.text(st.characters(exclude_categories=()))

# Format characters that are drawn, and so can neither act nor hide: Arabic, Syriac and Kaithi number signs, and the
# joiners of Egyptian hieroglyphs and of shorthand.
DRAWN_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}


def test_no_character_that_acts_or_hides_gets_through() -> None:
    """Over all of Unicode: controls, formats, separators and surrogates are escaped, and ordinary letters are not."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        shown = plain_text(character)
        if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and code not in DRAWN_FORMATS):
            assert shown in (f"\\x{code:02x}", f"\\u{code:04x}", f"\\U{code:08x}"), hex(code)
        elif shown != character:
            assert category in ("Cn", "Lo", "Mn", "So"), hex(code)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x00b", r"a\x00b"),
        ("line\r\nfeed\ttab", r"line\x0d\x0afeed\x09tab"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("user\u202egpj.exe", r"user\u202egpj.exe"),
        ("\u2066iso\u2069", r"\u2066iso\u2069"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("filler\u3164\u2800", r"filler\u3164\u2800"),
        ("half\ud800", r"half\ud800"),
        ("Zoë 東京 عربى हिन्दी 👩", "Zoë 東京 عربى हिन्दी 👩"),
        (None, "None"),
        (12.5, "12.5"),
    ],
)
def test_what_is_hidden_is_shown_by_its_code(text: object, shown: str) -> None:
    """Nothing is dropped: a reader sees that the character was there."""
    assert plain_text(text) == shown


@given(ANY_TEXT)
def test_plain_text_is_one_line_and_settled(text: str) -> None:
    """The result can be encoded, is one line, and passing it again changes nothing."""
    shown = plain_text(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert plain_text(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\u00a0=1", "＝1+1", "－1", "＠x", "\t=1", "\r=1", "\n=1", "\x00=1"],
)
def test_no_cell_starts_like_a_formula(text: str) -> None:
    """A formula, even behind white space, a control character or in full width, becomes text."""
    cell = spreadsheet_safe(text)
    assert cell[0] in "'\\"
    assert plain_text(text) in cell


@given(ANY_TEXT)
def test_a_cell_survives_csv_and_runs_nothing(text: str) -> None:
    """Written and read as CSV the cell is unchanged, and never starts as a spreadsheet's formula does."""
    cell = spreadsheet_safe(text)
    file = io.StringIO()
    csv.writer(file).writerow([cell, "next"])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == [cell, "next"]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(ANY_TEXT | st.sampled_from(["<script>alert(1)</script>", "' onmouseover='x", '"><img src=x>', "&lt;", "]]>"]))
def test_html_text_stays_text(text: str) -> None:
    """Between tags and in either kind of attribute a browser reads back the text and nothing more."""
    for template in ("<p>{}</p>", '<p title="{}"></p>', "<p title='{}'></p>"):
        reader = Reader()
        reader.feed(template.format(html_text(text)))
        reader.close()
        assert [tag for tag, _ in reader.tags] == ["p"]
        attributes = dict(reader.tags[0][1])
        assert plain_text(text) == (attributes["title"] if attributes else reader.text)
