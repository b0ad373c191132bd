"""registry: `stillwatch registry`: a provider's memory of its own answers, that tells none of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.errors import InputError

if TYPE_CHECKING:
    from stillwatch.audit.dataset import Dataset
    from stillwatch.audit.registry import Registry
    from stillwatch.keys import RootKey

HELP = "Remember your own answers, in bounded memory, and recognise copies."

Logs = Annotated[list[Path], typer.Argument(help="Logs or rows with prompt and completion, or messages.")]
Map = Annotated[list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")]
KeyFile = Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
File = Annotated[Path, typer.Argument(help="The registry.")]

_MB = 1 << 20


def build(
    logs: Logs,
    out: Annotated[Path, typer.Option(help="The registry to write.")],
    name: Annotated[str, typer.Option(help="Whose answers these are.")] = "registry",
    memory_mb: Annotated[int, typer.Option(min=1, max=262_144, help="Size of the filter, fixed for good.")] = 64,
    map_: Map = None,
    key_file: KeyFile = None,
    json_: AsJson = False,
) -> None:
    """Make a registry of the answers in logs.

    \b
    Examples:
      stillwatch registry build logs/ --out answers.registry --memory-mb 256
      stillwatch registry build logs/2026-05.jsonl.zst --out may.registry --name example
    """
    from stillwatch.audit.registry import Registry
    from stillwatch.home import Home

    if out.exists():
        raise InputError(f"{out} is there already", do=f"Add to it with: stillwatch registry update {out} LOGS")
    key = Home.of().root_key(key_file)
    grown, read = _filled(Registry.empty(name, key=key, memory_bytes=memory_mb * _MB), logs, map_, key)
    _report(grown, out, read, json_)


def update(
    registry: File,
    logs: Annotated[list[Path] | None, typer.Argument(help="More logs; none where only registries are merged.")] = None,
    merge: Annotated[list[Path] | None, typer.Option(help="A registry of the same key and size to take in.")] = None,
    map_: Map = None,
    key_file: KeyFile = None,
    json_: AsJson = False,
) -> None:
    """Add the answers of more logs, or take in registries built elsewhere.

    \b
    Examples:
      stillwatch registry update answers.registry logs/2026-06.parquet
      stillwatch registry update answers.registry --merge shard-1.registry --merge shard-2.registry
    """
    from stillwatch.audit.registry import Registry
    from stillwatch.home import Home

    if not logs and not merge:
        raise InputError("nothing to add", do="Name logs, or --merge a registry")
    key = Home.of().root_key(key_file)
    grown = _ours(Registry.load(registry), registry, key)
    for path in merge or []:
        grown = grown.merge(Registry.load(path))
    grown, read = _filled(grown, logs, map_, key) if logs else (grown, {})
    _report(grown, registry, read, json_)


def info(registry: File, json_: AsJson = False) -> None:
    """Say what a registry holds, how large it is and how often it is wrong.

    \b
    Examples:
      stillwatch registry info answers.registry
    """
    from stillwatch.audit.registry import Registry

    _show(Registry.load(registry).describe(), as_json=json_)


def match(
    registry: File,
    data: Annotated[list[Path], typer.Argument(help="Files or folders of rows: JSONL, JSON, Parquet, CSV.")],
    control: Annotated[
        list[Path] | None, typer.Option(help="Other models' answers to the same prompts: the null.")
    ] = None,
    map_: Map = None,
    key_file: KeyFile = None,
    json_: AsJson = False,
) -> None:
    """Say which share of a data set copies the registry's answers, against its null.

    \b
    Examples:
      stillwatch registry match answers.registry suspect.jsonl
      stillwatch registry match answers.registry suspect.jsonl --control others.jsonl --json
    """
    from stillwatch.audit.dataset import Dataset
    from stillwatch.audit.findings import match_finding
    from stillwatch.audit.matching import Rows, begins, match_rows, weigh_match
    from stillwatch.audit.registry import Registry, match_key, printed
    from stillwatch.cli.scan import mapping_option, progress
    from stillwatch.home import Home

    key = Home.of().root_key(key_file)
    held = _ours(Registry.load(registry), registry, key)
    prints_key, rate = match_key(key), held.held.false_positive_rate()

    lost: dict[str, Any] = {}

    def judged(step: str, paths: Sequence[Path]) -> Rows:
        rows = Dataset(paths, mapping=mapping_option(map_ or []))
        batches = rows.batches(on_progress=lambda done, total: on_progress(step, done, total))
        joined = Rows.joined(
            [match_rows(printed(batch, prints_key), held, first=begins(batch), rate=rate) for batch in batches]
        )
        if paths is data:
            lost.update(_lost(rows))
        return joined

    with progress() as on_progress:
        rows = judged("Matching rows", data)
        found = weigh_match(held, rows, control=judged("Matching the control", control) if control else None)
    one = match_finding("registry", found, n_registries=1, subject=str(data[0]))
    _show({"verdict": one.verdict, "says": one.says} | dict(one.detail) | lost, as_json=json_)


VERBS: tuple[Callable[..., None], ...] = (build, update, info, match)


def _ours(registry: Registry, path: Path, key: RootKey) -> Registry:
    if registry.about.key_id != key.key_id("match"):
        raise InputError(
            f"{path} was built under another key", got=registry.about.key_id, expected=key.key_id("match"),
            do="Name its key with --key-file",
        )  # fmt: skip
    return registry


def _filled(
    registry: Registry, logs: Sequence[Path], map_: list[str] | None, key: RootKey
) -> tuple[Registry, dict[str, Any]]:
    """The registry with the answers of these logs, and what of the logs was not read."""
    from stillwatch.audit.dataset import Dataset
    from stillwatch.audit.registry import fill, match_key
    from stillwatch.cli.scan import mapping_option, progress

    rows = Dataset(logs, mapping=mapping_option(map_ or []))
    with progress() as on_progress:
        batches = rows.batches(on_progress=lambda done, total: on_progress("Reading answers", done, total))
        n_before = registry.about.n_answers
        grown = fill(registry, batches, match_key(key))
    if grown.about.n_answers == n_before:
        raise InputError(
            "no answer in these logs", got=f"{sum(one.n_rows for one in rows.files):,} rows of prompts",
            do="Name the column that holds answers: --map theirs=completion",
        )  # fmt: skip
    return grown, _lost(rows)


def _lost(rows: Dataset) -> dict[str, Any]:
    """What could not be read, by name: rows by reason, files with their reason, names a folder held besides."""
    from stillwatch.audit.audit import counted

    reasons = counted([one.to_dict() for one in rows.files], "rejects")
    unread = [f"{one.path}: {one.unreadable}" for one in rows.files if one.unreadable]
    found = {"rejects": [f"{name} {n:,}" for name, n in reasons.items()], "not_read": unread, "skipped": rows.skipped}
    return {name: values for name, values in found.items() if values}


def _report(registry: Registry, path: Path, read: dict[str, Any], as_json: bool) -> None:
    registry.save(path)
    _show(registry.describe() | {"path": str(path)} | read, as_json=as_json)


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=2, sort_keys=True, default=str))
        return
    from rich.console import Console
    from rich.text import Text

    from stillwatch.redact import plain_text

    console = Console(highlight=False)
    for name, value in values.items():
        if not isinstance(value, dict):
            shown = f"{value:,}" if type(value) is int else f"{value:.3g}" if isinstance(value, float) else str(value)
            shown = ", ".join(map(str, value)) if isinstance(value, list) else shown
            console.print(Text(f"{name.replace('_', ' '):<22}{plain_text(shown)}"))
