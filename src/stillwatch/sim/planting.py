"""planting: a simulated campaign among the accounts of real logs: rows that look like the logs they are put beside.

Nothing of the logs is copied into them but what a campaign would share with strangers anyway: addresses that several
accounts leave through, clients, and names of models.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.errors import SettingsError
from stillwatch.records import EXCHANGES
from stillwatch.sim.campaign import Campaign
from stillwatch.sim.mix import Mix
from stillwatch.sim.places import MODELS
from stillwatch.sim.scenarios import Scenario
from stillwatch.sim.world import Played, play

PREFIX: Final = "planted-"
"""Begins every planted account id, so that none is anybody else's."""

ALWAYS: Final = ("account_id", "ts")


def plant(campaign: Campaign, mix: Mix, *, seed: int) -> Played:
    """Play a campaign within the time of the logs, with their columns, and with what it would share with strangers.

    Shared networks become addresses that several of the logs' accounts leave through, drawn by how many; networks
    of one planted account alone stay its own. Clients and models become the logs'. The texts are English.

    Raises:
        SettingsError: the logs span less than an hour, in which nobody harvests.
    """
    if mix.last - mix.first < timedelta(hours=1):
        raise SettingsError("the logs span less than an hour", do="Name logs of some days, in which a campaign shows")
    start = mix.first.replace(minute=0, second=0, microsecond=0)
    n_days = max(1, -(-(mix.last - start) // timedelta(days=1)))
    played = play(Scenario(start=start, n_days=n_days, campaigns=(campaign,)), seed=seed)
    rng = np.random.default_rng([seed, campaign.crew.n_accounts])
    rows = _within(played.exchanges, mix)
    rows = _through_egress(rows, mix, rng)
    rows = _with_clients(rows, mix, rng)
    rows = _with_models(rows, mix)
    rows, accounts, truth = (_renamed(table) for table in (rows, played.accounts, played.truth))
    there = set(rows["account_id"].to_pylist())
    seen = pa.array(sorted(there), pa.string())
    accounts, truth = (table.filter(pc.is_in(table["account_id"], seen)) for table in (accounts, truth))
    return Played(_only(rows, mix.columns), _only(accounts, mix.account_columns), truth)


def _within(rows: pa.Table, mix: Mix) -> pa.Table:
    kept = pc.and_(
        pc.greater_equal(rows["ts"], pa.scalar(mix.first, EXCHANGES.field("ts").type)),
        pc.less_equal(rows["ts"], pa.scalar(mix.last, EXCHANGES.field("ts").type)),
    )
    return rows.filter(kept)


def _renamed(table: pa.Table) -> pa.Table:
    ids = pc.binary_join_element_wise(pa.scalar(PREFIX), table["account_id"], "")
    return table.set_column(table.column_names.index("account_id"), "account_id", ids)


def _only(table: pa.Table, columns: frozenset[str]) -> pa.Table:
    """The columns that the logs have too; a conversation is not made up where the simulator writes none."""
    return table.select([name for name in table.column_names if name in columns or name in ALWAYS])


def _replaced(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def _through_egress(rows: pa.Table, mix: Mix, rng: np.random.Generator) -> pa.Table:
    """Send what leaves through a network of several planted accounts through an address strangers use."""
    if not mix.egress:
        return rows
    network = pc.replace_substring_regex(rows["ip"], r"\.\d+$", "").combine_chunks().dictionary_encode()
    users = pa.table({"network": network.indices, "account": rows["account_id"]}).group_by(["network", "account"])
    users = users.aggregate([]).group_by("network").aggregate([("account", "count")])
    shared = np.zeros(len(network.dictionary), bool)
    shared[users["network"].to_numpy()] = users["account_count"].to_numpy() > 1
    weight = np.array([n for _, n in mix.egress], np.float64)
    chosen = rng.choice(len(weight), len(shared), p=weight / weight.sum())
    there = pa.array([address for address, _ in mix.egress], pa.string()).take(pa.array(chosen))
    moved = pa.array(shared).take(network.indices)
    return _replaced(rows, "ip", pc.if_else(moved, there.take(network.indices), rows["ip"]))


def _with_clients(rows: pa.Table, mix: Mix, rng: np.random.Generator) -> pa.Table:
    """Give each client of the campaign the name and the fingerprint of one of the logs'."""
    if not mix.clients:
        return rows
    agent = rows["user_agent"].combine_chunks().dictionary_encode()
    weight = np.array([n for *_, n in mix.clients], np.float64)
    chosen = pa.array(rng.choice(len(weight), len(agent.dictionary), p=weight / weight.sum()))
    for place, name in enumerate(("user_agent", "tls_fingerprint")):
        theirs = pa.array([client[place] for client in mix.clients], pa.string()).take(chosen)
        rows = _replaced(rows, name, theirs.take(agent.indices))
    return rows


def _with_models(rows: pa.Table, mix: Mix) -> pa.Table:
    """Name the simulator's models after the logs', the newest after the newest."""
    if not mix.models:
        return rows
    names = [mix.models[max(0, len(mix.models) - len(MODELS) + place)] for place in range(len(MODELS))]
    place = pc.index_in(rows["model"], value_set=pa.array(MODELS, pa.string()))
    return _replaced(rows, "model", pa.array(names, pa.string()).take(place.combine_chunks()))
