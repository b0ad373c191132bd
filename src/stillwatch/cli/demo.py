"""demo: `stillwatch demo`: make a small world, scan it, and show what was found."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the logs that are made and for the findings.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the world; another seed, another world.")] = 1,
) -> None:
    """Make a month of traffic with one planted campaign, scan it, and say what was found.

    \b
    Examples:
      stillwatch demo
      stillwatch demo --seed 7 --out /tmp/demo
    """
    from stillwatch.cli.scan import report, run_scan
    from stillwatch.dossier.folder import check_target
    from stillwatch.sim.scenarios import demo_scenario
    from stillwatch.sim.world import write_world

    findings_folder = out / "findings"
    check_target(findings_folder)
    started = time.perf_counter()
    world = write_world(demo_scenario(), out / "world", seed=seed)
    typer.echo(f"Made {world.n_exchanges:,} exchanges of {world.n_accounts:,} accounts in {world.exchanges}.")
    typer.echo(f"$ stillwatch scan {world.exchanges} --accounts {world.accounts} --out {findings_folder}\n")
    # A made-up world is nobody's history.
    findings = run_scan(
        logs=[str(world.exchanges)], accounts=str(world.accounts), out=findings_folder, remembered=False
    )
    report(findings, findings_folder, as_json=False)
    typer.echo(f"Done in {time.perf_counter() - started:.0f} s. The truth lies in {world.truth}; no scan reads it.")
