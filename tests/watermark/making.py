"""Marked and unmarked texts from a made-up language model, by plain NumPy: a second reading of every scheme."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatch.journal import Journal
from stillwatch.kernels.prf import seeds, uniforms, window_word
from stillwatch.keys import RootKey, Secret
from stillwatch.watermark.grams import Document
from stillwatch.watermark.keys import KeyRing, Label, MarkKey, Policy, key_words
from stillwatch.watermark.schemes import Mark, Scheme

Floats = npt.NDArray[np.float64]

NOW = datetime(2026, 11, 1, tzinfo=UTC)
N_VOCABULARY, N_CANDIDATES = 5000, 40
NONE = np.zeros(0, np.int64)
ASKED: dict[str, Any] = {"because": "test", "now": NOW}
RULE = Policy("marks/1", "0" * 64)


def ring(folder: Path) -> KeyRing:
    return KeyRing(RootKey(Secret(bytes(range(32)))), journal=Journal(folder / "journal"))


def key(keys: KeyRing, account: str | None = None) -> MarkKey:
    return keys.for_embedding(Label("1", account=account), because=RULE, now=NOW)


def mark(keys: KeyRing, scheme: Scheme, account: str = "ann") -> Mark:
    """A mark with the provider's key and, where the scheme has that level, the account's."""
    cut = {level: key(keys, account if level == "account" else None).secret for level in scheme.levels()}
    return Mark(scheme=scheme, keys=cut, routing=keys.routing(epoch="1", **ASKED))


def written(
    one: Mark | None, *, seed: int, n_texts: int = 20, n_tokens: int = 150, n_contexts: int = 400
) -> list[Document]:
    """Texts of a model whose candidates and their logits depend on the last token, marked or not.

    `n_contexts` below the vocabulary makes phrases recur, as they do in real text.
    """
    rng = np.random.default_rng(seed)
    language = np.random.default_rng(99)
    candidates = language.integers(0, N_VOCABULARY, (n_contexts, N_CANDIDATES))
    logits = language.normal(0, 1.5, (n_contexts, N_CANDIDATES))
    texts = []
    for _ in range(n_texts):
        tokens, seen = [int(rng.integers(N_VOCABULARY))], set()
        for _ in range(n_tokens - 1):
            at = tokens[-1] % n_contexts
            noise = rng.random(N_CANDIDATES)
            bias = np.zeros(N_CANDIDATES)
            if one is not None and len(tokens) >= one.scheme.width:
                window = tuple(tokens[-one.scheme.width :])
                if one.scheme.name != "gumbel" or window not in seen:
                    noise, bias = _drawn(one, window, candidates[at], logits[at], noise)
                seen.add(window)
            tokens.append(int(candidates[at][np.argmax(logits[at] + bias - np.log(-np.log(noise)))]))
        texts.append(Document(np.array(tokens), NONE))
    return texts


def _drawn(
    one: Mark, window: tuple[int, ...], ids: npt.NDArray[np.int64], logits: Floats, noise: Floats
) -> tuple[Floats, Floats]:
    word = window_word(np.array([window]))
    level = one.scheme.levels()[int(one.scheme.level_of(word, key_words([one.routing])[0])[0])]
    keyed = uniforms(np.repeat(seeds(word, key_words([one.keys[level]])[0]), len(ids)), ids)
    if one.scheme.name == "gumbel":
        return keyed, np.zeros(len(ids))
    green = keyed < one.scheme.gamma
    q = np.exp(logits - logits.max())
    q /= q.sum()
    bias = one.scheme.delta * (green if one.scheme.name == "kgw" else q * (green - q[green].sum()))
    return noise, np.asarray(bias)
