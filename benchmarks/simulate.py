"""simulate: how fast the simulator writes, and how its traffic compares with published and with real traffic.

    python benchmarks/simulate.py [--scale 1] [--write benchmarks/simulate.md] [--picture docs/simulate.svg]

Three parts: the reported size written (rate, memory, size on disk; the output is removed); token counts and gaps
between exchanges against the second half hour of the Azure LLM inference trace 2023, whose first half hour the
simulator's shapes were taken from; collisions between ordinary accounts against the real prompts of the practice
traffic.
`STILLWATCH_SHARED` names the folder the material lies in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from scipy.stats import ks_2samp

from stillwatch.sim.kernels import HOUR_US
from stillwatch.sim.scenarios import Scenario, load_scenario, ordinary
from stillwatch.sim.traffic import play_hours
from stillwatch.sim.world import cast, write_world

SEED = 1
SERVICES = {
    "conversation": ("conv", ordinary("consumer", n_accounts=700_000)),
    "completion": ("code", ordinary("completion", n_accounts=18_000)),
}
SHARED = Path(os.environ.get("STILLWATCH_SHARED", "../shared"))

ALIKE = {
    "consumer": "consumer",
    "nomad": "nomad",
    "coding_agent": "ide_agent",
    "rag_product": "rag_app",
    "judge": "judge_users",
}
"""Our populations, and those of the practice traffic that are of the same kind."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


# --- the reported size ------------------------------------------------------------------------------------


def write_and_measure(scenario: str, scale: float, threads: int, folder: str) -> None:
    """In a process of its own, so that memory is its own: warm up, write, say what it took."""
    write_world(load_scenario("bench"), Path(folder) / "warm", seed=SEED, scale=0.1)
    wall, cpu = time.perf_counter(), time.process_time()
    world = write_world(load_scenario(scenario), Path(folder) / "world", seed=SEED, scale=scale, threads=threads)
    told = {
        "n_exchanges": world.n_exchanges,
        "n_accounts": world.n_accounts,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "load": os.getloadavg()[0],
        "gb": sum(path.stat().st_size for path in (Path(folder) / "world").rglob("*.parquet")) / 1e9,
    }
    print(json.dumps(told))


def speed(scale: float, threads: int) -> list[str]:
    """The table of the full-size run; what it wrote is removed."""
    folder = tempfile.mkdtemp()
    try:
        words = [sys.executable, __file__, "--one", folder, "--scale", str(scale), "--threads", str(threads)]
        told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        con = duckdb.connect(config={"threads": threads})
        counted = con.execute(
            f"select count(*), count(*) filter (campaign is not null), count(distinct campaign) "
            f"from '{folder}/world/exchanges/*.parquet' join '{folder}/world/truth.parquet' using (account_id)"
        ).fetchall()[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        f"## reported-2026-06 at scale {scale:g}, {threads} threads",
        "",
        "| | measured | goal |",
        "|---|---|---|",
        f"| exchanges written (counted again by DuckDB: {counted[0]:,}) | {told['n_exchanges']:,} | >= 58 million |",
        f"| of them the campaign's | {counted[1]:,} | 28.8 million |",
        f"| accounts | {told['n_accounts']:,} | |",
        f"| exchanges a second, wall clock | {told['n_exchanges'] / told['wall_s']:,.0f} | >= 300,000 |",
        f"| exchanges a second of CPU time, {threads} cores | {threads * told['n_exchanges'] / told['cpu_s']:,.0f} "
        "| >= 300,000 |",
        f"| load average of the machine when done | {told['load']:.0f} | |",
        f"| peak memory of the process, GiB | {told['peak_gib']:.2f} | <= 6 |",
        f"| size on disk, GB | {told['gb']:.2f} | |",
        f"| time, s (CPU {told['cpu_s']:.0f}) | {told['wall_s']:.0f} | |",
        "",
    ]


# --- against a published hour -----------------------------------------------------------------------------


def trace(service: str) -> tuple[Any, Any]:
    """Both half hours of a service of the trace: columns time (s), input and output tokens."""
    path = SHARED / "data" / "azure_llm_trace" / f"AzureLLMInferenceTrace_{service}.csv"
    con = duckdb.connect()
    rows = con.execute(
        f"select epoch_us(TIMESTAMP) / 1e6, ContextTokens, GeneratedTokens from '{path}' order by 1"
    ).fetchnumpy()
    table = np.stack([np.asarray(column, float) for column in rows.values()])
    half = table.shape[1] // 2
    return table[:, :half], table[:, half:]


def played(population: Any, n: int) -> Any:
    """The same columns of n exchanges of a population's busiest hour."""
    scenario = Scenario(populations=(population,), n_days=28)
    company = cast(scenario, seed=SEED)
    low = int(scenario.start.timestamp()) // 3600 + 24 * 15 + 14
    rows = play_hours(company, low - 1, low + 1)
    ts = rows["ts"].cast("int64").to_numpy()
    within = np.flatnonzero((ts >= low * HOUR_US) & (ts < (low + 1) * HOUR_US))[:n]
    columns = [ts / 1e6, rows["input_tokens"].to_numpy(), rows["output_tokens"].to_numpy()]
    return np.stack([column[within].astype(float) for column in columns])


def gaps(ts: Floats) -> Floats:
    """Gaps between exchanges, in units of their mean; at least a microsecond."""
    found = np.maximum(np.diff(np.sort(ts)), 1e-6)
    out: Floats = found / found.mean()
    return out


def against_trace(picture: Path | None) -> list[str]:
    """The table, and the picture, of simulated against published token counts and gaps."""
    lines = [
        "## Against the Azure LLM inference trace 2023 (second half hour)",
        "",
        "Kolmogorov-Smirnov distance; the floor is that of the trace's first half hour from its second. Gaps are in",
        "units of their mean; CV is their standard deviation (1 for arrivals without memory). The picture is in",
        "docs/simulate.md.",
        "",
        "| service | what | simulator | floor | median simulator | median trace |",
        "|---|---|---|---|---|---|",
    ]
    panels = []
    for service, (name, population) in SERVICES.items():
        first, second = trace(name)
        made = played(population, second.shape[1])
        for what, place in (("input tokens", 1), ("output tokens", 2), ("gaps", 0)):
            values = [gaps(each[0]) if place == 0 else each[place] for each in (made, second, first)]
            distance, floor = (ks_2samp(values[at], values[1]).statistic for at in (0, 2))
            middle = [f"{np.median(each):.3g}" for each in values]
            cv = f" (CV {values[0].std():.2f}, trace {values[1].std():.2f})" if place == 0 else ""
            lines.append(f"| {service} | {what}{cv} | {distance:.3f} | {floor:.3f} | {middle[0]} | {middle[1]} |")
            panels.append((f"{service}: {what}", values[0], values[1]))
    if picture:
        picture.write_text(drawn(panels), "utf-8")
    return [*lines, ""]


def drawn(panels: list[tuple[str, Floats, Floats]]) -> str:
    """Cumulative shares on a logarithmic axis, simulator against trace, one panel each."""
    width, height, parts = 270, 200, []
    for number, (title, made, real) in enumerate(panels):
        x0, y0 = 40 + number % 3 * width, 50 + number // 3 * height
        low, high = (np.log10(max(f(np.concatenate([made, real])), 1e-4)) for f in (np.min, np.max))
        parts.append(f'<text x="{x0}" y="{y0 - 10}" class="t">{title}</text>')
        parts.append(f'<rect x="{x0}" y="{y0}" width="{width - 50}" height="{height - 70}" class="f"/>')
        for power in range(int(np.ceil(low)), int(np.floor(high)) + 1):
            x = x0 + (power - low) / (high - low) * (width - 50)
            parts.append(f'<path d="M{x:.0f} {y0}v{height - 70}" class="g"/>')
            parts.append(f'<text x="{x:.0f}" y="{y0 + height - 55}" class="n">{10.0**power:g}</text>')
        for values, kind in ((real, "r"), (made, "s")):
            at = np.quantile(values, np.linspace(0, 1, 101))
            xs = x0 + (np.log10(np.maximum(at, 1e-4)) - low) / (high - low) * (width - 50)
            ys = y0 + (1 - np.linspace(0, 1, 101)) * (height - 70)
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
            parts.append(f'<polyline points="{points}" class="{kind}"/>')
    style = (
        "text{font:11px sans-serif;fill:#555}.t{font-weight:bold}.n{text-anchor:middle}.f{fill:none;stroke:#bbb}"
        ".g{stroke:#e4e4e4}.r,.s{fill:none;stroke-width:1.6}.r{stroke:#888}.s{stroke:#c2410c;stroke-dasharray:5 2}"
    )
    title = (
        "Simulator (dashed) and the second half hour of the Azure LLM inference trace 2023 (solid): cumulative shares"
    )
    size = f'viewBox="0 0 {3 * width + 20} {2 * height + 30}" width="{3 * width + 20}" height="{2 * height + 30}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><title>{title}</title><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="40" y="20">{title}</text>{"".join(parts)}</svg>\n'
    )


# --- against real prompts ---------------------------------------------------------------------------------


def one_prompt_each(folder: Path, populations: tuple[str, ...], n: int) -> list[str]:
    """One prompt of each of up to n accounts, by hash."""
    con = duckdb.connect()
    rows = con.execute(
        f"select arg_min(prompt, hash(prompt)) from '{folder}/exchanges/*.parquet' "
        f"join '{folder}/truth.parquet' using (account_id) "
        f"where population in {(*populations, '')} and campaign is null and prompt is not null "
        f"group by account_id order by hash(account_id) limit {n}"
    ).fetchall()
    return [row[0] for row in rows]


def collisions(prompts: list[str]) -> tuple[float, float, float, float]:
    """Words a prompt; share of prompts said by another account too; of shingles found in another account's; of pairs
    of accounts, the three-word shingles they share."""
    words = [re.sub(r"\d+", "0", prompt.lower()) for prompt in prompts]
    tokens = [re.findall(r"\w+", text) for text in words]
    shingles = [{tuple(each[at : at + 3]) for at in range(len(each) - 2)} for each in tokens]
    said, seen = Counter(prompts), Counter(one for each in shingles for one in each)
    twins = sum(n for n in said.values() if n > 1) / len(prompts)
    shared = sum(n for n in seen.values() if n > 1) / max(1, sum(seen.values()))
    pairs = sum(n * (n - 1) for n in seen.values()) / (len(prompts) * (len(prompts) - 1))
    return float(np.mean([len(each) for each in tokens])), twins, shared, pairs


def against_prompts() -> list[str]:
    """The table of collisions between ordinary accounts, simulated and real."""
    lines = [
        "## Collisions between ordinary accounts, against real prompts",
        "",
        "One prompt of each of as many accounts on both sides; digits masked. Real: the ordinary part of the practice",
        "traffic. Shingles are of three words.",
        "",
        "| population | accounts | words | said by another too | shingles found in another's | shared by a pair |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        world = load_scenario("empty")
        more = tuple(replace(each, n_accounts=each.n_accounts * 2) for each in world.populations)
        write_world(replace(world, populations=more), Path(temporary) / "w", seed=SEED)
        for ours, theirs in ALIKE.items():
            made = one_prompt_each(Path(temporary) / "w", (ours,), 2000)
            real = one_prompt_each(SHARED / "practice", (theirs,), len(made))
            made = made[: len(real)]
            for kind, prompts in (("simulated", made), ("real", real)):
                n_words, twins, shared, pairs = collisions(prompts)
                lines.append(
                    f"| {ours}, {kind} | {len(prompts):,} | {n_words:.0f} | {twins:.1%} | {shared:.1%} | {pairs:.3f} |"
                )
    return [*lines, ""]


def main() -> None:
    """Measure and print the tables; `--write` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        write_and_measure("reported-2026-06", options.scale, options.threads, options.one)
        return
    lines = [
        "# The simulator: rate, and how its traffic compares",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores shared with other work, Python "
        f"{platform.python_version()}; seed {SEED}; command: `python benchmarks/simulate.py --scale {options.scale:g}`",
        "",
        *speed(options.scale, options.threads),
        *against_trace(options.picture),
        *against_prompts(),
    ]
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
