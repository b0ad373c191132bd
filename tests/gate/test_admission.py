"""The gate as a call: rulings, budgets, the journal, and what happens where one of them fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stillwatch.gate.admission import WAITS_S, Gate
from stillwatch.gate.ledger import Ledger
from stillwatch.journal import Journal
from stillwatch.policy.model import Policy
from stillwatch.policy.snapshot import Snapshot
from stillwatch.records import ACTIONS, DECISIONS
from tests.gate.making import KEY, PLAIN, TICKET, FullDisk, Gone, Nowhere, made
from tests.policy.making import policy, request, snapshot


def test_a_harmless_call_passes_and_is_journaled(tmp_path: Path) -> None:
    """An ordinary account is let through; the journal holds its decision with the policy's version."""
    with made(tmp_path) as one:
        admission = one.gate.admit(one.ask())
        assert (admission.passes, admission.action, admission.reason) == (True, "allow", "ok")
        (body,) = one.decisions()
    assert body["decision_id"] == admission.decision_id
    assert (body["account_id"], body["policy_version"], body["failure"]) == ("ann", "plain", None)
    assert set(DECISIONS.names) - {"ts"} <= set(body)
    assert one.journal.verify() == 1


def test_each_decision_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Ids differ between calls and cannot be told from one another; a refusal has an appeal id besides."""
    with made(tmp_path) as one:
        answers = [one.gate.admit(one.ask(n_tokens=4000)) for _ in range(5)]
    assert len({answer.decision_id for answer in answers}) == 5
    assert [answer.appeal_id is not None for answer in answers] == [False, False, True, True, True]
    assert all(answer.appeal_id != answer.decision_id for answer in answers)


def test_a_spent_budget_says_when_to_come_back_and_no_more(tmp_path: Path) -> None:
    """The client hears a rounded wait and a coarse word; which budget and how long is for the operator."""
    with made(tmp_path) as one:
        assert one.gate.admit(one.ask(n_tokens=10_000)).passes
        refused = one.gate.admit(one.ask(n_tokens=7_300))
        assert (refused.action, refused.reason, refused.retry_after_s) == ("slow", "try_later", 10)
        one.turn(10_000)
        assert one.gate.admit(one.ask(n_tokens=7_300)).passes
        body = one.decisions()[1]
    assert (body["wait_ms"], body["retry_after_ms"]) == (7_300, 10_000)
    assert body["refused_by"].startswith("account:")
    assert set(WAITS_S) >= {refused.retry_after_s}


def test_a_call_larger_than_any_budget_is_told_so(tmp_path: Path) -> None:
    """No wait makes it fit, so none is told."""
    with made(tmp_path) as one:
        refused = one.gate.admit(one.ask(n_tokens=10_001))
    assert (refused.passes, refused.action, refused.reason, refused.retry_after_s) == (False, "deny", "too_large", None)


def test_settling_gives_back_what_was_not_used(tmp_path: Path) -> None:
    """A settled call frees the rest of its reservation, once; one that is not stays spent."""
    with made(tmp_path) as one:
        first = one.gate.admit(one.ask(n_tokens=10_000))
        assert not one.gate.admit(one.ask(n_tokens=9_000)).passes
        assert one.gate.settle(first.decision_id, 1_000)
        assert not one.gate.settle(first.decision_id, 0)
        assert one.gate.admit(one.ask(n_tokens=9_000)).passes


def test_accounts_of_a_campaign_share_one_budget_and_one_pace_each(tmp_path: Path) -> None:
    """Two accounts of one lineage draw on its budget; each may call only once in the time its rule says."""
    with made(tmp_path) as one:
        assert one.gate.admit(one.ask("bot-1", n_tokens=6_000)).passes
        second = one.gate.admit(one.ask("bot-2", n_tokens=6_000))
        assert not second.passes
        assert one.gate.admit(one.ask("ann", n_tokens=6_000)).passes
        assert not one.gate.admit(one.ask("bot-1", n_tokens=1)).passes
        one.turn(2_000)
        again = one.gate.admit(one.ask("bot-1", n_tokens=1))
        assert (again.passes, again.action, again.reason) == (True, "slow", "ok")
        bodies = one.decisions()
    assert bodies[1]["refused_by"] == "lineage:lineage-hour"
    assert bodies[1]["lineage_id"] == "lin-0"


def test_a_mark_is_handed_over_sealed(tmp_path: Path) -> None:
    """An account that is to be marked gets the ticket of its lineage's key; nobody else gets one."""
    with made(tmp_path) as one:
        assert one.gate.admit(one.ask("shared-1")).mark == TICKET
        assert one.gate.admit(one.ask("ann")).mark is None


def test_a_mark_without_a_ticket_is_a_failure(tmp_path: Path) -> None:
    """Answers that ought to be marked do not leave unmarked because a file is incomplete."""
    with made(tmp_path, tickets={}) as one:
        assert not one.gate.admit(one.ask("shared-1")).passes
        assert "no ticket" in one.decisions()[0]["failure"]


MODES = {
    "deny": (False, "deny", "unavailable"),
    "allow": (True, "allow", "ok"),
    "allow_limited": (True, "allow_limited", "limited"),
}


def failing(mode: str) -> str:
    return PLAIN.replace('on_failure = "deny"', f'on_failure = "{mode}"')


@pytest.mark.parametrize("mode", MODES)
def test_without_budgets_the_stated_mode_holds(tmp_path: Path, mode: str) -> None:
    """Budgets that cannot be asked are answered as the policy says, and the journal says why."""
    with made(tmp_path, failing(mode), budgets=Gone()) as one:
        answer = one.gate.admit(one.ask(features=frozenset({"logprobs", "batch"})))
        assert (answer.passes, answer.action, answer.reason) == MODES[mode]
        soon = asyncio.run(one.gate.admit_soon(one.ask()))
        assert (soon.passes, soon.action, soon.reason) == MODES[mode]
        assert not one.gate.settle(answer.decision_id, 1)
        assert not asyncio.run(one.gate.settle_soon(answer.decision_id, 1))
        assert [body["failure"] for body in one.decisions()] == ["BudgetsError: gone"] * 2
    if mode == "allow_limited":
        assert (answer.features_off, answer.max_output_tokens) == (frozenset({"reasoning", "logprobs"}), 500)


@pytest.mark.parametrize("mode", MODES)
def test_on_a_full_disk_the_stated_mode_holds(tmp_path: Path, mode: str) -> None:
    """Decisions that cannot be written down are answered as the policy says, until there is room again."""
    shelf = FullDisk()
    with made(tmp_path, failing(mode), shelf=shelf) as one:
        one.gate.admit(one.ask())
        wait(lambda: one.gate.ledger.failure is not None)
        answer = one.gate.admit(one.ask())
        assert (answer.passes, answer.action, answer.reason) == MODES[mode]
        shelf.is_full = False
        wait(lambda: one.gate.ledger.failure is None)
        assert one.gate.admit(one.ask()).action == "allow"
    assert len(shelf.rows) == 3


@pytest.mark.parametrize("mode", MODES)
def test_the_journal_holds_what_was_answered_while_it_failed(tmp_path: Path, mode: str) -> None:
    """What waits for the disk is the answer that was given, not the one that would have been."""
    shelf = FullDisk()
    with made(tmp_path, failing(mode), shelf=shelf) as one:
        one.gate.admit(one.ask())
        wait(lambda: one.gate.ledger.failure is not None)
        answers = [one.gate.admit(one.ask()) for _ in range(5)]
        shelf.is_full = False
        wait(lambda: one.gate.ledger.failure is None)
    bodies = {body["decision_id"]: body for _, body, _ in shelf.rows}
    for answer in answers:
        body = bodies[answer.decision_id]
        assert (body["passes"], body["action"], body["reason"]) == (answer.passes, answer.action, answer.reason)
        assert "journal" in str(body["failure"]) and body["appeal_id"] == answer.appeal_id


@pytest.mark.parametrize("broken", ["ticket", "journal"])
def test_a_spent_budget_stays_spent_whatever_fails(tmp_path: Path, broken: str) -> None:
    """A gate that lets calls pass when it fails does not let those pass that a budget refused."""
    shelf = FullDisk()
    shelf.is_full = broken == "journal"
    with made(tmp_path, failing("allow"), tickets={}, shelf=shelf) as one:
        name = "shared-1" if broken == "ticket" else "ann"
        assert one.gate.admit(one.ask(name, n_tokens=9_000)).passes
        wait(lambda: broken == "ticket" or one.gate.ledger.failure is not None)
        answers = [one.gate.admit(one.ask(name, n_tokens=9_000)), one.gate.admit(one.ask(name, n_tokens=20_000))]
        shelf.is_full = False
    assert [(answer.passes, answer.action, answer.reason) for answer in answers] == [
        (False, "slow", "try_later"), (False, "deny", "too_large"),
    ]  # fmt: skip


def wait(is_true: Callable[[], bool]) -> None:
    ticking = threading.Event()
    for _ in range(500):
        if is_true():
            return
        ticking.wait(0.02)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", [b"{", b'{"kind": "decision"}\n', b"\xff\n"])
def test_on_a_journal_that_was_tampered_with_the_stated_mode_holds(tmp_path: Path, mode: str, end: bytes) -> None:
    """What others wrote at the end of the journal is not continued: the gate fails as the policy says."""
    with made(tmp_path, failing(mode)) as one:
        assert one.gate.admit(one.ask(n_tokens=1)).passes
        wait(lambda: one.gate.ledger.n_written == 1)
        with one.journal.path.open("ab") as file:
            file.write(end)
        one.gate.admit(one.ask(n_tokens=1))
        wait(lambda: one.gate.ledger.failure is not None)
        answer = one.gate.admit(one.ask(n_tokens=1))
        assert (answer.passes, answer.action, answer.reason) == MODES[mode]
    assert one.journal.path.read_bytes().endswith(end)


def test_a_campaign_of_many_accounts_has_one_budget(tmp_path: Path) -> None:
    """25,000 accounts of one lineage ask for an hour: they get its rate and one burst; nobody else is refused more."""
    members = tuple((f"bot-{n}", 0, 1.0) for n in range(25_000))
    text = PLAIN.replace('action = "slow"\nwait = "2s"', 'action = "allow_limited"\nfeatures_off = ["logprobs"]')
    refused, tokens = {}, 0
    for n_bots in (0, 25_000):
        with made(tmp_path / str(n_bots), text, known=snapshot(*members), shelf=Nowhere(), most_waiting=10**6) as one:
            innocent = 0
            for n in range(2_500):
                for at in range(n * n_bots // 2_500, (n + 1) * n_bots // 2_500):
                    tokens += 500 * one.gate.admit(one.ask(f"bot-{at}", n_tokens=500)).passes
                innocent += not one.gate.admit(one.ask(f"acc-{n % 50}", n_tokens=3_000)).passes
                one.turn(1_440)
            refused[n_bots] = innocent
    assert 100_000 <= tokens <= 110_000
    assert refused[0] == refused[25_000]


def test_a_full_queue_is_a_failure(tmp_path: Path) -> None:
    """Where decisions wait faster than they are written, the mode holds, and what was lost is counted."""
    with made(tmp_path, shelf=FullDisk(), most_waiting=3) as one:
        answers = [one.gate.admit(one.ask(n_tokens=1)) for _ in range(8)]
        assert not any(answer.passes for answer in answers[3:])
        assert one.gate.ledger.n_lost >= 5


class Broken:
    """Rules that cannot be read."""

    @property
    def policy(self) -> Any:
        raise RuntimeError("no policy")

    @property
    def snapshot(self) -> Any:
        raise RuntimeError("no snapshot")

    @property
    def countries(self) -> Any:
        raise RuntimeError("no countries")


def test_without_a_policy_nothing_passes(tmp_path: Path) -> None:
    """Where no policy is in force, nothing says that a call may pass, so it does not."""
    with Ledger(Journal(tmp_path / "journal")) as ledger:
        gate = Gate(Broken(), Gone(), ledger, secret=KEY, origin="test")
        assert not gate.admit(request()).passes


def test_a_refusal_by_the_policy_stays_one_when_the_gate_fails(tmp_path: Path) -> None:
    """Failing open opens nothing that the policy had closed."""
    text = failing("allow").replace('action = "slow"\nwait = "2s"', 'action = "deny"')
    with made(tmp_path, text, budgets=Gone(), shelf=FullDisk()) as one:
        assert not one.gate.admit(one.ask("bot-1")).passes
        wait(lambda: one.gate.ledger.failure is not None)
        assert not one.gate.admit(one.ask("bot-1")).passes


def test_shadow_mode_refuses_nothing_and_writes_what_it_would(tmp_path: Path) -> None:
    """In shadow mode a spent budget and a failure pass; the journal shows what would have been."""
    text = PLAIN.replace('mode = "enforce"', 'mode = "shadow"')
    with made(tmp_path / "a", text) as one:
        assert all(one.gate.admit(one.ask("bot-1", n_tokens=6_000)).passes for _ in range(3))
        bodies = one.decisions()
    assert [body["would"] for body in bodies] == ["slow"] * 3
    assert [body["refused_by"] is not None for body in bodies] == [False, True, True]
    with made(tmp_path / "b", text, budgets=Gone()) as one:
        assert one.gate.admit(one.ask()).passes


def test_time_going_backwards_opens_nothing(tmp_path: Path) -> None:
    """A clock that is set back neither refills a budget nor forgets a campaign."""
    with made(tmp_path) as one:
        assert one.gate.admit(one.ask("bot-1", n_tokens=10_000)).passes
        one.turn(-86_400_000)
        assert not one.gate.admit(one.ask("bot-1", n_tokens=1)).passes
        assert not one.gate.admit(one.ask("bot-2", n_tokens=10_000)).passes


@pytest.mark.parametrize("account", ["", "\ud800", "a\nb", "x" * 100_000, "=cmd()"])
def test_any_account_can_be_written_down(tmp_path: Path, account: str) -> None:
    """No name of an account stops the journal."""
    with made(tmp_path) as one:
        one.gate.admit(one.ask(account))
        assert len(one.decisions()) == 1


def test_every_action_is_of_the_schema(tmp_path: Path) -> None:
    """What the gate answers is one of the six actions."""
    with made(tmp_path) as one:
        for account in ("ann", "bot-1", "shared-1"):
            for n_tokens in (1, 10_000, 10_001):
                assert one.gate.admit(one.ask(account, n_tokens=n_tokens)).action in ACTIONS


def test_many_threads_share_a_gate(tmp_path: Path) -> None:
    """Calls from several threads are all journaled, in an unbroken chain, and get no more than there is."""
    with made(tmp_path) as one:
        passed: list[bool] = []

        def ask() -> None:
            passed.extend(one.gate.admit(one.ask(n_tokens=100)).passes for _ in range(50))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(passed) == 100
        assert len(one.decisions()) == 400
    assert one.journal.verify() == 400


def test_rules_are_read_for_every_call(tmp_path: Path) -> None:
    """A policy that replaces another acts with the next call."""

    @dataclass
    class Changing:
        policy: Policy
        snapshot: Snapshot
        countries: None = None

    with made(tmp_path) as one:
        rules = Changing(policy(PLAIN), one.gate.rules.snapshot)
        gate = Gate(rules, Gone(), one.gate.ledger, secret=KEY, origin="x")
        assert not gate.admit(one.ask()).passes
        rules.policy = policy(failing("allow"))
        assert gate.admit(one.ask()).passes
