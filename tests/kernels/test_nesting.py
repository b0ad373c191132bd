"""nesting: what is cut off, against a recursion over the decoded value."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.nesting import shallow

values = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(alphabet='a"\\[]{}ä', max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(alphabet='a"\\[]{}', max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def cut(value: Any, deepest: int) -> Any:
    if isinstance(value, list):
        return [cut(one, deepest - 1) for one in value] if deepest else None
    if isinstance(value, dict):
        return {key: cut(one, deepest - 1) for key, one in value.items()} if deepest else None
    return value


@given(values, st.integers(0, 6), st.booleans())
def test_what_lies_deeper_is_null(value: Any, deepest: int, ascii_only: bool) -> None:
    """Exactly the lists and objects inside of so many others become null, whatever brackets and quotes texts hold."""
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(shallow(text, deepest)) == cut(value, deepest)


def test_depth_without_end() -> None:
    """A hundred thousand levels are cut to so many that any decoder reads them, and what stands beside them stays."""
    text = b'{"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b', "beside": "x"}'
    assert json.loads(shallow(text))["beside"] == "x"


@given(st.binary(max_size=50), st.integers(0, 3))
def test_any_bytes(text: bytes, deepest: int) -> None:
    """Whatever the bytes, the result is hardly longer, and the same where nothing lies too deep."""
    out = shallow(text, deepest)
    assert len(out) <= len(text) + 3 * text.count(b"[") + 3 * text.count(b"{")
    assert shallow(text, 1000) == text
