"""planting: a simulated campaign looks like the logs it is put beside, and takes no more from them than it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stillwatch.errors import InputError, SettingsError
from stillwatch.records import ACCOUNTS, TIMESTAMP
from stillwatch.sim.mix import LOOKED_AT, Mix, measure_mix
from stillwatch.sim.planting import PREFIX, plant
from stillwatch.sim.scenarios import campaign

START = datetime(2026, 5, 3, 7, 30, tzinfo=UTC)
CREW = campaign("harvest", tier=0, crew={"name": "planted", "n_accounts": 25, "exchanges": 30})
MIX = Mix(
    first=START,
    last=START + timedelta(days=9),
    n_accounts=400,
    columns=frozenset({"account_id", "ts", "prompt", "ip", "user_agent", "model"}),
    account_columns=frozenset({"account_id", "payment_fingerprint"}),
    egress=[("203.0.113.7", 40), ("2001:db8::5", 9)],
    clients=[("shop/1", None, 30), ("shop/2", None, 10)],
    models=["ours-a", "ours-b"],
)


def batch(rows: Sequence[tuple[object, ...]]) -> pa.RecordBatch:
    """Exchanges of the columns that are looked at, seconds after `START` first."""
    columns = list(zip(*rows, strict=True))
    times = pa.array([START + timedelta(seconds=float(str(each))) for each in columns[0]], TIMESTAMP)
    texts = [pa.array(column, pa.string()) for column in columns[1:]]
    return pa.record_batch([times, *texts], names=list(LOOKED_AT))


def test_a_mix_is_what_strangers_share() -> None:
    """Addresses of three accounts or more, clients by their users, models by age, and the whole time."""
    rows: list[tuple[object, ...]] = [(n, f"a{n}", "203.0.113.7", "shop/1", None, "old") for n in range(3)]
    rows += [(50, "a0", "198.51.100.1", "shop/2", "t13d", "new"), (40, "a1", "198.51.100.1", "shop/1", None, "old")]
    mix = measure_mix([batch(rows[:2]), batch(rows[2:])], None, columns=lambda: ["ts", "account_id"])
    assert mix.egress == [("203.0.113.7", 3)]
    assert mix.clients == [("shop/1", None, 3), ("shop/2", "t13d", 1)]
    assert (mix.models, mix.n_accounts) == (["old", "new"], 3)
    assert (mix.first, mix.last) == (START, START + timedelta(seconds=50))
    assert mix.columns == {"ts", "account_id"} and mix.account_columns == frozenset()


def test_a_mix_does_not_hang_on_how_the_logs_are_cut() -> None:
    """Many small batches give the mix of one."""
    rows = [(n, f"a{n % 40}", f"203.0.113.{n % 5}", f"c/{n % 7}", None, f"m{n % 2}") for n in range(300)]
    whole = measure_mix([batch(rows)], None, columns=lambda: [])
    assert measure_mix([batch([row]) for row in rows], None, columns=lambda: []) == whole


def test_columns_of_accounts_that_hold_nothing_are_absent() -> None:
    """What no account of theirs has, no planted account has."""
    names = {"account_id": ["a"], "payment_bin": ["411111"], "country": [None]}
    accounts = pa.table({field.name: pa.array(names.get(field.name, [None]), field.type) for field in ACCOUNTS})
    mix = measure_mix([batch([(0, "a", None, None, None, None)])], accounts, columns=lambda: [])
    assert mix.account_columns == {"account_id", "payment_bin"}
    assert mix.egress == [] and mix.models == []


def test_logs_without_rows_have_no_mix() -> None:
    """An empty log is refused with what to do."""
    with pytest.raises(InputError, match="doctor"):
        measure_mix([], None, columns=lambda: [])


def test_planted_rows_have_the_columns_and_the_time_of_the_logs() -> None:
    """No column the logs lack, no row outside their time, no id that could be anybody's."""
    played = plant(CREW, MIX, seed=3)
    assert set(played.exchanges.column_names) == MIX.columns
    assert set(played.accounts.column_names) == MIX.account_columns
    assert pc.min(played.exchanges["ts"]).as_py() >= MIX.first and pc.max(played.exchanges["ts"]).as_py() <= MIX.last
    ids = set(played.exchanges["account_id"].to_pylist())
    assert ids == set(played.accounts["account_id"].to_pylist()) == set(played.truth["account_id"].to_pylist())
    assert ids and all(one.startswith(PREFIX) for one in ids)


def test_planted_rows_carry_the_names_of_the_logs() -> None:
    """Models and clients are theirs, the newest model after the newest, and no name of the simulator is left."""
    rows = plant(CREW, MIX, seed=3).exchanges
    assert set(rows["model"].to_pylist()) <= set(MIX.models)
    assert set(rows["user_agent"].to_pylist()) <= {"shop/1", "shop/2"}


def test_shared_networks_are_addresses_of_the_logs() -> None:
    """What several planted accounts share leads through strangers' addresses; an exit of one's own stays one's own."""
    theirs = {address for address, _ in MIX.egress}
    rented = plant(CREW, MIX, seed=3).exchanges
    shared = pc.is_in(rented["ip"], pa.array(sorted(theirs)))
    assert pc.mean(shared.cast(pa.float64())).as_py() > 0.5
    own = plant(CREW.at_tier(2), MIX, seed=3).exchanges
    alone = pc.invert(pc.is_in(own["ip"], pa.array(sorted(theirs))))
    assert pc.mean(alone.cast(pa.float64())).as_py() > 0.5


def test_the_same_seed_plants_the_same_rows() -> None:
    """Planting is a matter of campaign, mix and seed."""
    assert plant(CREW, MIX, seed=3).exchanges.equals(plant(CREW, MIX, seed=3).exchanges)
    assert not plant(CREW, MIX, seed=4).exchanges.equals(plant(CREW, MIX, seed=3).exchanges)


def test_bare_logs_take_a_bare_campaign() -> None:
    """Logs of nothing but accounts and times get nothing else."""
    bare = replace(
        MIX, columns=frozenset({"account_id", "ts"}), account_columns=frozenset(), egress=(), clients=(), models=()
    )
    played = plant(CREW, bare, seed=3)
    assert played.exchanges.column_names == ["account_id", "ts"]


def test_an_hour_is_too_short() -> None:
    """Logs of less than an hour are refused."""
    with pytest.raises(SettingsError, match="less than an hour"):
        plant(CREW, replace(MIX, last=START + timedelta(minutes=59)), seed=1)
