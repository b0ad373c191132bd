"""lineages: the registry remembers campaigns and reviews, alone or with others, and refuses what it cannot trust."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import JournalError, LineageError
from stillwatch.keys import RootKey, Secret
from stillwatch.lineages import MAX_WHY, STEPS, Lineage, Lineages, Remembered

KEY, OTHER_KEY = (RootKey(Secret(bytes([n]) * 32)) for n in (1, 2))
DAY = datetime(2026, 9, 3, 12, tzinfo=UTC)
Campaigns = dict[str, list[str]]


def ids(first: int, last: int) -> list[str]:
    """Account ids."""
    return [f"acct-{n}" for n in range(first, last)]


@pytest.fixture
def registry(tmp_path: Path) -> Lineages:
    """A registry that is not there yet."""
    return Lineages(tmp_path / "home" / "registry.sqlite", key=KEY, wait_s=0.0)


def remember(registry: Lineages, campaigns: Campaigns, logs: str, *, day: int = 0) -> Remembered:
    """One scan of some logs."""
    return registry.remember(campaigns, logs=[logs], at=DAY + timedelta(days=day))


def only(said: Remembered) -> Lineage:
    """The lineage of the one campaign."""
    (one,) = said.campaigns
    return one


def review(
    registry: Lineages, lineage: Lineage, accounts: Iterable[str], verdict: Any, why: str = "known"
) -> list[Any]:
    """A review; what went to the journal."""
    entries: list[Any] = []
    registry.review(lineage, list(accounts), verdict, why=why, at=DAY, journal=entries.append)
    return entries


def content(path: Path) -> list[str]:
    """Everything a registry holds, as SQL."""
    db = sqlite3.connect(path)
    try:
        return list(db.iterdump())
    finally:
        db.close()


def test_a_campaign_is_recognised_in_the_next_scan(registry: Lineages) -> None:
    """New at first, the same later, with the day it was first recorded."""
    first = only(remember(registry, {"c1": ids(0, 50)}, "march"))
    again = only(remember(registry, {"c2": ids(5, 55)}, "april", day=30))
    assert (first.status, again.status) == ("new", "same")
    assert first.lineage_id == again.lineage_id and again.since == DAY.isoformat()


def test_the_same_scan_again_changes_nothing(registry: Lineages) -> None:
    """Not a byte of what is held, and the same is said, also after other scans."""
    first = remember(registry, {"c1": ids(0, 50), "c2": ids(60, 90)}, "march")
    remember(registry, {"c3": ids(0, 90)}, "april", day=30)
    before = content(registry.path)
    again = remember(registry, {"c2": ids(60, 90)[::-1], "c1": ids(0, 50)}, "march", day=60)
    assert again == first and content(registry.path) == before


def test_the_same_findings_give_the_same_lineages(tmp_path: Path) -> None:
    """In another order, in another home, the names are the same; under another key they are others."""
    campaigns = {"c1": ids(0, 50), "c2": ids(60, 90)}
    turned = {name: accounts[::-1] for name, accounts in reversed(campaigns.items())}
    said = [
        remember(Lineages(tmp_path / str(n), key=key), asked, "march")
        for n, (key, asked) in enumerate([(KEY, campaigns), (KEY, turned), (OTHER_KEY, campaigns)])
    ]
    assert said[0] == said[1]
    assert {one.lineage_id for one in said[0].campaigns}.isdisjoint(one.lineage_id for one in said[2].campaigns)


def test_a_split_is_linked_and_a_merge_keeps_the_older(registry: Lineages) -> None:
    """The smaller part names its origin; merged again, the older takes it in, and a new split has a name of its own."""
    whole = only(remember(registry, {"c1": ids(0, 100)}, "1"))
    larger, smaller = remember(registry, {"c2": ids(0, 60), "c3": ids(60, 100)}, "2", day=1).campaigns
    assert (larger.lineage_id, larger.status) == (whole.lineage_id, "same")
    assert (smaller.status, smaller.split_from) == ("split", (whole.lineage_id,))
    merged = only(remember(registry, {"c4": ids(0, 101)}, "3", day=2))
    assert (merged.lineage_id, merged.status, merged.absorbed) == (whole.lineage_id, "merged", (smaller.lineage_id,))
    apart = remember(registry, {"c2": ids(0, 60), "c3": ids(60, 100)}, "4", day=3).campaigns[1]
    assert apart.status == "split" and apart.lineage_id not in (whole.lineage_id, smaller.lineage_id)


def test_what_is_gone_is_said_once_and_may_come_back(registry: Lineages) -> None:
    """A lineage missing from the next scan is gone from it, not from memory."""
    first = only(remember(registry, {"c1": ids(0, 50)}, "1"))
    gone = remember(registry, {}, "2", day=1).gone
    assert [(one.lineage_id, one.campaign_id, one.n_accounts) for one in gone] == [(first.lineage_id, "c1", 50)]
    assert remember(registry, {}, "3", day=2).gone == ()
    back = only(remember(registry, {"c9": ids(10, 50)}, "4", day=3))
    assert (back.lineage_id, back.status) == (first.lineage_id, "same")


def test_another_key_is_another_history(registry: Lineages) -> None:
    """Hashes of two keys are not compared: new on both sides, and nobody gone."""
    remember(registry, {"c1": ids(0, 50)}, "1")
    said = remember(Lineages(registry.path, key=OTHER_KEY), {"c1": ids(0, 50)}, "1")
    assert (only(said).status, said.gone) == ("new", ())
    assert remember(registry, {"c1": ids(0, 50)}, "2").gone == ()


def test_no_account_id_is_in_the_file(registry: Lineages) -> None:
    """Accounts are keyed hashes."""
    named = remember(registry, {"c1": ids(0, 50)}, "1")
    review(registry, only(named), ids(0, 50), "dismiss")
    assert b"acct-" not in registry.path.read_bytes()


def test_the_file_is_private(registry: Lineages) -> None:
    """Mode 0600, its folder 0700."""
    remember(registry, {}, "1")
    assert stat.S_IMODE(registry.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(registry.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in registry.path.parent.iterdir()] == ["registry.sqlite"]


# --- reviews ----------------------------------------------------------------------------------------------


def test_a_review_is_remembered_and_the_latest_stands(registry: Lineages) -> None:
    """The next scan, and the same one again, say what was said last."""
    first = only(remember(registry, {"c1": ids(0, 50)}, "1"))
    entries = review(registry, first, ids(0, 50), "watch")
    assert entries == [
        {"lineage_id": first.lineage_id, "campaign_id": "c1", "verdict": "watch", "why": "known", "n_accounts": 50}
    ]
    review(registry, first, ids(0, 50), "dismiss", "a class")
    for logs in ("1", "2"):
        said = only(remember(registry, {"c1": ids(0, 50)}, logs)).review
        assert said is not None
        assert (said.verdict, said.why, said.holds, said.at) == ("dismiss", "a class", True, DAY.isoformat())


def test_a_dismissal_does_not_cover_strangers(registry: Lineages) -> None:
    """A lineage that outgrew what was reviewed is not dismissed: nobody hides behind a small false alarm."""
    first = only(remember(registry, {"c1": ids(0, 20)}, "1"))
    review(registry, first, ids(0, 20), "dismiss")
    for last, holds in ((40, True), (41, False)):
        said = only(remember(registry, {"c2": ids(0, last)}, f"to {last}"))
        assert said.lineage_id == first.lineage_id
        assert said.review is not None and said.review.holds is holds


def test_a_split_takes_the_review_along(registry: Lineages) -> None:
    """The smaller part of a dismissed lineage is dismissed until somebody says otherwise."""
    review(registry, only(remember(registry, {"c1": ids(0, 100)}, "1")), ids(0, 100), "dismiss")
    smaller = remember(registry, {"c2": ids(0, 60), "c3": ids(60, 100)}, "2").campaigns[1]
    assert smaller.review is not None and smaller.review.holds
    review(registry, smaller, ids(60, 100), "confirm")
    smaller = remember(registry, {"c2": ids(0, 60), "c3": ids(60, 100)}, "2").campaigns[1]
    assert smaller.review is not None and smaller.review.verdict == "confirm"


def test_a_dismissal_does_not_swallow_what_was_confirmed(registry: Lineages) -> None:
    """Merged with a confirmed lineage, a dismissed one is to be reviewed again."""
    one, two = remember(registry, {"c1": ids(0, 60), "c2": ids(60, 100)}, "1").campaigns
    remember(registry, {"c1": ids(0, 60), "c2": ids(60, 100)}, "1b")
    review(registry, one, ids(0, 60), "dismiss")
    review(registry, two, ids(60, 100), "confirm")
    merged = only(remember(registry, {"c3": ids(0, 100)}, "2"))
    assert merged.status == "merged" and merged.review is not None
    assert merged.review.verdict == "confirm" or not merged.review.holds


def test_a_journal_that_fails_leaves_no_review(registry: Lineages) -> None:
    """What could not be journaled does not take effect."""
    first = only(remember(registry, {"c1": ids(0, 50)}, "1"))

    def broken(_: object) -> None:
        raise JournalError("the journal is broken")

    with pytest.raises(JournalError):
        registry.review(first, ids(0, 50), "dismiss", why="x", at=DAY, journal=broken)
    assert only(remember(registry, {"c1": ids(0, 50)}, "1")).review is None


def test_a_reason_cannot_act(registry: Lineages) -> None:
    """Control characters, bidi overrides and broken text are kept as escapes."""
    first = only(remember(registry, {"c1": ids(0, 50)}, "1"))
    (entry,) = review(registry, first, ids(0, 50), "watch", "a\x1b[31m\nb\u202e\udcff")
    assert entry["why"] == "a\\x1b[31m\\x0ab\\u202e\\udcff"


@pytest.mark.parametrize(("verdict", "why"), [("flee", "x"), ("watch", " \t"), ("watch", "x" * (MAX_WHY + 1))])
def test_a_review_says_one_of_three_words_and_why(registry: Lineages, verdict: str, why: str) -> None:
    """Another word, no reason or an endless one is refused, and nothing is journaled."""
    first = only(remember(registry, {"c1": ids(0, 50)}, "1"))
    with pytest.raises(LineageError):
        review(registry, first, ids(0, 50), verdict, why)


# --- versions, damage, company ----------------------------------------------------------------------------


def older(path: Path, version: int) -> None:
    """A registry as an earlier version left it, with one lineage."""
    Lineages(path, key=KEY).remember({"c1": ids(0, 50)}, logs=["1"], at=DAY)
    db = sqlite3.connect(path)
    if version < 2:
        db.executescript("DROP TABLE reviews; DROP TABLE reviewed;")
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()


def test_an_older_version_is_brought_up_to_date(registry: Lineages) -> None:
    """What it held is kept, and reviews can be written."""
    older(registry.path, 1)
    first = only(remember(registry, {"c1": ids(0, 50)}, "2"))
    assert first.status == "same"
    review(registry, first, ids(0, 50), "confirm")
    assert any(f"PRAGMA user_version = {len(STEPS)}" in line for line in version_of(registry.path))


def version_of(path: Path) -> list[str]:
    """The version, as SQL would set it."""
    db = sqlite3.connect(path)
    try:
        return [f"PRAGMA user_version = {db.execute('PRAGMA user_version').fetchone()[0]}"]
    finally:
        db.close()


def test_a_newer_version_is_refused_and_left_alone(registry: Lineages) -> None:
    """The error names both versions."""
    older(registry.path, len(STEPS) + 1)
    before = registry.path.read_bytes()
    with pytest.raises(LineageError, match=rf"newer version; got {len(STEPS) + 1}; expected at most {len(STEPS)}"):
        remember(registry, {}, "2")
    assert registry.path.read_bytes() == before


def foreign(path: Path) -> None:
    """Somebody else's database."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.commit()
    db.close()
    path.chmod(0o600)


def half(path: Path) -> None:
    """A registry cut off."""
    Lineages(path, key=KEY).remember({f"c{n}": ids(n * 100, n * 100 + 90) for n in range(50)}, logs=["1"], at=DAY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def emptied(path: Path) -> None:
    """A registry without one of its tables."""
    older(path, len(STEPS))
    db = sqlite3.connect(path)
    db.execute("DROP TABLE scans")
    db.commit()
    db.close()


def nonsense(path: Path) -> None:
    """A registry whose words of an earlier scan are no JSON."""
    older(path, len(STEPS))
    db = sqlite3.connect(path)
    db.execute("UPDATE scans SET said = '{'")
    db.commit()
    db.close()


def noise(path: Path) -> None:
    """No database at all."""
    path.write_bytes(b"\x07" * 5_000)
    path.chmod(0o600)


def opened(path: Path) -> None:
    """A registry that others may write."""
    older(path, len(STEPS))
    path.chmod(0o666)


def linked(path: Path) -> None:
    """A link to a file elsewhere."""
    path.symlink_to(path.with_name("elsewhere"))


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "foreign": (foreign, "of something else"),
    "half": (half, "damaged"),
    "emptied": (emptied, "damaged"),
    "nonsense": (nonsense, "damaged"),
    "noise": (noise, "damaged"),
    "open": (opened, "chmod 600"),
    "link": (linked, "cannot be used"),
    "folder": (lambda path: path.mkdir(mode=0o700), "cannot be used|is no file"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_is_no_sound_registry_is_refused(tmp_path: Path, how: str) -> None:
    """One clear line, and the file is left as it was."""
    make, says = HOSTILE[how]
    path = tmp_path / "registry.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LineageError, match=says):
        Lineages(path, key=KEY, wait_s=0.0).remember({"c1": ids(0, 50)}, logs=["1"], at=DAY)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_locked_registry_says_so(registry: Lineages) -> None:
    """Another process at work is waited for, then named as the reason."""
    remember(registry, {}, "1")
    db = sqlite3.connect(registry.path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(LineageError, match="in use by another process"):
            remember(registry, {}, "2")
    finally:
        db.close()
    remember(registry, {}, "2")


def test_a_full_disk_leaves_the_registry_as_it_was(registry: Lineages) -> None:
    """Where the file cannot grow, nothing is half recorded."""
    remember(registry, {"c1": ids(0, 50)}, "1")
    before, limits = content(registry.path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (registry.path.stat().st_size, limits[1]))
    try:
        with pytest.raises(LineageError, match="cannot be written"):
            remember(registry, {"c2": ids(0, 9_000)}, "2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(registry.path) == before
    assert only(remember(registry, {"c2": ids(0, 60)}, "2")).status == "same"


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    """A home that is a file is one clear line."""
    (tmp_path / "home").write_text("x")
    with pytest.raises(LineageError, match="cannot be used"):
        Lineages(tmp_path / "home" / "registry.sqlite", key=KEY).remember({}, logs=[], at=DAY)


def review_and_die(path: Path) -> None:
    """A process that is killed after its review was written and before it was committed."""
    registry = Lineages(path, key=KEY)
    first = only(remember(registry, {"c1": ids(0, 5_000)}, "1"))
    registry.review(first, ids(0, 5_000), "dismiss", why="x", at=DAY, journal=lambda body: os._exit(9))


def test_a_killed_process_leaves_no_half_review(registry: Lineages) -> None:
    """The next process finds the lineage as it was, without the review."""
    process = multiprocessing.get_context("spawn").Process(target=review_and_die, args=(registry.path,))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    said = only(remember(registry, {"c1": ids(0, 4_999)}, "2"))
    assert said.status == "same" and said.review is None


def scan_often(path: Path, number: int) -> None:
    """What one of several processes does."""
    registry = Lineages(path, key=KEY, wait_s=60.0)
    for n in range(5):
        remember(registry, {"c1": ids(0, 50), f"c-{number}": ids(100 * number, 100 * number + 40)}, f"{number} {n}")


def test_several_processes_take_turns(registry: Lineages) -> None:
    """Every scan is recorded, and all agree on the lineage they share."""
    processes = [
        multiprocessing.get_context("spawn").Process(target=scan_often, args=(registry.path, number))
        for number in (1, 2, 3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    db = sqlite3.connect(registry.path)
    try:
        assert db.execute("SELECT count(*) FROM scans").fetchone() == (15,)
        assert db.execute("SELECT count(*) FROM lineages").fetchone() == (4,)
    finally:
        db.close()
