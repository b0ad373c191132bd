"""budgets_redis: budgets that many processes share, in one Redis, by one script over all keys.

The time is Redis's own. A key it does not hold was either never used or paid back in full: keys live as long as they
owe. A Redis that restarts, is promoted or is flushed may have forgotten, so the store then begins anew and every key
starts empty, held or not. That holds for one Redis at a time: two that both believe to be first give twice, so
asynchronous failover without fencing is not supported. Keys must not be evicted one by one (`maxmemory-policy
noeviction`, which is checked), nor deleted by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from stillwatch.errors import BudgetsError
from stillwatch.extras import require
from stillwatch.keys import Secret
from stillwatch.policy.budgets import MOST_KEPT_MS, Charge, Limit, Outcome, checked
from stillwatch.policy.redis_line import Line, packed

SCRIPT = (files("stillwatch.policy") / "budgets.lua").read_text("utf-8")

TIMEOUT_S = 0.25
"""How long an answer is waited for. What Redis did without our hearing of it counts as spent."""

LEASE_MS = 3_600_000
"""How long a call may take until nothing of it comes back any more."""


class RedisBudgets:
    """Budgets in the Redis at `url`, such as `redis://127.0.0.1:6379/0`.

    Args:
        secret: keys are hashes under it, so that Redis learns no account. Every process needs the same.
        prefix: what the keys begin with; in a cluster all keys of one prefix share a slot.
        timeout_s: how long to wait for an answer. lease_ms: how long a call may take.

    Raises:
        ExtraMissing: the package redis is not installed.
        BudgetsError: from every method, where Redis does not answer as it should.
    """

    def __init__(
        self, url: str, *, secret: Secret, prefix: str = "stillwatch", timeout_s: float = TIMEOUT_S,
        lease_ms: int = LEASE_MS, script: str = SCRIPT,
    ) -> None:  # fmt: skip
        if not 0 < lease_ms <= MOST_KEPT_MS or not timeout_s > 0 or not set("{} \n").isdisjoint(prefix):
            raise BudgetsError("budgets in Redis need a positive timeout, a lease of up to a week and a plain prefix")
        redis = require("redis", "redis")
        soon = require("redis.asyncio", "redis")
        self._secret, self._prefix, self._lease_ms = secret, f"{{{prefix}}}:".encode(), str(lease_ms).encode()
        self._began = self._prefix + b"began"
        self._text = script.encode()
        self._sha = hashlib.sha1(self._text, usedforsecurity=False).hexdigest()
        self._refusals: tuple[type[Exception], ...] = (redis.RedisError, OSError, TimeoutError, ValueError)
        # A script that is not held there yet, or a connection gone stale: under the same lease nothing is taken twice.
        self._once_more: tuple[type[Exception], ...] = (redis.exceptions.NoScriptError, redis.ConnectionError)
        self._refusal: type[Exception] = redis.ResponseError
        self._timeout_s = timeout_s
        never = require("redis.backoff", "redis").NoBackoff()
        again = require("redis.retry", "redis").Retry(never, 0)
        again_soon = require("redis.asyncio.retry", "redis").Retry(never, 0)
        given: dict[str, Any] = {"socket_connect_timeout": timeout_s}
        try:
            self._now = redis.Redis.from_url(url, retry=again, socket_timeout=timeout_s, **given)
            # The line itself waits no longer than the timeout.
            self._soon = soon.ConnectionPool.from_url(url, retry=again_soon, socket_timeout=None, **given)
        except ValueError as error:
            raise BudgetsError(
                "this is no address of a Redis", got=str(error), expected="redis://HOST:PORT/DB"
            ) from None
        self._line: Line | None = None

    def check(self) -> None:
        """Refuse a Redis that would forget single keys.

        Raises:
            BudgetsError: it does not answer, or evicts.
        """
        try:
            info = self._now.info("memory")
        except self._refusals as error:
            raise _gone(error) from error
        policy = info.get("maxmemory_policy", "unknown")
        if policy != "noeviction" and info.get("maxmemory", 0):
            raise BudgetsError(
                "this Redis evicts keys when it is full, which would open closed budgets", got=str(policy),
                expected="maxmemory-policy noeviction",
            )  # fmt: skip

    def begin_new(self) -> bool:
        """Say that nothing was spent before now. False, and nothing happens, where the store has begun already."""
        return _is_yes(self._asked([self._began], [b"new"]))

    def reserve(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        """Take every charge, or none. Cost: one round trip."""
        keys, words = self._reservation(lease, charges)
        return _outcome(charges, self._asked(keys, words))

    def settle(self, lease: str, used: int) -> bool:
        """Give back what was not used, or take what was used beyond."""
        return _is_yes(self._asked(*self._settlement(lease, used)))

    async def reserve_soon(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        """`reserve` for an event loop."""
        keys, words = self._reservation(lease, charges)
        return _outcome(charges, await self._asked_soon(keys, words))

    async def settle_soon(self, lease: str, used: int) -> bool:
        """`settle` for an event loop."""
        return _is_yes(await self._asked_soon(*self._settlement(lease, used)))

    def close(self) -> None:
        """Let go of the connections of `reserve` and `settle`."""
        self._now.close()

    async def close_soon(self) -> None:
        """Let go of the connection of `reserve_soon` and `settle_soon`, in the event loop that asked."""
        line, self._line = self._line, None
        if line is not None and line.is_here:
            await line.close()

    def _reservation(self, lease: str, charges: Sequence[Charge]) -> tuple[list[bytes], list[bytes]]:
        keys, words = [self._began, self._key("lease", lease)], [b"reserve", self._lease_ms]
        for charge in checked(charges):
            keys.append(self._key(charge.kind, f"{charge.name}\0{charge.subject}"))
            words += (*_words(charge.limit), b"%d" % charge.cost, b"1" if charge.settles else b"0")
        return keys, words

    def _settlement(self, lease: str, used: int) -> tuple[list[bytes], list[bytes]]:
        if used < 0:
            raise BudgetsError("a call cannot have used fewer than no tokens", got=str(used))
        return [self._began, self._key("lease", lease)], [b"settle", b"%d" % used]

    def _key(self, kind: str, name: str) -> bytes:
        text = f"{kind}\0{name}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16, key=self._secret.reveal()).hexdigest()
        return b"%b%c%b" % (self._prefix, ord(kind[0]), digest.encode())

    def _asked(self, keys: list[bytes], words: list[bytes]) -> Any:
        try:
            try:
                return self._now.evalsha(self._sha, len(keys), *keys, *words)
            except self._once_more:
                return self._now.eval(self._text, len(keys), *keys, *words)
        except self._refusals as error:
            raise _gone(error) from error

    async def _asked_soon(self, keys: list[bytes], words: list[bytes]) -> Any:
        line = self._line
        if line is None or not line.is_here:
            made = self._soon.make_connection()
            line = self._line = Line(made, timeout_s=self._timeout_s, refusal=self._refusal)
        given = [b"%d" % len(keys), *keys, *words]
        try:
            try:
                return await line.ask(packed([b"EVALSHA", self._sha.encode(), *given]))
            except self._once_more:
                return await line.ask(packed([b"EVAL", self._text, *given]))
        except self._refusals as error:
            raise _gone(error) from error


@lru_cache(maxsize=1024)
def _words(limit: Limit) -> tuple[bytes, bytes, bytes]:
    """A limit as the script reads it; kept, since a policy has few."""
    return b"%d" % limit.pay, b"%d" % limit.unit, b"%d" % limit.burst


def _is_yes(said: Any) -> bool:
    return bool(said == 1)


def _outcome(charges: Sequence[Charge], said: Any) -> Outcome:
    """What a reservation came to: 1 where it was taken, else the wait of each charge."""
    if _is_yes(said):
        return Outcome(True)
    return Outcome.read(charges, [int(wait) for wait in said])


def _gone(error: Exception) -> BudgetsError:
    return BudgetsError("the Redis of the budgets does not answer as it should", got=f"{type(error).__name__}: {error}")
