"""bloom: a set of 64-bit keys in bounded memory that merges by union: a blocked Bloom filter (Law 1).

A key sets one bit in each of the eight 64-bit words of one block, so a test touches one cache line (Putze, Sanders and
Singler 2007). Nothing that was added is ever missed; how often something else is found follows exactly from the bits
(`false_positive_rate`). From the bits no key can be read back, and keyed hashes cannot be guessed without the key.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from stillwatch.errors import InputError
from stillwatch.kernels.columns import U64, frozen
from stillwatch.kernels.compile import jit
from stillwatch.kernels.siphash import U
from stillwatch.kernels.sketches import MOST, Sketch

BLOCK_BYTES = 64
_HEADER = struct.Struct("<4sII")
_WORDS = 8
_BITS = 64
_BLOCKS_AT_ONCE = 1 << 16
_MIX = U(0x9E3779B97F4A7C15)
_MASK6 = U(63)


class BlockedBloom(Sketch):
    """A set of keys of which some others seem to be members; key 0 means "nothing" and is left out."""

    tag = b"SwF1"

    def __init__(self, n_blocks: int, words: npt.NDArray[np.uint64] | None = None) -> None:
        """An empty set of `n_blocks` blocks of 64 bytes, or the one whose words, shape (n_blocks, 8), are given."""
        if not 1 <= n_blocks <= MOST:
            raise InputError("a filter has an impossible size", got=f"{n_blocks} blocks", expected=f"1 to {MOST}")
        super().__init__(n_blocks)
        self._words = np.zeros((n_blocks, _WORDS), np.uint64) if words is None else words

    def extend(self, keys: npt.NDArray[np.uint64]) -> None:
        """Put keys, shape (n,), into this very filter; about 20 ns each. The one change in place: filters are large."""
        _insert(self._words, frozen(np.ascontiguousarray(keys, np.uint64).view()))

    def add_many(self, keys: npt.NDArray[np.uint64]) -> BlockedBloom:
        """This filter and n more keys, shape (n,), as a new one."""
        grown = BlockedBloom(self.size, self._words.copy())
        grown.extend(keys)
        return grown

    def merge(self, other: BlockedBloom) -> BlockedBloom:
        """The filter of both inputs together."""
        self._check(other)
        return BlockedBloom(self.size, self._words | other._words)

    def holds(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Whether each key, shape (n,), was added, or seems so; 0 never was."""
        return _test(self._words, frozen(np.ascontiguousarray(keys, np.uint64).view()))

    def false_positive_rate(self) -> float:
        """The probability that a key that was never added is found, exact for these bits and a random key."""
        total = 0.0
        for start in range(0, self.size, _BLOCKS_AT_ONCE):
            filled = np.bitwise_count(self._words[start : start + _BLOCKS_AT_ONCE]) / _BITS
            total += float(filled.prod(axis=1).sum())
        return total / self.size

    def to_bytes(self) -> bytes:
        """Header and words: 12 bytes and 64 a block."""
        file = io.BytesIO()
        self.write(file)
        return file.getvalue()

    def write(self, file: BinaryIO) -> None:
        """Write what `to_bytes` gives, without a copy of it in memory."""
        file.write(_HEADER.pack(self.tag, self.size, self.size))
        file.write(self._words.astype("<u8", copy=False).data.cast("B"))

    @classmethod
    def from_bytes(cls, data: bytes) -> BlockedBloom:
        """Read what `to_bytes` wrote; raises InputError for anything else."""
        return cls.read(io.BytesIO(data))

    @classmethod
    def read(cls, file: BinaryIO) -> BlockedBloom:
        """Read the rest of a seekable file, without a second copy; raises InputError for anything else."""
        start = file.tell()
        n_bytes = file.seek(0, io.SEEK_END) - start - _HEADER.size
        file.seek(start)
        head = file.read(_HEADER.size)
        tag, size, n = _HEADER.unpack(head) if len(head) == _HEADER.size else (head, 0, 0)
        if tag != cls.tag or not n or size != n or n_bytes != n * BLOCK_BYTES:
            got = f"{tag!r}, {max(n_bytes, 0)} bytes for {n} blocks"
            raise InputError("bytes hold no such filter", got=got, expected=repr(cls.tag))
        words = np.empty((size, _WORDS), "<u8")
        file.readinto(words.data.cast("B"))  # type: ignore[attr-defined]
        return cls(size, words.astype(np.uint64, copy=False))


@jit
def _insert(words: U64, keys: U64) -> None:
    n_blocks = U(words.shape[0])
    for i in range(keys.size):
        if keys[i] != U(0):
            block, rest = ((keys[i] >> U(32)) * n_blocks) >> U(32), keys[i] * _MIX
            rest ^= rest >> U(29)
            for j in range(_WORDS):
                words[block, j] |= U(1) << (rest >> U(6 * j) & _MASK6)


@jit
def _test(words: U64, keys: U64) -> npt.NDArray[np.bool_]:
    n_blocks = U(words.shape[0])
    out = np.zeros(keys.size, np.bool_)
    for i in range(keys.size):
        if keys[i] != U(0):
            block, rest = ((keys[i] >> U(32)) * n_blocks) >> U(32), keys[i] * _MIX
            rest ^= rest >> U(29)
            # Without a branch a word, which would be mispredicted twice a key.
            found = U(1)
            for j in range(_WORDS):
                found &= words[block, j] >> (rest >> U(6 * j) & _MASK6)
            out[i] = found == U(1)
    return out
