"""reading: what a prompt shows does not depend on how many sent it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stillwatch.detect.texts import Texts
from stillwatch.evidence.capabilities import tag_prompts
from stillwatch.evidence.reading import BUCKETS_LOG2, read
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.shingles import ngram_hashes
from tests.detect.making import town

KEY = HashKey(5, 6)
PROMPTS = ["Explain step by step why the sky is blue.", "hello there", "Rate the answer on a scale of 1 to 5.", ""]


def test_a_prompt_that_several_sent_reads_for_each_as_if_sent_alone() -> None:
    """Each row has the capabilities and the n-grams of its own text, whoever else sent that text."""
    people, _ = town(40, seed=1)
    which = np.random.default_rng(2).integers(0, len(PROMPTS), 60)
    owner = np.sort(np.random.default_rng(3).integers(0, 40, 60))
    texts = Texts(owner, pa.array([PROMPTS[at] for at in which], pa.large_string()), np.zeros(0, np.int64))
    found = read(texts, people, key=KEY, threads=2)
    for at, prompt in enumerate(texts.prompts):
        alone = pa.array([prompt.as_py()], pa.large_string())
        assert {name: shown[at] for name, shown in found.shows.items()} == {
            name: shown[0] for name, shown in tag_prompts(alone).items()
        }
        _, grams = ngram_hashes(alone, KEY, buckets_log2=BUCKETS_LOG2)
        assert sorted(found.grams[at].indices.tolist()) == sorted(grams.tolist())
    coins = people.coin[owner]
    sums = np.stack([found.grams[coins == side].T @ found.weight[coins == side] for side in (0, 1)])
    np.testing.assert_allclose(found.gram_sums, sums)
