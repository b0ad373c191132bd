"""campaign: one operator behind many accounts, who harvests answers from a work list.

A campaign is a population (its crew) and what an operator does with it: sign accounts up in batches, pay with few
cards, rent networks that strangers use too, cut one work list without repeats into shards, wrap each task in templates,
and ask for the reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.errors import SettingsError
from stillwatch.sim.clock import HOUR_US
from stillwatch.sim.grammar import PARAGRAPH, SPACE, join
from stillwatch.sim.places import Flags, Ints, Stage
from stillwatch.sim.population import Draft, Population, draft, networks
from stillwatch.sim.speech import framed, say
from stillwatch.sim.tongues import grammar_for

PLACES = ("head", "tail", "middle", "system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A crew and how it is run; shares are of 1, `signup_days` count back from a point in the first third."""

    crew: Population
    own_card: float = 0.4
    n_cards: int = 14
    """Cards shared by the accounts that have none of their own."""
    n_issuers: int = 0
    """Issuers of all its cards; 0: as everybody's."""
    signup_days: float = 9.0
    n_batches: int = 6
    """Afternoons on which accounts are signed up; 0: evenly over the days."""
    aged: float = 0.15
    """Share of accounts that were bought, with an age like anybody's."""
    rented: int = 45
    """Networks it rents in each pool of its crew; 0: it draws on the whole pool."""
    templates: Mapping[str, int] = field(default_factory=lambda: {"head": 5, "tail": 3, "system": 3, "middle": 0})
    """Templates by place."""
    per_account: int = 4
    """Templates an account may use."""
    elicit: float = 0.5
    """Share of tasks that ask for the reasoning; `n_phrases` ways to put it, 0: always afresh."""
    n_phrases: int = 0
    cover: float = 0.0
    """Share of exchanges that are a customer's, with no task in them; `cover_speech` is what customers say."""
    cover_speech: Mapping[str, float] = field(default_factory=lambda: {"life": 0.6, "code": 0.2, "work": 0.2})

    def __post_init__(self) -> None:
        if self.crew.group != (1, 1):
            raise SettingsError(f"campaign {self.name} has a crew in groups", do="Leave its group at (1, 1)")
        if unknown := set(self.templates) - set(PLACES):
            raise SettingsError(f"campaign {self.name} puts templates nowhere known", got=", ".join(sorted(unknown)))

    @property
    def name(self) -> str:
        """The name of the crew, and of the campaign in the truth."""
        return self.crew.name


def run(stage: Stage, campaign: Campaign) -> Draft:
    """Draft a campaign's accounts and exchanges."""
    made = draft(stage, campaign.crew)
    _sign_up(made, campaign)
    _deal_cards(made, campaign)
    if campaign.rented:
        pools = {pool: _rent(made, pool, campaign.rented) for pool in campaign.crew.exits}
        made.network = networks(made, rented=pools)
    _work(made, campaign)
    return made


def _rent(made: Draft, pool: str, n: int) -> Ints:
    """Some of the networks of a pool, rather those that others use as well."""
    numbers = made.stage.networks(pool)
    odds = np.arange(1, len(numbers) + 1) ** -made.stage.pool(pool).skew
    return made.rng.choice(numbers, min(n, len(numbers)), replace=False, p=odds / odds.sum())


def _sign_up(made: Draft, campaign: Campaign) -> None:
    """Sign accounts up in batches before they begin; those bought keep the age they have."""
    rng, day = made.rng, 24 * HOUR_US
    fresh = rng.random(made.n_accounts) >= campaign.aged
    back = rng.uniform(0, campaign.signup_days, max(1, campaign.n_batches))
    days = rng.choice(back, made.n_accounts) + rng.normal(0, 0.06, made.n_accounts)
    if not campaign.n_batches:
        days = rng.uniform(0, campaign.signup_days, made.n_accounts)
    before = made.begin_us.min() - (np.abs(days) * day).astype(np.int64)
    made.created_us = np.where(fresh, before, made.created_us)


def _deal_cards(made: Draft, campaign: Campaign) -> None:
    """Give some accounts a card of their own and deal a few shared ones to the rest."""
    rng, n = made.rng, made.n_accounts
    own = rng.random(n) < campaign.own_card
    odds = rng.dirichlet(np.full(max(1, campaign.n_cards), 2.0))
    dealt = n + rng.choice(len(odds), n, p=odds)
    card = np.where(own | (campaign.n_cards == 0), np.arange(n), dealt)
    issuer = np.concatenate([made.issuer, rng.choice(made.issuer, len(odds))])
    if campaign.n_issuers:
        issuer = rng.choice(rng.choice(issuer, campaign.n_issuers), len(issuer))
    made.card = np.where(made.card < 0, -1, card)
    made.issuer = issuer[card]


def _work(made: Draft, campaign: Campaign) -> None:
    """Write the tasks, none of them twice, wrap each in a template of its account, and hide them among customers."""
    rng, n_rows = made.rng, len(made.account)
    task = rng.random(n_rows) >= campaign.cover
    body = _without_repeats(made, campaign)
    head, tail, middle, system = (_placed(made, campaign, place, task) for place in PLACES)
    more = None
    if middle is not None:
        more = pc.if_else(pc.is_valid(middle), say(made, campaign.crew.speech), pa.scalar(None, pa.string()))
    phrase = _elicitation(made, campaign, task)
    if campaign.cover:
        body = pc.if_else(pa.array(task), body, say(made, campaign.cover_speech))
    parts = [part for part in (head, body, middle, more, tail, phrase) if part is not None]
    made.prompt = join(parts, PARAGRAPH)
    crew_system = framed(made, campaign.crew.system)
    made.system = system if crew_system is None else crew_system if system is None else pc.coalesce(system, crew_system)


def _without_repeats(made: Draft, campaign: Campaign) -> pa.Array:
    """One text for each row, all different: the work list, dealt out at random."""
    texts = say(made, campaign.crew.speech)
    codes = texts.dictionary_encode().indices.to_numpy()
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    mark = grammar_for("en", "detail").write("detail", len(texts), made.rng)
    return pc.if_else(pa.array(first), texts, join([texts, mark], SPACE))


def _placed(made: Draft, campaign: Campaign, place: str, task: Flags) -> pa.Array | None:
    """The template text of each row whose template is of this place, null elsewhere."""
    n_all = sum(campaign.templates.values())
    if not campaign.templates.get(place):
        return None
    before = sum(n for name, n in campaign.templates.items() if PLACES.index(name) < PLACES.index(place))
    number = _template_of_row(made, campaign, n_all) - before
    here = task & (number >= 0) & (number < campaign.templates[place])
    symbol = {"head": "head", "tail": "tail", "middle": "head", "system": "system"}[place]
    texts = made.stage.texts(symbol, f"{campaign.name}/{place}", campaign.templates[place])
    return texts.take(pa.array(np.where(here, number, 0), mask=~here))


def _template_of_row(made: Draft, campaign: Campaign, n_all: int) -> Ints:
    """Which template a row is sent with: one of the few its account has; the same at every call."""
    rng = made.stage.rng("templates", campaign.name)
    held = rng.integers(0, n_all, (made.n_accounts, campaign.per_account))
    return held[made.account, rng.integers(0, campaign.per_account, len(made.account))]


def _elicitation(made: Draft, campaign: Campaign, task: Flags) -> pa.Array:
    """The request for reasoning at the end of some tasks, null elsewhere."""
    rng, n_rows = made.rng, len(made.account)
    asks = task & (rng.random(n_rows) < campaign.elicit)
    if campaign.n_phrases:
        phrases = made.stage.texts("elicit", campaign.name, campaign.n_phrases)
        texts = phrases.take(pa.array(rng.integers(0, campaign.n_phrases, n_rows)))
    else:
        texts = grammar_for("en", "elicit").write("elicit", n_rows, rng)
    return pc.if_else(pa.array(asks), texts, pa.scalar(None, pa.string()))
