"""betting: evidence that may be looked at after every prompt: wealth that no stopping rule can inflate.

If two models could change places on a prompt, what tells them apart has a sign that is a fair coin given everything
before. Betting on the sign, at stakes fixed in advance and averaged, gives a wealth that is a non-negative martingale
of mean 1. It exceeds 1/alpha with probability at most alpha, whenever one stops (Ville 1939; Shafer 2021, "Testing by
betting"; Podkopaev and Ramdas 2023, "Sequential predictive two-sample and independence testing").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

Floats = npt.NDArray[np.float64]

STAKES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the wealth that are bet; their mean is bet, since which is best is not known beforehand."""

N_UNSCALED = 5
"""Prompts before the first bet: they set the scale of the next."""

_LN2 = float(np.log(2.0))


def payoffs(scores: Floats) -> Floats:
    """Scores, (..., n), brought into -1 to 1 by an odd function that is fixed before each is seen.

    Score over twice the mean absolute score so far, cut at 1: a fair coin's sign stays one.
    """
    sizes = np.cumsum(np.abs(scores), axis=-1)
    n = np.arange(1, scores.shape[-1] + 1)
    before = np.concatenate([np.zeros_like(sizes[..., :1]), (sizes / n)[..., :-1]], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(before > 0, scores / (2 * before), 0.0)
    scaled[..., :N_UNSCALED] = 0.0
    return np.clip(scaled, -1.0, 1.0)


def wealth_log2(paid: Floats) -> Floats:
    """log2 of the wealth after each prompt, for payoffs of shape (..., n): the mean over `STAKES`."""
    stakes = np.array(STAKES).reshape((-1,) + (1,) * paid.ndim)
    nats = np.cumsum(np.log1p(stakes * paid[None]), axis=-1)
    return np.asarray((logsumexp(nats, axis=0) - np.log(len(STAKES))) / _LN2)


def equality_scores(contrast: Floats, *, start: int = 0) -> Floats:
    """For each pair from `start` on, how far it differs the way the pairs before it did.

    `contrast` is `equality.contrasts` of the pairs so far. Row t uses columns before t only, so that its sign is the
    next coin; the scale of the matrix is free of signs and may use every pair.
    """
    return np.asarray(np.tril(contrast, -1).sum(axis=1)[start:])


def nearness_e_log2(gaps: Floats) -> float:
    """log2 e-value that the teacher is nearer than every control, for gaps of shape (controls, prompts).

    The least wealth over controls is an e-value for "some control is as near": it is at most the wealth of that one.
    """
    return float(wealth_log2(payoffs(gaps))[:, -1].min()) if gaps.size else 0.0
