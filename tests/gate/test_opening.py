"""A gate that is set up from files: what ends the start, and what a file that changes later does."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import JournalError, SettingsError, StillwatchError
from stillwatch.gate.opening import Opened, Places
from stillwatch.journal import Journal
from stillwatch.keys import RootKey
from stillwatch.policy.sealed import gate_key, write_snapshot
from stillwatch.policy.snapshot import gather
from tests.conftest import ROOT
from tests.gate.making import PLAIN
from tests.needs import needs_module
from tests.policy.making import NOW, request, snapshot
from tests.policy.mmdb import write_mmdb
from tests.receive.programs import free_port, wait_for


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start waits for the journal's check as long as it takes, however busy the machine is."""
    checks(monkeypatch, start_s=60.0)


def checks(patch: pytest.MonkeyPatch, *, start_s: float, every_s: float = 60.0) -> None:
    defaults = {"every_s": every_s, "start_s": start_s}
    patch.setattr("stillwatch.gate.guarding.Guard.__init__.__kwdefaults__", defaults)


def environ(folder: Path) -> dict[str, str]:
    return {"STILLWATCH_HOME": str(folder / "home")}


def renamed(path: Path, text: str) -> None:
    """A file put in place as the documentation says."""
    draft = path.with_suffix(".new")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def sealed(folder: Path, *members: tuple[str, int, float]) -> Path:
    """A snapshot of this installation's own key."""
    path, root = folder / "gate.snapshot", RootKey.load(folder / "home", environ=environ(folder))
    lineages = snapshot().lineages
    accounts, lineage_of, membership = gather(members, lineages, key=gate_key(root, "accounts"))
    made = replace(snapshot(), accounts=accounts, lineage_of=lineage_of, membership=membership)
    write_snapshot(made, path, root)
    return path


@contextmanager
def opened(folder: Path, text: str = PLAIN, **places: Any) -> Iterator[Opened]:
    """A gate over a policy in a file, whose budgets begin full."""
    policy = folder / "policy.toml"
    policy.write_text(text, "utf-8")
    given = Places(policy, **({"new_budgets": True} | places))
    one = Opened.open(given, environ(folder), clock=lambda: NOW)
    try:
        yield one
    finally:
        one.close()


def test_the_environment_says_where_everything_is() -> None:
    """Every variable is read; what is not set is absent."""
    full = {
        "STILLWATCH_POLICY": "p.toml", "STILLWATCH_SNAPSHOT": "s", "STILLWATCH_REDIS": "redis://h:1/2",
        "STILLWATCH_TRUSTED_PROXIES": " 10.0.0.0/8 , ::1/128,", "STILLWATCH_TICKETS": "t",
        "STILLWATCH_NEW_BUDGETS": "1",
    }  # fmt: skip
    places = Places.from_environment(full)
    assert places == Places(
        Path("p.toml"), Path("s"), "redis://h:1/2", ("10.0.0.0/8", "::1/128"), Path("t"), new_budgets=True
    )
    assert Places.from_environment({"STILLWATCH_POLICY": "p.toml"}) == Places(Path("p.toml"))
    with pytest.raises(SettingsError, match="STILLWATCH_POLICY"):
        Places.from_environment({"STILLWATCH_POLICY": "  "})


@pytest.mark.parametrize(
    ("text", "places", "says"),
    [
        ("", {}, "missing"),
        ("format = 1\n[[", {}, "is not TOML"),
        (PLAIN.replace('on_failure = "deny"', ""), {}, "on_failure"),
        (PLAIN, {"snapshot": Path("nothing.snapshot")}, "nothing.snapshot"),
        (PLAIN, {"tickets": Path("nothing.json")}, "nothing.json cannot be read"),
        (PLAIN, {"trusted": ("10.0.0.1/8",)}, "is no network"),
        (PLAIN, {"trusted": ("proxy.example",)}, "is no network"),
    ],
)
def test_what_cannot_be_read_ends_the_start(tmp_path: Path, text: str, places: dict[str, Any], says: str) -> None:
    """The error names what is wrong, and no gate runs."""
    with pytest.raises(StillwatchError, match=says), opened(tmp_path, text, **places):
        pass
    assert not (tmp_path / "home" / "journal").exists()


def test_a_policy_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    """Without a policy there is no gate."""
    with pytest.raises(StillwatchError, match=r"policy\.toml"):
        Opened.open(Places(tmp_path / "policy.toml"), environ(tmp_path), clock=lambda: NOW)


@pytest.mark.parametrize(
    "tickets", ["[]", "7", "{", '{"a": 1}', '{"a": "b\\r\\nx-admin: 1"}', '{"a": "é"}', json.dumps({"a": "x" * 4097})]
)
def test_tickets_that_are_none_end_the_start(tmp_path: Path, tickets: str) -> None:
    """A ticket is printable ASCII of some length: it travels in a header."""
    (tmp_path / "tickets.json").write_text(tickets, "utf-8")
    with pytest.raises(SettingsError, match="ticket"), opened(tmp_path, tickets=tmp_path / "tickets.json"):
        pass


def test_a_snapshot_of_another_installation_ends_the_start(tmp_path: Path) -> None:
    """A snapshot under another key accuses nobody here; nor does one that was changed."""
    theirs = sealed(tmp_path / "theirs", ("bot-1", 0, 1.0))
    with pytest.raises(StillwatchError), opened(tmp_path, snapshot=theirs):
        pass
    ours = sealed(tmp_path, ("bot-1", 0, 1.0))
    content = bytearray(ours.read_bytes())
    content[-40] ^= 1
    ours.write_bytes(bytes(content))
    with pytest.raises(StillwatchError), opened(tmp_path, snapshot=ours):
        pass


@pytest.mark.parametrize("kind", ["torn", "folder"])
def test_a_journal_that_takes_nothing_ends_the_start(tmp_path: Path, kind: str) -> None:
    """A gate that could not write its first decision down does not make it."""
    journal = tmp_path / "home" / "journal"
    (journal if kind == "folder" else journal.parent).mkdir(parents=True)
    if kind == "torn":
        Journal(journal).append("decision", {}, NOW)
        journal.write_bytes(journal.read_bytes()[:-9])
    with pytest.raises(JournalError, match="journal"), opened(tmp_path):
        pass


def lines(folder: Path, n: int) -> Path:
    """A journal of so many decisions."""
    journal = Journal(folder / "home" / "journal")
    journal.append_all(("decision", {"decision_id": f"d{i}", "account_id": "ann"}, NOW) for i in range(n))
    return journal.path


def changed(path: Path, n: int) -> None:
    """Another account in one line of a journal."""
    found = path.read_bytes().splitlines(keepends=True)
    found[n] = found[n].replace(b'"ann"', b'"eve"')
    path.write_bytes(b"".join(found))


@pytest.mark.parametrize("n", [0, 57, 98])
def test_a_tampered_journal_ends_the_start(tmp_path: Path, n: int) -> None:
    """Wherever a line was changed, the gate does not start, and nothing is added."""
    path = lines(tmp_path, 100)
    changed(path, n)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=f"broken at line {n + 2}"), opened(tmp_path):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(("mode", "passes"), [("deny", False), ("allow", True)])
def test_a_journal_found_tampered_with_later_makes_the_gate_fail(
    tmp_path: Path, mode: str, passes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that takes longer than the start goes on, and then every call is answered as the policy says for that."""
    path = lines(tmp_path, 5_000)
    changed(path, 4_990)
    before, asked = path.read_bytes(), request(n_tokens=1)
    with pytest.MonkeyPatch.context() as patch:
        checks(patch, start_s=0.0)
        with opened(tmp_path, PLAIN.replace('on_failure = "deny"', f'on_failure = "{mode}"')) as one:
            ledger = one.gate.ledger
            wait_for(lambda: ledger.journal == "broken", what="the end of the check")
            admission = one.gate.admit(asked)
            assert (admission.passes, admission.reason) == (passes, "ok" if passes else "unavailable")
            assert "broken at line 4992" in str(ledger.failure) and ledger.n_lost == 1
    assert path.read_bytes() == before
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_what_is_added_is_checked_while_the_gate_runs(tmp_path: Path) -> None:
    """Once a minute; here at once. A line that somebody else changes is noticed, and the gate fails from then on."""
    path = lines(tmp_path, 10)
    with pytest.MonkeyPatch.context() as patch:
        checks(patch, start_s=60.0, every_s=0.05)
        with opened(tmp_path) as one:
            assert one.gate.admit(request(n_tokens=1)).passes and one.gate.ledger.journal == "whole"
            assert one.gate.ledger.flush()
            path.write_bytes(path.read_bytes()[:-300])
            wait_for(lambda: one.gate.ledger.journal == "broken", what="the next look")
            assert not one.gate.admit(request(n_tokens=1)).passes


def test_a_process_that_ends_by_itself_loses_no_decision(tmp_path: Path) -> None:
    """A host that never closes the gate has its journal whole all the same."""
    (tmp_path / "policy.toml").write_text(PLAIN, "utf-8")
    program = (
        "import os\nfrom stillwatch.gate.opening import Opened\nfrom stillwatch.policy.ruling import Request\n"
        "one = Opened.from_environment(os.environ)\n"
        "for _ in range(50): one.gate.admit(Request(account_id='ann', now=one.clock()))\n"
    )
    given = {"STILLWATCH_POLICY": str(tmp_path / "policy.toml"), "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", program], env=environ(tmp_path) | given, check=True, timeout=120)
    assert Journal(tmp_path / "home" / "journal").verify() == 50


@pytest.mark.services
@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:{}/0"])
def test_a_redis_that_is_not_there_ends_the_start(tmp_path: Path, url: str) -> None:
    """Budgets that cannot be reached at the start are no budgets."""
    needs_module("redis", "redis")
    with pytest.raises(StillwatchError, match="Redis"), opened(tmp_path, redis=url.format(free_port())):
        pass


def test_a_new_policy_acts_at_the_next_look(tmp_path: Path) -> None:
    """A good file takes the place of the one before as a whole; decisions cite the version that made them."""
    with opened(tmp_path) as one:
        assert one.gate.admit(request(n_tokens=1)).passes
        closed = PLAIN.replace('version = "plain"', 'version = "closed"').replace(
            'models = ["*"]', 'models = ["other"]'
        )
        renamed(tmp_path / "policy.toml", closed)
        one.rules.look()
        assert not one.gate.admit(request(n_tokens=1)).passes
        assert not one.rules.errors
    versions = [entry.body["policy_version"] for entry in Journal(tmp_path / "home" / "journal").entries()]
    assert versions == ["plain", "closed"]


@pytest.mark.parametrize("bad", ["", "format = 2", "\x00", PLAIN + "surprise = 1"])
def test_a_bad_policy_leaves_the_one_before_in_force(
    tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be used is said once, and changes nothing; the next good file acts."""
    caplog.set_level(logging.WARNING, logger="stillwatch")
    with opened(tmp_path) as one:
        renamed(tmp_path / "policy.toml", bad)
        for _ in range(3):
            one.rules.look()
        assert one.gate.admit(request(n_tokens=1)).passes and one.rules.policy.version == "plain"
        assert len(one.rules.errors) == 1 and "policy.toml" in one.rules.errors[0]
        assert [record.getMessage().count("policy.toml") for record in caplog.records] == [1]
        renamed(tmp_path / "policy.toml", PLAIN.replace('"plain"', '"next"'))
        one.rules.look()
        assert one.rules.policy.version == "next" and not one.rules.errors


def test_a_file_that_goes_away_leaves_what_it_said_in_force(tmp_path: Path) -> None:
    """Neither a policy nor a snapshot is forgotten because its file is gone."""
    path = sealed(tmp_path, ("bot-1", 0, 1.0))
    with opened(tmp_path, PLAIN.replace('action = "slow"\nwait = "2s"', 'action = "deny"'), snapshot=path) as one:
        path.unlink()
        (tmp_path / "policy.toml").unlink()
        one.rules.look()
        assert len(one.rules.errors) == 2
        assert not one.gate.admit(request("bot-1", n_tokens=1)).passes and one.gate.admit(request(n_tokens=1)).passes


def test_a_new_snapshot_acts_at_the_next_look(tmp_path: Path) -> None:
    """An account that a new snapshot names is treated so, one that it no longer names is free."""
    text = PLAIN.replace('action = "slow"\nwait = "2s"', 'action = "deny"')
    with opened(tmp_path, text, snapshot=sealed(tmp_path, ("bot-1", 0, 1.0))) as one:
        assert [one.gate.admit(request(name, n_tokens=1)).passes for name in ("bot-1", "bot-2")] == [False, True]
        sealed(tmp_path, ("bot-2", 0, 1.0))
        one.rules.look()
        assert [one.gate.admit(request(name, n_tokens=1)).passes for name in ("bot-1", "bot-2")] == [True, False]


ABROAD = (
    PLAIN
    + """
[networks]
mmdb = "geo.mmdb"
[[networks.rules]]
name = "abroad"
countries = ["XX"]
action = "deny"
"""
)


@pytest.mark.services
def test_the_policys_database_of_addresses_is_asked(tmp_path: Path) -> None:
    """A country comes from the operator's file, as it is now; what a proxy says of it goes before."""
    needs_module("geo", "maxminddb")
    write_mmdb(tmp_path / "geo.mmdb", {"192.0.2.0/24": "XX"})

    def passes(one: Opened, ip: str | None, country: str | None = None) -> bool:
        return one.gate.admit(request(ip=ip, country=country, n_tokens=1)).passes

    with opened(tmp_path, ABROAD) as one:
        assert [passes(one, ip) for ip in ("192.0.2.1", "::ffff:192.0.2.1", "198.51.100.1", "junk", None)] == [
            False, False, True, True, True,
        ]  # fmt: skip
        assert passes(one, "192.0.2.1", "YY") and not passes(one, "198.51.100.1", "XX")
        write_mmdb(tmp_path / "geo.new", {"198.51.100.0/24": "XX"})
        (tmp_path / "geo.new").replace(tmp_path / "geo.mmdb")
        one.rules.look()
        assert passes(one, "192.0.2.1") and not passes(one, "198.51.100.1")
        renamed(tmp_path / "geo.mmdb", "junk")
        one.rules.look()
        assert not passes(one, "198.51.100.1") and "geo.mmdb" in one.rules.errors[0]


@pytest.mark.services
def test_a_policy_without_its_database_is_none(tmp_path: Path) -> None:
    """A rule on countries that could never act ends the start, and is not taken later."""
    needs_module("geo", "maxminddb")
    with pytest.raises(StillwatchError, match=r"geo\.mmdb"), opened(tmp_path, ABROAD):
        pass
    with opened(tmp_path) as one:
        renamed(tmp_path / "policy.toml", ABROAD)
        one.rules.look()
        assert one.rules.policy.version == "plain" and not one.rules.policy.network_rules
        assert "geo.mmdb" in one.rules.errors[0]


def test_two_gates_name_their_decisions_apart(tmp_path: Path) -> None:
    """Processes that share a key and a store never give one name twice."""
    with opened(tmp_path) as one, opened(tmp_path) as other:
        ids = [gate.admit(request(n_tokens=1)).decision_id for gate in (one.gate, other.gate) for _ in range(3)]
    assert len(set(ids)) == 6


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Every decision is in the journal once the gate was closed, and none is taken afterwards."""
    with opened(tmp_path) as one:
        for _ in range(200):
            one.gate.admit(request(n_tokens=1))
    journal = Journal(tmp_path / "home" / "journal")
    assert journal.verify() == 200
    assert not one.gate.admit(request(n_tokens=1)).passes
    assert journal.verify() == 200


def test_a_snapshot_runs_out_by_the_gates_clock(tmp_path: Path) -> None:
    """Weeks later a snapshot accuses nobody any more."""
    later = [NOW]
    path = sealed(tmp_path, ("bot-1", 0, 1.0))
    (tmp_path / "policy.toml").write_text(PLAIN.replace('action = "slow"\nwait = "2s"', 'action = "deny"'), "utf-8")
    places = Places(tmp_path / "policy.toml", path, new_budgets=True)
    one = Opened.open(places, environ(tmp_path), clock=lambda: later[0])
    try:
        assert not one.gate.admit(request("bot-1", now=one.clock(), n_tokens=1)).passes
        later[0] += timedelta(days=31)
        assert one.gate.admit(request("bot-1", now=one.clock(), n_tokens=1)).passes
    finally:
        one.close()
