"""opening: a gate set up from files and the environment, and kept up to date while it runs.

    STILLWATCH_POLICY            the policy file; required
    STILLWATCH_SNAPSHOT          what `stillwatch policy compile` wrote; without it no account is known
    STILLWATCH_REDIS             redis://HOST:PORT/DB of the budgets; without it they are this process's own
    STILLWATCH_TRUSTED_PROXIES   networks whose headers are believed, with commas; without it none
    STILLWATCH_TICKETS           a JSON object of mark key ids and their sealed tickets
    STILLWATCH_NEW_BUDGETS       1 where nothing was spent before: budgets start with their burst

What cannot be read at the start ends the start. A policy or snapshot that cannot be read later leaves the one before
in force.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from stillwatch.errors import PolicyError, SettingsError
from stillwatch.gate.admission import Gate
from stillwatch.gate.callers import Callers
from stillwatch.gate.guarding import Guard
from stillwatch.gate.leaving import before_signals
from stillwatch.gate.ledger import Ledger
from stillwatch.home import Home
from stillwatch.keys import RootKey
from stillwatch.policy.budgets import Budgets
from stillwatch.policy.budgets_memory import MemoryBudgets
from stillwatch.policy.budgets_redis import RedisBudgets
from stillwatch.policy.disclosing import InForce
from stillwatch.policy.geo import Countries
from stillwatch.policy.live import Live
from stillwatch.policy.model import Policy
from stillwatch.policy.named import open_countries
from stillwatch.policy.reading import load_policy
from stillwatch.policy.sealed import gate_journal, gate_key, load_snapshot, write_snapshot
from stillwatch.policy.snapshot import Snapshot, empty_snapshot

_LOG = logging.getLogger("stillwatch")

LOOK_EVERY_S = 1.0
LONGEST_TICKET = 4096


NOW: Callable[[], datetime] = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True)
class Ruled:
    """A policy, and the database of addresses it names: they come into force together."""

    policy: Policy
    countries: Live[Countries] | None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read both.

        Raises:
            PolicyError: one of them cannot be read. ExtraMissing: the policy names a database, and nothing reads it.
        """
        policy = load_policy(path)
        return cls(
            policy, Live(path.parent / policy.mmdb, lambda mmdb: open_countries(mmdb, path)) if policy.mmdb else None
        )


class LiveRules:
    """The policy, its database of addresses and the snapshot as their files are now; a thread looks every second.

    Args:
        snapshot: the file of snapshots. in_force: which of them acts. clock: the time with a zone.
    """

    def __init__(
        self, policy: Live[Ruled], snapshot: Live[Snapshot] | None, in_force: InForce, clock: Callable[[], datetime]
    ) -> None:
        self._policy, self._snapshot, self._in_force, self._clock = policy, snapshot, in_force, clock
        self.errors: tuple[str, ...] = ()
        if snapshot is not None:
            in_force.take(snapshot.current, self.policy.disclosure, clock())
        self._looking, self._stop = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, name="stillwatch-rules", daemon=True).start()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy.current.policy

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in force."""
        return self._in_force.current

    @property
    def countries(self) -> Countries | None:
        """The database of addresses in force."""
        held = self._policy.current.countries
        return None if held is None else held.current

    def look(self) -> None:
        """Look at all files and the clock now."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        looks = [self._policy.look()]
        if self._policy.current.countries is not None:
            looks.append(self._policy.current.countries.look())
        self._in_force.turn(self.policy.disclosure, self._clock())
        if self._snapshot is not None and not self._in_force.waits:
            found = self._snapshot.look()
            looks.append(found)
            if found.changed:
                self._in_force.take(self._snapshot.current, self.policy.disclosure, self._clock())
        errors = tuple(look.error for look in looks if look.error is not None)
        for error in errors:
            if error not in self.errors:
                _LOG.warning("Not in force, the file before it still is: %s", error)
        self.errors = errors

    def close(self) -> None:
        """Look no more."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:
                # What nobody thought of must not end the watch: the next file may be good.
                _LOG.exception("A file of the gate could not be looked at; what was in force still is")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a gate finds what it needs; see the head of this module."""

    policy: Path
    snapshot: Path | None = None
    redis: str | None = None
    trusted: tuple[str, ...] = ()
    tickets: Path | None = None
    new_budgets: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables.

        Raises:
            SettingsError: no policy is named.
        """
        named = {name: environ.get(f"STILLWATCH_{name}", "").strip() for name in _VARIABLES}
        if not named["POLICY"]:
            raise SettingsError("there is no policy to judge by", do="Set STILLWATCH_POLICY to a policy file.")
        return cls(
            policy=Path(named["POLICY"]),
            snapshot=Path(named["SNAPSHOT"]) if named["SNAPSHOT"] else None,
            redis=named["REDIS"] or None,
            trusted=tuple(filter(None, (text.strip() for text in named["TRUSTED_PROXIES"].split(",")))),
            tickets=Path(named["TICKETS"]) if named["TICKETS"] else None,
            new_budgets=named["NEW_BUDGETS"] == "1",
        )


_VARIABLES = ("POLICY", "SNAPSHOT", "REDIS", "TRUSTED_PROXIES", "TICKETS", "NEW_BUDGETS")


@dataclass(frozen=True, slots=True)
class Opened:
    """A gate that is ready, who asks it, and the clock it goes by."""

    gate: Gate
    callers: Callers
    clock: Callable[[], datetime]
    rules: LiveRules
    budgets: Budgets
    guard: Guard

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Open the gate that the environment describes, until the process ends. Raises as `open`.

        Called in the main thread, it sees to it that a signal that ends the process ends no decision unwritten.
        """
        opened = cls.open(Places.from_environment(environ), environ, clock=NOW)
        atexit.register(opened.close)
        before_signals(opened.gate.ledger.flush)
        return opened

    @classmethod
    def open(
        cls,
        places: Places,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], datetime],
        key_file: Path | None = None,
    ) -> Self:
        """Read the files, reach for the budgets, open the journal in the state folder.

        Raises:
            StillwatchError: something is absent or makes no sense. Nothing runs then.
        """
        home = Home.of(environ)
        root = home.root_key(key_file)
        policy = Live(places.policy, Ruled.load)
        snapshot = places.snapshot and Live(places.snapshot, lambda path: load_snapshot(path, root, clock()))
        budgets = _budgets(places, root)
        callers = Callers(trusted=places.trusted, secret=root.subkey("rows"))
        tickets = _tickets(places.tickets)
        journal = gate_journal(home.folder, root)
        # Nothing is written: one that is torn or cannot be written is found now, not by the first call.
        journal.append_all(())
        ledger = Ledger(journal)
        try:
            guard = Guard(journal, ledger)
        except BaseException:
            ledger.close()
            raise
        rules = LiveRules(
            policy, snapshot or None, _in_force(home.folder, root, clock, has=snapshot is not None), clock
        )
        gate = Gate(
            rules, budgets, ledger, secret=gate_key(root, "decisions"),
            origin=f"{socket.gethostname()}\0{os.getpid()}\0{clock().isoformat()}\0{time.monotonic_ns()}",
            tickets=tickets.get,
        )  # fmt: skip
        return cls(gate, callers, clock, rules, budgets, guard)

    def close(self) -> None:
        """Write what waits, and let go of everything but what belongs to an event loop."""
        self.rules.close()
        self.guard.close()
        self.gate.ledger.close()
        if isinstance(self.budgets, RedisBudgets):
            self.budgets.close()

    async def close_soon(self) -> None:
        """Let go of what belongs to the event loop that runs."""
        if isinstance(self.budgets, RedisBudgets):
            await self.budgets.close_soon()


def _in_force(home: Path, root: RootKey, clock: Callable[[], datetime], *, has: bool) -> InForce:
    """What was in force when the gate ended, as the state folder has it: a start opens nothing that was closed."""
    path, before = home / "gate.in-force", None
    if has and path.exists():
        try:
            before = load_snapshot(path, root, clock())
        except PolicyError as error:
            _LOG.warning("What was in force before is not known, so the snapshot acts at once: %s", error)
            before = replace(empty_snapshot(), expires_us=0)

    def keep(snapshot: Snapshot) -> None:
        try:
            write_snapshot(snapshot, path, root)
        except PolicyError as error:
            _LOG.warning("What is in force could not be kept for the next start: %s", error)

    return InForce(before, secret=gate_key(root, "disclosure"), keep=keep)


def _budgets(places: Places, root: RootKey) -> Budgets:
    if places.redis is None:
        return MemoryBudgets(lambda: time.monotonic_ns() // 1_000_000, is_new=places.new_budgets)
    budgets = RedisBudgets(places.redis, secret=gate_key(root, "budgets"))
    budgets.check()
    if places.new_budgets:
        budgets.begin_new()
    return budgets


def _tickets(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        read: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"the tickets {path} cannot be read", got=str(error)) from error
    fits = isinstance(read, dict) and all(
        isinstance(ticket, str) and len(ticket) <= LONGEST_TICKET and ticket.isascii() and ticket.isprintable()
        for ticket in read.values()
    )
    if not fits:
        raise SettingsError(f"{path} holds no tickets", expected="a JSON object of mark key ids and sealed tickets")
    return dict(read)
