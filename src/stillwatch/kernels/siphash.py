"""siphash: SipHash-c-d over a run of bytes, as a kernel other kernels call.

Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). Everything here is compiled; `hashing` is the door.
Words are read little-endian; indices are unsigned so that numba does not test them for wrap-around and LLVM fuses the
eight byte loads into one.
"""

from __future__ import annotations

import numpy as np

from stillwatch.kernels.columns import Bytes
from stillwatch.kernels.compile import jit

U = np.uint64
Key = tuple[np.uint64, np.uint64]

_SEVEN, _EIGHT, _MASK, _LENGTH, _ONES = U(7), U(8), U(0xFFFFFFFFFFFFFFF8), U(56), U(255)
I0, I1 = U(0x736F6D6570736575), U(0x646F72616E646F6D)
I2, I3 = U(0x6C7967656E657261), U(0x7465646279746573)
_R13, _R16, _R17, _R21, _R32, _R64 = U(13), U(16), U(17), U(21), U(32), U(64)


@jit
def _rotate(word: U, bits: U) -> U:
    return (word << bits) | (word >> (_R64 - bits))


@jit
def sip_round(v0: U, v1: U, v2: U, v3: U) -> tuple[U, U, U, U]:
    """One SipRound."""
    v0 = v0 + v1
    v1 = _rotate(v1, _R13) ^ v0
    v0 = _rotate(v0, _R32)
    v2 = v2 + v3
    v3 = _rotate(v3, _R16) ^ v2
    v0 = v0 + v3
    v3 = _rotate(v3, _R21) ^ v0
    v2 = v2 + v1
    v1 = _rotate(v1, _R17) ^ v2
    v2 = _rotate(v2, _R32)
    return v0, v1, v2, v3


@jit
def load(data: Bytes, at: U) -> U:
    """The little-endian word at `data[at:at + 8]`; the caller keeps inside the array."""
    low = U(data[at]) | U(data[at + U(1)]) << U(8) | U(data[at + U(2)]) << U(16) | U(data[at + U(3)]) << U(24)
    high = U(data[at + U(4)]) | U(data[at + U(5)]) << U(8) | U(data[at + U(6)]) << U(16) | U(data[at + U(7)]) << U(24)
    return low | high << U(32)


@jit
def _rest(data: Bytes, start: U, at: U, stop: U) -> U:
    if at == stop:
        return U(0)
    if stop - start >= _EIGHT:
        return load(data, stop - _EIGHT) >> ((_EIGHT - (stop - at)) * _EIGHT)
    word = U(0)
    while stop > at:
        stop -= U(1)
        word = word << _EIGHT | U(data[stop])
    return word


@jit
def sip(data: Bytes, start: U, stop: U, key: Key, rounds: tuple[int, int]) -> U:
    """SipHash-c-d of `data[start:stop]`, where (c, d) are the rounds."""
    k0, k1 = key
    c, d = rounds
    v0, v1, v2, v3 = k0 ^ I0, k1 ^ I1, k0 ^ I2, k1 ^ I3
    at = start
    whole = start + ((stop - start) & _MASK)
    while at < whole:
        word = load(data, at)
        v3 ^= word
        for _ in range(c):
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= word
        at += _EIGHT
    word = (stop - start) << _LENGTH | _rest(data, start, at, stop)
    v3 ^= word
    for _ in range(c):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= _ONES
    for _ in range(d):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@jit
def sip_key(data: Bytes, start: U, stop: U, key: Key) -> U:
    """SipHash-1-3 of `data[start:stop]`, with 0 kept free to mean "nothing": a hash of 0 becomes 1."""
    value = sip(data, start, stop, key, (1, 3))
    return value if value != U(0) else U(1)


@jit
def sip_word(word: U, key: Key) -> U:
    """What `sip_key` gives for the eight bytes of a word, without a branch, so that LLVM hashes several at once."""
    k0, k1 = key
    v0, v1, v2, v3 = sip_round(k0 ^ I0, k1 ^ I1, k0 ^ I2, k1 ^ I3 ^ word)
    length = _EIGHT << _LENGTH
    v0, v1, v2, v3 = sip_round(v0 ^ word, v1, v2, v3 ^ length)
    v0, v1, v2, v3 = sip_round(v0 ^ length, v1, v2 ^ _ONES, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    value = v0 ^ v1 ^ v2 ^ v3
    return value if value != U(0) else U(1)
