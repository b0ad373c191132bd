"""deciding: one call, one policy, one snapshot: a ruling. Pure, without input or output, in microseconds.

Rules do not hide each other: all that apply are gathered, the strictest acts, features that any of them switches off
stay off. Budgets come after, in the face, since they change state.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date
from functools import partial
from typing import NamedTuple

from stillwatch.policy.model import LEVELS, SWITCHABLE, Budget, Level, Policy, Step, micros
from stillwatch.policy.networks import Address, parse_address
from stillwatch.policy.ruling import COARSE, REFUSING, SEVERITY, Meter, Request, Ruling
from stillwatch.policy.showing import Shows
from stillwatch.policy.snapshot import Snapshot, Standing

_RANK = {name: rank for rank, name in enumerate(LEVELS)}


class _Hit(NamedTuple):
    step: Step
    rule: str
    precise: str


class _Licence(NamedTuple):
    valid: bool
    meter: Meter | None
    lapsed: str


def decide(request: Request, policy: Policy, snapshot: Snapshot) -> Ruling:
    """Say what the policy does with one call, and which budgets it draws on.

    Never raises for what a caller can choose: an unknown identity level counts as `none`, an address that is none
    matches no network.

    Cost: one keyed hash, two binary searches, one match of the model's name; no input or output.
    """
    now_us = micros(request.now)
    level = policy.levels.get(request.identity_level) or policy.levels["none"]
    address = parse_address(request.ip)
    standing = _standing(request, policy, snapshot, now_us)
    licence = _licence(request, policy)
    hits = _level_hits(request, policy, level)
    found = policy.networks.first_rule(address, request.country)
    if found >= 0:
        rule = policy.network_rules[found]
        hits.append(_Hit(rule.step, f"network:{rule.name}", f"network rule {rule.name}"))
    if standing is not None and not licence.valid:
        hits += _verdict_hits(request, policy, standing, licence)
    return _ruling(
        request, policy, level, hits, _subjects(request, policy, address, standing, licence), standing, licence
    )


def _standing(request: Request, policy: Policy, snapshot: Snapshot, now_us: int) -> Standing | None:
    if now_us >= snapshot.expires_us:
        return None
    standing = snapshot.standing(request.account_id)
    if standing is None:
        return None
    rule = policy.verdicts.get(standing.lineage.verdict)
    return standing if rule is not None and standing.membership >= rule.min_membership else None


_NO_LICENCE = _Licence(False, None, "")


def _licence(request: Request, policy: Policy) -> _Licence:
    """The first licence that covers the caller and has not run out."""
    lapsed = ""
    for entry, volume in policy.licences(request.account_id, request.org_id):
        today: date = request.now.astimezone(UTC).date()
        if entry.until is not None and today > entry.until:
            lapsed = f"; its licence ended on {entry.until.isoformat()}"
        elif entry.max_tokens == 0:
            lapsed = "; its licence has no volume"
        else:
            name = f"o:{entry.org_id}" if entry.org_id is not None else f"a:{entry.account_id}"
            return _Licence(True, Meter(volume, name) if volume else None, "")
    return _Licence(False, None, lapsed) if lapsed else _NO_LICENCE


def _level_hits(request: Request, policy: Policy, level: Level) -> list[_Hit]:
    """What the caller's level does not open: off where a call can do without, else the next level that opens it."""
    hits = []
    if not level.opens_model(request.model):
        hits.append(_closed(policy, level, "model", request.model or "", lambda one: one.opens_model(request.model)))
    if not level.opens_capability(request.capability):
        asked = request.capability
        hits.append(_closed(policy, level, "capability", asked, lambda one: one.opens_capability(asked)))
    if not request.is_limitable and not _limits_nothing(request, policy, level):
        opens = partial(_limits_nothing, request, policy)
        hits.append(_closed(policy, level, "interface", request.capability, opens))
    missing = request.features - level.features
    if missing:
        off = missing.intersection(SWITCHABLE)
        if off:
            names = ", ".join(sorted(off))
            hits.append(_Hit(Step("allow_limited", features_off=off), "features", f"{level.name} may not use {names}"))
        for name in sorted(missing - off):
            hits.append(_closed(policy, level, "feature", name, partial(_opens_feature, name)))
    cap = level.max_output_tokens
    if cap is not None and request.max_output_tokens is not None and request.max_output_tokens > cap:
        hits.append(_Hit(Step("allow_limited"), "output", f"{level.name} may have {cap} tokens of output"))
    return hits


def _limits_nothing(request: Request, policy: Policy, level: Level) -> bool:
    """Whether answers to a level leave as they come, so that an interface the face cannot limit may be used."""
    shown, _ = policy.reasoning.show(
        account_id=request.account_id, org_id=request.org_id, level=level.name, action="allow", verdict=None
    )
    return level.max_output_tokens is None and not level.lacks and shown == "keep"


def _opens_feature(name: str, level: Level) -> bool:
    return name in level.features


def _closed(policy: Policy, level: Level, rule: str, name: str, opens: Callable[[Level], bool]) -> _Hit:
    for higher in LEVELS[_RANK[level.name] + 1 :]:
        if opens(policy.levels[higher]):
            return _Hit(Step("step_up", step_up=higher), rule, f"{level.name} may not use {name!r}; {higher} may")
    return _Hit(Step("deny"), rule, f"no level may use {name!r}")


def _verdict_hits(request: Request, policy: Policy, standing: Standing, licence: _Licence) -> list[_Hit]:
    rule = policy.verdicts[standing.lineage.verdict]
    if rule.lifted_by is not None and _RANK.get(request.identity_level, 0) >= _RANK[rule.lifted_by]:
        return []
    # Whoever already has what a step up asks for cannot climb further.
    if rule.step.action == "step_up" and _RANK.get(request.identity_level, 0) >= _RANK[rule.step.step_up or "none"]:
        return []
    lineage = standing.lineage
    said = f"{lineage.verdict} {lineage.lineage_id}, membership {standing.membership:.3f}{licence.lapsed}"
    return [_Hit(rule.step, f"verdict:{lineage.verdict}", said)]


def _subjects(
    request: Request, policy: Policy, address: Address | None, standing: Standing | None, licence: _Licence
) -> dict[str, str]:
    """Who a call is counted with, by scope; a scope of which nothing is known is absent."""
    subjects = {"account": request.account_id}
    if request.org_id:
        subjects["organisation"] = request.org_id
    if request.payment_fingerprint:
        subjects["payment"] = request.payment_fingerprint
    if address is not None:
        subjects["network"] = policy.networks.subject(address)
    if standing is not None and not licence.valid:
        subjects["lineage"] = standing.lineage.lineage_id
    return subjects


def _meters(budgets: tuple[Budget, ...], subjects: dict[str, str]) -> list[Meter]:
    return [Meter(budget, subjects[budget.scope]) for budget in budgets if budget.scope in subjects]


_ALLOW = _Hit(Step("allow"), "", "no rule applies")


def _ruling(
    request: Request,
    policy: Policy,
    level: Level,
    hits: list[_Hit],
    subjects: dict[str, str],
    standing: Standing | None,
    licence: _Licence,
) -> Ruling:
    """The strictest of all that applies, and what every other adds to it."""
    first = max(hits, key=lambda hit: SEVERITY[hit.step.action], default=_ALLOW)
    would = first.step.action
    shadow = policy.mode == "shadow"
    action = "allow" if shadow else would
    marked = standing is not None and any(hit.step.action == "mark" for hit in hits)
    meters: list[Meter] = []
    if action not in REFUSING:
        meters = _meters(level.budgets, subjects) + _meters(policy.budgets, subjects)
        if licence.meter is not None:
            meters.append(licence.meter)
    off = level.lacks.union(*(hit.step.features_off for hit in hits))
    return Ruling(
        action=action,
        would=would,
        rule=first.rule,
        reason=COARSE[action],
        precise="; ".join(hit.precise for hit in hits) or _ALLOW.precise,
        retry_after_ms=None if shadow else first.step.retry_after_ms,
        step_up=None if shadow else first.step.step_up,
        features_off=frozenset() if shadow else off,
        max_output_tokens=None if shadow else level.max_output_tokens,
        n_tokens=request.reserves(level.max_output_tokens),
        meters=tuple(meters),
        mark_key_id=standing.lineage.mark_key_id if marked and standing is not None and not shadow else None,
        lineage_id=standing.lineage.lineage_id if standing is not None else None,
        licensed=licence.valid,
        policy_version=policy.version,
        shadow=shadow,
        shows=_shows(request, policy, level, would, standing, hits),
    )


def _shows(
    request: Request, policy: Policy, level: Level, action: str, standing: Standing | None, hits: list[_Hit]
) -> Shows | None:
    """What is done with the reply's reasoning. A verdict counts where its rule does: not for the licensed or lifted."""
    if policy.reasoning.says_nothing:
        return None
    reasoning, verdict = policy.reasoning, standing.lineage.verdict if standing is not None else None
    if not any(hit.rule == f"verdict:{verdict}" for hit in hits):
        verdict = None
    how, rule = reasoning.show(
        account_id=request.account_id, org_id=request.org_id, level=level.name, action=action, verdict=verdict
    )
    if how == "keep":
        return None
    return Shows(how, rule, reasoning.opens(request.model), policy.mode == "shadow", policy.on_failure)
