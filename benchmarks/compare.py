"""compare: both questions on the answers of fifty public models, and whether the p-values are what they claim.

    python benchmarks/compare.py [--draws 500] [--jobs 4] [--write benchmarks/compare.md]

`STILLWATCH_SHARED` names the folder the answers lie in (`data/model_outputs/outputs.parquet`). Every draw and every
order of prompts is seeded; parts run in processes of their own, and their number changes no figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import kstest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.heldout import accepted, cleared, heldout, rivals
from benchmarks.lineages import (
    FAMILY,
    LINEAGE,
    N_ALL,
    N_FEW,
    ONE_MODEL,
    RULES,
    SEED,
    TEACHERS,
    Models,
    interval,
    load,
)
from benchmarks.swapped import swapped
from stillwatch.compare.betting import equality_scores, payoffs, wealth_log2
from stillwatch.compare.derivation import Nearness, nearness, sign_flip_p
from stillwatch.compare.equality import Equality, Floats, contrasts, permutation_test, read
from stillwatch.compare.hearing import Hearing
from stillwatch.compare.rules import DERIVED
from stillwatch.compare.verdict import Figures, derived


def texts_of(models: Models, names: Sequence[str], n: int) -> dict[str, list[str]]:
    """Canonical answers to the same n prompts."""
    panel = models.panel("NullModel", names, n=n)
    return {name: list(panel.texts[name]) for name in names}


def equality_of_all(models: Models) -> Iterator[str]:
    """Question A for every pair at 200 prompts."""
    names = sorted(name for name in models.by_name if name != "NullModel")
    texts = texts_of(models, names, N_FEW)
    named = {frozenset(pair[:2]) for pair in ONE_MODEL}
    seen = {name: read(rows) for name, rows in texts.items()}
    p_values = {
        (a, b): permutation_test(contrasts(seen[a], seen[b]), seed=SEED, n_permutations=4999).p_value
        for a, b in combinations(names, 2)
    }
    others = {pair: p for pair, p in p_values.items() if frozenset(pair) not in named}
    open_pairs = [pair for pair, p in others.items() if p > RULES.alpha_different]
    yield "## A. The same model?"
    yield ""
    yield f"{N_FEW} prompts, one answer each, every pair of {len(names)} models (the constant one apart)."
    told = interval(len(others) - len(open_pairs), len(others))
    yield f"Different models told apart at p <= {RULES.alpha_different:g}: {told}."
    yield ""
    yield "Pairs that are nearly one model by their names or cards, and every other pair that was not told apart:"
    yield ""
    yield "| pair | what they are | p | rank p, permutation p of nearness | margin | word |"
    yield "|---|---|---|---|---|---|"
    for a, b, what in [*ONE_MODEL, *((a, b, "different models") for a, b in open_pairs)]:
        done = models.compare(a, b, n=N_FEW)
        one, word = done.figures[0], done.same_model[0].word
        near = f"{one.rank_p:.3f}, {one.permutation_p:.4f} | {one.margin:.1f}"
        yield f"| {a}, {b} | {what} | {one.equality.p_value:.4f} | {near} | {word} |"
    yield ""


UNRELATED = """## B. Derived? Unrelated suspects

Each unrelated model in turn is the suspect, against each of the seven named teachers (p times seven), and against each
unrelated model of another family in the teacher's place. All unrelated families but theirs are the controls.

| prompts | against | called derived | largest margin | rank p at its bound |
|---|---|---|---|---|"""


def unrelated(models: Models) -> Iterator[str]:
    """Question B with each unrelated model as the suspect, against teachers and against other controls as teachers."""
    yield UNRELATED
    for n in (50, N_FEW, N_ALL):
        # Weights and likeness are those of all models together; the constant one only asks.
        hearing = Hearing(models.panel("NullModel", TEACHERS, n=n), RULES, SEED)
        for at, prompt in enumerate(hearing.panel.prompts):
            hearing.hear(at, models.by_name["NullModel"].outputs[prompt])
        hearing.weigh_likeness()
        found = [pair for suspect in FAMILY for pair in weighed(hearing, suspect)]
        for against, named in (("named teachers", True), ("unrelated models", False)):
            chosen = [(word, one) for suspect, word, one in found if (one.teacher in TEACHERS) is named]
            n_called = sum(word == DERIVED for word, _ in chosen)
            n_first = sum(one.rank_p <= 1 / (1 + one.n_families) + 1e-12 for _, one in chosen)
            margin, suspect, teacher = max(
                (one.margin, suspect, one.teacher) for suspect, _, one in found if (one.teacher in TEACHERS) is named
            )
            yield (
                f"| {n} | {against} | {interval(n_called, len(chosen))} | {margin:.2f} ({suspect}, {teacher}) "
                f"| {interval(n_first, len(chosen))} |"
            )
    yield ""
    yield "The last column is what a rank alone would have called derived: somebody is always the nearest."
    yield ""


def weighed(hearing: Hearing, suspect: str) -> Iterator[tuple[str, str, Figures]]:
    """Suspect, word and figures of question B for every teacher.

    Permutations, which take most of the time, are left at one where the margin already forbids the word, so that no
    "derived" is missed; p is taken times the number of named teachers, which is no less than Holm.
    """
    for teacher in (*TEACHERS, *(name for name in FAMILY if FAMILY[name] != FAMILY[suspect])):
        kin = (FAMILY[suspect], FAMILY.get(teacher))
        families = {name: family for name, family in FAMILY.items() if family not in kin}

        def near(teacher: str = teacher, families: dict[str, str] = families, n: int = 1) -> list[Nearness]:
            return [
                nearness(
                    x,
                    hearing.models,
                    families,
                    suspect=suspect,
                    teacher=teacher,
                    view=view,
                    seed=SEED,
                    n_permutations=n,
                )
                for view, x in hearing.views.items()
            ]

        views = near()
        if min(view.margin for view in views) >= RULES.margin_derived_min:
            views = near(n=9999)
        one = Figures(
            teacher=teacher, n=hearing.n, families=families, equality=Equality(0.0, 1.0, 0), equality_e_log2=0.0,
            equality_anytime_p=1.0, equality_power=0.0, nearness=views,
        )  # fmt: skip
        adjusted = min(1.0, one.permutation_p * (len(TEACHERS) if teacher in TEACHERS else 1))
        yield suspect, derived(replace(one, holm_p=adjusted), RULES, stop_early=False).word, one


N_ROWS = 3

COLUMNS = (
    "suspect, teacher, by the cards, prompts, rank p, permutation p, margins, power at 5 10 20 50 %, derived?, same?"
)


def lineage(models: Models, start: int) -> Iterator[str]:
    """Question B where a public card names the teacher: the rows from `start` on, with the head before the first."""
    if not start:
        yield "## B. Derived? Suspects whose cards name a teacher"
        yield ""
        yield f"| {COLUMNS.replace(',', ' |')} |"
        yield "|---" * (COLUMNS.count(",") + 1) + "|"
    for suspect, teacher, what in LINEAGE[start : start + N_ROWS]:
        for n in (N_FEW, N_ALL):
            done = models.compare(suspect, teacher, n=n)
            one = done.figures[0]
            margins = ", ".join(f"{view.margin:.1f}" for view in one.nearness)
            power = ", ".join(f"{100 * value:.0f}" for value in one.power.values())
            yield (
                f"| {suspect} | {teacher} | {what} | {one.n} | {one.rank_p:.3f} | {one.permutation_p:.4f} | {margins} "
                f"| {power} % | {done.derived[0].word} | {done.same_model[0].word} |"
            )
    if start + N_ROWS >= len(LINEAGE):
        yield ""


UNIFORM = """## p-values under the null

True by construction: A, one model's answers split into two halves at random; B, teacher and control swapped at random
prompt by prompt. Kolmogorov-Smirnov distance from the uniform distribution.

| test | draws | KS distance | KS p | p <= 0.01 | p <= 0.05 |
|---|---|---|---|---|---|"""


def uniform(models: Models, n_draws: int) -> Iterator[str]:
    """p-values where the null holds by construction."""
    names = sorted(name for name in models.by_name if name != "NullModel")
    texts = texts_of(models, names, N_ALL)
    rng = np.random.default_rng(SEED)
    split, swapped = [], []
    for draw in range(n_draws):
        own = texts[names[draw % len(names)]]
        order = rng.permutation(len(own))[:200]
        halves = (read([own[at] for at in part]) for part in (order[:100], order[100:]))
        split.append(permutation_test(contrasts(*halves), seed=draw, n_permutations=999).p_value)
        gaps = gaps_of(texts, rng.choice(names, 3, replace=False).tolist()) * rng.choice([-1.0, 1.0], len(own))
        swapped.append(sign_flip_p(gaps[None], seed=draw, n_permutations=999))
    yield UNIFORM
    for name, found in (("A, equality", split), ("B, nearness", swapped)):
        # A permutation p has steps of 1/1000; spread over its step it is continuous, as the KS test wants it.
        test = kstest(np.array(found) - rng.random(len(found)) / 1000, "uniform")
        small = [interval(sum(p <= bar for p in found), len(found)) for bar in (0.01, 0.05)]
        yield f"| {name} | {len(found)} | {test.statistic:.3f} | {test.pvalue:.2f} | {small[0]} | {small[1]} |"
    yield ""


def gaps_of(texts: dict[str, list[str]], names: Sequence[str]) -> Floats:
    """By how much the second is nearer to the first than the third is, in shared words of the opening."""
    opened = [[set(text[:200].split()) for text in texts[name]] for name in names]

    def alike(a: set[str], b: set[str]) -> float:
        return len(a & b) / max(len(a | b), 1)

    return np.array([alike(x, y) - alike(x, z) for x, y, z in zip(*opened, strict=True)])


STOPPING = f"""## Early stopping

Labels swapped at random prompt by prompt, {N_FEW} prompts, a look after each: how often the wealth ever reached
1/alpha, which stopping there would have called a finding.

| bet | alpha 0.05 | alpha 0.01 | alpha 0.001 |
|---|---|---|---|"""


def stopping(models: Models, n_runs: int) -> Iterator[str]:
    """Looking after every prompt: false alarms where the null holds, and prompts needed where it does not."""
    names = sorted(name for name in models.by_name if name != "NullModel")
    texts = texts_of(models, names, N_FEW)
    rng = np.random.default_rng(SEED)
    highest: dict[str, list[float]] = {"A, equality": [], "B, nearness": []}
    for _ in range(n_runs // 100):
        chosen = rng.choice(names, 3, replace=False).tolist()
        pairs = contrasts(*(read(texts[name]) for name in chosen[:2]))
        gaps = gaps_of(texts, chosen)
        for _ in range(100):
            signs = rng.choice([-1.0, 1.0], len(pairs))
            scores = equality_scores(pairs * np.outer(signs, signs))
            highest["A, equality"].append(float(wealth_log2(payoffs(scores)).max()))
            highest["B, nearness"].append(float(wealth_log2(payoffs(gaps * signs)).max()))
    yield STOPPING
    for name, found in highest.items():
        cells = [interval(sum(e >= -np.log2(alpha) for e in found), len(found)) for alpha in (0.05, 0.01, 0.001)]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield "Prompts asked before the battery stopped by itself:"
    yield ""
    yield "| suspect | teacher | asked, of 805 | same? | derived? |"
    yield "|---|---|---|---|---|"
    for suspect, teacher in STOPPED:
        done = models.compare(suspect, teacher, n=N_ALL, stop_early=True)
        yield f"| {suspect} | {teacher} | {done.n_asked} | {done.same_model[0].word} | {done.derived[0].word} |"
    yield ""


STOPPED = (
    ("SPPO-Llama-3-Instruct-8B-PairRM", "Meta-Llama-3-8B-Instruct"),
    ("zephyr-7b-beta-ExPO", "zephyr-7b-beta"),
    ("alpaca-7b", "text_davinci_003"),
    ("vicuna-13b", "gpt-3.5-turbo-1106"),
    ("claude", "gpt4"),
    ("cohere", "gpt-3.5-turbo-1106"),
    ("vicuna-13b-v1.5", "vicuna-13b-v1.5-togetherai"),
)


PARTS: dict[str, Callable[[Models, int], Iterator[str]]] = {
    "equality": lambda models, _: equality_of_all(models),
    "accepted": lambda models, _: accepted(models),
    "unrelated": lambda models, _: unrelated(models),
    "heldout": lambda models, _: heldout(models),
    **{f"lineage {n}": lambda models, _, n=n: lineage(models, n) for n in range(0, len(LINEAGE), N_ROWS)},  # type: ignore[misc]
    "rivals": lambda models, _: rivals(models),
    "cleared": lambda models, _: cleared(models),
    "uniform": uniform,
    "stopping": lambda models, draws: stopping(models, 4 * draws),
    "swapped": swapped,
}
"""The parts, in the order of the page, from the models and the number of draws."""


def measured(name: str, draws: int) -> list[str]:
    """The lines of one part."""
    return list(PARTS[name](load(), draws))


def main() -> None:
    """Measure and print; `--write` also writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--only", help=f"one part: {', '.join(PARTS)}")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        "# Same model, derived model: fifty public models",
        "",
        f"Command: `python benchmarks/compare.py --draws {options.draws}`, all parts in one run.",
        f"{len(load().by_name)} models, at most {N_ALL} prompts, {len(set(FAMILY.values()))} families of controls.",
        "Counts have exact 95 % intervals.",
        "",
    ]
    chosen = [name for name in PARTS if options.only in (None, name)]
    with ProcessPoolExecutor(options.jobs) as pool:
        for part in pool.map(measured, chosen, [options.draws] * len(chosen)):
            lines += part
            if options.write:
                options.write.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
