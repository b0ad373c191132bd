"""tape, picking, written: JSON found in bytes is what Python's own decoder finds in them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.lexing import ARRAY, ESCAPED, FALSE, FLOAT, INT, NULL, OBJECT, TEXT, TRUE, line_ends
from stillwatch.kernels.picking import paths, pick
from stillwatch.kernels.tape import Tape, tape
from stillwatch.kernels.written import texts, whole

value = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e50, 1e50) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
hostile = st.text('{}[]:,"\\ntrufalse0123456789.eE+- \tu\x00é', max_size=24)


def read(given_tape: Tape, spot: int) -> Any:
    """The value at a place, as Python has it."""
    kind, after = given_tape.kind[spot], given_tape.after[spot]
    place = np.array([spot])
    if kind in (TEXT, ESCAPED):
        return texts(given_tape.at(place))[1].tobytes().decode()
    if kind == INT:
        return int(whole(given_tape.at(place))[0])
    if kind == FLOAT:
        return float(texts(given_tape.at(place))[1].tobytes())
    if kind in (NULL, TRUE, FALSE):
        return {NULL: None, TRUE: True, FALSE: False}[int(kind)]
    inside, at = [], spot + 1
    while at < after:
        inside.append(read(given_tape, at))
        at = int(given_tape.after[at])
    assert kind in (ARRAY, OBJECT)
    return inside if kind == ARRAY else dict(zip(inside[::2], inside[1::2], strict=True))


def taped(lines: list[bytes]) -> Tape | None:
    data = np.frombuffer(b"".join(lines) + b" ", np.uint8)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    return tape(data, ends - np.array([len(line) for line in lines], np.int64), ends)


def strict(text: str) -> Any:
    """What Python's decoder makes of a text; raises ValueError for what only Python takes for JSON."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    found = json.loads(text, parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode()  # lone surrogates
    return found


@given(st.lists(value, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_a_tape_holds_what_was_written(values: list[Any], is_ascii: bool, indent: int | None) -> None:
    """Whatever is written as JSON stands on the tape, each value at its root."""
    lines = [json.dumps(one, ensure_ascii=is_ascii, indent=indent).replace("\n", " ").encode() for one in values]
    found = taped(lines)
    # A float may be written with an exponent of three digits, or more digits than are taken.
    assert found is not None or any(len(part) > 20 for line in lines for part in line.split())
    if found is not None:
        assert [read(found, int(root)) for root in found.roots] == values


@given(hostile)
def test_what_has_a_tape_is_json(text: str) -> None:
    """A text with a tape is JSON for Python too, of the same value; what Python refuses has none."""
    found = taped([text.encode()])
    if found is not None:
        expected = strict(text)
        got = read(found, int(found.roots[0]))
        assert got == expected
        assert len(json.dumps(got)) == len(json.dumps(expected))


@given(hostile)
def test_what_is_picked_from_is_json(text: str) -> None:
    """A record that values were picked from is JSON for Python too, and holds these values."""
    line = f'{{"a": {text}, "b": {{"c": [{{"d": 5}}, {{"d": 6}}]}}}}'
    wanted = paths([{"a": (0, -1, False), "b": (1, 1, False)}, {"c": (2, 2, True)}, {"d": (3, -1, False)}], 4)
    data = np.frombuffer(line.encode(), np.uint8)
    assert wanted is not None
    found = pick(data, np.array([0]), np.array([len(data)]), wanted)
    if found is not None:
        expected = strict(line)
        begin, end = int(found.first[0, 0]), int(found.last[0, 0])
        quotes = int(found.kind[0, 0] in (TEXT, ESCAPED))
        assert json.loads(data[begin - quotes : end + quotes].tobytes()) == expected["a"]
        assert whole(found.of(3)).tolist() == [expected["b"]["c"][0]["d"]]


@given(st.binary(max_size=300).map(lambda text: text.replace(b"b", b"\n")))
def test_lines_end_where_they_end(text: bytes) -> None:
    """Lines are those that splitting at each new line gives."""
    ends = line_ends(np.frombuffer(text, np.uint8)).tolist()
    starts = [0, *(end + 1 for end in ends[:-1])]
    expected = text.removesuffix(b"\n").split(b"\n") if text else []
    assert [text[a:b] for a, b in zip(starts, ends, strict=False)] == expected
