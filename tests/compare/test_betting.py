from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillwatch.compare.betting import equality_scores, nearness_e_log2, payoffs, wealth_log2
from stillwatch.compare.equality import Floats, read
from stillwatch.compare.equality import contrasts as contrasts_of
from tests.compare.making import spoken


def contrasts(first: Sequence[str], second: Sequence[str]) -> Floats:
    return contrasts_of(read(first), read(second))


def test_wealth_is_fair_when_the_sign_is_a_coin() -> None:
    """The mean wealth over random signs is 1, whatever the sizes of the scores."""
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(sigma=1.5, size=12)
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 12), -1).reshape(-1, 12)
    wealth = 2.0 ** wealth_log2(payoffs(signs * sizes))
    assert np.allclose(wealth.mean(axis=0), 1.0)


def test_looking_all_the_time_does_not_raise_the_error() -> None:
    """Wealth reaches 1/alpha in at most about alpha of the runs with swapped labels (Ville's inequality)."""
    contrast = contrasts(spoken(1, 60), spoken(2, 60))
    rng = np.random.default_rng(1)
    reached = 0
    for _ in range(1000):
        signs = rng.choice([-1.0, 1.0], 60)
        scores = equality_scores(contrast * np.outer(signs, signs))
        reached += bool(wealth_log2(payoffs(scores)).max() >= np.log2(20))
    assert reached <= 1000 * 0.05 + 3 * np.sqrt(1000 * 0.05 * 0.95)


def test_a_difference_makes_wealth() -> None:
    """Two models are told apart by the bets alone, and one model from itself is not."""
    different = wealth_log2(payoffs(equality_scores(contrasts(spoken(1, 100), spoken(2, 100)))))
    same = wealth_log2(payoffs(equality_scores(contrasts(spoken(1, 100), spoken(1, 100, draw=1)))))
    assert different[-1] > 10
    assert same.max() < np.log2(100)


def test_scores_look_back_only() -> None:
    """The score of a pair does not change when later pairs are added under the same scale."""
    contrast = np.triu(np.random.default_rng(3).normal(size=(20, 20)), 1)
    contrast += contrast.T
    assert np.allclose(equality_scores(contrast)[:10], equality_scores(contrast[:10, :10]))
    assert np.allclose(equality_scores(contrast, start=15), equality_scores(contrast)[15:])


def test_nearness_must_beat_every_control() -> None:
    """One control that is as near takes the evidence away, and no controls are none."""
    rng = np.random.default_rng(4)
    ahead = rng.normal(0.3, 0.2, size=(3, 80))
    assert nearness_e_log2(ahead) > 10
    level = np.vstack([ahead, rng.normal(0.0, 0.2, size=(1, 80))])
    assert nearness_e_log2(level) < 10
    assert nearness_e_log2(np.zeros((0, 5))) == 0.0
