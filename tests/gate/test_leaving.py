"""A host that a signal ends, as the servers of LiteLLM and vLLM are: every decision that was made is on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from stillwatch.gate.ledger import Ledger
from stillwatch.journal import Journal
from tests.conftest import ROOT
from tests.gate.asking import ask
from tests.gate.making import PLAIN, FullDisk
from tests.needs import needs_module
from tests.policy.making import NOW
from tests.receive.programs import free_port, wait_for

OPEN = """
import os, signal, sys
from stillwatch.gate.opening import Opened
from stillwatch.policy.ruling import Request
def admitted():
    admission = one.gate.admit(Request(account_id="ann", now=one.clock(), n_tokens=1))
    return admission.decision_id
"""

PLAINLY = (
    OPEN
    + """
one = Opened.from_environment(os.environ)
while True:
    print(admitted(), flush=True)
"""
)
"""A host without a server: the signal's own action ends it, in the middle of a decision."""

SERVED = (
    OPEN
    + """
import uvicorn

async def app(scope, receive, send):
    global one
    if scope["type"] == "lifespan":
        await receive()
        one = Opened.from_environment(os.environ)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print(*(admitted() for _ in range(20)), flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = admitted().encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
)
"""A server that opens the gate once it listens to signals itself, as LiteLLM's does, and closes nothing."""


def environ(folder: Path) -> dict[str, str]:
    (folder / "policy.toml").write_text(PLAIN.replace("3_600_000", "3_600_000_000"), "utf-8")
    return {
        **os.environ, "STILLWATCH_HOME": str(folder / "home"), "STILLWATCH_POLICY": str(folder / "policy.toml"),
        "PYTHONPATH": str(ROOT / "src"), "STILLWATCH_NEW_BUDGETS": "1",
    }  # fmt: skip


def journaled(folder: Path) -> list[str]:
    return [entry.body["decision_id"] for entry in Journal(folder / "home" / "journal").entries()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_no_decision_unwritten(tmp_path: Path, number: int) -> None:
    """Whatever a host was told of its decisions before it was ended is in the journal, and it ends by the signal."""
    words = [sys.executable, "-c", PLAINLY]
    with subprocess.Popen(words, env=environ(tmp_path), stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        told = [host.stdout.readline().strip() for _ in range(40)]
        host.send_signal(number)
        told += [line.strip() for line in host.stdout]
        assert host.wait(60) == -number
    assert set(filter(None, told)) <= set(journaled(tmp_path))


@pytest.mark.services
def test_a_server_that_is_ended_loses_no_decision(tmp_path: Path) -> None:
    """SIGTERM while calls come: all that were answered, to the server's last step, are in the journal."""
    needs_module("receive", "uvicorn")
    port, told = free_port(), list[str]()
    words = [sys.executable, "-c", SERVED, str(port)]
    with subprocess.Popen(words, env=environ(tmp_path), stdout=subprocess.PIPE, text=True) as host:
        try:

            def answered() -> bool:
                with suppress(OSError):
                    told.append(ask(f"http://127.0.0.1:{port}/").text)
                    return True
                return False

            wait_for(answered, what="the server listening")
            with ThreadPoolExecutor(4) as pool:
                for _ in range(100):
                    pool.submit(answered)
                host.terminate()
                assert host.stdout is not None
                last = host.stdout.read().split()
                assert host.wait(60) == -signal.SIGTERM
        finally:
            host.kill()
    assert len(last) == 20 and told and {*told, *last} <= set(journaled(tmp_path))


def test_a_signal_in_the_middle_of_an_offer_hangs_nothing(tmp_path: Path) -> None:
    """The handler runs between two steps of an offer, whichever they are, and all rows are written."""
    caught: list[bool] = []
    earlier = signal.signal(signal.SIGALRM, lambda *_: caught.append(ledger.flush(5.0)))
    try:
        with Ledger(Journal(tmp_path / "journal")) as ledger:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            n = 0
            while not caught:
                ledger.offer("decision", {"n": n}, NOW)
                n += 1
            assert caught == [True] and ledger.offer("decision", {"n": n}, NOW)
            assert Journal(tmp_path / "journal").verify() == n + 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def test_a_full_disk_does_not_keep_a_process_alive() -> None:
    """What cannot be written is waited for a while, said, and let go."""
    shelf = FullDisk()
    with Ledger(shelf) as ledger:
        ledger.offer("decision", {}, NOW)
        assert not ledger.flush(0.2) and "No space" in str(ledger.failure)
        shelf.is_full = False
        assert ledger.flush() and len(shelf.rows) == 1


FORKED = (
    OPEN
    + """
one = Opened.from_environment(os.environ)
request = Request(account_id="ann", now=one.clock(), n_tokens=1)
assert one.gate.admit(request).passes
child = os.fork()
if child == 0:
    admission = one.gate.admit(request)
    failure = one.gate.ledger.failure
    print(admission.passes, admission.reason, failure, flush=True)
    os._exit(0)
os.waitpid(child, 0)
assert one.gate.admit(request).passes
"""
)


def test_a_gate_does_not_work_in_a_fork(tmp_path: Path) -> None:
    """Where a server forks after its gate was opened, the copy has no writer: it fails as the policy says, at once."""
    words = [sys.executable, "-W", "ignore", "-c", FORKED]
    ran = subprocess.run(words, env=environ(tmp_path), capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.startswith("False unavailable the process was forked")
    assert len(journaled(tmp_path)) == 2


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    """Python lets only the main thread listen to signals."""
    from stillwatch.gate.leaving import before_signals

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=before_signals, args=(lambda: None,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
