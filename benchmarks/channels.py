"""channels: what each channel of a log is worth: planted accounts named with one of them taken away.

    python benchmarks/channels.py [--worlds 5] [--write benchmarks/channels.md]

Worlds of the demonstration under several seeds, each scanned whole and then without one channel. The figures stand in
`stillwatch doctor` too; a test compares the two.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SEEDS = range(1, 6)
WITHOUT: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "prompts": ("prompt", "messages"),
    "system prompts": ("system_prompt",),
    "networks": ("ip",),
    "clients": ("user_agent", "tls_fingerprint"),
    "tokens": ("input_tokens", "output_tokens"),
    "models": ("model",),
    "accounts file": (),
}


def scan(logs: Path, accounts: Path | None) -> set[str]:
    """The accounts that a scan names."""
    from stillwatch import LocalEngine, RootKey, ScanRequest, load_settings
    from stillwatch import scan as scan_logs
    from stillwatch.keys import Secret

    settings = load_settings(None, {})
    findings = scan_logs(
        ScanRequest(logs=[logs], accounts=accounts),
        settings=settings,
        engine=LocalEngine(threads=1, memory_mb=settings.scan.memory_mb, n_shards=settings.scan.partitions),
        key=RootKey(Secret(bytes(range(32)))),
        now=datetime(2027, 1, 1, tzinfo=UTC),
        clock=lambda: 0.0,
    )
    members = findings.members
    named = members.filter(pc.greater_equal(members.column("membership"), 0.9))
    return set(named.column("account_id").to_pylist())


def measure(n_worlds: int) -> dict[str, list[int]]:
    """For each channel taken away: planted accounts, planted ones named, others named, worlds with a campaign found."""
    from stillwatch.sim.scenarios import demo_scenario
    from stillwatch.sim.world import write_world

    found = {name: [0, 0, 0, 0] for name in WITHOUT}
    for seed in list(SEEDS)[:n_worlds]:
        with tempfile.TemporaryDirectory() as folder:
            world = write_world(demo_scenario(), Path(folder), seed=seed)
            truth = pq.read_table(world.truth)
            planted = set(truth.filter(pc.is_valid(truth.column("campaign"))).column("account_id").to_pylist())
            whole: pa.Table = pq.read_table(world.exchanges)
            for name, columns in WITHOUT.items():
                logs = Path(folder) / "less.parquet"
                pq.write_table(whole.drop_columns([one for one in columns if one in whole.column_names]), logs)
                named = scan(logs, None if name == "accounts file" else world.accounts)
                counts = (len(planted), len(named & planted), len(named - planted), int(bool(named & planted)))
                found[name] = [a + b for a, b in zip(found[name], counts, strict=True)]
    return found


def main() -> None:
    """Measure and print a table; `--write` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=len(SEEDS))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        "# Channels: planted accounts named with one channel taken away",
        "",
        f"{options.worlds} worlds of the demonstration (seeds from 1), fixed key.",
        "Command: `python benchmarks/channels.py --write benchmarks/channels.md`.",
        "One campaign in each, sharing payment, networks and wording; made by the people who wrote the detector.",
        "",
        "| without | planted | named | others named | worlds with a campaign |",
        "|---|---|---|---|---|",
        *(f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in measure(options.worlds).items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
