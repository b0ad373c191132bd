"""marks: what a mark costs per step, how fast it is tested, whether its null holds, and what a biased one costs.

    python benchmarks/marks.py [--write benchmarks/marks.md]

Times are CPU seconds of this process on one thread, medians of runs that take turns, beside the peers of the same run:
the processors and detector of Hugging Face transformers (where torch is installed) and a plain NumPy detector. No model
weights are used: logits are drawn from a seed, and texts come from a made-up language whose next-token law depends on
the last token.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc
from scipy.stats import chisquare, kstest

from stillwatch.kernels.candidates import gumbel_choice
from stillwatch.kernels.prf import gumbel_sums, seeds, uniforms, window_word
from stillwatch.keys import Secret
from stillwatch.watermark.detector import p_log10, scores, uniform_p
from stillwatch.watermark.grams import Document, Grams, grams_of
from stillwatch.watermark.marker import Marker, had_before
from stillwatch.watermark.schemes import Mark, Name, Scheme

SEED = 20261121
SCHEMES: tuple[Name, ...] = ("gumbel", "kgw", "adfp")
VOCABULARY = 50_257
NONE = np.zeros(0, np.int64)

Floats = npt.NDArray[np.float64]


def secret(rng: np.random.Generator) -> Secret:
    """A key of 128 bits from the benchmark's seed."""
    return Secret(rng.bytes(16))


def mark(scheme: Scheme, rng: np.random.Generator) -> Mark:
    """A mark with keys of its own."""
    return Mark(scheme=scheme, keys={level: secret(rng) for level in scheme.levels()}, routing=secret(rng))


def words_of(key: Secret) -> npt.NDArray[np.uint64]:
    """A key as kernels read it."""
    return np.frombuffer(key.reveal(), "<u8").astype(np.uint64).reshape(1, 2)


def taken_in_turns(calls: dict[str, tuple[Callable[[], object], int]], rounds: int = 5) -> dict[str, float]:
    """Seconds of CPU a call, the median over rounds in which every call has its turn of so many repeats."""
    for call, _ in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (call, repeats) in calls.items():
            started = time.process_time()
            for _ in range(repeats):
                call()
            seconds[name].append((time.process_time() - started) / repeats)
    return {name: statistics.median(each) for name, each in seconds.items()}


# --- per step ---------------------------------------------------------------------------------------------


def steps() -> list[str]:
    """What one step costs beside the processors of transformers."""
    lines = ["## Per step, vocabulary 50,257, one thread, CPU milliseconds", ""]
    if not (find_spec("torch") and find_spec("transformers")):
        return [*lines, "Not measured: torch and transformers are not installed."]
    import torch
    import transformers

    from stillwatch.watermark.huggingface import MarkProcessor

    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    rows: dict[str, list[float]] = {}
    for n_rows in (1, 8):
        logits = torch.from_numpy(rng.normal(0, 3, (n_rows, VOCABULARY)).astype(np.float32))
        ids = torch.from_numpy(rng.integers(0, VOCABULARY, (n_rows, 200)))
        calls: dict[str, tuple[Callable[[], object], int]] = {
            "softmax and draw, no mark": (partial(_drawn, logits), 50)
        }
        for name in SCHEMES:
            one = MarkProcessor(mark(Scheme(name=name), rng))
            # Its prompt is the first token, and the rest has been generated.
            for at in range(1, ids.shape[1]):
                one(ids[:, :at], logits)
            calls[f"Stillwatch {name}, width 2"] = (partial(one, ids, logits), 50)
        two = MarkProcessor(mark(Scheme(split=(("provider", 0.5), ("account", 0.5))), rng))
        for at in range(1, ids.shape[1]):
            two(ids[:, :at], logits)
        calls["Stillwatch gumbel, provider and account"] = (partial(two, ids, logits), 50)
        for seeding, width, repeats in (("lefthash", 1, 20), ("selfhash", 4, 2)):
            peer = transformers.WatermarkLogitsProcessor(
                VOCABULARY, "cpu", greenlist_ratio=0.25, bias=2.0, seeding_scheme=seeding, context_width=width
            )
            calls[f"transformers KGW {seeding}"] = (partial(peer, ids, logits), repeats)
        synthid = transformers.SynthIDTextWatermarkLogitsProcessor(
            ngram_len=5, keys=list(range(1, 31)), sampling_table_size=2**16, sampling_table_seed=0,
            context_history_size=1024, device=torch.device("cpu"),
        )  # fmt: skip
        calls["transformers SynthID, 30 keys"] = (partial(synthid, ids, logits), 1)
        for called, seconds in taken_in_turns(calls).items():
            rows.setdefault(called, []).append(seconds * 1e3)
    lines += ["| | batch 1 | batch 8 | bar |", "|---|---|---|---|"]
    for called, (one_row, eight) in rows.items():
        bar = "<= 0.2 and <= 1" if called.startswith("Stillwatch") else ""
        lines.append(f"| {called} | {one_row:.3f} | {eight:.3f} | {bar} |")
    return [*lines, "", f"torch {torch.__version__}, transformers {transformers.__version__}; 64 candidates a row."]


def _drawn(logits: Any) -> object:
    import torch

    return torch.multinomial(torch.softmax(logits, -1), 1)


# --- detection --------------------------------------------------------------------------------------------


def numpy_detector(tokens: npt.NDArray[np.int64], key: int) -> float:
    """A plain NumPy Gumbel detector of width 2: unique rows by sorting, a chained 64-bit mixer, the Gamma tail."""
    packed = tokens[:-2].astype(np.uint64) << np.uint64(42) | tokens[1:-1].astype(np.uint64) << np.uint64(21)
    packed = np.unique(packed | tokens[2:].astype(np.uint64))
    x = packed ^ np.uint64(key)
    for _ in range(3):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = (x ^ (x >> np.uint64(31))) + np.uint64(key)
    u = ((x >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return float(gammaincc(len(u), -np.log1p(-u).sum()))


def detection() -> list[str]:
    """Tokens a second from token ids to p-value, deduplication included, and many keys at once."""
    rng = np.random.default_rng(SEED)
    tokens = np.minimum(rng.zipf(1.2, 2_000_000), VOCABULARY) - 1
    text = [Document(tokens, NONE)]
    key = words_of(secret(rng))

    def ours(name: Name) -> float:
        scheme = Scheme(name=name, width=2)
        grams = grams_of(text, width=2)
        return p_log10(float(scores(grams, key, scheme=scheme)[0]), len(grams), scheme=scheme)

    answered = [
        Document(tokens[at : at + 200], tokens[at - 100 : at]) for at in range(100, len(tokens) - 200, 200)
    ]  # each prompt is what stands before its answer: many of its windows come back

    def with_prompts(name: Name) -> float:
        scheme = Scheme(name=name, width=2)
        grams = grams_of(answered, width=2)
        return p_log10(float(scores(grams, key, scheme=scheme)[0]), len(grams), scheme=scheme)

    grams = grams_of(text, width=2)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "Stillwatch gumbel, ids to p": (lambda: ours("gumbel"), 1),
        "Stillwatch kgw, ids to p": (lambda: ours("kgw"), 1),
        "Stillwatch gumbel, ids to p, 10,000 answers with prompts": (lambda: with_prompts("gumbel"), 1),
        "Stillwatch kgw, ids to p, 10,000 answers with prompts": (lambda: with_prompts("kgw"), 1),
        "Stillwatch gumbel, each further key": (lambda: gumbel_sums(grams.packed, key, 2), 1),
        "plain NumPy gumbel, ids to p": (lambda: numpy_detector(tokens, 12345), 1),
    }
    speed = {name: len(tokens) / seconds for name, seconds in taken_in_turns(calls).items()}
    if find_spec("torch") and find_spec("transformers"):
        speed["transformers WatermarkDetector, lefthash"] = _peer(tokens[:3000])
    lines = [f"## Detection: {len(tokens):,} tokens, {len(grams):,} distinct pairs, one thread", ""]
    lines += ["| | million tokens a second and key | bar |", "|---|---|---|"]
    for name, rate in speed.items():
        lines.append(f"| {name} | {rate / 1e6:.4g} | {'>= 5' if name.startswith('Stillwatch') else ''} |")
    return [*lines, "", *_many_keys(rng)]


def _peer(tokens: npt.NDArray[np.int64]) -> float:
    import torch
    import transformers

    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_layer=1, n_head=1, n_embd=8)
    detector = transformers.WatermarkDetector(
        config, "cpu", {"greenlist_ratio": 0.25, "bias": 2.0, "seeding_scheme": "lefthash", "context_width": 1}
    )
    ids: Any = torch.from_numpy(tokens.astype(np.int64))[None]
    started = time.process_time()
    detector(ids)
    return len(tokens) / (time.process_time() - started)


def _many_keys(rng: np.random.Generator) -> list[str]:
    packed = np.unique(rng.integers(0, 2**63, 50_000, dtype=np.uint64))
    grams = Grams(packed, 2, len(packed), 0, 0)
    keys = rng.integers(0, 2**64, (10_000, 2), dtype=np.uint64)
    rows = ["| 10,000 keys over 50,000 distinct pairs, every window another, two threads | wall s | CPU s | bar |"]
    rows.append("|---|---|---|---|")
    for name in SCHEMES[:2]:
        wall, cpu = time.perf_counter(), time.process_time()
        scores(grams, keys, scheme=Scheme(name=name), threads=2)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.append(f"| {name} | {wall:.1f} | {cpu:.1f} | <= 60 wall |")
    return rows


# --- texts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Language:
    """Next-token laws by last token: candidates (c, 50), and their logits."""

    candidates: npt.NDArray[np.int64]
    logits: Floats

    @classmethod
    def make(cls, n_contexts: int, heat: float) -> Language:
        """A language of so many contexts; `heat` is the spread of logits, larger for more certain laws."""
        rng = np.random.default_rng(SEED)
        # Common tokens first, so that contexts recur as words do.
        candidates = np.stack([rng.choice(20_000, 50, replace=False, p=ZIPF) for _ in range(n_contexts)])
        return cls(candidates, rng.normal(0, heat, (n_contexts, 50)))

    def law(self, last: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Floats]:
        """Token ids and log probabilities (b, 50) after each last token."""
        at = last % len(self.candidates)
        logits = self.logits[at]
        top = logits.max(axis=1, keepdims=True)
        return self.candidates[at], logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


ZIPF = 1 / np.arange(1, 20_001)
ZIPF /= ZIPF.sum()


@dataclass
class Written:
    """Texts, and what their mark cost: nats of divergence and of surprise under the unmarked law, a token."""

    texts: npt.NDArray[np.int64]
    divergence: float = 0.0
    surprise: float = 0.0
    entropy: float = 0.0

    def documents(self) -> list[Document]:
        """As the detector takes them."""
        return [Document(row, NONE) for row in self.texts]


def write(language: Language, one: Mark | None, *, n_texts: int, n_tokens: int, seed: int) -> Written:
    """Texts of the language, marked or not, with the real marker; a batch of texts step by step."""
    rng = np.random.default_rng(seed)
    texts = np.zeros((n_texts, n_tokens), np.int64)
    texts[:, 0] = rng.integers(0, 20_000, n_texts)
    marker = Marker([one] * n_texts) if one is not None else None
    out = Written(texts)
    for at in range(1, n_tokens):
        ids, law = language.law(texts[:, at - 1])
        fresh = rng.integers(0, 2**64, n_texts, dtype=np.uint64)
        moved = law
        if marker is not None and at >= marker.scheme.width:
            every = np.arange(n_texts)
            keyed = marker.seeds(texts[:, at - marker.scheme.width : at], every)
            if marker.scheme.name == "gumbel":
                fresh = np.where(had_before(texts[:, :at], marker.scheme.width), fresh, keyed)
            else:
                moved = law + marker.bias(law, ids, keyed, law)
                moved = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
        texts[:, at] = gumbel_choice(moved, ids, fresh)
        drawn = np.take_along_axis(law, np.argmax(ids == texts[:, at : at + 1], axis=1)[:, None], axis=1)
        out.divergence += float((np.exp(moved) * (moved - law)).sum(axis=1).mean()) / n_tokens
        out.surprise -= float(drawn.mean()) / n_tokens
        out.entropy -= float((np.exp(law) * law).sum(axis=1).mean()) / n_tokens
    return out


# --- the null ---------------------------------------------------------------------------------------------


def null() -> list[str]:
    """Randomised p-values of 1,000 wrong keys on one text, with deduplication and without; correlations of keys."""
    rng = np.random.default_rng(SEED)
    right = mark(Scheme(width=2), rng)
    wrong = rng.integers(0, 2**64, (1000, 2), dtype=np.uint64)
    texts = write(Language.make(300, 2.5), right, n_texts=200, n_tokens=300, seed=1).documents()
    lines = ["## Null: 1,000 wrong keys on one marked text of 60,000 tokens full of repeats", ""]
    lines += ["| scheme, width | pairs | counted | KS p | below 0.01 | least p | right key log10 p |"]
    lines.append("|---|---|---|---|---|---|---|")
    for scheme in (Scheme(width=1), Scheme(width=2), Scheme(name="kgw", width=1), Scheme(name="kgw", width=2)):
        for once in (True, False):
            grams = grams_of(texts, width=scheme.width, deduplicate=once)
            p = uniform_p(scores(grams, wrong, scheme=scheme), len(grams), scheme=scheme, seed=2)
            mine = scores(grams, words_of(right.keys["provider"]), scheme=scheme)[0]
            carried = f"{p_log10(mine, len(grams), scheme=scheme):.1f}" if scheme == right.scheme else ""
            lines.append(
                f"| {scheme.name}, {scheme.width} | {len(grams):,} | {'once' if once else 'every time (invalid)'} | "
                f"{kstest(p, 'uniform').pvalue:.2g} | {(p < 0.01).mean():.1%} | {p.min():.1e} | {carried} |"
            )
    return [*lines, "", *_correlations(rng)]


def _correlations(rng: np.random.Generator) -> list[str]:
    n = 250_000
    word = window_word(rng.integers(0, VOCABULARY, (n, 2)))
    tokens = rng.integers(0, VOCABULARY, n)

    def of(key: npt.NDArray[np.uint64]) -> Floats:
        score = -np.log1p(-uniforms(seeds(word, key), tokens))
        return np.asarray((score - score.mean()) / score.std())

    lines = [f"| 1,000 pairs of keys, {n:,} pairs of tokens | s.d. of the correlation | largest | ideal s.d. |"]
    lines.append("|---|---|---|---|")
    for name in ("keys drawn apart", "keys one bit apart", "consecutive keys"):
        found = []
        for at in range(1000):
            key = rng.integers(0, 2**64, 2, dtype=np.uint64)
            near = {
                "keys drawn apart": rng.integers(0, 2**64, 2, dtype=np.uint64),
                "keys one bit apart": key ^ np.array([1 << at % 64, 0], np.uint64),
                "consecutive keys": key + np.array([1, 0], np.uint64),
            }[name]
            found.append(float(of(key) @ of(near)) / n)
        spread, most = np.std(found), np.abs(found).max()
        lines.append(f"| {name} | {spread:.5f} | {most:.4f} | {1 / np.sqrt(n):.5f} |")
    return lines


# --- the law ----------------------------------------------------------------------------------------------


def law() -> list[str]:
    """A million draws against the law the model gave: chi-square."""
    rng = np.random.default_rng(SEED)
    n, k = 1_000_000, 50
    logits = np.sort(rng.normal(0, 2, k))[::-1]
    expected = np.exp(logits) / np.exp(logits).sum()
    ids = rng.choice(VOCABULARY, k, replace=False)
    lines = ["## Law of the next token over 1,000,000 windows (top 50 of a drawn law)", ""]
    lines += ["| mark | chi-square, 49 degrees | p | largest share off by |", "|---|---|---|---|"]
    for name, scheme in (
        ("gumbel, one key", Scheme()),
        ("gumbel, width 1", Scheme(width=1)),
        ("gumbel, provider and account", Scheme(split=(("provider", 0.5), ("account", 0.5)))),
    ):
        marker = Marker([mark(scheme, rng)])
        # Distinct windows: all that an answer may use.
        codes = rng.permutation(2_000_000)[:n]
        windows = codes[:, None] if scheme.width == 1 else np.stack([codes % 2000, codes // 2000], axis=1)
        keyed = marker.seeds(windows, np.zeros(n, np.int64))
        drawn = np.zeros(k)
        for start in range(0, n, 10_000):
            part = keyed[start : start + 10_000]
            token = gumbel_choice(np.tile(logits, (len(part), 1)), np.tile(ids, (len(part), 1)), part)
            drawn += (token[:, None] == ids).sum(axis=0)
        test = chisquare(drawn, expected * n)
        off = np.abs(drawn / n - expected).max()
        lines.append(f"| {name} | {test.statistic:.1f} | {test.pvalue:.2f} | {off:.5f} |")
    return lines


# --- cost and power ---------------------------------------------------------------------------------------


def cost() -> list[str]:
    """What each mark costs a reader and what it shows in one answer of 200 tokens."""
    language = Language.make(4000, 2.0)
    lines = ["## Cost and power: 400 answers of 200 tokens each, tested one by one", ""]
    lines += [
        "| mark | KL, nats a token | more surprise, nats a token | distinct triples | median log10 p | found at 1e-6 |",
        "|---|---|---|---|---|---|",
    ]
    plain = write(language, None, n_texts=400, n_tokens=200, seed=3)
    lines.append(f"| none | 0 | {plain.surprise - plain.entropy:+.4f} | {_distinct(plain)} | | |")
    cases: Sequence[tuple[Name, dict[str, Any]]] = [
        ("gumbel", {"width": 1}), ("gumbel", {"width": 2}),
        *(("kgw", {"width": 2, "delta": delta}) for delta in (0.5, 1.0, 2.0, 4.0)),
        *(("adfp", {"width": 2, "delta": delta}) for delta in (2.0, 5.0, 10.0, 20.0)),
    ]  # fmt: skip
    for name, options in cases:
        scheme = Scheme(name=name, **options)
        one = mark(scheme, np.random.default_rng(SEED))
        made = write(language, one, n_texts=400, n_tokens=200, seed=4)
        p = []
        for document in made.documents():
            grams = grams_of([document], width=scheme.width)
            scored = scores(grams, words_of(one.keys["provider"]), scheme=scheme)
            p.append(p_log10(scored[0], len(grams), scheme=scheme))
        found = int((np.array(p) <= -6).sum())
        said = f"{name}, width {scheme.width}" + ("" if name == "gumbel" else f", delta {scheme.delta:g}")
        more = made.surprise - made.entropy
        shown = f"{_distinct(made)} | {np.median(p):.1f} | {found} of 400"
        lines.append(f"| {said} | {made.divergence:.4f} | {more:+.4f} | {shown} |")
    lines += [
        "",
        f"KL: of the marked law from the unmarked one, whose entropy is {plain.entropy:.2f} nats. Surprise: of the "
        "answers under the unmarked law, less its entropy; its noise is a few hundredths, more where answers share "
        "windows. Distinct triples: of tokens, over all answers. The law of `gumbel` is unchanged within an answer and "
        "over keys, but all answers here carry one key: a window that recurs from answer to answer gets the same "
        "noise, and answers resemble one another. Here the law depends on the last token alone, so that a window all "
        "but settles the token: the worst case. Keys by account and by epoch spread it. A model that is surer of its "
        "words carries less mark at the same cost.",
    ]
    return lines


def _distinct(made: Written) -> str:
    grams = grams_of(made.documents(), width=2)
    return f"{len(grams) / (len(grams) + grams.n_repeated):.1%}"


def main() -> None:
    """Measure all of it and print it; `--write` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        "# Marks: cost, speed, null and law",
        "",
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}; "
        f"seed {SEED}; command: `python benchmarks/marks.py --write benchmarks/marks.md`. No model weights: logits are "
        "drawn, texts come from a made-up language. Figures on real models will differ, those of cost and power most.",
    ]
    for section in (steps, detection, null, law, cost):
        lines += ["", *section()]
        print("\n".join(lines[-20:]), flush=True)
    if options.write:
        options.write.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
