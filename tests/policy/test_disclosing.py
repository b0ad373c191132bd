"""When a new snapshot begins to act, and what is in force until then."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.keys import Secret
from stillwatch.policy.disclosing import InForce, begins_us
from stillwatch.policy.model import Disclosure, micros
from stillwatch.policy.snapshot import Snapshot
from tests.policy.making import NOW, snapshot

KEY, OTHER = Secret(bytes(range(32))), Secret(bytes(32 * [9]))
DAY = 86_400
HELD = Disclosure(delay_s=600, batch_s=3_600)


@given(st.integers(0, 2**53), st.integers(0, 3 * DAY), st.integers(0, 3 * DAY))
def test_it_begins_after_the_delay_and_before_two_batches_more(made: int, delay: int, batch: int) -> None:
    """The bound that the documentation states, for every setting; without a batch it is the delay."""
    at = begins_us(made, Disclosure(delay, batch), KEY)
    due = made + delay * 1_000_000
    assert due <= at < due + 2 * batch * 1_000_000 if batch else at == due


def test_all_that_was_made_in_one_stretch_begins_at_one_instant() -> None:
    """There is one instant in each batch; which one nobody can tell without the key, nor from the one before."""
    batch = DAY * 1_000_000
    begins = [begins_us(micros(NOW) + 600_000_000 * n, Disclosure(0, DAY), KEY) for n in range(144 * 20)]
    instants = sorted(set(begins))
    assert begins == sorted(begins) and 20 <= len(instants) <= 22
    assert [at // batch for at in instants] == list(range(instants[0] // batch, instants[0] // batch + len(instants)))
    within = [at % batch for at in instants]
    assert len(set(within)) == len(within) and min(within) < batch / 4 and max(within) > batch * 3 / 4
    assert not set(instants) & {begins_us(micros(NOW) + 600_000_000 * n, Disclosure(0, DAY), OTHER) for n in range(999)}


def kept() -> tuple[list[Snapshot], InForce]:
    held: list[Snapshot] = []
    return held, InForce(None, secret=KEY, keep=held.append)


def test_the_one_before_stays_in_force_until_the_new_one_acts() -> None:
    """Nobody who was named is free in between, nor is anybody named early."""
    held, force = kept()
    first, second = snapshot(("bob", 0, 1.0)), snapshot(("bob", 0, 1.0), ("eve", 0, 1.0), made=NOW + timedelta(days=1))
    force.take(first, Disclosure(), NOW)
    assert force.current is first and held == [first] and not force.waits
    begins = begins_us(second.made_us, HELD, KEY)
    force.take(second, HELD, NOW + timedelta(days=1))
    for us in (second.made_us, second.made_us + 600_000_000, begins - 1):
        force.turn(HELD, NOW + timedelta(microseconds=us - micros(NOW)))
        assert force.current is first and force.waits
    force.turn(HELD, NOW + timedelta(microseconds=begins - micros(NOW)))
    assert force.current is second and held == [first, second] and not force.waits


@pytest.mark.parametrize("days", [-1, -9_000])
def test_a_clock_that_goes_back_opens_nothing(days: int) -> None:
    """A snapshot that seems to be of the future acts at once."""
    _, force = kept()
    made = snapshot(("bob", 0, 1.0))
    force.take(made, HELD, NOW)
    assert force.waits and force.current.standing("bob") is None
    force.turn(HELD, NOW + timedelta(days=days))
    assert force.current is made


def test_one_that_runs_out_does_not_leave_a_gap() -> None:
    """Where the one in force ends before the next may act, the next acts early rather than late."""
    _, force = kept()
    first = snapshot(("bob", 0, 1.0), days=1)
    force.take(first, Disclosure(), NOW)
    late = NOW + timedelta(days=1, microseconds=-1)
    second = snapshot(("bob", 0, 1.0), made=late)
    force.take(second, HELD, late)
    assert force.current is first
    force.turn(HELD, NOW + timedelta(days=1))
    assert force.current is second


def test_a_process_that_starts_anew_goes_on_where_it_was() -> None:
    """The snapshot that was in force is not new to it, however long the policy now has new ones wait."""
    made = snapshot(("bob", 0, 1.0))
    force = InForce(replace(made), secret=KEY, keep=lambda _: None)
    force.take(made, Disclosure(delay_s=DAY), NOW)
    assert force.current is made and not force.waits
