"""doctor: `stillwatch doctor`: what a log carries, what is missing, what that costs, and what turns it on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.cli.scan import mapping_option, progress, with_format
from stillwatch.redact import plain_text

if TYPE_CHECKING:
    from stillwatch.ingest.channels import Channel, Coverage
    from stillwatch.ingest.importer import Importer
    from stillwatch.ingest.source import LogSource

GOOD_SHARE = 0.5
"""A channel that fewer rows than this carry is called partly there."""

_TOLD_WITH = {"system prompts": ("prompt",)}
"""Channels that what turns on another column turns on as well."""


def doctor(
    logs: Annotated[list[str], typer.Argument(help="Files, folders or patterns, as for scan.")],
    format_: Annotated[str | None, typer.Option("--format", help="Importer to use, instead of recognising it.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to look at, from the start of each file.")] = 100_000,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Say which channels some logs carry, what the missing ones cost, and how to turn them on.

    \b
    Examples:
      stillwatch doctor logs/
      stillwatch doctor gateway.jsonl access.jsonl --json
      stillwatch doctor traces/ --format otlp
    """
    from stillwatch.ingest.source import open_logs

    source = open_logs(with_format(list(logs), format_), mapping=mapping_option(map_ or []), now=datetime.now(UTC))
    told = _examined(source, rows)
    if json_:
        typer.echo(json.dumps(told, indent=2, sort_keys=True))
    else:
        _say(told)


def _examined(source: LogSource, rows: int) -> dict[str, Any]:
    from stillwatch.ingest.channels import CHANNELS, N_NAMED, N_PLANTED, Coverage

    coverage = Coverage()
    used: dict[str, Importer] = {}
    rejects: Counter[str] = Counter()
    parts = source.parts()
    with progress() as on_step:
        for n, part in enumerate(parts):
            on_step("examine", n, len(parts))
            enough = coverage.n_rows + rows
            for batch in part.batches():
                coverage.add([batch])
                if coverage.n_rows >= enough:
                    break
            rejects.update(part.rejects())
            used |= part.importers()
    return {
        "rows": coverage.n_rows,
        "formats": sorted(importer.title for importer in used.values()) or ["canonical or guessed columns"],
        "channels": [_told(channel, coverage, used.values()) for channel in CHANNELS],
        "planted": N_PLANTED,
        "named_with_everything": N_NAMED,
        "rejects": dict(sorted(rejects.items())),
    }


def _told(channel: Channel, coverage: Coverage, used: Iterable[Importer]) -> dict[str, Any]:
    share = coverage.share(channel) if channel.in_logs else None
    is_missing = share is not None and share < GOOD_SHARE
    names = (*channel.columns, *_TOLD_WITH.get(channel.name, ()))
    texts = {one.title: text for one in used for name in reversed(names) if (text := one.switches.get(name))}
    return {
        "channel": channel.name,
        "columns": list(channel.columns),
        "share": share,
        "tells": channel.tells,
        "named_without": channel.n_named,
        "turn_on": texts if is_missing else {},
    }


def _say(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(f"{told['rows']:,} exchanges looked at. {', '.join(told['formats'])}.\n"))
    table = Table(box=None, pad_edge=False)
    for name in ("channel", "rows with it", "named without", "what it tells"):
        table.add_column(name)
    for one in told["channels"]:
        share = "--accounts" if one["share"] is None else f"{one['share']:.0%}"
        cost = "" if one["named_without"] is None else f"{one['named_without']} of {told['planted']}"
        is_missing = one["share"] is not None and one["share"] < GOOD_SHARE
        table.add_row(Text(one["channel"], style="bold" if is_missing else ""), share, cost, Text(one["tells"]))
    console.print(table)
    for one in told["channels"]:
        for title, text in one["turn_on"].items():
            console.print(Text(f"\n{one['channel']} are missing. In {title}: {text}", style="bold"), soft_wrap=True)
    if told["rejects"]:
        listed = ", ".join(f"{name} {n:,}" for name, n in told["rejects"].items())
        console.print(Text(f"\nRejected: {plain_text(listed)}"))
    console.print(
        Text(
            f"\nNamed without: how many of {told['planted']} accounts, planted in five small worlds, a scan names when "
            f"the channel is missing; {told['named_with_everything']} with every one. Other campaigns hang on others."
        )
    )
