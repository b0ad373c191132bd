"""One contract for every store of budgets, against a reference that counts with fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.errors import BudgetsError
from stillwatch.policy.budgets import LARGEST_BURST_UNITS, MOST_CHARGES, Charge, Limit
from stillwatch.policy.budgets_memory import MemoryBudgets
from tests.policy.stores import STORES, Clock, Reference, limit, soon

Make = Callable[..., Any]

LIMITS = [
    Limit(100_000, 3_600_000, 20),
    Limit(7, 1_000, 30),
    Limit(3, 1, 5),
    Limit(1, 86_400_000, 2),
    Limit(60, 60_000, 60),
]


@pytest.fixture(params=list(STORES))
def make(request: pytest.FixtureRequest) -> Make:
    """Each way to keep budgets."""
    return STORES[request.param]


def tokens(cost: int, subject: str = "a", kind: Any = "account", of: Limit | None = None, **more: Any) -> Charge:
    return Charge(kind, subject, of or limit(), cost, **more)


def charged(largest: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Some of the limits, each with a cost."""
    one = st.tuples(st.integers(0, len(LIMITS) - 1), st.integers(0, largest))
    return st.lists(one, min_size=1, max_size=4, unique_by=lambda pair: pair[0])


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(-50, 2_000)),
        st.tuples(st.just("reserve"), charged(40)),
        st.tuples(st.just("settle"), st.integers(0, 6), st.integers(0, 60)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(steps=steps, is_new=st.booleans())
def test_a_store_agrees_with_fractions(make: Make, steps: list[Any], is_new: bool) -> None:
    """Over any interleaving of calls, settlements and time, also backwards, a store decides as the reference does."""
    clock = Clock()
    store, reference = make(clock, is_new=is_new), Reference(now=clock.ms, is_new=is_new)
    leases = 0
    for step in steps:
        if step[0] == "pass":
            clock.turn(step[1])
        elif step[0] == "reserve":
            charges = [Charge("account", str(at), LIMITS[at], cost) for at, cost in step[1]]
            leases += 1
            lease = f"lease {leases}"
            assert store.reserve(lease, charges).admitted is reference.reserve(lease, charges, clock.ms)
        else:
            lease = f"lease {leases - step[1]}"
            assert store.settle(lease, step[2]) is reference.settle(lease, step[2], clock.ms)


@given(steps=steps, is_new=st.booleans())
def test_never_more_than_the_rate_and_one_burst(make: Make, steps: list[Any], is_new: bool) -> None:
    """What is admitted and not given back stays within rate times time and one burst."""
    clock = Clock()
    store = make(clock, is_new=is_new)
    spent: Counter[int] = Counter()
    open_: dict[int, list[tuple[int, int]]] = {}
    start = latest = clock.ms
    for number, step in enumerate(steps):
        if step[0] == "pass":
            clock.turn(step[1])
            latest = max(latest, clock.ms)
        elif step[0] == "reserve":
            charges = [Charge("account", str(at), LIMITS[at], cost) for at, cost in step[1]]
            if store.reserve(str(number), charges).admitted:
                spent.update(dict(step[1]))
                open_[number] = step[1]
        elif open_:
            lease, taken = open_.popitem()
            used = min(step[2], *(cost for _, cost in taken))
            assert store.settle(str(lease), used)
            spent.subtract({at: cost - used for at, cost in taken})
        for at, n in spent.items():
            one = LIMITS[at]
            allowed = one.per * (latest - start) / one.period_ms + (one.burst if is_new else 0)
            assert n <= allowed + 1e-6


def test_all_or_nothing(make: Make) -> None:
    """Where one key is spent, nothing is taken from the others, and the refusal names the key and the wait."""
    store = make(Clock())
    mine, ours = tokens(4, "a"), tokens(4, "campaign 1", "lineage", limit(burst=10))
    assert [store.reserve(f"{n}", [tokens(4, f"{n}"), ours]).admitted for n in range(4)] == [True, True, False, False]
    refused = store.reserve("more", [mine, ours])
    assert refused.refused_by == ours and refused.retry_after_ms == 20
    assert store.reserve("other", [tokens(10, "3")]).admitted
    assert store.reserve("mine", [tokens(10, "a")]).admitted


def test_many_accounts_share_the_budget_of_their_lineage(make: Make) -> None:
    """A hundred fresh accounts of one campaign get no more than the campaign may have."""
    store = make(Clock())
    shared = Limit(1000, 3_600_000, 50)
    admitted = [
        store.reserve(f"{n}", [tokens(5, f"{n}"), tokens(5, "c", "lineage", shared)]).admitted for n in range(100)
    ]
    assert sum(admitted) == 10


def test_the_wait_is_enough_and_not_too_long(make: Make) -> None:
    """After the wait that was told a call fits; a millisecond before it does not."""
    clock = Clock()
    store, of = make(clock), Limit(7, 1_000, 30)
    assert store.reserve("1", [tokens(30, of=of)]).admitted
    wait = store.reserve("2", [tokens(11, of=of)]).retry_after_ms
    assert wait == 1572
    clock.turn(wait - 1)
    assert not store.reserve("3", [tokens(11, of=of)]).admitted
    clock.turn(1)
    assert store.reserve("4", [tokens(11, of=of)]).admitted


def test_more_than_a_burst_never_fits(make: Make) -> None:
    """A call larger than the burst is refused without a time to come back."""
    refused = make(Clock()).reserve("1", [tokens(11)])
    assert (refused.admitted, refused.retry_after_ms, refused.refused_by) == (False, None, tokens(11))


def test_what_is_never_settled_stays_spent(make: Make) -> None:
    """A lost call gives nothing back; a settled one gives back what it did not use, once."""
    store = make(Clock())
    assert store.reserve("1", [tokens(10)]).admitted
    assert not store.reserve("2", [tokens(1)]).admitted
    assert store.settle("1", 4)
    assert not store.settle("1", 0)
    assert not store.settle("never made", 0)
    assert store.reserve("3", [tokens(6)]).admitted
    assert not store.reserve("4", [tokens(1)]).admitted


def test_requests_do_not_come_back(make: Make) -> None:
    """A charge that does not settle stays, while the tokens of the same call come back."""
    store = make(Clock())
    call = [tokens(10), tokens(1, name="requests", of=limit(burst=2), settles=False)]
    for n in range(2):
        assert store.reserve(f"{n}", call).admitted
        assert store.settle(f"{n}", 0)
    assert store.reserve("3", call).refused_by == call[1]


def test_an_excess_is_owed(make: Make) -> None:
    """Who used more than was reserved waits for the difference too."""
    clock = Clock()
    store = make(clock)
    assert store.reserve("1", [tokens(1)]).admitted
    assert store.settle("1", 110)
    clock.turn(999)
    assert not store.reserve("2", [tokens(0)]).admitted
    clock.turn(1)
    assert store.reserve("3", [tokens(0)]).admitted


def test_a_lost_store_starts_empty(make: Make) -> None:
    """Without the word that nothing was spent, a key has the steady rate and no burst."""
    clock = Clock()
    store = make(clock, is_new=False)
    assert not store.reserve("1", [tokens(1)]).admitted
    clock.turn(30)
    assert store.reserve("2", [tokens(3)]).admitted
    assert (
        store.reserve("3", [tokens(1, "another")]).admitted is not True
        or store.reserve("x", [tokens(3, "new")]).admitted
    )


def test_time_going_backwards_opens_nothing(make: Make) -> None:
    """A clock set back, then put right, pays no debt twice."""
    clock = Clock()
    store = make(clock)
    assert store.reserve("1", [tokens(10)]).admitted
    for n in range(5):
        clock.turn(-500)
        assert not store.reserve(f"back {n}", [tokens(1)]).admitted
        clock.turn(500)
        assert not store.reserve(f"again {n}", [tokens(1)]).admitted


def test_asking_twice_takes_once(make: Make) -> None:
    """A reservation that is repeated because its answer was lost is not taken again."""
    store = make(Clock())
    assert store.reserve("1", [tokens(6)]).admitted
    assert store.reserve("1", [tokens(6)]).admitted
    assert store.reserve("2", [tokens(4)]).admitted


def test_a_new_rate_keeps_the_debt(make: Make) -> None:
    """Where a policy changes the rate, what is owed stays the same number of tokens."""
    clock = Clock()
    store = make(clock)
    assert store.reserve("1", [tokens(10, of=Limit(7, 1_000, 10))]).admitted
    assert store.reserve("2", [tokens(1, of=Limit(1, 3, 10))]).retry_after_ms == 3
    clock.turn(3)
    assert store.reserve("3", [tokens(1, of=Limit(1, 3, 10))]).admitted


def test_event_loops_get_the_same(make: Make) -> None:
    """The methods for event loops decide as the others do, on the same budgets."""
    store = make(Clock())
    other = soon(store)
    assert other.reserve("1", [tokens(10)]).admitted
    assert not store.reserve("2", [tokens(10)]).admitted
    assert other.settle("1", 0)
    assert store.reserve("3", [tokens(10)]).admitted


@pytest.mark.parametrize("subject", ["", "a b\n1 2 3 4", "\0", "é" * 5000, "{x}", "\ud800"])
def test_any_text_is_a_subject(make: Make, subject: str) -> None:
    """Names that try to look like something else are names."""
    store = make(Clock())
    assert store.reserve("1", [tokens(10, subject)]).admitted
    assert not store.reserve("2", [tokens(10, subject)]).admitted
    assert store.reserve("3", [tokens(10, subject + "'")]).admitted
    assert store.settle("1", 0)
    assert store.reserve("4", [tokens(10, subject)]).admitted


def test_what_makes_no_sense_is_refused(make: Make) -> None:
    """Two charges of one budget, too many, and a negative use are errors, and nothing is taken."""
    store = make(Clock())
    for wrong in ([tokens(1), tokens(2)], [tokens(1, f"{n}") for n in range(MOST_CHARGES + 1)]):
        with pytest.raises(BudgetsError):
            store.reserve("1", wrong)
    with pytest.raises(BudgetsError):
        store.settle("1", -1)
    assert store.reserve("2", [tokens(10)]).admitted


@pytest.mark.parametrize(
    "numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-5, 1, 1), (True, 1, 1), (1.5, 1, 1), (1, 1 << 50, 1 << 50)]
)
def test_a_limit_is_positive_and_countable(numbers: Any) -> None:
    """A limit that cannot be counted is refused when it is made."""
    with pytest.raises(BudgetsError):
        Limit(*numbers)


@given(
    per=st.integers(1, 10**12), period_ms=st.integers(1, 36_525 * 86_400_000), burst=st.integers(1, 10**12)
)  # fmt: skip
def test_a_rate_too_fine_is_rounded_down(per: int, period_ms: int, burst: int) -> None:
    """What is counted is never more than the rate, and within a millionth of it wherever it can be counted so well."""
    try:
        one = Limit(per, period_ms, burst)
    except BudgetsError:
        assert Fraction(per, period_ms) * (LARGEST_BURST_UNITS // burst) < 1 or per > period_ms * LARGEST_BURST_UNITS
        return
    counted, asked = Fraction(one.pay, one.unit), Fraction(per, period_ms)
    assert counted <= asked
    assert one.most <= LARGEST_BURST_UNITS
    assert one.pay < 10**6 or counted > asked * Fraction(999_998, 10**6)


@pytest.mark.parametrize("cost", [-1, True, 1.0, 1 << 60])
def test_a_cost_is_whole(cost: Any) -> None:
    """No charge gives tokens back by being negative."""
    with pytest.raises(BudgetsError):
        tokens(cost)


def test_memory_is_bounded_and_flooding_it_opens_nothing() -> None:
    """Keys beyond the bound push out the oldest; one that owed starts empty when it returns, and so do all not held."""
    clock = Clock()
    store = MemoryBudgets(clock, is_new=True, max_keys=10, max_leases=5)
    assert store.reserve("mine", [tokens(10, "mine")]).admitted
    for n in range(100):
        store.reserve(f"{n}", [tokens(1, f"{n}")])
    assert len(store) == 10
    assert not store.reserve("again", [tokens(1, "mine")]).admitted
    assert not store.settle("mine", 0)
    clock.turn(100)
    assert store.reserve("later", [tokens(10, "mine")]).admitted


def test_keys_that_owe_nothing_are_pushed_out_for_nothing() -> None:
    """Where what goes was paid back, a new key has its full burst."""
    clock = Clock()
    store = MemoryBudgets(clock, is_new=True, max_keys=10)
    for n in range(50):
        assert store.reserve(f"{n}", [tokens(10, f"{n}")]).admitted
        clock.turn(100)
