"""equality: question A, are these two models the same? A two-sample test on pairs of answers to the same prompt.

The null is that, prompt by prompt, suspect and teacher could have changed places. So the labels are swapped within
prompts and nothing else is assumed: the p-value is uniform by construction, at any sampling temperature. The statistic
is a maximum mean discrepancy (Gao, Liang and Guestrin 2025, "Model equality testing", section 3) under a sum of
kernels, so that a difference in wording, in form or in length is seen alike.

A student is not its teacher: this test tells a true student from its teacher, and must. It says nothing of derivation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stillwatch.errors import InputError

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

N_PERMUTATIONS = 9999
N_MAX_PAIRS = 200
"""Pairs that are compared at most: cost grows with their square, and beyond this even two hosts of one model differ."""

N_CHARACTERS = 200
"""Characters that the Hamming kernel compares, near the setting of the paper."""

N_HEAD = 1000
N_WRITTEN_AT_LEAST = 8
"""Prompts on which two models must differ in a word before it counts; rarer ones are topics."""

_N_BLOCK = 1000
N_LOOKS = 7
N_BUCKETS = 2**18
"""Numbers that words are hashed to."""

_WORD = re.compile(r"\w+|\n|[^\w\s]")
_MARK = re.compile(r"[^\w\s]")
_LONG = re.compile(r"\w{8,}")
_ITEM = re.compile(r"^(?:\d+[.)]|[-*\u2022]) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Equality:
    """How unlike two models are: the statistic, its permutation p, and the pairs it rests on."""

    statistic: float
    p_value: float
    n: int


@dataclass(frozen=True, slots=True)
class Read:
    """What the kernels see of a model's canonical answers, one row each; read once, compared with many."""

    codes: npt.NDArray[np.uint32]
    looks: Floats
    head: csr_matrix
    counts: csr_matrix
    pairs: csr_matrix

    def __len__(self) -> int:
        return len(self.codes)


def read(texts: Sequence[str]) -> Read:
    """Read canonical answers. Cost: 0.2 milliseconds an answer."""
    wholes = [_ids(text) for text in texts]
    return Read(
        codes=_codes(texts),
        looks=np.array([_looks(text[:N_HEAD]) for text in texts]).reshape(len(texts), N_LOOKS),
        head=_unit(_matrix([_tally(_ids(text[:N_HEAD])) for text in texts])),
        counts=_matrix([_tally(ids) for ids in wholes]),
        pairs=_matrix([_present(ids) for ids in wholes]),
    )


def contrasts(first: Read, second: Read) -> Floats:
    """The matrix H of pairs, (n, n): H[p, q] is how far `first` and `second` differ alike on prompts p and q.

    With k a kernel, H[p, q] = k(x_p, x_q) + k(y_p, y_q) - k(x_p, y_q) - k(y_p, x_q), summed over kernels, each brought
    to norm 1. Swapping the two answers of one prompt changes the sign of its row and column and nothing else. The
    diagonal, which no swap changes, is 0.

    Args:
        first, second: answers to the same prompts in the same order; a prompt may come more than once.

    Raises:
        InputError: the two differ in length.

    Cost: 0.1 s for 200 pairs, 2 s for 800; memory grows with the square.
    """
    n = len(first)
    if n != len(second):
        raise InputError("the two models answered different numbers of prompts", got=f"{n} and {len(second)}")
    total = np.zeros((n, n))
    if not n:
        return total
    for kernel in (
        _hamming(np.vstack([first.codes, second.codes])),
        _gaussian(np.vstack([first.looks, second.looks])),
    ):
        total += _scaled(kernel[:n, :n] + kernel[n:, n:] - kernel[:n, n:] - kernel[n:, :n])
    gap = first.head - second.head
    total += _scaled((gap @ gap.T).toarray())
    for a, b in ((first.counts, second.counts), (first.pairs, second.pairs)):
        gap = _whitened(a - b)
        total += _scaled((gap @ gap.T).toarray())
    return total


def permutation_test(contrast: Floats, *, seed: int, n_permutations: int = N_PERMUTATIONS) -> Equality:
    """Swap the labels within prompts at random: p = (1 + how many swaps reach the statistic) / (1 + swaps).

    Ties count against the finding, so two models that answer alike to the letter give p = 1 (Phipson and Smyth 2010).
    """
    n = len(contrast)
    seen = float(contrast.sum())
    least = seen - 1e-9 * float(np.abs(contrast).sum())
    rng = np.random.default_rng(seed)
    n_reached = 0
    for start in range(0, n_permutations, _N_BLOCK):
        signs = rng.choice(np.array([-1.0, 1.0]), size=(min(_N_BLOCK, n_permutations - start), n))
        n_reached += int((np.einsum("bp,bp->b", signs @ contrast, signs) >= least).sum())
    return Equality(seen / max(n * (n - 1), 1), (1 + n_reached) / (1 + n_permutations), n)


def _scaled(contrast: Floats) -> Floats:
    """Norm 1 off the diagonal, which is 0. No swap moves the norm, so the scale takes nothing from the test's level."""
    contrast = np.asarray(contrast, np.float64).copy()
    np.fill_diagonal(contrast, 0.0)
    norm = float(np.sqrt(np.square(contrast).sum()))
    return contrast / norm if norm > 1e-9 else np.zeros_like(contrast)


def _codes(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    codes = np.zeros((len(texts), N_CHARACTERS), np.uint32)
    for at, text in enumerate(texts):
        row = np.frombuffer(text[:N_CHARACTERS].encode("utf-32-le", "replace"), np.uint32)
        codes[at, : len(row)] = row
    return codes


def _hamming(codes: npt.NDArray[np.uint32]) -> Floats:
    """Share of places at which two texts have the same character; what is past a text's end is one more character."""
    same = np.zeros((len(codes), len(codes)), np.int32)
    for place in codes.T:
        same += place[:, None] == place[None, :]
    return same / N_CHARACTERS


def _gaussian(looks: Floats) -> Floats:
    """Gaussian kernel on what a text looks like from afar."""
    spread = looks.std(axis=0)
    scaled = looks / np.where(spread > 0, spread, 1.0)
    squares = np.square(scaled).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T
    return np.asarray(np.exp(-np.maximum(apart, 0) / (2 * scaled.shape[1])))


def _looks(head: str) -> list[float]:
    """Length, lines and items, and the shares of marks, commas, long words and capitals."""
    size = max(len(head), 1)
    counted = [len(head), head.count("\n"), len(_ITEM.findall(head))]
    shares = [len(_MARK.findall(head)), head.count(","), len(_LONG.findall(head)), sum(map(str.isupper, head))]
    return [float(np.log1p(value)) for value in counted] + [value / size for value in shares]


def _ids(text: str) -> Ids:
    """Words, marks and line ends as hashed numbers: the same in every process, and without a list to keep."""
    return np.array([crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text.casefold())], np.int64)


def _tally(ids: Ids) -> tuple[Ids, Floats]:
    """Each word with the square root of its count."""
    words, counts = np.unique(ids % N_BUCKETS, return_counts=True)
    return words, np.sqrt(counts.astype(np.float64))


def _present(ids: Ids) -> tuple[Ids, Floats]:
    """Each word, and each two in a row, once."""
    words = np.unique(np.concatenate([ids, ids[:-1] * 31 + ids[1:] + 1]) % N_BUCKETS)
    return words, np.ones(len(words))


def _matrix(rows: Sequence[tuple[Ids, Floats]]) -> csr_matrix:
    ends = np.cumsum([0, *(len(words) for words, _ in rows)])
    words = np.concatenate([words for words, _ in rows]) if rows else np.zeros(0, np.int64)
    values = np.concatenate([values for _, values in rows]) if rows else np.zeros(0)
    return csr_matrix((values, words, ends), shape=(len(rows), N_BUCKETS))


def _unit(matrix: csr_matrix) -> csr_matrix:
    """Rows of length 1, so that inner products are cosines; an empty row stays empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix.data = matrix.data / np.repeat(lengths, np.diff(matrix.indptr))
    return matrix


def _whitened(gap: csr_matrix) -> csr_matrix:
    """Differences with each word scaled by its own: inner products sum squared paired t statistics over words."""
    gap = csr_matrix(gap)
    gap.eliminate_zeros()
    _, column, n_rows = np.unique(gap.indices, return_inverse=True, return_counts=True)
    squares = np.bincount(column, weights=np.square(gap.data), minlength=len(n_rows))
    kept = n_rows[column] >= N_WRITTEN_AT_LEAST
    gap.data = np.where(kept, gap.data / np.sqrt(squares[column]), 0.0)
    return gap
