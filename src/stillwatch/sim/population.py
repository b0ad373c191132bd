"""population: ordinary accounts, drafted as columns of numbers that a campaign can still change.

A population is data: how many accounts, in groups of what size, what a group shares, what they say, whence and when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from stillwatch.errors import SettingsError
from stillwatch.sim.clock import HOUR_US, Shifts, send_times
from stillwatch.sim.places import CAPS, HEATS, HOMES, N_ISSUERS, ZONES, Floats, Ints, Stage, skewed

SHAREABLE = frozenset({"card", "org", "mail", "network", "client", "signup"})
SCOPES = ("all", "group", "account")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Set text around what an account says: `n` texts of a symbol for everyone, for each group, or for each account."""

    symbol: str
    scope: str = "all"
    n: int = 1
    share: float = 1.0
    """Share of the accounts that use it."""
    key: str = ""
    """Populations that name the same key use the same texts; the population's own name where empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Accounts of one kind. Shares are of 1; `active` and `signup` are in parts of the calendar, which begins at 0."""

    name: str
    n_accounts: int
    exchanges: float = 9.0
    """Median exchanges of an account; `spread` is the standard deviation of their logarithm."""
    spread: float = 1.1
    most: int = 5000
    group: tuple[int, int] = (1, 1)
    """Fewest and most accounts of a group."""
    shares: frozenset[str] = frozenset()
    """What the accounts of a group have in common: any of `SHAREABLE`."""
    languages: Mapping[str, float] = field(default_factory=lambda: {"en": 1.0})
    speech: Mapping[str, float] = field(default_factory=lambda: {"life": 1.0})
    """Start symbols of the grammar and how often they are used."""
    public: Mapping[str, int] = field(default_factory=dict)
    """Start symbols that stand for so many set texts instead, the same for everyone."""
    system: Frame | None = None
    head: Frame | None = None
    tail: Frame | None = None
    exits: Mapping[str, tuple[int, int]] = field(default_factory=lambda: {"home": (1, 2)})
    """Pools, the most used first, and the fewest and most networks an account has in each."""
    stay_h: float = 6.0
    """Hours an account stays on one network."""
    clients: Mapping[str, float] = field(default_factory=lambda: {"web": 1.0})
    rhythm: str = "people"
    session: float = 4.0
    gap_s: float = 40.0
    active: tuple[float, float] = (0.0, 1.0)
    churn: float = 0.25
    """Share of accounts that leave before the end."""
    signup: tuple[float, float] | None = None
    """Sign-ups spread evenly over this part of the calendar; None: over the years before, some within."""
    free: float = 0.0
    """Share of accounts without a card."""
    declared: float = 0.0
    """Share of groups that declare an organisation."""
    retry: float = 0.03
    """Share of exchanges that repeat the account's last prompt."""
    large: float = 0.5
    """Share of accounts that prefer the large models, and move on to the newest."""
    adopt_days: float = 12.0
    output: float = 260.0
    """Median output tokens; `context` is the median of input tokens that are not in the prompt."""
    context: float = 60.0

    def __post_init__(self) -> None:
        if unknown := self.shares - SHAREABLE:
            raise SettingsError(f"population {self.name} shares what cannot be shared", got=", ".join(sorted(unknown)))
        frames = [frame for frame in (self.system, self.head, self.tail) if frame]
        if any(frame.scope not in SCOPES for frame in frames):
            raise SettingsError(f"population {self.name} has a frame of unknown scope", expected=", ".join(SCOPES))


@dataclass(slots=True, kw_only=True)
class Draft:
    """Accounts and rows of one population, before they are written; -1 stands for none.

    Arrays from `group` to `heat` have one value per account, from `account` to `network` one per exchange.
    """

    stage: Stage
    population: Population
    rng: np.random.Generator
    group: Ints
    language: Ints
    country: Ints
    created_us: Ints
    begin_us: Ints
    end_us: Ints
    card: Ints
    issuer: Ints
    org: Ints
    client: Ints
    clients: pa.Table
    cap: Ints
    heat: Floats
    account: Ints
    ts: Ints
    network: Ints
    prompt: pa.Array | None = None
    system: pa.Array | None = None

    @property
    def n_accounts(self) -> int:
        """How many accounts there are."""
        return len(self.group)

    def unit(self, facet: str) -> Ints:
        """Who has one value of a facet: the group where the population shares it, else the account."""
        return self.group if facet in self.population.shares else np.arange(self.n_accounts)


def draft(stage: Stage, population: Population) -> Draft:
    """Draw the accounts of a population and when and from where they send; not yet what they say."""
    rng = stage.rng("population", population.name)
    group = _groups(population, rng)
    language = _weighted(population.languages, group[-1] + 1, rng)[group]
    country = _countries(population, language, group, rng)
    created, begin, end = _lifetimes(stage, population, group, rng)
    card = group if "card" in population.shares else np.arange(len(group))
    paying = rng.random(len(group)) >= population.free
    clients, client = _clients(stage, population, group, rng)
    own_settings = rng.random(len(group)) < 0.3
    account = np.repeat(np.arange(len(group)), _counts(population, rng, (end - begin) / (stage.n_days * 24 * HOUR_US)))
    shifts = Shifts(
        rhythm=population.rhythm,
        begin_us=begin,
        end_us=end,
        session=population.session,
        gap_s=population.gap_s,
        zone=ZONES[country] + np.rint(rng.normal(0, 1.4, len(group))).astype(np.int64),
    )
    made = Draft(
        stage=stage,
        population=population,
        rng=rng,
        group=group,
        language=language,
        country=country,
        created_us=created,
        begin_us=begin,
        end_us=end,
        card=np.where(paying, card, -1),
        issuer=(skewed(rng, N_ISSUERS, 0.8, len(group))[card] + country[card] * N_ISSUERS),
        org=np.where((rng.random(len(group)) < population.declared)[group], group, -1),
        client=client,
        clients=clients,
        cap=np.where(own_settings, rng.choice(CAPS, len(group)), clients["max_tokens"].to_numpy()[client]),
        heat=np.where(own_settings, rng.choice(HEATS, len(group)), clients["temperature"].to_numpy()[client]),
        account=account,
        ts=send_times(stage, shifts, account, rng),
        network=account,
    )
    made.network = networks(made)
    return made


def networks(made: Draft, *, rented: Mapping[str, Ints] | None = None) -> Ints:
    """The network of each row, one of its account's exits; pools in `rented` are cut down to those networks."""
    population, rng, unit = made.population, made.rng, made.unit("network")
    n_units = int(unit.max()) + 1
    country = np.zeros(n_units, np.int64)
    country[unit] = made.country
    spell = made.account * (1 << 20) + (made.ts - made.stage.start_us) // int(population.stay_h * HOUR_US)
    _, spell = np.unique(spell, return_inverse=True)
    odds = np.empty((len(population.exits), n_units))
    tables, held = [], []
    for place, (pool, (fewest, most)) in enumerate(population.exits.items()):
        held.append(rng.integers(fewest, most + 1, n_units))
        if rented and pool in rented:
            tables.append(rng.choice(rented[pool], (n_units, most)))
        else:
            tables.append(made.stage.exits(pool, country, most, rng))
        odds[place] = np.where(held[-1] > 0, 0.4**place, 0.0)
    level = np.cumsum(odds, axis=0) / odds.sum(axis=0)
    row_unit, luck, nth = unit[made.account], rng.random(len(spell))[spell], rng.random(len(spell))[spell] ** 1.5
    pool_of_row = (luck > level[:, row_unit]).sum(axis=0)
    out = np.zeros(len(spell), np.int64)
    for place, (table, n_held) in enumerate(zip(tables, held, strict=True)):
        here = pool_of_row == place
        out[here] = table[row_unit[here], (nth[here] * n_held[row_unit[here]]).astype(np.int64)]
    return out


def _weighted(weights: Mapping[str, float], n: int, rng: np.random.Generator) -> Ints:
    """Places in a mapping, drawn by its weights."""
    shares = np.array(list(weights.values()), float)
    return rng.choice(len(shares), n, p=shares / shares.sum())


def _groups(population: Population, rng: np.random.Generator) -> Ints:
    """Group numbers 0, 0, 1, ...; the last group may be smaller than the rest."""
    fewest, most = population.group
    sizes = rng.integers(fewest, most + 1, population.n_accounts // max(1, fewest) + 1)
    return np.repeat(np.arange(len(sizes)), sizes)[: population.n_accounts]


def _countries(population: Population, language: Ints, group: Ints, rng: np.random.Generator) -> Ints:
    """Where each group lives, by its language."""
    out = np.zeros(group[-1] + 1, np.int64)
    of_group = np.zeros_like(out)
    of_group[group] = language
    for place, name in enumerate(population.languages):
        homes = HOMES.get(name, {0: 1.0})
        here = of_group == place
        out[here] = rng.choice(list(homes), here.sum(), p=list(homes.values()))
    return out[group]


def _lifetimes(stage: Stage, population: Population, group: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """When accounts signed up, begin and end (us)."""
    n, span = len(group), float(stage.n_days * 24 * HOUR_US)
    if population.signup:
        low, high = population.signup
        at = rng.uniform(low, high, n)
    else:
        at = np.where(rng.random(n) < 0.18, rng.uniform(0, 0.97, n), -rng.exponential(9.0, n))
    if "signup" in population.shares:
        at = at[group] + rng.exponential(0.05, n)
    first, last = population.active
    at = np.where(at > last - 0.02, rng.uniform(first - 0.3, last - 0.02, n), at)
    begin = np.maximum(at, first)
    end = np.where(rng.random(n) < population.churn, begin + rng.uniform(0.02, 1, n) * (last - begin), last)
    created_us, begin_us, end_us = (
        stage.start_us + (moment * span).astype(np.int64) for moment in (np.minimum(at, begin), begin, end)
    )
    return created_us, begin_us, end_us


def _clients(stage: Stage, population: Population, group: Ints, rng: np.random.Generator) -> tuple[pa.Table, Ints]:
    """The clients a population uses, and the one of each account."""
    tables = [stage.clients(family) for family in population.clients]
    sizes = np.array([table.num_rows for table in tables])
    family = _weighted(population.clients, len(group), rng)
    version = (sizes[family] * rng.random(len(group)) ** 2.2).astype(np.int64)
    client = (np.cumsum(sizes) - sizes)[family] + version
    return pa.concat_tables(tables), client[group] if "client" in population.shares else client


def _counts(population: Population, rng: np.random.Generator, presence: Floats) -> Ints:
    """Exchanges of each account: log-normal, fewer for those who were there for a shorter time, at least one."""
    drawn = rng.lognormal(np.log(population.exchanges), population.spread, len(presence)) * np.sqrt(presence)
    return np.clip(np.rint(drawn), 1, population.most).astype(np.int64)
