"""company: all casts of a world as one: the columns that the kernels read, one value per account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from stillwatch.sim.campaign import Campaign
from stillwatch.sim.cast import Cast, draw_cast, first_sessions
from stillwatch.sim.clock import Calendar
from stillwatch.sim.crew import enrol
from stillwatch.sim.dice import Dice, Flags, Floats, Ints, Words
from stillwatch.sim.kernels import HOUR_US
from stillwatch.sim.places import Stage, hexes
from stillwatch.sim.population import Population


@dataclass(frozen=True, slots=True)
class Part:
    """One cast, the campaign it is the crew of, and the population that campaign copies."""

    cast: Cast
    campaign: Campaign | None = None
    victim: Population | None = None


@dataclass(frozen=True, slots=True)
class Company:
    """Everybody; arrays from `part` on have one value per account, exits and clients their own lengths."""

    stage: Stage
    parts: Sequence[Part]
    first: Ints
    """Where the accounts of each part begin."""
    ids: pa.Array
    part: Ints
    words: Words
    begin_us: Ints
    end_us: Ints
    cap: Ints
    heat: Floats
    large: Flags
    moves_us: Ints
    habits: tuple[Floats, Floats]
    """How long an account's inputs and outputs are, as a factor of what is usual."""
    client: Ints
    clients: Mapping[str, pa.DictionaryArray]
    """Columns of all clients, one value each."""
    owner: Ints
    exit_start: Ints
    exit_level: Floats
    exit_network: Ints
    exit_hosts: Ints
    sessions: tuple[Any, ...]
    """What `kernels.sessions` reads."""
    expected: float
    """Exchanges expected in all."""

    def __len__(self) -> int:
        return len(self.part)

    def of_parts(self, field: str) -> Floats:
        """A number of the populations, for each part."""
        return np.array([getattr(part.cast.population, field) for part in self.parts], float)


def gather(stage: Stage, populations: Sequence[Population], campaigns: Sequence[Campaign]) -> Company:
    """Draw everybody. Memory is linear in accounts."""
    parts = _draw(stage, populations, campaigns)
    _fill_up(parts, stage.least_ordinary)
    casts = [part.cast for part in parts]
    sizes = [len(cast) for cast in casts]
    part = np.repeat(np.arange(len(parts)), sizes)
    words = np.concatenate([cast.dice.words for cast in casts] or [np.zeros(0, np.uint64)])
    dice, calendar = Dice(words), Calendar(stage.start_us, stage.n_days)
    firsts = [first_sessions(cast, calendar) for cast in casts]
    tables = [cast.clients for cast in casts]
    owners = [len(cast.exits.start) - 1 for cast in casts]
    n_exits = np.cumsum([0, *(len(cast.exits.network) for cast in casts)])
    all_of = np.concatenate

    def each(field: str, kind: type = float) -> Any:
        return np.array([getattr(cast.population, field) for cast in casts], kind)[part]

    winds = np.concatenate([stage.dice(1, "winds", cast.population.name).word("wind") for cast in casts])[part]
    first_us, turns, rate = (all_of([found[place] for found in firsts]) for place in range(3))
    rhythm, zone, begin, end, cap, heat, expected = (
        all_of([getattr(cast, field) for cast in casts])
        for field in "rhythm zone begin_us end_us cap heat exchanges".split()
    )
    return Company(
        stage=stage,
        parts=parts,
        first=np.cumsum([0, *sizes])[:-1],
        ids=hexes(dice.word("id"), prefix="acct_", digits=14),
        part=part,
        words=words,
        begin_us=begin,
        end_us=end,
        cap=cap,
        heat=heat,
        large=dice.flag("large", each("large")),
        moves_us=stage.release_us + (dice.exponential("moves") * each("adopt_days") * 24 * HOUR_US).astype(np.int64),
        habits=(np.exp(0.5 * dice.normal("input habit")), np.exp(0.35 * dice.normal("output habit"))),
        client=all_of([cast.client for cast in casts]) + np.cumsum([0, *(t.num_rows for t in tables)])[:-1][part],
        clients=_encoded(pa.concat_tables(tables)),
        owner=all_of([cast.exits.owner for cast in casts]) + np.cumsum([0, *owners])[:-1][part],
        exit_start=all_of([*(c.exits.start[:-1] + n for c, n in zip(casts, n_exits, strict=False)), n_exits[-1:]]),
        exit_level=all_of([cast.exits.level for cast in casts]),
        exit_network=all_of([cast.exits.network for cast in casts]),
        exit_hosts=all_of([cast.exits.n_hosts for cast in casts]),
        sessions=(
            words, rate, rhythm, zone, each("days"), begin, end, first_us, turns,
            each("session"), each("gap_s") * 1e6, each("burst"), each("gust"), winds,
        ),
        expected=float(expected.sum()),
    )  # fmt: skip


def _draw(stage: Stage, populations: Sequence[Population], campaigns: Sequence[Campaign]) -> list[Part]:
    by_name = {population.name: population for population in populations}
    parts = [Part(draw_cast(stage, population)) for population in populations]
    for campaign in campaigns:
        victim = by_name.get(campaign.copies)
        crowd = [part.cast for part in parts if not part.campaign and campaign.among in ("", part.cast.population.name)]
        parts.append(Part(enrol(stage, campaign, crowd, victim=victim), campaign, victim))
    return parts


def _fill_up(parts: Sequence[Part], least: float) -> None:
    """Let ordinary accounts send more, all by one factor, where they are expected to send too little."""
    ordinary, planted = (
        sum(float(part.cast.exchanges.sum()) for part in parts if bool(part.campaign) == which)
        for which in (False, True)
    )
    if 0.0 < ordinary < least * planted:
        for part in parts:
            if not part.campaign:
                part.cast.exchanges *= least * planted / ordinary


def _encoded(clients: pa.Table) -> dict[str, pa.DictionaryArray]:
    """Text columns as dictionaries without repeats, which Parquet needs to write the same bytes every time."""
    names = [field.name for field in clients.schema if field.type == pa.string()]
    return {name: clients[name].combine_chunks().dictionary_encode() for name in names}
