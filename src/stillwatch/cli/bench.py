"""bench: `stillwatch bench`: which campaigns would be found in these logs, and whose accounts would be named."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.cli.scan import mapping_option, progress, with_format
from stillwatch.errors import SettingsError
from stillwatch.redact import plain_text
from stillwatch.settings import SETTINGS_FILE

if TYPE_CHECKING:
    from stillwatch.dossier.findings import Findings
    from stillwatch.sim.campaign import Campaign
    from stillwatch.sim.mix import Mix

SIZES = (30, 100, 300)
TIERS = (0, 1, 2, 3)
MONTHLY = 110.0
"""Median exchanges of a planted account in thirty days, where none are given."""

FEWEST_EXCHANGES = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What every scan of a run has in common."""

    logs: list[str]
    accounts: str | None
    allowlist: Path | None
    mapping: Mapping[str, str]
    key_file: Path | None
    config: Path | None
    threads: int | None


def bench(
    logs: Annotated[list[str], typer.Argument(help="Files, folders or patterns, as for scan.")],
    accounts: Annotated[str | None, typer.Option(help="Accounts file: sign-up, payment, organisation.")] = None,
    allowlist: Annotated[Path | None, typer.Option(help="Licensed distillers: TOML, or one id a line.")] = None,
    size: Annotated[list[int] | None, typer.Option(help="Accounts of a planted campaign; repeatable.")] = None,
    tier: Annotated[
        list[int] | None, typer.Option(help="Isolation: 0 nothing, 1 a card, 2 an exit, 3 a client; repeatable.")
    ] = None,
    like: Annotated[str, typer.Option(help="Campaign of the simulator's library.")] = "harvest",
    cover: Annotated[float | None, typer.Option(help="Share of its traffic that is customers'.")] = None,
    exchanges: Annotated[float | None, typer.Option(help="Median exchanges of a planted account; 110 a month.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the planted campaigns.")] = 1,
    format_: Annotated[str | None, typer.Option("--format", help="Importer to use, instead of recognising it.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    config: Annotated[Path | None, typer.Option(help=f"Settings file; {SETTINGS_FILE} here, if there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="Worker threads.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Plant simulated campaigns beside your logs and say which a scan would find, and which of yours it would name.

    \b
    Examples:
      stillwatch bench logs/ --accounts accounts.parquet
      stillwatch bench logs/ --size 50 --size 500 --tier 2 --cover 0.5 --json
    """
    sizes, tiers = tuple(size or SIZES), tuple(tier or TIERS)
    asked = Asked(
        with_format(list(logs), format_), accounts, allowlist, mapping_option(map_ or []), key_file, config, threads
    )
    _check(sizes, exchanges, cover)
    with tempfile.TemporaryDirectory(prefix="stillwatch-bench-") as folder, progress() as on_progress:
        on_progress("Reading the mix", 0, 0)
        mix = _mix(asked)
        campaigns = {(n, at): _campaign(like, n, at, cover, exchanges, mix) for n in sizes for at in tiers}
        on_progress("Scanning as it is", 0, 0)
        before = _named(_scan(asked, [], None))
        planted = []
        for turn, ((n, at), one) in enumerate(campaigns.items()):
            on_progress("Planting and scanning", turn, len(campaigns))
            planted.append(_planted(asked, mix, one, Path(folder), seed, before) | {"size": n, "tier": at})
    told = {
        "like": like,
        "accounts": mix.n_accounts,
        "first": mix.first.isoformat(),
        "last": mix.last.isoformat(),
        "named_without_planting": sorted(before),
        "planted": planted,
    }
    if json_:
        typer.echo(json.dumps(told, indent=2, sort_keys=True))
    else:
        _say(told)


def _check(sizes: Sequence[int], exchanges: float | None, cover: float | None) -> None:
    if any(n < 2 for n in sizes):
        raise SettingsError("--size is out of range", got=str(min(sizes)), expected="2 or more")
    if exchanges is not None and not 1 <= exchanges <= 1e6:
        raise SettingsError("--exchanges is out of range", got=f"{exchanges:g}", expected="1 to 1,000,000")
    if cover is not None and not 0 <= cover <= 1:
        raise SettingsError("--cover is out of range", got=f"{cover:g}", expected="0 to 1")


def _campaign(like: str, n: int, tier: int, cover: float | None, exchanges: float | None, mix: Mix) -> Campaign:
    from stillwatch.sim.scenarios import campaign

    days = (mix.last - mix.first).total_seconds() / 86400
    median = exchanges if exchanges is not None else max(FEWEST_EXCHANGES, MONTHLY * days / 30)
    changes: dict[str, Any] = {} if cover is None else {"cover": cover}
    return campaign(like, tier=tier, crew={"name": "planted", "n_accounts": n, "exchanges": median}, **changes)


def _mix(asked: Asked) -> Mix:
    from stillwatch.ingest.accounts import read_accounts
    from stillwatch.ingest.source import open_logs
    from stillwatch.sim.mix import LOOKED_AT, measure_mix

    source = open_logs(
        asked.logs, mapping=asked.mapping, now=datetime.now(UTC), has_accounts=asked.accounts is not None
    )
    accounts = read_accounts(asked.accounts, mapping=asked.mapping)[0] if asked.accounts else None
    return measure_mix(source.batches(columns=LOOKED_AT), accounts, columns=lambda: source.describe().columns)


def _planted(asked: Asked, mix: Mix, campaign: Campaign, folder: Path, seed: int, before: set[str]) -> dict[str, Any]:
    """Plant one campaign, scan, and count who is named."""
    import pyarrow.parquet as pq

    from stillwatch.sim.planting import PREFIX, plant

    played = plant(campaign, mix, seed=seed)
    beside = folder / f"planted-{campaign.crew.n_accounts}-{len(list(folder.iterdir()))}"
    beside.mkdir()
    logs, accounts = beside / "planted.parquet", beside / "accounts"
    pq.write_table(_in_their_names(played.exchanges, asked.mapping), logs)
    if asked.accounts:
        accounts.mkdir()
        pq.write_table(_in_their_names(played.accounts, asked.mapping), accounts / "planted.parquet")
        _link_accounts(asked.accounts, accounts)
    findings = _scan(asked, [str(logs)], str(accounts) if asked.accounts else None)
    named = _named(findings)
    caught = {account for account in named if account.startswith(PREFIX)}
    return {
        "planted": played.truth.num_rows,
        "named": len(caught),
        "own_named": sorted(named - caught - before),
        "no_longer_named": sorted(before - named),
        "verdicts": _verdicts(findings),
    }


def _in_their_names(table: Any, mapping: Mapping[str, str]) -> Any:
    """The canonical columns under the names that `--map` gives them, so that one mapping serves all files."""
    theirs = {ours: name for name, ours in mapping.items()}
    kept = [name for name in table.column_names if name in theirs or name not in mapping]
    return table.select(kept).rename_columns([theirs.get(name, name) for name in kept])


def _link_accounts(accounts: str, folder: Path) -> None:
    """Put links to the accounts files beside the planted ones: they are read where they lie."""
    from stillwatch.ingest.discover import find_files

    for number, file in enumerate(find_files([accounts])[0]):
        suffixes = "".join(file.path.suffixes[-2:] if file.packing else file.path.suffixes[-1:])
        (folder / f"theirs-{number}{suffixes}").symlink_to(file.path.resolve())


def _scan(asked: Asked, more_logs: list[str], accounts: str | None) -> Findings:
    from stillwatch.allowlist import Allowlist, load_allowlist
    from stillwatch.engine.local import LocalEngine
    from stillwatch.home import Home
    from stillwatch.pipeline import ScanRequest, scan
    from stillwatch.settings import load_settings

    here = Path(SETTINGS_FILE)
    config = asked.config or (here if here.is_file() else None)
    settings = load_settings(config, os.environ, {"scan.threads": asked.threads})
    limits = settings.scan
    return scan(
        ScanRequest(
            logs=[*asked.logs, *more_logs],
            accounts=accounts or asked.accounts,
            allowlist=load_allowlist(asked.allowlist) if asked.allowlist else Allowlist(),
            mapping=asked.mapping,
        ),
        settings=settings,
        engine=LocalEngine(threads=limits.threads, memory_mb=limits.memory_mb, n_shards=limits.partitions),
        key=Home.of().root_key(asked.key_file),
        now=datetime.now(UTC),
        clock=time.perf_counter,
    )


def _named(findings: Findings) -> set[str]:
    """Accounts named as members of a campaign."""
    return set(findings.members.column("account_id").to_pylist())


def _verdicts(findings: Findings) -> dict[str, int]:
    rows = [*findings.campaigns.column("verdict").to_pylist(), *findings.leads.column("verdict").to_pylist()]
    return dict(sorted(Counter(rows).items()))


def _say(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    before = len(told["named_without_planting"])
    days = f"{told['first'][:10]} to {told['last'][:10]}"
    console.print(Text(f"{told['accounts']:,} accounts, {days}. As they are, {before} are named.\n"))
    table = Table(box=None, pad_edge=False)
    for name in ("planted", "tier", "named of them", "your accounts named beside", "verdicts"):
        table.add_column(name)
    for one in told["planted"]:
        verdicts = ", ".join(f"{n} {name}" for name, n in one["verdicts"].items()) or "nothing"
        row = (f"{one['planted']}", f"{one['tier']}", f"{one['named']}", f"{len(one['own_named'])}", verdicts)
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    mine = sorted({account for one in told["planted"] for account in one["own_named"]})
    if mine:
        listed = ", ".join(mine[:10]) + (" ..." if len(mine) > 10 else "")
        console.print(Text(f"\nYours that were named beside a planted campaign: {plain_text(listed)}"))
    console.print(
        Text(
            "\nTier: what each planted account has of its own: 0 nothing, 1 a card, 2 an exit too, 3 a client and "
            "hours too. The campaigns are simulated: a real operator may be easier or harder to find."
        )
    )
