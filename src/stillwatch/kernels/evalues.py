"""evalues: e-values with published alternatives, in bits, and how to average and choose among them.

An e-value is a statistic that is never negative and whose mean under the null is at most 1; its log2 is what the
reports call bits. Everything here is a pure function of numbers already counted, stable in log space.

References: Vovk and Wang, "E-values: calibration, combination and applications" (2021); Sellke, Bayarri and Berger
(2001) for the calibrator; Wang and Ramdas, "False discovery rate control with e-values" (2022).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln

from stillwatch.errors import StillwatchError

Floats = npt.NDArray[np.float64]

LN2 = float(np.log(2.0))

TOO_FEW_RATIOS = (0.01, 0.1, 0.3)
"""The alternatives of `too_few_e_log2`: means as shares of what was expected."""

SHIFTS = (0.5, 1.0, 1.5, 2.0)
"""The alternatives of `shift_e_log2`: by how many standard deviations of one unit a group lies above its peers."""

SHARES_ABOVE = tuple((i + 0.5) / 16 for i in range(16))
"""The alternatives of `share_e_log2`: how far a group's share lies between that of all and 1."""

_TINY_TAIL = 1e-280
_N_FRACTIONS = 500
_CONVERGED = 1e-15
_SERIES_BELOW = 0.01


def hub_e_log2(x: npt.ArrayLike, n: npt.ArrayLike, share: npt.ArrayLike) -> Floats:
    """Bits of "x of the n carriers of a hub lie in a group that holds `share` of the population", arrays broadcast.

    e = mean over pi uniform in [share, 1] of Bin(x; n, pi) / Bin(x; n, share). Its mean is exactly 1 when each carrier
    falls into the group independently with probability `share`, at most 1 for a smaller probability, and at most 1
    when the carriers are drawn without replacement: e is convex in x and Hoeffding (1963, theorem 4) bounds the mean
    of a convex function of a hypergeometric count by that of the binomial. Absolute error about 1e-16 n log n bits.
    `share` of 1 gives 0 bits. Raises StillwatchError for x outside 0..n and for a share outside (0, 1].
    """
    arrays = np.broadcast_arrays(x, n, share)
    hits, total, part = (np.asarray(values, np.float64).ravel() for values in arrays)
    if not bool(np.all((hits >= 0) & (hits <= total))):
        raise StillwatchError("a hub has an impossible count", expected="0 <= x <= n")
    if not bool(np.all((part > 0) & (part <= 1))):
        raise StillwatchError("a hub has an impossible share", expected="0 < share <= 1")
    inside = np.minimum(part, np.nextafter(1.0, 0.0))
    misses = total - hits
    tail = betainc(misses + 1, hits + 1, 1 - inside)
    with np.errstate(divide="ignore"):
        null = hits * np.log(inside) + (misses + 1) * np.log1p(-inside)
        nats = betaln(hits + 1, misses + 1) + np.log(tail) - null
    far = tail < _TINY_TAIL
    if bool(far.any()):
        nats[far] = _far_below(hits[far], total[far], inside[far])
    return np.asarray(np.where(part < 1, nats, 0.0) / LN2).reshape(arrays[0].shape)


def rank_e_log2(rank_p: npt.ArrayLike) -> Floats:
    """Bits of p-values, calibrated: e = (1 - p + p ln p) / (p (ln p)^2), the mean over eps of eps p^(eps - 1).

    The integral of e over p in (0, 1) is 1, and e falls to 1/2 at p = 1 (-1 bit). Raises StillwatchError for p outside
    (0, 1].
    """
    p = np.asarray(rank_p, np.float64)
    if not bool(np.all((p > 0) & (p <= 1))):
        raise StillwatchError("a p-value is out of range", expected="0 < p <= 1")
    u = -np.log(p)
    near = 0.5 + u / 6 + u**2 / 24 + u**3 / 120
    away = np.maximum(u, _SERIES_BELOW)
    far = away - 2 * np.log(away) + np.log1p(-(1 + away) * np.exp(-away))
    return np.asarray(np.where(u < _SERIES_BELOW, np.log(near), far) / LN2)


def conformal_p(scores: npt.ArrayLike, reference: npt.ArrayLike) -> Floats:
    """Conformal p-values, (1 + how many of the reference score at least as high) / (1 + size of the reference).

    Ties count against the finding. So does what is not a number: a score of NaN gives 1, a reference of NaN counts as
    higher than anything. Vovk, Gammerman and Shafer (2005).
    """
    seen = np.asarray(scores, np.float64)
    ranked = np.sort(np.asarray(reference, np.float64).ravel())
    n = len(ranked)
    higher = n - np.searchsorted(ranked, seen, side="left")
    return np.asarray(np.where(np.isnan(seen), 1.0, (1 + higher) / (1 + n)))


def mean_e_log2(e_log2: npt.ArrayLike) -> float:
    """Bits of the mean of e-values given in bits: again an e-value, however they depend; 0 for none at all.

    What is not a number counts as an e-value of 0.
    """
    bits = _bits(e_log2)
    if len(bits) == 0:
        return 0.0
    top = float(bits.max())
    if not np.isfinite(top):
        return top
    return top + float(np.log2(np.mean(np.exp2(bits - top))))


def e_bh(e_log2: npt.ArrayLike) -> Floats:
    """False discovery rate of choosing each hypothesis and all with larger e-values, in the order given.

    With e_(1) >= ... >= e_(m), q of rank i is the least m / (k e_(k)) over k >= i, capped at 1. Choosing q <= alpha
    keeps the false discovery rate at most alpha under any dependence (Wang and Ramdas 2022). What is
    not a number counts as an e-value of 0.
    """
    bits = _bits(e_log2)
    m = len(bits)
    order = np.argsort(-bits, kind="stable")
    ranks = np.arange(1, m + 1, dtype=np.float64)
    q_log2 = np.log2(m) - np.log2(ranks) - bits[order] if m else bits
    least = np.minimum.accumulate(q_log2[::-1])[::-1]
    q = np.empty(m)
    q[order] = np.exp2(np.minimum(least, 0.0))
    return q


def too_few_e_log2(observed: int, expected: float, dispersion: float) -> float:
    """Bits of "fewer events than a negative binomial of this mean and variance mean (1 + mean dispersion) gives".

    e = mean over `TOO_FEW_RATIOS` of the likelihood ratio at that share of the expected mean; its mean is exactly 1 at
    the expected mean and at most 1 at any larger one. `dispersion` 0 is Poisson. 0 bits when nothing was expected.
    Raises StillwatchError for negative or non-finite arguments.
    """
    given = (float(observed), float(expected), float(dispersion))
    if not all(np.isfinite(value) and value >= 0 for value in given):
        raise StillwatchError("a count is out of range", got=str(given), expected="numbers of at least 0")
    if expected == 0:
        return 0.0
    nats = [_thinned(observed, expected, dispersion, ratio) for ratio in TOO_FEW_RATIOS]
    return mean_e_log2(np.array(nats) / LN2)


def shift_e_log2(mean: float, variance: float) -> float:
    """Bits of "this mean of normal scores lies above 0".

    e = mean over d in `SHIFTS` of exp(d mean / variance - d^2 / (2 variance)), the likelihood ratio of two normal laws.
    Its mean is at most 1 whenever the mean is sub-Gaussian with this variance proxy and expectation at most 0, which is
    what the bound of its moment generating function says (Boucheron, Lugosi and Massart 2013, 2.3). Raises
    StillwatchError for a variance that is not above 0.
    """
    if not (np.isfinite(mean) and variance > 0):
        raise StillwatchError("a mean is out of range", got=f"{mean}, {variance}", expected="finite, variance above 0")
    shift = np.array(SHIFTS)
    return mean_e_log2((shift * mean - shift**2 / 2) / variance / LN2)


def share_e_log2(x: int, n: int, share: float, correlation: float) -> float:
    """Bits of "x of n units show something that a `share` of all show", units correlated in pairs.

    e = mean over `SHARES_ABOVE` of BB(x; n, pi) / BB(x; n, share), where BB is the beta-binomial law of mean n pi and
    intraclass correlation `correlation` (Skellam 1948) and pi lies that far between `share` and 1. Its mean is exactly
    1 under the null and at most 1 for a smaller share: both laws are ordered by their likelihood ratio. Raises
    StillwatchError for an impossible count, a share outside (0, 1) or a correlation outside (0, 1).
    """
    if not (0 <= x <= n and 0 < share < 1 and 0 < correlation < 1):
        raise StillwatchError(
            "a share is out of range",
            got=f"{x} of {n}, {share}, {correlation}",
            expected="0 <= x <= n, the rest in (0, 1)",
        )
    tosses = (1 - correlation) / correlation
    mean = np.r_[share, share + np.array(SHARES_ABOVE) * (1 - share)]
    a, b = mean * tosses, (1 - mean) * tosses
    nats = betaln(x + a, n - x + b) - betaln(a, b)
    return mean_e_log2((nats[1:] - nats[0]) / LN2)


def _bits(e_log2: npt.ArrayLike) -> Floats:
    bits = np.asarray(e_log2, np.float64).ravel()
    return np.where(np.isnan(bits), -np.inf, bits)


def _thinned(observed: int, expected: float, dispersion: float, ratio: float) -> float:
    """Natural log of NB(observed; ratio expected) / NB(observed; expected), both of the same dispersion."""
    if dispersion == 0:
        return float(observed * np.log(ratio) + expected * (1 - ratio))
    change = np.log1p(dispersion * expected * ratio) - np.log1p(dispersion * expected)
    return float(observed * (np.log(ratio) - change) - change / dispersion)


def _far_below(x: Floats, n: Floats, share: Floats) -> Floats:
    """Natural log of the hub's e-value far below expectation, where the incomplete beta underflows.

    e = share / (n - x + 1) F, where F is the hypergeometric function in I_z(a, b) = z^a (1-z)^b F / (a B(a, b)) with
    a = n - x + 1, b = x + 1, z = 1 - share; F by its continued fraction (DLMF 8.17.22), modified Lentz.
    """
    a, b, z = n - x + 1, x + 1, 1 - share
    d = 1 / (1 - (a + b) * z / (a + 1))
    c = np.ones_like(a)
    fraction = d.copy()
    for m in range(1, _N_FRACTIONS):
        even = m * (b - m) * z / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * z / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / (1 + step * d)
            c = 1 + step / c
            fraction = fraction * c * d
        if bool(np.all(np.abs(c * d - 1) < _CONVERGED)):
            break
    return np.asarray(np.log(share) - np.log(a) + np.log(fraction))
