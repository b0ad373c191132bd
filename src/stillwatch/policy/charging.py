"""charging: what a ruling's call costs each budget, as the stores of budgets count it."""

from __future__ import annotations

from functools import lru_cache

from stillwatch.policy.budgets import Charge, Limit
from stillwatch.policy.model import Budget
from stillwatch.policy.ruling import REFUSING, Request, Ruling


@lru_cache(maxsize=1024)
def limit_of(budget: Budget) -> Limit:
    """A policy's budget as it is counted; kept, since a policy has few."""
    return Limit(budget.amount, budget.period_s * 1000, budget.burst)


def charges_of(request: Request, ruling: Ruling) -> tuple[Charge, ...]:
    """What a call costs each budget; an account that is slowed may call once in the time its rule says."""
    if ruling.action in REFUSING:
        return ()
    charges = [
        Charge(
            meter.budget.scope,
            meter.key,
            limit_of(meter.budget),
            1 if meter.budget.unit == "requests" else ruling.n_tokens,
            name=meter.budget.name,
            settles=meter.budget.unit == "tokens",
        )
        for meter in ruling.meters
    ]
    if ruling.action == "slow" and ruling.retry_after_ms:
        pace = Limit(1, ruling.retry_after_ms, 1)
        charges.append(Charge("account", request.account_id, pace, 1, name="\x1fslow", settles=False))
    return tuple(charges)
