"""protowire: the kernel against the encoding written out byte by byte."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.protowire import FIXED32, FIXED64, LENGTH, VARINT, fields, named

Field = tuple[int, int, int]
"""Number, wire type, and the value: a number, or how many bytes."""

one_field = st.one_of(
    st.tuples(st.integers(1, 2**29 - 1), st.just(VARINT), st.integers(0, 2**64 - 1)),
    st.tuples(st.integers(1, 40), st.just(FIXED64), st.integers(0, 2**64 - 1)),
    st.tuples(st.integers(1, 40), st.just(FIXED32), st.integers(0, 2**32 - 1)),
    st.tuples(st.integers(1, 40), st.just(LENGTH), st.integers(0, 300)),
)


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + varint(number // 128)


def encoded(field: Field) -> bytes:
    number, wire, value = field
    tag = varint(number * 8 + wire)
    if wire == LENGTH:
        return tag + varint(value) + b"x" * value
    return tag + (varint(value) if wire == VARINT else value.to_bytes(8 if wire == FIXED64 else 4, "little"))


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def read(messages: list[bytes], lead: bytes = b"") -> tuple[list[tuple[int, ...]], list[bool]]:
    data = np.frombuffer(lead + b"".join(messages), np.uint8)
    ends = len(lead) + np.cumsum([len(one) for one in messages], dtype=np.int64)
    found, sound = fields(data, ends - np.array([len(one) for one in messages], np.int64), ends)
    return list(zip(*(column.tolist() for column in found), strict=True)), sound.tolist()


@given(st.lists(st.lists(one_field, max_size=5), min_size=1, max_size=4), st.binary(max_size=3))
def test_fields_are_those_encoded(messages: list[list[Field]], lead: bytes) -> None:
    """Every field comes back with its message, number, type and value, wherever its message lies."""
    expected, at = [], len(lead)
    for owner, message in enumerate(messages):
        for number, wire, value in message:
            at += len(encoded((number, wire, value)))
            where = (at - value, at) if wire == LENGTH else (0, signed(value))
            expected.append((owner, number, wire, *where))
    whole = [b"".join(map(encoded, message)) for message in messages]
    assert read(whole, lead) == (expected, [True] * len(messages))


@given(st.lists(one_field, min_size=1, max_size=4), st.integers(1, 400))
def test_a_cut_is_no_sound_message(message: list[Field], n_lost: int) -> None:
    """A message without its end is sound only where it was cut between two fields; its neighbours are read as ever."""
    parts = list(map(encoded, message))
    whole = b"".join(parts)
    cut = whole[: max(0, len(whole) - n_lost)]
    between = {len(b"".join(parts[:n])) for n in range(len(parts) + 1)}
    found, sound = read([whole, cut, whole])
    assert sound == [True, len(cut) in between, True]
    assert [field[1:3] for field in found if field[0] == 0] == [field[1:3] for field in found if field[0] == 2]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_any_bytes_end(messages: list[bytes]) -> None:
    """Whatever the bytes, no value reaches beyond its message."""
    ends = np.cumsum([len(one) for one in messages])
    found, _ = read(messages)
    assert all(at <= value <= ends[owner] for owner, _, wire, at, value in found if wire == LENGTH)


def test_what_is_no_field() -> None:
    """Number 0, groups, unknown types, endless numbers and lengths beyond the end are damage."""
    no_types = [b"\x00\x01", b"\x0b", b"\x0c", b"\x0e", b"\x0f"]
    no_ends = [b"\x08" + b"\xff" * 11, b"\x09" + b"x" * 7, b"\x0d123", b"\x08", b"\x0a", b"\x80"]
    bad = [*no_types, *no_ends, b"\x0a\x02x", b"\x0a" + b"\xff" * 9 + b"\x01", b"\xff" * 5 + b"\x7f\x00"]
    assert read(bad) == ([], [False] * len(bad))


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=6), st.lists(st.binary(max_size=5), min_size=1, max_size=6))
def test_names_are_found(names: list[bytes], texts: list[bytes]) -> None:
    """Each text is given the first place at which it stands among the names, or none."""
    data = np.frombuffer(b"".join(texts) or b"-", np.uint8)
    ends = np.cumsum([len(one) for one in texts], dtype=np.int64)
    expected = [names.index(text) if text in names else -1 for text in texts]
    assert named(data, ends - np.array([len(one) for one in texts], np.int64), ends, names).tolist() == expected


def test_the_last_field_of_a_message_counts() -> None:
    """Of several fields under one number the last is told, and nothing of a message without one."""
    message = encoded((1, VARINT, 5)) + encoded((2, VARINT, 6)) + encoded((1, VARINT, 7)) + encoded((1, FIXED32, 8))
    data = np.frombuffer(message, np.uint8)
    found, _ = fields(data, np.array([0, 0]), np.array([len(message), 0]))
    assert found.having(1, VARINT).last(2)[1].tolist() == [7, 0]
