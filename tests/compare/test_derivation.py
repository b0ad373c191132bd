from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from stillwatch.compare.contrast import contrast
from stillwatch.compare.derivation import holm, nearness, sign_flip_p
from stillwatch.compare.power import derivation_power
from stillwatch.compare.views import Tokens, likeness, runs
from tests.compare.making import spoken


def made(n_families: int = 12, n: int = 60, *, near: float = 0.0) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Random likeness of a suspect, a teacher and controls; the two are nearer by `near`."""
    rng = np.random.default_rng(8)
    models = ["suspect", "teacher", *(f"c{at}" for at in range(n_families))]
    half = rng.normal(0.1, 0.03, size=(len(models), len(models), 1)) + rng.normal(
        0, 0.05, (len(models), len(models), n)
    )
    both = ((half + half.transpose(1, 0, 2)) / 2).astype(np.float32)
    both[0, 1] += near
    both[1, 0] += near
    return both, models, {f"c{at}": f"f{at}" for at in range(n_families)}


def test_the_rank_p_is_bounded_by_the_families() -> None:
    """However near the teacher is, its rank p is 1 / (families + 1); a nearer control raises it."""
    likely, models, families = made(near=5.0)
    one = nearness(likely, models, families, suspect="suspect", teacher="teacher", view="agreement", seed=0)
    assert one.rank_p == pytest.approx(1 / 13)
    assert one.permutation_p == pytest.approx(1e-4)
    assert one.margin > 50
    far = nearness(likely, models, families, suspect="suspect", teacher="c3", view="agreement", seed=0)
    assert far.rank_p > 1 / 13


def test_siblings_count_once() -> None:
    """Ten copies of one control family neither lower the rank p nor count as ten."""
    likely, models, families = made(near=5.0)
    kin = dict.fromkeys(families, "one family") | {"c0": "f0", "c1": "f1", "c2": "f2"}
    one = nearness(likely, models, kin, suspect="suspect", teacher="teacher", view="agreement", seed=0)
    assert one.rank_p == pytest.approx(1 / 5)


def test_the_margin_is_the_excess_in_spreads_over_families() -> None:
    """Margin, best control and bounds agree with their definitions, written out."""
    likely, models, families = made(near=0.2)
    one = nearness(likely, models, families, suspect="suspect", teacher="teacher", view="template", seed=0)
    means = likely.astype(float).mean(axis=2)
    spread = max(means[0, 2:].std(ddof=1), means[1, 2:].std(ddof=1))
    best = max(means[0, 2:].max(), means[1, 2:].max())
    assert one.margin == pytest.approx((means[0, 1] - best) / spread)
    assert one.best_control == models[2 + int(means[0, 2:].argmax())]
    assert one.lo < one.excess < one.hi


def test_sign_flips_give_uniform_p_values() -> None:
    """Where teacher and one control change places by a coin, the p-value is uniform."""
    rng = np.random.default_rng(0)
    found = [
        sign_flip_p(rng.standard_t(3, size=(1, 40)), seed=draw, n_permutations=199) - rng.random() / 200
        for draw in range(300)
    ]
    assert kstest(found, "uniform").pvalue > 0.01


def test_the_best_control_decides() -> None:
    """The p-value against many controls is the largest of theirs, so choosing the best of them costs nothing."""
    gaps = np.random.default_rng(1).normal(0.3, 1, size=(5, 50))
    alone = [sign_flip_p(row[None], seed=2) for row in gaps]
    assert sign_flip_p(gaps, seed=2) == pytest.approx(max(alone))
    assert sign_flip_p(np.zeros((2, 10)), seed=0) == 1.0


def test_holm_is_the_textbook_procedure() -> None:
    """Adjusted p-values of a worked example, in the order given, never above 1 and never out of order."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_likeness_needs_the_same_prompt() -> None:
    """One model is like itself on a prompt; a greeting that stands on every answer makes no two models alike."""
    texts = [spoken(1, 20), spoken(1, 20, draw=1), spoken(2, 20), spoken(3, 20)]
    greeted = [[f"Sure thing my dear friend here you go {text}" for text in rows] for rows in texts[2:]]
    tokens = Tokens(text for rows in [*texts, *greeted] for text in rows)
    shown = [[tokens.runs(text, view="agreement") for text in rows] for rows in [*texts[:2], *greeted]]
    means = likeness(shown, ["a", "a2", "b", "c"])[:, :, 1:].mean(axis=2)
    assert means[0, 1] > 0.25
    assert abs(means[2, 3]) < 0.05
    assert np.allclose(means, means.T, atol=1e-6)


def test_likeness_does_not_look_ahead() -> None:
    """What is weighed prompt by prompt is what is weighed at once, which early stopping rests on."""
    texts = [spoken(seed, 12) for seed in (1, 2, 3)]
    tokens = Tokens(text for rows in texts for text in rows)
    shown = [[tokens.runs(text, view="template") for text in rows] for rows in texts]
    whole = likeness(shown, ["a", "b", "c"])
    parts = [likeness([rows[:6] for rows in shown], ["a", "b", "c"]), likeness(shown, ["a", "b", "c"], start=6)]
    assert np.allclose(whole, np.concatenate(parts, axis=2))


@pytest.mark.parametrize("text", ["", "\n", "你好，世界。今天天气很好", "١٢٣ مرحبا", "a" * 5000, "🙂🙂🙂", "___"])
def test_any_text_has_runs(text: str) -> None:
    """Empty, unspaced, right-to-left and endless texts are read without a fault, and alike each time."""
    tokens = Tokens([text])
    for view in ("agreement", "template"):
        found = tokens.runs(text, view=view)
        assert (np.diff(found.astype(float)) >= 0).all()
        assert (found == tokens.runs(text, view=view)).all()
    assert len(runs(np.zeros(2, np.int64), 3, 5)) == 0


def test_power_grows_with_what_is_repeated() -> None:
    """A control that repeats the teacher's answers everywhere is found, and power does not fall as the share grows."""
    texts = [spoken(seed, 60) for seed in range(14)]
    names = [f"m{at}" for at in range(14)]
    tokens = Tokens(text for rows in texts for text in rows)
    views = {
        view: likeness([[tokens.runs(text, view=view) for text in rows] for rows in texts], names)
        for view in ("agreement", "template")
    }
    families = {name: name for name in names[1:]}
    found = list(derivation_power(views, names, families, teacher="m0", margin_min=4, seed=0).values())
    assert found == sorted(found)
    assert found[-1] == 1.0


def test_a_contrast_compares_gains() -> None:
    """Coming nearer to everybody is no sign; coming nearer to the teacher than to any control is."""
    likely, models, families = made()
    models = [*models, "before"]
    grown = np.pad(likely, ((0, 1), (0, 1), (0, 0)))
    grown[-1, :] = grown[0, :] - 0.2 + np.random.default_rng(1).normal(0, 0.01, grown[0].shape)
    options = {"suspect": "suspect", "before": "before", "teacher": "teacher", "view": "agreement", "seed": 0}
    assert contrast(grown, models, families, **options).permutation_p > 0.05  # type: ignore[arg-type]
    grown[0, 1] += 0.3
    one = contrast(grown, models, families, **options)  # type: ignore[arg-type]
    assert one.permutation_p < 0.001
    assert one.rank_p == pytest.approx(1 / 13)
    assert one.gain > one.best_gain + 0.2
