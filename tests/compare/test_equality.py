from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import kstest

from stillwatch.compare.equality import Floats, permutation_test, read
from stillwatch.compare.equality import contrasts as contrasts_of
from stillwatch.errors import InputError
from tests.compare.making import spoken


def contrasts(first: Sequence[str], second: Sequence[str]) -> Floats:
    return contrasts_of(read(first), read(second))


def test_swapping_a_prompt_flips_its_row_and_column() -> None:
    """The one symmetry the test rests on: two answers changing places change signs and nothing else."""
    first, second = spoken(1, 12), spoken(2, 12)
    swapped = contrasts([second[0], *first[1:]], [first[0], *second[1:]])
    signs = np.array([-1.0] + [1.0] * 11)
    assert np.allclose(swapped, contrasts(first, second) * np.outer(signs, signs), atol=1e-9)


def test_p_is_the_count_over_all_swaps() -> None:
    """With few pairs, the sampled p agrees with all 2^n swaps counted one by one."""
    contrast = contrasts(spoken(1, 8), spoken(2, 8))
    sums = [
        float(np.array(signs) @ contrast @ np.array(signs))
        for signs in np.stack(np.meshgrid(*[[-1.0, 1.0]] * 8), -1).reshape(-1, 8)
    ]
    exact = np.mean([value >= contrast.sum() - 1e-9 for value in sums])
    assert permutation_test(contrast, seed=1, n_permutations=20_000).p_value == pytest.approx(exact, abs=0.01)


def test_p_is_uniform_when_one_model_is_split() -> None:
    """One model's answers dealt into two halves at random give uniform p-values."""
    own = spoken(5, 80)
    rng = np.random.default_rng(0)
    found = []
    for draw in range(150):
        order = rng.permutation(80)
        pairs = contrasts([own[at] for at in order[:40]], [own[at] for at in order[40:]])
        found.append(permutation_test(pairs, seed=draw, n_permutations=199).p_value - rng.random() / 200)
    assert kstest(found, "uniform").pvalue > 0.01


def test_the_same_model_is_accepted_and_another_is_not() -> None:
    """Two draws of one model are not told apart; two models are."""
    assert permutation_test(contrasts(spoken(1, 100), spoken(1, 100, draw=1)), seed=0).p_value > 0.01
    assert permutation_test(contrasts(spoken(1, 100), spoken(2, 100)), seed=0).p_value == pytest.approx(1e-4)


@pytest.mark.parametrize("text", ["", "\n", "no", "\ud800", "\0" * 300])
def test_models_that_say_one_thing_are_the_same(text: str) -> None:
    """Answers alike to the letter, empty or odd, give p = 1 and no warning."""
    assert permutation_test(contrasts([text] * 10, [text] * 10), seed=0).p_value == 1.0


def test_lists_of_different_length_are_refused() -> None:
    """Pairs need partners; no pairs at all are no evidence."""
    with pytest.raises(InputError, match="3 and 2"):
        contrasts(["a"] * 3, ["b"] * 2)
    assert permutation_test(contrasts([], []), seed=0).p_value == 1.0
