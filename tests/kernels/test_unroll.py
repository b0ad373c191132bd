from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.unroll import Unroller

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), max_size=4)


def unrolled(text: str, *, depth: int, step: int) -> list[object]:
    unroller, data = Unroller(depth=depth), text.encode()
    lines = b"".join(unroller.feed(data[at : at + step]) for at in range(0, len(data), step))
    return [json.loads(line) for line in lines.split(b"\n") if line]


@given(rows=ROWS, indent=st.none() | st.just(2), step=st.integers(1, 40), plain=st.booleans())
def test_an_array_gives_its_objects_as_lines(rows: list[object], indent: int | None, step: int, plain: bool) -> None:
    """Whatever the objects hold, however they are laid out and cut into pieces, each comes out on one line."""
    text = json.dumps(rows, indent=indent, ensure_ascii=plain)
    assert unrolled(text, depth=1, step=step) == rows


@given(rows=ROWS, step=st.integers(1, 40))
def test_an_array_below_a_key_gives_its_objects(rows: list[object], step: int) -> None:
    """With depth 2 the arrays of an object are read, and what else it holds is passed over."""
    text = json.dumps({"version": 1, "names": ["a"], "about": {"b": [{"c": 1}]}, "data": rows})
    assert unrolled(text, depth=2, step=step) == rows


@pytest.mark.parametrize("text", ["", "]]]]", "{" * 99, '["', '[{"a', "[[[{}]]]", "\\\\\\"])
def test_nonsense_is_survived(text: str) -> None:
    """Brackets that close nothing and strings that never end give at most broken lines, and no error."""
    unroller = Unroller()
    assert len(b"".join(unroller.feed(bytes([byte])) for byte in text.encode())) <= 2 * len(text)


def test_an_open_quote_costs_its_row_only() -> None:
    """A string cannot hold a line break, so a quote left open ends there and later rows are found."""
    lines = Unroller().feed(b'[{"a": "x},\n{"a": 1},\n{"a": 2}]').split(b"\n")
    assert b'{"a": 2}' in b"".join(lines)
