from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.audit.written import N_MIN, N_MOST, Sample, estimate_written
from tests.audit.making import KEY, VOCABULARY

RNG = np.random.default_rng
STYLES = {"people": 3, "models": 11, "others": 29}


def texts(style: str, n: int, *, seed: int) -> list[str]:
    """Answers on many topics; a style prefers some function words."""
    rng = RNG([STYLES[style], seed])
    topics = rng.integers(200, 2900, n)
    liked = np.arange(40) * STYLES[style] % 97
    return [
        " ".join(VOCABULARY[np.where(rng.random(60) < 0.5, rng.choice(liked, 60), topic + rng.integers(0, 90, 60))])
        for topic in topics
    ]


def sample(rows: list[str]) -> Sample:
    made = Sample(KEY)
    made.add(pa.array(rows, pa.large_string()), pa.array([f"asked {at}" for at in range(len(rows))], pa.large_string()))
    return made


PEOPLE, MODELS = sample(texts("people", 600, seed=1)), sample(texts("models", 600, seed=1))


@pytest.mark.parametrize("n_models", [0, 60, 300, 600])
def test_a_known_mixture_is_estimated(n_models: int) -> None:
    """The interval holds the true share, and is no wider than 15 points."""
    mixed = sample(texts("people", 600 - n_models, seed=2) + texts("models", n_models, seed=2))
    found = estimate_written(mixed, PEOPLE, MODELS, KEY)
    assert found.share is not None
    assert found.lo - 0.01 <= n_models / 600 <= found.hi + 0.01
    assert found.hi - found.lo < 0.15


def test_without_a_control_there_is_no_figure() -> None:
    """A control that is missing or too small, or the set itself too small, gives "cannot tell" and the reason."""
    few = sample(texts("people", N_MIN - 1, seed=3))
    assert "no domain-matched control" in str(estimate_written(PEOPLE, None, MODELS, KEY).why_not)
    assert "no domain-matched control" in str(estimate_written(PEOPLE, PEOPLE, None, KEY).why_not)
    for given in ((few, PEOPLE, MODELS), (PEOPLE, few, MODELS), (PEOPLE, PEOPLE, few)):
        found = estimate_written(*given, KEY)
        assert found.share is None and "too few answers" in str(found.why_not) and (found.lo, found.hi) == (0.0, 1.0)


def test_controls_that_are_alike_give_no_figure() -> None:
    """Two controls by the same writers are not told apart, and the answer says so."""
    found = estimate_written(PEOPLE, PEOPLE, sample(texts("people", 600, seed=4)), KEY)
    assert found.share is None and "not told apart" in str(found.why_not)


def test_the_same_rows_in_another_order_give_the_same_figure() -> None:
    """The sample and its halves follow from keyed hashes, so order and batches do not matter."""
    rows = texts("people", 300, seed=5) + texts("models", 300, seed=5)
    turned = Sample(KEY)
    for at in range(len(rows) - 1, -1, -1):
        turned.add(pa.array([rows[at]], pa.large_string()), pa.array([f"asked {at}"], pa.large_string()))
    assert estimate_written(sample(rows), PEOPLE, MODELS, KEY) == estimate_written(turned, PEOPLE, MODELS, KEY)


def test_a_sample_is_bounded_and_leaves_null_answers_out() -> None:
    """However many rows come, a sample holds at most its size."""
    made = Sample(KEY)
    for at in range(3):
        numbers = [f"answer {at} {n}" for n in range(N_MOST // 2)]
        made.add(pa.array([*numbers, None], pa.large_string()), pa.nulls(len(numbers) + 1, pa.large_string()))
    assert len(made) == len(made.texts) == N_MOST and made.texts.null_count == 0
