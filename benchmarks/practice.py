"""practice: what a scan finds in the practice traffic, under several keys, with and without its campaigns.

    python benchmarks/practice.py [--keys 5] [--write benchmarks/practice.md]

The truth is read after each scan, to count. The key tosses the coins that halve hubs and units, so results differ a
little from key to key; each row of the table is one. `STILLWATCH_SHARED` names the folder the material lies in.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from stillwatch import LocalEngine, RootKey, ScanRequest, load_settings
from stillwatch import scan as scan_logs
from stillwatch.allowlist import Allowlist, load_allowlist
from stillwatch.keys import Secret
from stillwatch.sim.scenarios import demo_scenario
from stillwatch.sim.world import write_world


def members_found(
    logs: Path, accounts: Path | None, allowlist: Allowlist, seed: int, **mapping: str
) -> list[list[str]]:
    """Scan under the key of a seed; the member ids of each campaign."""
    settings = load_settings()
    limits = settings.scan
    findings = scan_logs(
        ScanRequest(logs=[logs], accounts=accounts, allowlist=allowlist, mapping=mapping),
        settings=settings,
        engine=LocalEngine(threads=limits.threads, memory_mb=limits.memory_mb, n_shards=limits.partitions),
        key=RootKey(Secret(bytes([seed + 1]) * 32)),
        now=datetime.now(UTC),
        clock=time.perf_counter,
    )
    rows = findings.members.to_pylist()
    return [
        [row["account_id"] for row in rows if row["campaign_id"] == name]
        for name in findings.campaigns.column("campaign_id").to_pylist()
    ]


def without_campaigns(logs: Path, truth: pa.Table, folder: Path) -> Path:
    """The same logs with the campaigns' accounts removed."""
    planted = truth.filter(pc.is_valid(truth["campaign"]))["account_id"].combine_chunks()
    table = ds.dataset(logs).to_table(filter=~pc.field("account_id").isin(planted))
    pq.write_table(table, folder / "clean.parquet")
    return folder / "clean.parquet"


def row(world: str, key: int, found: list[list[str]], truth: dict[str, str | None]) -> str:
    """One line of the table: recall per planted campaign, findings, ordinary accounts named."""
    planted = Counter(campaign for campaign in truth.values() if campaign)
    named = {account for members in found for account in members}
    recall = ", ".join(
        f"{name} {sum(truth.get(account) == name for account in named)} of {size}"
        for name, size in sorted(planted.items())
    )
    innocent = sum(truth.get(account) is None for account in named)
    return f"| {world} | {key} | {len(found)} | {recall or 'none planted'} | {innocent} of {len(named)} |"


def main() -> None:
    """Measure and print the table; `--write` also writes it."""
    shared = Path(os.environ.get("STILLWATCH_SHARED", "../shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=5)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    practice = shared / "practice"
    allowlist = load_allowlist(practice / "allowlist.txt")
    table = pq.read_table(practice / "truth.parquet")
    truth = dict(zip(table["account_id"].to_pylist(), table["campaign"].to_pylist(), strict=True))
    lines = [
        "# What is found in the practice traffic and in the demo's world",
        "",
        f"Command: `python benchmarks/practice.py --keys {options.keys}`. Each key tosses coins of its own.",
        "",
        "| world | key | campaigns found | members named, of those planted | ordinary among the named |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        clean = without_campaigns(practice / "exchanges", table, Path(temporary))
        for key in range(options.keys):
            found = members_found(practice / "exchanges", practice / "accounts.parquet", allowlist, key)
            lines.append(row("practice", key, found, truth))
            none: dict[str, str | None] = {account: None for account, planted in truth.items() if planted is None}
            found = members_found(clean, practice / "accounts.parquet", allowlist, key)
            lines.append(row("practice without its campaigns", key, found, none))
            world = write_world(demo_scenario(), Path(temporary) / f"demo-{key}", seed=key)
            made = pq.read_table(world.truth)
            told = dict(zip(made["account_id"].to_pylist(), made["campaign"].to_pylist(), strict=True))
            lines.append(
                row(f"demo, seed {key}", key, members_found(world.exchanges, world.accounts, Allowlist(), key), told)
            )
        traces = members_found(shared / "data" / "agent_traces", None, Allowlist(), 0, session_id="account_id")
        lines.append(row("agent traces, sessions as accounts", 0, traces, {}))
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
