"""winnow: what of a text is remembered to recognise a copy of it: keyed winnowed 20-word spans and MinHash bands.

A word is a run of letters and digits, case folded; punctuation and space are dropped, so a copy that was trimmed,
re-cased or re-wrapped gives the same words. In scripts without spaces every character is a word.

Spans: of every `WINDOW` neighbouring runs of `SPAN_WORDS` words the one with the smallest rolling hash is kept
(winnowing: Schleimer, Wilkerson and Aiken 2003, section 3), so any common run of `SPAN_WORDS + WINDOW - 1` words is
seen. Bands: MinHash of the distinct runs of `SHINGLE_WORDS` words (Broder 1997) in `N_BANDS` bands of `BAND_ROWS`
minima; two texts whose sets have Jaccard index J agree in each band with probability J^BAND_ROWS. They survive single
words changed throughout, which break every span.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.kernels.columns import I64, U64, Bytes, Spans, is_null, text_spans
from stillwatch.kernels.compile import Word, jit
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.scripts import ASCII, BREAK, DENSE, IGNORED, classify, decode
from stillwatch.kernels.shingles import put
from stillwatch.kernels.siphash import Key, U, sip_key

SPAN_WORDS = 20
WINDOW = 12
SHINGLE_WORDS = 3
N_BANDS, BAND_ROWS = 40, 4
MASK_WORDS = 5
"""A run of so many words that stands in the prompt too is the prompt's, not the answer's."""

_N_MINIMA = N_BANDS * BAND_ROWS
_LONGEST_WORD = 64
_PROMPT = U(0x70726F6D7074)
_MULTIPLIER = U(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
_MASK32 = U(0xFFFFFFFF)

U32 = npt.NDArray[np.uint32]


def _words_table() -> Bytes:
    """For each byte below 128 its folded form, digits as they are; 0 for what ends a word."""
    table = ASCII.copy()
    digits = np.arange(ord("0"), ord("9") + 1)
    table[digits] = digits
    return table


def _permutations() -> tuple[U32, U32]:
    """Odd multipliers and offsets of the minima: fixed, because secrecy comes from the key of the words."""
    rng = np.random.Generator(np.random.PCG64(20))
    return rng.integers(0, 2**32, _N_MINIMA, np.uint32) | np.uint32(1), rng.integers(0, 2**32, _N_MINIMA, np.uint32)


_TABLE = _words_table()
_FACTORS, _SHIFTS = _permutations()


class Prints(NamedTuple):
    """What n texts are recognised by; text i has the spans `spans[offsets[i]:offsets[i + 1]]`.

    `bands` has shape (n, N_BANDS), `n_words` and `prompts` (n,). Every key is a keyed hash, never 0 where there is
    something to hash; bands are 0 for a text of fewer than `SHINGLE_WORDS` words, `prompts` for an empty prompt.
    """

    offsets: I64
    spans: U64
    bands: U64
    n_words: I64
    prompts: U64


def fingerprint(
    text: pa.Array, key: HashKey, *, prompt: pa.Array | None = None, n_words: int = SPAN_WORDS, window: int = WINDOW
) -> Prints:
    """The prints of each text (null: none); what it repeats of its own prompt is left out.

    A span of which half lies in runs of `MASK_WORDS` words of the prompt is dropped, as is a shingle that lies there
    whole. Raises InputError where `prompt` has another length. Cost: about 15 ns a byte; memory 4 bytes for each of
    the longest text.
    """
    if n_words < 2 or window < 1:
        raise InputError("impossible span", got=f"{n_words} words in {window}", expected="2 or more in 1 or more")
    if prompt is None:
        prompt = pa.nulls(len(text), pa.string())
    if len(prompt) != len(text):
        raise InputError("prompts do not go with their texts", got=str(len(prompt)), expected=str(len(text)))
    return Prints(*_fingerprint(text_spans(text), text_spans(prompt), key.words, n_words, window))


def span_keys(text: pa.Array, key: HashKey, *, n_words: int) -> tuple[I64, U64]:
    """Keys of every run of `n_words` words of each text, none left out: (row offsets (n + 1,), keys)."""
    prints = fingerprint(text, key, n_words=n_words, window=1)
    return prints.offsets, prints.spans


@jit
def _read_words(spans: Spans, row: int, key: Key, scratch: Bytes, words: U64) -> int:
    """Write the hash of each word of a row into `words`; how many."""
    data, offsets, valid = spans
    if is_null(valid, row):
        return 0
    at, stop = offsets[row], offsets[row + 1]
    n, used = 0, 0
    while at < stop:
        byte = data[U(at)]
        if byte < 0x80:
            code, dense = np.int64(_TABLE[byte]), False
            ends = code == 0
            at += 1
        else:
            code, at = decode(data, at, stop)
            kind: Word = BREAK
            if code >= 0:
                kind, code = classify(code)
            if kind == IGNORED:
                continue
            ends, dense = kind == BREAK, kind == DENSE
        if used > 0 and (ends or dense or used >= _LONGEST_WORD):
            words[n] = sip_key(scratch, U(0), U(used), key)
            n, used = n + 1, 0
        if not ends:
            used = put(scratch, used, code)
            if dense:
                words[n] = sip_key(scratch, U(0), U(used), key)
                n, used = n + 1, 0
    if used > 0:
        words[n] = sip_key(scratch, U(0), U(used), key)
        n += 1
    return n


@jit
def _mix(word: U) -> U:
    word = (word ^ (word >> U(30))) * _MIX1
    word = (word ^ (word >> U(27))) * _MIX2
    return word ^ (word >> U(31))


@jit
def _rolling(words: U64, n: int, size: int, out: U64) -> int:
    """A well mixed hash of every run of `size` of the n words, by its start; how many there are."""
    if n < size:
        return 0
    top, value = U(1), U(0)
    for _ in range(size - 1):
        top = top * _MULTIPLIER
    for at in range(n):
        if at >= size:
            value = value - words[at - size] * top
        value = value * _MULTIPLIER + words[at]
        if at >= size - 1:
            out[at - size + 1] = _mix(value)
    return n - size + 1


@jit
def _mask(words: U64, n: int, asked: U64, n_asked: int, runs: U64, hidden: I64) -> None:
    """Make `hidden[i]` the number of words before i that lie in a run that the prompt has too."""
    hidden[: n + 1] = 0
    n_runs = _rolling(asked, n_asked, MASK_WORDS, runs)
    if n_runs == 0 or n < MASK_WORDS:
        return
    size = 2
    while size < 2 * n_runs:
        size *= 2
    known = np.zeros(size, np.uint64)
    low = U(size - 1)
    for i in range(n_runs):
        slot = runs[i] & low
        while known[slot] not in (U(0), runs[i]):
            slot = (slot + U(1)) & low
        known[slot] = runs[i]
    n_runs = _rolling(words, n, MASK_WORDS, runs)
    last = -1
    for i in range(n):
        if i < n_runs:
            slot = runs[i] & low
            while known[slot] not in (U(0), runs[i]):
                slot = (slot + U(1)) & low
            if known[slot] != U(0):
                last = i + MASK_WORDS - 1
        hidden[i + 1] = hidden[i] + (1 if i <= last else 0)


@jit
def _winnow(runs: U64, n_runs: int, window: int, chosen: I64) -> int:
    """The starts of the smallest run of every window, the rightmost of equals; how many."""
    n, best = 0, -1
    window = max(1, min(window, n_runs))
    for end in range(window - 1, n_runs):
        start = end - window + 1
        if best < start:
            best = start
            for i in range(start + 1, end + 1):
                if runs[i] <= runs[best]:
                    best = i
        elif runs[end] <= runs[best]:
            best = end
        if n == 0 or chosen[n - 1] != best:
            chosen[n] = best
            n += 1
    return n


@jit
def _minima(runs: U64, n_runs: int, hidden: I64, minima: U32) -> bool:
    """MinHash of the runs that are not wholly the prompt's; whether there was any."""
    minima[:] = _MASK32
    found = False
    for i in range(n_runs):
        if hidden[i + SHINGLE_WORDS] - hidden[i] < SHINGLE_WORDS:
            found = True
            value = np.uint32(runs[i] >> U(32))
            for j in range(_N_MINIMA):
                minima[j] = min(minima[j], np.uint32(value * _FACTORS[j] + _SHIFTS[j]))
    return found


@jit
def _fingerprint(text: Spans, prompt: Spans, key: Key, n_words: int, window: int) -> tuple[I64, U64, U64, I64, U64]:
    n_rows = text.offsets.size - 1
    longest = 16
    for row in range(n_rows):
        longest = max(longest, text.offsets[row + 1] - text.offsets[row], prompt.offsets[row + 1] - prompt.offsets[row])
    scratch = np.empty(_LONGEST_WORD + 16, np.uint8)
    # One word takes two bytes at least, and one more entry for what ends the text.
    words, asked = np.empty(longest // 2 + 4, np.uint64), np.empty(longest // 2 + 4, np.uint64)
    word_bytes, asked_bytes = words.view(np.uint8), asked.view(np.uint8)
    runs, chosen, hidden = np.empty_like(words), np.empty(words.size, np.int64), np.empty(words.size, np.int64)
    minima, packed = np.empty(_N_MINIMA, np.uint32), np.empty(3, np.uint64)
    packed_bytes = packed.view(np.uint8)
    offsets, counts = np.zeros(n_rows + 1, np.int64), np.zeros(n_rows, np.int64)
    bands, prompts = np.zeros((n_rows, N_BANDS), np.uint64), np.zeros(n_rows, np.uint64)
    spans, n_spans = np.empty(1024, np.uint64), 0
    for row in range(n_rows):
        n = _read_words(text, row, key, scratch, words)
        n_asked = _read_words(prompt, row, key, scratch, asked)
        counts[row] = n
        if n_asked > 0:
            asked[n_asked] = _PROMPT
            prompts[row] = sip_key(asked_bytes, U(0), U(8 * n_asked + 8), key)
        _mask(words, n, asked, n_asked, runs, hidden)
        if _minima(runs, _rolling(words, n, SHINGLE_WORDS, runs), hidden, minima):
            for band in range(N_BANDS):
                first = band * BAND_ROWS
                packed[0] = U(minima[first]) | U(minima[first + 1]) << U(32)
                packed[1] = U(minima[first + 2]) | U(minima[first + 3]) << U(32)
                packed[2] = U(band)
                bands[row, band] = sip_key(packed_bytes, U(0), U(24), key)
        n_chosen = _winnow(runs, _rolling(words, n, n_words, runs), window, chosen)
        if spans.size < n_spans + n_chosen:
            more = np.empty(2 * (n_spans + n_chosen), np.uint64)
            more[:n_spans] = spans[:n_spans]
            spans = more
        for i in range(n_chosen):
            at = chosen[i]
            if 2 * (hidden[at + n_words] - hidden[at]) < n_words:
                spans[n_spans] = sip_key(word_bytes, U(8 * at), U(8 * (at + n_words)), key)
                n_spans += 1
        offsets[row + 1] = n_spans
    return offsets, spans[:n_spans].copy(), bands, counts, prompts
