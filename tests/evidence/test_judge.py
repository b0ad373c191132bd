"""judge: four bars, each of which can fail alone, and the verdicts that follow."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.dossier.assemble import Ruled, assemble, rule
from stillwatch.evidence.innocent import HYPOTHESES, Margin
from stillwatch.evidence.judge import Weighed, detail_json, q_values, shortfalls, verdict, weigh
from stillwatch.records import LEADS, VERDICTS
from stillwatch.settings import Bars, ScanSettings, Settings
from tests.contracts.test_signals import SIGNALS
from tests.evidence.making import CROWD, Town, street
from tests.evidence.test_innocent import CASES, campaign, organisation
from tests.evidence.test_innocent import weighed as weighed_by_all

BARS = Bars()


@cache
def plain() -> Town:
    """A street where nobody has anything in common."""
    return street(lambda number, person, rng: None, n=260)


def weighed(
    operator: float = 40.0, harvest: float = 40.0, margin: float = 40.0, *, start: int = 0, n: int = 20
) -> Weighed:
    """A group with these bits, whatever its members did."""
    subject = plain().subject(np.arange(start, start + n))
    margins = [Margin(hypothesis, margin + at, {}) for at, hypothesis in enumerate(HYPOTHESES)]
    return Weighed(subject, {}, operator, harvest, margins, {})


def ruled(*groups: Weighed, settings: Settings | None = None) -> list[Ruled]:
    """What the rule makes of groups."""
    return rule(groups, settings or Settings())


def leads(*groups: Weighed, settings: Settings | None = None) -> list[dict[str, object]]:
    """The rows of `leads.parquet`; none of the groups may be a campaign."""
    settings = settings or Settings()
    tables = assemble(ruled(*groups, settings=settings), settings=settings, not_examined=())
    assert tables["campaigns"].num_rows == tables["members"].num_rows == 0
    assert tables["leads"].schema.equals(LEADS)
    rows: list[dict[str, object]] = tables["leads"].to_pylist()
    return rows


def test_all_bars_cleared_is_a_campaign() -> None:
    """At the bars, not only beyond them, a group is reported, with its members."""
    exact = weighed(BARS.operator_bits_min, BARS.harvest_bits_min, BARS.innocent_margin_bits_min)
    (one,) = ruled(exact)
    assert one.verdict == "campaign" and not one.missed
    tables = assemble([one], settings=Settings(), not_examined=["prompt"])
    assert tables["campaigns"].num_rows == 1 and tables["leads"].num_rows == 0
    assert tables["members"]["account_id"].to_pylist() == [plain().population.account_ids[at] for at in range(20)]
    assert tables["campaigns"]["not_examined"].to_pylist() == [["prompt"]]


@pytest.mark.parametrize("margin", [6.5, 1.0])
def test_a_group_that_an_innocent_cause_explains_is_a_lead(margin: float) -> None:
    """Both questions answered but too little beyond the best innocent cause: a lead, by so many bits."""
    (row,) = leads(weighed(margin=margin))
    assert (row["verdict"], row["failed_bar"]) == ("lead", "innocent_margin_bits")
    assert row["shortfall"] == pytest.approx(BARS.innocent_margin_bits_min - margin)
    assert (row["best_innocent"], row["innocent_margin_bits"]) == (HYPOTHESES[0].name, margin)


@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_a_group_that_an_innocent_cause_accounts_for_wholly_is_nothing(margin: float) -> None:
    """Users of one tool share its words and ask for what it asks for; nobody need look at them."""
    assert leads(weighed(margin=margin)) == []
    assert leads(weighed(3.0, margin=margin)) == []


@pytest.mark.parametrize("bits", [9.5, 3.0, 0.0, -1.0])
@pytest.mark.parametrize("question", ["operator", "harvest"])
def test_one_question_alone_is_a_lead(question: str, bits: float) -> None:
    """A common operator who does not harvest, and a harvest without a common operator, are leads that say which."""
    (row,) = leads(weighed(bits) if question == "operator" else weighed(harvest=bits))
    assert row["verdict"] == "lead" and row["failed_bar"] == f"{question}_bits"
    assert row["shortfall"] == pytest.approx(10 - bits)


def test_one_group_among_many_needs_more() -> None:
    """Enough bits for a single group are too few for the best of many; by how much stands in the lead."""
    groups = [weighed(10.5, 10.5), *(weighed(0.5, 40.0, start=start) for start in range(20, 220, 20))]
    first = next(row for row in leads(*groups) if row["operator_bits"] == 10.5)
    assert (first["verdict"], first["failed_bar"]) == ("lead", "q_value")
    assert first["q_value"] == pytest.approx(11 * 2**-10.5)
    assert first["shortfall"] == pytest.approx(11 * 2**-10.5 - BARS.q_max, abs=1e-6)
    assert ruled(groups[0])[0].verdict == "campaign"


def test_a_group_with_nobody_to_name_is_a_lead() -> None:
    """Where fewer accounts than the smallest group are sure members, there is a lead and no campaign."""
    one = weighed()
    membership = one.subject.candidate.membership.copy()
    membership[:17] = 0.6
    candidate = replace(one.subject.candidate, membership=membership)
    settings = Settings(scan=ScanSettings(n_min_accounts=5))
    (row,) = leads(replace(one, subject=replace(one.subject, candidate=candidate)), settings=settings)
    assert (row["verdict"], row["failed_bar"], row["shortfall"]) == ("lead", "members", 2.0)


def test_too_few_people_cannot_tell() -> None:
    """Below the smallest population nothing is a campaign, however many bits, and the lead says what is missing."""
    settings = Settings(scan=ScanSettings(n_min_population=300))
    (row,) = leads(weighed(), settings=settings)
    assert (row["verdict"], row["failed_bar"], row["shortfall"]) == ("cannot_tell", "population", 40.0)


def test_a_lead_names_the_bar_it_missed_by_most() -> None:
    """`failed_bar` is the bar that was missed by most, as a share of the bar, as records.LEADS says."""
    (row,) = leads(weighed(operator=1.0, margin=6.9))
    assert row["failed_bar"] == "operator_bits"


def test_a_q_value_missed_by_a_hair_is_still_missed() -> None:
    """A shortfall far below a millionth is not written as none."""
    e_log2 = math.log2(1000) - 1e-7
    settings = Settings(bars=Bars(operator_bits_min=5, harvest_bits_min=5))
    (row,) = leads(weighed(e_log2, e_log2), settings=settings)
    assert row["failed_bar"] == "q_value" and row["shortfall"] == pytest.approx(0.001 * (2**1e-7 - 1), rel=1e-3)


def test_one_payer_is_declared() -> None:
    """A group that is one organisation is no secret: short of a bar it is `declared`, which is no campaign."""
    subject = street(organisation, n=260).subject(CROWD)
    one = replace(weighed(harvest=2.0), subject=subject)
    assert verdict(one, 0.0, BARS, n_min_population=200) == "declared"


BEYOND = {"one_organisation": {"identity": 8.0}, "popular_tool": {"network_client": 5.0, "time": 3.0, "content": -20.0}}
"""What two innocent causes leave open of a group, by family."""


def held(
    operator: float = 30.0, harvest: float = -1.0, *, beyond: dict[str, dict[str, float]] | None = None
) -> Weighed:
    """A group with one operator and ordinary traffic, both harvest signals asked."""
    margins = [
        Margin(each, sum(parts.values()), parts)
        for each in HYPOTHESES
        if (parts := (beyond or BEYOND).get(each.name)) is not None
    ]
    asked = weighed_by_all(campaign).findings
    told = {name: replace(asked["elicitation"], signal=name, e_log2=harvest) for name in ("elicitation", "partition")}
    return replace(weighed(operator, harvest), margins=margins, findings=told)


def test_one_operator_of_ordinary_traffic_is_shared_access() -> None:
    """Beyond every innocent cause without what content says, and with a harvest asked for and not shown."""
    (row,) = leads(held())
    assert (row["verdict"], row["failed_bar"]) == ("shared_access", "harvest_bits")


@pytest.mark.parametrize(
    "not_so",
    [
        held(operator=9.0),
        held(harvest=6.0),
        held(beyond=BEYOND | {"one_organisation": {"identity": 6.0, "content": 40.0}}),
        replace(held(), findings={}),
        replace(held(), findings={"elicitation": held().findings["elicitation"]}),
    ],
    ids=["no operator", "half a harvest", "an organisation explains it", "no text", "nobody repeats"],
)
def test_what_falls_short_is_no_shared_access(not_so: Weighed) -> None:
    """Each of its conditions can fail alone, and what is a campaign stays one."""
    assert verdict(not_so, 1.0, BARS, n_min_population=200) == "lead"
    assert verdict(weighed(), 0.0, BARS, n_min_population=200) == "campaign"


@given(
    bits=st.tuples(*[st.floats(-2, 40, allow_nan=False)] * 3),
    q=st.floats(0, 1, allow_nan=False),
    n=st.sampled_from([0, 200, 10**6]),
)
def test_a_verdict_follows_from_the_shortfalls(bits: tuple[float, float, float], q: float, n: int) -> None:
    """Campaign if and only if no bar is missed and the population is large enough; a miss is what it is called."""
    one = weighed(*bits)
    missed = shortfalls(one, q, BARS)
    said = verdict(one, q, BARS, n_min_population=n)
    assert said in VERDICTS
    assert (said == "campaign") == (not missed and len(one.subject.population) >= n)
    limits = {"operator_bits": 10.0, "harvest_bits": 10.0, "innocent_margin_bits": 7.0}
    for (name, bar), value in zip(limits.items(), bits, strict=True):
        assert (name in missed) == (value < bar)
        assert missed.get(name, bar - value) == pytest.approx(bar - value)
    assert ("q_value" in missed) == (q > BARS.q_max)


def test_q_values_control_all_groups_of_a_scan() -> None:
    """e-BH by its definition: the smallest m / (k e_(k)) at or after one's rank, at most 1."""
    bits = [12.0, 3.0, 11.0, -1.0, 20.0]
    e = [2.0**value for value in bits]
    ranked = sorted(e, reverse=True)
    expected = [
        min([1.0, *(len(e) / (k * ranked[k - 1]) for k in range(ranked.index(mine) + 1, len(e) + 1))]) for mine in e
    ]
    assert q_values([weighed(value, 40.0) for value in bits]) == pytest.approx(expected)
    assert q_values([]) == []


def test_of_overlapping_groups_one_is_judged() -> None:
    """A whole stands if those beyond its parts surely belong, else its parts do; of others the nearest to the bars."""
    part, away = belonging(weighed(n=12), 12.0), weighed(start=40)
    whole, loose = belonging(weighed(n=24), 11.0), belonging(weighed(n=24), 9.0)
    assert told(part, whole, away) == {id(whole), id(away)}
    assert told(part, loose, away) == {id(part), id(away)}
    assert {one.q_value for one in ruled(part, loose, away)} == set(q_values([part, loose, away])[::2])
    halves = belonging(weighed(n=20), 20.0), belonging(weighed(start=20, n=20), 20.0)
    merged = belonging(weighed(n=40), 15.0)
    assert told(*halves, merged) == {id(half) for half in halves}
    assert told(halves[0], merged) == {id(merged)}
    short, nearer = belonging(weighed(margin=2.0, start=5), 90.0), weighed(margin=5.0)
    assert told(short, whole) == {id(whole)} and told(short, nearer) == {id(nearer)}
    assert len(ruled(weighed(start=5), weighed(start=15))) == 2


def told(*groups: Weighed) -> set[int]:
    """Which of some groups are judged."""
    return {id(one.weighed) for one in ruled(*groups)}


def belonging(one: Weighed, bits: float) -> Weighed:
    """The same group whose members have so many bits each."""
    candidate = one.subject.candidate
    sure = np.where(candidate.membership >= 0.5, bits, -20.0)
    return replace(one, subject=replace(one.subject, candidate=replace(candidate, bits=sure)))


def test_campaigns_come_first_and_the_largest_of_them() -> None:
    """The order of findings is that of verdict and size, and not that of weighing."""
    groups: Sequence[Weighed] = [weighed(harvest=2.0), weighed(start=40), weighed(margin=2.0, start=80)]
    orders = [[one.campaign_id for one in ruled(*order)] for order in (groups, groups[::-1])]
    assert orders[0] == orders[1]
    assert [one.verdict for one in ruled(*groups)] == ["campaign", "lead", "lead"]


@pytest.mark.parametrize("name", CASES)
def test_innocent_crowds_are_no_campaigns(name: str) -> None:
    """One organisation, one tool, one place and one benchmark, weighed by everything, are not reported."""
    assert all(one.verdict != "campaign" for one in ruled(weighed_by_all(CASES[name].change)))


def test_a_campaign_is_one() -> None:
    """One operator behind forty accounts, weighed by everything, is reported."""
    (one,) = ruled(weighed_by_all(campaign))
    assert one.verdict == "campaign"
    details = [json.loads(detail_json(finding)) for finding in one.weighed.findings.values()]
    assert {detail["version"] for detail in details} == {1}
    assert {detail["question"] for detail in details} == {"operator", "harvest"}


def test_silence_is_no_evidence() -> None:
    """Where no Signal has anything to say, there are no bits for either question, and no campaign."""
    one = weigh(plain().subject(np.arange(20)), [])
    assert one.operator_bits == one.harvest_bits == 0.0 and one.findings == {}
    assert ruled(one) == [] or ruled(one)[0].verdict != "campaign"


def test_bits_of_several_families_are_averaged() -> None:
    """A family that shows nothing costs a campaign bits and never gains any: no maximum is taken."""
    all_of_it = weighed_by_all(campaign)
    strongest = max(finding.e_log2 for finding in all_of_it.findings.values() if finding.question == "operator")
    assert all_of_it.operator_bits < strongest
    operators = [signal for signal in SIGNALS if signal.question == "operator"]
    assert weigh(all_of_it.subject, operators).harvest_bits == 0.0
