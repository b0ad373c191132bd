"""simulate: `stillwatch simulate`: write traffic with known truth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.errors import SettingsError

if TYPE_CHECKING:
    from stillwatch.sim.scenarios import Scenario


def simulate(
    scenario: Annotated[
        str | None, typer.Argument(help="A shipped scenario (--list names them), or a TOML file of yours.")
    ] = None,
    scale: Annotated[float, typer.Option(help="Share of the scenario's accounts; they are drawn anew.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the world; same seed, same bytes.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder to write: exchanges/, accounts, truth, allowlist.")] = Path("world"),
    threads: Annotated[int, typer.Option(help="Worker threads; they change the time, never a byte.")] = 2,
    list_: Annotated[bool, typer.Option("--list", help="Name the shipped scenarios and stop.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Say what the scenario is made of and stop.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Write exchanges, accounts and, apart from them, the truth of a made-up provider. Nothing talks to anybody.

    \b
    Examples:
      stillwatch simulate --list
      stillwatch simulate ladder --out ladder
      stillwatch simulate reported-2026-06 --scale 0.01 --seed 7 --out june
      stillwatch simulate mine.toml --show
    """
    from stillwatch.sim.scenarios import load_scenario, shipped
    from stillwatch.sim.world import write_world

    if list_:
        _say({name: load_scenario(name).title for name in shipped()}, as_json=json_)
        return
    if scenario is None:
        raise SettingsError("simulate needs a scenario", do=f"Name a TOML file, or one of: {', '.join(shipped())}.")
    if threads < 1:
        raise SettingsError("--threads is out of range", got=str(threads), expected="1 or more")
    loaded = load_scenario(scenario)
    if show:
        _show(loaded, scale=scale, seed=seed, as_json=json_)
        return
    with _progress() as on_progress:
        world = write_world(loaded, out, seed=seed, scale=scale, threads=threads, on_progress=on_progress)
    told = {
        "exchanges": str(world.exchanges),
        "accounts": str(world.accounts),
        "allowlist": str(world.allowlist),
        "truth": str(world.truth),
        "n_exchanges": world.n_exchanges,
        "n_accounts": world.n_accounts,
    }
    if json_:
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(f"Made {world.n_exchanges:,} exchanges of {world.n_accounts:,} accounts in {world.exchanges}.")
    allowlist = f" --allowlist {world.allowlist}" if world.allowlist.stat().st_size else ""
    typer.echo(f"Scan them:   stillwatch scan {world.exchanges} --accounts {world.accounts}{allowlist}")
    typer.echo(f"The truth lies in {world.truth}; no scan reads it.")


def _say(lines: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(lines, indent=2))
        return
    for name, text in lines.items():
        typer.echo(f"{name:<18} {text}")


def _show(scenario: Scenario, *, scale: float, seed: int, as_json: bool) -> None:
    """The blocks of a scenario: accounts, exchanges expected, and what each follows."""
    from stillwatch.sim.world import cast

    company = cast(scenario, seed=seed, scale=scale)
    blocks: list[dict[str, Any]] = [
        {
            "block": part.cast.population.name,
            "campaign": part.campaign is not None,
            "n_accounts": len(part.cast),
            "n_exchanges": round(float(part.cast.exchanges.sum())),
            "follows": " ".join(part.cast.population.follows.split()),
        }
        for part in company.parts
    ]
    if as_json:
        typer.echo(json.dumps({"title": scenario.title, "follows": scenario.follows, "blocks": blocks}, indent=2))
        return
    typer.echo(f"{scenario.title}: {' '.join(scenario.follows.split())}\n")
    typer.echo(f"{'block':<16} {'accounts':>9} {'exchanges':>12}   follows")
    for block in blocks:
        name = f"{block['block']}{' *' if block['campaign'] else ''}"
        typer.echo(f"{name:<16} {block['n_accounts']:>9,} {block['n_exchanges']:>12,}   {block['follows']}")
    typer.echo("\n* a campaign. Exchanges are those expected.")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; silence elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("Writing exchanges"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
