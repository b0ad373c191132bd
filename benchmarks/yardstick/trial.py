"""trial: one world written, scanned and counted; everything a table needs, as plain values."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.yardstick.peers import run_peers
from stillwatch import LocalEngine, RootKey, ScanRequest, load_settings, pipeline
from stillwatch.allowlist import Allowlist, load_allowlist
from stillwatch.detect.traits import KINDS
from stillwatch.keys import Secret
from stillwatch.settings import Settings
from stillwatch.sim.places import COUNTRIES, ZONES
from stillwatch.sim.scenarios import Scenario
from stillwatch.sim.world import World, cast, write_world

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOW: Final = datetime(2027, 1, 1, tzinfo=UTC)
EDGES: Final = (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.99999, 1.0)
"""Edges of the bins of membership, each with its lower end; the last holds 1."""

SCRIPTS: Final = {"zh": "Han", "ja": "Kana and Kanji"}
"""Scripts of the simulator's languages; Latin where none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A world and how it is looked at. Everything in it moves the result, and is part of its name in the cache."""

    scenario: Scenario
    seed: int
    scale: float = 1.0
    without: tuple[str, ...] = ()
    """Columns taken out of the exchanges, or `accounts` for the whole accounts file."""
    without_accounts: tuple[str, ...] = ()
    """Columns taken out of the accounts file."""
    hashed: tuple[str, ...] = ()
    """Columns of text replaced by a keyed hash of each text."""
    settings: tuple[tuple[str, float], ...] = ()
    """Settings changed, as `section.option` and value."""
    allowlisted: bool = True
    ablate: bool = False
    """Weigh again without each signal."""
    rebar: bool = False
    """Judge again with each bar halved and doubled."""
    peers: bool = False
    """Ask the peers about the same accounts and traits."""
    permuted: bool = False
    """Deal the facets of accounts out anew within cohorts, so that nobody acts as one with anybody."""
    groups_of: tuple[str, ...] = ()
    """Populations of which groups are weighed as if they had been found, instead of looking for any."""

    def name(self) -> str:
        """What tells it from every other trial: its fields that are not as usual, the same in every process."""
        usual = {each.name: each.default for each in fields(self)}
        said = {name: getattr(self, name) for name in usual}
        return repr({name: _spelt(value) for name, value in said.items() if value != usual[name]})


def _spelt(value: object) -> object:
    """A value as something whose text does not hang on the order of a set."""
    if is_dataclass(value):
        return [type(value).__name__, *((each.name, _spelt(getattr(value, each.name))) for each in fields(value))]
    if isinstance(value, Mapping):
        return [(name, _spelt(each)) for name, each in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return [_spelt(each) for each in value] if isinstance(value, (tuple, list)) else value


@dataclass(slots=True)
class Seen:
    """What a scan looked at on its way, and how it ended."""

    population: Any = None
    traits: Any = None
    weighed: list[Any] = field(default_factory=list)
    ruled: list[Any] = field(default_factory=list)
    again: Any = None
    """Weighs the same groups with other signals."""
    signals: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of the groups put in place of those found."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Who everybody is: for scoring alone."""

    population: Mapping[str, str]
    campaign: Mapping[str, str | None]
    traits: Mapping[str, tuple[str, str, str]]
    """Language, country and hours ahead of UTC of each account."""

    @classmethod
    def of(cls, trial: Trial, world: World) -> Truth:
        """Read the truth, and draw the cast again for what it does not hold."""
        rows = pq.read_table(world.truth)
        ids = rows["account_id"].to_pylist()
        company, traits = cast(trial.scenario, seed=trial.seed, scale=trial.scale), {}
        for part, first in zip(company.parts, company.first.tolist(), strict=True):
            names = list(part.cast.population.languages)
            zone = np.clip(part.cast.zone, ZONES.min(), ZONES.max())
            for at, account in enumerate(company.ids.slice(first, len(part.cast)).to_pylist()):
                spoken = names[part.cast.language[at]]
                traits[account] = (spoken, COUNTRIES[part.cast.country[at]], f"UTC{zone[at]:+d}")
        return cls(
            dict(zip(ids, rows["population"].to_pylist(), strict=True)),
            dict(zip(ids, rows["campaign"].to_pylist(), strict=True)),
            traits,
        )

    def who(self, account: str) -> str:
        """The campaign of an account, or its population in brackets."""
        return self.campaign[account] or f"({self.population[account]})"


def examine(trial: Trial) -> dict[str, Any]:
    """Write the world, scan it, count; deterministic but for the seconds."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory(prefix="yardstick-") as temporary:
        world = write_world(trial.scenario, Path(temporary) / "world", seed=trial.seed, scale=trial.scale, threads=1)
        written = time.process_time()
        truth = Truth.of(trial, world)
        logs, accounts = _less(trial, world, Path(temporary))
        allowlist = load_allowlist(world.allowlist) if trial.allowlisted else Allowlist()
        seen = look(trial, logs, accounts, allowlist, truth)
        scanned = time.process_time()
        result = _counted(trial, seen, truth)
    seconds = {"write": written - begun, "scan": scanned - written, "rest": time.process_time() - scanned}
    return result | {"n_exchanges": world.n_exchanges, "cpu_s": seconds}


def look(trial: Trial, logs: Path, accounts: Path | None, allowlist: Allowlist, truth: Truth) -> Seen:
    """Scan as `stillwatch scan` does, and keep what it weighed."""
    settings = load_settings(None, {}, {"scan.threads": 1, **dict(trial.settings)})
    seen = Seen()
    with _watched(seen, trial, truth):
        pipeline.scan(
            ScanRequest(logs=[logs], accounts=accounts, allowlist=allowlist),
            settings=settings,
            engine=LocalEngine(threads=1, memory_mb=settings.scan.memory_mb, n_shards=settings.scan.partitions),
            key=RootKey(Secret(sha256(f"yardstick {trial.seed}".encode()).digest())),
            now=NOW,
            clock=lambda: 0.0,
        )
    return seen


@contextmanager
def _watched(seen: Seen, trial: Trial, truth: Truth) -> Iterator[None]:
    """Note what the pipeline's steps are given and give back; with `groups_of`, put groups in place of those found."""
    # Named in a variable because a name that is not there yet is no error here: only ablations need it.
    steps: Any = pipeline
    find, rule, build = steps.find_candidates, steps.rule, steps.build_population
    weigh: Any = getattr(steps, "weigh_together", None)

    def finding(population: Any, traits: Any, **options: Any) -> Any:
        seen.population, seen.traits = population, traits
        if trial.groups_of:
            from benchmarks.yardstick.innocents import groups_to_weigh

            groups = groups_to_weigh(population, truth, trial)
            seen.names = list(groups)
            return list(groups.values())
        return find(population, traits, **options)

    def building(profiles: Any, accounts: Any) -> Any:
        from benchmarks.yardstick.permuting import permuted

        population = build(profiles, accounts)
        return permuted(population, seed=trial.seed) if trial.permuted else population

    def weighing(subjects: Any, signals: Any, **options: Any) -> Any:
        seen.signals = list(signals)
        seen.again = lambda fewer: [steps.named(one) for one in weigh(subjects, fewer, **options)]
        if trial.groups_of:
            # Innocent or not, none of them is set aside for another.
            return [found for one in subjects for found in weigh([one], signals, **options)]
        return weigh(subjects, signals, **options)

    def ruling(weighed: Any, settings: Settings, **options: Any) -> Any:
        seen.weighed, seen.ruled = list(weighed), rule(weighed, settings, **options)
        return seen.ruled

    watched = {
        "build_population": building, "find_candidates": finding, "rule": ruling, "weigh_together": weighing,
    }  # fmt: skip
    with ExitStack() as patches:
        for name, watching in watched.items():
            if hasattr(steps, name):
                patches.enter_context(patch.object(steps, name, watching))
        yield


def _less(trial: Trial, world: World, folder: Path) -> tuple[Path, Path | None]:
    """The logs and the accounts without what the trial takes away."""
    logs, accounts = world.exchanges, world.accounts
    if trial.without or trial.hashed:
        rows = pq.read_table(world.exchanges)
        rows = rows.drop_columns([name for name in trial.without if name in rows.column_names])
        for name in trial.hashed:
            if name in rows.column_names:
                rows = rows.set_column(rows.column_names.index(name), name, _hashes(rows[name]))
        logs = folder / "less.parquet"
        pq.write_table(rows, logs)
    if trial.without_accounts:
        rows = pq.read_table(world.accounts).drop_columns(list(trial.without_accounts))
        accounts = folder / "accounts-less.parquet"
        pq.write_table(rows, accounts)
    return logs, None if "accounts" in trial.without else accounts


def _hashes(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    codes = texts.combine_chunks().cast(pa.string()).dictionary_encode()
    digests = [None if one is None else sha256(one.encode()).hexdigest()[:32] for one in codes.dictionary.to_pylist()]
    return pa.array(digests, pa.string()).take(codes.indices)


def _counted(trial: Trial, seen: Seen, truth: Truth) -> dict[str, Any]:
    ids: list[str] = list(seen.population.account_ids)
    result = _score(seen.ruled, ids, truth) | {"n_seen": len(ids)}
    result["groups"] = [_group(one, seen, ids, truth) for one in seen.weighed]
    result["attributes"] = _attributes(seen, ids, truth)
    result["attributes_of_consumers"] = _attributes(seen, ids, truth, only="consumer")
    result["reliability"] = _reliability(seen, ids, truth)
    if trial.groups_of:
        result["innocents"] = seen.names
    if trial.peers:
        result["peers"] = _peers(trial, seen, truth)
    if trial.ablate:
        result["ablations"] = _ablations(trial, seen, ids, truth)
    if trial.rebar:
        result["bars"] = _bars(trial, seen, ids, truth)
    return result


def _rule(weighed: list[Any], settings: Settings) -> list[Any]:
    steps: Any = pipeline
    ruled: list[Any] = steps.rule(weighed, settings)
    return ruled


def _settings(trial: Trial) -> Settings:
    return load_settings(None, {}, dict(trial.settings))


def _score(ruled: list[Any], ids: list[str], truth: Truth) -> dict[str, Any]:
    """Planted and ordinary accounts that were seen and named, and what became of each planted campaign."""
    findings = [[ids[at] for at in one.core] for one in ruled if one.verdict == "campaign"]
    named = {account for members in findings for account in members}
    planted = Counter(campaign for account in ids if (campaign := truth.campaign[account]))
    ordinary = Counter(truth.population[account] for account in ids if not truth.campaign[account])
    flagged = Counter(truth.population[account] for account in named if not truth.campaign[account])
    caught = Counter(campaign for account in named if (campaign := truth.campaign[account]))
    mostly: Counter[str] = Counter()
    spurious = merges = 0
    for members in findings:
        inside = Counter(truth.campaign[account] for account in members)
        crew, n = max(((c, n) for c, n in inside.items() if c), key=lambda each: each[1], default=("", 0))
        spurious += 2 * n <= len(members)
        merges += sum(1 for c, n in inside.items() if c and 10 * n >= len(members)) > 1
        mostly[crew] += 2 * n > len(members)
    return {
        "planted": dict(planted),
        "named": {name: caught[name] for name in planted},
        "found": {name: int(mostly[name] > 0) for name in planted},
        "fragments": sum(max(0, mostly[name] - 1) for name in planted),
        "merges": int(merges),
        "spurious": int(spurious),
        "findings": len(findings),
        "populations": {name: [n, flagged[name]] for name, n in ordinary.items()},
    }


def _group(one: Any, seen: Seen, ids: list[str], truth: Truth) -> dict[str, Any]:
    said = next((each for each in seen.ruled if each.weighed is one), None)
    members = [ids[at] for at in one.subject.candidate.members]
    return {
        "verdict": said.verdict if said else "nothing",
        "missed": sorted(said.missed) if said else [],
        "q": said.q_value if said else 1.0,
        "n": len(members),
        "who": dict(Counter(truth.who(account) for account in members)),
        "operator": float(one.operator_bits),
        "harvest": float(one.harvest_bits),
        "e_log2": float(one.e_log2),
        "margin": float(one.best_innocent.bits),
        "best": one.best_innocent.hypothesis.name,
        "margins": {margin.hypothesis.name: float(margin.bits) for margin in one.margins},
        "signals": {name: float(finding.e_log2) for name, finding in one.findings.items()},
    }


def _attributes(seen: Seen, ids: list[str], truth: Truth, *, only: str = "") -> dict[str, dict[str, list[int]]]:
    """Ordinary accounts by language, script, time zone and card country: seen, in a weighed group, named."""
    grouped, named = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    for one in seen.weighed:
        grouped[one.subject.candidate.members] = True
    for one in seen.ruled:
        if one.verdict == "campaign":
            named[one.core] = True
    counts: dict[str, dict[str, list[int]]] = {"language": {}, "script": {}, "time zone": {}, "card country": {}}
    for at, account in enumerate(ids):
        if truth.campaign[account] or only not in ("", truth.population[account]):
            continue
        language, country, zone = truth.traits[account]
        values = (language, SCRIPTS.get(language, "Latin"), zone, country)
        for kind, value in zip(counts, values, strict=True):
            row = counts[kind].setdefault(value, [0, 0, 0])
            row[0] += 1
            row[1] += int(grouped[at])
            row[2] += int(named[at])
    return counts


def _reliability(seen: Seen, ids: list[str], truth: Truth) -> dict[str, list[list[float]]]:
    """By verdict and bin of membership: accounts, true members, sums of membership, Brier and logarithmic score.

    A true member is an account of the campaign that most members of the group (membership >= 0.5) are of.
    """
    result: dict[str, list[list[float]]] = {}
    for one in seen.weighed:
        said = next((each.verdict for each in seen.ruled if each.weighed is one), "nothing")
        candidate = one.subject.candidate
        crew = Counter(truth.campaign[ids[at]] for at in candidate.members).most_common(1)[0][0]
        member = np.array([crew is not None and truth.campaign[account] == crew for account in ids])
        believed = np.clip(candidate.membership, 0.0, 1.0)
        safe = np.clip(believed, 1e-9, 1 - 1e-9)
        cost = -np.log2(np.where(member, safe, 1 - safe))
        at = np.clip(np.searchsorted(np.array(EDGES), believed, side="right") - 1, 0, len(EDGES) - 2)
        rows = result.setdefault("campaign" if said == "campaign" else "other", [[0.0] * 5 for _ in EDGES[1:]])
        for column, values in enumerate((np.ones(len(ids)), member, believed, (believed - member) ** 2, cost)):
            for place, total in enumerate(np.bincount(at, values, minlength=len(rows))):
                rows[place][column] += float(total)
    return result


def _ablations(trial: Trial, seen: Seen, ids: list[str], truth: Truth) -> dict[str, Any]:
    """The score without each signal: the same groups, weighed by the others. The margins keep what they test."""
    result = {}
    for signal in seen.signals:
        weighed = seen.again([other for other in seen.signals if other is not signal])
        result[signal.name] = _score(_rule(weighed, _settings(trial)), ids, truth)
    return result


def _peers(trial: Trial, seen: Seen, truth: Truth) -> dict[str, list[int]]:
    """Of each peer and of the scan: planted accounts, planted ones named, all named."""
    found = run_peers(seen.population, seen.traits, [kind.name for kind in KINDS], seed=trial.seed)
    ids = seen.population.account_ids
    cores = [one.core for one in seen.ruled if one.verdict == "campaign"]
    found["stillwatch"] = [ids[at] for at in np.unique(np.concatenate(cores))] if cores else []
    planted = {account for account in ids if truth.campaign[account]}
    return {name: [len(planted), len(planted & set(named)), len(named)] for name, named in found.items()}


def _bars(trial: Trial, seen: Seen, ids: list[str], truth: Truth) -> dict[str, Any]:
    """The score with each bar at half and at double; bits of the groups stay, so what was set aside stays so too."""
    settings, result = _settings(trial), {}
    for name in ("q_max", "operator_bits_min", "harvest_bits_min", "innocent_margin_bits_min"):
        for factor in (0.5, 1.0, 2.0):
            bars = replace(settings.bars, **{name: factor * getattr(settings.bars, name)})
            ruled = _rule(seen.weighed, replace(settings, bars=bars))
            result[f"{name} x {factor:g}"] = _score(ruled, ids, truth)
    return result
