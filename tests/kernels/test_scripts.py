"""Classes and folds of characters, against the Unicode data Python carries."""

import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.scripts import BREAK, DENSE, DIGIT, IGNORED, LETTER, TABLE, classify, decode, decode_before

MAJOR_BLOCKS = (
    (0x80, 0x17F),
    (0x386, 0x3CE),
    (0x400, 0x52F),
    (0x531, 0x58A),
    (0x5D0, 0x5F4),
    (0x621, 0x6D3),
    (0x900, 0x97F),
    (0xE01, 0xE5B),
    (0x1EA0, 0x1EFF),
    (0x2010, 0x2027),
    (0x3001, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xFF01, 0xFF9D),
    (0x1F300, 0x1F64F),
)
LETTERS, MARKS_OF_DIGITS = ("L", "M"), ("Nd", "No", "Nl")


def test_ranges_are_ordered_and_apart() -> None:
    """The table is fit for binary search."""
    assert all(first <= last for first, last in TABLE[:, :2])
    assert all(one[1] < other[0] for one, other in pairwise(TABLE))


@pytest.mark.parametrize("block", MAJOR_BLOCKS, ids=lambda block: f"{block[0]:04x}")
def test_major_scripts_are_classed_as_unicode_does(block: tuple[int, int]) -> None:
    """Letters, digits, punctuation and format characters of the scripts most texts use are what Unicode says."""
    for code in range(block[0], block[1] + 1):
        category = unicodedata.category(chr(code))
        kind, folded = classify(code)
        if category.startswith(LETTERS):
            assert kind in (LETTER, DENSE) or (kind == BREAK and 0x302A <= code <= 0x302F), hex(code)
        elif category == "Cf":
            assert kind == IGNORED, hex(code)
        elif category == "Nd":
            assert kind == DIGIT, hex(code)
        elif category not in (*MARKS_OF_DIGITS, "Cn", "Sk"):
            assert kind == BREAK, hex(code)
        small = chr(code).lower()
        if kind == LETTER and len(small) == 1 and code < 0xFF00 and small not in "ς\u0131" and code != 0x4C0:
            assert folded == ord(small), hex(code)


def test_full_width_letters_fold_to_ascii() -> None:
    """Full-width capitals and small letters fold to ASCII small letters."""
    assert [classify(ord(mark)) for mark in "ＡＺａｚ"] == [(LETTER, ord(mark)) for mark in "azaz"]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_decoding_forward_and_backward_gives_python_s_code_points(text: str) -> None:
    """Well-formed UTF-8 is read as Python reads it, in both directions."""
    data = np.frombuffer(text.encode(), np.uint8)
    at, forward = 0, []
    while at < len(data):
        code, at = decode(data, at, len(data))
        forward.append(code)
    back, backward = len(data), []
    while back > 0:
        code, back = decode_before(data, back, 0)
        backward.append(code)
    assert forward == backward[::-1] == [ord(mark) for mark in text]


@given(st.binary(min_size=1, max_size=12))
def test_decoding_any_bytes_moves_on_and_stays_inside(raw: bytes) -> None:
    """Each step moves by one to four bytes, never past the end, and gives a code point or -1."""
    data = np.frombuffer(raw, np.uint8)
    at = 0
    while at < len(data):
        code, after = decode(data, at, len(data))
        assert at < after <= min(at + 4, len(data)) and -1 <= code <= 0x1FFFFF
        at = after
    while at > 0:
        code, before = decode_before(data, at, 0)
        assert max(at - 4, 0) <= before < at and -1 <= code <= 0x1FFFFF
        at = before


def test_every_code_point_has_a_class() -> None:
    """Nothing beyond ASCII is out of the table's reach."""
    assert {classify(code)[0] for code in range(0x80, sys.maxunicode + 1, 7)} == {BREAK, LETTER, DIGIT, DENSE, IGNORED}
