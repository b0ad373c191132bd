from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from stillwatch.audit.dataset import Dataset
from stillwatch.audit.matching import (
    NULL_OTHER,
    NULL_SAME_PROMPT,
    NULL_WHOLE,
    Match,
    Rows,
    Share,
    begins,
    beyond,
    is_finding,
    is_lead,
    match_rows,
    smallest_share,
    weigh_match,
)
from stillwatch.audit.registry import Registry
from stillwatch.kernels.winnow import fingerprint
from tests.audit.making import KEY, ROOT, answers, registry_of, write_rows

N, N_PLANTED = 2000, 10


def matched(texts: list[str], registry: Registry, *, prompts: list[str] | None = None) -> tuple[Rows, Match]:
    asked = None if prompts is None else pa.array(prompts)
    rows = match_rows(fingerprint(pa.array(texts), KEY, prompt=asked), registry)
    return rows, weigh_match(registry, rows)


def reworded(text: str) -> str:
    words = text.split()
    return " ".join("changed" if at % 12 == 5 else word for at, word in enumerate(words))


EDITS: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "trimmed": lambda text: " ".join(text.split()[:64]),
    "re-cased": str.upper,
    "re-wrapped": lambda text: text.replace(" ", "\n\t "),
    "one word in twelve": reworded,
}


@pytest.mark.parametrize("edit", EDITS)
def test_half_a_percent_of_copies_is_measured_within_two_tenths(edit: str) -> None:
    """Of 2,000 rows 10 are copies, edited: the share comes out within 0.2 points, and it is a finding."""
    theirs = answers(300, seed=1)
    rows = answers(N - N_PLANTED, seed=2) + [EDITS[edit](text) for text in theirs[:N_PLANTED]]
    _, match = matched(rows, registry_of(theirs))
    assert abs(100 * match.share.value - 0.5) <= 0.2
    assert is_finding(match, n_registries=1)


def test_without_copies_there_is_no_finding() -> None:
    """2,000 rows of the same language and none of the registered ones give no copy and no finding."""
    _, match = matched(answers(N, seed=2), registry_of(answers(300, seed=1)))
    assert match.share.n == 0 and not is_finding(match, n_registries=1)
    assert match.p_log10 == 0.0 and match.smallest_share < 0.006


def test_a_copy_inside_a_longer_answer_is_found_and_a_short_quotation_is_not() -> None:
    """80 copied words among 200 make a copy; 40 words quoted in a text of 4,000 do not."""
    theirs, own = answers(1, seed=1)[0], answers(1, seed=2, n_words=4000)[0]
    rows, _ = matched([f"{own[:600]} {theirs} {own[600:1200]}", f"{own} {theirs[:240]}"], registry_of([theirs]))
    assert rows.copied.tolist() == [True, False]


def test_a_short_answer_is_never_judged() -> None:
    """Seven words say too little, even where they are the same; they are counted as too short."""
    text = " ".join(answers(1, seed=1)[0].split()[:7])
    _, match = matched([text], registry_of([text]))
    assert (match.share.total, match.n_too_short, match.share.n) == (0, 1, 0)


def test_equal_rows_are_tested_once() -> None:
    """One copied row repeated a thousand times is a share of half the rows, and no finding."""
    theirs = answers(20, seed=1)
    _, match = matched(answers(1000, seed=2) + theirs[:1] * 1000, registry_of(theirs))
    assert match.share.n == 1000 and match.n_distinct == 1
    assert not is_finding(match, n_registries=1)


def test_the_same_prompts_raise_the_null() -> None:
    """As many copies mean less where the prompts were the same: other models then agree by themselves."""
    theirs, prompts = answers(200, seed=1), [f"Question {at} of the same list?" for at in range(200)]
    rows = theirs[:5] + answers(195, seed=2)
    registry = registry_of(theirs, prompts=prompts)
    _, same = matched(rows, registry, prompts=prompts)
    _, other = matched(rows, registry, prompts=[f"Another {at}" for at in range(200)])
    assert (same.n_same_prompt, other.n_same_prompt) == (200, 0)
    assert same.expected == pytest.approx(200 * NULL_SAME_PROMPT) and not is_finding(same, n_registries=1)
    assert other.expected == pytest.approx(200 * NULL_WHOLE) and is_finding(other, n_registries=1)


@pytest.mark.parametrize("prompt", [None, "### Instruction:\nQuestion {}?\n### Response:"])
def test_agreement_in_part_is_no_finding_where_the_prompts_may_be_the_same(prompt: str | None) -> None:
    """Answers that share a passage with ours are a lead where the prompt is missing or in a template, not a finding."""
    theirs, own = answers(100, seed=1, n_words=200), answers(400, seed=2, n_words=200)
    asked = [f"Question {at}?" for at in range(100)]
    registry = registry_of(theirs, prompts=asked)
    agreeing = [f"{mine} {' '.join(ours.split()[:60])}" for mine, ours in zip(own[:12], theirs, strict=False)]
    rows = agreeing + own[12:]
    prompts = None if prompt is None else [prompt.format(at) for at in range(len(rows))]
    found, match = matched(rows, registry, prompts=prompts)
    assert found.copied.sum() == 12 and not found.whole.any()
    assert not is_finding(match, n_registries=1) and is_lead(match, n_registries=1)
    _, copied = matched(theirs[:12] + own[12:], registry, prompts=prompts)
    assert is_finding(copied, n_registries=1) and not is_lead(copied, n_registries=1)


def test_a_control_with_other_prompts_does_not_stand_in() -> None:
    """Answers to other prompts say nothing of how often answers to the same prompts agree."""
    theirs, asked = answers(200, seed=1), [f"Question {at}?" for at in range(200)]
    registry = registry_of(theirs, prompts=asked)
    rows, _ = matched(theirs[:8] + answers(192, seed=2), registry, prompts=asked)
    strangers, _ = matched(answers(2000, seed=3), registry, prompts=[f"Else {at}?" for at in range(2000)])
    same, _ = matched(answers(2000, seed=4), registry, prompts=asked * 10)
    assert not is_finding(weigh_match(registry, rows, control=strangers), n_registries=1)
    assert is_finding(weigh_match(registry, rows, control=same), n_registries=1)


def test_a_control_stands_in_for_the_null() -> None:
    """With a control the p is Fisher's: what the control copies as well is no finding."""
    theirs = answers(100, seed=1)
    registry = registry_of(theirs)
    rows, _ = matched(theirs[:10] + answers(190, seed=2), registry)
    alike, _ = matched(theirs[10:20] + answers(190, seed=3), registry)
    clean, _ = matched(answers(200, seed=4), registry)
    table = [[10, 190], [0, 200]]
    match = weigh_match(registry, rows, control=clean)
    assert 10**match.p_log10 == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    assert is_finding(match, n_registries=1)
    assert not is_finding(weigh_match(registry, rows, control=alike), n_registries=1)
    # Ten of 200 against none is a finding, seven would not be: the share said to be needed lies above that bar.
    assert match.smallest_share > 8 / 200
    assert weigh_match(registry, rows, control=matched(answers(1, seed=5), registry)[0]).smallest_share == 1.0


def test_a_filter_that_is_full_makes_no_findings() -> None:
    """In a filter that finds nearly everything nothing is called a copy."""
    registry = Registry.empty("tiny", key=ROOT, memory_bytes=4096)
    registry.add(fingerprint(pa.array(answers(500, seed=1)), KEY))
    assert registry.held.false_positive_rate() > 0.9
    _, match = matched(answers(200, seed=2), registry)
    assert match.share.n == 0


@pytest.mark.parametrize(("found", "same", "other"), list(product((0, 1, 3), (0, 5), (0, 7))))
def test_the_tail_is_that_of_two_binomials(found: int, same: int, other: int) -> None:
    """The exact tail equals the sum over all pairs of counts."""
    expected = sum(
        stats.binom.pmf(x, same, NULL_SAME_PROMPT) * stats.binom.pmf(y, other, NULL_OTHER)
        for x, y in product(range(same + 1), range(other + 1))
        if x + y >= found
    )
    assert beyond(found, stats.binom(same, NULL_SAME_PROMPT), stats.binom(other, NULL_OTHER)) == pytest.approx(
        expected, rel=1e-9, abs=1e-300
    )


def test_the_interval_is_exact() -> None:
    """Clopper and Pearson's bounds are where the binomial tails are 2.5 %."""
    low, high = Share(7, 200).interval
    assert stats.binom.sf(6, 200, low) == pytest.approx(0.025) and stats.binom.cdf(7, 200, high) == pytest.approx(0.025)
    assert Share(0, 0).interval == (0.0, 1.0) and Share(0, 10).interval[0] == 0.0 and Share(10, 10).interval[1] == 1.0


def test_the_smallest_share_is_one_that_is_found() -> None:
    """With copies at the stated smallest share nine draws in ten, or more, reach the bar."""
    n, alpha = 5000, 1e-3
    expected = n * NULL_OTHER
    share = smallest_share(n, expected, int(stats.poisson.isf(alpha, expected)) + 1)
    drawn = np.random.default_rng(1).binomial(n, share + NULL_OTHER, 4000)
    p = np.array([stats.binom.sf(k - 1, n, NULL_OTHER) for k in range(drawn.max() + 1)])[drawn]
    assert 0.86 <= (p <= alpha).mean() <= 1.0
    assert smallest_share(0, 0.0, 1) == 1.0


def test_a_copy_is_found_wherever_it_stands_in_a_conversation(tmp_path: Path) -> None:
    """An answer copied into a row of three counts that row once, at its own place; its neighbours do not hide it."""
    theirs, own = answers(40, seed=1), answers(800, seed=2)
    registry = registry_of(theirs)

    def row(*said: str) -> dict[str, list[dict[str, str]]]:
        turns = [("user", "Go on with it, please?"), ("assistant", "")]
        return {"messages": [{"role": who, "content": text or one} for one in said for who, text in turns]}

    rows = [row(*own[4 * at : 4 * at + 4]) for at in range(200)]
    for at in range(10):
        rows[at] = row(own[4 * at], theirs[2 * at], own[4 * at + 1])
        rows[at + 20] = row(theirs[2 * at], theirs[2 * at + 1])
    parts = [
        match_rows(fingerprint(batch["answer"], KEY, prompt=batch["prompt"]), registry, first=begins(batch))
        for batch in Dataset([write_rows(tmp_path / "rows.jsonl", rows)]).batches()
    ]
    match = weigh_match(registry, Rows.joined(parts))
    assert (match.share.n, match.share.total, match.n_rows) == (20, 200, 200)
    assert match.n_distinct == 20 and match.n_answers == 770 and is_finding(match, n_registries=1)


def test_a_stock_phrase_is_no_copy() -> None:
    """A short answer in three rows that differ else is said by everybody; equal rows, and long answers, still count."""
    courtesy = "You are welcome, and do let me know should you need anything else from me today"
    long = answers(1, seed=3)[0]
    registry = registry_of([courtesy, long])
    own = answers(30, seed=4)

    def judged(rows: list[list[str]]) -> Rows:
        texts = [text for row in rows for text in row]
        first = np.array([at == 0 for row in rows for at in range(len(row))])
        return match_rows(fingerprint(pa.array(texts, pa.large_string()), KEY), registry, first=first)

    def share(rows: list[list[str]]) -> int:
        return weigh_match(registry, judged(rows)).share.n

    assert share([[text, courtesy] for text in own]) == 0
    assert share([[text, long] for text in own]) == 30
    assert share([[own[0], courtesy]] * 30) == 30
    assert share([[text, courtesy] for text in own[:2]]) == 2


@pytest.mark.parametrize("n_found", [0, 1, 3, 7])
def test_the_sum_of_counts_has_its_exact_law(n_found: int) -> None:
    """Of three independent counts the probability of so many together, against the sum over all of them."""
    laws = stats.binom(5, 0.3), stats.binom(4, 0.1), stats.hypergeom(20, 5, 3)
    exact = sum(
        laws[0].pmf(i) * laws[1].pmf(j) * laws[2].pmf(k)
        for i in range(6) for j in range(5) for k in range(4) if i + j + k >= n_found
    )  # fmt: skip
    assert beyond(n_found, *laws) == pytest.approx(exact)
