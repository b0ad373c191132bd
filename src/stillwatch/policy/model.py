"""model: what an operator's policy says, read and checked, as frozen values.

Nothing here has a default that opens the gate: what `on_failure` says is the operator's own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import translate
from re import Pattern, compile  # noqa: A004
from typing import Literal

from stillwatch.allowlist import Licensed
from stillwatch.policy.networks import NetworkTable
from stillwatch.policy.showing import Reasoning

LEVELS = ("none", "email", "phone", "payment", "organisation")
"""What is known of who asks, least first: the step-up ladder."""

FEATURES = ("reasoning", "logprobs", "batch")
"""Outputs and ways of asking that a level opens one by one."""

SWITCHABLE = ("reasoning", "logprobs")
"""Features a face can leave out of a request and still answer it; a batch is either taken or not."""

SCOPES = ("account", "organisation", "payment", "network", "lineage", "licence")
"""Who shares one budget. `licence` is made from a licence's `max_tokens` and is not written by hand."""

FAILURES = ("deny", "allow_limited", "allow")
"""What a face may do when it cannot decide."""

Scope = Literal["account", "organisation", "payment", "network", "lineage", "licence"]
Unit = Literal["tokens", "requests"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A rate and what may be spent at once, for each subject of one scope (GCRA: amount / period_s, burst)."""

    name: str
    """Unique in its policy; part of the key a subject is counted under."""
    scope: Scope
    unit: Unit
    amount: int
    """Units per period, at least 1."""
    period_s: int
    burst: int
    """Units a rested subject may spend at once, at least 1."""


@dataclass(frozen=True, slots=True)
class Level:
    """What callers of one identity level may use, and how often."""

    name: str
    models: tuple[str, ...]
    """Names or patterns with * and ?; `*` is every model."""
    capabilities: tuple[str, ...]
    """Kinds of call (`chat`, `embeddings`, `tools`), patterns as above."""
    features: frozenset[str]
    """Of `FEATURES`."""
    max_output_tokens: int | None
    budgets: tuple[Budget, ...]
    lacks: frozenset[str] = field(init=False, repr=False, compare=False)
    """Of `SWITCHABLE`, what its answers go without."""
    _models: Pattern[str] = field(init=False, repr=False, compare=False)
    _capabilities: Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lacks", frozenset(SWITCHABLE) - self.features)
        object.__setattr__(self, "_models", _any_of(self.models))
        object.__setattr__(self, "_capabilities", _any_of(self.capabilities))

    def opens_model(self, model: str | None) -> bool:
        """Whether a model may be used; a call whose model is unknown is taken where every model may be.

        Some servers ask every model of a list with commas: then each has to be open.
        """
        names = (model or "").split(",")
        return all(self._models.match(name.strip()) is not None for name in names)

    def opens_capability(self, capability: str) -> bool:
        """Whether a kind of call may be made."""
        return self._capabilities.match(capability) is not None


def _any_of(patterns: tuple[str, ...]) -> Pattern[str]:
    # Of patterns without braces or groups of their own; each has at most four stars, so none can run away.
    return compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


@dataclass(frozen=True, slots=True)
class Step:
    """What a rule does where it applies."""

    action: str
    """One of `records.ACTIONS`."""
    retry_after_ms: int | None = None
    step_up: str | None = None
    """The level asked for where the action is `step_up`."""
    features_off: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class VerdictRule:
    """What is done with accounts under one verdict of the snapshot."""

    verdict: str
    step: Step
    min_membership: float
    lifted_by: str | None
    """Identity level from which on the rule leaves an account alone."""


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """What is done with calls from some networks or countries; the first rule that matches acts."""

    name: str
    step: Step
    cidrs: tuple[str, ...]
    countries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Screening:
    """How names of organisations are held against lists of restricted parties. It never denies anybody."""

    lists: tuple[str, ...]
    """Files of names, one a line, as written in the policy."""
    similarity: float


@dataclass(frozen=True, slots=True)
class Disclosure:
    """How long a new snapshot waits before it acts, so that answers teach an attacker little; see `disclosing`."""

    delay_s: int = 0
    batch_s: int = 0
    """One instant in each stretch of this length, counted from 1970 in UTC, at which snapshots begin to act; 0: any."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file, read and checked. Immutable: a changed file becomes another Policy."""

    version: str
    """The operator's own name of this version; cited in every decision."""
    sha256: str
    """Of the file's bytes."""
    mode: Literal["shadow", "enforce"]
    on_failure: Literal["deny", "allow_limited", "allow"]
    levels: Mapping[str, Level]
    """By name, in ladder order; every level of `LEVELS`."""
    budgets: tuple[Budget, ...]
    """Shared by all levels."""
    verdicts: Mapping[str, VerdictRule]
    networks: NetworkTable
    network_rules: tuple[NetworkRule, ...]
    mmdb: str | None
    licensed: tuple[Licensed, ...]
    screening: Screening | None
    disclosure: Disclosure
    mark_epoch: str | None
    reasoning: Reasoning = field(default_factory=Reasoning)
    _licences: Mapping[str, tuple[tuple[Licensed, Budget | None], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id: dict[str, list[tuple[Licensed, Budget | None]]] = {}
        for entry in self.licensed:
            volume = _volume(entry)
            for kind, name in (("o", entry.org_id), ("a", entry.account_id)):
                if name is not None:
                    by_id.setdefault(f"{kind}:{name}", []).append((entry, volume))
        object.__setattr__(self, "_licences", {name: tuple(found) for name, found in by_id.items()})

    def licences(self, account_id: str, org_id: str | None) -> tuple[tuple[Licensed, Budget | None], ...]:
        """The licences that name an account or its organisation, each with the budget of its volume."""
        if not self._licences:
            return ()
        mine = self._licences.get(f"a:{account_id}", ())
        return mine if org_id is None else mine + self._licences.get(f"o:{org_id}", ())


VOLUME_PERIOD_S = 36_525 * 86_400
"""A volume is a budget whose burst is all of it and that refills in 100 years, so by 1 % a year."""


def _volume(entry: Licensed) -> Budget | None:
    if entry.max_tokens is None:
        return None
    amount = max(1, entry.max_tokens)
    return Budget("licence", "licence", "tokens", amount, VOLUME_PERIOD_S, amount)


def micros(now: datetime) -> int:
    """Microseconds since 1970 in UTC of an instant with a zone."""
    gone = now - _EPOCH
    return (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
