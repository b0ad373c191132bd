"""Keyed hashes: official vectors, one value per content whatever holds it, hostile input."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError, KeyFileError
from stillwatch.kernels.hashing import (
    HashKey,
    combine,
    hash_lists,
    hash_numbers,
    hash_strings,
    key_text,
    siphash,
)

KEY = HashKey.from_bytes(bytes(range(16)))
OTHER_KEY = HashKey.from_bytes(bytes(range(1, 17)))
TEXTS = ["", "a", None, "seven b", "eight by", "nine byte", "\0", "a\0", "日本語", None, "x" * 1000, "a"]

# Messages 00, 00 01, ... of the length given, key 00..0f: vectors.h of the reference implementation, and the 15-byte
# message worked through in appendix A of the paper.
SIPHASH_2_4 = {
    0: 0x726FDB47DD0E0E31,
    1: 0x74F839C593DC67FD,
    2: 0x0D6C8009D9A94F5A,
    3: 0x85676696D7FB7E2D,
    4: 0xCF2794E0277187B7,
    5: 0x18765564CD99A68D,
    6: 0xCBC9466E58FEE3CE,
    7: 0xAB0200F58B01D137,
    15: 0xA129CA6149BE45E5,
}


@pytest.mark.parametrize(("length", "expected"), SIPHASH_2_4.items())
def test_siphash_2_4_gives_the_official_vectors(length: int, expected: int) -> None:
    """SipHash-2-4 agrees with the authors' published vectors."""
    assert siphash(bytes(range(length)), KEY) == expected


def test_siphash_1_3_agrees_with_python_itself() -> None:
    """CPython hashes bytes with SipHash-1-3, under the key zero when PYTHONHASHSEED is 0."""
    if sys.hash_info.algorithm != "siphash13":
        pytest.skip(f"this Python hashes with {sys.hash_info.algorithm}")
    program = "print([hash(bytes(range(n))) for n in range(1, 101)])"
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    ).stdout
    expected = [int(value) % 2**64 for value in printed.strip("[]\n").split(",")]
    assert [siphash(bytes(range(n)), HashKey(0, 0), c=1, d=3) for n in range(1, 101)] == expected


def test_a_column_hashes_as_siphash_1_3_row_by_row() -> None:
    """The column kernel gives SipHash-1-3 of each value's UTF-8 bytes, and 0 for null."""
    expected = [0 if text is None else siphash(text.encode(), KEY, c=1, d=3) for text in TEXTS]
    assert hash_strings(pa.array(TEXTS), KEY).tolist() == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_every_arrow_form_of_a_text_hashes_alike(kind: pa.DataType) -> None:
    """String, binary, large, view and dictionary arrays of the same values have the same hashes, sliced or whole."""
    plain = pa.array(TEXTS)
    array = plain.cast(pa.binary()).cast(kind) if pa.types.is_binary_view(kind) else plain.cast(kind)
    expected = hash_strings(plain, KEY)
    assert hash_strings(array, KEY).tolist() == expected.tolist()
    assert hash_strings(array.slice(3, 7), KEY).tolist() == expected[3:10].tolist()


@given(st.lists(st.none() | st.text(max_size=20), max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_a_slice_hashes_as_its_part_of_the_whole(texts: list[str | None], start: int, length: int) -> None:
    """Offsets and validity bits of slices are respected at every alignment."""
    array = pa.array(texts, pa.string())
    whole = hash_strings(array, KEY).tolist()
    part = array.slice(min(start, len(texts)), length)
    assert hash_strings(part, KEY).tolist() == whole[start : start + length]


def test_a_dictionary_larger_than_its_rows_is_read_by_row() -> None:
    """A short slice of an array with a long dictionary gives the same hashes."""
    array = pa.DictionaryArray.from_arrays(pa.array([1, None, 2]), pa.array(["a", "b", None, "d", "e"]))
    assert hash_strings(array, KEY).tolist() == hash_strings(pa.array(["b", None, None]), KEY).tolist()


def test_empty_and_null_columns_hash_to_nothing() -> None:
    """No rows give no hashes, and a column of type null gives zeros."""
    assert hash_strings(pa.array([], pa.string()), KEY).shape == (0,)
    assert hash_strings(pa.array([], pa.string()).slice(0, 0), KEY).shape == (0,)
    assert hash_strings(pa.nulls(3), KEY).tolist() == [0, 0, 0]
    assert hash_strings(pa.nulls(3, pa.string()), KEY).tolist() == [0, 0, 0]
    assert hash_numbers(pa.nulls(2), KEY).tolist() == [0, 0]


def test_ten_megabytes_and_invalid_utf8_hash_as_their_bytes() -> None:
    """Size and encoding do not matter: bytes are hashed as they are."""
    values = [b"\xff\xfe\x80" * 3_333_334, b"\xc3", b""]
    hashed = hash_strings(pa.array(values, pa.binary()), KEY).tolist()
    assert hashed == [siphash(value, KEY, c=1, d=3) for value in values]


def test_another_key_gives_other_hashes() -> None:
    """Hashes depend on the key, and its repr and text hide it."""
    ours, theirs = (hash_strings(pa.array(["a", "b"]), key) for key in (KEY, OTHER_KEY))
    assert not np.intersect1d(ours, theirs).size
    assert str(KEY.k0) not in repr(KEY) and str(KEY.k1) not in str(KEY)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_key_of_the_wrong_length_is_refused(length: int) -> None:
    """A key is 16 bytes."""
    with pytest.raises(KeyFileError, match="wrong length"):
        HashKey.from_bytes(bytes(length))


@pytest.mark.parametrize("array", [pa.array([1]), pa.array([["a"]]), pa.array([{"a": 1}])], ids=lambda a: str(a.type))
def test_what_is_no_text_is_refused_as_text(array: pa.Array) -> None:
    """A column of another type is named instead of read wrongly."""
    with pytest.raises(InputError, match="cannot be read as text"):
        hash_strings(array, KEY)


def test_what_is_no_number_is_refused_as_number() -> None:
    """Text is not silently hashed as a number."""
    with pytest.raises(InputError, match="cannot be read as numbers"):
        hash_numbers(pa.array(["1"]), KEY)


def test_numbers_hash_by_value() -> None:
    """0.0 and -0.0 are alike, all NaN are alike, nulls are 0, and integers of any width agree."""
    quiet, odd = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    floats = hash_numbers(pa.array([0.0, -0.0, quiet, odd, 1.5, None]), KEY)
    assert floats[0] == floats[1] and floats[2] == floats[3] and floats[5] == 0
    assert len(set(floats.tolist())) == 4
    wide = hash_numbers(pa.array([1, -1, None], pa.int64()), KEY).tolist()
    assert hash_numbers(pa.array([1, -1, None], pa.int8()), KEY).tolist() == wide
    assert hash_numbers(pa.array([True, False, None]), KEY)[0] == wide[0]
    assert hash_numbers(pa.array([7, 1, -1, None, 9]).slice(1, 3), KEY).tolist() == wide


def test_instants_hash_by_microsecond_whatever_their_unit() -> None:
    """The same instant in seconds, milliseconds and microseconds has one hash."""
    hashes = {
        int(hash_numbers(pa.array([1_700_000_000 * scale], pa.timestamp(unit, tz="UTC")), KEY)[0])
        for unit, scale in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
    }
    assert len(hashes) == 1


def test_lists_tell_order_null_and_emptiness_apart() -> None:
    """Null, the empty list, a list of null and every order have hashes of their own; equal lists have equal ones."""
    lists = [None, [], [None], [""], ["a", "b"], ["b", "a"], ["ab"], ["a", "b", None], ["a", "b"]]
    hashes = hash_lists(pa.array(lists), KEY).tolist()
    assert hashes[0] == 0 and hashes[4] == hashes[8]
    assert len(set(hashes)) == len(lists) - 1
    assert hash_lists(pa.array(lists).slice(2, 4), KEY).tolist() == hashes[2:6]
    assert hash_lists(pa.array(lists).cast(pa.large_list(pa.string_view())), KEY).tolist() == hashes


def test_conversations_hash_by_role_and_content() -> None:
    """Messages differ by role, by content, by order, and by what is missing; slices agree with the whole."""
    ask, reply = {"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}
    silent = {"role": "assistant", "content": None}
    rows = [[ask], [reply], [ask, reply], [reply, ask], [silent], [None], [], None, [ask, reply]]
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    hashes = hash_lists(pa.array(rows, kind), KEY).tolist()
    assert hashes[2] == hashes[8] and hashes[7] == 0
    assert len(set(hashes)) == 8
    assert hash_lists(pa.array(rows, kind).slice(3), KEY).tolist() == hashes[3:]


def test_nested_lists_and_numbers_hash_too() -> None:
    """Lists of lists and lists of numbers are read all the way down."""
    hashes = hash_lists(pa.array([[[1], [2]], [[1, 2]], [[1], [2]], []]), KEY).tolist()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3


def test_combine_keeps_columns_apart() -> None:
    """The hash of a row depends on every column and on their order, and is never 0; None is a column of zeros."""
    a, b = (np.array(values, np.uint64) for values in ([1, 2, 0], [2, 1, 0]))
    rows = combine([a, b], KEY)
    secrets = [siphash(place.to_bytes(8, "little"), KEY, c=1, d=3) | 1 for place in range(2)]
    sums = [(x * secrets[0] + y * secrets[1]) % 2**64 for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert rows.tolist() == [siphash(total.to_bytes(8, "little"), KEY, c=1, d=3) for total in sums]
    assert combine([b, a], KEY).tolist() == [rows[1], rows[0], rows[2]]
    assert combine([None, a, None], KEY).tolist() == combine([0 * a, a, 0 * a], KEY).tolist() != rows.tolist()
    assert (rows != 0).all()
    assert combine([a[:0], b[:0]], KEY).shape == (0,)
    with pytest.raises(InputError, match="no column"):
        combine([], KEY)


def test_hashes_do_not_touch_their_input() -> None:
    """Arrays handed in stay writeable and unchanged."""
    column = np.arange(4, dtype=np.uint64)
    combine([column], KEY)
    column[0] = 5
    assert column.tolist() == [5, 1, 2, 3]


def test_a_key_is_written_as_sixteen_digits() -> None:
    """Keys are padded hexadecimal text."""
    assert [key_text(value) for value in (0, 255, 2**64 - 1)] == ["0" * 16, "0" * 14 + "ff", "f" * 16]


def test_hashes_spread_evenly() -> None:
    """The top bits of the hashes of numbered texts are uniform (chi-square over 64 cells, fixed key)."""
    hashes = hash_strings(pa.array([f"account-{i}" for i in range(64_000)]), KEY)
    cells = np.bincount((hashes >> np.uint64(58)).astype(np.int64), minlength=64)
    assert len(np.unique(hashes)) == 64_000
    assert ((cells - 1000) ** 2 / 1000).sum() < 120
