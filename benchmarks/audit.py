"""audit: what the audit and the registry find, how often they are wrong, and how fast they are.

    python benchmarks/audit.py [--only PART ...] [--write benchmarks/audit.md]

With `--only`, `--write` puts the parts taken in the place of the old ones.

Answers of public models to one set of prompts (`STILLWATCH_SHARED/data/model_outputs`; for measuring only) stand for
real text. Peers that are installed (rensa, datasketch) do the same work in the same run, on one thread, in CPU time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.audit.dataset import Dataset
from stillwatch.audit.identity import leaks
from stillwatch.audit.marks import MarkSearch, Pool, look_for_marks
from stillwatch.audit.matching import Match, Rows, begins, is_finding, is_lead, match_rows, weigh_match
from stillwatch.audit.registry import Registry, fill, match_key, printed
from stillwatch.audit.shapes import ROWS
from stillwatch.audit.written import Sample, estimate_written
from stillwatch.journal import Journal
from stillwatch.kernels.bloom import BLOCK_BYTES, BlockedBloom
from stillwatch.kernels.winnow import Prints, fingerprint
from stillwatch.keys import RootKey, Secret
from stillwatch.watermark.keys import KeyRing, Label
from stillwatch.watermark.schemes import Scheme
from stillwatch.watermark.texts import load_tokenizer

ROOT = RootKey(Secret(bytes(range(32))))
KEY = match_key(ROOT)
TEXT = pa.large_string()
BAR_MB_S, BAR_POINTS = 20.0, 0.2
N_ROWS, N_SEEDS = 4000, 10
SPANS = (8, 13, 20, 30)

FAMILIES = (
    "claude claude-instant-1.2",
    "llama-2-7b-chat-hf llama-2-13b-chat-hf",
    "falcon-7b-instruct falcon-40b-instruct",
    "Mistral-7B-Instruct-v0.2 mistral-large-2402",
    "gemini-pro gemma-7b-it",
    "Yi-34B-Chat yi-large-preview",
    *"cohere jina-chat chatglm2-6b baichuan-13b-chat Qwen-14B-Chat deepseek-llm-67b-chat dbrx-instruct".split(),
    "internlm2-chat-20b-ppo",
    "gpt4_0314",
)
"""Models without a stated teacher among the others, those of one maker together."""

KIN = (
    ("gpt4_0314", "gpt4", "alias"),
    ("vicuna-13b-v1.5", "vicuna-13b-v1.5-togetherai", "same model, other host"),
    ("zephyr-7b-beta", "zephyr-7b-beta-ExPO", "weight edit"),
    ("gpt4_0314", "OpenHermes-2.5-Mistral-7B", "student of GPT-4"),
    ("gpt4_0314", "airoboros-33b", "student of GPT-4"),
    ("text_davinci_003", "alpaca-7b", "student"),
)

Table = dict[str, pa.Table]


def load(shared: Path) -> Table:
    """The answers of each model, with their prompts."""
    table = pq.read_table(shared / "data" / "model_outputs" / "outputs.parquet")
    table = table.set_column(2, "output", table["output"].cast(TEXT)).set_column(
        1, "prompt", table["prompt"].cast(TEXT)
    )
    names = pc.unique(table["model"]).to_pylist()
    return {name: table.filter(pc.equal(table["model"], name)).combine_chunks() for name in names}


def prints(rows: pa.Table, *, n_words: int = 20, masked: bool = True) -> Prints:
    """The prints of a model's answers."""
    prompt = rows["prompt"].combine_chunks() if masked else None
    return fingerprint(rows["output"].combine_chunks(), KEY, prompt=prompt, n_words=n_words)


def registered(rows: pa.Table, *, mb: int = 8, name: str = "registry", **options: Any) -> Registry:
    """A registry of a model's answers."""
    registry = Registry.empty(name, key=ROOT, memory_bytes=mb << 20)
    registry.add(prints(rows, **options))
    return registry


def cells(*values: object) -> str:
    """One row of a table."""
    return "| " + " | ".join(str(value) for value in values) + " |"


def header(*names: str) -> list[str]:
    """The head of a table."""
    return ["", cells(*names), "|" + "---|" * len(names)]


# --- speed ------------------------------------------------------------------------------------------------


def speed(models: Table) -> Iterator[str]:
    """Building and asking an index of half of the answers about the other half: ours beside the peers."""
    answers = pa.concat_arrays([chunk for rows in models.values() for chunk in rows["output"].chunks]).drop_null()
    halves = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    yield "\n## Speed: half of the answers asked about the other half, one thread, CPU seconds"
    yield from header("engine", "work", "documents", "MB", "build MB/s", "match MB/s", "memory of the index")
    for name, work, n, build, ask in engines():
        one, other = (half[:n] for half in halves)
        started = time.process_time()
        index = build(one)
        built = time.process_time()
        ask(index, other)
        asked = time.process_time()
        bounded = isinstance(index, Registry)
        memory = f"{index.held.size * BLOCK_BYTES / 2**20:.0f} MiB, fixed" if bounded else "grows with documents"
        mb = [half.nbytes / 1e6 for half in (one, other)]
        rates = mb[0] / (built - started), mb[1] / (asked - built)
        yield cells(name, work, f"{len(other):,}", f"{mb[1]:.0f}", f"{rates[0]:.1f}", f"{rates[1]:.1f}", memory)
    yield ""
    yield f"Bar: match at {BAR_MB_S:g} MB/s a core or more, memory bounded by the filter."


def engines() -> Iterator[tuple[str, str, int, Callable[[Any], Any], Callable[[Any, Any], Any]]]:
    """Ours and the peers installed, each with the documents it is given."""

    def build(texts: pa.Array) -> Registry:
        registry = Registry.empty("speed", key=ROOT, memory_bytes=64 << 20)
        for at in range(0, len(texts), 4096):
            registry.add(fingerprint(texts[at : at + 4096], KEY))
        return registry

    def ask(registry: Registry, texts: pa.Array) -> int:
        rate = registry.held.false_positive_rate()
        parts = (fingerprint(texts[at : at + 4096], KEY) for at in range(0, len(texts), 4096))
        return sum(int(match_rows(part, registry, rate=rate).copied.sum()) for part in parts)

    ask(build(pa.array(["warm up " * 40] * 2, TEXT)), pa.array(["warm up " * 40], TEXT))
    yield "stillwatch", "20-word spans and 160 minima, keyed, into a 64 MiB filter", 10**9, build, ask
    for name in ("rensa", "datasketch"):
        try:
            peer = import_module(name)
        except ImportError:
            continue
        yield f"{name} {metadata.version(name)}", "word 5-shingles, 128 minima, 16 bands", *PEERS[name](peer)


def shingles(text: str) -> list[str]:
    """The word 5-shingles of a text."""
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[at : at + 5]) for at in range(max(1, len(words) - 4))]


def rensa(peer: Any) -> tuple[int, Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """rensa through its batch interface."""

    def matrix(texts: pa.Array) -> Any:
        return peer.RMinHash.digest_matrix_from_token_sets([shingles(text) for text in texts.to_pylist()], 128, 42)

    def build(texts: pa.Array) -> Any:
        index = peer.RMinHashLSH(0.8, 128, 16)
        index.insert_matrix(matrix(texts), 0)
        return index

    return 10**9, build, lambda index, texts: index.query_duplicate_flags_matrix(matrix(texts))


def datasketch(peer: Any) -> tuple[int, Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """datasketch, on fewer documents: it is slower."""

    def minhash(text: str) -> Any:
        made = peer.MinHash(num_perm=128)
        made.update_batch([shingle.encode() for shingle in shingles(text)])
        return made

    def build(texts: pa.Array) -> Any:
        index = peer.MinHashLSH(num_perm=128, params=(16, 8))
        for at, text in enumerate(texts.to_pylist()):
            index.insert(str(at), minhash(text))
        return index

    return 3000, build, lambda index, texts: [index.query(minhash(text)) for text in texts.to_pylist()]


PEERS: dict[str, Callable[[Any], Any]] = {"rensa": rensa, "datasketch": datasketch}


# --- false hits and false matches -------------------------------------------------------------------------


def filter_rates() -> Iterator[str]:
    """The stated rate of false hits against what ten million keys that were never added show."""
    rng = np.random.Generator(np.random.PCG64(1))
    keys = rng.integers(1, 2**64, 13_000_000, np.uint64)
    yield "\n## The filter: stated and measured rate of false hits, 10,000,000 keys never added, 8 MiB"
    yield from header("keys", "bits a key", "stated", "measured", "hits")
    held, n = BlockedBloom((8 << 20) // BLOCK_BYTES), 0
    for upto in (1_000_000, 2_000_000, 3_000_000):
        held.extend(keys[n:upto])
        n = upto
        hits = int(held.holds(keys[3_000_000:]).sum())
        stated, measured = held.false_positive_rate(), hits / 1e7
        yield cells(f"{n:,}", f"{8 * 2**23 / n:.1f}", f"{stated:.2e}", f"{measured:.2e}", f"{hits:,}")


def false_matches(models: Table) -> Iterator[str]:
    """Answers of one model found in a registry of another's, to the same prompts, by length of span."""
    pairs = itertools.permutations(FAMILIES, 2)
    unrelated = [(a, b) for one, other in pairs for a in one.split() for b in other.split()]
    names = sorted({name for family in FAMILIES for name in family.split()})
    yield "\n## False matches: answers of unrelated models found in a registry, same 805 prompts"
    yield f"\n{len(unrelated)} ordered pairs of {len(names)} models of {len(FAMILIES)} makers; share of answers, in %."
    yield from header(
        "words a span", "prompt masked", "1 span, mean", "1 span, worst", "2 spans, mean", "2 spans, worst"
    )
    for n_words, masked in [(n, True) for n in SPANS] + [(20, False)]:
        held = {name: registered(models[name], n_words=n_words, masked=masked) for name in names}
        asked = {name: prints(models[name], n_words=n_words, masked=masked) for name in names}
        hits = np.array([[np.mean(spans_found(asked[b], held[a]) >= k) for k in (1, 2)] for a, b in unrelated])
        mean, worst = 100 * hits.mean(axis=0), 100 * hits.max(axis=0)
        yield cells(
            n_words, "yes" if masked else "no", *(f"{value:.3f}" for value in (mean[0], worst[0], mean[1], worst[1]))
        )
    yield from decisions(models, unrelated)


def decisions(models: Table, unrelated: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What the whole rule (spans or bands) says of unrelated models, of kin, and across prompts."""
    prompts = pc.unique(models["gpt4_0314"]["prompt"])
    first = prompts.take(pa.array(range(0, len(prompts), 2)))
    names = sorted({name for pair in unrelated for name in pair} | {name for a, b, _ in KIN for name in (a, b)})
    asked = {name: prints(models[name]) for name in names}
    held = {name: registered(models[name]) for name in names}
    bare = {name: prints(models[name], masked=False) for name in {b for _, b in unrelated}}
    framed = {name: prints(in_template(models[name])) for name in bare}
    # A registered set is held as it is too, for whoever copies it may leave the prompts out.
    sets = {name: registered(models[name]) for name in bare}
    for name, registry in sets.items():
        registry.add(bare[name])
    loose = {name: fingerprint(unmarked(models[name]).column("answer"), KEY) for name in bare}
    loose_sets = {
        name: fill(Registry.empty(name, key=ROOT, memory_bytes=8 << 20), [unmarked(models[name])], KEY, whole=True)
        for name in bare
    }
    ways = ((asked, held), (bare, held), (framed, held), (bare, sets), (loose, loose_sets))
    same, without, template, in_set, in_text = (
        [weigh_match(kept[a], match_rows(read[b], kept[a])) for a, b in unrelated] for read, kept in ways
    )
    apart = []
    for a, b in unrelated:
        registry = registered(models[a].filter(pc.is_in(models[a]["prompt"], first)))
        rest = models[b].filter(pc.invert(pc.is_in(models[b]["prompt"], first)))
        apart.append(weigh_match(registry, match_rows(prints(rest), registry)))
    yield "\n## The whole rule (two spans, or bands by length): rows called copies, findings"
    yield from header("who", "answers judged", "copies", "share, %", "worst pair, %", "findings", "leads")
    for says, matches in (
        ("unrelated, same prompts", same),
        ("unrelated, same prompts, the suspect's prompts left out", without),
        ("unrelated, same prompts, the suspect's in a template", template),
        ("unrelated, same prompts, left out, in a registered set", in_set),
        ("unrelated, same prompts, in one text unmarked, as the registered set", in_text),
        ("unrelated, other prompts", apart),
    ):
        n, total = sum(m.share.n for m in matches), sum(m.share.total for m in matches)
        worst = 100 * max(m.share.value for m in matches)
        found, leads_ = (sum(is_one(m, n_registries=1) for m in matches) for is_one in (is_finding, is_lead))
        share = f"{100 * n / total:.4f}"
        yield cells(says, f"{total:,}", f"{n:,}", share, f"{worst:.2f}", f"{found} of {len(matches)}", leads_)
    for a, b, kind in KIN:
        match = weigh_match(held[a], match_rows(asked[b], held[a]))
        told = ["yes" if is_one(match, n_registries=1) else "no" for is_one in (is_finding, is_lead)]
        yield cells(
            f"{b} in {a} ({kind})", match.share.total, match.share.n, f"{100 * match.share.value:.2f}", "", *told
        )
    cases = (
        *("same prompts", "same prompts, left out", "same prompts, in a template", "left out, in a registered set"),
        "same prompts, in one text unmarked",
    )
    for says, (read, kept), matches in zip(cases, ways, (same, without, template, in_set, in_text), strict=True):
        counts = [match_rows(read[b], kept[a]).whole.sum() for a, b in unrelated]
        total = sum(m.share.total for m in matches)
        yield ""
        yield (
            f"Nearly whole copies between unrelated models, {says}: {sum(counts)} of {total:,} answers "
            f"({100 * sum(counts) / total:.4f} %), at most {max(counts)} in a pair."
        )
    yield ""
    yield "A student answers in its own words: the registry finds copies, not students."


def unmarked(rows: pa.Table) -> pa.RecordBatch:
    """The same rows as plain texts in which nothing tells the prompt from the answer."""
    texts = pc.binary_join_element_wise(rows["prompt"], pc.fill_null(rows["output"], ""), pa.scalar("\n\n", TEXT))
    columns = [pa.nulls(len(rows), TEXT), texts.combine_chunks()]
    columns += [pa.array(["plain"] * len(rows)), pa.array(np.ones(len(rows), np.bool_))]
    return pa.record_batch(columns, schema=ROWS)


def in_template(rows: pa.Table) -> pa.Table:
    """The same rows, their prompts as many training sets have them."""
    framed = [
        f"Below is an instruction.\n\n### Instruction:\n{text}\n\n### Response:\n"
        for text in rows["prompt"].to_pylist()
    ]
    return rows.set_column(rows.schema.names.index("prompt"), "prompt", pa.array(framed, TEXT))


def spans_found(asked: Prints, registry: Registry) -> npt.NDArray[np.int64]:
    """How many spans of each text a registry holds."""
    found = np.concatenate([[0], np.cumsum(registry.held.holds(asked.spans))])
    return np.asarray(found[asked.offsets[1:]] - found[asked.offsets[:-1]], np.int64)


# --- planted copies ---------------------------------------------------------------------------------------

Edit = Callable[[str, np.random.Generator], str]


def reworded(text: str, rng: np.random.Generator, *, even: bool = False) -> str:
    """One word in twelve changed: at even distances, or by chance."""
    words = text.split(" ")
    start = int(rng.integers(12))
    for at in range(len(words)):
        if (at % 12 == start) if even else rng.random() < 1 / 12:
            words[at] = f"word{rng.integers(10**6)}"
    return " ".join(words)


EDITS: dict[str, Edit] = {
    "verbatim": lambda text, rng: text,
    "trimmed to four fifths": lambda text, rng: " ".join(text.split()[: max(1, len(text.split()) * 4 // 5)]),
    "re-cased": lambda text, rng: text.swapcase(),
    "re-wrapped": lambda text, rng: "\n  ".join(text.split()),
    "one word in twelve, by chance": reworded,
    "one word in twelve, evenly": lambda text, rng: reworded(text, rng, even=True),
}


def plantable(models: Table) -> tuple[pa.Table, pa.Table]:
    """Answers to copy, to every second prompt, and other people's answers to the other prompts."""
    prompts = pc.unique(models["gpt4_0314"]["prompt"])
    first = prompts.take(pa.array(range(0, len(prompts), 2)))
    source = models["gpt4_0314"].filter(pc.is_in(models["gpt4_0314"]["prompt"], first))
    others = [name for family in FAMILIES[:-1] for name in family.split()]
    pool = pa.concat_tables(
        [models[name].filter(pc.invert(pc.is_in(models[name]["prompt"], first))) for name in others]
    )
    return source, pool


PLANS: dict[str, Sequence[Edit]] = {
    "none planted": (),
    **{name: (edit,) for name, edit in EDITS.items()},
    "all of these in turn": list(EDITS.values()),
}
"""What is planted: nothing, copies edited in one way, or in each way in turn."""


def planted(models: Table) -> Iterator[str]:
    """0.5 % of copies among other people's answers to other prompts, by how they were edited, and none."""
    source, pool = plantable(models)
    registry = registered(source, name="registered set")
    n_planted = N_ROWS // 200
    yield f"\n## Planted copies: {n_planted} of {N_ROWS:,} rows (0.5 %), {N_SEEDS} seeds each"
    yield from header("edit", "share measured, %, mean", "largest error, points", "bar", "findings")
    for name, edits in PLANS.items():
        shares, found = [], 0
        for seed in range(N_SEEDS):
            rng = np.random.Generator(np.random.PCG64([8, seed]))
            rows = pool.take(pa.array(rng.permutation(pool.num_rows)[: N_ROWS - (n_planted if edits else 0)]))
            if edits:
                rows = pa.concat_tables([rows.select(["prompt", "output"]), copies(source, edits, n_planted, rng)])
            match = weigh_match(registry, match_rows(prints(rows), registry))
            shares.append(100 * match.share.value)
            found += is_finding(match, n_registries=1)
        truth = 0.5 if edits else 0.0
        error = max(abs(share - truth) for share in shares)
        yield cells(name, f"{np.mean(shares):.3f}", f"{error:.3f}", f"<= {BAR_POINTS:g}", f"{found} of {N_SEEDS}")


def planted_in_files(models: Table) -> Iterator[str]:
    """The same planting in files of every layout training data comes in, read and matched as `audit` does it."""
    source, pool = plantable(models)
    n_planted = N_ROWS // 200
    yield f"\n## Planted copies by layout: {n_planted} of {N_ROWS:,} rows (0.5 %), {N_SEEDS} seeds each"
    yield ""
    yield "Rows are written to JSON lines and read back as `audit --register` reads them; the registered set is a file"
    yield "of alpaca rows or, in the last columns, of the audited layout. Share measured, %, mean; in brackets the"
    yield f"largest error of a seed, points (bar: <= {BAR_POINTS:g}); findings of {N_SEEDS}."
    yield from header("layout", "edit", "registered as alpaca", "findings", "registered in this layout", "findings")
    with tempfile.TemporaryDirectory(prefix="stillwatch-") as folder:
        at = Path(folder)
        held = {name: filled(at, source, layout) for name, layout in LAYOUTS.items()}
        for layout, write in LAYOUTS.items():
            against = held["alpaca"], held[layout]
            told: dict[str, list[list[Match]]] = {name: [] for name in PLANS}
            for seed in range(N_SEEDS):
                drawn = np.random.Generator(np.random.PCG64([8, seed])).permutation(pool.num_rows)[:N_ROWS]
                rows = pool.take(pa.array(drawn)).select(["prompt", "output"])
                own = judged(at, rows, write, against)
                for name, edits in PLANS.items():
                    rng = np.random.Generator(np.random.PCG64([8, seed, 1]))
                    # The last of the own rows make room for the planted, each after an own one where one comes before.
                    n_own = N_ROWS - (n_planted if edits else 0)
                    planted = copies(source, edits, n_planted, rng) if edits else rows[:0]
                    found = judged(at, planted, write, against, before=rows)
                    whole = [Rows.joined([part_of(one, n_own), more]) for one, more in zip(own, found, strict=True)]
                    told[name].append([weigh_match(one, part) for one, part in zip(against, whole, strict=True)])
            for name, edits in PLANS.items():
                truth, shown = (0.5 if edits else 0.0), list[str]()
                for matches in zip(*told[name], strict=True):
                    shares = [100 * match.share.value for match in matches]
                    n_found = sum(is_finding(match, n_registries=1) for match in matches)
                    shown += [f"{np.mean(shares):.3f} ({max(abs(x - truth) for x in shares):.3f})", str(n_found)]
                yield cells(layout, name, *shown)
    yield ""
    yield "In the last layout nothing marks the end of the prompt: what a text shares with the beginning of a"
    yield "registered one counts for nothing there, unless it goes on to the end of one of the two."


def filled(folder: Path, rows: pa.Table, layout: Layout) -> Registry:
    """A registered set of these rows, read from a file of this layout."""
    path = lines(folder / "registered.jsonl", rows, layout)
    return fill(Registry.empty("registered set", key=ROOT, memory_bytes=8 << 20), read(path), KEY, whole=True)


def judged(
    folder: Path, rows: pa.Table, layout: Layout, against: Sequence[Registry], *, before: pa.Table | None = None
) -> list[Rows]:
    """Which rows of a file of this layout the audit calls copies, against each registered set alone."""
    if not rows.num_rows:
        return [Rows.joined([]) for _ in against]
    batches = list(read(lines(folder / "audited.jsonl", rows, layout, before=before)))
    prints_of = [(printed(batch, KEY, whole=True), begins(batch)) for batch in batches]
    return [Rows.joined([match_rows(part, one, first=first) for part, first in prints_of]) for one in against]


def part_of(rows: Rows, n: int) -> Rows:
    """The first n rows."""
    end = int(np.searchsorted(np.cumsum(rows.first), n, "right"))
    return Rows(*(getattr(rows, each.name)[:end] for each in fields(rows)))


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a file as the audit reads them."""
    return Dataset([path]).batches()


def lines(path: Path, rows: pa.Table, layout: Layout, *, before: pa.Table | None = None) -> Path:
    """The rows as JSON lines of a layout; rows of `before`, or else those before them, are the earlier exchanges."""
    asked, said = rows["prompt"].to_pylist(), [text or "" for text in rows["output"].to_pylist()]
    earlier = list(zip(asked[-1:] + asked[:-1], said[-1:] + said[:-1], strict=True))
    if before is not None:
        first = before[: rows.num_rows]
        earlier = [
            (one, two or "")
            for one, two in zip(*(first[name].to_pylist() for name in ("prompt", "output")), strict=True)
        ]
    with path.open("w", encoding="utf-8") as file:
        for one, other, previous in zip(asked, said, earlier, strict=True):
            file.write(json.dumps(layout(one, other, previous)) + "\n")
    return path


Layout = Callable[[str, str, tuple[str, str]], dict[str, Any]]


def turns(who: str, what: str, *said: tuple[str, str]) -> list[dict[str, str]]:
    """A conversation, with the names a layout gives to speaker and words."""
    return [{who: speaker, what: text} for speaker, text in said]


LAYOUTS: dict[str, Layout] = {
    "alpaca": lambda asked, said, _: {"instruction": asked, "input": "", "output": said},
    "messages": lambda asked, said, _: {
        "messages": turns(
            "role", "content", ("system", "You are a helpful assistant."), ("user", asked), ("assistant", said)
        )
    },
    "sharegpt": lambda asked, said, _: {
        "conversations": turns(
            "from", "value", ("human", asked), ("gpt", said), ("human", "Thanks."), ("gpt", "You are welcome!")
        )
    },
    "sharegpt, after another exchange": lambda asked, said, before: {
        "conversations": turns(
            "from", "value", ("human", before[0]), ("gpt", before[1]), ("human", asked), ("gpt", said)
        )
    },
    "plain text, the answer": lambda asked, said, _: {"text": said},
    "plain text, prompt and answer": lambda asked, said, _: {
        "text": f"### Instruction:\n{asked}\n\n### Response:\n{said}"
    },
    "plain text, two exchanges": lambda asked, said, before: {
        "text": f"Human: {before[0]}\n\nAssistant: {before[1]}\n\nHuman: {asked}\n\nAssistant: {said}"
    },
    "plain text, prompt and answer unmarked": lambda asked, said, _: {"text": f"{asked}\n\n{said}"},
}
"""How a prompt and its answer, and for some the exchange before them, become a row."""


def copies(source: pa.Table, edits: Sequence[Edit], n: int, rng: np.random.Generator) -> pa.Table:
    """Some rows of a set, each edited in turn."""
    rows = source.take(pa.array(rng.permutation(source.num_rows)[:n]))
    texts = [edits[at % len(edits)](text or "", rng) for at, text in enumerate(rows["output"].to_pylist())]
    return pa.table({"prompt": rows["prompt"], "output": pa.array(texts, TEXT)})


# --- marks ------------------------------------------------------------------------------------------------


def marks_speed(models: Table) -> Iterator[str]:
    """`audit --marks` over all answers: reading them with a tokenizer, and scoring a thousand keys."""
    try:
        tokenizers = import_module("tokenizers")
    except ImportError:
        return
    answers = pa.concat_arrays([chunk for rows in models.values() for chunk in rows["output"].chunks])
    asked = pa.concat_arrays([chunk for rows in models.values() for chunk in rows["prompt"].chunks])
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=32_000, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(answers[::10].drop_null().to_pylist(), trainer)
    mb = answers.nbytes / 1e6
    yield f"\n## Speed of `audit --marks`: {mb:.0f} MB of answers"
    yield ""
    yield f"A tokenizer of {made.get_vocab_size():,} entries, trained on a tenth of the answers (tokenizers"
    yield f"{metadata.version('tokenizers')}, on all cores; the rest on one thread); one provider key, 1,000 unused."
    yield from header("step", "CPU seconds", "wall seconds", "MB/s of CPU", "distinct pairs")
    with tempfile.TemporaryDirectory(prefix="stillwatch-") as folder:
        made.save(str(Path(folder, "tokenizer.json")))
        pool = Pool(load_tokenizer(Path(folder, "tokenizer.json")), Scheme().width)
        search = search_for(KeyRing(ROOT, journal=Journal(Path(folder, "journal"))), pool)
    steps: dict[str, Callable[[], object]] = {
        "prints of the answers, for comparison": lambda: fingerprint(answers, KEY, prompt=asked),
        "read into pairs": lambda: pool.add(pa.record_batch({"prompt": asked, "answer": answers})),
        "score the keys": lambda: look_for_marks(search, {"bpe": pool}, subject="answers"),
    }
    for name, step in steps.items():
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        yield cells(
            name, f"{cpu:.1f}", f"{wall:.1f}", f"{mb / cpu:.1f}", f"{len(pool.grams()):,}" if pool.n_tokens else ""
        )


def search_for(ring: KeyRing, pool: Pool) -> MarkSearch:
    """The provider's key and a thousand unused ones, as `audit --marks` asks for them."""
    why: dict[str, Any] = {"because": "benchmark", "now": datetime(2026, 1, 1, tzinfo=UTC)}
    return MarkSearch(
        scheme=Scheme(), keys=ring.for_detection([Label("1")], **why), routing=ring.routing(epoch="1", **why),
        decoys=ring.decoys(1000, epoch="1", **why), readers={"bpe": pool.encode}, threads=1,
    )  # fmt: skip


# --- identity, written ------------------------------------------------------------------------------------


def identity(models: Table) -> Iterator[str]:
    """Answers that speak as a model, over models."""
    shares = {
        name: 100 * leaks(rows["output"].combine_chunks())[0].true_count / rows.num_rows
        for name, rows in models.items()
    }
    values = np.array(sorted(shares.values()))
    yield f"\n## Identity leaks: share of answers that speak as a model, {len(models)} models, 805 prompts each"
    yield from header("least", "quarter", "median", "three quarters", "most")
    yield cells(*(f"{np.quantile(values, q):.2f} %" for q in (0, 0.25, 0.5, 0.75, 1)))
    yield "\nPeople, from published sets: 7 of 13,873 (0.05 %)."


def written(models: Table) -> Iterator[str]:
    """The estimate of a known mixture of two groups of writers; no human text is at hand, so models stand for both."""
    people, machines = (
        ("alpaca-7b", "text_davinci_003", "falcon-7b-instruct"),
        ("gpt4_1106_preview", "claude", "cohere"),
    )
    groups = [
        pa.concat_tables([models[name].select(["prompt", "output"]) for name in names]) for names in (people, machines)
    ]
    prompts = pc.unique(models["gpt4_0314"]["prompt"]).to_pylist()
    yield "\n## Share written by models: known mixtures of 1,000 answers; two groups of models stand for the writers"
    yield f"\nAs people: {', '.join(people)}. As models: {', '.join(machines)}. Controls: other prompts; 10 draws each."
    yield from header(
        "true share, %", "estimate, mean, %", "95 % interval holds the truth", "mean width, points", "cannot tell"
    )
    for truth in (0.0, 0.05, 0.2, 0.5, 1.0):
        told = []
        for seed in range(N_SEEDS):
            rng = np.random.Generator(np.random.PCG64([9, seed]))
            known = pa.array(rng.permutation(prompts)[: len(prompts) // 2], TEXT)
            controls, rest = zip(*(parted(group, known) for group in groups), strict=True)
            n = int(rng.binomial(1000, truth))
            mixed = pa.concat_tables([some(rest[0], 1000 - n, rng), some(rest[1], n, rng)])
            estimate = estimate_written(sampled(mixed), sampled(controls[0]), sampled(controls[1]), KEY)
            told.append((estimate, n / 1000))
        given = [(one, true) for one, true in told if one.share is not None]
        holds = sum(one.lo <= true <= one.hi for one, true in given)
        mean = 100 * np.mean([one.share for one, _ in given]) if given else float("nan")
        width = 100 * np.mean([one.hi - one.lo for one, _ in given]) if given else float("nan")
        row = (f"{100 * truth:g}", f"{mean:.1f}", f"{holds} of {len(given)}", f"{width:.0f}", len(told) - len(given))
        yield cells(*row)
    foreign = sampled(models["baichuan-13b-chat"])
    why_not = estimate_written(foreign, sampled(groups[0]), sampled(groups[1]), KEY).why_not
    yield f"\nA set by neither (baichuan-13b-chat): {why_not or 'an estimate all the same'}."


def parted(rows: pa.Table, known: pa.Array) -> tuple[pa.Table, pa.Table]:
    """The rows with these prompts, and the others."""
    there = pc.is_in(rows["prompt"], known)
    return rows.filter(there), rows.filter(pc.invert(there))


def some(rows: pa.Table, n: int, rng: np.random.Generator) -> pa.Table:
    """n of the rows, drawn without replacement."""
    return rows.take(pa.array(rng.permutation(rows.num_rows)[:n]))


def sampled(rows: pa.Table) -> Sample:
    """The rows as a sample."""
    sample = Sample(KEY)
    sample.add(rows["output"].combine_chunks(), rows["prompt"].combine_chunks())
    return sample


def main() -> None:
    """Measure and print the tables; `--write` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a part, by name; repeatable")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    models = load(Path(os.environ.get("STILLWATCH_SHARED", "../shared")))
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "speed": lambda: speed(models),
        "filter": filter_rates,
        "false-matches": lambda: false_matches(models),
        "planted": lambda: planted(models),
        "layouts": lambda: planted_in_files(models),
        "marks": lambda: marks_speed(models),
        "identity": lambda: identity(models),
        "written": lambda: written(models),
    }
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    told = ["# Audit and registry", "", f"{machine}; command: `python benchmarks/audit.py`; each part says its load."]
    for name, part in parts.items():
        if name in (options.only or parts):
            load_is = f"\nLoad {os.getloadavg()[0]:.1f} at the start."
            for at, line in enumerate(part()):
                for one in (line, load_is) if at == 0 else (line,):
                    print(one, flush=True)
                    told.append(one)
    if options.write:
        old = options.write.read_text("utf-8") if options.only and options.write.exists() else ""
        options.write.write_text(put("\n".join(told) + "\n", into=old), "utf-8")


def put(new: str, *, into: str) -> str:
    """The sections of a report in the place of those of another with the same title, up to its colon; its head too."""

    def sections(text: str) -> dict[str, str]:
        return {part.split("\n")[0].split(":")[0]: part for part in text.split("\n## ")}

    return "\n## ".join((sections(into) | sections(new)).values()) if into else new


if __name__ == "__main__":
    main()
