"""prf: the keyed pseudorandom numbers behind every mark: one per key, window and token.

A window of `width` tokens is one 64-bit word (`window_word`). Its seed is SipHash-2-4 of that word under a 128-bit key
(Aumasson and Bernstein 2012, the rounds its authors propose for a PRF), so seeds under two keys have nothing in common,
however alike the keys are. A token's number is the splitmix64 finaliser (Steele, Lea and Flood 2014) of the seed's
stream at the token: cheap, and whoever inverts it learns one window's seed and nothing of the key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import U64, frozen
from stillwatch.kernels.compile import jit
from stillwatch.kernels.siphash import I0, I1, I2, I3, Key, U, sip, sip_round

Floats = npt.NDArray[np.float64]

TOKEN_BITS = 21
"""Bits of one token id inside a gram: vocabularies of up to two million."""

MAX_WIDTH = 2
"""Longest window. Marks with wider ones are not inherited by a model trained on them."""

_TOKEN, _WIDTH, _EIGHT = U(TOKEN_BITS), U(62), U(8)
_LAST = U((1 << TOKEN_BITS) - 1)
_GAMMA, _MIX1, _MIX2 = U(0x9E3779B97F4A7C15), U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
_R27, _R30, _R31, _R12 = U(27), U(30), U(31), U(12)
_HALF, _STEP = 0.5, 2.0**-52
_PRF_ROUNDS = (2, 4)
_PRODUCT = 8
_BLOCK = 2048
"""Grams worked on at once: their words stay in the first cache. A multiple of `_PRODUCT`."""

_LENGTH, _ONES = U(56), U(255)


def window_word(tokens: npt.NDArray[np.int64]) -> U64:
    """The words of windows (..., width) of token ids below 2 ** TOKEN_BITS, the oldest token first: shape (...)."""
    word = np.zeros(tokens.shape[:-1], np.uint64)
    for column in range(tokens.shape[-1]):
        word = word << _TOKEN | tokens[..., column].astype(np.uint64)
    return word | U(tokens.shape[-1]) << _WIDTH


def seeds(words: U64, keys: U64) -> U64:
    """The seed of each window word under its own key: words (n,), keys (n, 2) or (2,), result (n,)."""
    words = np.ascontiguousarray(words)
    each = np.ascontiguousarray(np.broadcast_to(keys, (len(words), 2)))
    return _seeds(frozen(words.view(np.uint8)), each)


def uniforms(seed: U64, tokens: npt.NDArray[np.int64]) -> Floats:
    """Numbers in the open interval (0, 1) for seeds (n,) and tokens (n,); never 0 and never 1."""
    return _uniforms(np.ascontiguousarray(seed), np.ascontiguousarray(tokens.astype(np.uint64)))


def gumbel_sums(grams: U64, keys: U64, width: int) -> Floats:
    """For each key (k, 2), the sum over grams (n,) of -log(1 - u): Gamma(n, 1) for a key the text does not carry.

    Grams are packed as `watermark.grams` packs them, sorted, so that a window's seed is computed once. Cost: 2 to 6 ns
    per gram and key where the processor works on eight or four words at once, else 15; without the GIL.
    """
    return _gumbel_sums(*_scored(grams, keys, width))


def green_counts(grams: U64, keys: U64, width: int, gamma: float) -> npt.NDArray[np.int64]:
    """For each key (k, 2), how many of the grams (n,) are green: Binomial(n, gamma) for a key not in the text."""
    return _green_counts(*_scored(grams, keys, width), gamma)


def _scored(grams: U64, keys: U64, width: int) -> tuple[U64, U64, U]:
    return np.ascontiguousarray(grams), np.ascontiguousarray(keys), U(width) << _WIDTH


@jit
def seed_at(words: npt.NDArray[np.uint8], at: int, key: Key) -> U:
    """The seed of the window word at `words[8 * at:8 * at + 8]`, inside kernels."""
    start = U(at) * _EIGHT
    return sip(words, start, start + _EIGHT, key, _PRF_ROUNDS)


@jit
def uniform(seed: U, token: U) -> float:
    """The number of one token in (0, 1), inside kernels: 52 bits and a half, so that 1 - u is exact as well."""
    x = seed + (token + U(1)) * _GAMMA
    x = (x ^ (x >> _R30)) * _MIX1
    x = (x ^ (x >> _R27)) * _MIX2
    x = x ^ (x >> _R31)
    return (float(x >> _R12) + _HALF) * _STEP


@jit
def _seeds(words: npt.NDArray[np.uint8], keys: U64) -> U64:
    out = np.empty(len(keys), np.uint64)
    for at in range(len(keys)):
        out[at] = seed_at(words, at, (keys[at, 0], keys[at, 1]))
    return out


@jit
def _uniforms(seed: U64, tokens: U64) -> Floats:
    out = np.empty(len(seed))
    for at in range(len(seed)):
        out[at] = uniform(seed[at], tokens[at])
    return out


@jit
def _apart(grams: U64, tag: U, words: U64, which: U64, steps: U64) -> int:
    """Of a block of grams the distinct window words, which of them each has, its token's step; how many words."""
    n = 0
    for at in range(len(grams)):
        word = grams[at] >> _TOKEN | tag
        if n == 0 or words[n - 1] != word:
            words[n] = word
            n += 1
        which[at] = U(n - 1)
        steps[at] = ((grams[at] & _LAST) + U(1)) * _GAMMA
    return n


@jit
def _streams(words: U64, which: U64, steps: U64, k0: U, k1: U, seed: U64, out: U64) -> None:
    """The 64 bits behind the number of each gram of a block, as `seed_at` and `uniform` make them.

    The rounds are written out in the loop: LLVM then hashes several words at once, which it does not through a call.
    """
    length = _EIGHT << _LENGTH
    for at in range(len(words)):
        word = words[at]
        v0, v1, v2, v3 = sip_round(k0 ^ I0, k1 ^ I1, k0 ^ I2, k1 ^ I3 ^ word)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0 ^ word, v1, v2, v3 ^ length)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0 ^ length, v1, v2 ^ _ONES, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        seed[at] = v0 ^ v1 ^ v2 ^ v3
    for at in range(len(which)):
        out[at] = seed[which[at]] + steps[at]
    for at in range(len(which)):
        x = out[at]
        x = (x ^ (x >> _R30)) * _MIX1
        x = (x ^ (x >> _R27)) * _MIX2
        out[at] = x ^ (x >> _R31)


@jit
def _gumbel_sums(grams: U64, keys: U64, tag: U) -> Floats:
    totals = np.zeros(len(keys))
    words, which, steps = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64)
    seed, x, rest = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64), np.empty(_BLOCK)
    for start in range(0, len(grams), _BLOCK):
        block = grams[start : start + _BLOCK]
        n = len(block)
        n_words = _apart(block, tag, words, which, steps)
        for k in range(len(keys)):
            _streams(words[:n_words], which[:n], steps[:n], keys[k, 0], keys[k, 1], seed, x)
            for at in range(n):
                rest[at] = 1.0 - (float(np.int64(x[at] >> _R12)) + _HALF) * _STEP
            # The logarithm of a product costs one logarithm; eight factors of at least 2 ** -53 cannot underflow.
            total = totals[k]
            for first in range(0, n - n % _PRODUCT, _PRODUCT):
                product = 1.0
                for at in range(_PRODUCT):
                    product *= rest[U(first + at)]
                total -= np.log(product)
            product = 1.0
            for at in range(n - n % _PRODUCT, n):
                product *= rest[at]
            totals[k] = total - np.log(product)
    return totals


@jit
def _green_counts(grams: U64, keys: U64, tag: U, gamma: float) -> npt.NDArray[np.int64]:
    counts = np.zeros(len(keys), np.int64)
    words, which, steps = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64)
    seed, x = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64)
    for start in range(0, len(grams), _BLOCK):
        block = grams[start : start + _BLOCK]
        n = len(block)
        n_words = _apart(block, tag, words, which, steps)
        for k in range(len(keys)):
            _streams(words[:n_words], which[:n], steps[:n], keys[k, 0], keys[k, 1], seed, x)
            green = 0
            for at in range(n):
                green += 1 if (float(np.int64(x[at] >> _R12)) + _HALF) * _STEP < gamma else 0
            counts[k] += green
    return counts
