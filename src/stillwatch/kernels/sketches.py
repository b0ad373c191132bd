"""sketches: bounded summaries that merge: bottom-k samples and histograms, integers only (Law 1).

Every sketch is an immutable value. `merge` is commutative and associative, the empty sketch is neutral, merged parts
equal the whole, and bytes round-trip; so rows may come in any order, in any number of pieces, from any machine.
Counts are uint32 and stop at the largest one instead of wrapping, which keeps all of that true.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from stillwatch.errors import InputError
from stillwatch.kernels.columns import I64, U64, frozen
from stillwatch.kernels.compile import jit
from stillwatch.records import HOURS_PER_WEEK, LOG_BINS

U32 = npt.NDArray[np.uint32]

MOST = int(np.iinfo(np.uint32).max)
"""Where a count stops."""

NOT_COUNTED = -1

_US_PER_HOUR = 3_600_000_000
_HOURS_BEFORE_EPOCH = 72
"""1970-01-01 was a Thursday: three days after the Monday the week starts with."""

_HEADER = struct.Struct("<4sII")
_HASH_SPACE = 2.0**64


def log2_bins(values: npt.NDArray[np.int64]) -> I64:
    """Bin of each count, shape (n,): its bit length (0 for 0, 1 for 1, 2 for 2 and 3, ...), at most 31.

    Negative counts are unknown ones and stay uncounted (-1).
    """
    return _log2_bins(frozen(np.ascontiguousarray(values, np.int64).view()))


def hour_of_week(ts_us: npt.NDArray[np.int64]) -> I64:
    """Hour of the week of each instant in microseconds since 1970 UTC, shape (n,): 0 is Monday 00:00 to 00:59."""
    return _hour_of_week(frozen(np.ascontiguousarray(ts_us, np.int64).view()))


@jit
def _log2_bins(values: I64) -> I64:
    out = np.empty(values.size, np.int64)
    for i in range(values.size):
        rest, n_bits = values[i], 0
        while rest > 0 and n_bits < LOG_BINS - 1:
            rest >>= 1
            n_bits += 1
        out[i] = n_bits if values[i] >= 0 else NOT_COUNTED
    return out


@jit
def _hour_of_week(ts_us: I64) -> I64:
    out = np.empty(ts_us.size, np.int64)
    for i in range(ts_us.size):
        out[i] = (ts_us[i] // _US_PER_HOUR + _HOURS_BEFORE_EPOCH) % HOURS_PER_WEEK
    return out


class Sketch(ABC):
    """What all sketches share: a size they keep to, a form as bytes, and equality of those bytes."""

    tag: ClassVar[bytes]

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def merge(self, other: Self) -> Self:
        """The sketch of both inputs together; raises InputError where kinds or sizes differ."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Little-endian bytes, the same for the same contents."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote; raises InputError for anything else."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        raise TypeError("a sketch is compared by its bytes and is no key of a dictionary")

    def _check(self, other: Sketch) -> None:
        if type(self) is not type(other) or self.size != other.size:
            got = f"{type(other).__name__} of {other.size}"
            raise InputError("two sketches do not merge", got=got, expected=f"{type(self).__name__} of {self.size}")

    @classmethod
    def _open(cls, data: bytes, *, bytes_per_entry: int) -> tuple[int, int, bytes]:
        """Size, number of entries and the bytes behind the header."""
        if len(data) < _HEADER.size:
            raise InputError("bytes hold no sketch", got=f"{len(data)} bytes", expected=f"{_HEADER.size} or more")
        tag, size, n = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if tag != cls.tag or len(body) != n * bytes_per_entry:
            raise InputError("bytes hold no such sketch", got=f"{tag!r}, {len(body)} bytes", expected=repr(cls.tag))
        return size, n, body


class BottomK(Sketch):
    """The k smallest distinct keys seen, ascending, with how often each was seen (exact).

    With keyed hashes as keys this is a uniform sample of what is distinct, and the same sample wherever the same keys
    are seen. Key 0 means "nothing" and is left out.
    """

    tag = b"SwB1"

    def __init__(self, k: int) -> None:
        """An empty sketch of at most k keys; k is at least 2."""
        if not 2 <= k <= MOST:
            raise InputError("a bottom-k sketch has an impossible size", got=str(k), expected="2 or more")
        super().__init__(k)
        self.keys: U64 = frozen(np.zeros(0, np.uint64))
        self.counts: U32 = frozen(np.zeros(0, np.uint32))

    def add_many(self, keys: npt.NDArray[np.uint64]) -> BottomK:
        """This sketch and n more keys, shape (n,), in any order and with repeats; O(n log n)."""
        seen = np.asarray(keys, np.uint64)
        return self._with(seen[seen != 0], None)

    def merge(self, other: BottomK) -> BottomK:
        """The sketch of both inputs together; counts stay exact, for a key kept here was kept in every part."""
        self._check(other)
        return self._with(other.keys, other.counts)

    def estimate_distinct(self) -> float:
        """How many distinct keys were seen: exact below k, else (k - 1) / the k-th smallest as a share of the space.

        Relative standard error about 1 / sqrt(k - 2) (Beyer et al. 2007).
        """
        if len(self.keys) < self.size:
            return float(len(self.keys))
        return (self.size - 1) * _HASH_SPACE / float(self.keys[-1])

    def to_bytes(self) -> bytes:
        """Header, keys, counts; 12 bytes and 12 more per key."""
        body = self.keys.astype("<u8").tobytes() + self.counts.astype("<u4").tobytes()
        return _HEADER.pack(self.tag, self.size, len(self.keys)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> BottomK:
        """Read what `to_bytes` wrote; raises InputError for anything else."""
        k, n, body = cls._open(data, bytes_per_entry=12)
        keys, counts = np.frombuffer(body[: n * 8], "<u8"), np.frombuffer(body[n * 8 :], "<u4")
        ascending = bool(np.all(keys[1:] > keys[:-1])) and bool(np.all(keys[:1] > 0))
        if n > k or not ascending or not bool(np.all(counts > 0)):
            raise InputError("bytes hold a damaged bottom-k sketch", expected="ascending keys, each seen")
        return cls(k)._with(keys.astype(np.uint64), counts.astype(np.uint32))

    def _with(self, keys: U64, counts: U32 | None) -> BottomK:
        pooled = np.concatenate([self.keys, keys])
        weights = np.ones(len(keys), np.uint64) if counts is None else counts.astype(np.uint64)
        weights = np.concatenate([self.counts.astype(np.uint64), weights])
        order = np.argsort(pooled, kind="stable")
        distinct, first = np.unique(pooled[order], return_index=True)
        totals = np.add.reduceat(weights[order], first) if len(first) else weights
        merged = BottomK(self.size)
        merged.keys = frozen(distinct[: self.size])
        merged.counts = frozen(np.minimum(totals[: self.size], MOST).astype(np.uint32))
        return merged


class _Histogram(Sketch):
    """Counts in a fixed number of bins."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.counts: U32 = frozen(np.zeros(size, np.uint32))

    @abstractmethod
    def _bins(self, values: I64) -> I64:
        """Bin of each value, `NOT_COUNTED` for none."""

    def add_many(self, values: npt.NDArray[np.int64]) -> Self:
        """This histogram and n more values, shape (n,), in any order; O(n)."""
        bins = self._bins(np.asarray(values, np.int64))
        return self._with(np.bincount(bins[bins != NOT_COUNTED], minlength=self.size))

    def merge(self, other: Self) -> Self:
        """The histogram of both inputs together."""
        self._check(other)
        return self._with(other.counts.astype(np.int64))

    def to_bytes(self) -> bytes:
        """Header and counts; 12 bytes and 4 more per bin."""
        return _HEADER.pack(self.tag, self.size, self.size) + self.counts.astype("<u4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote; raises InputError for anything else."""
        size, n, body = cls._open(data, bytes_per_entry=4)
        empty = cls._of(size)
        if n != empty.size:
            raise InputError("bytes hold a damaged histogram", got=f"{n} bins", expected=str(empty.size))
        return empty._with(np.frombuffer(body, "<u4").astype(np.int64))

    @classmethod
    @abstractmethod
    def _of(cls, size: int) -> Self:
        """An empty histogram; size as read."""

    def _with(self, counts: npt.NDArray[np.int64]) -> Self:
        merged = self._of(self.size)
        merged.counts = frozen(np.minimum(self.counts + counts, MOST).astype(np.uint32))
        return merged


class LogHistogram(_Histogram):
    """How many values have each bit length: bin 0 holds 0, bin b holds 2^(b-1) to 2^b - 1, the last one the rest.

    Negative values are unknown ones and are not counted.
    """

    tag = b"SwL1"

    def __init__(self, bins: int = LOG_BINS) -> None:
        """An empty histogram of 2 to 32 bins."""
        if not 2 <= bins <= LOG_BINS:
            raise InputError("a histogram has an impossible size", got=str(bins), expected=f"2 to {LOG_BINS}")
        super().__init__(bins)

    def _bins(self, values: I64) -> I64:
        return np.minimum(log2_bins(values), self.size - 1)

    @classmethod
    def _of(cls, size: int) -> Self:
        return cls(size)


class Rhythm(_Histogram):
    """How many instants (microseconds since 1970, UTC) fall into each hour of the week, Monday 00:00 first."""

    tag = b"SwR1"

    def __init__(self) -> None:
        """An empty week."""
        super().__init__(HOURS_PER_WEEK)

    def _bins(self, values: I64) -> I64:
        return hour_of_week(values)

    @classmethod
    def _of(cls, size: int) -> Self:
        if size != HOURS_PER_WEEK:
            raise InputError("bytes hold a damaged rhythm", got=f"{size} hours", expected=str(HOURS_PER_WEEK))
        return cls()
