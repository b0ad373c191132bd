"""Stores of budgets under a clock that the test turns, and a reference that counts with fractions."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

from stillwatch.keys import Secret
from stillwatch.policy.budgets import Budgets, Charge, Limit
from stillwatch.policy.budgets_memory import MemoryBudgets
from stillwatch.policy.budgets_redis import SCRIPT, RedisBudgets
from tests.needs import needs, needs_module

SECRET = Secret(bytes(range(32)))
HOW = "start redis-server on 127.0.0.1:6379 and install the extra redis"
_PREFIXES = count()


@dataclass
class Clock:
    """Milliseconds that pass when the test says so."""

    ms: int = 1_000_000
    tell: Callable[[int], Any] = field(default=lambda ms: None)

    def __call__(self) -> int:
        return self.ms

    def turn(self, ms: int) -> None:
        """Let time pass, or go backwards."""
        self.ms += ms
        self.tell(self.ms)


def memory(clock: Clock, *, is_new: bool = True) -> Budgets:
    """Budgets in memory."""
    return MemoryBudgets(clock, is_new=is_new)


def shared(clock: Clock, *, is_new: bool = True) -> Budgets:
    """Budgets in the real Redis, whose script reads the test's clock instead of the server's; keys do not expire."""
    redis = server()
    name = f"test-{os.getpid()}-{next(_PREFIXES)}"
    at = f"{{{name}}}:clock"
    script = SCRIPT.replace("redis.call('TIME')", f"cjson.decode(redis.call('GET', '{at}'))", 1)
    script = script.replace(", 'PX', whole(life))", ")", 1)
    assert script.count("cjson") == 1 and script.count("'PX'") == 1

    def tell(ms: int) -> None:
        redis.set(at, f"[{ms // 1000}, {ms % 1000 * 1000}]", ex=600)

    clock.tell = tell
    clock.turn(0)
    budgets = RedisBudgets(URL, secret=SECRET, prefix=name, timeout_s=30, script=script)
    if is_new:
        assert budgets.begin_new()
    else:
        assert not budgets.settle("the first call is when the store begins", 0)
    return budgets


URL = "redis://127.0.0.1:6379/7"


def server(url: str = URL) -> Any:
    """A client of the real Redis; the test is skipped where there is none."""
    redis = needs_module("redis", "redis")
    client = redis.Redis.from_url(url)
    try:
        client.ping()
    except redis.RedisError:
        needs("redis", is_there=False, how=HOW)
    return client


@contextmanager
def own_redis(folder: Path, port: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis of the test's own on a port, ended by its process."""
    path = shutil.which("redis-server")
    needs("redis", is_there=path is not None, how="install redis-server")
    given = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *words]
    process = subprocess.Popen([str(path), *given], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    redis = needs_module("redis", "redis")
    client = redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100))
    try:
        client.ping()
        yield process
    finally:
        client.close()
        process.kill()
        process.wait()


class Reference:
    """What a key may have, by fractions: a bucket that fills steadily up to a burst, and is emptied by charges."""

    def __init__(self, *, now: int, is_new: bool) -> None:
        self._filled: dict[tuple[str, str, str], tuple[Fraction, int]] = {}
        self._leases: dict[str, Sequence[Charge]] = {}
        self._began, self._is_new = now, is_new
        self._now = now

    def has(self, charge: Charge) -> Fraction:
        """Tokens there are for a charge."""
        key = charge.kind, charge.subject, charge.name
        start = Fraction(charge.limit.burst if self._is_new else 0)
        tokens, since = self._filled.get(key, (start, self._began))
        return min(
            Fraction(charge.limit.burst),
            tokens + Fraction(charge.limit.per * (self._now - since), charge.limit.period_ms),
        )

    def reserve(self, lease: str, charges: Sequence[Charge], now: int) -> bool:
        """Whether all charges fit; then they are taken."""
        self._now = max(now, self._now)
        if lease in self._leases:
            return True
        if any(self.has(charge) < charge.cost for charge in charges):
            return False
        for charge in charges:
            self._put(charge, self.has(charge) - charge.cost)
        self._leases[lease] = charges
        return True

    def settle(self, lease: str, used: int, now: int) -> bool:
        """Give back what was not used."""
        self._now = max(now, self._now)
        charges = self._leases.pop(lease, None)
        for charge in charges or ():
            if charge.settles:
                self._put(charge, min(Fraction(charge.limit.burst), self.has(charge) + charge.cost - used))
        return charges is not None

    def _put(self, charge: Charge, tokens: Fraction) -> None:
        self._filled[charge.kind, charge.subject, charge.name] = tokens, self._now


def soon(budgets: Budgets) -> Budgets:
    """The same store, asked through its methods for event loops, each call in a loop of its own."""

    class Asked:
        def reserve(self, lease: str, charges: Sequence[Charge]) -> Any:
            return asyncio.run(self._closing(budgets.reserve_soon(lease, charges)))

        def settle(self, lease: str, used: int) -> Any:
            return asyncio.run(self._closing(budgets.settle_soon(lease, used)))

        async def _closing(self, asked: Any) -> Any:
            said = await asked
            if isinstance(budgets, RedisBudgets):
                await budgets.close_soon()
            return said

    return Asked()  # type: ignore[return-value]


STORES = {"memory": memory, "redis": shared}


def limit(per: int = 100, burst: int = 10, period_ms: int = 1000) -> Limit:
    """A limit whose numbers are easy to follow."""
    return Limit(per, period_ms, burst)
