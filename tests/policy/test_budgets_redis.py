"""Budgets in a real Redis that several processes share while it restarts, replicas pause and processes are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import BudgetsError, ExtraMissing
from stillwatch.policy.budgets import Charge, Limit
from stillwatch.policy.budgets_redis import SCRIPT, RedisBudgets
from tests.conftest import ROOT
from tests.needs import needs_module
from tests.policy.stores import SECRET, own_redis, server
from tests.receive.programs import free_port

pytestmark = pytest.mark.services

PER_S, BURST, COST = 20_000, 2_000, 7
SHARED = Limit(PER_S, 1_000, BURST)
N_WORKERS = 4

WORKER = f"""
import asyncio
import sys
from stillwatch.errors import BudgetsError
from stillwatch.keys import Secret
from stillwatch.policy.budgets import Charge, Limit
from stillwatch.policy.budgets_redis import RedisBudgets

name, way, urls = sys.argv[1], sys.argv[2], sys.argv[3:]
stores = [RedisBudgets(url, secret=Secret(bytes(range(32)))) for url in urls]
shared, own = Limit({PER_S}, 1000, {BURST}), Limit(1_000_000, 1000, 1_000_000)

async def reserved(store, lease, charges):
    return await store.reserve_soon(lease, charges) if way == "soon" else store.reserve(lease, charges)

async def settled(store, lease, used):
    return await store.settle_soon(lease, used) if way == "soon" else store.settle(lease, used)

async def ask():
    n = at = 0
    while True:
        n += 1
        charges = [Charge("lineage", "c", shared, {COST}), Charge("account", name, own, {COST})]
        try:
            admitted = (await reserved(stores[at], f"{{name}} {{n}}", charges)).admitted
            used = {COST}
            if admitted and n % 3 == 0:
                used = 2 if await settled(stores[at], f"{{name}} {{n}}", 2) else used
        except BudgetsError:
            at = (at + 1) % len(stores)
            continue
        if admitted:
            sys.stdout.write(f"{{used}}\\n")
            sys.stdout.flush()

asyncio.run(ask())
"""


def told(process: subprocess.Popen[str], into: list[int]) -> threading.Thread:
    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            into.append(int(line))

    thread = threading.Thread(target=read)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("way", ["now", "soon"])
@pytest.mark.parametrize("event", ["restart", "killed processes", "paused replica", "promoted replica"])
def test_admitted_tokens_never_exceed_the_budget(tmp_path: Path, event: str, way: str) -> None:
    """Several processes on one Redis, and something goes wrong: never more than rate times time and one burst.

    So for calls that wait, and for those of event loops.
    """
    server()
    redis = needs_module("redis", "redis")
    port, other = free_port(), free_port()
    urls = [f"redis://127.0.0.1:{port}/0"] + ([f"redis://127.0.0.1:{other}/0"] if event == "promoted replica" else [])
    sums: list[list[int]] = [[] for _ in range(N_WORKERS)]
    ticking = threading.Event()
    began = time.monotonic()
    with (
        own_redis(tmp_path, port) as first,
        own_redis(tmp_path, other, "--replicaof", "127.0.0.1", str(port)) as second,
    ):
        words = [sys.executable, "-c", WORKER]
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        workers = [
            subprocess.Popen([*words, f"w{n}", way, *urls], stdout=subprocess.PIPE, text=True, env=environ)
            for n in range(N_WORKERS)
        ]
        threads = [told(worker, into) for worker, into in zip(workers, sums, strict=True)]
        try:
            until(lambda: all(sums), ticking)
            ticking.wait(0.7)
            n_before = sum(map(len, sums))
            if event == "killed processes":
                workers[0].kill()
                workers[1].kill()
            if event == "paused replica":
                os.kill(second.pid, signal.SIGSTOP)
            if event in ("restart", "promoted replica"):
                first.kill()
                first.wait()
            if event == "promoted replica":
                redis.Redis(port=other).replicaof("NO", "ONE")
            if event == "restart":
                with own_redis(tmp_path, port):
                    ticking.wait(1.5)
            else:
                ticking.wait(1.5)
            os.kill(second.pid, signal.SIGCONT)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            for thread in threads:
                thread.join()
                ticking.clear()
            for worker in workers:
                assert worker.stdout is not None
                worker.stdout.close()
        took_s = time.monotonic() - began
    admitted = sum(map(sum, sums)) + N_WORKERS * COST
    assert sum(map(len, sums)) > n_before > 0
    assert admitted <= PER_S * took_s + BURST + N_WORKERS * COST


def until(is_true: Any, ticking: threading.Event) -> None:
    for _ in range(600):
        if is_true():
            return
        ticking.wait(0.1)
    raise AssertionError("the processes did not start")


def charge(cost: int, subject: str = "a") -> Charge:
    return Charge("account", subject, Limit(1, 3_600_000, 10), cost)


def test_a_restart_leaves_no_burst(tmp_path: Path) -> None:
    """A Redis that forgot starts every key empty; one that remembers an old state does too."""
    server()
    port = free_port()
    budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)
    try:
        with own_redis(tmp_path, port):
            assert budgets.begin_new() and not budgets.begin_new()
            assert budgets.reserve("1", [charge(4)]).admitted
            redis = needs_module("redis", "redis").Redis(port=port)
            redis.save()
            assert budgets.reserve("2", [charge(6)]).admitted
            redis.close()
        with pytest.raises(BudgetsError, match="does not answer"):
            budgets.reserve("3", [charge(0)])
        with own_redis(tmp_path, port):
            for subject in ("a", "never seen"):
                assert not budgets.reserve("4", [charge(1, subject)]).admitted
            assert not budgets.begin_new()
            assert budgets.settle("1", 0)
            assert not budgets.reserve("5", [charge(1)]).admitted
    finally:
        budgets.close()


def test_a_restart_with_a_clock_set_back_leaves_no_burst(tmp_path: Path) -> None:
    """A key that an older state holds counts as forgotten even where it was written later, by the clock, than now."""
    server()
    port = free_port()

    def at(seconds: int) -> RedisBudgets:
        script = SCRIPT.replace("redis.call('TIME')", f"{{'{seconds}', '0'}}", 1)
        return RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10, script=script)

    before, after = at(2_000_000), at(1_000_000)
    with own_redis(tmp_path, port):
        assert before.begin_new() and before.reserve("1", [charge(4)]).admitted
        redis = needs_module("redis", "redis").Redis(port=port)
        redis.save()
        redis.close()
        assert before.reserve("2", [charge(6)]).admitted
    with own_redis(tmp_path, port):
        assert not after.reserve("3", [charge(1)]).admitted
    before.close()
    after.close()


def test_a_flushed_redis_starts_empty(tmp_path: Path) -> None:
    """What an operator flushes is lost, not free."""
    server()
    port = free_port()
    with own_redis(tmp_path, port):
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)
        budgets.begin_new()
        client = needs_module("redis", "redis").Redis(port=port)
        client.flushall()
        client.script_flush()
        assert not budgets.reserve("1", [charge(1)]).admitted
        client.close()
        budgets.close()


def test_a_redis_that_hangs_is_an_error_in_time(tmp_path: Path) -> None:
    """A Redis that stands still is answered after the timeout; what it may have taken stays spent."""
    server()
    port = free_port()
    with own_redis(tmp_path, port) as process:
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=0.2)
        budgets.begin_new()
        os.kill(process.pid, signal.SIGSTOP)
        try:
            for call in (lambda: budgets.reserve("1", [charge(4)]), lambda: budgets.settle("1", 0), budgets.check):
                with pytest.raises(BudgetsError):
                    call()
            with pytest.raises(BudgetsError):
                asyncio.run(budgets.reserve_soon("2", [charge(4)]))
        finally:
            os.kill(process.pid, signal.SIGCONT)
        budgets.close()


def asked_soon(budgets: RedisBudgets, lease: str, *charges: Charge) -> bool:
    """A reservation in an event loop of its own."""

    async def ask() -> bool:
        try:
            return (await budgets.reserve_soon(lease, charges)).admitted
        finally:
            await budgets.close_soon()

    return asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["now", "soon"])
def test_a_paused_replica_stops_nobody_unless_the_operator_says_so(tmp_path: Path, way: str) -> None:
    """Budgets wait for no replica. Where the operator's Redis does (`min-replicas-to-write`), a paused one is an error:
    the mode of the policy for failures holds, nothing is taken, and all goes on once the replica does."""
    server()
    redis = needs_module("redis", "redis")
    port, other = free_port(), free_port()
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with (
        own_redis(folders[0], port, "--repl-ping-replica-period", "1"),
        own_redis(folders[1], other, "--replicaof", "127.0.0.1", str(port)) as second,
    ):
        client = redis.Redis(port=port)
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)

        def taken(lease: str) -> bool:
            return (
                asked_soon(budgets, lease, charge(4)) if way == "soon" else budgets.reserve(lease, [charge(4)]).admitted
            )

        def follows() -> bool:
            return bool(client.info("replication")["min_slaves_good_slaves"])

        try:
            client.config_set("min-replicas-max-lag", 1)
            client.config_set("min-replicas-to-write", 1)
            until(follows, threading.Event())
            assert budgets.begin_new() and taken("1")
            os.kill(second.pid, signal.SIGSTOP)
            until(lambda: not follows(), threading.Event())
            with pytest.raises(BudgetsError, match=r"NoReplicas|NOREPLICAS"):
                taken("2")
            client.config_set("min-replicas-to-write", 0)
            assert taken("2") and not taken("3")
        finally:
            os.kill(second.pid, signal.SIGCONT)
            client.close()
            budgets.close()


def test_a_redis_that_evicts_is_refused(tmp_path: Path) -> None:
    """Keys that go one by one would open closed budgets."""
    server()
    port = free_port()
    with own_redis(tmp_path, port, "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"):
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)
        with pytest.raises(BudgetsError, match="noeviction"):
            budgets.check()
        budgets.close()


def test_a_full_redis_is_an_error(tmp_path: Path) -> None:
    """A Redis out of memory takes no reservation, and says so instead of letting the call through."""
    server()
    port = free_port()
    with own_redis(tmp_path, port, "--maxmemory", "1", "--maxmemory-policy", "noeviction"):
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)
        budgets.check()
        with pytest.raises(BudgetsError, match=r"OutOfMemory|OOM"):
            budgets.reserve("1", [charge(1)])
        budgets.close()


def test_keys_name_nobody(tmp_path: Path) -> None:
    """Redis holds hashes: neither an account nor a payment instrument can be read there, and keys do not pile up."""
    server()
    port = free_port()
    with own_redis(tmp_path, port):
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)
        budgets.begin_new()
        budgets.reserve("lease-1", [charge(4, "ann@example.org")])
        client = needs_module("redis", "redis").Redis(port=port)
        keys = [key.decode() for key in client.keys("*")]
        assert len(keys) == 3 and all(key.startswith("{stillwatch}:") for key in keys)
        assert not any("ann" in key or "lease-1" in key for key in keys)
        assert [client.ttl(key) > 0 for key in keys if not key.endswith("began")] == [True, True]
        client.close()
        budgets.close()


def test_an_address_that_is_none_is_refused() -> None:
    """A wrong address is an error when it is given."""
    needs_module("redis", "redis")
    with pytest.raises(BudgetsError, match="no address"):
        RedisBudgets("http://127.0.0.1", secret=SECRET)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the package is told what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ExtraMissing, match=r"stillwatch\[redis\]"):
        RedisBudgets("redis://127.0.0.1", secret=SECRET)
