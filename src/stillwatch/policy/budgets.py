"""budgets: how many tokens or requests a key may have, over several keys at once, all or nothing.

The rule is the generic cell rate algorithm in its leaky-bucket form (ITU-T I.371, annex A): a key owes what it was
given, pays back at a steady rate, and may never owe more than one burst. So over any time T it is admitted at most
`rate * T + burst`. All arithmetic is on whole numbers: with the rate in lowest terms, `per / period_ms = pay / unit`,
a token weighs `unit` and `pay` is paid back per millisecond.

What a key owes before it was ever seen is a burst as of the store's beginning: a store that lost its memory opens for
nobody, it goes on at the steady rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Literal, Protocol, Self

from stillwatch.errors import BudgetsError

Kind = Literal["account", "organisation", "payment", "network", "lineage", "licence"]
"""Whose budget it is. A lineage is a campaign as it is followed over time: its accounts share one budget."""

LARGEST_BURST_UNITS = 1 << 50
"""A burst in its finest units: every sum of two such numbers is exact in a double, which is what Lua counts with."""

MOST_CHARGES = 16
MOST_KEPT_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Limit:
    """So much per period, and at most one burst at once.

    Args:
        per: tokens or requests per period. period_ms: the period. burst: the most that may be owed.

    Raises:
        BudgetsError: a number is not positive, or too large to be counted exactly.
    """

    per: int
    period_ms: int
    burst: int
    pay: int = field(init=False)
    """Units paid back per millisecond."""
    unit: int = field(init=False)
    """What one token weighs. A rate too fine to be counted exactly is rounded down."""

    def __post_init__(self) -> None:
        for name, value in (("per", self.per), ("period_ms", self.period_ms), ("burst", self.burst)):
            if type(value) is not int or not 1 <= value <= LARGEST_BURST_UNITS:
                raise BudgetsError(f"a limit's {name} makes no sense", got=repr(value), expected="a whole number, 1 up")
        common = gcd(self.per, self.period_ms)
        pay, unit = self.per // common, self.period_ms // common
        if max(self.burst * unit, pay) > LARGEST_BURST_UNITS:
            unit = min(LARGEST_BURST_UNITS // self.burst, LARGEST_BURST_UNITS * self.period_ms // self.per)
            pay = self.per * unit // self.period_ms
        if not (pay and unit):
            raise BudgetsError("a limit is too slow, or too quick, to count", got=f"{self.per} in {self.period_ms} ms")
        object.__setattr__(self, "pay", pay)
        object.__setattr__(self, "unit", unit)

    @property
    def most(self) -> int:
        """The most that may be owed, in units."""
        return self.burst * self.unit


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount asked of one budget.

    Args:
        kind: whose budget. subject: which one, as the operator names it. limit: how much it has.
        cost: tokens or requests reserved. name: tells two budgets of one subject apart, such as tokens and requests.
        settles: whether what was not used comes back; a request stays spent.
    """

    kind: Kind
    subject: str
    limit: Limit
    cost: int
    name: str = "tokens"
    settles: bool = True

    def __post_init__(self) -> None:
        if type(self.cost) is not int or not 0 <= self.cost <= LARGEST_BURST_UNITS:
            raise BudgetsError("a charge's cost makes no sense", got=repr(self.cost), expected="a whole number, 0 up")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether all charges were taken. Where not, none was: which stood in the way, and when to come back.

    `retry_after_ms` is None where it was taken, and where it can never be because the cost is more than a burst.
    """

    admitted: bool
    retry_after_ms: int | None = None
    refused_by: Charge | None = None

    @classmethod
    def read(cls, charges: Sequence[Charge], waits: Sequence[int]) -> Self:
        """From the wait of each charge in milliseconds: 0 where it fits, -1 where it never will."""
        if not any(waits):
            return cls(True)
        if -1 in waits:
            return cls(False, None, charges[waits.index(-1)])
        return cls(False, max(waits), charges[waits.index(max(waits))])


class Budgets(Protocol):
    """Where budgets are kept.

    A reservation that is never settled stays spent: so do streams that break off, calls that are lost, and leases
    that ran out. Every method raises BudgetsError where the store cannot be asked; then nothing may be assumed.
    """

    def reserve(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        """Take every charge, or none. Asking again under the same lease takes nothing more."""
        ...

    def settle(self, lease: str, used: int) -> bool:
        """Say how many tokens were used: the rest comes back, an excess is owed. Once; False for an unknown lease."""
        ...

    async def reserve_soon(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        """`reserve` for an event loop."""
        ...

    async def settle_soon(self, lease: str, used: int) -> bool:
        """`settle` for an event loop."""
        ...


def checked(charges: Sequence[Charge]) -> Sequence[Charge]:
    """The charges, once it is sure that they can be taken together.

    Raises:
        BudgetsError: there are too many, or two are of one budget.
    """
    if len(charges) > MOST_CHARGES:
        raise BudgetsError("too many budgets at once", got=str(len(charges)), expected=f"{MOST_CHARGES} at most")
    if len({(charge.kind, charge.subject, charge.name) for charge in charges}) != len(charges):
        raise BudgetsError("one budget is charged twice at once", expected="one charge for each budget")
    return charges


def owed(limit: Limit, debt: int, since_ms: int, now_ms: int) -> int:
    """What is left of a debt after the time since; time that goes backwards pays nothing."""
    return max(0, debt - limit.pay * max(0, now_ms - since_ms))


def wait_ms(limit: Limit, debt: int, cost: int) -> int:
    """How long until a cost fits beside a debt: 0 now, -1 never."""
    over = debt + cost * limit.unit - limit.most
    if over <= 0:
        return 0
    return -1 if cost > limit.burst else -(-over // limit.pay)
