"""The most likely tokens of a row, against a full sort."""

from __future__ import annotations

import numpy as np
import pytest

from stillwatch.kernels.candidates import GROUP, top_candidates

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("n_tokens", [1, 5, GROUP - 1, GROUP, 40 * GROUP, 40 * GROUP + 7, 5003])
@pytest.mark.parametrize("k", [1, 7, 64])
@pytest.mark.parametrize("hostile", [(), (INF,), (NAN,), (-INF, INF, NAN)])
def test_they_are_the_largest_finite_scores(n_tokens: int, k: int, hostile: tuple[float, ...]) -> None:
    """Whatever else is in a row: infinities, no numbers, ties, and rows shorter than k."""
    rng = np.random.default_rng(n_tokens + k)
    scores = np.round(rng.standard_normal((6, n_tokens)), 2).astype(np.float32)
    for value in hostile:
        scores[1::2, rng.integers(n_tokens, size=max(n_tokens // 9, 1))] = value
    scores[5] = -INF
    scores[5, 0] = 1.5
    values, ids = top_candidates(scores, k)
    for row, (mine, at) in enumerate(zip(values, ids, strict=True)):
        finite = np.sort(scores[row][np.isfinite(scores[row])])[::-1][:k]
        kept = mine > -INF
        assert np.array_equal(np.sort(mine[kept])[::-1].astype(np.float32), finite)
        assert np.array_equal(scores[row][at[kept]], mine[kept].astype(np.float32))
        assert len(set(at[kept].tolist())) == kept.sum()
        assert not at[~kept].any()
