"""speech: what the accounts of a cast say, and the set texts around it, as symbols and seeds for the grammar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stillwatch.sim.campaign import Campaign
from stillwatch.sim.cast import Cast
from stillwatch.sim.dice import Dice, Flags, Ints, Words
from stillwatch.sim.population import Frame, Population
from stillwatch.sim.tongues import symbol_for

FAITHFUL = 0.55
"""Share of what a person says that is of their own favourite kind."""

HEAD, BODY, MIDDLE, MORE, TAIL, PHRASE, SYSTEM = range(7)
N_PARTS = 6
"""Parts of a prompt; the system prompt is a text of its own."""


@dataclass(slots=True)
class Lines:
    """Parts of n prompts and system prompts: arrays (n, 7); a symbol of -1 is a part left out."""

    symbols: Ints
    seeds: Words
    manners: Words
    capitals: Flags

    @classmethod
    def empty(cls, n: int) -> Lines:
        """Nothing said yet."""
        shape = (n, N_PARTS + 1)
        return cls(
            np.full(shape, -1, np.int64), np.zeros(shape, np.uint64), np.zeros(shape, np.uint64), np.zeros(shape, bool)
        )

    def put(self, at: Ints, part: int, symbol: Ints | int, seed: Words, manner: Words | None = None) -> None:
        """Say a text of a symbol in a part of some rows; without a manner the seed fixes all of it."""
        self.symbols[at, part] = symbol
        self.seeds[at, part] = seed
        self.manners[at, part] = seed if manner is None else manner


@dataclass(frozen=True, slots=True)
class Speakers:
    """Rows of one cast: where they stand among all, which account speaks, and dice for the text and its session."""

    at: Ints
    who: Ints
    text: Dice
    session: Dice

    def some(self, chosen: Flags) -> Speakers:
        """Some of the rows."""
        return Speakers(self.at[chosen], self.who[chosen], self.text[chosen], self.session[chosen])

    def people(self, cast: Cast) -> Dice:
        """Dice for the person behind each row."""
        n = cast.population.behind
        account = cast.dice[self.who]
        return account if n == 1 else Dice(account.word("person", self.session.below("person", n)))


def speak(cast: Cast, rows: Speakers, lines: Lines) -> None:
    """Say what the accounts of a population say."""
    population = cast.population
    say(cast, rows, lines, population.speech)
    for part, frame in ((HEAD, population.head), (TAIL, population.tail), (SYSTEM, population.system)):
        if frame:
            put_frame(cast, rows, lines, part, frame)


def say(
    cast: Cast,
    rows: Speakers,
    lines: Lines,
    speech: Mapping[str, float],
    *,
    part: int = BODY,
    seeds: Words | None = None,
) -> None:
    """One free text a row; a person has a favourite kind, a language and a way with capitals.

    Where `seeds` are given they fix what is said; how it is worded still changes from row to row.
    """
    population, people, text = cast.population, rows.people(cast), rows.text
    weights, languages = list(speech.values()), list(population.languages)
    favourite, drawn = people.weighted("favourite", weights), text.weighted(f"kind {part}", weights)
    kind = np.where(text.flag(f"faithful {part}", FAITHFUL), favourite, drawn)
    language = cast.language[rows.who]
    if population.behind > 1:
        language = people.weighted("language", list(population.languages.values()))
    table = np.array([[symbol_for(tongue, symbol) for symbol in speech] for tongue in languages])
    own = text.word(f"said {part}")
    lines.put(rows.at, part, table[language, kind], own if seeds is None else seeds, own)
    lines.capitals[rows.at, part] = people.flag("formal", 0.5)
    for place, symbol in enumerate(speech):
        if n_set := population.public.get(symbol):
            known = rows.some(kind == place)
            seed = cast.stage.text_seeds(symbol, symbol, known.text.below("public", n_set))
            lines.put(known.at, part, symbol_for("en", symbol), seed)


def put_frame(cast: Cast, rows: Speakers, lines: Lines, part: int, frame: Frame) -> None:
    """Put set texts around what is said, for the accounts that use them."""
    units = {"all": np.zeros(len(cast), np.int64), "group": cast.group, "account": np.arange(len(cast))}[frame.scope]
    users = rows.some(cast.dice.flag(f"frame {part}", frame.share)[rows.who])
    number = units[users.who] * frame.n + users.text.skewed(f"frame {part}", frame.n, 0.6)
    key = frame.key or cast.population.name
    lines.put(users.at, part, symbol_for("en", frame.symbol), cast.stage.text_seeds(frame.symbol, key, number))


def work(cast: Cast, rows: Speakers, lines: Lines, campaign: Campaign, victim: Population | None) -> None:
    """Send the tasks of the work list, each wrapped in a template of its account, and hide them among customers."""
    hidden = rows.text.flag("cover", campaign.cover)
    tasks, customers = rows.some(~hidden), rows.some(hidden)
    seeds = None
    if campaign.wordings > 1:
        n_tasks = max(1, round(cast.exchanges.sum() * (1 - campaign.cover) / campaign.wordings))
        seeds = cast.stage.text_seeds("task", campaign.name, tasks.text.below("task", n_tasks))
    say(cast, tasks, lines, campaign.crew.speech, seeds=seeds)
    say(cast, customers, lines, campaign.cover_speech)
    if campaign.crew.system:
        put_frame(cast, rows, lines, SYSTEM, campaign.crew.system)
    _put_templates(cast, tasks, lines, campaign)
    if victim and victim.system:
        put_frame(cast, rows, lines, SYSTEM, replace(victim.system, key=victim.system.key or victim.name))
    asks = tasks.some(tasks.text.flag("elicit", campaign.elicit))
    phrase = asks.text.word("phrase")
    if campaign.n_phrases:
        phrase = cast.stage.text_seeds("elicit", campaign.name, asks.text.below("which phrase", campaign.n_phrases))
    lines.put(asks.at, PHRASE, symbol_for("en", "elicit"), phrase)


def _put_templates(cast: Cast, tasks: Speakers, lines: Lines, campaign: Campaign) -> None:
    """Which template a task is sent with: one of the few its account has; the place decides where it stands."""
    n_all, before = sum(campaign.templates.values()), 0
    if not n_all:
        return
    slot = tasks.text.below("slot", campaign.per_account)
    number = (cast.dice[tasks.who].word("template", slot) % np.uint64(n_all)).astype(np.int64)
    for place, part in (("head", HEAD), ("tail", TAIL), ("middle", MIDDLE), ("system", SYSTEM)):
        n_here = campaign.templates.get(place, 0)
        mine = (number >= before) & (number < before + n_here)
        here, symbol = tasks.some(mine), {"middle": "head"}.get(place, place)
        seeds = cast.stage.text_seeds(symbol, f"{campaign.name}/{place}", number[mine] - before)
        lines.put(here.at, part, symbol_for("en", symbol), seeds)
        if place == "middle":
            say(cast, here, lines, campaign.crew.speech, part=MORE)
        before += n_here
