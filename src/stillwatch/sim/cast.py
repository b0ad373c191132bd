"""cast: the accounts of a population, drawn as columns of numbers that a campaign can still change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stillwatch.sim.clock import RHYTHMS, Calendar
from stillwatch.sim.dice import Dice, Flags, Floats, Ints
from stillwatch.sim.kernels import HOUR_US
from stillwatch.sim.places import CAPS, HEATS, HOMES, N_ISSUERS, ZONES, Stage
from stillwatch.sim.population import Population

NO_PHONE = 0.4
"""Share of accounts that never confirmed a telephone number."""


@dataclass(slots=True, kw_only=True)
class Exits:
    """Who may leave through which networks: those of owner i stand from start[i] to start[i + 1], with odds."""

    owner: Ints
    """(accounts,) whose networks an account uses."""
    start: Ints
    level: Floats
    """Cumulative odds of an owner's networks."""
    network: Ints
    n_hosts: Ints
    """Addresses in use on each."""


@dataclass(slots=True, kw_only=True)
class Cast:
    """The accounts of one population; arrays have one value per account, and -1 stands for none."""

    stage: Stage
    population: Population
    dice: Dice
    group: Ints
    language: Ints
    country: Ints
    zone: Ints
    rhythm: Ints
    created_us: Ints
    begin_us: Ints
    end_us: Ints
    exchanges: Floats
    """Expected over the calendar."""
    card: Ints
    issuer: Ints
    org: Ints
    own_mail: Flags
    """It has a domain of its own, or of its unit."""
    mail: Ints
    """Who shares its domain."""
    phone: Ints
    clients: pa.Table
    client: Ints
    cap: Ints
    heat: Floats
    exits: Exits

    def __len__(self) -> int:
        return len(self.group)


def draw_cast(stage: Stage, population: Population) -> Cast:
    """Draw the accounts of a population: who they are, when they are there, and from where; not yet what they say."""
    n = max(1, round(population.n_accounts * stage.scale)) if population.n_accounts else 0
    dice = stage.dice(n, "account", population.name)
    group = _groups(population, n, stage)
    of_group = stage.dice(int(group.max(initial=-1)) + 1, "group", population.name)
    language = of_group.weighted("language", list(population.languages.values()))
    country = _countries(population, language, of_group)[group]
    created, begin, end = _lifetimes(stage, population, group, dice)
    card = group if "card" in population.shares else np.arange(n)
    clients = pa.concat_tables([stage.clients(family) for family in population.clients])
    client = draw_clients(stage, population, dice)
    if "client" in population.shares:
        client = client[_first_of(group)][group]
    own = dice.flag("own settings", 0.3)
    org = np.where(of_group.flag("declared", population.declared)[group], group, -1)
    presence = (end - begin) / (stage.n_days * 24 * HOUR_US)
    counts = population.exchanges * np.exp(population.spread * dice.normal("volume")) * np.sqrt(presence)
    return Cast(
        stage=stage,
        population=population,
        dice=dice,
        group=group,
        language=language[group],
        country=country,
        zone=ZONES[country] + np.rint(1.4 * dice.normal("zone")).astype(np.int64),
        rhythm=np.full(n, RHYTHMS.index(population.rhythm)),
        created_us=created,
        begin_us=begin,
        end_us=end,
        exchanges=np.clip(counts, 1.0, population.most),
        card=np.where(dice.flag("free", population.free), -1, card),
        issuer=dice.skewed("issuer", N_ISSUERS, 0.8)[card] + country[card] * N_ISSUERS,
        org=org,
        own_mail=(np.full(n, "mail" in population.shares)) | (org >= 0) | dice.flag("own mail", 0.12),
        mail=group if "mail" in population.shares else np.arange(n),
        phone=np.where(dice.flag("no phone", NO_PHONE), -1, np.arange(n)),
        clients=clients,
        client=client,
        cap=np.where(own, CAPS[dice.below("cap", len(CAPS))], clients["max_tokens"].to_numpy()[client]),
        heat=np.where(own, HEATS[dice.below("heat", len(HEATS))], clients["temperature"].to_numpy()[client]),
        exits=draw_exits(stage, population, group if "network" in population.shares else np.arange(n), country),
    )


def draw_clients(stage: Stage, population: Population, dice: Dice) -> Ints:
    """The client of each account, by place in the table of all versions of its population's families."""
    sizes = np.array([stage.clients(family).num_rows for family in population.clients])
    family = dice.weighted("client family", list(population.clients.values()))
    version = (sizes[family] * dice.uniform("client version") ** 2.2).astype(np.int64)
    place: Ints = (np.cumsum(sizes) - sizes)[family] + version
    return place


def draw_exits(
    stage: Stage,
    population: Population,
    owner: Ints,
    country: Ints,
    *,
    rented: Mapping[str, Ints] | None = None,
) -> Exits:
    """Networks of each owner from the pools of its population; pools in `rented` are cut down to those networks."""
    n_owners = int(owner.max(initial=-1)) + 1
    at = np.zeros(n_owners, np.int64)
    at[owner] = country
    dice = stage.dice(n_owners, "exits", population.name)
    networks, odds, hosts = [], [], []
    for place, (pool, (fewest, most)) in enumerate(population.exits.items()):
        held = fewest + dice.below(f"held {pool}", most + 1 - fewest)
        if rented and pool in rented:
            table = np.stack(
                [rented[pool][dice.below(f"rented {pool} {nth}", len(rented[pool]))] for nth in range(most)], axis=1
            )
        else:
            table = stage.exits(pool, at, most, dice)
        nth = np.arange(most)
        used = np.where(nth < held[:, None], ((nth + 1) ** (2 / 3) - nth ** (2 / 3)), 0.0)
        total = np.maximum(used.sum(axis=1, keepdims=True), 1e-9)
        networks.append(table)
        odds.append(np.where(held[:, None] > 0, 0.4**place * used / total, 0.0))
        hosts.append(np.full(table.shape, stage.pool(pool).n_hosts))
    all_odds = np.concatenate(odds, axis=1)
    keep = all_odds > 0
    counts = keep.sum(axis=1)
    level = np.cumsum(all_odds, axis=1) / np.maximum(all_odds.sum(axis=1, keepdims=True), 1e-9)
    return Exits(
        owner=owner,
        start=np.concatenate([[0], np.cumsum(counts)]),
        level=level[keep],
        network=np.concatenate(networks, axis=1)[keep],
        n_hosts=np.concatenate(hosts, axis=1)[keep],
    )


def first_sessions(cast: Cast, calendar: Calendar) -> tuple[Ints, Ints, Floats]:
    """When the first session of each account begins (us), its length, and the rate (sessions an hour) of the rest."""
    population, dice = cast.population, cast.dice
    soon = np.where(cast.created_us >= cast.stage.start_us, cast.begin_us + 48 * HOUR_US, cast.end_us)
    latest = np.minimum(soon, cast.end_us)
    first = calendar.draw(cast.rhythm, cast.zone, cast.begin_us, latest, dice.uniform("first"))
    mean = max(population.session, 1.000001)
    length = 1 + (np.log1p(-dice.uniform("first length")) / np.log1p(-1 / mean)).astype(np.int64)
    turns = np.minimum(length, np.ceil(cast.exchanges).astype(np.int64))
    hours = np.maximum(calendar.amount(cast.rhythm, cast.zone, cast.begin_us, cast.end_us), 1e-3)
    rate: Floats = np.maximum(cast.exchanges - turns, 0.0) / mean / hours
    return first, turns, rate


def _first_of(group: Ints) -> Ints:
    return np.unique(group, return_index=True)[1]


def _groups(population: Population, n: int, stage: Stage) -> Ints:
    """Group numbers 0, 0, 1, ...; the last group may be smaller than the rest."""
    fewest, most = population.group
    sizes = fewest + stage.dice(n // fewest + 1, "sizes", population.name).below("size", most + 1 - fewest)
    return np.repeat(np.arange(len(sizes)), sizes)[:n]


def _countries(population: Population, spoken: Ints, of_group: Dice) -> Ints:
    """Where each group lives, by its language."""
    out = np.zeros(len(of_group), np.int64)
    for place, name in enumerate(population.languages):
        homes = HOMES.get(name, {0: 1.0})
        drawn = np.array(list(homes))[of_group.weighted(f"country {name}", list(homes.values()))]
        out = np.where(spoken == place, drawn, out)
    return out


def _lifetimes(stage: Stage, population: Population, group: Ints, dice: Dice) -> tuple[Ints, Ints, Ints]:
    """When accounts signed up, begin and end (us)."""
    span = float(stage.n_days * 24 * HOUR_US)
    if population.signup:
        low, high = population.signup
        at = low + (high - low) * dice.uniform("signup")
    else:
        at = np.where(dice.flag("fresh", 0.18), 0.97 * dice.uniform("signup"), -9.0 * dice.exponential("age"))
    if "signup" in population.shares and len(group):
        at = at[_first_of(group)][group] + 0.05 * dice.exponential("signup after")
    first, last = population.active
    late = first - 0.3 + (last - 0.02 - first + 0.3) * dice.uniform("in time")
    at = np.where(at > last - 0.02, late, at)
    begin = np.maximum(at, first)
    leaves = begin + (0.02 + 0.98 * dice.uniform("stays")) * (last - begin)
    end = np.where(dice.flag("churn", population.churn), leaves, last)
    created_us, begin_us, end_us = (
        stage.start_us + (moment * span).astype(np.int64) for moment in (np.minimum(at, begin), begin, end)
    )
    return created_us, begin_us, end_us
