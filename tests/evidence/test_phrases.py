"""phrases: prompts tell who belongs where hubs do not, and are asked for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from stillwatch.detect.groups import Candidate
from stillwatch.evidence.judge import named, weigh
from stillwatch.evidence.phrases import told_by_prompts
from tests.evidence.making import CROWD, Habits, Rng, Town, sentence, street

UNSURE, STRANGERS = np.arange(34, 40), np.arange(60, 66)
"""Of the crowd, those whom the hubs leave out, and neighbours whom they let in."""


def midst(rng: Rng, other: Callable[[int], str]) -> Callable[[int], str]:
    """Half of the prompts hold a template in their midst; the others are what anybody says."""
    frame = "weigh each clause against the ledger of counterfactual costs"
    return lambda row: f"{sentence(rng, 5)} {frame} {sentence(rng, 5)}" if row % 2 else other(row)


@pytest.fixture(scope="module")
def town() -> Town:
    """A crowd with a template in the midst of half of its prompts."""

    def change(number: int, habits: Habits, rng: Rng) -> None:
        if number < len(CROWD):
            habits.prompt = midst(rng, habits.prompt)

    return street(change)


def found(n: int) -> Candidate:
    """What hubs made of the crowd: most of it for sure, some of it not, and some strangers."""
    bits = np.full(n, -20.0)
    bits[CROWD], bits[UNSURE], bits[STRANGERS] = 8.0, -3.0, 4.0
    membership = 1 / (1 + np.exp2(-bits))
    return Candidate(np.flatnonzero(bits >= 0), membership, bits, ())


def test_prompts_tell_who_belongs(town: Town) -> None:
    """Those of the crowd whom hubs left out are named, and strangers whom hubs let in are not."""
    assert town.reading is not None
    told = told_by_prompts(found(len(town.population)), town.population, town.reading)
    assert set(np.flatnonzero(told.membership >= 0.9)) == set(CROWD.tolist())
    assert np.array_equal(told.members, np.flatnonzero(told.membership >= 0.5))


def test_a_group_without_phrases_of_its_own_stays(town: Town) -> None:
    """A group of neighbours says what everybody says: nobody's odds move."""
    assert town.reading is not None
    candidate = found(len(town.population))
    moved = np.roll(candidate.bits, 200)
    other = Candidate(np.flatnonzero(moved >= 0), 1 / (1 + np.exp2(-moved)), moved, ())
    assert told_by_prompts(other, town.population, town.reading) is other


def test_who_was_cleared_stays_out(town: Town) -> None:
    """Odds of nothing stay odds of nothing, whatever the prompts say."""
    assert town.reading is not None
    cleared = np.zeros(len(town.population), bool)
    cleared[UNSURE] = True
    candidate = found(len(town.population)).without(cleared)
    told = told_by_prompts(candidate, town.population, town.reading)
    assert (told.membership[UNSURE] < 1e-100).all() and not set(told.members) & set(UNSURE)


def test_naming_leaves_the_findings_alone(town: Town) -> None:
    """What was found about a group is not asked again of the members its prompts name."""
    subject = town.subject(CROWD[:34])
    bits = np.where(subject.candidate.membership > 0, 8.0, -20.0)
    bits[UNSURE] = -3.0
    subject = replace(subject, candidate=replace(subject.candidate, bits=bits))
    weighed = replace(weigh(subject, []), operator_bits=20.0, harvest_bits=20.0)
    after = named(weighed)
    assert set(after.subject.candidate.members) == set(CROWD.tolist())
    assert after.findings is weighed.findings and after.e_log2 == weighed.e_log2
    assert named(replace(weighed, harvest_bits=0.0)).subject is subject
