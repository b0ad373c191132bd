"""permuting: every trait stays as popular as it was, and no two facets agree but by chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from benchmarks.yardstick.permuting import permuted
from benchmarks.yardstick.trial import Trial, examine
from stillwatch.sim.world import play
from tests.evidence.making import Town
from tests.worlds import SEED, scenario


def test_traits_stay_popular_and_cohorts_stay() -> None:
    """Cards, sign-ups and their counts within each cohort stay; what an account asks for and how much is its own."""
    played = play(scenario(), seed=SEED)
    before = Town(played.exchanges, played.accounts).population
    after = permuted(before, seed=1)
    assert np.array_equal(before.cohort, after.cohort) and np.array_equal(before.offsets, after.offsets)
    for name in ("payment_fingerprint", "created_at"):
        pairs = (zip(one.cohort, one.accounts[name].to_pylist(), strict=True) for one in (before, after))
        assert Counter(next(pairs)) == Counter(next(pairs))
        assert before.accounts[name].to_pylist() != after.accounts[name].to_pylist()
    for name in ("head", "tail", "system"):
        assert np.array_equal(before.sample[name], after.sample[name])
    assert not np.array_equal(before.sample["network"], after.sample["network"])
    met = [set(zip(one.sample["network"], one.sample["client"], strict=True)) for one in (before, after)]
    assert met[1] <= met[0], "networks and clients are dealt out together"


def test_a_campaign_whose_facets_are_dealt_out_is_none() -> None:
    """The loud campaign's groups are weighed, and nothing is found; the trial is another one in the cache."""
    loud = Trial(scenario=scenario(), seed=SEED)
    dealt = replace(loud, permuted=True)
    result = examine(dealt)
    assert result["findings"] == 0 and result["groups"] and dealt.name() != loud.name()
