"""budgets_memory: budgets in the memory of one process.

Memory is bounded. The key touched longest ago goes first; where it still owed something, every key that is not held
counts as lost from then on and starts empty, so that flooding the store with keys never buys allowance.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from stillwatch.errors import BudgetsError
from stillwatch.policy.budgets import Charge, Limit, Outcome, checked, owed, wait_ms

Key = tuple[str, str, str]


class MemoryBudgets:
    """Budgets of one process.

    Args:
        clock: milliseconds, such as `lambda: time.monotonic_ns() // 1_000_000`.
        is_new: nothing was spent before now, so every key has a full burst. Say so only where that is known: after a
            restart it is not, and keys start empty.
        max_keys: keys held, about 350 bytes each. max_leases: calls under way; the oldest beyond stays spent.
    """

    def __init__(
        self, clock: Callable[[], int], *, is_new: bool = False, max_keys: int = 2_000_000, max_leases: int = 200_000
    ) -> None:
        if max_keys < 1 or max_leases < 1:
            raise BudgetsError("a store that holds nothing limits nothing", expected="max_keys and max_leases of 1 up")
        self._clock, self._max_keys, self._max_leases = clock, max_keys, max_leases
        self._held: OrderedDict[Key, tuple[Limit, int, int]] = OrderedDict()
        self._leases: OrderedDict[str, Sequence[Charge]] = OrderedDict()
        self._lock = Lock()
        self._now = clock()
        self._began: int | None = None if is_new else self._now

    def __len__(self) -> int:
        """Keys held."""
        return len(self._held)

    def reserve(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        """Take every charge, or none. Cost: a few microseconds; constant in the number of keys held."""
        checked(charges)
        with self._lock:
            now = self._tick()
            if lease in self._leases:
                return Outcome(True)
            debts = [self._debt(charge, now) for charge in charges]
            pairs = zip(charges, debts, strict=True)
            outcome = Outcome.read(charges, [wait_ms(charge.limit, debt, charge.cost) for charge, debt in pairs])
            if not outcome.admitted:
                return outcome
            for charge, debt in zip(charges, debts, strict=True):
                self._hold(charge, debt + charge.cost * charge.limit.unit, now)
            self._leases[lease] = charges
            if len(self._leases) > self._max_leases:
                self._leases.popitem(last=False)
            return outcome

    def settle(self, lease: str, used: int) -> bool:
        """Give back what was not used, or take what was used beyond."""
        if used < 0:
            raise BudgetsError("a call cannot have used fewer than no tokens", got=str(used))
        with self._lock:
            now = self._tick()
            charges = self._leases.pop(lease, None)
            if charges is None:
                return False
            for charge in charges:
                if charge.settles:
                    debt = self._debt(charge, now) + (used - charge.cost) * charge.limit.unit
                    self._hold(charge, max(0, debt), now)
            return True

    async def reserve_soon(self, lease: str, charges: Sequence[Charge]) -> Outcome:
        """`reserve`, which does not wait for anything."""
        return self.reserve(lease, charges)

    async def settle_soon(self, lease: str, used: int) -> bool:
        """`settle`, which does not wait for anything."""
        return self.settle(lease, used)

    def _tick(self) -> int:
        self._now = max(self._now, self._clock())
        return self._now

    def _debt(self, charge: Charge, now: int) -> int:
        held = self._held.get((charge.kind, charge.subject, charge.name))
        if held is None:
            return 0 if self._began is None else owed(charge.limit, charge.limit.most, self._began, now)
        limit, debt, since = held
        # A debt is in tokens and paid at today's rate; a policy that changes the rate changes what a token weighs.
        if limit.unit != charge.limit.unit:
            debt = -(-debt * charge.limit.unit // limit.unit)
        return owed(charge.limit, debt, since, now)

    def _hold(self, charge: Charge, debt: int, now: int) -> None:
        key = (charge.kind, charge.subject, charge.name)
        self._held[key] = charge.limit, debt, now
        self._held.move_to_end(key)
        while len(self._held) > self._max_keys:
            _, (limit, left, since) = self._held.popitem(last=False)
            if owed(limit, left, since, now):
                self._began = now
