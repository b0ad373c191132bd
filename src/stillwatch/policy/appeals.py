"""appeals: a person says whether a decision stands; what was overturned is remembered in the journal.

The journal is the store: the last word on an account counts, an overturned account stays overturned until a later
appeal of its own is upheld, and the next snapshot and the next scan leave it out by asking `overturned_accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stillwatch.errors import InputError
from stillwatch.journal import Journal

Outcome = Literal["uphold", "overturn"]

MAX_WHY = 2000


@dataclass(frozen=True, slots=True)
class Appealed:
    """One decision that was appealed, as the journal holds it."""

    appeal_id: str
    account_id: str
    decision: dict[str, Any]
    """The body of the decision's entry."""
    outcome: Outcome
    why: str
    receipt: str
    """SHA-256 of the new line in the journal."""


def settle_appeal(journal: Journal, appeal_id: str, outcome: Outcome, *, why: str, now: datetime) -> Appealed:
    """Write down what came of an appeal.

    Args:
        appeal_id: the id a client was told, or the decision's own id.
        why: what a person says; required, at most 2,000 characters.

    Raises:
        InputError: no decision in the journal has this id, or nothing is said.
        JournalError: the journal is absent or broken; then nothing is believed and nothing written.

    Cost: reads the journal once.
    """
    if outcome not in ("uphold", "overturn"):
        raise InputError("an appeal has one of two outcomes", got=repr(outcome), expected="uphold or overturn")
    if not why.strip() or len(why) > MAX_WHY:
        raise InputError("an appeal needs a reason", got=f"{len(why):,} characters", expected=f"1 to {MAX_WHY:,}")
    decision = _decision(journal, appeal_id)
    body = {
        "appeal_id": appeal_id,
        "account_id": decision["account_id"],
        "decision_id": decision.get("decision_id"),
        "lineage_id": decision.get("lineage_id"),
        "policy_version": decision.get("policy_version"),
        "outcome": outcome,
        "why": why.strip(),
    }
    receipt = journal.append("appeal", body, now)
    return Appealed(appeal_id, decision["account_id"], decision, outcome, why.strip(), receipt)


def _decision(journal: Journal, appeal_id: str) -> dict[str, Any]:
    found = None
    for entry in journal.entries(kinds=("decision",)):
        ids = (entry.body.get("appeal_id"), entry.body.get("decision_id"))
        if appeal_id and appeal_id in ids and isinstance(entry.body.get("account_id"), str):
            found = entry.body
    if found is None:
        raise InputError(
            f"no decision in the journal {journal.path} has this id",
            got=repr(appeal_id[:80]),
            expected="the appeal id a client was told, or a decision's id",
        )
    return found


def overturned_accounts(journal: Journal) -> frozenset[str]:
    """The accounts whose last appeal was granted; none where there is no journal yet.

    Raises:
        JournalError: the journal is broken: what it says of anybody is then not believed.

    Cost: reads the journal once; of a `CheckedJournal` the appeals and the end, however many decisions there are.
    """
    if journal.is_absent:
        return frozenset()
    last: dict[str, str] = {}
    for entry in journal.entries(kinds=("appeal",)):
        account, outcome = entry.body.get("account_id"), entry.body.get("outcome")
        if isinstance(account, str) and outcome in ("uphold", "overturn"):
            last[account] = outcome
    return frozenset(account for account, outcome in last.items() if outcome == "overturn")
