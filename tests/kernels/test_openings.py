"""openings: what a plain reading of the conversation gives, in any Arrow form, and nothing where there is none."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.openings import opening_keys
from stillwatch.records import EXCHANGES

KEY = HashKey(7, 9)
TYPE = EXCHANGES.field("messages").type
Turn = dict[str, str | None]
TURNS = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "tool", "", None]),
            "content": st.sampled_from(["a", "b", "long " * 40, "", None]),
        }
    ),
    max_size=7,
)


def opening(turns: list[Turn] | None) -> tuple[str, str, str] | None:
    """First question, first answer after it, first question after that; none of them null."""
    wanted = ["user", "assistant", "user"]
    found: list[str | None] = []
    for turn in turns or []:
        if len(found) < 3 and turn["role"] == wanted[len(found)]:
            found.append(turn["content"])
    return None if len(found) < 3 or None in found else tuple(found)  # type: ignore[return-value]


@given(rows=st.lists(st.none() | TURNS, max_size=12), start=st.integers(0, 3))
def test_an_opening_is_what_a_plain_reading_finds(rows: list[list[Turn] | None], start: int) -> None:
    """Equal openings have equal keys, different ones different keys, and 0 stands for none, in a slice too."""
    array = pa.array(rows, TYPE).slice(start)
    keys = opening_keys(array, KEY).tolist()
    expected = [opening(row) for row in rows[start:]]
    assert [key == 0 for key in keys] == [one is None for one in expected]
    for key, one in zip(keys, expected, strict=True):
        for other_key, other in zip(keys, expected, strict=True):
            assert (key == other_key) == (one == other)


@pytest.mark.parametrize("kind", [pa.large_list(TYPE.value_type), pa.list_(TYPE.value_type, 3)])
def test_every_list_gives_the_same_keys(kind: pa.DataType) -> None:
    """Large and fixed lists hold the same conversations."""
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    plain = opening_keys(pa.array([turns, turns], TYPE), KEY)
    assert plain[0] != 0 and opening_keys(pa.array([turns, turns], kind), KEY).tolist() == plain.tolist()


def test_the_key_decides() -> None:
    """Without the key nobody can tell which conversation it was."""
    turns = pa.array([[{"role": role, "content": role} for role in ("user", "assistant", "user")]], TYPE)
    assert opening_keys(turns, KEY)[0] != opening_keys(turns, HashKey(7, 10))[0]


def test_a_null_list_over_turns_is_no_conversation() -> None:
    """Arrow may keep turns under a null; they are not read."""
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    child = pa.array(turns, TYPE.value_type)
    hidden = pa.ListArray.from_arrays(pa.array([0, 3], pa.int32()), child, mask=pa.array([True]))
    assert opening_keys(hidden.cast(TYPE), KEY).tolist() == [0]
