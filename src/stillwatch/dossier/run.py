"""run: run.json: what was looked at, with what, and how long it took; enough to do it again."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stillwatch.allowlist import Excused
from stillwatch.detect.population import Population
from stillwatch.detect.traits import KINDS
from stillwatch.ingest.source import Source
from stillwatch.keys import RootKey
from stillwatch.records import SCHEMA_VERSION, instant
from stillwatch.settings import Settings

OnProgress = Callable[[str, int, int], None]
"""Called with the step, what is done of it and all of it; 0 of 0 when a step begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """What one scan looked at; `asked` is the request, field by field."""

    source: Source
    asked: Mapping[str, Any]
    population: Population
    absent: Sequence[str]
    n_rows: int
    n_duplicates: int
    n_weighed: int
    excused: Excused
    account_rejects: Mapping[str, int]
    n_overturned: int


def absent_channels(source: Source, population: Population) -> list[str]:
    """Canonical columns that some kind of trait needs and neither the logs nor the accounts file hold."""
    listed = population.accounts
    present = {name for name in listed.column_names if listed.column(name).null_count < len(population)}
    return sorted({kind.column for kind in KINDS} - present - set(source.describe().columns))


def describe_run(
    looked_at: LookedAt, *, settings: Settings, key: RootKey, version: str, steps: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of run.json, plain values only."""
    population, rejects = looked_at.population, looked_at.source.rejects()
    return {
        "version": version,
        "schema_version": SCHEMA_VERSION,
        "settings": settings.to_dict(),
        "settings_fingerprint": settings.fingerprint(),
        "seed": settings.scan.seed,
        "key_ids": {"rows": key.key_id("rows")},
        "input": _input(looked_at),
        "counts": {
            "rows_read": looked_at.n_rows + sum(rejects.values()),
            "rows_kept": int(population.counter("n_exchanges").sum()),
            "duplicates": looked_at.n_duplicates,
            "accounts": len(population),
            "licensed_accounts": len(looked_at.excused.accounts),
            "overturned_accounts": looked_at.n_overturned,
            "groups_weighed": looked_at.n_weighed,
        },
        "too_few_to_tell": len(population) < settings.scan.n_min_population,
        "licences_not_applied": [{"entry": str(entry), "reason": reason} for entry, reason in looked_at.excused.lapsed],
        "period": {
            "first": instant(int(population.counter("first_ts").min())).isoformat(),
            "last": instant(int(population.counter("last_ts").max())).isoformat(),
        },
        "rejects": rejects,
        "notes": looked_at.source.notes(),
        "account_rejects": dict(looked_at.account_rejects),
        "channels": {
            "examined": sorted({kind.column for kind in KINDS} - set(looked_at.absent)),
            "absent": list(looked_at.absent),
        },
        "steps": list(steps),
    }


def _input(looked_at: LookedAt) -> dict[str, Any]:
    described, asked = looked_at.source.describe(), looked_at.asked
    return {
        "files": [asdict(file) for file in described.files],
        "skipped": list(described.skipped),
        "mapping": dict(asked["mapping"]),
        "guesses": dict(described.guesses),
        "unknown_columns": list(described.unknown),
        "accounts": None if asked["accounts"] is None else str(asked["accounts"]),
        "since": None if asked["since"] is None else asked["since"].isoformat(),
        "until": None if asked["until"] is None else asked["until"].isoformat(),
    }


class Steps:
    """Names the steps of a run, times them, and passes progress on."""

    def __init__(self, clock: Callable[[], float], on_progress: OnProgress) -> None:
        self._clock, self._on_progress = clock, on_progress
        self._name, self._since = "", 0.0
        self.done: list[dict[str, Any]] = []
        """Seconds of each step, and the peak memory of the process when it ended."""

    def begin(self, name: str) -> None:
        """End the step under way and begin another."""
        self.end()
        self._name, self._since = name, self._clock()
        self._on_progress(name, 0, 0)

    def progress(self, done: int, total: int) -> None:
        """Pass on how far the step under way is."""
        self._on_progress(self._name, done, total)

    def end(self) -> None:
        """End the step under way, if there is one."""
        if self._name:
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            self.done.append({"step": self._name, "seconds": round(self._clock() - self._since, 3), "peak_mb": peak_mb})
        self._name = ""
