"""crew: the accounts of a campaign: signed up, paid for, hidden and replaced as its operator does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from stillwatch.sim.campaign import Campaign
from stillwatch.sim.cast import Cast, Exits, draw_cast, draw_clients, draw_exits
from stillwatch.sim.clock import RHYTHMS
from stillwatch.sim.dice import Flags, Ints
from stillwatch.sim.kernels import HOUR_US
from stillwatch.sim.mimicry import choose_models, pay_like, take_after
from stillwatch.sim.places import ZONES, Stage
from stillwatch.sim.population import Population

DAY_US = 24 * HOUR_US
ANY_CLIENT = {"web": 0.5, "app": 0.25, "sdk-py": 0.15, "sdk-js": 0.08, "curl": 0.02}
"""What clients people use, where each account of a campaign has one like anybody's."""

FACTORY_MAIL = 0.7
"""Share of accounts at the domains of their factory, where there are any."""


def enrol(stage: Stage, campaign: Campaign, crowd: Sequence[Cast], *, victim: Population | None = None) -> Cast:
    """Draw the accounts of a campaign; `victim` is the population it copies, `crowd` those it may take after."""
    crew = campaign.crew
    if victim:
        crew = replace(crew, clients=victim.clients, exits=victim.exits)
    cast = draw_cast(stage, crew)
    if not len(cast):
        return cast
    model = choose_models(cast, crowd) if campaign.mimics else None
    if model and "payment" in campaign.mimics:
        pay_like(cast, model)
    if model and "volume" in campaign.mimics:
        cast.exchanges = model.of("exchanges")
    if campaign.n_exchanges:
        cast.exchanges *= campaign.n_exchanges * stage.scale / cast.exchanges.sum()
    if campaign.life_days:
        _replace_the_banned(cast, campaign)
    _sign_up(cast, campaign)
    _deal_cards(cast, campaign)
    _deal_phones(cast, campaign)
    _leave_through(cast, campaign, rents=bool(campaign.rented) and not victim)
    _own_clients_and_hours(cast, campaign)
    if model:
        take_after(cast, model, campaign.mimics, own_client=_owns(cast, campaign, "client"))
    return cast


def _owns(cast: Cast, campaign: Campaign, facet: str) -> Flags:
    return cast.dice.flag(f"own {facet}", campaign.own.get(facet, 0.0))


def _replace_the_banned(cast: Cast, campaign: Campaign) -> None:
    """Lay the accounts out as chains: each begins some hours after the one before it was banned."""
    first, last = int(cast.begin_us.min()), int(cast.end_us.max())
    lives = np.maximum(cast.dice.exponential("life") * campaign.life_days, 0.1) * DAY_US
    waits = cast.dice.exponential("wait") * 0.4 * DAY_US
    at, begin = first, np.empty(len(cast), np.int64)
    for account, (life, wait) in enumerate(zip(lives.tolist(), waits.tolist(), strict=True)):
        at = first if at >= last - DAY_US // 8 else at
        begin[account] = at
        at = int(at + life + wait)
    order = np.argsort(cast.dice.uniform("chain"))
    cast.begin_us[order], cast.end_us[order] = begin, np.minimum(begin + lives.astype(np.int64), last)
    cast.created_us = cast.begin_us - (cast.dice.exponential("before ban") * 0.2 * DAY_US).astype(np.int64)
    there = (cast.end_us - cast.begin_us) / (last - first)
    total = cast.exchanges.sum()
    cast.exchanges *= there
    cast.exchanges *= total / cast.exchanges.sum()


def _sign_up(cast: Cast, campaign: Campaign) -> None:
    """Sign accounts up in batches before they begin; those bought keep the age they have, replacements their own."""
    dice, n_batches = cast.dice, max(1, campaign.n_batches)
    fresh = ~dice.flag("aged", campaign.aged)
    back = cast.stage.dice(n_batches, "batch", campaign.name).uniform("day") * campaign.signup_days
    days = back[dice.below("batch", n_batches)] + 0.06 * dice.normal("in batch")
    if not campaign.n_batches:
        days = dice.uniform("day") * campaign.signup_days
    start = cast.begin_us.min()
    if campaign.life_days:
        fresh &= cast.begin_us < start + DAY_US
    cast.created_us = np.where(fresh, start - (np.abs(days) * DAY_US).astype(np.int64), cast.created_us)
    if campaign.n_domains:
        own = dice.flag("factory mail", FACTORY_MAIL)
        cast.mail = np.where(own, len(cast) + dice.below("domain", campaign.n_domains), cast.mail)
        cast.own_mail |= own


def _deal_cards(cast: Cast, campaign: Campaign) -> None:
    """Give some accounts a card of their own and deal shared ones, some more used than others, to the rest."""
    dice, n = cast.dice, len(cast)
    n_cards = max(1, round(n / campaign.per_card))
    dealt = n + (n_cards * dice.uniform("dealt") ** 1.3).astype(np.int64)
    card = np.where(_owns(cast, campaign, "card"), np.arange(n), dealt)
    issuer = np.concatenate([cast.issuer, cast.issuer[cast.stage.dice(n_cards, "issuer").below("issuer", n)]])
    if campaign.n_issuers:
        few = issuer[cast.stage.dice(campaign.n_issuers, "issuers").below("issuer", n)]
        issuer = few[cast.stage.dice(len(issuer), "of issuer").below("which", len(few))]
    cast.card = np.where(cast.card < 0, -1, card)
    cast.issuer = issuer[card]


def _deal_phones(cast: Cast, campaign: Campaign) -> None:
    """Confirm accounts with the telephone numbers of their factory, where it has fewer of them than accounts."""
    if campaign.per_phone > 1:
        n_phones = max(1, round(len(cast) / campaign.per_phone))
        dealt = len(cast) + cast.dice.below("phone", n_phones)
        cast.phone = np.where(cast.phone < 0, -1, dealt)


def _leave_through(cast: Cast, campaign: Campaign, *, rents: bool) -> None:
    """Rent networks, rather those that strangers use too; accounts with an exit of their own live at a home's,
    or leave through what their kind does."""
    stage, crew = cast.stage, cast.population
    rented = {pool: _rent(stage, campaign, pool) for pool in crew.exits} if rents else None
    shared = draw_exits(stage, crew, np.arange(len(cast)), cast.country, rented=rented)
    own = _owns(cast, campaign, "exit")
    if own.any():
        pools = crew.exits if "exit" in campaign.mimics else {"home": (1, 2)}
        home = draw_exits(stage, replace(crew, exits=pools), np.arange(len(cast)), cast.country)
        shared = Exits(
            owner=np.where(own, len(cast) + home.owner, shared.owner),
            start=np.concatenate([shared.start, shared.start[-1] + home.start[1:]]),
            level=np.concatenate([shared.level, home.level]),
            network=np.concatenate([shared.network, home.network]),
            n_hosts=np.concatenate([shared.n_hosts, home.n_hosts]),
        )
    cast.exits = shared


def _rent(stage: Stage, campaign: Campaign, pool: str) -> Ints:
    numbers = stage.networks(pool)
    n = min(len(numbers), max(1, round(campaign.rented * stage.scale)))
    luck = stage.dice(len(numbers), "rent", campaign.name, pool).uniform("luck")
    # The n first arrivals of exponential clocks that run as fast as the network is popular (Efraimidis, Spirakis 2006).
    arrival = -np.log1p(-luck) * np.arange(1, len(numbers) + 1) ** stage.pool(pool).skew
    return numbers[np.argsort(arrival, kind="stable")[:n]]


def _own_clients_and_hours(cast: Cast, campaign: Campaign) -> None:
    """Give some accounts any client there is, and a time zone and a rhythm of their own."""
    own = _owns(cast, campaign, "client")
    if own.any():
        anybody = replace(cast.population, clients=ANY_CLIENT)
        theirs = cast.clients.num_rows + draw_clients(cast.stage, anybody, cast.dice)
        cast.clients = pa.concat_tables([cast.clients, *(cast.stage.clients(family) for family in ANY_CLIENT)])
        cast.client = np.where(own, theirs, cast.client)
        cast.cap = np.where(own, cast.clients["max_tokens"].to_numpy()[cast.client], cast.cap)
        cast.heat = np.where(own, cast.clients["temperature"].to_numpy()[cast.client], cast.heat)
    own = _owns(cast, campaign, "hours")
    cast.zone = np.where(own, ZONES[cast.dice.below("own zone", len(ZONES))], cast.zone)
    office, people = RHYTHMS.index("office"), RHYTHMS.index("people")
    cast.rhythm = np.where(own, np.where(cast.dice.flag("own rhythm", 0.3), office, people), cast.rhythm)
