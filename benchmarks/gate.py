"""gate: what a decision costs, and whether a campaign of many accounts is held to its budget.

    python benchmarks/gate.py [--redis redis://127.0.0.1:6379/8] [--envoy PATH] [--litellm] [--write benchmarks/gate.md]

With `--litellm`, `STILLWATCH_SERVICES` names the folder of LiteLLM's executable.

Wall-clock figures mean what they say on a quiet machine only; the load is written beside them, and what is compared is
measured in turns in the same run. The Redis is used under a prefix of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatch.gate.admission import FixedRules, Gate
from stillwatch.gate.ledger import Ledger
from stillwatch.journal import Journal
from stillwatch.keys import Secret
from stillwatch.policy.budgets import Charge, Limit
from stillwatch.policy.budgets_memory import MemoryBudgets
from stillwatch.policy.model import micros
from stillwatch.policy.reading import parse_policy
from stillwatch.policy.ruling import Request
from stillwatch.policy.snapshot import Lineage, Snapshot, gather

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.gate import real

SEED = 7
N_ACCOUNTS, N_CAMPAIGNS, N_MEMBERS = 1_000_000, 100, 1_000
N_CALLS = 100_000
NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = Secret(bytes(range(1, 33)))
N_TURNS = 3
SERVE = (sys.executable, "-m", "stillwatch", "serve", "--trusted-proxy", "127.0.0.1/32")
SRC = Path(__file__).resolve().parents[1] / "src"

POLICY = b"""
format = 1
version = "bench"
mode = "enforce"
on_failure = "deny"
[levels.none]
models = ["*"]
capabilities = ["*"]
features = []
[[budgets]]
name = "account-hour"
per = "account"
tokens = 1_000_000
period = "1h"
burst = 100_000
[[budgets]]
name = "network-minute"
per = "network"
requests = 60_000
period = "1m"
burst = 10_000
[[budgets]]
name = "lineage-hour"
per = "lineage"
tokens = 100_000
period = "1h"
burst = 10_000
[verdicts.campaign]
action = "allow_limited"
features_off = ["logprobs"]
"""


def known(n_campaigns: int, n_members: int) -> Snapshot:
    """A snapshot of campaigns `bot-CAMPAIGN-NUMBER`."""
    lineages = [Lineage(f"lin-{n}", f"c-{n}", "campaign") for n in range(n_campaigns)]
    rows = ((f"bot-{at}-{n}", at, 1.0) for at in range(n_campaigns) for n in range(n_members))
    accounts, lineage_of, membership = gather(rows, lineages, key=KEY)
    made = micros(NOW)
    return Snapshot(made, made + 10**15, KEY, tuple(lineages), accounts, lineage_of, membership)


def request(account: str, now: datetime, n_tokens: int) -> Request:
    """A call from one of 10,000 addresses."""
    number = sum(account.encode()) * 7919 % 10_000
    return Request(account_id=account, now=now, n_tokens=n_tokens, model="m", ip=f"198.18.{number >> 8}.{number & 255}")


def quantiles(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """p50, p99 and p99.9 in milliseconds."""
    p50, p99, p999 = np.quantile(np.asarray(values) * 1e3, [0.5, 0.99, 0.999])
    return f"{p50:.3f} | {p99:.3f} | {p999:.3f}"


def in_process(folder: Path) -> Iterator[str]:
    """One thread, a million accounts with a budget in use, a hundred campaigns, the journal on disk."""
    budgets = MemoryBudgets(lambda: time.monotonic_ns() // 1_000_000, is_new=True)
    of = Limit(1_000_000, 3_600_000, 100_000)
    for n in range(N_ACCOUNTS):
        name = f"account-hour\x1facc-{n}"
        budgets.reserve(f"load {n}", [Charge("account", name, of, 50_000, name="account-hour")])
    rules = FixedRules(parse_policy(POLICY), known(N_CAMPAIGNS, N_MEMBERS))
    rng = np.random.default_rng(SEED)
    picks = rng.integers(0, N_ACCOUNTS, N_CALLS)
    wall, cpu = np.zeros(N_CALLS), np.zeros(N_CALLS)
    with Ledger(Journal(folder / "journal"), most_waiting=N_CALLS) as ledger:
        gate = Gate(rules, budgets, ledger, secret=KEY, origin="bench")
        for at, n in enumerate(picks):
            account = f"bot-{n % N_CAMPAIGNS}-{n % N_MEMBERS}" if at % 10 == 0 else f"acc-{n}"
            one = request(account, NOW, 10)
            before, used = time.perf_counter(), time.thread_time()
            admission = gate.admit(one)
            wall[at], cpu[at] = time.perf_counter() - before, time.thread_time() - used
            gate.settle(admission.decision_id, 5)
    yield f"| wall clock | {quantiles(wall)} |"
    yield f"| CPU of the calling thread | {quantiles(cpu)} |"
    yield f"\n{N_CALLS:,} decisions, {ledger.n_written:,} journaled, {ledger.n_lost:,} not taken by the queue."


def campaign(folder: Path) -> Iterator[str]:
    """An hour of 25,000 accounts of one lineage beside 5,000 others, which are measured with and without them."""
    for name, n_bots in (("without the campaign", 0), ("with it", 25_000)):
        ms = [0]
        budgets = MemoryBudgets(lambda ms=ms: 1_000_000 + ms[0], is_new=True)  # type: ignore[misc]
        rules = FixedRules(parse_policy(POLICY), known(1, 25_000))
        rng = np.random.default_rng(SEED)
        innocent = sorted((int(at), f"acc-{n % 5_000}") for n, at in enumerate(rng.integers(0, 3_600_000, 50_000)))
        times = rng.integers(0, 3_600_000, 4 * n_bots)
        bots = [(int(at), f"bot-0-{n % max(n_bots, 1)}") for n, at in enumerate(times)]
        tokens, refused, tried, cpu = 0, 0, 0, []
        with Ledger(Journal(folder / name), most_waiting=300_000) as ledger:
            gate = Gate(rules, budgets, ledger, secret=KEY, origin=name)
            for at, account in sorted(innocent + bots):
                ms[0] = at
                one = request(account, NOW + timedelta(milliseconds=at), 500)
                used = time.thread_time()
                passes = gate.admit(one).passes
                if account.startswith("bot"):
                    tokens, tried = tokens + 500 * passes, tried + 1
                else:
                    cpu.append(time.thread_time() - used)
                    refused += not passes
        yield f"| {name} | {tried:,} | {tokens:,} | {refused:,} of {len(cpu):,} | {quantiles(cpu)} |"


# --- over HTTP ------------------------------------------------------------------------------------------------

BARE = """
import hashlib, os
import redis.asyncio, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
client = redis.asyncio.Redis.from_url(os.environ["REDIS"])
TEXT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
SHA = hashlib.sha1(TEXT.encode()).hexdigest()
async def check(request):
    try:
        await client.evalsha(SHA, 1, "bench:bare", "1")
    except redis.exceptions.NoScriptError:
        await client.eval(TEXT, 1, "bench:bare", "1")
    return Response(b"", 200)
app = Starlette(routes=[Route("/check/{path:path}", check, methods=["GET", "POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
"""


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def program(words: Sequence[str], port: int, environ: dict[str, str]) -> Iterator[tuple[int, Callable[[], float]]]:
    """A program that listens on a port, and what tells the CPU seconds it used; ended afterwards."""
    process = subprocess.Popen(list(words), env={**os.environ, "PYTHONPATH": str(SRC), **environ})
    try:
        for _ in range(300):
            try:
                asyncio.run(_fetch(port, b"GET /check/x HTTP/1.1\r\nhost: x\r\n\r\n"))
                break
            except OSError:
                assert process.poll() is None, words
                time.sleep(0.2)
        yield port, lambda: cpu_s(process.pid)
    finally:
        process.terminate()
        process.wait(20)


async def _fetch(port: int, ask: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _one(reader, writer, ask)
    finally:
        writer.close()


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: bytes) -> int:
    writer.write(ask)
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    if b"content-length:" in low:
        await reader.readexactly(int(low.partition(b"content-length:")[2].split(b"\r\n")[0]))
    return int(head[9:12])


def asks(n: int) -> list[bytes]:
    """Checks of n accounts."""
    return [
        f"GET /check/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-stillwatch-account: acc-{at}\r\n"
        f"x-forwarded-for: 198.18.{at % 200}.9\r\nx-stillwatch-tokens: 1\r\n\r\n".encode()
        for at in range(n)
    ]


async def _open_loop(port: int, rate: float, for_s: float, n_connections: int = 32) -> tuple[float, list[float], int]:
    """Calls at a rate, whether or not earlier ones were answered: answers a second, latencies from the due time."""
    queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    latencies: list[float] = []
    wrong = 0

    async def worker() -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (item := await queue.get()) is not None:
            wrong += await _one(reader, writer, item[1]) != 200
            latencies.append(time.perf_counter() - item[0])
        writer.close()

    workers = [asyncio.create_task(worker()) for _ in range(n_connections)]
    began, n, pool = time.perf_counter(), 0, asks(1000)
    while (passed := time.perf_counter() - began) < for_s:
        while n < passed * rate:
            queue.put_nowait((began + n / rate, pool[n % len(pool)]))
            n += 1
        await asyncio.sleep(0.002)
    done = len(latencies)
    while not queue.empty():
        queue.get_nowait()
    for _ in workers:
        queue.put_nowait(None)
    await asyncio.gather(*workers)
    return done / for_s, latencies[:done], wrong


def over_http(folder: Path, redis: str) -> Iterator[str]:
    """The service against a bare endpoint, in turns: offered far more than either can answer, then a quiet rate."""
    policy = folder / "policy.toml"
    policy.write_bytes(POLICY)
    home = {"STILLWATCH_HOME": str(folder / "home")}
    serve = [*SERVE, str(policy), "--redis", redis, "--port", "8442", "--new-budgets"]
    rates: dict[str, list[float]] = {"bare": [], "gate": []}
    costs: dict[str, list[float]] = {"bare": [], "gate": []}
    calm: dict[str, list[float]] = {"bare": [], "gate": []}
    wrong = dict.fromkeys(rates, 0)
    with (
        program([sys.executable, "-c", BARE], 8441, {"REDIS": redis, "PORT": "8441"}) as bare,
        program(serve, 8442, home) as gate,
    ):
        for _ in range(N_TURNS):
            for name, (port, used) in {"bare": bare, "gate": gate}.items():
                before = used()
                rate, latencies, refused = asyncio.run(_open_loop(port, 4_000, 3))
                rates[name].append(rate)
                costs[name].append((used() - before) / len(latencies) * 1e3)
                calm[name] += asyncio.run(_open_loop(port, 100, 3))[1]
                wrong[name] += refused
    for name, found in rates.items():
        cost = median(costs[name])
        yield f"| {name} | {median(found):,.0f} | {wrong[name]} | {cost:.3f} | {quantiles(calm[name])} |"
    said = [g / b for g, b in zip(rates["gate"], rates["bare"], strict=True)]
    cheap = [b / g for g, b in zip(costs["gate"], costs["bare"], strict=True)]
    yield f"\nThe gate answers {median(said):.0%} of what the bare endpoint does ({min(said):.0%} to {max(said):.0%})."
    yield f"By CPU time of the two processes: {median(cheap):.0%} ({min(cheap):.0%} to {max(cheap):.0%}). Bar: 60 %."


UPSTREAM = """
import os, uvicorn
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
"""


def _envoy(ports: dict[str, int]) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions.filters"

    def address(port: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def cluster(name: str) -> dict[str, Any]:
        endpoint = {"endpoint": {"address": address(ports[name])}}
        return {"name": name, "type": "STATIC",
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}  # fmt: skip

    authz = {
        "name": "authz",
        "typed_config": {
            "@type": f"{types}.http.ext_authz.v3.ExtAuthz", "failure_mode_allow": False,
            "http_service": {
                "path_prefix": "/check", "server_uri": {"uri": "http://gate", "cluster": "gate", "timeout": "2s"},
                "authorization_request": {
                    "allowed_headers": {"patterns": [{"exact": "x-forwarded-for"}, {"prefix": "x-stillwatch-"}]}
                },
                "authorization_response": {"allowed_upstream_headers": {"patterns": [{"prefix": "x-stillwatch-"}]}},
            },
        },
    }  # fmt: skip
    router = {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}

    def listener(name: str, filters: list[Any]) -> dict[str, Any]:
        routes = [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]
        manager = {
            "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": filters,
        }  # fmt: skip
        chain = {"filters": [{"name": "manager", "typed_config": manager}]}
        return {"name": name, "address": address(ports[name]), "filter_chains": [chain]}

    return {
        "static_resources": {
            "listeners": [listener("plain", [router]), listener("gated", [authz, router])],
            "clusters": [cluster("up"), cluster("gate")],
        }
    }


def behind_envoy(folder: Path, redis: str, envoy: str) -> Iterator[str]:
    """One client through a real Envoy, with and without the gate, in turns."""
    ports = {"up": 8451, "gate": 8452, "plain": 8453, "gated": 8454}
    (folder / "policy.toml").write_bytes(POLICY)
    (folder / "envoy.json").write_text(json.dumps(_envoy(ports)), "utf-8")
    serve = [*SERVE, str(folder / "policy.toml"), "--redis", redis, "--port", "8452"]
    words = [envoy, "-c", str(folder / "envoy.json"), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    latencies: dict[str, list[float]] = {"plain": [], "gated": []}
    failed = 0
    with (
        program([sys.executable, "-c", UPSTREAM], 8451, {"PORT": "8451"}),
        program(serve, 8452, {"STILLWATCH_HOME": str(folder / "home")}),
        program(words, 8453, {}),
    ):
        for _ in range(10):
            for name, took in latencies.items():
                latency, n_failed = asyncio.run(_in_turn(ports[name], asks(300), (200, 429)))
                took.extend(latency)
                failed += n_failed
    yield f"| calls answered neither 200 nor 429 | {failed} of {sum(map(len, latencies.values()))} | | |"
    p50, p99 = (np.quantile(latencies["gated"], q) - np.quantile(latencies["plain"], q) for q in (0.5, 0.99))
    for name, title in (("plain", "Envoy"), ("gated", "Envoy and the gate")):
        yield f"| {title} | {quantiles(latencies[name])} |"
    yield f"\nAdded: {p50 * 1e3:.2f} ms at p50, {p99 * 1e3:.2f} ms at p99."


async def _in_turn(port: int, calls: Sequence[bytes], ok: Sequence[int]) -> tuple[list[float], int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took, failed = [], 0
    for ask in calls:
        before = time.perf_counter()
        failed += await _one(reader, writer, ask) not in ok
        took.append(time.perf_counter() - before)
    writer.close()
    return took, failed


PROXIES = {
    "LiteLLM": {}, "the same again": {}, "LiteLLM with the hook": {"hooked": True}, "LiteLLM with the guardrail": {},
}  # fmt: skip


def behind_litellm(folder: Path, redis: str) -> Iterator[str]:
    """One client through four real LiteLLM proxies, in turns: two without the gate show the noise of the measure."""
    (folder / "policy.toml").write_bytes(POLICY)
    (folder / "token").write_text(real.TOKEN, "utf-8")
    home = {"STILLWATCH_HOME": str(folder / "home"), "STILLWATCH_POLICY": str(folder / "policy.toml")}
    serve = [*SERVE, str(folder / "policy.toml"), "--redis", redis, "--port", "8462", "--new-budgets"]
    latencies: dict[str, list[list[float]]] = {name: [] for name in PROXIES}
    costs: dict[str, list[float]] = {name: [] for name in PROXIES}
    failed = 0
    with ExitStack() as stack:
        behind = stack.enter_context(real.upstream())
        stack.enter_context(program([*serve, "--token-file", str(folder / "token")], 8462, home))
        proxies = {}
        for at, (name, how) in enumerate(PROXIES.items()):
            own = folder / str(at)
            own.mkdir()
            guard = "http://127.0.0.1:8462" if "guardrail" in name else None
            one = real.prepared(own, behind.address, guarded_by=guard, **how)
            # The hook finds its gate in the environment; our own path would come before LiteLLM's packages.
            environ = home | {"STILLWATCH_REDIS": redis} | one.environ
            proxies[name] = stack.enter_context(program(one.words, one.port, environ))
        for turn in range(13):
            for at in range(len(PROXIES)):  # who begins changes, so that no place in a turn is anybody's
                name = list(PROXIES)[(at + turn) % len(PROXIES)]
                port, used = proxies[name]
                before = used()
                took, n_failed = asyncio.run(_in_turn(port, chats(40), (200,)))
                failed += n_failed
                if turn:  # the first only warms up
                    latencies[name].append(took)
                    costs[name].append((used() - before) / 40 * 1e3)
    yield f"| calls not answered 200 | {failed} of {13 * 40 * len(PROXIES)} | | | |"
    for name, turns in latencies.items():
        yield f"| {name} | {quantiles(np.concatenate(turns))} | {median(costs[name]):.1f} |"
    yield "\nAgainst the first, turn by turn (medians of 40 calls; the middle one of 12 turns, least and most):"
    first, *others = (np.median(turns, axis=1) * 1e3 for turns in latencies.values())
    for name, found in zip(list(PROXIES)[1:], others, strict=True):
        added = found - first
        yield f"- {name}: {np.median(added):+.2f} ms ({added.min():+.2f} to {added.max():+.2f})"


def chats(n: int) -> list[bytes]:
    """Chat completions of n accounts."""
    body = b'{"model": "orion", "max_tokens": 100, "messages": [{"role": "user", "content": "used=10"}]}'
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-customer\r\n"
        "content-type: application/json\r\nx-account-id: acc-{}\r\ncontent-length: {}\r\n\r\n"
    )
    return [head.format(at, len(body)).encode() + body for at in range(n)]


def main() -> None:
    """Run all, print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/8")
    parser.add_argument("--envoy")
    parser.add_argument("--litellm", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", nargs="*", default=["process", "campaign", "http", "envoy", "litellm"])
    given = parser.parse_args()
    times = "p50 ms | p99 ms | p99.9 ms"
    parts: dict[str, tuple[str, str, Callable[[Path], Iterator[str]]]] = {
        "process": (
            "In process: 1,000,000 accounts with budgets in use, 100 campaigns of 1,000. Bar: p99 of 1 ms",
            f"| clock | {times} |",
            in_process,
        ),
        "campaign": (
            "An hour of 25,000 accounts of one lineage that may have 100,000 tokens an hour and a burst of 10,000",
            f"| run | calls of the campaign | its tokens | others refused | others' CPU {times} |",
            campaign,
        ),
        "http": (
            "Over HTTP, in turns: 4,000 calls a second offered, then 100",
            f"| endpoint | answers/s | wrong | CPU ms each | at 100/s: {times} |",
            lambda folder: over_http(folder, given.redis),
        ),
        "envoy": (
            "Behind a real Envoy, one client, in turns. Bar: 3 ms added at p99",
            f"| path | {times} |",
            lambda folder: behind_envoy(folder, given.redis, given.envoy),
        ),
        "litellm": (
            "Behind a real LiteLLM proxy, one client, in turns. Bar: the hook under the proxy's own noise",
            f"| path | {times} | proxy's CPU ms each |",
            lambda folder: behind_litellm(folder, given.redis),
        ),
    }
    load = os.getloadavg()[0]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, seed {SEED}"
    said = (
        f"{machine}, load average at the start {load:.1f}; command: `python benchmarks/gate.py --envoy PATH --litellm`"
    )
    lines = ["# Gate", "", said, ""]
    for name, (title, head, part) in parts.items():
        if name not in given.only or (name in ("envoy", "litellm") and not getattr(given, name)):
            continue
        print(title, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows = list(part(Path(folder)))
        lines += [f"## {title}", "", head, "|" + "---|" * (head.count("|") - 1), *rows, ""]
        lines += [f"Load average afterwards: {os.getloadavg()[0]:.1f}.", ""]
    page = "\n".join(lines)
    print(page)
    if given.write:
        given.write.write_text(page.rstrip("\n") + "\n", "utf-8")


if __name__ == "__main__":
    main()
