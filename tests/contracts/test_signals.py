"""What every Signal promises: an e-value whose mean is at most 1 where its null is true, a whole finding, or None."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from stillwatch.detect.traits import FAMILIES, N_HALVES
from stillwatch.evidence.signal import Finding, Signal, Subject
from stillwatch.records import EXCHANGES, TIMESTAMP
from stillwatch.sim.world import Played, play
from tests.contracts.seams import SEAMS, implementations, modules
from tests.detect.making import START_US
from tests.evidence.making import KEYS, Town
from tests.worlds import SEED, scenario

MADE_OF: dict[str, Any] = {"key": KEYS.value}
"""What a Signal that does not stand ready is made of, by the name of the field."""

TESTED_ON_THE_OTHER_HALF = {"work_templates", "contrast"}
"""Signals that choose on one half of a group what they test on the other; they get draws made for that as well."""

N_DRAWS = 120
SIZES = (8, 25, 70)
"""Accounts of the groups drawn."""


def every_signal() -> list[Signal]:
    """Every Signal there is, found by looking: those that stand ready in a module, and one of each other class."""
    classes = implementations(Signal)
    ready = [value for module in modules(SEAMS[Signal]) for value in vars(module).values() if type(value) in classes]
    found = {signal.name: signal for signal in ready}
    for made in classes:
        if made not in {type(signal) for signal in ready}:
            needed = [field.name for field in fields(made) if field.default is MISSING and field.init]
            signal = made(**{name: MADE_OF[name] for name in needed})
            found[signal.name] = signal
    return [found[name] for name in sorted(found)]


SIGNALS = every_signal()


def each_signal(*, but: Collection[str] = (), **broken: str) -> pytest.MarkDecorator:
    """Every Signal in turn, but for some; those that are known to break the promise are named with the reason."""
    return pytest.mark.parametrize(
        "signal",
        [
            pytest.param(
                signal,
                id=signal.name,
                marks=[pytest.mark.xfail(reason=broken[signal.name])] if signal.name in broken else [],
            )
            for signal in SIGNALS
            if signal.name not in but
        ],
    )


@cache
def quiet_world() -> Played:
    """A world without a campaign, whose sign-up hours, telephones, mail domains and conversations mean nothing."""
    played = play(scenario(campaign=False), seed=SEED)
    rng = np.random.default_rng(SEED)
    bursts = START_US - rng.integers(1, 400, 40) * 86_400_000_000
    signed_up = bursts[rng.integers(0, 40, played.accounts.num_rows)] + rng.integers(0, 10**9, played.accounts.num_rows)
    at = played.accounts.column_names.index("created_at")
    accounts = played.accounts.set_column(at, "created_at", pa.array(signed_up).cast(TIMESTAMP))
    phones = pa.array([f"phone {number}" for number in rng.integers(0, 90, accounts.num_rows)])
    accounts = accounts.drop_columns([name for name in accounts.column_names if name == "phone_hash"])
    accounts = accounts.append_column("phone_hash", phones)
    at = accounts.column_names.index("email_domain")
    domains = pa.array([f"domain-{number}.example" for number in rng.integers(0, 70, accounts.num_rows)])
    accounts = accounts.set_column(at, "email_domain", domains)
    return replace(played, accounts=accounts, exchanges=talking(played.exchanges, rng))


def talking(exchanges: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The exchanges as turns of conversations that chance deals out, whoever sends them."""
    turns = [
        [{"role": role, "content": f"{role} {at} of {number}"} for at, role in enumerate(("user", "assistant", "user"))]
        for number in range(exchanges.num_rows // 2)
    ]
    dealt = pa.array(rng.integers(0, len(turns), exchanges.num_rows))
    return exchanges.append_column("messages", pa.array(turns, EXCHANGES.field("messages").type).take(dealt))


@pytest.fixture(scope="session")
def town() -> Town:
    """The world without a campaign."""
    return Town(quiet_world().exchanges, quiet_world().accounts)


@pytest.fixture(scope="session")
def draws(town: Town) -> list[Subject]:
    """Groups drawn independently of everything: the null of every Signal is true of them by construction."""
    rng = np.random.default_rng(20)
    n = len(town.population)
    return [town.subject(np.sort(rng.choice(n, SIZES[turn % len(SIZES)], replace=False))) for turn in range(N_DRAWS)]


@pytest.fixture(scope="session")
def split_draws(town: Town) -> list[Subject]:
    """Groups whose choosers share a template and whose tested half is drawn at random, from those it is ranked with."""
    rng = np.random.default_rng(21)
    tested = np.flatnonzero(town.population.coin)
    carried = (town.traits.share[:, np.flatnonzero(town.traits.of_family("content"))] > 0).tocsc()
    popular = np.flatnonzero(np.asarray(carried.sum(axis=0)).ravel() >= 30)
    subjects = []
    for turn in range(N_DRAWS):
        hub = popular[turn % len(popular)]
        carriers = carried.indices[carried.indptr[hub] : carried.indptr[hub + 1]]
        choosers = rng.permutation(np.setdiff1d(carriers, tested))[:25]
        members = np.union1d(choosers, rng.choice(tested, SIZES[turn % len(SIZES)], replace=False))
        eligible = np.zeros(len(town.population), bool)
        eligible[tested] = eligible[members] = True
        subjects.append(replace(town.subject(members), eligible=eligible))
    return subjects


def whole(finding: Finding, signal: Signal) -> None:
    """A finding has everything that a row of evidence needs, and agrees with the Signal that made it."""
    assert finding.signal == signal.name
    assert finding.family == signal.family and finding.family in FAMILIES
    assert finding.question == signal.question
    assert finding.null_id and finding.h0 and finding.h1 and finding.h0 != finding.h1
    assert not math.isnan(finding.e_log2) and finding.e_log2 < math.inf
    assert finding.n >= 1 and not math.isnan(finding.statistic)
    assert not math.isnan(finding.effect)
    if math.isfinite(finding.lo) and math.isfinite(finding.hi):
        assert finding.lo <= finding.effect <= finding.hi


def fair(signal: Signal, subjects: list[Subject], *, fewest: int = 60) -> None:
    """The mean of a Signal's e-values is at most 1 up to three standard errors, and e >= k no oftener than 1 in k."""
    findings = [signal.weigh(subject) for subject in subjects]
    told = [finding for finding in findings if finding is not None]
    for finding in told:
        whole(finding, signal)
    # Nothing said is a bet not made: an e-value of 1.
    e = np.exp2([finding.e_log2 if finding else 0.0 for finding in findings])
    assert len(told) >= fewest, f"{signal.name} spoke on {len(told)} of {len(subjects)} draws"
    assert e.mean() <= 1 + 3 * e.std(ddof=1) / math.sqrt(len(e))
    for k in (4, 16, 64, 256, 1024):
        assert (e >= k).sum() <= binom.ppf(0.999, len(e), 1 / k), f"e >= {k} in {(e >= k).sum()} of {len(e)} draws"


@pytest.mark.slow
@each_signal()
def test_an_e_value_has_mean_one_at_most_where_the_null_is_true(
    signal: Signal, draws: list[Subject], split_draws: list[Subject]
) -> None:
    """Over groups that have nothing to do with what is tested, no Signal finds more than chance would."""
    fair(signal, [*draws, *split_draws] if signal.name in TESTED_ON_THE_OTHER_HALF else draws)


@pytest.mark.slow
@each_signal(
    but=TESTED_ON_THE_OTHER_HALF,
)
def test_a_group_may_be_a_quarter_of_everybody(signal: Signal, town: Town) -> None:
    """A large group leaves few peers to compare it with, and that must not make it look guilty."""
    rng = np.random.default_rng(6)
    n = len(town.population)
    fair(signal, [town.subject(np.sort(rng.choice(n, n // 4, replace=False))) for _ in range(800)])


def without(signal: Signal) -> Town:
    """The same world in logs that lack every column a Signal needs."""
    played = quiet_world()
    exchanges, accounts = (
        table.select([name for name in table.column_names if name not in signal.needs])
        for table in (played.exchanges, played.accounts)
    )
    return Town(exchanges, accounts)


@each_signal()
def test_a_signal_invents_nothing(signal: Signal) -> None:
    """Where the columns it needs are absent, a Signal has nothing to say about any group."""
    bare = without(signal)
    rng = np.random.default_rng(23)
    n = len(bare.population)
    for size in SIZES:
        assert signal.weigh(bare.subject(np.sort(rng.choice(n, size, replace=False)))) is None


@each_signal()
def test_who_and_when_alone_tell_nothing(signal: Signal) -> None:
    """Of logs with nothing but accounts and instants, no Signal has anything to say."""
    bare = Town(quiet_world().exchanges.select(["account_id", "ts"]), None)
    assert signal.weigh(bare.subject(np.arange(0, 400, 7))) is None


@each_signal()
def test_a_group_no_half_has_formed_is_no_operator(signal: Signal, town: Town) -> None:
    """Where neither half of the hubs shows a group, nothing independent is left to test one operator on."""
    members = np.arange(0, 400, 7)
    subject = town.subject(members)
    finding = signal.weigh(replace(subject, candidate=replace(subject.candidate, halves=(None,) * N_HALVES)))
    if finding is not None and signal.question == "operator":
        assert finding.e_log2 <= 0
    if finding is not None:
        whole(finding, signal)


@each_signal()
def test_the_same_subject_gives_the_same_finding(signal: Signal, town: Town) -> None:
    """A Signal keeps nothing from one subject to the next, and changes nothing in it."""
    subject = town.subject(np.arange(0, 500, 11))
    first = signal.weigh(subject)
    signal.weigh(town.subject(np.arange(3, 400, 9)))
    again = signal.weigh(subject)
    assert (first is None) == (again is None)
    if first is not None and again is not None:
        assert first.e_log2 == again.e_log2 and first.statistic == again.statistic and first.n == again.n
