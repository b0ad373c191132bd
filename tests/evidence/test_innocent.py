"""innocent: each explanation accounts for the people it is about, and none of them for a campaign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest

from stillwatch.evidence.hubs import NETWORK
from stillwatch.evidence.innocent import AGAINST_BITS, HYPOTHESES, PARTLY_BITS, hedged_bits, weigh_innocent
from stillwatch.evidence.judge import Weighed, weigh
from stillwatch.settings import Bars
from tests.contracts.test_signals import SIGNALS
from tests.evidence.making import CROWD, POPULAR, REASONED, Habits, Rng, Town, chatter, sentence, street

BAR = Bars().innocent_margin_bits_min
HEADS = ("You will now solve one task of the set below", "Answer the following item as carefully as you can")
PRODUCT = "You are the assistant of the Walnut bookshop and help its customers with orders and returns"
TOOL = "You are Sparrow, a command line agent that edits files and runs tests for its user"
BENCHMARK = [sentence(np.random.default_rng(5000 + number), 14) for number in range(40)]


def organisation(number: int, person: Habits, rng: Rng) -> None:
    """Forty accounts of one firm: its card, its office, its product's prompt, its customers' questions."""
    if number < len(CROWD):
        person.card, person.org, person.system = "card-walnut", "org-walnut", PRODUCT
        person.ip = lambda row: f"12.0.{row % 2}.5"
        person.prompt = lambda _: f"A customer of the bookshop asks: {chatter(rng)}"


def tool(number: int, person: Habits, rng: Rng) -> None:
    """Users of one popular agent, of whom forty are looked at: its prompt, its client, and nothing else in common."""
    if number < 5 * len(CROWD):
        person.system, person.agent = TOOL, "sparrow-cli/2.1 linux x64"
        person.prompt = lambda _: f"Run the tests of this folder and read: {sentence(rng)}"


def place(number: int, person: Habits, rng: Rng) -> None:
    """People of one campus, of whom forty are looked at: they ask there what people ask."""
    if number < 4 * len(CROWD):
        home = person.ip
        gate = int(rng.integers(0, 3))
        person.ip = lambda row: f"13.0.{gate}.8" if row % 3 else home(row)


def harness(number: int, person: Habits, rng: Rng) -> None:
    """Strangers who run one public benchmark: the same items in one frame, each on a card and network of their own."""
    if number < len(CROWD):
        order = rng.permutation(len(BENCHMARK))
        person.card = f"lab-{number}"
        person.ip = lambda _: f"14.{number}.1.2"
        person.prompt = lambda row: f"{HEADS[0]}. {BENCHMARK[order[row]]}. {REASONED}"


def classroom(number: int, person: Habits, rng: Rng) -> None:
    """A course: signed up within a week, in one hall, the same exercises with every step asked for, own cards."""
    if number < len(CROWD):
        order, home = rng.permutation(len(BENCHMARK)), person.ip
        person.card = f"pupil-{number}"
        person.created = datetime(2024, 9, 2, tzinfo=UTC) + timedelta(hours=int(rng.integers(0, 150)))
        person.ip = lambda row: f"16.0.{row % 2}.8" if row % 3 else home(row)
        person.prompt = lambda row: f"{HEADS[0]}. {BENCHMARK[order[row]]}. {REASONED}"


def resold(number: int, person: Habits, rng: Rng) -> None:
    """A reseller's accounts: its cards, its exits, one week; whoever buys there asks what is on their own mind."""
    if number < len(CROWD):
        person.card = f"resale-{number % 8}"
        person.created = datetime(2024, 11, 4, tzinfo=UTC) + timedelta(hours=int(rng.integers(0, 150)))
        person.ip = lambda row: f"17.0.{(number + row) % 12}.3"
        person.prompt = lambda row: f"{sentence(rng)} {number} {row}"


def course_from_home(number: int, person: Habits, rng: Rng) -> None:
    """The same course, whose pupils sit at home."""
    home = person.ip
    classroom(number, person, rng)
    person.ip = home


def best_of_several(number: int, person: Habits, rng: Rng) -> None:
    """A campaign that asks each task from several accounts, through rented networks, to take the best answer."""
    campaign(number, person, rng)
    if number < len(CROWD):
        order = np.random.default_rng(number % 10).permutation(len(BENCHMARK))
        person.prompt = lambda row: f"{HEADS[(number + row) % 2]}. {BENCHMARK[order[row]]}. {REASONED}"


def campaign(number: int, person: Habits, rng: Rng) -> None:
    """One operator: accounts of one week, a card for two, rented networks, two templates, no repeats, reasoning."""
    if number < len(CROWD):
        person.card = f"fleet-{number % 20}"
        person.created = datetime(2024, 11, 4, tzinfo=UTC) + timedelta(hours=int(rng.integers(0, 150)))
        person.ip = lambda row: f"15.0.{(number + row % 2 * 5) % 12}.3"
        person.prompt = lambda row: f"{HEADS[(number + row) % 2]}. Item {sentence(rng, 14)} {number} {row}. {REASONED}"


@dataclass(frozen=True)
class Case:
    """A street, and the explanation that accounts for its crowd."""

    change: Callable[[int, Habits, Rng], None]
    explained_by: str


CASES = {
    "one organisation": Case(organisation, "one_organisation"),
    "one tool": Case(tool, "popular_tool"),
    "one place": Case(place, "shared_network"),
    "one benchmark": Case(harness, "benchmark_harness"),
    "one class": Case(classroom, "classroom"),
    "one course, from home": Case(course_from_home, "classroom"),
    "one reseller": Case(resold, "reseller"),
}


@cache
def weighed(change: Callable[[int, Habits, Rng], None]) -> Weighed:
    """The crowd of a street, weighed by every Signal and every explanation."""
    town: Town = street(change)
    return weigh(town.subject(CROWD), SIGNALS)


def margins(change: Callable[[int, Habits, Rng], None]) -> dict[str, float]:
    """Hypothesis to the bits it leaves unexplained."""
    return {margin.hypothesis.name: margin.bits for margin in weighed(change).margins}


@pytest.mark.parametrize("name", CASES)
def test_an_innocent_cause_explains_its_own(name: str) -> None:
    """What speaks against a crowd beyond its innocent cause is under the bar, so it is no campaign."""
    case = CASES[name]
    assert margins(case.change)[case.explained_by] < BAR


def test_a_campaign_is_beyond_every_innocent_cause() -> None:
    """One operator behind several cards and networks, who asks for reasoning without repeats, clears all bars."""
    assert min(margins(campaign).values()) >= BAR
    assert min(weighed(campaign).operator_bits, weighed(campaign).harvest_bits) >= 10


@pytest.mark.parametrize("change", [campaign, *(case.change for case in CASES.values())])
def test_the_best_explanation_comes_first(change: Callable[[int, Habits, Rng], None]) -> None:
    """Every hypothesis is weighed, the smallest margin leads, and the margin is the sum of its parts."""
    found = weighed(change)
    assert sorted(margin.hypothesis.name for margin in found.margins) == sorted(each.name for each in HYPOTHESES)
    bits = [margin.bits for margin in found.margins]
    assert bits == sorted(bits) and found.best_innocent is found.margins[0]
    for margin in found.margins:
        assert margin.bits == pytest.approx(sum(margin.parts.values()))
        open_to = {*margin.hypothesis.leaves_of(found.subject), *margin.hypothesis.partly}
        assert set(margin.parts) <= {signal.family for signal in SIGNALS if signal.name in open_to}
        assert np.isfinite(margin.bits)


def test_a_hypothesis_leaves_only_signals_there_are() -> None:
    """What a hypothesis leaves open is weighed by some Signal, and what would change the verdict is said."""
    names = {signal.name for signal in SIGNALS}
    assert len({each.name for each in HYPOTHESES}) == len(HYPOTHESES) >= 4
    for hypothesis in HYPOTHESES:
        left = {*hypothesis.leaves, *(hypothesis.at_one_place or ()), *hypothesis.partly}
        assert hypothesis.leaves and left <= names
        assert not set(hypothesis.leaves) & set(hypothesis.partly)
        assert hypothesis.says and hypothesis.would_change


@pytest.mark.parametrize("name", [case.explained_by for case in CASES.values()])
def test_a_hypothesis_draws_from_a_population_that_holds_the_group(name: str) -> None:
    """Whom a cause would draw from is a choice of accounts, with most of the group in it."""
    subject = weighed(next(case.change for case in CASES.values() if case.explained_by == name)).subject
    hypothesis = next(each for each in HYPOTHESES if each.name == name)
    drawn = hypothesis.narrow(subject)
    assert drawn.dtype == bool and drawn.shape == (len(subject.population),)
    assert drawn[subject.candidate.members].mean() > 0.5


def test_what_is_explained_in_part_carries_no_margin_alone() -> None:
    """However many bits it has, a tool whose users never repeat one another stays under the bar by them alone."""
    found = weighed(campaign)
    loud = {name: replace(one, e_log2=1000.0) for name, one in found.findings.items() if name == "partition"}
    assert loud
    tool_margin = next(one for one in weigh_innocent(found.subject, loud) if one.hypothesis.name == "popular_tool")
    assert tool_margin.parts["content"] <= PARTLY_BITS < BAR


def test_few_repeats_missing_are_what_a_tool_has() -> None:
    """Where peers of so many people would repeat each other five times, a tool's users who never do prove nothing."""
    found = weighed(campaign)
    few = {
        name: replace(one, statistic=0.0, e_log2=4.0, detail={"expected": 5.0, "dispersion": 0.2})
        for name, one in found.findings.items()
        if name == "partition"
    }
    parts = {one.hypothesis.name: one.parts.get("content", 0.0) for one in weigh_innocent(found.subject, few)}
    # P(0) of a negative binomial of mean 1.25 and dispersion .2 is 1.25 ^ -5 = .33, so that e is below 3.
    assert parts["popular_tool"] <= np.log2((1 + 1 / 0.33) / 2) < parts["benchmark_harness"]


def test_like_work_comes_through_like_clients() -> None:
    """Where no accounts file is given, a harness's own client speaks against no explanation, and networks may."""

    def own_client(number: int, person: Habits, rng: Rng) -> None:
        harness(number, person, rng)
        if number < len(CROWD):
            person.agent = "evalrun/0.4 python"

    def outcome(change: Callable[[int, Habits, Rng], None]) -> tuple[float, float]:
        subject = street(change).subject(CROWD)
        accounts = subject.population.accounts.select(["account_id"])
        subject = replace(subject, population=replace(subject.population, accounts=accounts))
        found = {signal.name: said for signal in SIGNALS if (said := signal.weigh(subject)) is not None}
        told = {margin.hypothesis.name: margin.parts for margin in weigh_innocent(subject, found)}
        return found["shared_network_client"].e_log2, told["benchmark_harness"]["network_client"]

    said, counts = outcome(own_client)
    assert said > BAR and counts <= 0
    said, counts = outcome(campaign)
    assert said > BAR and counts > BAR


def test_tenants_of_the_same_clouds_are_no_campaign() -> None:
    """Networks that a group shares half with strangers tell where carriers are independent, and not among tenants."""

    def tenants(number: int, person: Habits, rng: Rng) -> None:
        if number < 2 * len(CROWD):
            person.ip = lambda _: f"16.0.{number % 6}.9"

    subject = street(tenants).subject(CROWD)
    bare, among_tenants = (replace(NETWORK, kinship=kinship).weigh(subject) for kinship in (0.0, NETWORK.kinship))
    assert bare is not None and among_tenants is not None
    assert bare.e_log2 > BAR > among_tenants.e_log2


def test_the_same_tasks_from_several_accounts_are_no_alibi() -> None:
    """Repeats speak for a class or a benchmark by so many bits and no more: rented networks outweigh them."""
    told = {margin.hypothesis.name: margin.parts["content"] for margin in weighed(best_of_several).margins}
    assert told["benchmark_harness"] == told["classroom"] == -AGAINST_BITS
    assert min(margins(best_of_several).values()) >= BAR


@pytest.mark.parametrize(("e_log2", "bits"), [(-np.inf, -1.0), (0.0, 0.0), (1.0, np.log2(1.5)), (400.0, 399.0)])
def test_a_hedged_bet_loses_one_bit_at_most(e_log2: float, bits: float) -> None:
    """Half the money stays: nothing costs more than a bit, and nothing gains more than it lost."""
    assert hedged_bits(e_log2) == pytest.approx(bits)


def test_what_people_ask_is_shared_by_people() -> None:
    """The street is what the tests above take it for: questions repeat across neighbours, cards and homes do not."""
    town = street(lambda number, person, rng: None)
    assert town.reading is not None and len(town.reading.repeated[0]) > 10 * len(POPULAR)
    assert len(np.unique(town.population.unit)) == len(town.population)
