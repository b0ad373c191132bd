"""A gate that the tests build, with a journal, budgets and a clock of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stillwatch.errors import BudgetsError
from stillwatch.gate.admission import FixedRules, Gate
from stillwatch.gate.callers import Callers
from stillwatch.gate.ledger import Ledger, Row
from stillwatch.journal import Journal
from stillwatch.keys import Secret
from stillwatch.policy.budgets import Budgets, Charge, Outcome
from stillwatch.policy.budgets_memory import MemoryBudgets
from stillwatch.policy.model import Policy
from stillwatch.policy.ruling import Request
from stillwatch.policy.snapshot import Snapshot
from tests.policy.making import NOW, policy, snapshot

KEY = Secret(bytes(range(1, 33)))
TICKET = "dGlja2V0"
MEMBERS = (("bot-1", 0, 1.0), ("bot-2", 0, 1.0), ("shared-1", 1, 1.0))

PLAIN = """
format = 1
version = "plain"
mode = "enforce"
on_failure = "deny"
mark_epoch = "2026-06"
[levels.none]
models = ["*"]
capabilities = ["*"]
features = []
max_output_tokens = 500
[levels.email]
models = ["*"]
capabilities = ["*"]
features = ["reasoning", "logprobs", "batch"]
[[budgets]]
name = "account-hour"
per = "account"
tokens = 3_600_000
period = "1h"
burst = 10_000
[[budgets]]
name = "lineage-hour"
per = "lineage"
tokens = 100_000
period = "1h"
burst = 10_000
[verdicts.campaign]
action = "slow"
wait = "2s"
[verdicts.shared_access]
action = "mark"
"""


class Gone:
    """Budgets that cannot be asked."""

    def reserve(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        raise BudgetsError("gone")

    def settle(self, lease: str, used: int) -> bool:
        raise BudgetsError("gone")

    async def reserve_soon(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        raise BudgetsError("gone")

    async def settle_soon(self, lease: str, used: int) -> bool:
        raise BudgetsError("gone")


class FullDisk:
    """A journal on a full disk, until there is room."""

    def __init__(self) -> None:
        self.is_full = True
        self.rows: list[Row] = []

    def append_all(self, rows: Iterable[Row]) -> Sequence[str]:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.rows += rows
        return []


class Nowhere:
    """A journal that keeps nothing, for tests that are not about it."""

    def append_all(self, rows: Iterable[Row]) -> Sequence[str]:
        return [kind for kind, _, _ in rows]


@dataclass
class Made:
    """A gate and what it stands on."""

    gate: Gate
    journal: Journal
    callers: Callers
    ms: list[int] = field(default_factory=lambda: [0])

    def turn(self, ms: int) -> None:
        """Let time pass."""
        self.ms[0] += ms

    def clock(self) -> datetime:
        """The time."""
        return NOW + timedelta(milliseconds=self.ms[0])

    def ask(self, account: str = "ann", **known: Any) -> Request:
        """A call at this moment."""
        given: dict[str, Any] = {
            "account_id": account,
            "now": self.clock(),
            "model": "m",
            "identity_level": "email",
            "n_tokens": 100,
        }
        return Request(**given | known)

    def decisions(self) -> list[dict[str, Any]]:
        """What the journal holds, once the ledger was flushed."""
        self.gate.ledger.close()
        return [entry.body for entry in self.journal.entries() if entry.kind == "decision"]


@contextmanager
def made(
    folder: Path,
    text: str | Policy = PLAIN,
    *,
    budgets: Budgets | None = None,
    known: Snapshot | None = None,
    trusted: Sequence[str] = ("127.0.0.1/32", "10.0.0.0/8", "::1/128"),
    tickets: dict[str, str] | None = None,
    shelf: Any = None,
    most_waiting: int = 20_000,
) -> Iterator[Made]:
    """A gate over budgets in memory, which begin new, with one campaign known."""
    rules = FixedRules(policy(text) if isinstance(text, str) else text, known or snapshot(*MEMBERS))
    journal, ms = Journal(folder / "journal"), [0]
    kept = budgets if budgets is not None else MemoryBudgets(lambda: 1_000_000 + ms[0], is_new=True)
    with Ledger(shelf or journal, most_waiting=most_waiting) as ledger:
        given = {"0123456789abcdef": TICKET} if tickets is None else tickets
        gate = Gate(rules, kept, ledger, secret=KEY, origin="test", tickets=given.get)
        yield Made(gate, journal, Callers(trusted=trusted, secret=KEY), ms)


def said(body: bytes) -> Any:
    """A JSON answer."""
    return json.loads(body)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
