from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from stillwatch.policy.simulating import COLUMNS, Known, Simulation, in_order, known_of, simulate_policy
from stillwatch.records import ACCOUNTS, EXCHANGES
from tests.policy.making import EXAMPLE, NOW, policy, snapshot

SCHEMA = pa.schema([EXCHANGES.field(name) for name in COLUMNS])


def batch(*calls: tuple[str, float, int], **known: Any) -> pa.RecordBatch:
    """Calls of (account, seconds after the start, tokens)."""
    rows = [
        dict.fromkeys(COLUMNS)
        | {"account_id": who, "ts": NOW + timedelta(seconds=at), "model": "small-1", "output_tokens": n}
        | known
        for who, at, n in calls
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def simulated(*batches: pa.RecordBatch, **known: Any) -> Simulation:
    return simulate_policy(in_order(batches), known.pop("rules", policy()), snapshot(("bob", 0, 0.99)), **known)


def test_budgets_follow_the_time_of_events() -> None:
    """A level's burst of 2,000 tokens is refused at once and given an hour later."""
    found = simulated(batch(("ann", 0, 1500), ("ann", 1, 1500), ("ann", 3600, 1500)))
    assert found.by_rule == {("allow", ""): 2, ("slow", "budget:none-1"): 1}
    unnamed = found.groups["unnamed"]
    assert (unnamed.n_accounts, unnamed.n_accounts_refused, unnamed.n_calls_refused) == (1, 1, 1)
    assert found.worst == [("ann", "unnamed", 1, 3, "budget:none-1")]


def test_who_loses_most_is_shown_the_rule_that_refused() -> None:
    """Not one that only slowed calls which were made, however many."""
    rules = policy(EXAMPLE.replace('action = "deny"', 'action = "slow"\nwait = "1m"'))
    calls = [("ann", 60.0 * n, 1) for n in range(5)] + [("ann", 61.0, 1)]
    found = simulated(batch(*calls, ip="192.0.2.200"), rules=rules)
    assert found.by_rule == {("slow", "network:closed"): 5, ("slow", "budget:slow"): 1}
    assert found.worst == [("ann", "unnamed", 1, 6, "budget:slow")]


def test_a_call_beyond_a_burst_never_fits() -> None:
    """Its action is deny, as no wait would help."""
    assert simulated(batch(("ann", 0, 2001))).by_rule == {("deny", "budget:none-1"): 1}


def test_groups_are_told_apart() -> None:
    """Licensed, verified, named and unnamed accounts are counted by themselves; only the good are listed by name."""
    known = {
        "lic": Known(org_id="org-licensed", identity_level="email"),
        "ver": Known(org_id="org-2", identity_level="organisation"),
    }
    calls = batch(("lic", 0, 10), ("ver", 1, 10), ("bob", 2, 10), ("ann", 3, 10))
    found = simulated(calls, accounts=known)
    assert {name: hits.n_accounts for name, hits in found.groups.items()} == dict.fromkeys(found.groups, 1)
    assert found.by_rule["step_up", "verdict:campaign"] == 1
    assert found.groups["named"].n_calls_refused == 1
    assert found.worst == []


def test_order_and_pieces_do_not_matter() -> None:
    """The same calls shuffled and cut otherwise give the same result."""
    rng = random.Random(3)
    calls = [(f"acct_{rng.randrange(20)}", rng.randrange(7200), rng.randrange(900)) for _ in range(400)]
    whole = simulated(batch(*calls)).to_dict()
    rng.shuffle(calls)
    assert simulated(*(batch(*calls[at : at + 7]) for at in range(0, 400, 7))).to_dict() == whole


def test_shadow_mode_is_replayed_as_enforced() -> None:
    """The question is what the policy would do, so its own mode does not matter."""
    shadow = policy(mode="shadow")
    assert simulated(batch(("bob", 0, 1)), rules=shadow).by_rule == {("step_up", "verdict:campaign"): 1}


def test_an_old_snapshot_acts_on_an_old_log() -> None:
    """When it was made and when it expires does not matter for what it would do."""
    found = simulated(batch(("bob", -(10**8), 1), ("bob", 10**8, 1)))
    assert found.by_rule == {("step_up", "verdict:campaign"): 2}


def test_what_a_log_lacks_is_not_guessed() -> None:
    """Without tokens, model, address and the rest a call is replayed all the same."""
    bare = pa.RecordBatch.from_pylist([{"account_id": "ann", "ts": NOW}], schema=SCHEMA)
    found = simulate_policy(in_order([bare.select(["account_id", "ts"])]), policy(), snapshot())
    assert found.by_rule == {("step_up", "model"): 1}


def test_odd_numbers_do_no_harm() -> None:
    """Negative counts cost nothing, and an empty log is an empty result."""
    assert simulated(batch(("ann", 0, -5))).by_rule == {("allow", ""): 1}
    assert simulated().to_dict()["n_calls"] == 0


def test_countries_come_from_the_operators_data() -> None:
    """The reader is asked for each address."""
    found = simulated(batch(("ann", 0, 1), ip="203.0.113.5"), country_of=lambda ip: "XX" if ip else None)
    assert found.by_rule == {("deny", "network:closed"): 1}


def test_a_lineage_shares_one_budget() -> None:
    """A thousand accounts of one lineage are admitted what one is: rate times time and one burst."""
    text = EXAMPLE.replace('action = "step_up"\nstep_up = "organisation"', 'action = "allow"')
    members = snapshot(*((f"m{at}", 0, 0.99) for at in range(1000)))
    calls = batch(*((f"m{at}", at * 3.6, 500) for at in range(1000)))
    found = simulate_policy(in_order([calls]), policy(text), members)
    admitted = 500 * found.by_rule["allow", "verdict:campaign"]
    assert 90_000 <= admitted <= 100_000 + 10_000
    assert found.by_rule["slow", "budget:lineage-hour"] == 1000 - admitted // 500


@pytest.mark.parametrize(
    ("row", "level"),
    [
        ({"email_domain": "example.org"}, "email"),
        ({"phone_hash": "x", "email_hash": "y"}, "phone"),
        ({"payment_fingerprint": "card"}, "payment"),
        ({"org_id": "org"}, "none"),
        ({"identity_level": "organisation"}, "organisation"),
    ],
)
def test_levels_are_what_the_accounts_file_proves(row: dict[str, str], level: str) -> None:
    """A stated level counts; else what was proven; an organisation's name proves nothing."""
    table = pa.Table.from_pylist([{"account_id": "ann"} | row], schema=ACCOUNTS)
    assert known_of(table)["ann"].identity_level == level
