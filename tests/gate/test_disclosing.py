"""The policy's `[disclosure]` on every face: a change of an account's decision shows at its time, not before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stillwatch.gate.litellm_hook import Calls
from stillwatch.gate.middleware import GateMiddleware
from stillwatch.gate.opening import Opened, Places
from stillwatch.gate.service import Service
from stillwatch.keys import RootKey
from stillwatch.policy.model import micros
from stillwatch.policy.sealed import gate_key, write_snapshot
from stillwatch.policy.snapshot import gather
from tests.gate.making import PLAIN
from tests.needs import needs_module
from tests.policy.making import NOW, request, snapshot
from tests.receive.asgi import call

TEXT = PLAIN.replace('action = "slow"\nwait = "2s"', 'action = "deny"').replace("burst = 10_000", "burst = 10_000_000")
TEXT += '[disclosure]\ndelay = "10m"\nbatch = "1h"\n'
LONGEST = timedelta(minutes=10, hours=2)


class Said(Exception):
    """A refusal of the hook."""


class Gated:
    """A gate over files, whose clock the test turns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOW
        (folder / "policy.toml").write_text(TEXT, "utf-8")
        self.environ = {"STILLWATCH_HOME": str(folder / "home")}

    def compiled(self, *accounts: str) -> None:
        """A snapshot of this moment that names accounts, put in place by renaming."""
        root = RootKey.load(self.folder / "home", environ=self.environ)
        members = [(name, 0, 1.0) for name in accounts]
        accounts_, lineage_of, membership = gather(members, snapshot().lineages, key=gate_key(root, "accounts"))
        made = replace(
            snapshot(made=self.now), accounts=accounts_, lineage_of=lineage_of, membership=membership,
            source=",".join(accounts),
        )  # fmt: skip
        write_snapshot(made, self.folder / "gate.snapshot", root)

    def opened(self) -> Opened:
        places = Places(self.folder / "policy.toml", self.folder / "gate.snapshot", None, ("127.0.0.1/32",), None, True)
        return Opened.open(places, self.environ, clock=lambda: self.now)


def python(one: Opened, name: str) -> bool:
    return one.gate.admit(request(name, now=one.clock(), n_tokens=1)).passes


def middleware(one: Opened, name: str) -> bool:
    async def server(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    app = GateMiddleware(server, gate=one.gate, callers=one.callers, clock=one.clock)
    return call(app, "/v1/chat/completions", b'{"max_tokens": 1}', {"x-stillwatch-account": name}).status == 200


def service(one: Opened) -> Service:
    needs_module("starlette", "starlette")
    return Service(one.gate, one.callers, clock=one.clock, token=None)


def check(one: Opened, name: str) -> bool:
    headers = {"x-stillwatch-account": name, "x-stillwatch-tokens": "1"}
    return call(service(one), "/check/v1/chat/completions", b"", headers).status == 200


def admit(one: Opened, name: str) -> bool:
    body = json.dumps({"account_id": name, "n_tokens": 1}).encode()
    return bool(json.loads(call(service(one), "/v1/admit", body).body)["passes"])


def guardrail(one: Opened, name: str) -> bool:
    body = json.dumps({"texts": ["x"], "request_data": {"user_api_key_user_id": name}}).encode()
    return bool(json.loads(call(service(one), "/beta/litellm_basic_guardrail_api", body).body)["action"] == "NONE")


def hook(one: Opened, name: str) -> bool:
    who = SimpleNamespace(user_id=name, team_id=None, org_id=None, api_key=None, metadata={})
    calls = Calls(one.gate, one.callers, one.clock, lambda status, error, headers: Said(status))
    try:
        asyncio.run(calls.before(who, {"model": "m", "messages": [], "max_tokens": 1}, "acompletion"))
    except Said:
        return False
    return True


@pytest.mark.services
@pytest.mark.parametrize("face", [python, middleware, check, admit, guardrail, hook])
def test_a_change_shows_at_its_time_and_not_before(tmp_path: Path, face: Callable[[Opened, str], bool]) -> None:
    """Who was named stays named, who is new is not named yet, and who is let go waits too; then all at one instant."""
    made = Gated(tmp_path)
    made.compiled("old", "let-go")
    made.now += LONGEST
    one = made.opened()
    try:
        assert [face(one, name) for name in ("old", "new", "let-go")] == [False, True, False]
        made.compiled("old", "new")
        at = made.now
        changed: list[datetime] = []
        while not changed:
            made.now += timedelta(minutes=10)
            one.rules.look()
            now = [face(one, name) for name in ("old", "new", "let-go")]
            assert now in ([False, True, False], [False, False, True])
            changed += [made.now] if now[2] else []
        assert timedelta(minutes=10) <= changed[0] - at <= LONGEST
    finally:
        one.close()


def test_a_start_opens_nothing_that_was_closed(tmp_path: Path) -> None:
    """What was in force when the gate ended is in force again, while the newer one waits for its time."""
    made = Gated(tmp_path)
    made.compiled("old")
    made.now += LONGEST
    made.opened().close()
    made.compiled("old", "new")
    for minutes, expected in ((0, [False, True]), (9, [False, True]), (131, [False, False])):
        made.now += timedelta(minutes=minutes)
        one = made.opened()
        try:
            assert [python(one, name) for name in ("old", "new")] == expected
        finally:
            one.close()


def test_a_damaged_memory_of_what_was_in_force_hides_nothing(tmp_path: Path) -> None:
    """Then the new snapshot acts at once, and a warning says so."""
    made = Gated(tmp_path)
    made.compiled("old")
    (tmp_path / "home" / "gate.in-force").write_bytes(b"noise")
    one = made.opened()
    try:
        assert not python(one, "old")
    finally:
        one.close()


def test_a_longer_delay_does_not_lift_what_is_in_force(tmp_path: Path) -> None:
    """A policy that has snapshots wait for a month does not open the gate to those who are named already."""
    made = Gated(tmp_path)
    made.compiled("old")
    made.now += LONGEST
    one = made.opened()
    try:
        assert not python(one, "old")
        draft = tmp_path / "policy.new"
        draft.write_text(TEXT.replace('"10m"', '"30d"'), "utf-8")
        draft.replace(tmp_path / "policy.toml")
        one.rules.look()
        assert one.rules.policy.disclosure.delay_s == 30 * 86_400 and not python(one, "old")
    finally:
        one.close()


def test_snapshots_that_come_faster_than_they_may_act_still_act(tmp_path: Path) -> None:
    """One that waits is not put off by the next."""
    made = Gated(tmp_path)
    made.compiled("old")
    made.now += LONGEST
    one = made.opened()
    try:
        for n in range(60):
            made.now += timedelta(minutes=5)
            made.compiled("old", "new", f"another-{n}")
            one.rules.look()
        assert not python(one, "new") and micros(made.now) - one.rules.snapshot.made_us <= 2 * 130 * 60_000_000
    finally:
        one.close()
