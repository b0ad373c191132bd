"""pipeline: the product on one page: logs to findings; read this first.

    exchanges --digest--> facts --shuffle by account--> profiles --> population
    population --> traits (hubs where accounts meet) --> candidates (groups that meet too often)
    candidates + prompts read again --> evidence, innocent explanations --> verdicts --> findings

Only the first line costs more when there is more traffic; everything after it grows with accounts.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.allowlist import Allowlist, Excused
from stillwatch.detect.days import count_days
from stillwatch.detect.digest import RowKeys, digest
from stillwatch.detect.groups import Candidate, find_candidates
from stillwatch.detect.population import Population, build_population
from stillwatch.detect.profiles import deduplicate, profile
from stillwatch.detect.texts import Texts, choose_texts, collect_texts, pick_texts
from stillwatch.detect.traits import KINDS, Traits, find_traits
from stillwatch.dossier.assemble import Ruled, activities, assemble, rule
from stillwatch.dossier.findings import Findings
from stillwatch.engine.engine import Engine, Shards
from stillwatch.errors import InputError
from stillwatch.evidence.harvest import Contrast, Elicitation, Partition, WorkTemplates
from stillwatch.evidence.hubs import CONTENT, IDENTITY, NETWORK_CLIENT, SIGN_UP
from stillwatch.evidence.judge import Weighed, weigh
from stillwatch.evidence.ranks import peer_groups
from stillwatch.evidence.signal import Signal, Subject
from stillwatch.ingest.accounts import read_accounts
from stillwatch.ingest.source import Source, open_logs
from stillwatch.keys import RootKey
from stillwatch.records import SCHEMA_VERSION
from stillwatch.settings import Settings

OnProgress = Callable[[str, int, int], None]
"""Called with the step, what is done of it and all of it; 0 of 0 when a step begins that has no measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """What to scan; every field is an option of `stillwatch scan`."""

    logs: Sequence[str | Path]
    accounts: str | Path | None = None
    allowlist: Allowlist = Allowlist()
    since: datetime | None = None
    until: datetime | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


def scan(
    request: ScanRequest,
    *,
    settings: Settings,
    engine: Engine,
    key: RootKey,
    now: datetime,
    clock: Callable[[], float],
    on_progress: OnProgress = lambda step, done, total: None,
) -> Findings:
    """Find campaigns in logs.

    Args:
        now: the wall clock, by which timestamps lie in the future. clock: seconds, for the times in run.json.

    Raises:
        StillwatchError: the input cannot be read as asked; says what is wrong and what to do.

    Cost: one pass over the exchanges, and a second over two of their columns where there is something to weigh.
    """
    steps = Steps(clock, on_progress)
    keys = RowKeys.from_subkey(key.subkey("rows").reveal())
    source = open_logs(request.logs, mapping=request.mapping, now=now, threads=settings.scan.threads)
    accounts, account_rejects = (
        read_accounts(request.accounts, mapping=request.mapping) if request.accounts else (None, {})
    )

    steps.begin("read")
    shards = _read_facts(source, request, engine, keys, steps)
    try:
        steps.begin("profile")
        profiles = shards.reduce(lambda facts: profile(deduplicate(facts)))
        n_duplicates = shards.n_rows - int(pc.sum(profiles.column("n_exchanges")).as_py())
        excused, profiles = _without_licensed(request.allowlist, profiles, accounts)
        population = build_population(profiles, accounts)

        steps.begin("group")
        traits = find_traits(population, key=keys.value)
        candidates = find_candidates(population, traits, n_min=settings.scan.n_min_accounts)

        steps.begin("reread")
        texts = _read_texts(source, request, engine, keys, population, candidates, steps)

        steps.begin("weigh")
        ruled = rule(_weigh_all(population, traits, candidates, texts, keys), settings)

        steps.begin("report")
        days = _days(shards, population, ruled)
    finally:
        shards.close()
    absent = _absent_channels(source, population)
    run = _run(request, settings, key, source, steps, shards, population, excused, absent, account_rejects, n_duplicates)
    tables = assemble(ruled, settings=settings, not_examined=absent)
    return Findings(run=run, activity=activities(ruled, days), **tables)


def _read_facts(source: Source, request: ScanRequest, engine: Engine, keys: RowKeys, steps: Steps) -> Shards:
    batches = source.batches(since=request.since, until=request.until, on_progress=steps.progress)
    shards = engine.shuffle(batches, partial(digest, keys=keys), by="account")
    if not shards.n_rows:
        reasons = ", ".join(f"{reason} {n}" for reason, n in (source.rejects() | source.notes()).items())
        raise InputError("no exchange could be read", got=reasons or "no rows", do="Check --since, --until and --map.")
    return shards


def _without_licensed(allowlist: Allowlist, profiles: pa.Table, accounts: pa.Table | None) -> tuple[Excused, pa.Table]:
    """Licensed distillers leave the population: neither found, nor part of any null."""
    ids = profiles.column("account_id")
    tokens = pc.add(profiles.column("input_tokens"), profiles.column("output_tokens"))
    orgs: dict[str, str | None] = {}
    if accounts is not None and "org_id" in accounts.column_names:
        orgs = dict(zip(accounts.column("account_id").to_pylist(), accounts.column("org_id").to_pylist(), strict=True))
    last = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=pc.max(profiles.column("last_ts")).as_py())
    excused = allowlist.licensed_accounts(
        orgs=orgs, tokens=dict(zip(ids.to_pylist(), tokens.to_pylist(), strict=True)), on=last.date()
    )
    if not excused.accounts:
        return excused, profiles
    licensed = pc.is_in(ids, value_set=pa.array(sorted(excused.accounts), pa.string()))
    return excused, profiles.filter(pc.invert(licensed))


def _read_texts(
    source: Source,
    request: ScanRequest,
    engine: Engine,
    keys: RowKeys,
    population: Population,
    candidates: Sequence[Candidate],
    steps: Steps,
) -> Texts | None:
    if not candidates:
        return None
    wanted = choose_texts(population, [one.members for one in candidates], peer_groups(population), key=keys.value)
    if not len(wanted.pairs):
        return None
    batches = source.batches(
        columns=["account_id", "prompt"], since=request.since, until=request.until, on_progress=steps.progress
    )
    return collect_texts(engine.map(batches, partial(pick_texts, wanted=wanted, key=keys.value)), wanted)


def _weigh_all(
    population: Population, traits: Traits, candidates: Sequence[Candidate], texts: Texts | None, keys: RowKeys
) -> list[Weighed]:
    signals: list[Signal] = [
        IDENTITY, NETWORK_CLIENT, CONTENT, SIGN_UP, WorkTemplates(), Partition(), Elicitation(), Contrast(keys.value),
    ]  # fmt: skip
    everybody = np.ones(len(population), bool)
    subjects = [Subject(population, traits, one, population.unit, everybody, texts) for one in candidates]
    return [weigh(subject, signals) for subject in subjects]


def _days(shards: Shards, population: Population, ruled: Sequence[Ruled]) -> pa.Table:
    core = np.unique(np.concatenate([one.core for one in ruled])) if ruled else np.zeros(0, np.int64)
    accounts = np.sort(population.profiles.column("account").to_numpy()[core])
    return shards.reduce(lambda facts: count_days(deduplicate(facts), accounts=accounts))


def _absent_channels(source: Source, population: Population) -> list[str]:
    """Canonical columns that some kind of trait needs and neither the logs nor the accounts file hold."""
    present = set(source.describe().columns)
    present |= {
        name for name in population.accounts.column_names if population.accounts.column(name).null_count < len(population)
    }
    return sorted({kind.column for kind in KINDS} - present)


def _run(
    request: ScanRequest,
    settings: Settings,
    key: RootKey,
    source: Source,
    steps: Steps,
    shards: Shards,
    population: Population,
    excused: Excused,
    absent: Sequence[str],
    account_rejects: Mapping[str, int],
    n_duplicates: int,
) -> dict[str, Any]:
    """run.json: enough to know what was looked at, with what, and to do it again."""
    from stillwatch import __version__

    described, rejects = source.describe(), source.rejects()
    kept = int(population.counter("n_exchanges").sum())
    return {
        "version": __version__,
        "schema_version": SCHEMA_VERSION,
        "settings": settings.to_dict(),
        "settings_fingerprint": settings.fingerprint(),
        "seed": settings.scan.seed,
        "key_ids": {"rows": key.key_id("rows")},
        "input": {
            "files": [asdict(file) for file in described.files],
            "skipped": list(described.skipped),
            "mapping": dict(request.mapping),
            "guesses": dict(described.guesses),
            "unknown_columns": list(described.unknown),
            "accounts": None if request.accounts is None else str(request.accounts),
            "since": None if request.since is None else request.since.isoformat(),
            "until": None if request.until is None else request.until.isoformat(),
        },
        "counts": {
            "rows_read": shards.n_rows + sum(rejects.values()),
            "rows_kept": kept,
            "duplicates": n_duplicates,
            "accounts": len(population),
            "licensed_accounts": len(excused.accounts),
        },
        "licences_not_applied": [{"entry": str(entry), "reason": reason} for entry, reason in excused.lapsed],
        "period": {
            name: (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(at))).isoformat()
            for name, at in (
                ("first", population.counter("first_ts").min()),
                ("last", population.counter("last_ts").max()),
            )
        },
        "rejects": rejects,
        "notes": source.notes(),
        "account_rejects": dict(account_rejects),
        "channels": {
            "examined": sorted({kind.column for kind in KINDS} - set(absent)),
            "absent": list(absent),
        },
        "steps": steps.finish(),
    }


class Steps:
    """Names the steps of a run, times them, and passes progress on."""

    def __init__(self, clock: Callable[[], float], on_progress: OnProgress) -> None:
        self._clock, self._on_progress = clock, on_progress
        self._done: list[dict[str, Any]] = []
        self._name, self._since = "", 0.0

    def begin(self, name: str) -> None:
        """End the step under way and begin another."""
        self._end()
        self._name, self._since = name, self._clock()
        self._on_progress(name, 0, 0)

    def progress(self, done: int, total: int) -> None:
        """Pass on how far the step under way is."""
        self._on_progress(self._name, done, total)

    def finish(self) -> list[dict[str, Any]]:
        """Seconds of each step, and the peak memory of the process when it ended."""
        self._end()
        self._name = ""
        return self._done

    def _end(self) -> None:
        if self._name:
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            self._done.append({"step": self._name, "seconds": round(self._clock() - self._since, 3), "peak_mb": peak_mb})
