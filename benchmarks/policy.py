"""policy: what a ruling costs, and what a snapshot weighs, with many accounts and campaigns loaded.

    python -m benchmarks.policy --accounts 1000000 --campaigns 100 --calls 50000

Times are CPU time of this process, call by call, so that other work on the machine counts little; the ratio to one
keyed hash of an id, measured in the same run, is what travels between machines.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stillwatch.keys import RootKey, Secret
from stillwatch.policy.deciding import decide
from stillwatch.policy.model import Policy, micros
from stillwatch.policy.reading import parse_policy
from stillwatch.policy.ruling import Request
from stillwatch.policy.sealed import gate_key, load_snapshot, write_snapshot
from stillwatch.policy.snapshot import Lineage, Snapshot, account_hash, gather

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SEED = 1

POLICY = """
format = 1
version = "bench"
mode = "enforce"
on_failure = "deny"
[levels.none]
models = ["small-*"]
capabilities = ["chat"]
features = []
[[levels.none.budgets]]
per = "account"
tokens = 10_000
period = "1h"
burst = 2_000
[levels.payment]
models = ["small-*", "medium-*", "large-?"]
capabilities = ["*"]
features = ["reasoning"]
[[budgets]]
per = "lineage"
tokens = 100_000
period = "1h"
burst = 10_000
[[budgets]]
per = "network"
requests = 600
period = "1m"
burst = 60
[verdicts.campaign]
action = "slow"
wait = "5s"
[networks]
[[networks.rules]]
action = "deny"
cidrs = [CIDRS]
[[licensed]]
org_id = "org-1"
"""


def policy(n_cidrs: int) -> Policy:
    """The policy of the run, with a list of networks of this size."""
    cidrs = ", ".join(f'"10.{at >> 8 & 255}.{at & 255}.0/25"' for at in range(n_cidrs))
    return parse_policy(POLICY.replace("CIDRS", cidrs).encode())


def snapshot(n_accounts: int, n_campaigns: int, root: RootKey) -> Snapshot:
    """Accounts spread evenly over campaigns."""
    lineages = tuple(Lineage(f"lin-{at}", f"camp-{at}", "campaign") for at in range(n_campaigns))
    key = gate_key(root, "accounts")
    members = ((f"acct_{at:08d}", at % n_campaigns, 0.95) for at in range(n_accounts))
    accounts, lineage_of, membership = gather(members, lineages, key=key)
    us = micros(NOW)
    return Snapshot(
        made_us=us, expires_us=us + 10**13, key=key, lineages=lineages, accounts=accounts,
        lineage_of=lineage_of, membership=membership,
    )  # fmt: skip


def requests(n: int, n_accounts: int) -> list[Request]:
    """Calls, one half by members, from all over."""
    rng = random.Random(SEED)
    levels = ("none", "email", "payment", "organisation")
    return [
        Request(
            account_id=f"acct_{rng.randrange(2 * n_accounts):08d}", now=NOW, org_id=f"org-{rng.randrange(10_000)}",
            payment_fingerprint=f"card-{rng.randrange(10**6)}", ip=f"10.{rng.randrange(256)}.{rng.randrange(256)}.7",
            identity_level=rng.choice(levels), model=rng.choice(("small-1", "medium-2", "large-x", "giant")),
            features=frozenset(rng.choice(((), ("reasoning",), ("logprobs",)))), n_tokens=900,
        )
        for _ in range(n)
    ]  # fmt: skip


def timed(calls: list[Request], rules: Policy, standing: Snapshot) -> np.ndarray:
    """CPU nanoseconds of each call."""
    clock, spent = time.process_time_ns, np.empty(len(calls), np.int64)
    for at, call in enumerate(calls):
        began = clock()
        decide(call, rules, standing)
        spent[at] = clock() - began
    return spent


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--campaigns", type=int, default=100)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--cidrs", type=int, default=10_000)
    asked = parser.parse_args()
    root = RootKey(Secret(b"b" * 32))
    rules = policy(asked.cidrs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gate.snapshot"
        write_snapshot(snapshot(asked.accounts, asked.campaigns, root), path, root)
        n_bytes = path.stat().st_size
        tracemalloc.start()
        began = time.process_time()
        standing = load_snapshot(path, root, NOW)
        load_s = time.process_time() - began
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    calls = requests(asked.calls, asked.accounts)
    timed(calls[:2000], rules, standing)
    spent = timed(calls, rules, standing) / 1000
    clock, key = time.process_time_ns, standing.key.reveal()
    began_ns = clock()
    for call in calls:
        account_hash(call.account_id, key)
    one_hash = (clock() - began_ns) / 1000 / len(calls)
    p50, p99, p999 = np.percentile(spent, [50, 99, 99.9])
    rows = [
        ("decide, mean", f"{spent.mean():.1f} us ({spent.mean() / one_hash:.0f} keyed hashes)"),
        ("decide, p50", f"{p50:.1f} us"),
        ("decide, p99", f"{p99:.1f} us"),
        ("decide, p99.9", f"{p999:.1f} us"),
        ("one keyed hash of an id", f"{one_hash:.2f} us"),
        ("snapshot file", f"{n_bytes:,} bytes ({n_bytes / asked.accounts:.1f} an account)"),
        ("snapshot in memory", f"{held:,} bytes held, {peak:,} at most while loading"),
        ("loading it, seal checked", f"{load_s:.3f} s"),
    ]
    command = f"python -m benchmarks.policy --accounts {asked.accounts} --campaigns {asked.campaigns}"
    command += f" --calls {asked.calls} --cidrs {asked.cidrs}"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    page = (
        "# Rulings\n\nWhat one ruling of the policy costs in process, without budgets, and what a snapshot weighs.\n"
        f"\n```sh\n{command}\n```\n\nSeed {SEED}; {asked.accounts:,} accounts in {asked.campaigns:,} campaigns "
        f"loaded, {asked.cidrs:,} networks in the policy; half of the {asked.calls:,} calls by members. CPU time of "
        f"the process on a shared machine ({platform.machine()}, Python {platform.python_version()}), its clock"
        f" included.\n\n"
        f"| what | figure |\n| --- | --- |\n{table}\n"
    )
    print(page)
    (Path(__file__).parent / "policy.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
