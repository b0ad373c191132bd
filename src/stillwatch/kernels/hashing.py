"""hashing: keyed 64-bit hashes of whole columns (SipHash-1-3), 0 where the log said nothing.

Every function gives one uint64 per row: 0 for null, never 0 for a value. Without the key nobody can recompute them or
make two texts collide on purpose. Equal values give equal hashes whatever the Arrow type that holds them (string,
large, view, dictionary, slice) and however the rows are cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.errors import InputError, KeyFileError
from stillwatch.kernels.columns import (
    U64,
    Bytes,
    Spans,
    by_value,
    frozen,
    is_null,
    list_spans,
    number_words,
    text_spans,
    validity,
)
from stillwatch.kernels.compile import jit
from stillwatch.kernels.networks import read_networks
from stillwatch.kernels.siphash import Key, U, sip, sip_key, sip_word

KEY_BYTES = 16

_ALL = np.zeros(0, np.uint8)
"""`valid` of words that all are."""


@dataclass(frozen=True, slots=True)
class HashKey:
    """A 128-bit SipHash key, as two little-endian words; its repr hides it."""

    k0: int = field(repr=False)
    k1: int = field(repr=False)

    @classmethod
    def from_bytes(cls, key: bytes) -> Self:
        """Read a key of exactly 16 bytes; raises KeyFileError otherwise."""
        if len(key) != KEY_BYTES:
            raise KeyFileError("a hash key has the wrong length", got=f"{len(key)} bytes", expected=f"{KEY_BYTES}")
        return cls(int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little"))

    @property
    def words(self) -> Key:
        """The two words, typed as kernels take them."""
        return np.uint64(self.k0), np.uint64(self.k1)


def siphash(data: bytes, key: HashKey, c: int = 2, d: int = 4) -> int:
    """SipHash-c-d of some bytes; `c=1, d=3` is what the columns below use, before 0 becomes 1."""
    raw = np.frombuffer(data, np.uint8)
    return int(_sip_all(frozen(raw), key.words, (c, d)))


def hash_strings(array: pa.Array, key: HashKey) -> U64:
    """Keyed hash of each string or run of bytes, shape (n,); about 4 GB/s for long texts, 20 ns for short ones.

    Takes string, binary, their large and view forms, and dictionaries of them, hashed once per entry.
    """
    return by_value(array, lambda values: _hash(text_spans(values), key))


def hash_numbers(array: pa.Array, key: HashKey) -> U64:
    """Keyed hash of each integer, float, boolean, date or timestamp, shape (n,).

    -0.0 and 0.0 are alike, and so is every NaN; timestamps of any unit are compared in microseconds. An integer and a
    float of the same value differ: cast a column before, not after.
    """
    return by_value(array, lambda values: _hash_words(*number_words(values), key))


def hash_lists(array: pa.Array, key: HashKey) -> U64:
    """Keyed hash of each list, shape (n,): order matters, and null, the empty list and a list of null all differ.

    Elements may be strings, numbers, structs (by their fields in order) or lists again.
    """
    return by_value(array, lambda values: _hash_lists(values, key))


def combine(columns: Sequence[U64 | None], key: HashKey) -> U64:
    """Keyed hash of each row of several hashed columns, shape (n,); the order of the columns matters; never 0.

    None stands for a column of zeros and costs nothing. The columns are added up, each times an odd secret of its own
    (multilinear hashing; Lemire and Kaser 2014, section 2), and the sum is hashed: about 5 ns a row
    and 2 more a column.
    """
    filled = [(at, column) for at, column in enumerate(columns) if column is not None]
    if not filled:
        raise InputError("no column to combine", got="none", expected="at least 1")
    places = _hash_words(np.arange(len(columns), dtype=np.uint64), _ALL, key) | np.uint64(1)
    total = np.zeros(len(filled[0][1]), np.uint64)
    for at, column in filled:
        total += column * places[at]
    return _hash_words(total, _ALL, key)


def network_keys(ip: pa.Array, key: HashKey) -> U64:
    """Keyed hash of the network of each address, shape (n,): the /24 of IPv4, the /48 of IPv6; 0 if unreadable.

    Addresses are text. IPv4 written as IPv6 (`::ffff:a.b.c.d`) counts as IPv4. Spaces around, a port after IPv4 or
    after `[IPv6]`, and an IPv6 zone (`%eth0`) are dropped.
    """
    return by_value(ip, lambda values: _network_keys(values, key))


def key_text(value: int) -> str:
    """A key as 16 hexadecimal digits, for people and files."""
    return f"{int(value):016x}"


def _hash(spans: Spans, key: HashKey) -> U64:
    return _hash_spans(spans, key.words)


def _hash_words(words: U64, valid: npt.NDArray[Any], key: HashKey) -> U64:
    """Keyed hash of each word, 0 where not valid; `valid` is empty where all are."""
    hashes = _sip_words(frozen(words.view()), key.words)
    return hashes * valid if len(valid) else hashes


def _network_keys(ip: pa.Array, key: HashKey) -> U64:
    networks = read_networks(text_spans(ip))
    return _hash_words(networks, networks != 0, key)


def _hash_lists(array: pa.Array, key: HashKey) -> U64:
    child, spans = list_spans(array)
    words = _hash_values(child, key)
    return _hash(Spans(frozen(words.view(np.uint8)), spans.offsets, spans.valid), key)


def _hash_values(array: pa.Array, key: HashKey) -> U64:
    kind = array.type
    if pa.types.is_struct(kind):
        rows = combine([_hash_values(column, key) for column in array.flatten()], key)
        valid = validity(array)
        return rows * valid if len(valid) else rows
    if pa.types.is_nested(kind) and not pa.types.is_dictionary(kind):
        return hash_lists(array, key)
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    numeric = pa.types.is_primitive(value)
    return hash_numbers(array, key) if numeric else hash_strings(array, key)


@jit
def _sip_all(data: Bytes, key: Key, rounds: tuple[int, int]) -> U:
    return sip(data, U(0), U(data.size), key, rounds)


@jit
def _sip_words(words: U64, key: Key) -> U64:
    out = np.empty(words.size, np.uint64)
    for at in range(words.size):
        out[at] = sip_word(words[at], key)
    return out


@jit
def _hash_spans(spans: Spans, key: Key) -> U64:
    data, offsets, valid = spans
    n = offsets.size - 1
    out = np.zeros(n, np.uint64)
    for row in range(n):
        if not is_null(valid, row):
            out[row] = sip_key(data, U(offsets[row]), U(offsets[row + 1]), key)
    return out
