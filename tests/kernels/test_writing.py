"""writing: the script a text is written in, against texts whose script a person can see."""

from __future__ import annotations

import pyarrow as pa
import pytest

from stillwatch.kernels.writing import BYTES_READ, SCRIPTS, text_scripts

TEXTS = {
    "none": ["", "12 + 3 = 15", "?!", None],
    "latin": ["How far is it?", "école", "Zürich 5", "Ở đâu vậy", "Một ngày đẹp trời", "ẶỆỢ", "x" * 100],
    "greek": ["Πόσο μακριά;", "Πόσο code"],
    "cyrillic": ["Как далеко?", "Как работает Python"],
    "hebrew": ["כמה רחוק"],
    "arabic": ["كم المسافة"],
    "thai": ["ไกลแค่ไหน"],
    "kana": ["どのくらい遠いですか", "東京までどのくらい"],
    "han": ["有多远", "用 Python 写一个排序函数吧"],
    "hangul": ["얼마나 멀어요"],
}


@pytest.mark.parametrize("script", TEXTS)
def test_the_script_of_a_text(script: str) -> None:
    """Texts of one script are told as that script, also as a dictionary and as a slice."""
    texts = pa.array(TEXTS[script], pa.string())
    wanted = [SCRIPTS.index(script)] * len(texts)
    assert text_scripts(texts).tolist() == wanted
    assert text_scripts(texts.dictionary_encode()).tolist() == wanted
    assert text_scripts(texts[1:]).tolist() == wanted[1:]


def test_latin_prevails_until_a_third() -> None:
    """A few foreign letters among many Latin ones change nothing; a third does."""
    few, third = "abcdefg \u0436\u0436", "abcdef \u0436\u0436"
    assert [SCRIPTS[code] for code in text_scripts(pa.array([few, third]))] == ["latin", "cyrillic"]


def test_only_the_beginning_is_read() -> None:
    """What stands after the bytes that are read does not count, even where they end within a character."""
    text = "a" * (BYTES_READ - 1) + "ж" * 50
    assert [SCRIPTS[code] for code in text_scripts(pa.array([text]))] == ["latin"]
