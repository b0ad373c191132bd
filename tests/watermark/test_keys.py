from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from stillwatch.errors import InputError, JournalError, KeyFileError
from stillwatch.journal import Journal
from stillwatch.keys import RootKey, Secret
from stillwatch.records import Decision
from stillwatch.watermark.keys import MAX_DECISION_AGE, KeyRing, Label, Policy, key_words
from tests.watermark.making import ASKED

NOW = datetime(2026, 11, 1, tzinfo=UTC)
RULE = Policy("marks/1", "0" * 64)
DECISION = Decision("d-7", NOW, "ann", "mark", "risk")


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(RootKey(Secret(bytes(range(32)))), journal=Journal(tmp_path / "journal"))


def test_every_name_on_the_path_changes_the_key(ring: KeyRing) -> None:
    """Provider, campaign, account and epoch each give another key, and names cannot be moved between levels."""
    labels = [
        Label("1"), Label("2"), Label("1", campaign="a"), Label("1", account="a"), Label("1", "a", "b"),
        Label("1", "b", "a"), Label("1", "ab", "c"), Label("1", "a", "bc"), Label("a", account="1"),
    ]  # fmt: skip
    keys = ring.for_detection(labels, because="test", now=NOW)
    assert len({key.key_id for key in keys}) == len(labels)
    assert len(np.unique(key_words([key.secret for key in keys]), axis=0)) == len(labels)


def test_the_same_label_gives_the_same_key_under_one_root_only(ring: KeyRing, tmp_path: Path) -> None:
    """A key can be cut again for a test years later, and by nobody with another root."""
    again = KeyRing(RootKey(Secret(bytes(range(32)))), journal=Journal(tmp_path / "again"))
    other = KeyRing(RootKey(Secret(bytes(range(1, 33)))), journal=Journal(tmp_path / "other"))
    ids = [one.for_embedding(Label("1"), now=NOW).key_id for one in (ring, again, other)]
    assert ids[0] == ids[1] != ids[2]


def test_accounts_are_not_marked_without_a_reason(ring: KeyRing) -> None:
    """By default only the provider's key is there to mark with."""
    assert ring.for_embedding(Label("1"), now=NOW).label.level == "provider"
    for label in (Label("1", account="ann"), Label("1", campaign="c"), Label("1", "c", "ann")):
        with pytest.raises(KeyFileError, match="is off"):
            ring.for_embedding(label, now=NOW)


def test_a_policy_is_a_file_that_says_something(tmp_path: Path) -> None:
    """A policy is cited by the name and the hash of its text; a word, a blank file and an absent one are none."""
    path = tmp_path / "marks.md"
    path.write_text("Accounts under review are marked for 30 days.\n")
    assert Policy.read(path) == Policy("marks.md", hashlib.sha256(path.read_bytes()).hexdigest())
    (tmp_path / "blank.md").write_text(" \n")
    os.mkfifo(tmp_path / "pipe.md")  # nobody ever writes into it
    for wrong in ("absent.md", "blank.md", "", "pipe.md"):
        with pytest.raises(KeyFileError, match="policy"):
            Policy.read(tmp_path / wrong)
    with pytest.raises(KeyFileError, match="SHA-256"):
        Policy("marks/1", "yes")


@pytest.mark.parametrize("name", ["", "  ", "\n", "a\udcff"])
def test_blank_names_and_bytes_that_are_no_text_name_nobody(name: str) -> None:
    """Neither an epoch, nor a campaign, nor an account, nor a policy is called so."""
    for make in (
        lambda: Label(name), lambda: Label("1", campaign=name), lambda: Label("1", account=name),
        lambda: Policy(name, "0" * 64),
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"blank|not UTF-8"):
            make()


def test_a_policy_or_the_gates_decision_allows_it(ring: KeyRing) -> None:
    """Either gives the account's key; a decision does so for its own account and only where it says `mark`."""
    label = Label("1", account="ann")
    assert ring.for_embedding(label, because=RULE, now=NOW).key_id == (
        ring.for_embedding(label, because=DECISION, now=NOW).key_id
    )
    for wrong in (
        replace(DECISION, action="allow"), replace(DECISION, account_id="bob"), replace(DECISION, decision_id=" "),
        replace(DECISION, ts=NOW.replace(tzinfo=None)), replace(DECISION, ts=NOW + timedelta(minutes=6)),
        replace(DECISION, ts=NOW - MAX_DECISION_AGE - timedelta(seconds=1)),
    ):  # fmt: skip
        with pytest.raises(KeyFileError, match="does not cover"):
            ring.for_embedding(label, because=wrong, now=NOW)
    for other in (Label("1"), Label("1", campaign="c")):
        with pytest.raises(KeyFileError, match="does not cover"):
            ring.for_embedding(other, because=DECISION, now=NOW)
    later = NOW + timedelta(hours=2)
    assert ring.for_embedding(label, because=DECISION, now=later).label == label
    with pytest.raises(KeyFileError, match="2:00:00 old"):
        ring.for_embedding(label, because=DECISION, now=later, max_age=timedelta(hours=1))


def test_every_access_is_journaled_before_the_key_is_there(ring: KeyRing, tmp_path: Path) -> None:
    """The journal says what was asked for and why, by key id: no key and no account's name."""
    marked = ring.for_embedding(Label("1", account="ann"), because=DECISION, now=NOW)
    ring.for_detection([Label("1"), Label("1", account="bob")], because="case 12", now=NOW)
    first, second = Journal(tmp_path / "journal").entries()
    assert first.kind == second.kind == "mark_keys"
    assert (first.body["use"], first.body["because"], first.body["first_key_ids"]) == (
        "embed", "decision d-7", [marked.key_id],
    )  # fmt: skip
    assert second.body["keys"] == {"account": 1, "provider": 1}
    written = (tmp_path / "journal").read_bytes()
    assert b"ann" not in written and b"bob" not in written
    assert marked.secret.reveal().hex().encode() not in written


def test_a_refused_request_hands_nothing_out(tmp_path: Path) -> None:
    """Where the journal cannot be written there is no key."""
    ring = KeyRing(RootKey(Secret(bytes(range(32)))), journal=Journal(tmp_path))
    with pytest.raises(Exception, match="journal"):
        ring.for_detection([Label("1")], because="test", now=NOW)


def test_a_key_shows_only_its_id(ring: KeyRing) -> None:
    """Neither repr nor id tells the key or the account apart from its label."""
    key = ring.for_embedding(Label("1", account="ann"), because=RULE, now=NOW)
    assert key.secret.reveal().hex() not in repr(key)
    assert len(key.key_id) == 16 and int(key.key_id, 16) >= 0


def test_decoys_and_routing_are_keys_of_their_own(ring: KeyRing) -> None:
    """Decoys repeat, and differ from one another and from every key of the tree."""
    decoys = ring.decoys(100, epoch="1", **ASKED)
    assert decoys.shape == (100, 2) and len(np.unique(decoys, axis=0)) == 100
    assert np.array_equal(decoys[:10], ring.decoys(10, epoch="1", **ASKED))
    assert not np.array_equal(decoys[:10], ring.decoys(10, epoch="2", **ASKED))
    provider = key_words([ring.for_embedding(Label("1"), now=NOW).secret, ring.routing(epoch="1", **ASKED)])
    assert len(np.unique(np.concatenate([decoys, provider]), axis=0)) == 102
    assert len(ring.seal(**ASKED)) == 32 and ring.decoys(0, epoch="1", because="test", now=NOW).shape == (0, 2)


def test_what_marks_nothing_by_itself_is_journaled_too(ring: KeyRing, tmp_path: Path) -> None:
    """The seal, the routing key and decoys are handed out only after a line that says what for; without it, not."""
    ring.decoys(7, epoch="2", because="case 12", now=NOW)
    ring.routing(epoch="2", because="case 12", now=NOW)
    seal = ring.seal(because="an engine", now=NOW)
    bodies = [entry.body for entry in Journal(tmp_path / "journal").entries()]
    assert bodies == [
        {"use": "decoys", "because": "case 12", "n": 7, "epoch": "2"},
        {"use": "routing", "because": "case 12", "epoch": "2"},
        {"use": "seal", "because": "an engine"},
    ]
    assert seal.reveal().hex().encode() not in (tmp_path / "journal").read_bytes()
    closed = KeyRing(RootKey(Secret(bytes(range(32)))), journal=Journal(tmp_path))
    for take in (
        lambda: closed.seal(**ASKED), lambda: closed.routing(epoch="1", **ASKED),
        lambda: closed.decoys(1, epoch="1", **ASKED),
    ):  # fmt: skip
        with pytest.raises(JournalError, match="journal"):
            take()
