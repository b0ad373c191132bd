"""`stillwatch serve` as a process: what it refuses to start with, and that a clean end loses no decision."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from stillwatch.cli.serve import _listening
from stillwatch.journal import Journal
from tests.cli.running import ran_here
from tests.conftest import ROOT
from tests.gate.asking import Answer, ask
from tests.needs import needs_module
from tests.policy.stores import own_redis
from tests.receive.programs import free_port, wait_for

pytestmark = pytest.mark.services

EVERYWHERE = "0.0.0.0"  # noqa: S104 (with a token, or not at all)

POLICY = """
format = 1
version = "served"
mode = "enforce"
on_failure = "deny"
[levels.none]
models = ["*"]
capabilities = ["*"]
features = []
[[budgets]]
name = "account"
per = "account"
tokens = 1_000
period = "1h"
burst = 10_000
"""


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    needs_module("starlette", "starlette")
    needs_module("receive", "uvicorn")


def written(folder: Path, text: str = POLICY) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        (None, [], "policy.toml"),
        ("format = 1", [], "policy.toml: version is missing"),
        (POLICY + "surprise = 1", [], "surprise"),
        (POLICY, ["--host", EVERYWHERE], "a token is needed"),
        (POLICY, ["--host", "::"], "a token is needed"),
        (POLICY, ["--host", "gate.example"], "a token is needed"),
        (POLICY, ["--token-file", "nothing"], "cannot read nothing"),
        (POLICY, ["--token-file", "short"], "the token is too short"),
        (POLICY, ["--snapshot", "nothing.snapshot"], "nothing.snapshot"),
        (POLICY, ["--trusted-proxy", "10.0.0.1/8"], "is no network"),
        (POLICY, ["--tickets", "short"], "tickets"),
        (POLICY, ["--redis", "http://127.0.0.1"], "no address of a Redis"),
        (POLICY, ["--redis", "redis://127.0.0.1:1/0"], "Redis of the budgets does not answer"),
        (POLICY, ["--port", "70000"], "65535"),
        (POLICY, ["--key-file", "nothing"], "nothing"),
    ],
)
def test_what_it_does_not_start_with(
    text: str | None, words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One line says what is wrong, the exit is 2, and nobody listened."""
    monkeypatch.setenv("STILLWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("short", "utf-8")
    if text is not None:
        written(tmp_path, text)
    if "redis" in "".join(words):
        needs_module("redis", "redis")
    done = ran_here(
        capsys, "serve", tmp_path / "policy.toml", *(words if "--port" in words else [*words, "--port", free_port()])
    )
    assert done.code == 2 and says in done.err and "Traceback" not in done.err
    assert "Listening" not in done.out


def test_a_port_that_is_taken_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two services do not share a port."""
    monkeypatch.setenv("STILLWATCH_HOME", str(tmp_path / "home"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ran_here(capsys, "serve", written(tmp_path), "--port", port)
    assert done.code == 2 and f"cannot listen on 127.0.0.1:{port}" in done.err


def test_pieces_of_an_answer_leave_at_once() -> None:
    """A connection waits for no acknowledgement between the head of an answer and its body: that costs 40 ms."""

    async def run(listening: socket.socket) -> bool:
        met: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(meet, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await met
            writer.close()
            await writer.wait_closed()
        return bool(found)

    assert asyncio.run(run(_listening("127.0.0.1", free_port())))


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service as a process that answers, and its address; killed where the test did not end it."""
    port = free_port()
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "STILLWATCH_HOME": str(folder / "home")}
    given = [sys.executable, "-m", "stillwatch", "serve", str(written(folder)), "--port", str(port), *words]
    process = subprocess.Popen(given, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def answers() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return ask(f"http://127.0.0.1:{port}/healthz").status == 200
        except OSError:
            return False

    try:
        wait_for(answers, what="an answer of the service")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def checked(address: str, account: str, tokens: int = 1, token: str = "") -> Answer:
    headers = {"x-stillwatch-account": account, "x-stillwatch-tokens": str(tokens)}
    return ask(f"{address}/check/v1/chat/completions", None, headers | ({"x-stillwatch-token": token} if token else {}))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, -1)])
def test_a_clean_end_loses_no_decision(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Whoever got an answer finds it in the journal after the process was told to end, in a whole chain."""
    with served(tmp_path, "--trusted-proxy", "127.0.0.1/32", "--new-budgets") as (process, address):
        with ThreadPoolExecutor(8) as pool:
            statuses = [answer.status for answer in pool.map(lambda n: checked(address, f"acc-{n}"), range(200))]
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert statuses == [200] * 200
    assert process.returncode == code and "Traceback" not in err
    journal = Journal(tmp_path / "home" / "journal")
    assert journal.verify() == 200
    assert {entry.body["account_id"] for entry in journal.entries()} == {f"acc-{n}" for n in range(200)}


def test_a_restart_with_budgets_in_memory_opens_for_nobody(tmp_path: Path) -> None:
    """Who had spent a budget, or never had one, starts without its burst."""
    with served(tmp_path, "--trusted-proxy", "127.0.0.1/32", "--new-budgets") as (_, address):
        assert [checked(address, "ann", 9_000).status for _ in range(2)] == [200, 429]
    with served(tmp_path, "--trusted-proxy", "127.0.0.1/32") as (_, address):
        assert [checked(address, name, 100).status for name in ("ann", "bob")] == [429, 429]


def test_a_killed_process_leaves_budgets_spent_and_a_whole_chain(tmp_path: Path) -> None:
    """With budgets in Redis a gate that is killed at once gives nothing back, and its journal goes on."""
    port = free_port()
    words = ("--trusted-proxy", "127.0.0.1/32", "--redis", f"redis://127.0.0.1:{port}/0", "--new-budgets")
    with own_redis(tmp_path, port):
        with served(tmp_path, *words) as (process, address):
            assert checked(address, "ann", 9_000).status == 200
            process.kill()
        with served(tmp_path, *words) as (second, address):
            assert checked(address, "ann", 9_000).status == 429
            assert checked(address, "bob", 9_000).status == 200
            second.terminate()
            second.wait(30)
        assert Journal(tmp_path / "home" / "journal").verify() >= 2


def test_several_processes_hold_one_budget(tmp_path: Path) -> None:
    """Three gates on one Redis, asked at once: no more passes than one budget holds; one is killed meanwhile."""
    port = free_port()
    words = ("--trusted-proxy", "127.0.0.1/32", "--redis", f"redis://127.0.0.1:{port}/0", "--new-budgets")
    folders = [tmp_path / str(n) for n in range(3)]
    for folder in folders:
        (folder / "home" / "keys").mkdir(parents=True, mode=0o700)
    with own_redis(tmp_path, port), served(folders[0], *words) as (first, one):
        key = (folders[0] / "home" / "keys" / "root").read_bytes()
        for folder in folders[1:]:
            path = folder / "home" / "keys" / "root"
            path.write_bytes(key)
            path.chmod(0o600)
        with served(folders[1], *words) as (_, two), served(folders[2], *words) as (_, three):

            def passes(n: int) -> bool:
                if n == 60:
                    first.kill()
                try:
                    return checked((one, two, three)[n % 3], "ann", 130).status == 200
                except OSError:
                    return False

            with ThreadPoolExecutor(12) as pool:
                passed = sum(pool.map(passes, range(300)))
    assert 10_000 // 130 - 12 <= passed <= 10_000 // 130


def test_without_its_redis_the_stated_mode_holds(tmp_path: Path) -> None:
    """Redis goes away while the gate runs: refused as the policy says; it comes back: nobody has a burst."""
    port = free_port()
    words = ("--trusted-proxy", "127.0.0.1/32", "--redis", f"redis://127.0.0.1:{port}/0", "--new-budgets")
    with own_redis(tmp_path, port), served(tmp_path, *words) as (_, address):
        assert checked(address, "ann", 100).status == 200
        redis = needs_module("redis", "redis").Redis(port=port)
        redis.shutdown(nosave=True)
        redis.close()
        assert checked(address, "ann", 100).status == 503
        with own_redis(tmp_path, port):
            assert checked(address, "bob", 9_000).status == 429
            assert ask(address + "/healthz").said == {
                "status": "ok",
                "decisions_lost": 0,
                "journal": "whole",
                "requests_unread": 0,
            }


def test_with_a_token_it_may_be_reached_from_outside(tmp_path: Path) -> None:
    """The token of the file opens every address, and no other does; the file's last line break is not part of it."""
    (tmp_path / "token").write_text("a-token-of-sixteen-or-more\n", "utf-8")
    words = ("--host", EVERYWHERE, "--token-file", str(tmp_path / "token"), "--trusted-proxy", "127.0.0.1/32")
    with served(tmp_path, *words, "--new-budgets") as (_, address):
        said = [checked(address, "ann", token=token).status for token in ("", "wrong", "a-token-of-sixteen-or-more")]
        body = {"account_id": "ann", "n_tokens": 1}
        bearer = {"authorization": "Bearer a-token-of-sixteen-or-more"}
        assert said == [401, 401, 200]
        assert [ask(address + "/v1/admit", body, headers).status for headers in ({}, bearer)] == [401, 200]
        assert json.loads(ask(address + "/openapi.json").body)["openapi"] == "3.1.0"
