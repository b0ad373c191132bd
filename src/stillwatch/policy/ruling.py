"""ruling: what a face knows of one call, and what the policy says of it before any budget is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stillwatch.policy.model import Budget
from stillwatch.policy.showing import Shows

SEVERITY = {"allow": 0, "allow_limited": 1, "mark": 2, "slow": 3, "step_up": 4, "deny": 5}
"""Which of two actions wins: the stricter."""

REFUSING = frozenset({"step_up", "deny"})
"""Actions under which the call is not made."""

COARSE = {
    "allow": "ok",
    "allow_limited": "limited",
    "slow": "try_later",
    "step_up": "verify_identity",
    "deny": "not_available",
    "mark": "ok",
}
"""The word a client is told for each action. It never says which rule, budget or finding was behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a face knows of one call. It holds no text."""

    account_id: str
    now: datetime
    """With a zone; the face's clock."""
    org_id: str | None = None
    payment_fingerprint: str | None = None
    ip: str | None = None
    """The client's address, after trusted proxies."""
    country: str | None = None
    """ISO 3166-1 alpha-2, from the operator's own data; see `geo.Countries`."""
    identity_level: str = "none"
    """Of `model.LEVELS`; another word counts as `none`."""
    model: str | None = None
    capability: str = "chat"
    features: frozenset[str] = frozenset()
    """Of `model.FEATURES`, as asked."""
    n_tokens: int = 0
    """Tokens to reserve: input plus the most that may come out."""
    n_input_tokens: int = 0
    n_answers: int = 0
    """Answers that the face holds to a cap, so that no more than the cap is reserved for each; 0 where it cannot."""
    max_output_tokens: int | None = None
    is_limitable: bool = True
    """Whether the face can hold the answer to a length, leave features out of it, and read its reasoning."""

    def reserves(self, cap: int | None) -> int:
        """Tokens to reserve where no answer is longer than a cap.

        >>> Request(account_id="a", now=datetime.max, n_tokens=4_106, n_input_tokens=10, n_answers=1).reserves(500)
        510
        """
        if cap is None or not self.n_answers:
            return self.n_tokens
        return min(self.n_tokens, self.n_input_tokens + cap * self.n_answers)


@dataclass(frozen=True, slots=True)
class Meter:
    """One budget applied to one subject."""

    budget: Budget
    subject: str
    """In clear; hash it before it leaves the process."""

    @property
    def key(self) -> str:
        """What the subject is counted under: unique among budgets and subjects."""
        return f"{self.budget.name}\x1f{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the policy says of one call."""

    action: str
    """What to do now, of `records.ACTIONS`; in shadow mode always `allow`."""
    would: str
    """What the policy says, shadow mode or not."""
    rule: str
    """The rule that decided, such as `verdict:campaign`, `model`, `network:office`; `` where none did."""
    reason: str
    """The client's word (`COARSE`)."""
    precise: str
    """For the operator and the journal only."""
    retry_after_ms: int | None
    step_up: str | None
    """The identity level asked for."""
    features_off: frozenset[str]
    """Features that must be left out, asked for or not: some servers give reasoning unasked. Empty in shadow mode."""
    max_output_tokens: int | None
    """The most the answer may hold; None for no cap. Not enforced in shadow mode."""
    n_tokens: int
    """Tokens to reserve; in shadow mode as though the cap held, so that budgets refuse what they would."""
    meters: tuple[Meter, ...]
    """Budgets to reserve from, all or none; empty where the call is refused anyway."""
    mark_key_id: str | None
    lineage_id: str | None
    licensed: bool
    policy_version: str
    shadow: bool
    """In shadow mode budgets are counted, and what they would refuse is journaled, but nothing is refused."""
    shows: Shows | None = None
    """What is done with the reply's reasoning; None where all of it is shown."""
