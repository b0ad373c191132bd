"""pipeline: the product on one page: logs to findings; read this first.

    exchanges --digest--> facts --shuffle by account--> profiles --> population
    population --> traits (hubs where accounts meet) --> candidates (groups that meet too often)
    candidates + prompts read again --> evidence, innocent explanations --> verdicts --> findings

Only the first line costs more when there is more traffic; everything after it grows with accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch import __version__
from stillwatch.allowlist import Allowlist, Excused
from stillwatch.detect.days import count_days
from stillwatch.detect.digest import RowKeys, digest
from stillwatch.detect.groups import Candidate, find_candidates
from stillwatch.detect.population import Population, build_population
from stillwatch.detect.profiles import profile
from stillwatch.detect.texts import Texts, choose_texts, collect_texts, pick_texts, wanted_of
from stillwatch.detect.traits import Traits, find_traits
from stillwatch.dossier.assemble import Ruled, activities, assemble, rule, rule_alone
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.run import LookedAt, OnProgress, Steps, absent_channels, describe_run
from stillwatch.engine.engine import Engine, Shards
from stillwatch.errors import InputError
from stillwatch.evidence.alone import heaviest, weigh_alone
from stillwatch.evidence.fingerprints import BORROWED
from stillwatch.evidence.handover import HANDED_OVER
from stillwatch.evidence.harvest import Contrast, Elicitation, Partition, WorkTemplates
from stillwatch.evidence.hubs import CONTENT, FUNDING, IDENTITY, MAIL, NETWORK_CLIENT, SIGN_UP
from stillwatch.evidence.judge import Weighed, named, weigh_together
from stillwatch.evidence.reading import read
from stillwatch.evidence.signal import Signal, Subject
from stillwatch.evidence.signup import WINDOW
from stillwatch.ingest.accounts import read_accounts
from stillwatch.ingest.source import Source, open_logs
from stillwatch.keys import RootKey
from stillwatch.records import instant
from stillwatch.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """What to scan; every field is an option of `stillwatch scan`."""

    logs: Sequence[str | Path]
    accounts: str | Path | None = None
    allowlist: Allowlist = Allowlist()
    since: datetime | None = None
    until: datetime | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    overturned: frozenset[str] = frozenset()
    """Accounts whose appeal a person granted: known to be innocent, so never members, and always part of the null."""


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
    source = open_logs(
        request.logs, mapping=request.mapping, now=now, threads=settings.scan.threads,
        has_accounts=request.accounts is not None,
    )  # fmt: skip
    accounts, account_rejects = (
        read_accounts(request.accounts, mapping=request.mapping) if request.accounts else (None, {})
    )

    steps.begin("read")
    shards = _read_facts(source, request, engine, keys, steps)
    try:
        steps.begin("profile")
        population, excused, n_duplicates = _profile(shards, request, accounts)

        steps.begin("group")
        traits = find_traits(population, key=keys.value, threads=settings.scan.threads)
        candidates, n_overturned = _find(population, traits, request, settings)

        steps.begin("reread")
        texts, of_heaviest = _read_texts(source, request, engine, keys, population, candidates, steps)

        steps.begin("weigh")
        ruled = rule(_weigh_all(population, traits, candidates, texts, keys, settings), settings)
        ruled += _weigh_alone(population, traits, of_heaviest, ruled, request, settings)

        steps.begin("report")
        days = _days(shards, population, ruled)
    finally:
        shards.close()
    steps.end()
    looked_at = LookedAt(
        source=source, asked=asdict(request), population=population, absent=absent_channels(source, population),
        n_rows=shards.n_rows, n_duplicates=n_duplicates, n_weighed=len(candidates), excused=excused,
        account_rejects=account_rejects, n_overturned=n_overturned,
    )  # fmt: skip
    run = describe_run(looked_at, settings=settings, key=key, version=__version__, steps=steps.done)
    tables = assemble(ruled, settings=settings, not_examined=looked_at.absent)
    return Findings(run=run, activity=activities(ruled, days), **tables)


def _read_facts(source: Source, request: ScanRequest, engine: Engine, keys: RowKeys, steps: Steps) -> Shards:
    batches = source.batches(since=request.since, until=request.until, on_progress=steps.progress)
    shards = engine.shuffle(batches, partial(digest, keys=keys), by="account")
    if not shards.n_rows:
        reasons = ", ".join(f"{reason} {n}" for reason, n in (source.rejects() | source.notes()).items())
        raise InputError("no exchange could be read", got=reasons or "no rows", do="Check --since, --until and --map.")
    return shards


def _profile(shards: Shards, request: ScanRequest, accounts: pa.Table | None) -> tuple[Population, Excused, int]:
    """The population without licensed distillers, who these are, and how many copies of exchanges were left out.

    The profiles end here: the population holds them in its own order.
    """
    profiles = shards.reduce(profile)
    n_duplicates = shards.n_rows - int(pc.sum(profiles.column("n_exchanges")).as_py())
    excused, profiles = _without_licensed(request.allowlist, profiles, accounts)
    return build_population(profiles, accounts), excused, n_duplicates


def _without_licensed(allowlist: Allowlist, profiles: pa.Table, accounts: pa.Table | None) -> tuple[Excused, pa.Table]:
    """Licensed distillers leave the population: neither found, nor part of any null."""
    if not allowlist.entries:
        return Excused(frozenset(), ()), profiles
    ids = profiles.column("account_id")
    tokens = pc.add(profiles.column("input_tokens"), profiles.column("output_tokens"))
    orgs: dict[str, str | None] = {}
    if accounts is not None and "org_id" in accounts.column_names:
        orgs = dict(zip(accounts.column("account_id").to_pylist(), accounts.column("org_id").to_pylist(), strict=True))
    last = instant(pc.max(profiles.column("last_ts")).as_py())
    excused = allowlist.licensed_accounts(
        orgs=orgs, tokens=dict(zip(ids.to_pylist(), tokens.to_pylist(), strict=True)), on=last.date()
    )
    if not excused.accounts:
        return excused, profiles
    licensed = pc.is_in(ids, value_set=pa.array(sorted(excused.accounts), pa.string()))
    rest = profiles.filter(pc.invert(licensed))
    if not rest.num_rows:
        raise InputError(
            "every account is on the allowlist: nothing left to scan", do="Shorten the allowlist, or name other logs."
        )
    return excused, rest


def _find(
    population: Population, traits: Traits, request: ScanRequest, settings: Settings
) -> tuple[list[Candidate], int]:
    """Accounts that a person cleared belong to no group; beside it they are part of every null."""
    n_min, threads = settings.scan.n_min_accounts, settings.scan.threads
    candidates = find_candidates(population, traits, n_min=n_min, threads=threads)
    if not request.overturned:
        return candidates, 0
    cleared = np.isin(population.account_ids, sorted(request.overturned))
    rest = [one.without(cleared) for one in candidates]
    return [one for one in rest if len(one.members) >= n_min], int(cleared.sum())


def _read_texts(
    source: Source,
    request: ScanRequest,
    engine: Engine,
    keys: RowKeys,
    population: Population,
    candidates: Sequence[Candidate],
    steps: Steps,
) -> tuple[Texts | None, Texts | None]:
    """The prompts of groups, their peers and who comes near, and those of the heaviest accounts."""
    grouped = choose_texts(population, candidates, population.peer, key=keys.value)
    heavy = heaviest(population)
    wanted = wanted_of(population, np.union1d(grouped.positions, heavy), key=keys.value)
    if not len(wanted.pairs):
        return None, None
    accounts = pa.array([population.account_ids[at] for at in wanted.positions], pa.string())
    batches = source.prompts(accounts=accounts, since=request.since, until=request.until, on_progress=steps.progress)
    texts = collect_texts(engine.map(batches, partial(pick_texts, wanted=wanted, key=keys.value)), wanted)
    return (
        (None, None)
        if texts is None
        else (texts.of(grouped.positions, near=grouped.near), texts.of(heavy, near=grouped.near[:0]))
    )


def _weigh_all(
    population: Population,
    traits: Traits,
    candidates: Sequence[Candidate],
    texts: Texts | None,
    keys: RowKeys,
    settings: Settings,
) -> list[Weighed]:
    signals: list[Signal] = [
        IDENTITY, FUNDING, MAIL, NETWORK_CLIENT, BORROWED, CONTENT, SIGN_UP, WINDOW, WorkTemplates(), HANDED_OVER,
        Partition(), Elicitation(), Contrast(),
    ]  # fmt: skip
    everybody, nobody = np.ones(len(population), bool), np.zeros(len(population), bool)
    threads = settings.scan.threads
    reading = read(texts, population, key=keys.value, threads=threads) if texts is not None and len(texts) else None
    subjects = [Subject(population, traits, one, population.unit, everybody, nobody, reading) for one in candidates]
    weighed = weigh_together(
        subjects, signals, bars=settings.bars, n_min_population=settings.scan.n_min_population, threads=threads
    )
    return [named(one) for one in weighed]


def _weigh_alone(
    population: Population,
    traits: Traits,
    texts: Texts | None,
    ruled: Sequence[Ruled],
    request: ScanRequest,
    settings: Settings,
) -> list[Ruled]:
    """Heavy accounts that harvest by themselves; too small a population has too few peers."""
    if len(population) < settings.scan.n_min_population:
        return []
    known = np.zeros(len(population), bool)
    for one in ruled:
        if one.verdict == "campaign":
            known[one.weighed.subject.candidate.members] = True
    cleared = np.isin(population.account_ids, sorted(request.overturned))
    return rule_alone(weigh_alone(population, traits, texts, known=known, cleared=cleared), settings)


def _days(shards: Shards, population: Population, ruled: Sequence[Ruled]) -> pa.Table:
    core = np.unique(np.concatenate([one.core for one in ruled])) if ruled else np.zeros(0, np.int64)
    accounts = np.sort(population.profiles.column("account").to_numpy()[core])
    return shards.reduce(partial(count_days, accounts=accounts))
