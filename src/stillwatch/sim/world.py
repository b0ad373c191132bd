"""world: a scenario played out and written: exchanges, accounts and, apart, the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import InputError
from stillwatch.sim.campaign import Campaign, run
from stillwatch.sim.logs import account_rows, exchange_rows
from stillwatch.sim.places import POOLS, Pool, Stage, random_hex
from stillwatch.sim.population import Draft, Population, draft
from stillwatch.sim.speech import speak

N_FILES = 4
TRUTH = pa.schema([("account_id", pa.string()), ("population", pa.string()), ("campaign", pa.string())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Which populations and campaigns live in a world, from when and for how long."""

    populations: tuple[Population, ...]
    campaigns: tuple[Campaign, ...] = ()
    start: datetime = datetime(2026, 3, 2, tzinfo=UTC)
    n_days: int = 30
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Network pools to add to or change in `places.POOLS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What `write_world` wrote, and where. `truth` is for scoring only and lies outside the logs."""

    exchanges: Path
    accounts: Path
    truth: Path
    n_exchanges: int
    n_accounts: int


@dataclass(frozen=True, slots=True)
class Played:
    """The three tables of a world in memory: canonical columns, and the truth."""

    exchanges: pa.Table
    accounts: pa.Table
    truth: pa.Table


def play(scenario: Scenario, *, seed: int) -> Played:
    """Play a scenario: rows of all populations and campaigns, sorted by time. Memory is linear in exchanges."""
    stage = Stage(seed=seed, start=scenario.start, n_days=scenario.n_days, pools={**POOLS, **scenario.pools})
    drafts: list[tuple[Draft, str | None]] = []
    for population in scenario.populations:
        made = draft(stage, population)
        speak(made)
        drafts.append((made, None))
    drafts += [(run(stage, campaign), campaign.name) for campaign in scenario.campaigns]
    ids = random_hex(stage.rng("ids"), sum(made.n_accounts for made, _ in drafts), prefix="acct_", digits=10)
    exchanges, accounts, truth, at = [], [], [], 0
    for made, campaign in drafts:
        mine = ids.slice(at, made.n_accounts)
        at += made.n_accounts
        accounts.append(account_rows(made, mine))
        exchanges.append(exchange_rows(made, mine))
        columns = [
            mine,
            pa.repeat(made.population.name, len(mine)),
            pa.repeat(pa.scalar(campaign, pa.string()), len(mine)),
        ]
        truth.append(pa.Table.from_arrays(columns, schema=TRUTH))
    everyone = pa.concat_tables(accounts)
    order = pc.sort_indices(everyone["account_id"])
    rows = pa.concat_tables(exchanges)
    rows = rows.take(pc.sort_indices(rows["ts"])).combine_chunks()
    return Played(rows, everyone.take(order), pa.concat_tables(truth).take(order))


def write_world(folder: Path, *, scenario: Scenario, seed: int) -> World:
    """Play a scenario and write folder/{exchanges/*.parquet, accounts.parquet, truth.parquet}; same seed, same bytes.

    Files of an earlier world there are replaced; a folder that holds other logs is refused with InputError.
    """
    logs = folder / "exchanges"
    logs.mkdir(parents=True, exist_ok=True)
    names = [f"part-{number:04d}.parquet" for number in range(N_FILES)]
    if strange := sorted({path.name for path in logs.iterdir()} - set(names)):
        raise InputError(f"{logs} holds other files", got=strange[0], do="Choose an empty folder.")
    played = play(scenario, seed=seed)
    n_rows = played.exchanges.num_rows
    edges = [n_rows * number // N_FILES for number in range(N_FILES + 1)]
    for name, low, high in zip(names, edges, edges[1:], strict=False):
        pq.write_table(played.exchanges.slice(low, high - low), logs / name, compression="zstd", row_group_size=32768)
    world = World(
        exchanges=logs,
        accounts=folder / "accounts.parquet",
        truth=folder / "truth.parquet",
        n_exchanges=n_rows,
        n_accounts=played.accounts.num_rows,
    )
    pq.write_table(played.accounts, world.accounts, compression="zstd")
    pq.write_table(played.truth, world.truth, compression="zstd")
    return world
