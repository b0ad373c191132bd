"""dice: random numbers that are hashes: of the thing they are for, and of what they decide about it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from stillwatch.sim.kernels import normals, scatter, units

Ints = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def name_word(*names: object) -> int:
    """64 bits for a list of names; the same in every process."""
    text = "/".join(map(str, names)).encode()
    return zlib.crc32(text) << 32 | zlib.crc32(text[::-1] + b".")


class Dice:
    """One die for each of n things, thrown once for each name: the same thing and name always give the same number."""

    def __init__(self, words: Words) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, chosen: Any) -> Dice:
        return Dice(self.words[chosen])

    def word(self, name: str, salt: Words | Ints | int = 0) -> Words:
        """64 bits for each; a salt, one or one for each, parts what has the same name."""
        if np.ndim(salt):
            return scatter(self.words ^ scatter(np.asarray(salt).astype(np.uint64), np.uint64(1)), _salt(name))
        return scatter(self.words, _salt(name, salt))

    def uniform(self, name: str) -> Floats:
        """Numbers in [0, 1)."""
        return units(self.words, _salt(name))

    def normal(self, name: str) -> Floats:
        """Standard normal numbers."""
        return normals(self.words, _salt(name))

    def exponential(self, name: str) -> Floats:
        """Exponential numbers of mean one."""
        out: Floats = -np.log1p(-self.uniform(name))
        return out

    def below(self, name: str, n: Ints | int) -> Ints:
        """Whole numbers from 0 to below n."""
        return (self.uniform(name) * n).astype(np.int64)

    def flag(self, name: str, share: Floats | float) -> Flags:
        """True with a probability."""
        out: Flags = self.uniform(name) < share
        return out

    def weighted(self, name: str, weights: Sequence[float]) -> Ints:
        """Places in a list of weights, as often as they weigh."""
        level = np.cumsum(np.array(weights, float))
        return np.searchsorted(level / level[-1], self.uniform(name), side="right").clip(0, len(level) - 1)

    def skewed(self, name: str, n: int, exponent: float) -> Ints:
        """Ranks below n, whose popularity falls as (rank + 1) to the power of -exponent."""
        return self.weighted(name, np.arange(1, n + 1) ** -exponent)  # type: ignore[arg-type]


def _salt(name: str, number: Words | Ints | int = 0) -> np.uint64:
    return np.uint64(name_word(name, int(number)))
