"""candidates: the most likely tokens of each row of logits, and what a mark does among them.

A mark is computed for the few tokens that can be drawn, not for the whole vocabulary: a row of 50,000 logits is read
once for the peaks of its groups, the `k` largest of those that can hold them are kept in a heap, and only they get a
keyed number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.compile import jit
from stillwatch.kernels.prf import Floats, uniform
from stillwatch.kernels.siphash import U

Rows = npt.NDArray[np.float32]

GROUP = 32
"""Tokens first looked at together: a group whose peak is below those of k others holds none of the k largest."""


def top_candidates(scores: Rows, k: int) -> tuple[Floats, I64]:
    """The k largest finite scores of each row (b, v), in no order, as values (b, k) and token ids (b, k).

    Where a row has fewer, the rest is -inf at id 0. What is not a number is never a candidate. Cost: about 20 us a row
    of 50,000.
    """
    n_rows, n_tokens = scores.shape
    n_groups = n_tokens // GROUP
    peaks = scores[:, : n_groups * GROUP].reshape(n_rows, GROUP, n_groups).max(axis=1)
    floor = np.full(n_rows, -np.inf, np.float32)
    if n_groups > k:
        told = (peaks < np.inf).all(axis=1)  # and neither infinite nor no number
        floor[told] = np.partition(peaks[told], n_groups - k, axis=1)[:, n_groups - k]
    return _largest(scores, peaks, floor, k)


@jit
def _largest(scores: Rows, peaks: Rows, floor: Rows, k: int) -> tuple[Floats, I64]:
    """The k largest of the groups that reach the floor and of the tokens in no group; group g has g, g + n, g + 2n."""
    n_rows, n_tokens = scores.shape
    n_groups = peaks.shape[1]
    values = np.full((n_rows, k), -np.inf)
    ids = np.zeros((n_rows, k), np.int64)
    for row in range(n_rows):
        for group in range(n_groups + 1):
            if group < n_groups and (peaks[row, group] < floor[row] or peaks[row, group] == -np.inf):
                continue
            begin, step = (group, n_groups) if group < n_groups else (n_groups * GROUP, 1)
            for token in range(begin, n_groups * GROUP if group < n_groups else n_tokens, step):
                x = scores[row, token]
                if x > values[row, 0] and x < np.inf:
                    _replace_root(values[row], ids[row], float(x), token)
    return values, ids


@jit
def gumbel_choice(values: Floats, ids: I64, seeds: U64) -> I64:
    """For each row of candidates (b, k), the token with the largest value plus Gumbel noise of its seed: shape (b,).

    The noise is -log(-log u), so tokens are drawn in proportion to exp(value), whatever the seeds of other rows are.
    """
    chosen = np.zeros(len(seeds), np.int64)
    for row in range(len(seeds)):
        best = -np.inf
        for at in range(values.shape[1]):
            if values[row, at] > -np.inf:
                noisy = values[row, at] - np.log(-np.log(uniform(seeds[row], U(ids[row, at]))))
                if noisy > best:
                    best, chosen[row] = noisy, ids[row, at]
    return chosen


@jit
def green_bias(values: Floats, ids: I64, seeds: U64, gamma: float, delta: float) -> Floats:
    """For each candidate (b, k), what is added to its logit: `delta` where it is green, else 0."""
    bias = np.zeros(values.shape)
    for row in range(len(seeds)):
        for at in range(values.shape[1]):
            if values[row, at] > -np.inf and uniform(seeds[row], U(ids[row, at])) < gamma:
                bias[row, at] = delta
    return bias


@jit
def fingerprint_bias(values: Floats, ids: I64, seeds: U64, student: Floats, gamma: float, delta: float) -> Floats:
    """For each candidate (b, k), `delta` q (1[green] - L): q is softmax(student) over the candidates, L its green mass.

    A token that the student finds likely moves most; the bias has mean 0 under q (arXiv 2602.03812).
    """
    bias = np.zeros(values.shape)
    for row in range(len(seeds)):
        top, total, mass = -np.inf, 0.0, 0.0
        for at in range(values.shape[1]):
            if values[row, at] > -np.inf:
                top = max(top, student[row, at])
        for at in range(values.shape[1]):
            if values[row, at] > -np.inf:
                q = np.exp(student[row, at] - top)
                bias[row, at] = q
                total += q
                if uniform(seeds[row], U(ids[row, at])) < gamma:
                    mass += q
        for at in range(values.shape[1]):
            if values[row, at] > -np.inf:
                green = 1.0 if uniform(seeds[row], U(ids[row, at])) < gamma else 0.0
                bias[row, at] *= delta * (green - mass / total) / total
    return bias


@jit
def _replace_root(values: Floats, ids: I64, value: float, token: int) -> None:
    """Put a larger value in the place of the smallest of a heap."""
    at, n = 0, len(values)
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and values[child + 1] < values[child]:
            child += 1
        if values[child] >= value:
            break
        values[at], ids[at] = values[child], ids[child]
        at = child
    values[at], ids[at] = value, token
