"""admission: the gate as a call: the policy's ruling, the budgets, the journal, and one answer.

    admission = gate.admit(request)
    if admission.passes: ... make the call ...; gate.settle(admission.decision_id, used)

Whatever fails on the way (the policy, the budgets, the journal) is answered as the policy's `on_failure` says; where no
policy could be read there is nothing that says so, and the call is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Protocol

from stillwatch.errors import BudgetsError
from stillwatch.gate.ledger import Ledger
from stillwatch.keys import Secret
from stillwatch.policy.budgets import Budgets, Charge, Outcome
from stillwatch.policy.charging import charges_of
from stillwatch.policy.deciding import decide
from stillwatch.policy.geo import Countries
from stillwatch.policy.model import SWITCHABLE, Policy
from stillwatch.policy.ruling import COARSE, REFUSING, Request, Ruling
from stillwatch.policy.showing import Shows
from stillwatch.policy.snapshot import Snapshot

WAITS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 43_200, 86_400)
"""The waits a client is told, rounded up: an exact one would say how full which budget is."""

UNAVAILABLE, TOO_LARGE = "unavailable", "too_large"
"""Words a client is told beside those of the policy: the gate failed; no wait makes this call fit."""

_UNWRITTEN = "the journal takes no more"


class Rules(Protocol):
    """What is in force at this moment; read anew for every call, so that a reload acts at once and as a whole."""

    @property
    def policy(self) -> Policy:
        """The operator's policy."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """What is known of accounts."""
        ...

    @property
    def countries(self) -> Countries | None:
        """The operator's own database of addresses, where the policy names one."""
        ...


@dataclass(frozen=True, slots=True)
class FixedRules:
    """Rules that stay."""

    policy: Policy
    snapshot: Snapshot
    countries: Countries | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What is done with one call, and all that a client may be told of it.

    `passes` says whether the call is made; `mark` is the sealed ticket to mark its answer with.
    """

    passes: bool
    action: str
    reason: str
    decision_id: str
    retry_after_s: int | None = None
    step_up: str | None = None
    appeal_id: str | None = None
    features_off: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    mark: str | None = None
    shows: Shows | None = None
    """What is done with the reply's reasoning, by a face that sees replies; None where all of it is shown."""


class Gate:
    """The gate of one process.

    Args:
        rules: what is in force. budgets: where budgets are kept. ledger: where decisions are written down.
        secret: the ids of decisions and appeals are cut from it, so that nobody guesses another's.
        origin: what no other process of this installation is called, such as host, process and start.
        tickets: the sealed ticket of a mark key id, or None where there is none.
    """

    def __init__(
        self,
        rules: Rules,
        budgets: Budgets,
        ledger: Ledger,
        *,
        secret: Secret,
        origin: str,
        tickets: Callable[[str], str | None] = lambda key_id: None,
    ) -> None:
        self._rules, self._budgets, self._ledger, self._tickets = rules, budgets, ledger, tickets
        self._secret, self._origin, self._count = secret, origin, count()
        self.n_unread = 0
        """Requests that a face could not read, and refused without a decision."""

    @property
    def rules(self) -> Rules:
        """What is in force."""
        return self._rules

    @property
    def ledger(self) -> Ledger:
        """Where decisions are written down."""
        return self._ledger

    def admit(self, request: Request) -> Admission:
        """Decide one call. Never raises for what a caller, a store or a disk does.

        Cost: tens of microseconds and, for budgets in Redis, one round trip.
        """
        draft = self._draft(request)
        if draft.charges:
            try:
                draft.outcome = self._budgets.reserve(draft.decision_id, draft.charges)
            except Exception as error:
                draft.failure = _said(error)
        return self._concluded(request, draft)

    async def admit_soon(self, request: Request) -> Admission:
        """`admit` for an event loop."""
        draft = self._draft(request)
        if draft.charges:
            try:
                draft.outcome = await self._budgets.reserve_soon(draft.decision_id, draft.charges)
            except Exception as error:
                draft.failure = _said(error)
        return self._concluded(request, draft)

    def settle(self, decision_id: str, used: int) -> bool:
        """Say how many tokens a call used; without that, all it reserved stays spent. False where that is so anyway."""
        try:
            return self._budgets.settle(decision_id, used)
        except BudgetsError:
            return False

    async def settle_soon(self, decision_id: str, used: int) -> bool:
        """`settle` for an event loop."""
        try:
            return await self._budgets.settle_soon(decision_id, used)
        except BudgetsError:
            return False

    def showed(
        self, admission_id: str, account_id: str, shows: Shows, seen: Mapping[str, object], now: datetime
    ) -> None:
        """Write down what was done with the reasoning of a reply: counts and failures, no text."""
        body = {
            "decision_id": admission_id, "account_id": account_id.encode("utf-8", "replace").decode(),
            "reasoning": shows.how, "rule": shows.rule, "shadow": shows.shadow, **seen,
        }  # fmt: skip
        self._ledger.offer("reasoning", body, now)

    def _draft(self, request: Request) -> _Draft:
        draft = _Draft(self._name(f"decision\0{self._origin}\0{next(self._count)}"))
        try:
            draft.policy = policy = self._rules.policy
            countries = self._rules.countries
            if countries is not None and request.country is None:
                request = replace(request, country=countries.of(request.ip))
            ruling = decide(request, policy, self._rules.snapshot)
            charges = charges_of(request, ruling)
            if ruling.mark_key_id is not None:
                draft.ticket = self._tickets(ruling.mark_key_id)
                if not draft.ticket:
                    draft.failure = f"there is no ticket for the mark {ruling.mark_key_id}"
            draft.ruling, draft.charges = ruling, charges
        except Exception as error:
            draft.failure = _said(error)
        return draft

    def _name(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), digest_size=16, key=self._secret.reveal()).hexdigest()

    def _concluded(self, request: Request, draft: _Draft) -> Admission:
        """The answer, once it is written down; where it cannot be, the answer to that."""
        if draft.failure is None and self._ledger.failure is not None:
            draft.failure = _UNWRITTEN
        admission = _answer(request, draft)
        if admission.action not in ("allow", "mark"):
            admission = replace(admission, appeal_id=self._name(f"appeal\0{draft.decision_id}"))
        if self._ledger.offer("decision", _body(request, draft, admission), request.now):
            return admission
        if draft.failure is not None or not admission.passes:
            return admission
        draft.failure = _UNWRITTEN
        return _answer(request, draft)


@dataclass(slots=True)
class _Draft:
    """A decision in the making: the policy and its ruling, what is charged, and what failed or was refused."""

    decision_id: str
    policy: Policy | None = None
    ruling: Ruling | None = None
    charges: tuple[Charge, ...] = ()
    outcome: Outcome | None = None
    ticket: str | None = None
    failure: str | None = None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _answer(request: Request, draft: _Draft) -> Admission:
    ruling, outcome = draft.ruling, draft.outcome
    is_spent = ruling is not None and outcome is not None and not outcome.admitted and not ruling.shadow
    # What a budget refused stays refused, whatever else fails.
    if ruling is None or (draft.failure is not None and not is_spent):
        return _failed(request, draft)
    passes, action, reason, wait = ruling.action not in REFUSING, ruling.action, ruling.reason, ruling.retry_after_ms
    if outcome is not None and is_spent:
        passes, wait = False, outcome.retry_after_ms
        action, reason = ("slow", COARSE["slow"]) if wait is not None else ("deny", TOO_LARGE)
    return Admission(
        passes=passes, action=action, reason="ok" if passes and action == "slow" else reason,
        decision_id=draft.decision_id, retry_after_s=None if passes else _rounded(wait), step_up=ruling.step_up,
        features_off=ruling.features_off, max_output_tokens=ruling.max_output_tokens,
        mark=draft.ticket if passes else None, shows=ruling.shows if passes else None,
    )  # fmt: skip


def _failed(request: Request, draft: _Draft) -> Admission:
    """What the policy says for when the gate fails. Shadow mode refuses nothing; a refusal stays one."""
    policy, ruling = draft.policy, draft.ruling
    if ruling is not None and ruling.action in REFUSING:
        return Admission(False, ruling.action, ruling.reason, draft.decision_id, step_up=ruling.step_up)
    mode = "deny" if policy is None else "allow" if policy.mode == "shadow" else policy.on_failure
    if policy is None or mode == "deny":
        return Admission(False, "deny", UNAVAILABLE, draft.decision_id)
    if mode == "allow":
        off = ruling.features_off if ruling is not None else frozenset[str]()
        most = ruling.max_output_tokens if ruling is not None else None
        shows = ruling.shows if ruling is not None else None
        return Admission(True, "allow", "ok", draft.decision_id, features_off=off, max_output_tokens=most, shows=shows)
    off, least = frozenset(SWITCHABLE), policy.levels["none"].max_output_tokens
    return Admission(
        True, "allow_limited", COARSE["allow_limited"], draft.decision_id, features_off=off, max_output_tokens=least,
        shows=_least_shown(request, policy, ruling),
    )  # fmt: skip


def _least_shown(request: Request, policy: Policy, ruling: Ruling | None) -> Shows | None:
    """What the lowest level is shown where the ruling is not known."""
    if ruling is not None:
        return ruling.shows
    how, rule = policy.reasoning.show(account_id="", org_id=None, level="none", action="allow_limited", verdict=None)
    opens = policy.reasoning.opens(request.model)
    return None if how == "keep" else Shows(how, rule, opens, policy.mode == "shadow", policy.on_failure)


def _rounded(wait_ms: int | None) -> int | None:
    if wait_ms is None:
        return None
    return next((wait for wait in WAITS_S if wait * 1000 >= wait_ms), -(-wait_ms // 86_400_000) * 86_400)


def _body(request: Request, draft: _Draft, admission: Admission) -> dict[str, object]:
    """What the operator may read of a decision; the client is told none of it but the reason."""
    ruling, outcome = draft.ruling, draft.outcome
    refused: Sequence[str] = ()
    if outcome is not None and outcome.refused_by is not None:
        refused = (outcome.refused_by.kind, outcome.refused_by.name)
    return {
        "decision_id": draft.decision_id,
        "account_id": request.account_id.encode("utf-8", "replace").decode(),
        "action": admission.action,
        "passes": admission.passes,
        "would": ruling.would if ruling is not None else None,
        "reason": admission.reason,
        "rule": ruling.rule if ruling is not None else None,
        "precise": ruling.precise if ruling is not None else None,
        "failure": draft.failure,
        "refused_by": ":".join(refused) or None,
        "wait_ms": outcome.retry_after_ms if outcome is not None else None,
        "retry_after_ms": None if admission.retry_after_s is None else admission.retry_after_s * 1000,
        "appeal_id": admission.appeal_id,
        "lineage_id": ruling.lineage_id if ruling is not None else None,
        "policy_version": draft.policy.version if draft.policy is not None else None,
        "shadow": draft.policy is not None and draft.policy.mode == "shadow",
        "n_tokens": ruling.n_tokens if ruling is not None else request.n_tokens,
        "model": request.model,
        "reasoning": admission.shows.how if admission.shows is not None else None,
    }
