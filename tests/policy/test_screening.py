from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError, JournalError
from stillwatch.journal import Journal
from stillwatch.policy.screening import MAX_NAME, Listed, fold, queue, review, screen
from tests.policy.making import NOW


def listed(*names: str) -> Listed:
    found = Listed()
    found.add(names, "list.txt")
    return found


NAMES = listed(
    *("Northwind Advanced Research Institute", "Zäphod Trading Company Ltd", "量子云科技", "# a comment", "  ", "Orb")
)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("Northwind Advanced Research Institute", True),
        ("NORTHWIND  ADVANCED RESEARCH INSTITUTE, Inc.", True),
        ("Institute for Advanced Research (Northwind)", True),
        ("Northwind Advancd Reserch Institute", True),
        ("Zaphod Trading", True),
        ("The Zäphod Trading Co.", True),
        ("量子云科技", True),
        ("Orb GmbH", True),
        ("Southwind Bakery", False),
        ("Orbital Mechanics of Example City", False),
        ("Trading Post", False),
        ("", False),
    ],
)
def test_likeness(name: str, like: bool) -> None:
    """Case, accents, order, legal forms and small slips do not hide a name; a shared word does not make one alike."""
    assert bool(NAMES.like("org", name, at_least=0.8)) is like


def test_equal_names_are_wholly_alike() -> None:
    """The best likeness comes first and names its list."""
    found = NAMES.like("org", "zaphod trading", at_least=0.5)
    assert (found[0].similarity, found[0].source, found[0].listed) == (1.0, "list.txt", "Zäphod Trading Company Ltd")


@given(st.text(max_size=100))
def test_a_name_is_like_itself(name: str) -> None:
    """Any name with a letter or a digit in it is found by itself, whatever its script."""
    if fold(name.strip()) and not name.strip().startswith("#"):
        assert listed(name).like("org", name, at_least=0.99)


HOSTILE = [
    *("a" * 10_000_000, "(a+)+$" * 100_000, "\u0301" * 1_000_000, "ﷺ" * 100_000),
    *(" ".join("ab" * 50_000), "\0\n\x1b[2J", "\ud800"),
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_cut_first(name: str) -> None:
    """Length, marks and patterns make little work: a name is cut before it is folded; no pattern is run on it."""
    assert NAMES.like("org", name, at_least=0.8) == []
    found = listed(name)
    assert sum(len(grams) for _, grams in found._folded) <= 4 * MAX_NAME + 3


def test_a_likeness_is_queued_once(tmp_path: Path) -> None:
    """Queued or answered, a pair does not come again; another pair does."""
    journal = Journal(tmp_path / "journal")
    organisations = {"o1": "Zaphod Trading", "o2": "Bakery"}
    assert [one.org_id for one in screen(organisations, NAMES, journal, at_least=0.8, now=NOW)] == ["o1"]
    assert screen(organisations, NAMES, journal, at_least=0.8, now=NOW) == []
    assert [body["org_id"] for body in queue(journal)] == ["o1"]
    assert review(journal, "o1", "cleared", why="Another company.", now=NOW) == 1
    assert queue(journal) == []
    assert screen(organisations, NAMES, journal, at_least=0.8, now=NOW) == []
    more = organisations | {"o3": "Zaphod Trading Company"}
    assert [one.org_id for one in screen(more, NAMES, journal, at_least=0.8, now=NOW)] == ["o3"]


def test_the_journal_does_not_hold_the_organisations_name(tmp_path: Path) -> None:
    """A reviewer looks it up by its id."""
    journal = Journal(tmp_path / "journal")
    screen({"o1": "Zaphod Tradings of Nowhere"}, NAMES, journal, at_least=0.7, now=NOW)
    assert queue(journal)
    assert b"Nowhere" not in journal.path.read_bytes()


def test_reviews_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """An unknown organisation, another outcome, no reason."""
    journal = Journal(tmp_path / "journal")
    screen({"o1": "Zaphod Trading"}, NAMES, journal, at_least=0.8, now=NOW)
    for org, outcome, why in (("o2", "cleared", "x"), ("o1", "denied", "x"), ("o1", "cleared", " ")):
        with pytest.raises(InputError):
            review(journal, org, outcome, why=why, now=NOW)
    assert queue(journal)


def test_a_tampered_queue_is_not_believed(tmp_path: Path) -> None:
    """A changed journal stops screening instead of losing what waits."""
    journal = Journal(tmp_path / "journal")
    screen({"o1": "Zaphod Trading"}, NAMES, journal, at_least=0.8, now=NOW)
    journal.append("note", {}, NOW)
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"o1"', b'"o9"'))
    with pytest.raises(JournalError):
        screen({"o2": "Orb"}, NAMES, journal, at_least=0.8, now=NOW)
