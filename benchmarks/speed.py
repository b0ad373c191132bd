"""speed: the whole scan against the time DuckDB takes just to read and hash the same columns.

    python benchmarks/speed.py [--source FOLDER] [--threads 2] [--write benchmarks/speed.md]

The practice set is repeated under new account names until the floor takes at least two seconds. Both run in this
process, one after the other, on the same files: floor, scan, floor, scan. Imports and compilation are timed apart, by
a scan of a small part before. `STILLWATCH_SHARED` names the folder the material lies in.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb

FLOOR_SECONDS = 2.0
BAR_RATIO, BAR_GIB = 10.0, 3.0


def floor(con: duckdb.DuckDBPyConnection, folder: Path) -> float:
    """Seconds DuckDB takes to read every column of every row and hash it."""
    columns = [row[0] for row in con.execute(f"describe select * from read_parquet('{folder}/*.parquet')").fetchall()]
    hashes = ", ".join(f"bit_xor(hash({name}))" for name in columns)
    started = time.perf_counter()
    con.execute(f"select {hashes} from read_parquet('{folder}/*.parquet')").fetchall()
    return time.perf_counter() - started


def repeat(con: duckdb.DuckDBPyConnection, source: Path, folder: Path, copies: int) -> None:
    """Write `copies` of the exchanges and the accounts, each under account names of its own."""
    (folder / "exchanges").mkdir(parents=True, exist_ok=True)
    for copy in range(copies):
        named = f"* replace (account_id || '-{copy}' as account_id)"
        target = folder / "exchanges" / f"copy-{copy:03d}.parquet"
        if not target.exists():
            con.execute(
                f"copy (select {named} from '{source}/exchanges/*.parquet') to '{target}' (row_group_size 100000)"
            )
    accounts = " union all ".join(
        f"select * replace (account_id || '-{copy}' as account_id) from '{source}/accounts.parquet'"
        for copy in range(copies)
    )
    con.execute(f"copy ({accounts}) to '{folder}/accounts.parquet'")


def scan(folder: Path, out: Path, threads: int) -> tuple[float, list[dict[str, object]], int]:
    """Seconds of a whole scan, findings written; its steps; campaigns found."""
    from stillwatch import LocalEngine, RootKey, ScanRequest, load_settings
    from stillwatch import scan as scan_logs
    from stillwatch.dossier.folder import write_findings
    from stillwatch.keys import Secret

    settings = load_settings(None, {}, {"scan.threads": threads})
    started = time.perf_counter()
    findings = scan_logs(
        ScanRequest(logs=[folder / "exchanges"], accounts=folder / "accounts.parquet"),
        settings=settings,
        engine=LocalEngine(threads=threads, memory_mb=settings.scan.memory_mb, n_shards=settings.scan.partitions),
        key=RootKey(Secret(bytes(range(32)))),
        now=datetime.now(UTC),
        clock=time.perf_counter,
    )
    write_findings(findings, out)
    return time.perf_counter() - started, findings.run["steps"], findings.campaigns.num_rows


def main() -> None:
    """Measure and print a table; `--write` also writes it."""
    shared = Path(os.environ.get("STILLWATCH_SHARED", "../shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=shared / "practice")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--copies", type=int, default=0, help="0: as many as the floor needs")
    parser.add_argument("--work", type=Path, help="keep the repeated logs here")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    con = duckdb.connect(config={"threads": options.threads})
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        repeat(con, options.source, work / "one", 1)
        warm_up, _, _ = scan(work / "one", Path(temporary) / "out", options.threads)
        again, _, _ = scan(work / "one", Path(temporary) / "out", options.threads)
        copies = options.copies or 1
        one = min(floor(con, work / "one" / "exchanges") for _ in range(3))
        while not options.copies and copies * one < FLOOR_SECONDS * 1.05:
            copies += 1
        folder = work / f"x{copies}"
        repeat(con, options.source, folder, copies)
        n_rows = con.execute(f"select count(*) from '{folder}/exchanges/*.parquet'").fetchall()[0][0]
        floor(con, folder / "exchanges")
        pairs = []
        for _ in range(options.runs):
            before = floor(con, folder / "exchanges")
            seconds, steps, n_campaigns = scan(folder, Path(temporary) / "out", options.threads)
            pairs.append((before, seconds))
    ratios = [seconds / before for before, seconds in pairs]
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = [
        f"# Speed: {n_rows:,} exchanges, {copies} copies of the practice set, {options.threads} threads",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}; command: `python benchmarks/speed.py --runs {options.runs}`",
        "",
        "| | median | min | max | bar |",
        "|---|---|---|---|---|",
        _row("floor: DuckDB reads and hashes, s", [before for before, _ in pairs], f">= {FLOOR_SECONDS:g}"),
        _row("scan, findings written, s", [seconds for _, seconds in pairs], ""),
        _row("ratio scan / floor", ratios, f"<= {BAR_RATIO:g}"),
        f"| peak memory of the whole process, GiB | {peak_gib:.2f} | | | <= {BAR_GIB:g} |",
        f"| start-up and compilation (first small scan less the second), s | {warm_up - again:.1f} | | | apart |",
        "",
        "Steps of the last scan (seconds): " + ", ".join(f"{step['step']} {step['seconds']}" for step in steps) + ".",
        f"Campaigns found in it: {n_campaigns}.",
    ]
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n", "utf-8")


def _row(name: str, values: list[float], bar: str) -> str:
    return f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} | {bar} |"


if __name__ == "__main__":
    main()
