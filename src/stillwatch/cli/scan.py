"""scan: `stillwatch scan`: logs in, a findings folder out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.errors import SettingsError
from stillwatch.settings import SETTINGS_FILE

if TYPE_CHECKING:
    from rich.console import Console

    from stillwatch.dossier.findings import Findings
    from stillwatch.dossier.run import OnProgress
    from stillwatch.home import Home
    from stillwatch.keys import RootKey

FOUND = 3
"""Exit status of `--fail-on campaign` when there is one."""

STEPS = {
    "import": "Importing exchanges",
    "examine": "Examining logs",
    "read": "Reading exchanges",
    "profile": "Profiling accounts",
    "group": "Looking for groups",
    "reread": "Reading candidates' prompts again",
    "weigh": "Weighing evidence",
    "report": "Writing findings",
}


def scan(
    logs: Annotated[list[str], typer.Argument(help="Files, folders or patterns: Parquet, JSONL (.gz, .zst), CSV.")],
    accounts: Annotated[str | None, typer.Option(help="Accounts file: sign-up, payment, organisation.")] = None,
    allowlist: Annotated[Path | None, typer.Option(help="Licensed distillers: TOML, or one id a line.")] = None,
    out: Annotated[Path, typer.Option(help="Findings folder to write.")] = Path("findings"),
    engine: Annotated[str, typer.Option(help="Where to run: local.")] = "local",
    format_: Annotated[str | None, typer.Option("--format", help="Importer to use, instead of recognising it.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only exchanges at or after this time (ISO 8601; UTC if unzoned).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only exchanges before this time.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
    config: Annotated[Path | None, typer.Option(help=f"Settings file; {SETTINGS_FILE} here, if there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="Worker threads.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
    fail_on: Annotated[
        str | None, typer.Option(help="campaign: exit with 3 when one is found that no review dismissed.")
    ] = None,
) -> None:
    """Scan logs for campaigns: accounts that act as one and harvest answers.

    \b
    Examples:
      stillwatch scan logs/
      stillwatch scan 'logs/2026-05-*.jsonl.zst' --accounts accounts.parquet --allowlist licensed.toml
      stillwatch scan traces/ --map session_id=account_id --json
      stillwatch scan logs/ --since 2026-05-01 --until 2026-06-01 --fail-on campaign
    """
    if fail_on not in (None, "campaign"):
        raise SettingsError("--fail-on knows one word", got=repr(fail_on), expected="campaign")
    if engine != "local":
        raise SettingsError("--engine names an engine this version does not have", got=repr(engine), expected="local")
    from stillwatch.dossier.lineage import dismissed

    findings = run_scan(
        logs=with_format(list(logs), format_), accounts=accounts, allowlist=allowlist, out=out,
        since=instant_option("--since", since), until=instant_option("--until", until),
        mapping=mapping_option(map_ or []), key_file=key_file, config=config,
        threads=threads,
    )  # fmt: skip
    report(findings, out, as_json=json_)
    if fail_on and findings.campaigns.num_rows > len(dismissed(findings)):
        raise typer.Exit(FOUND)


def run_scan(
    *,
    logs: list[str],
    out: Path,
    accounts: str | None = None,
    allowlist: Path | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    mapping: dict[str, str] | None = None,
    key_file: Path | None = None,
    config: Path | None = None,
    threads: int | None = None,
    remembered: bool = True,
) -> Findings:
    """Scan with a progress bar and write the findings folder; `remembered` in the registry of lineages."""
    # Imported here so that --help answers at once.
    from stillwatch.allowlist import Allowlist, load_allowlist
    from stillwatch.dossier.folder import check_target, write_findings
    from stillwatch.engine.local import LocalEngine
    from stillwatch.home import Home
    from stillwatch.pipeline import ScanRequest
    from stillwatch.pipeline import scan as scan_logs
    from stillwatch.settings import load_settings

    check_target(out)
    home = Home.of()
    settings = load_settings(_settings_file(config), os.environ, {"scan.threads": threads})
    key = home.root_key(key_file)
    request = ScanRequest(
        logs=logs,
        accounts=accounts,
        allowlist=load_allowlist(allowlist) if allowlist else Allowlist(),
        since=since,
        until=until,
        mapping=mapping or {},
        overturned=_overturned(home, key),
    )
    limits, now = settings.scan, datetime.now(UTC)
    with progress() as on_progress:
        findings = scan_logs(
            request,
            settings=settings,
            engine=LocalEngine(threads=limits.threads, memory_mb=limits.memory_mb, n_shards=limits.partitions),
            key=key,
            now=now,
            clock=time.perf_counter,
            on_progress=on_progress,
        )
        findings = _remembered(findings, home, key, now) if remembered else findings
        write_findings(findings, out)
    return findings


def _overturned(home: Home, key: RootKey) -> frozenset[str]:
    from stillwatch.policy.appeals import overturned_accounts
    from stillwatch.policy.sealed import gate_journal

    return overturned_accounts(gate_journal(home.folder, key))


def _remembered(findings: Findings, home: Home, key: RootKey, at: datetime) -> Findings:
    from stillwatch.dossier.lineage import remember
    from stillwatch.lineages import REGISTRY, Lineages

    return remember(findings, Lineages(home.folder / REGISTRY, key=key), at=at)


def _settings_file(config: Path | None) -> Path | None:
    here = Path(SETTINGS_FILE)
    return config or (here if here.is_file() else None)


def report(findings: Findings, out: Path, *, as_json: bool) -> None:
    """Say what was found: a summary for a person, or JSON for a program."""
    from stillwatch.cli.summary import print_summary
    from stillwatch.dossier.folder import REPORT

    if as_json:
        typer.echo(json.dumps(as_plain(findings, out), indent=2, sort_keys=True))
    else:
        print_summary(_console(stderr=False), findings, report=out / REPORT)


def as_plain(findings: Findings, out: Path) -> dict[str, Any]:
    """What `--json` prints: campaigns and leads as in the Parquet files, without the members."""
    from stillwatch.dossier.folder import REPORT

    return {
        "campaigns": [_plain(row) for row in findings.campaigns.to_pylist()],
        "leads": [_plain(row) for row in findings.leads.to_pylist()],
        "counts": findings.run["counts"],
        "rejects": findings.run["rejects"],
        "notes": findings.run["notes"],
        "channels": findings.run["channels"],
        "lineages": findings.run.get("lineages"),
        "out": str(out),
        "report": str(out / REPORT),
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    row = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
    return row | {"capabilities": dict(row["capabilities"])}


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


@contextmanager
def progress() -> Iterator[OnProgress]:
    """A progress bar on a terminal; silence elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                for earlier in tasks.values():
                    bar.update(earlier, completed=1, total=1)
                tasks[step] = bar.add_task(STEPS.get(step, step), total=None)
            if total:
                bar.update(tasks[step], completed=done, total=total)

        yield on_progress


def with_format(logs: list[str], importer: str | None) -> list[str]:
    """The logs, each under the importer that `--format` names."""
    from stillwatch.ingest.importer import named

    return logs if importer is None else [f"{named(importer).name}:{one}" for one in logs]


def mapping_option(pairs: list[str]) -> dict[str, str]:
    """What `--map` says: theirs -> ours. Raises SettingsError where it is not understood."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        theirs, equals, ours = pair.partition("=")
        if not (theirs and equals and ours):
            raise SettingsError(
                "--map is not understood", got=repr(pair), expected="theirs=ours, as in --map user=account_id"
            )
        if mapping.get(theirs, ours) != ours:
            raise SettingsError(f"--map names {theirs} twice", got=f"{mapping[theirs]} and {ours}")
        mapping[theirs] = ours
    return mapping


def instant_option(option: str, text: str | None) -> datetime | None:
    """The instant an option names, in UTC. Raises SettingsError where it is none."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option} is no time", got=repr(text), expected="ISO 8601, as in 2026-05-01T00:00Z"
        ) from None
