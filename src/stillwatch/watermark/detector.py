"""detector: which keys a text carries: exact p-values, decoy keys on the same text, a base model, one family of tests.

A key that had no part in a text scores its distinct (window, token) pairs as independent draws, so its p-value is exact
whatever the text is. A small one says that the text, or what a model was trained on, carries the key: not who put it
there. What defeats it: a paraphrase of every sentence, translation, or an adversary who knows the scheme and unlearns
it. It finds careless to medium-effort distillers and prevents nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv
from scipy.stats import kstest

from stillwatch.errors import InputError
from stillwatch.kernels.columns import U64
from stillwatch.kernels.evalues import conformal_p
from stillwatch.kernels.prf import green_counts, gumbel_sums
from stillwatch.keys import Secret
from stillwatch.watermark.grams import Grams
from stillwatch.watermark.keys import MarkKey, key_words
from stillwatch.watermark.schemes import Scheme
from stillwatch.watermark.tails import (
    benjamini_hochberg,
    binomial_p_log10,
    gamma_p_log10,
    holm,
    larger_mean_p_log10,
    larger_share_p_log10,
)

Floats = npt.NDArray[np.float64]

KEYS_AT_ONCE, PAIRS_AT_ONCE = 64, 20_000_000
"""Keys, and keys times pairs, that a thread scores before it reports progress and heeds an interrupt: some seconds."""

NULL_KS_MIN = 1e-4
"""Below this Kolmogorov-Smirnov p-value of the decoys the null does not hold on a text, and nothing is found in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One text as one tokenizer reads it, and one of a model that cannot have learned from us, where there is one."""

    name: str
    tokenizer: str
    grams: Grams
    base: Grams | None = None
    tokenizer_sha256: str | None = None
    """Of the tokenizer's file, where text was read with one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One key against one text. Every p is log10; None where there was nothing to measure it with."""

    text: str
    tokenizer: str
    key: MarkKey
    n: int
    score: float
    effect: float
    lo: float
    hi: float
    p_log10: float
    holm_log10: float = 0.0
    bh_log10: float = 0.0
    n_decoys: int = 0
    n_decoys_as_high: int = 0
    decoy_p: float | None = None
    null_ks_p: float | None = None
    base_n: int | None = None
    base_p_log10: float | None = None
    beyond_base_p_log10: float | None = None
    least_effect: float | None = None
    """The smallest mean score of so many pairs that counts as found by Holm's first step among so many tests.

    It is of the text, not of what marked it: of texts marked just so strongly about half score higher."""
    verdict: str = "not found"
    decoy_scores: Floats | None = None


def detect(
    suspects: Sequence[Suspect],
    keys: Sequence[MarkKey],
    *,
    scheme: Scheme,
    routing: Secret,
    decoys: U64,
    alpha: float = 0.001,
    threads: int = 2,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Test every key against every text, as one family.

    Args:
        keys: of any levels that `scheme.split` names; a key is tested on the windows of its own level.
        decoys: keys (n, 2) never used, scored on the same pairs: their rank and whether the null holds.
        alpha: a mark is found where Holm's adjusted p is at most this, no decoy scores as high, the null holds on the
            text, and, where there is a base model, the suspect goes beyond it at `alpha` too.

    Raises:
        InputError: no text, no key, or a key of a level that the scheme does not mark at.

    Cost: keys and decoys times distinct pairs, 2 to 15 ns each, over `threads`.
    """
    if not (suspects and keys):
        raise InputError("there is nothing to test", got=f"{len(suspects)} texts, {len(keys)} keys")
    strangers = {key.label.level for key in keys} - set(scheme.levels())
    if strangers:
        raise InputError(
            f"the scheme marks no windows by {', '.join(sorted(strangers))}",
            expected=f"keys of {', '.join(scheme.levels())}",
            do="Name the split the texts were marked with: --split provider=0.5,account=0.5",
        )
    done, total = 0, len(suspects) * sum(_tested(keys, level, decoys) for level in scheme.levels())

    def step(n_keys: int) -> None:
        nonlocal done
        done += n_keys
        on_progress(done, total)

    router = key_words([routing])[0]
    found: list[Finding] = []
    for suspect in suspects:
        layer = scheme.level_of(suspect.grams.windows(), router)
        control = suspect.base
        base_layer = scheme.level_of(control.windows(), router) if control is not None else None
        for at, level in enumerate(scheme.levels()):
            # In the order of their ids: that of the caller's list would tell whose is whose.
            mine = sorted((key for key in keys if key.label.level == level), key=lambda key: key.key_id)
            if mine:
                grams = suspect.grams.where(layer == at)
                base = control.where(base_layer == at) if control is not None and base_layer is not None else None
                found += _tests(replace(suspect, grams=grams, base=base), mine, scheme, decoys, threads, step)
    return _judged(found, alpha, scheme)


def scores(
    grams: Grams, keys: U64, *, scheme: Scheme, threads: int = 1, step: Callable[[int], None] = lambda n_keys: None
) -> Floats:
    """The score of each key (k, 2) on the pairs: a Gumbel sum, or how many are green."""
    at_once = min(max(PAIRS_AT_ONCE // max(len(grams), 1), 1), KEYS_AT_ONCE)
    chunks = [keys[at : at + at_once] for at in range(0, len(keys), at_once)]

    def of(chunk: U64) -> Floats:
        if scheme.name == "gumbel":
            return gumbel_sums(grams.packed, chunk, grams.width)
        return green_counts(grams.packed, chunk, grams.width, scheme.gamma).astype(np.float64)

    parts: list[Floats] = []
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(of, chunks):
            parts.append(part)
            step(len(part))
    return np.concatenate(parts) if parts else np.zeros(0)


def p_log10(score: float, n: int, *, scheme: Scheme) -> float:
    """log10 of the exact p-value of one score over n distinct pairs."""
    if scheme.name == "gumbel":
        return gamma_p_log10(score, n)
    return binomial_p_log10(int(score), n, scheme.gamma)


def uniform_p(scored: Floats, n: int, *, scheme: Scheme, seed: int) -> Floats:
    """p-values that are exactly uniform under the null: those of counts are spread over their steps at random."""
    p = np.array([10 ** p_log10(score, n, scheme=scheme) for score in scored])
    if scheme.name == "gumbel":
        return p
    above = np.array([10 ** p_log10(score + 1, n, scheme=scheme) if score < n else 0.0 for score in scored])
    spread = np.random.default_rng(seed)
    return np.asarray(above + spread.random(len(p)) * (p - above))


def least_effect(n: int, *, scheme: Scheme, bar_log10: float) -> float | None:
    """The smallest mean score of n pairs whose p is at most the bar; None where no score of so few pairs is.

    It bounds what was seen, not what is there: a mark of just this effect is found about every second time.
    """
    least, most = (0, n) if scheme.name != "gumbel" else (0, n + int(10 * n**0.5 - 10 * bar_log10) + 10)
    if n == 0 or p_log10(most, n, scheme=scheme) > bar_log10:
        return None
    # Whole scores are fine enough, and for counts all there is.
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if p_log10(middle, n, scheme=scheme) <= bar_log10 else (middle, most)
    return most / n


def _tested(keys: Sequence[MarkKey], level: str, decoys: U64) -> int:
    mine = sum(key.label.level == level for key in keys)
    return mine + len(decoys) if mine else 0


def _tests(
    suspect: Suspect, keys: list[MarkKey], scheme: Scheme, decoys: U64, threads: int, step: Callable[[int], None]
) -> list[Finding]:
    n = len(suspect.grams)
    words = key_words([key.secret for key in keys])
    every = np.concatenate([words, decoys])
    scored = scores(suspect.grams, every, scheme=scheme, threads=threads, step=step)
    mine, null = scored[: len(keys)], scored[len(keys) :]
    ranked = conformal_p(mine, null)
    ks = float(kstest(uniform_p(null, n, scheme=scheme, seed=0), "uniform").pvalue) if len(null) and n else None
    base = suspect.base
    on_base = scores(base, words, scheme=scheme, threads=threads) if base is not None else None
    found = []
    for at, key in enumerate(keys):
        score = float(mine[at])
        effect, lo, hi = _effect(score, n, scheme)
        finding = Finding(
            text=suspect.name, tokenizer=suspect.tokenizer, key=key, n=n, score=score, effect=effect, lo=lo, hi=hi,
            p_log10=p_log10(score, n, scheme=scheme), null_ks_p=ks,
        )  # fmt: skip
        if len(null):
            as_high = int((null >= score).sum())
            finding = replace(
                finding, n_decoys=len(null), n_decoys_as_high=as_high, decoy_p=float(ranked[at]), decoy_scores=null
            )
        if base is not None and on_base is not None:
            finding = _against(finding, float(on_base[at]), len(base), scheme)
        found.append(finding)
    return found


def _against(finding: Finding, control: float, n_control: int, scheme: Scheme) -> Finding:
    if scheme.name == "gumbel":
        beyond = larger_mean_p_log10(finding.score, finding.n, control, n_control)
    else:
        beyond = larger_share_p_log10(int(finding.score), finding.n, int(control), n_control)
    alone = p_log10(control, n_control, scheme=scheme)
    return replace(finding, base_n=n_control, base_p_log10=alone, beyond_base_p_log10=beyond)


def _effect(score: float, n: int, scheme: Scheme) -> tuple[float, float, float]:
    """The mean score of a pair with its exact 95 % interval (chi-square; Clopper and Pearson 1934)."""
    if n == 0:
        return float("nan"), float("nan"), float("nan")
    if scheme.name == "gumbel":
        return score / n, score / float(gammaincinv(n, 0.975)), score / float(gammaincinv(n, 0.025))
    lo = float(betaincinv(score, n - score + 1, 0.025)) if score > 0 else 0.0
    hi = float(betaincinv(score + 1, n - score, 0.975)) if score < n else 1.0
    return score / n, lo, hi


def _judged(found: list[Finding], alpha: float, scheme: Scheme) -> list[Finding]:
    p = [one.p_log10 for one in found]
    bar = float(np.log10(alpha))
    alone = bar - float(np.log10(len(found)))
    least = {n: least_effect(n, scheme=scheme, bar_log10=alone) for n in {one.n for one in found}}
    judged = []
    for one, held, discovered in zip(found, holm(p), benjamini_hochberg(p), strict=True):
        sure = held <= bar and one.n_decoys_as_high == 0
        beyond = one.beyond_base_p_log10 is None or one.beyond_base_p_log10 <= bar
        broken = one.null_ks_p is not None and one.null_ks_p < NULL_KS_MIN
        # Without decoys nothing shows that the null holds; without pairs nothing was tested.
        unknown = one.n == 0 or broken or (sure and not (beyond and one.n_decoys))
        verdict = "cannot tell" if unknown else "found" if sure else "not found"
        judged.append(
            replace(one, holm_log10=float(held), bh_log10=float(discovered), verdict=verdict, least_effect=least[one.n])
        )
    return judged
