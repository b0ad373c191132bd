"""reading: the prompts read again, as the signals see them: what each asks for, and its n-grams; made once per scan."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_matrix, vstack

from stillwatch.detect.population import Population
from stillwatch.detect.texts import Texts
from stillwatch.evidence.capabilities import tag_prompts
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.shingles import ngram_hashes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BUCKETS_LOG2 = 18
"""n-grams are counted in 2^18 keyed buckets, so that no phrase is stored."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What some prompts show, without their text.

    Attributes:
        owner: (prompts,) population position of the sender. shows: capability -> (prompts,) booleans.
        grams: (prompts, buckets) word 3-grams, or 6 characters where a script has no spaces, as ones.
        n_read: (accounts,) prompts read of each.
        weight: (prompts,) one over the prompts read of the account, so that accounts count alike.
        gram_sums: (2, buckets) weighted sums of `grams` over accounts of either `Population.coin`.
        n_accounts: how many accounts of either coin were read.
        near: (accounts,) read because they come near a candidate: not in the sums, and nobody's peers.
        repeated: (account, dense prompt number) of every sampled prompt that two accounts or more have sent.
    """

    owner: Ints
    shows: Mapping[str, Mask]
    grams: csr_matrix
    n_read: Ints
    weight: Floats
    gram_sums: Floats
    n_accounts: tuple[int, int]
    near: Mask
    repeated: tuple[Ints, Ints]


PROMPTS_AT_ONCE = 8192
"""Prompts one thread tags and shingles at a time."""


def read(texts: Texts, population: Population, *, key: HashKey, threads: int = 1) -> Reading:
    """Tag and shingle each prompt, once however many sent it.

    Cost: six RE2 passes and one pass over at most 4 KiB of each distinct prompt.
    """
    coded = texts.prompts.dictionary_encode(null_encoding="encode")
    distinct, which = coded.dictionary, coded.indices.to_numpy()
    parts = [distinct.slice(at, PROMPTS_AT_ONCE) for at in range(0, len(distinct), PROMPTS_AT_ONCE)]
    with ThreadPoolExecutor(threads) as pool:
        read_parts = list(pool.map(lambda prompts: (tag_prompts(prompts), _shingle(prompts, key)), parts))
    grams = vstack([shingled for _, shingled in read_parts], format="csr")[which]
    n_read = np.bincount(texts.owner, minlength=len(population))
    weight = 1.0 / n_read[texts.owner]
    near = np.zeros(len(population), bool)
    near[texts.near] = True
    sides = [(population.coin[texts.owner] == side) & ~near[texts.owner] for side in (0, 1)]
    return Reading(
        owner=texts.owner,
        shows={name: np.concatenate([shown[name] for shown, _ in read_parts])[which] for name in read_parts[0][0]},
        grams=grams,
        n_read=n_read,
        weight=weight,
        gram_sums=np.stack([grams.T @ (weight * side) for side in sides]),
        n_accounts=(len(np.unique(texts.owner[sides[0]])), len(np.unique(texts.owner[sides[1]]))),
        near=near,
        repeated=_repeated_prompts(population),
    )


def _shingle(prompts: pa.Array, key: HashKey) -> csr_matrix:
    offsets, bucket = ngram_hashes(prompts, key, buckets_log2=BUCKETS_LOG2)
    return csr_matrix((np.ones(len(bucket), np.float32), bucket, offsets), shape=(len(prompts), 1 << BUCKETS_LOG2))


def _repeated_prompts(population: Population) -> tuple[Ints, Ints]:
    prompts = population.profiles.column("prompts").combine_chunks()
    owner = np.repeat(np.arange(len(population)), prompts.value_lengths().to_numpy())
    _, prompt, count = np.unique(prompts.flatten().to_numpy(), return_inverse=True, return_counts=True)
    again = np.flatnonzero(count[prompt] > 1)
    return owner[again], prompt[again]
