"""shingles: what a prompt's template looks like, whatever fills it: keyed hashes of its first and last words.

A token is a run of letters and digits: case folded, every run of digits masked to one `0`, punctuation and space
dropped, numbers that follow each other counted once (so `1`, `1,000.5` and `2026-04-22` are alike). In scripts without
spaces (Han, kana, Thai, Lao, Khmer, Burmese) every character is a token of half the weight.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.kernels.columns import I64, U64, Bytes, Spans, by_value, is_null, text_spans
from stillwatch.kernels.compile import Word, jit
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.scripts import ASCII, BREAK, DENSE, DIGIT, IGNORED, LETTER, classify, decode, decode_before
from stillwatch.kernels.siphash import Key, U, sip_key

WINDOW_BYTES = 512
"""How far from either end of a text the search for its first or last words may go."""

NGRAM_WINDOW_BYTES = 2048
"""How much of either end of a text `ngram_hashes` reads."""

_WORD, _HALF = 2, 1
_SPACE, _ZERO = ord(" "), ord("0")
_WORD_MARK, _HALF_MARK = 1, 2
_SCRATCH_PER_BYTE = 2
_MOST_BUCKETS_LOG2 = 30
_NO_END = 1 << 40


def skeleton_keys(text: pa.Array, key: HashKey, *, n_words: int = 4) -> tuple[U64, U64]:
    """Keyed hashes of the first and of the last `n_words` tokens of each text, (head, tail), each of shape (n,).

    0 for null, and where no token lies within the `WINDOW_BYTES` read from that end; fewer tokens than `n_words` are
    hashed as they are. The tail is read backwards, so a head is not to be compared with a tail. Costs about 0.1
    microseconds a row, whatever the length of the text. Bytes that are no UTF-8 end a word.
    """
    _check_words(n_words)

    def both(values: pa.Array) -> U64:
        return _skeletons(text_spans(values), key.words, _WORD * n_words)

    head, tail = by_value(text, both)
    return head, tail


def ngram_hashes(
    text: pa.Array, key: HashKey, *, n_words: int = 3, buckets_log2: int = 18
) -> tuple[I64, npt.NDArray[np.int32]]:
    """The distinct n-grams of each text, each as one of 2^buckets_log2 buckets: (row offsets (n + 1,), buckets).

    The buckets of row i are `buckets[offsets[i]:offsets[i + 1]]`, in order of appearance. An n-gram is `n_words`
    tokens, or twice as many characters in scripts without spaces. Of each text the first and last
    `NGRAM_WINDOW_BYTES` are read. Costs about 5 microseconds a kilobyte: for candidates, not for all traffic.
    """
    _check_words(n_words)
    if not 1 <= buckets_log2 <= _MOST_BUCKETS_LOG2:
        raise InputError("impossible buckets_log2", got=str(buckets_log2), expected=f"1 to {_MOST_BUCKETS_LOG2}")
    if pa.types.is_dictionary(text.type):
        text = text.cast(text.type.value_type)
    return _ngrams(text_spans(text), key.words, _WORD * n_words, buckets_log2)


def _check_words(n_words: int) -> None:
    if n_words < 1:
        raise InputError("impossible number of words", got=str(n_words), expected="1 or more")


@jit
def put(scratch: Bytes, n: int, code: Word) -> int:
    """Write one folded character; returns the new length."""
    if code < 0x80:
        scratch[U(n)] = code
        return n + 1
    scratch[U(n)] = 0x80 | (code >> 14)
    scratch[U(n + 1)] = 0x80 | (code >> 7 & 0x7F)
    scratch[U(n + 2)] = 0x80 | (code & 0x7F)
    return n + 3


@jit
def _beyond_ascii(data: Bytes, at: int, edge: int, step: int) -> tuple[int, Word, int]:
    """Class, folded character and next place of the character at `at`, reading towards `edge`."""
    code, after = decode(data, at, edge) if step > 0 else decode_before(data, at, edge)
    if code < 0:
        return BREAK, 0, after
    kind, folded = classify(code)
    return (LETTER, _ZERO, after) if kind == DIGIT else (kind, folded, after)


@jit
def fold_tokens(data: Bytes, at: int, edge: int, scratch: Bytes, weight: int) -> tuple[int, int]:
    """Write tokens, each with its mark behind it, until their weight is reached: (length, weight left).

    Reads from `at` towards `edge`, forward or backward. One loop without calls for ASCII, because
    this is where the time of a scan goes.
    """
    step, behind = (1, 0) if edge >= at else (-1, 1)
    n, first, last, after_number = 0, 0, 0, False
    code: Word = 0
    while weight > 0:
        kind = BREAK
        while at != edge:
            byte = data[U(at - behind)]
            if byte >= 0x80:
                kind, code, at = _beyond_ascii(data, at, edge, step)
                if kind == LETTER:
                    if code != _ZERO or last != _ZERO:
                        n = put(scratch, n, code)
                    last = code
                    continue
                if kind == IGNORED:
                    continue
                break
            code = np.int64(ASCII[byte])
            at += step
            if code == 0:
                kind = BREAK
                break
            # Written in any case, and kept unless it is one more digit: a branch would cost more.
            scratch[U(n)] = code
            n += int((code != _ZERO) | (last != _ZERO))
            last = code
        else:
            if n == first:
                break
        dense = kind == DENSE
        if n > first:
            number = n == first + 1 and last == _ZERO
            if number and after_number:
                n = first
            else:
                scratch[U(n)] = _WORD_MARK
                n += 1
                weight -= _WORD
            after_number, first, last = number, n, 0
        if dense and weight > 0:
            n = put(scratch, n, code)
            scratch[U(n)] = _HALF_MARK
            n += 1
            weight -= _HALF
            after_number, first = False, n
    return n, weight


@jit
def _skeletons(spans: Spans, key: Key, weight: int) -> U64:
    data, offsets, valid = spans
    n = offsets.size - 1
    out = np.zeros((2, n), np.uint64)
    scratch = np.empty(_SCRATCH_PER_BYTE * WINDOW_BYTES + 16, np.uint8)
    for row in range(n):
        if is_null(valid, row):
            continue
        start, stop = offsets[row], offsets[row + 1]
        for end in range(2):
            if end == 0:
                used, _ = fold_tokens(data, start, min(stop, start + WINDOW_BYTES), scratch, weight)
            else:
                used, _ = fold_tokens(data, stop, max(start, stop - WINDOW_BYTES), scratch, weight)
            if used > 0:
                out[end, row] = sip_key(scratch, U(0), U(used), key)
    return out


@jit
def _fill_slots(data: Bytes, span: tuple[int, int], scratch: Bytes, slots: U64, key: Key) -> int:
    """Hash the tokens of a span of `data` into slots, two for a word and one for a character; how many."""
    used, _ = fold_tokens(data, span[0], span[1], scratch, _NO_END)
    n, first = 0, 0
    for at in range(used):
        mark = scratch[at]
        if mark in (_WORD_MARK, _HALF_MARK):
            slots[n] = sip_key(scratch, U(first), U(at), key)
            n, first = n + 1, at + 1
            if mark == _WORD_MARK:
                slots[n] = 0
                n += 1
    return n


@jit
def _ngrams(spans: Spans, key: Key, weight: int, buckets_log2: int) -> tuple[I64, npt.NDArray[np.int32]]:
    data, offsets, valid = spans
    n_rows = offsets.size - 1
    ends = np.zeros(n_rows + 1, np.int64)
    found = np.empty(4 * NGRAM_WINDOW_BYTES, np.int32)
    seen = np.full(1 << buckets_log2, -1, np.int64)
    scratch = np.empty(_SCRATCH_PER_BYTE * 2 * NGRAM_WINDOW_BYTES + 16, np.uint8)
    slots = np.empty(2 * NGRAM_WINDOW_BYTES + 16, np.uint64)
    slot_bytes = slots.view(np.uint8)
    shift, n = U(64 - buckets_log2), 0
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        if found.size < n + 2 * NGRAM_WINDOW_BYTES:
            found = np.concatenate((found, np.empty_like(found)))
        short = stop - start <= 2 * NGRAM_WINDOW_BYTES
        for window in range(0 if is_null(valid, row) else 1 if short else 2):
            first = start if window == 0 else stop - NGRAM_WINDOW_BYTES
            last = stop if short or window == 1 else start + NGRAM_WINDOW_BYTES
            n_slots = _fill_slots(data, (first, last), scratch, slots, key)
            for end in range(weight, n_slots + 1):
                gram = sip_key(slot_bytes, U(8 * (end - weight)), U(8 * end), key)
                bucket = gram >> shift
                if (end == n_slots or slots[end] != 0) and seen[bucket] != row:
                    seen[bucket] = row
                    found[n] = bucket
                    n += 1
        ends[row + 1] = n
    return ends, found[:n].copy()
