"""assemble: weighed groups into the tables of a findings folder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.detect.membership import enriched_hubs
from stillwatch.detect.population import Population
from stillwatch.detect.traits import KINDS, Traits
from stillwatch.dossier.activity import Activity
from stillwatch.evidence.hubs import CONTENT
from stillwatch.evidence.judge import Weighed, apart, detail_json, q_values, shortfalls, verdict
from stillwatch.evidence.mixture import belonging_of_group
from stillwatch.evidence.signal import Finding
from stillwatch.kernels.hashing import key_text
from stillwatch.records import (
    CAMPAIGNS,
    EVIDENCE,
    EVIDENCE_ROWS,
    EXPLANATIONS,
    LEADS,
    MEMBER_TRAITS,
    MEMBERS,
    TRAITS,
    instant,
)  # fmt: skip
from stillwatch.settings import Settings

Ints = npt.NDArray[np.int64]

ROWS_PER_EVIDENCE = 50
"""Rows named per piece of evidence, those with the smallest row ids."""

Q_BITS = 10.0
"""What a q value's shortfall is a share of: the bits of a q value of about 0.001."""

TRAITS_PER_GROUP, TRAITS_PER_MEMBER = 200, 12
PICTURED_ACCOUNTS, PICTURED_TRAITS = 60, 30


@dataclass(frozen=True, slots=True)
class Ruled:
    """A weighed group with its name, its core (accounts at or above the membership bar), its q value and verdict."""

    weighed: Weighed
    campaign_id: str
    core: Ints
    q_value: float
    verdict: str
    missed: Mapping[str, float]


def rule(weighed: Sequence[Weighed], settings: Settings) -> list[Ruled]:
    """Judge every weighed group, campaigns first, then by size.

    What misses both questions is not even a lead, nor is what an innocent explanation accounts for to the last bit.

    A core of fewer accounts than `n_min_accounts` is a lead whatever its bits: there is nobody to name. Of groups that
    share more than half of the smaller's members one is judged; the q-values count them all.
    """
    ruled = []
    for one, q_value in apart(list(zip(weighed, q_values(weighed), strict=True)), settings.bars):
        population = one.subject.population
        core = np.flatnonzero(one.subject.candidate.membership >= settings.bars.membership_min)
        named = core if len(core) else one.subject.candidate.members
        said = verdict(one, q_value, settings.bars, n_min_population=settings.scan.n_min_population)
        missed = shortfalls(one, q_value, settings.bars)
        if len(core) < settings.scan.n_min_accounts:
            missed |= {"members": float(settings.scan.n_min_accounts - len(core))}
            said = "lead" if said == "campaign" else said
        if len(population) < settings.scan.n_min_population:
            missed |= {"population": float(settings.scan.n_min_population - len(population))}
        unanswered = {"operator_bits", "harvest_bits"} <= set(missed)
        if said == "lead" and (unanswered or one.best_innocent.bits <= 0):
            continue
        ruled.append(Ruled(one, _group_id(population, named), named, q_value, said, missed))
    return sorted(ruled, key=lambda one: (one.verdict != "campaign", -len(one.core), one.campaign_id))


def rule_alone(weighed: Sequence[tuple[Weighed, float]], settings: Settings) -> list[Ruled]:
    """Leads of single accounts, each with its q value: never a campaign, for one account has no others to act with."""
    missed = {"innocent_margin_bits": settings.bars.innocent_margin_bits_min}
    ruled = []
    for one, q_value in weighed:
        account = one.subject.candidate.members
        group_id = _group_id(one.subject.population, account)
        ruled.append(Ruled(one, group_id, account, q_value, "single_account", missed))
    return sorted(ruled, key=lambda one: (one.q_value, one.campaign_id))


def _group_id(population: Population, accounts: Ints) -> str:
    ids = "\n".join(population.account_ids[at] for at in accounts)
    return "c" + hashlib.sha256(ids.encode("utf-8", "surrogatepass")).hexdigest()[:15]


def assemble(ruled: Sequence[Ruled], *, settings: Settings, not_examined: Sequence[str]) -> dict[str, pa.Table]:
    """The tables of `records.FINDINGS`, sorted, so that the same rows give the same bytes."""
    fingerprint = settings.fingerprint()
    campaigns = [one for one in ruled if one.verdict == "campaign"]
    leads = [one for one in ruled if one.verdict != "campaign"]
    evidence = [(one, finding) for one in ruled for finding in one.weighed.findings.values()]
    return {
        "campaigns": _table(CAMPAIGNS, (_group_row(one, not_examined) for one in campaigns)),
        "leads": _table(LEADS, (_group_row(one, not_examined) | _missed(one, settings) for one in leads)),
        "members": _table(MEMBERS, (row for one in campaigns for row in _member_rows(one))),
        "evidence": _table(EVIDENCE, (_evidence_row(one, finding, fingerprint) for one, finding in evidence)),
        "evidence_rows": _table(
            EVIDENCE_ROWS, (row for one, finding in evidence for row in _row_samples(one, finding, fingerprint))
        ),
        "traits": _table(TRAITS, (row for one in ruled for row in _trait_rows(one))),
        "member_traits": _member_traits(campaigns),
        "explanations": _table(EXPLANATIONS, (row for one in ruled for row in _explanation_rows(one))),
    }


def activities(ruled: Sequence[Ruled], days: pa.Table) -> dict[str, Activity]:
    """What each group did, for its pictures.

    Args:
        days: columns `account`, `day`, `n` of `days.DAYS`, for the cores of all groups.
    """
    if not ruled:
        return {}
    population = ruled[0].weighed.subject.population
    rhythm = population.profiles.column("rhythm").combine_chunks().flatten().to_numpy().reshape(len(population), -1)
    whole = rhythm.sum(axis=0, dtype=np.int64)
    return {one.campaign_id: _activity(one, days, rhythm[one.core].sum(axis=0, dtype=np.int64), whole) for one in ruled}


def _table(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


def _group_row(one: Ruled, not_examined: Sequence[str]) -> dict[str, Any]:
    population, weighed = one.weighed.subject.population, one.weighed
    return {
        "campaign_id": one.campaign_id,
        "verdict": one.verdict,
        "n_accounts": len(one.core),
        "n_exchanges": int(population.counter("n_exchanges")[one.core].sum()),
        "input_tokens": int(population.counter("input_tokens")[one.core].sum()),
        "output_tokens": int(population.counter("output_tokens")[one.core].sum()),
        "first_seen": instant(int(population.counter("first_ts")[one.core].min())),
        "last_seen": instant(int(population.counter("last_ts")[one.core].max())),
        "operator_bits": _bits(weighed.operator_bits),
        "harvest_bits": _bits(weighed.harvest_bits),
        "e_log2": _bits(weighed.e_log2),
        "q_value": one.q_value,
        "best_innocent": weighed.best_innocent.hypothesis.name,
        "innocent_margin_bits": _bits(weighed.best_innocent.bits),
        "capabilities": sorted((name, round(share, 6)) for name, share in weighed.capabilities.items()),
        "not_examined": list(not_examined),
    }


def _missed(one: Ruled, settings: Settings) -> dict[str, Any]:
    """The bar missed by most, as a share of the bar, and by how much in its own unit.

    A population that is too small comes first: nothing else can be told. A q value is compared in bits: it misses by
    log2(q / q_max) of `Q_BITS`.
    """
    if not one.missed:
        return {"failed_bar": "", "shortfall": 0.0}
    bars = settings.bars
    limits = {
        "members": settings.scan.n_min_accounts,
        "innocent_margin_bits": bars.innocent_margin_bits_min,
        "operator_bits": bars.operator_bits_min,
        "harvest_bits": bars.harvest_bits_min,
    }
    shares = {name: one.missed[name] / (bar or 1.0) for name, bar in limits.items() if name in one.missed}
    if "q_value" in one.missed:
        shares["q_value"] = math.log2(one.q_value / bars.q_max) / Q_BITS if bars.q_max else math.inf
    name = "population" if "population" in one.missed else max(shares, key=shares.__getitem__)
    # Significant digits, for a q value may be missed by far less than a millionth.
    return {"failed_bar": name, "shortfall": float(f"{one.missed[name]:.6g}")}


def _member_rows(one: Ruled) -> Iterable[dict[str, Any]]:
    candidate, population = one.weighed.subject.candidate, one.weighed.subject.population
    exchanges = population.counter("n_exchanges")
    for at in one.core:
        yield {
            "campaign_id": one.campaign_id,
            "account_id": population.account_ids[at],
            "membership": round(float(candidate.membership[at]), 9),
            "n_exchanges": int(exchanges[at]),
            "bits": _bits(float(candidate.bits[at])),
        }


def _evidence_id(one: Ruled, finding: Finding, fingerprint: str) -> str:
    return hashlib.sha256(f"{one.campaign_id}\n{finding.signal}\n{fingerprint}".encode()).hexdigest()[:16]


def _evidence_row(one: Ruled, finding: Finding, fingerprint: str) -> dict[str, Any]:
    if finding.signal == CONTENT.name:
        belongs = belonging_of_group(one.weighed.subject, one.core)
        finding = replace(finding, detail={**finding.detail, **belongs})
    return {
        "evidence_id": _evidence_id(one, finding, fingerprint),
        "subject_kind": "account" if one.verdict == "single_account" else "campaign",
        "subject_id": one.campaign_id,
        "signal": finding.signal,
        "family": finding.family,
        "statistic": _bits(finding.statistic),
        "n": finding.n,
        "effect": _bits(finding.effect),
        "lo": _bits(finding.lo),
        "hi": _bits(finding.hi),
        "null_id": finding.null_id,
        "p_log10": None,
        "e_log2": _bits(finding.e_log2),
        "h1": finding.h1,
        "h0": finding.h0,
        "settings_hash": fingerprint,
        "detail": detail_json(finding),
    }


def _row_samples(one: Ruled, finding: Finding, fingerprint: str) -> Iterable[dict[str, Any]]:
    """The sampled exchanges of members that show what the finding rests on."""
    population = one.weighed.subject.population
    sample, lengths = population.sample, population.sampled[one.core]
    owner = np.repeat(one.core, lengths)
    ends = np.cumsum(lengths)
    rows = np.arange(len(owner)) + np.repeat(population.offsets[one.core] - ends + lengths, lengths)
    in_rows = [(kind, keys) for kind, keys in finding.shows if kind in sample]
    if in_rows:
        shown = np.logical_or.reduce([np.isin(sample[kind][rows], keys) for kind, keys in in_rows])
        owner, rows = owner[shown], rows[shown]
    row_id = sample["row_id"][rows]
    for at in np.argsort(row_id, kind="stable")[:ROWS_PER_EVIDENCE]:
        yield {
            "evidence_id": _evidence_id(one, finding, fingerprint),
            "account_id": population.account_ids[owner[at]],
            "row_id": key_text(int(row_id[at])),
            "role": "shows" if in_rows else "member",
            "n_total": len(rows),
        }


def _own_hubs(one: Ruled) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Hubs the group made its own, the most telling first, with accounts inside and expected."""
    traits = one.weighed.subject.traits
    hubs = np.flatnonzero(enriched_hubs(traits, one.core, within=np.ones(len(traits), bool)))
    who = traits.by_account
    observed, expected = who.observed(one.core)[hubs], who.expected(one.core, hubs)
    order = np.lexsort((traits.key[hubs], traits.kind[hubs], -observed))[:TRAITS_PER_GROUP]
    return hubs[order], observed[order], expected[order]


def _trait_rows(one: Ruled) -> Iterable[dict[str, Any]]:
    traits = one.weighed.subject.traits
    hubs, observed, expected = _own_hubs(one)
    carriers = np.asarray((traits.share[:, hubs] > 0).sum(axis=0)).ravel()
    for hub, n_inside, n_all, predicted in zip(hubs, observed, carriers, expected, strict=True):
        yield {
            "campaign_id": one.campaign_id,
            "trait_key": key_text(int(traits.key[hub])),
            "kind": KINDS[traits.kind[hub]].name,
            "origin": KINDS[traits.kind[hub]].origin,
            "n_inside": int(n_inside),
            "n_outside": int(n_all - n_inside),
            "expected": _bits(float(predicted)),
        }


def _member_traits(campaigns: Sequence[Ruled]) -> pa.Table:
    """Of the traits each campaign made its own, those that each member carries, the most shown first."""
    parts = []
    for one in campaigns:
        traits, account_ids = one.weighed.subject.traits, one.weighed.subject.population.account_ids
        hubs, _, _ = _own_hubs(one)
        carried = traits.share[one.core][:, hubs].tocoo()
        order = np.lexsort((carried.col, -carried.data, carried.row))
        member, at, share = carried.row[order], carried.col[order], carried.data[order]
        first = np.searchsorted(member, member)
        kept = np.arange(len(member)) - first < TRAITS_PER_MEMBER
        member, hub, share = member[kept], hubs[at[kept]], share[kept]
        names = [key_text(int(key)) for key in traits.key[hubs]]
        parts.append(
            {
                "campaign_id": [one.campaign_id] * len(member),
                "account_id": [account_ids[i] for i in one.core[member]],
                "trait_key": [names[i] for i in at[kept]],
                "kind": [KINDS[kind].name for kind in traits.kind[hub]],
                "share": np.round(share.astype(np.float64), 6),
            }
        )
    return pa.concat_tables([MEMBER_TRAITS.empty_table(), *(pa.table(part, MEMBER_TRAITS) for part in parts)])


def _explanation_rows(one: Ruled) -> Iterable[dict[str, Any]]:
    for margin in one.weighed.margins:
        yield {
            "campaign_id": one.campaign_id,
            "hypothesis": margin.hypothesis.name,
            "bits": _bits(margin.bits),
            "would_change": margin.hypothesis.would_change,
        }


def _activity(one: Ruled, days: pa.Table, hours: Ints, hours_of_all: Ints) -> Activity:
    population, traits = one.weighed.subject.population, one.weighed.subject.traits
    accounts = np.sort(population.profiles.column("account").to_numpy()[one.core])
    mine = np.isin(days.column("account").to_numpy(), accounts)
    day, n = days.column("day").to_numpy()[mine], days.column("n").to_numpy()[mine]
    seen, at = np.unique(day, return_inverse=True)
    background = (hours_of_all - hours).astype(np.float64)
    return Activity(
        days=[date(1970, 1, 1) + timedelta(days=int(value)) for value in seen],
        exchanges_per_day=np.bincount(at, n, minlength=len(seen)).astype(np.int64).tolist(),
        accounts_per_day=np.bincount(at, minlength=len(seen)).tolist(),
        hour_of_week=hours.tolist(),
        background_hour_of_week=(background / max(background.sum(), 1.0)).tolist(),
        edges=_edges(population, traits, one),
    )


def _edges(population: Population, traits: Traits, one: Ruled) -> list[tuple[str, str, float]]:
    hubs, _, _ = _own_hubs(one)
    accounts = one.core[np.lexsort((one.core, -population.counter("n_exchanges")[one.core]))][:PICTURED_ACCOUNTS]
    shown = traits.share[accounts][:, hubs[:PICTURED_TRAITS]].tocoo()
    keys = [key_text(int(traits.key[hub])) for hub in hubs[:PICTURED_TRAITS]]
    return sorted(
        (population.account_ids[accounts[row]], keys[column], float(share))
        for row, column, share in zip(shown.row, shown.col, shown.data, strict=True)
    )


def _bits(value: float) -> float:
    """Rounded far below meaning, so that the last bit of a floating-point sum never shows in a file."""
    return round(float(value), 6)
