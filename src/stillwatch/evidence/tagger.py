"""tagger: what a prompt asks for, by a small hashed linear model that reads sentence by sentence.

A sentence is the set of its words and pairs of words (characters, in scripts without spaces), hashed with a fixed key
into `BUCKETS`; a class shows in a prompt when the weights of some sentence of it add up to more than a threshold.
The weights come from `benchmarks/tagger.py`, which states how well they do on wordings they were not made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, hstack

from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.shingles import ngram_hashes

CLASSES = ("reasoning", "grading", "tool_trajectory")
"""What is told apart, in the order of the weights."""

BUCKETS_LOG2 = 13
BUCKETS = 2 << BUCKETS_LOG2
"""Features: words in the first half, pairs of words in the second."""

READ_CHARACTERS = 1500
"""How much of either end of a prompt is read: what is asked stands there, payload in between."""

LONGEST_SENTENCE = 400
"""Characters of a sentence that are read; what is longer is no sentence."""

SENTENCE_END = r"[.!?。！？;；]+(?:\s+|$)|[。！？；\n]+|:\s+|\s+/\s+"

FIXED_KEY = HashKey(0x7374696C6C776174, 0x6368207461676765)
"""Not a secret: weights made on one machine must fit the hashes of every other."""

_NORM = 8.0
"""Words of a sentence that count in full; a longer one shares out the same weight."""


def sentence_features(sentences: pa.Array) -> csr_matrix:
    """(sentences, `BUCKETS`) ones where a word or a pair of words occurs, scaled down in long sentences."""
    parts = []
    for n_words in (1, 2):
        offsets, bucket = ngram_hashes(sentences, FIXED_KEY, n_words=n_words, buckets_log2=BUCKETS_LOG2)
        ones = np.ones(len(bucket), np.float32)
        parts.append(csr_matrix((ones, bucket, offsets), shape=(len(sentences), 1 << BUCKETS_LOG2)))
    both = hstack(parts, format="csr")
    length = np.diff(both.indptr)
    both.data /= np.repeat(np.sqrt(np.maximum(length, _NORM) / _NORM), length).astype(np.float32)
    return both


@dataclass(frozen=True, slots=True)
class Tagger:
    """Weights (classes, `BUCKETS`) in 8 bits, what one step of them is worth, and the score each class must pass."""

    weights: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]

    def sentences(self, sentences: pa.Array) -> npt.NDArray[np.bool_]:
        """(sentences, classes) which class each shows."""
        score = sentence_features(sentences) @ (self.weights * self.scale[:, None]).T.astype(np.float32)
        return np.asarray(score > self.threshold)

    def prompts(self, prompts: pa.Array) -> Mapping[str, npt.NDArray[np.bool_]]:
        """Which prompts show each class: any sentence does. Cost: about 20 microseconds a prompt."""
        owner, sentences = split_sentences(prompts)
        shown = self.sentences(sentences)
        result = np.zeros((len(prompts), len(CLASSES)), bool)
        np.logical_or.at(result, owner, shown)
        return {name: result[:, at] for at, name in enumerate(CLASSES)}

    def save(self, path: Path) -> None:
        """Write the weights."""
        np.savez_compressed(path, weights=self.weights, scale=self.scale, threshold=self.threshold)


def split_sentences(prompts: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """(owner, sentence) of the sentences at either end of each prompt; a null has none."""
    text = prompts.cast(pa.large_string())
    length = pc.fill_null(pc.utf8_length(text), 0).to_numpy(zero_copy_only=False)
    long = np.flatnonzero(length > 2 * READ_CHARACTERS)
    ends = pc.utf8_slice_codeunits(text.take(pa.array(long)), -READ_CHARACTERS)
    whole = pa.concat_arrays([pc.utf8_slice_codeunits(text, 0, 2 * READ_CHARACTERS), ends])
    owner = np.concatenate([np.arange(len(text)), long])
    pieces = pc.split_pattern_regex(whole, pattern=SENTENCE_END)
    lengths = pc.fill_null(pc.list_value_length(pieces), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.repeat(owner, lengths), pc.utf8_slice_codeunits(pieces.flatten(), 0, LONGEST_SENTENCE)


@cache
def trained() -> Tagger:
    """The tagger that comes with the package."""
    with (files("stillwatch.evidence") / "tagger.npz").open("rb") as file, np.load(file) as held:
        return Tagger(held["weights"], held["scale"], held["threshold"])
