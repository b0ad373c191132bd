"""Subjects to weigh: from any two tables of a log, or from a street of people made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.detect.digest import RowKeys, digest
from stillwatch.detect.groups import Candidate
from stillwatch.detect.population import Population, build_population
from stillwatch.detect.profiles import deduplicate, profile
from stillwatch.detect.texts import PROMPTS_READ, Texts
from stillwatch.detect.traits import N_HALVES, Traits, find_traits
from stillwatch.evidence.reading import Reading, read
from stillwatch.evidence.signal import Subject
from stillwatch.records import ACCOUNTS, EXCHANGES
from tests.worlds import KEY

Ints = npt.NDArray[np.int64]
Rng = np.random.Generator

KEYS = RowKeys.from_subkey(KEY.subkey("rows").reveal())


class Town:
    """A population with its traits and what was read again, from the two tables of a log; columns may be absent."""

    def __init__(self, exchanges: pa.Table, accounts: pa.Table | None) -> None:
        columns = {
            field.name: exchanges[field.name]
            if field.name in exchanges.column_names
            else pa.nulls(exchanges.num_rows, field.type)
            for field in EXCHANGES
        }
        batches = pa.table(columns, schema=EXCHANGES).combine_chunks().to_batches()
        facts = pa.Table.from_batches([digest(batch, keys=KEYS) for batch in batches])
        self.population: Population = build_population(profile(deduplicate(facts)), accounts)
        self.traits: Traits = find_traits(self.population, key=KEYS.value)
        self.reading: Reading | None = None
        if "prompt" in exchanges.column_names:
            self.reading = read(self._texts(exchanges), self.population, key=KEYS.value)

    def _texts(self, exchanges: pa.Table) -> Texts:
        """Some distinct prompts of everybody, in the order of accounts."""
        of: dict[str, dict[str, None]] = {name: {} for name in self.population.account_ids}
        for name, prompt in zip(exchanges["account_id"].to_pylist(), exchanges["prompt"].to_pylist(), strict=True):
            if prompt is not None and len(of[name]) < PROMPTS_READ // 2:
                of[name][prompt] = None
        owner = np.repeat(np.arange(len(of)), [len(prompts) for prompts in of.values()])
        prompts = pa.array([prompt for prompts in of.values() for prompt in prompts], pa.large_string())
        return Texts(owner, prompts, np.zeros(0, np.int64))

    def subject(self, members: Ints) -> Subject:
        """A group as it would be weighed; neither half of the hubs had a part in forming it."""
        n = len(self.population)
        membership = np.zeros(n)
        membership[members] = 1.0
        candidate = Candidate(members, membership, np.zeros(n), (members,) * N_HALVES)
        everybody, nobody = np.ones(n, bool), np.zeros(n, bool)
        return Subject(self.population, self.traits, candidate, self.population.unit, everybody, nobody, self.reading)


N_PEOPLE = 640
CROWD = np.arange(40)
"""The accounts that the tests are about; the others are neighbours."""

N_ROWS = 16
WORDS = """river stone garden letter window summer bread candle mirror forest engine violin harbour lantern meadow paper
silver thunder basket copper feather island jacket kettle ladder marble needle orchard pillow quarry ribbon saddle
timber umbrella valley walnut yarn anchor blanket chimney""".split()


@dataclass
class Habits:
    """What one account does; functions take the row's number and give its value."""

    card: str | None
    prompt: Callable[[int], str]
    ip: Callable[[int], str]
    system: str | None = None
    agent: str = "Mozilla/5.0 (X11; Linux)"
    org: str | None = None
    created: datetime = field(default_factory=lambda: datetime(2024, 1, 1, tzinfo=UTC))


def sentence(rng: Rng, n: int = 9) -> str:
    """Some words in no order."""
    return " ".join(np.array(WORDS)[rng.integers(0, len(WORDS), n)].tolist())


POPULAR = [sentence(np.random.default_rng(1000 + number)) for number in range(200)]
"""Questions that many people ask in the same words."""

REASONED = "Explain your reasoning step by step."


def chatter(rng: Rng) -> str:
    """What people ask: often what others ask as well, and now and then for the reasoning."""
    said = POPULAR[int(rng.integers(0, len(POPULAR)))] if rng.random() < 0.4 else sentence(rng)
    return f"{said}. {REASONED}" if rng.random() < 0.08 else said


def neighbour(number: int, rng: Rng) -> Habits:
    """An ordinary person: a card and a home of their own, and a walk to one of many cafes."""
    cafe = int(rng.integers(0, 60))
    return Habits(
        card=f"card-{number}" if number % 3 else None,
        prompt=lambda _: chatter(rng),
        ip=lambda row: f"10.{number // 250}.{number % 250}.7" if row % 4 else f"11.0.{cafe}.9",
        created=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=int(rng.integers(0, 9000))),
    )


def street(change: Callable[[int, Habits, Rng], None], *, seed: int = 1, n: int = N_PEOPLE) -> Town:
    """People of whom some are changed: `change` gets each account's number and habits."""
    rows: list[dict[str, Any]] = []
    accounts: list[dict[str, Any]] = []
    begin = datetime(2026, 3, 2, tzinfo=UTC)
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        habits = neighbour(number, rng)
        change(number, habits, rng)
        name = f"p{number:04d}"
        accounts.append(
            {
                "account_id": name,
                "created_at": habits.created,
                "org_id": habits.org,
                "payment_fingerprint": habits.card,
            }
        )
        rows += [
            {
                "account_id": name,
                "ts": begin + timedelta(minutes=int(rng.integers(0, 40_000)), microseconds=row),
                "prompt": habits.prompt(row),
                "system_prompt": habits.system,
                "ip": habits.ip(row),
                "user_agent": habits.agent,
            }
            for row in range(N_ROWS)
        ]
    return Town(as_table(rows, EXCHANGES), as_table(accounts, ACCOUNTS))


def as_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of the columns they have."""
    return pa.table({name: pa.array([row[name] for row in rows], schema.field(name).type) for name in rows[0]})
