"""tails: log10 p-values of a Gamma, a binomial and two samples, exact far below what floats hold.

Where the tail is a float, it is scipy's; below that it is the continued fraction of the incomplete gamma or beta
function (DLMF 8.9.2 and 8.17.22, modified Lentz) times its leading term, both in logarithms. No normal approximation
anywhere: it is what makes published p-values of short texts wrong.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln, gammaincc, gammaln

from stillwatch.errors import StillwatchError

Floats = npt.NDArray[np.float64]

_LN10 = math.log(10.0)
_TINY, _SMALL = 1e-280, 1e-300
_N_TERMS, _CONVERGED = 10_000, 1e-15


def gamma_p_log10(score: float, n: int) -> float:
    """log10 P(Gamma(n, 1) >= score): how often n pairs under a wrong key score at least this much.

    Relative error about 1e-9 of the logarithm. 0 for n of 0. Raises StillwatchError for a negative or endless score.
    """
    if not (n >= 0 and 0 <= score < math.inf):
        raise StillwatchError("a score is impossible", got=f"{score} over {n}", expected="finite, at least 0")
    if n == 0 or score == 0:
        return 0.0
    plain = float(gammaincc(n, score))
    if plain > _TINY:
        return math.log10(plain)
    # Q(n, x) = x^n e^-x / Gamma(n) / (x + 1 - n - 1 (1 - n) / (x + 3 - n - ...)).
    leading = n * math.log(score) - score - float(gammaln(n))
    b = score + 1 - n
    c, d = 1 / _SMALL, 1 / b
    fraction = d
    for i in range(1, _N_TERMS):
        a = -i * (i - n)
        b += 2
        d = 1 / _nonzero(a * d + b)
        c = _nonzero(b + a / c)
        fraction *= c * d
        if abs(c * d - 1) < _CONVERGED:
            break
    return (leading + math.log(fraction)) / _LN10


def binomial_p_log10(hits: int, n: int, share: float) -> float:
    """log10 P(Binomial(n, share) >= hits). Raises StillwatchError for an impossible count or share."""
    if not (0 <= hits <= n and 0 < share < 1):
        raise StillwatchError("a count is impossible", got=f"{hits} of {n} at {share}", expected="0 <= hits <= n")
    if hits == 0:
        return 0.0
    return beta_p_log10(share, hits, n - hits + 1)


def beta_p_log10(x: float, a: float, b: float) -> float:
    """log10 of the regularised incomplete beta function I_x(a, b), for 0 < x < 1 and positive a and b."""
    plain = float(betainc(a, b, x))
    if plain > _TINY:
        return math.log10(plain)
    leading = a * math.log(x) + b * math.log1p(-x) - math.log(a) - float(betaln(a, b))
    d = 1 / _nonzero(1 - (a + b) * x / (a + 1))
    c, fraction = 1.0, d
    for m in range(1, _N_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for step in (even, odd):
            d = 1 / _nonzero(1 + step * d)
            c = _nonzero(1 + step / c)
            change *= c * d
        fraction *= change
        if abs(change - 1) < _CONVERGED:
            break
    return (leading + math.log(fraction)) / _LN10


def larger_mean_p_log10(score: float, n: int, control: float, n_control: int) -> float:
    """log10 p that two Gamma sums of one scale differ so much: S / (S + C) is Beta(n, n_control) under the null.

    The test of a suspect's text against a control's: what a key prefers by chance in common phrases, both have.
    0 where either has nothing to say.
    """
    if min(n, n_control, score, control) == 0:
        return 0.0
    return beta_p_log10(control / (score + control), n_control, n)


def larger_share_p_log10(hits: int, n: int, control: int, n_control: int) -> float:
    """log10 p of Fisher's exact test that `hits` of `n` is a larger share than `control` of `n_control`.

    The hypergeometric tail, summed in logarithms. Cost: O(smaller side).
    """
    drawn, total = hits + control, n + n_control
    x = np.arange(hits, min(n, drawn) + 1, dtype=np.float64)
    if min(n, n_control) == 0 or hits == 0 or len(x) == 0:
        return 0.0
    terms = _log_choose(n, x) + _log_choose(n_control, drawn - x) - _log_choose(total, np.float64(drawn))
    top = float(terms.max())
    return min((top + math.log(float(np.exp(terms - top).sum()))) / _LN10, 0.0)


def holm(p_log10: npt.ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values in log10, in the order given: the family-wise error, under any dependence."""
    p = np.asarray(p_log10, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = p[order] + np.log10(np.arange(len(p), 0, -1)) if len(p) else p
    return _back(np.maximum.accumulate(adjusted), order)


def benjamini_hochberg(p_log10: npt.ArrayLike) -> Floats:
    """Benjamini and Hochberg's (1995) adjusted p-values in log10, in the order given: the false discovery rate.

    Valid for independent tests and for positively dependent ones; keys drawn apart are independent given the text.
    """
    p = np.asarray(p_log10, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = p[order] + math.log10(max(len(p), 1)) - np.log10(np.arange(1, len(p) + 1)) if len(p) else p
    return _back(np.minimum.accumulate(adjusted[::-1])[::-1], order)


def _back(adjusted: Floats, order: npt.NDArray[np.int64]) -> Floats:
    out = np.empty(len(adjusted))
    out[order] = np.minimum(adjusted, 0.0)
    return out


def _log_choose(n: int, k: Floats | np.float64) -> Floats:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1) - gammaln(n - k + 1))


def _nonzero(value: float) -> float:
    return value if abs(value) > _SMALL else _SMALL
