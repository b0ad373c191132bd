"""mixture: the share of each member's exchanges that belongs is what was planted, and nobody else's work counts."""

from __future__ import annotations

import numpy as np
import pytest

from stillwatch.evidence.mixture import belonging_of_group, share_of_work
from tests.evidence.making import CROWD, N_ROWS, Habits, Rng, chatter, sentence, street

TEMPLATE = "Solve the following task in the way a patient teacher would and say why"


@pytest.mark.parametrize("n_work", [4, 8, 16])
def test_what_belongs_is_what_was_planted(n_work: int) -> None:
    """Of sixteen exchanges of each of the crowd some are work of one template; the others are anybody's."""

    def half_busy(number: int, person: Habits, rng: Rng) -> None:
        if number in CROWD:
            person.prompt = lambda row: f"{TEMPLATE}: {sentence(rng)}" if row < n_work else chatter(rng)

    subject = street(half_busy).subject(CROWD)
    share = share_of_work(subject, CROWD)
    assert (np.abs(share - n_work / N_ROWS) <= 1 / N_ROWS + 1e-9).all()
    assert belonging_of_group(subject, CROWD)["belongs"] == pytest.approx(n_work / N_ROWS, abs=1 / N_ROWS)
    strangers = np.arange(100, 140)
    assert share_of_work(subject, strangers).max() <= 2 / N_ROWS


def test_a_group_without_work_of_its_own_has_none() -> None:
    """Where nothing is shared, nothing belongs."""
    assert not share_of_work(street(lambda number, person, rng: None).subject(CROWD), CROWD).any()
