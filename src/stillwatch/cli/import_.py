"""import_: `stillwatch import`: logs of any format once, to canonical Parquet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.cli.scan import instant_option, mapping_option, progress, with_format

if TYPE_CHECKING:
    from stillwatch.ingest.abreast import Progress
    from stillwatch.ingest.conform import Window
    from stillwatch.ingest.convert import Conversion
    from stillwatch.ingest.source import LogSource
    from stillwatch.ingest.spendlogs import SpendLogs

INTERRUPTED = 130

_PAGES_PER_PART = 20
_PART_BYTES = 256 << 20
"""Beyond this a part is written though it holds fewer pages."""

OnStep = Callable[[str, int, int], None]


def import_(
    source: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or postgresql://... of LiteLLM.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    format_: Annotated[str | None, typer.Option("--format", help="Importer to use, instead of recognising it.")] = None,
    since: Annotated[str | None, typer.Option(help="Only exchanges at or after this time.")] = None,
    until: Annotated[str | None, typer.Option(help="Only exchanges before this time.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Convert logs once to canonical Parquet, which every scan then reads fast.

    \b
    Examples:
      stillwatch import litellm-logs/ --out logs
      stillwatch import gateway.jsonl access.jsonl --out logs
      stillwatch import postgresql://localhost/litellm --out logs --since 2026-05-01
      stillwatch import traces/ --format otlp --map enduser.id=account_id --out logs
    """
    asked: dict[str, Any] = {
        "source": source, "format": format_, "since": instant_option("--since", since),
        "until": instant_option("--until", until), "mapping": mapping_option(map_ or []),
    }  # fmt: skip
    database = [one for one in source if one.startswith(("postgresql://", "postgres://"))]
    try:
        with progress() as on_step:
            done = _database(source, out, asked, key_file, on_step) if database else _files(out, asked, on_step)
    except KeyboardInterrupt:
        typer.echo("\nstillwatch: interrupted; what is done is kept, the same command goes on from there.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        typer.echo(json.dumps(done, indent=2, sort_keys=True, default=str))
    else:
        _say(done, out)


def _files(out: Path, asked: dict[str, Any], on_step: OnStep) -> dict[str, Any]:
    from stillwatch.ingest.convert import Conversion
    from stillwatch.ingest.source import open_logs

    source = open_logs(with_format(asked["source"], asked["format"]), mapping=asked["mapping"], now=datetime.now(UTC))
    parts = source.parts()
    described = [part.describe().files[0] for part in parts]
    total = sum(file.n_bytes for file in described)
    passed = 0

    def on_progress(done: int, _: int) -> None:
        on_step("import", passed + done, total)

    told = asked | {"files": [[one.path, one.sha256] for one in described]}
    with Conversion(out, asked=told) as conversion:
        for part, file in zip(parts, described, strict=True):
            if file.path in conversion.parts:
                part.remember()
            else:
                facts: dict[str, Any] = {}
                conversion.write(file.path, _read(part, asked, facts, on_progress), facts)
            passed += file.n_bytes
        return _finished(conversion, asked, {"files": [asdict(file) for file in described]})


def _read(part: LogSource, asked: dict[str, Any], facts: dict[str, Any], on_progress: Progress) -> Iterator[Any]:
    """The batches of one file; once they are read, `facts` says what became of its rows."""
    yield from part.batches(since=asked["since"], until=asked["until"], on_progress=on_progress)
    facts |= {"rejects": part.rejects(), "notes": part.notes(), "columns": list(part.describe().columns)}


def _database(source: list[str], out: Path, asked: dict[str, Any], key_file: Path | None, on_step: OnStep) -> Any:
    from stillwatch.errors import InputError
    from stillwatch.home import Home
    from stillwatch.ingest.conform import Window
    from stillwatch.ingest.convert import Conversion
    from stillwatch.ingest.spendlogs import SpendLogs
    from stillwatch.ingest.times import as_us

    if len(source) > 1:
        raise InputError("a database is imported alone", got=f"{len(source)} sources", do="Import the rest apart")
    if asked["mapping"] or asked["format"] not in (None, "spendlogs"):
        raise InputError("a database is read as spendlogs only", got="--map or --format", do="Leave them out")
    logs = SpendLogs(source[0])
    key = Home.of().root_key(key_file).subkey("rows").reveal()
    since, until = (as_us(bound) if bound else None for bound in (asked["since"], asked["until"]))
    window = Window(since=since, until=until, latest=as_us(datetime.now(UTC)) + 86_400_000_000)
    asked = asked | {"source": [logs.name]}
    with Conversion(out, asked=asked) as conversion:
        _pages(logs, conversion, window, on_step)
        conversion.write_accounts(logs.accounts(key=key))
        return _finished(conversion, asked, {})


def _pages(logs: SpendLogs, conversion: Conversion, window: Window, on_step: OnStep) -> None:
    """Write what a database holds, from where an earlier import stopped."""
    from stillwatch.ingest.conform import Tally

    n_all, n_done = logs.estimate(), sum(part["n_rows"] for part in conversion.parts.values())
    ends = [part["end"] for part in conversion.parts.values()]
    logs.n_read = max((part["n_read"] for part in conversion.parts.values()), default=0)
    held: list[Any] = []
    begin = end = ends[-1] if ends else None

    def settle() -> None:
        tally, logs.tally = logs.tally, Tally()
        facts = {"end": end, "rejects": dict(+tally.rejects), "notes": dict(+tally.notes), "n_read": logs.n_read}
        conversion.write(f"{len(conversion.parts)}, until {end}", held, facts)
        held.clear()

    for n_pages, (batches, end) in enumerate(logs.pages(window, after=begin), start=1):  # noqa: B007
        held += batches
        n_done += sum(batch.num_rows for batch in batches)
        on_step("import", min(n_done, n_all), n_all)
        if n_pages % _PAGES_PER_PART == 0 or sum(batch.nbytes for batch in held) > _PART_BYTES:
            settle()
    if held or +logs.tally.rejects or +logs.tally.notes:  # the last rows may all be rejects
        settle()


def _finished(conversion: Conversion, asked: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    parts = conversion.parts
    rejects, notes = Counter[str](), Counter[str]()
    for part in parts.values():
        rejects.update(part["rejects"])
        notes.update(part["notes"])
    done: dict[str, Any] = {
        "rows": sum(part["n_rows"] for part in parts.values()),
        "rejects": dict(sorted(rejects.items())),
        "notes": dict(sorted(notes.items())),
        "resumed_parts": conversion.n_resumed,
    }
    conversion.finish({"asked": asked, "parts": parts, **done, **more})
    return done | {"out": str(conversion.out)}


def _say(done: dict[str, Any], out: Path) -> None:
    from stillwatch.ingest.convert import ACCOUNTS_FILE, EXCHANGES_FOLDER

    accounts = f" --accounts {out / ACCOUNTS_FILE}" if (out / ACCOUNTS_FILE).is_file() else ""
    typer.echo(f"{done['rows']:,} exchanges in {out / EXCHANGES_FOLDER}.")
    for what in ("rejects", "notes"):
        if done[what]:
            typer.echo(f"{what.capitalize()}: " + ", ".join(f"{name} {n:,}" for name, n in done[what].items()))
    if not done["rows"]:
        typer.echo("There is nothing to scan. stillwatch doctor says what these logs lack.")
        return
    typer.echo(f"Next: stillwatch scan {out / EXCHANGES_FOLDER}{accounts}")
