from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from stillwatch.errors import InputError, JournalError
from stillwatch.journal import Journal
from stillwatch.policy.appeals import overturned_accounts, settle_appeal
from tests.policy.making import NOW


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Two decisions, as a gate writes them."""
    found = Journal(tmp_path / "journal")
    for account in ("ann", "bob"):
        body = {"decision_id": f"d-{account}", "account_id": account, "action": "deny", "appeal_id": f"a-{account}"}
        found.append("decision", body | {"lineage_id": "lin-0", "policy_version": "v1"}, NOW)
    return found


def test_the_last_word_counts(journal: Journal) -> None:
    """An overturned account is remembered until a later appeal of it is upheld."""
    assert overturned_accounts(journal) == frozenset()
    settled = settle_appeal(journal, "a-ann", "overturn", why="A class of students.", now=NOW)
    assert settled.account_id == "ann"
    assert overturned_accounts(journal) == {"ann"}
    settle_appeal(journal, "d-bob", "overturn", why="x", now=NOW)
    settle_appeal(journal, "a-ann", "uphold", why="It was no class.", now=NOW)
    assert overturned_accounts(journal) == {"bob"}
    assert journal.verify(receipts=[settled.receipt]) == 5


def test_who_decided_what_and_why_is_journaled(journal: Journal) -> None:
    """The entry names the decision, its lineage, its policy and the reason."""
    settle_appeal(journal, "a-ann", "overturn", why="  Verified by hand. ", now=NOW)
    entry = list(journal.entries())[-1]
    assert entry.kind == "appeal"
    assert entry.body == {
        "appeal_id": "a-ann", "account_id": "ann", "decision_id": "d-ann", "lineage_id": "lin-0",
        "policy_version": "v1", "outcome": "overturn", "why": "Verified by hand.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("appeal_id", "outcome", "why", "says"),
    [
        ("a-eve", "overturn", "x", "no decision"),
        ("", "overturn", "x", "no decision"),
        ("a-ann", "overturn", " ", "needs a reason"),
        ("a-ann", "overturn", "x" * 2001, "needs a reason"),
        ("a-ann", "forgive", "x", "uphold or overturn"),
        ("x" * 10_000, "uphold", "x", "no decision"),
    ],
)
def test_what_makes_no_sense_is_refused(journal: Journal, appeal_id: str, outcome: str, why: str, says: str) -> None:
    """Nothing is written for an id nobody was told, or without a reason."""
    before = journal.path.read_bytes()
    with pytest.raises(InputError, match=says):
        settle_appeal(journal, appeal_id, outcome, why=why, now=NOW)  # type: ignore[arg-type]
    assert journal.path.read_bytes() == before


def test_a_tampered_journal_overturns_nobody(journal: Journal) -> None:
    """A changed line is an error for the appeal and for whoever asks for accounts."""
    settle_appeal(journal, "a-ann", "overturn", why="x", now=NOW)
    content = journal.path.read_bytes()
    journal.path.write_bytes(content.replace(b'"account_id":"ann"', b'"account_id":"eve"'))
    with pytest.raises(JournalError):
        overturned_accounts(journal)
    with pytest.raises(JournalError):
        settle_appeal(journal, "a-bob", "overturn", why="x", now=NOW)
    journal.path.write_bytes(content[:-3])
    with pytest.raises(JournalError):
        overturned_accounts(journal)


def test_an_absent_journal_overturns_nobody(tmp_path: Path) -> None:
    """Before the first decision there is no journal, and no appeal."""
    assert overturned_accounts(Journal(tmp_path / "none")) == frozenset()
    with pytest.raises(JournalError):
        settle_appeal(Journal(tmp_path / "none"), "a", "uphold", why="x", now=NOW)


def test_order_is_that_of_the_journal_not_of_the_clock(journal: Journal) -> None:
    """A clock that went back does not turn the last word around."""
    settle_appeal(journal, "a-ann", "overturn", why="x", now=NOW)
    settle_appeal(journal, "a-ann", "uphold", why="y", now=NOW - timedelta(days=9))
    assert overturned_accounts(journal) == frozenset()


def test_other_entries_are_not_decisions(journal: Journal) -> None:
    """An entry of another kind with such an id cannot be appealed."""
    journal.append("note", {"appeal_id": "n-1", "account_id": "eve"}, NOW)
    with pytest.raises(InputError):
        settle_appeal(journal, "n-1", "overturn", why="x", now=NOW)
