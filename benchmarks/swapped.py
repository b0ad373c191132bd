"""swapped: question B's p-values and bets as shipped, where the null holds because labels were swapped.

A part of `benchmarks/compare.py`, whose table of p-values flips the signs of a plain gap and so shows the test alone.
Here teacher and control change places prompt by prompt before anything is weighed, so that whatever likeness does with
other prompts and other models is in the figures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import kstest

from benchmarks.lineages import N_FEW, SEED, Models, interval
from stillwatch.compare.betting import payoffs, wealth_log2
from stillwatch.compare.derivation import sign_flip_p
from stillwatch.compare.views import VIEWS, Tokens, likeness

N_OTHERS = 6
"""Models beside suspect, teacher and control, which give runs their weights."""

N_PERMUTATIONS = 999

SWAPPED = f"""## Likeness as shipped, labels swapped in the answers

Suspect, teacher, control and {N_OTHERS} others drawn at random, {N_FEW} prompts. Teacher and control change places on
random prompts before likeness is taken, so that the control is truly as near; a look at the bet after each prompt.
"Both views" is what the word rests on: the larger p and the smaller wealth, which err less often than they may.

| view | draws | KS distance | KS p | p <= 0.01 | p <= 0.05 | wealth ever 1/0.05 | ever 1/0.01 | ever 1/0.001 |
|---|---|---|---|---|---|---|---|---|"""


def swapped(models: Models, n_draws: int) -> Iterator[str]:
    """Permutation p and wealth of each view, and of both, under the null. Cost: 0.1 s a draw."""
    names = sorted(name for name in models.by_name if name != "NullModel")
    texts = models.panel("NullModel", names, n=N_FEW).texts
    tokens = Tokens(text for name in names for text in texts[name])
    runs = {view: {name: [tokens.runs(text, view=view) for text in texts[name]] for name in names} for view in VIEWS}
    rng = np.random.default_rng(SEED)
    p_values: dict[str, list[float]] = {view: [] for view in (*VIEWS, "both")}
    highest: dict[str, list[float]] = {view: [] for view in p_values}
    for draw in range(n_draws):
        suspect, teacher, control, *others = rng.choice(names, 3 + N_OTHERS, replace=False).tolist()
        turned = rng.random(len(texts[suspect])) < 0.5
        wealth = []
        for view in VIEWS:
            said = runs[view]
            places = [[control if swap else teacher, teacher if swap else control] for swap in turned]
            rows = [[said[pair[side]][at] for at, pair in enumerate(places)] for side in (0, 1)]
            shown = [said[suspect], *rows, *(said[name] for name in others)]
            x = likeness(shown, ["suspect", "teacher", "control", *others])
            gaps = (x[0, 1] - x[0, 2]).astype(np.float64)
            p_values[view].append(sign_flip_p(gaps[None], seed=draw, n_permutations=N_PERMUTATIONS))
            wealth.append(wealth_log2(payoffs(gaps)))
            highest[view].append(float(wealth[-1].max()))
        p_values["both"].append(max(p_values[view][-1] for view in VIEWS))
        highest["both"].append(float(np.minimum(*wealth).max()))
    yield SWAPPED
    for view, found in p_values.items():
        test = kstest(np.array(found) - rng.random(n_draws) / (N_PERMUTATIONS + 1), "uniform")
        cells = [f"{test.statistic:.3f}", f"{test.pvalue:.2g}"]
        cells += [interval(sum(p <= bar for p in found), n_draws) for bar in (0.01, 0.05)]
        cells += [interval(sum(e >= -np.log2(bar) for e in highest[view]), n_draws) for bar in (0.05, 0.01, 0.001)]
        yield f"| {'both views' if view == 'both' else view} | {n_draws} | {' | '.join(cells)} |"
    yield ""
