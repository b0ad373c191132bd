"""cases: what belongs to a campaign is gathered, sorted, and adds up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from stillwatch.dossier.cases import bars_of, cases_of, leads_of
from stillwatch.dossier.findings import Findings
from stillwatch.settings import Bars

Make = Callable[..., Findings]


def test_each_family_stands_on_its_own_and_the_rest_leads_to_the_total(findings: dict[str, Make]) -> None:
    """Within a family e-values are averaged; the strongest comes first; the last step ends at the total."""
    operator = cases_of(findings["two"](), n_cases=1, n_members=5)[0].questions[0]
    assert [step.label for step in operator.steps] == ["network_client", "identity", "time"]
    assert operator.steps[1].bits == pytest.approx(188.2 + math.log2((1 + 2 ** (9.1 - 188.2)) / 2))
    assert operator.steps[0].bits + operator.joint == pytest.approx(operator.total)


def test_evidence_names_its_question_or_its_family_does(findings: dict[str, Make]) -> None:
    """A named question wins over the family; one family is shown by signal; what has no e-value is left out."""
    quiet, loud = cases_of(findings["two"](), n_cases=2, n_members=5)[::-1]
    assert [step.label for step in loud.questions[1].steps] == ["partition", "skeletons"]
    assert [step.label for step in quiet.questions[0].steps] == ["identity", "content", "time"]
    assert [step.label for step in quiet.questions[1].steps] == ["partition"]


def test_members_come_surest_first_and_are_counted(findings: dict[str, Make]) -> None:
    """The cut keeps the members with the highest membership."""
    loud = cases_of(findings["two"](), n_cases=1, n_members=3)[0]
    assert [row["account_id"] for row in loud.members] == ["acct-1-0000", "acct-1-0001", "acct-1-0002"]
    assert loud.n_members == 203


def test_campaigns_and_leads_have_a_fixed_order(findings: dict[str, Make]) -> None:
    """The largest campaign comes first, and the lead nearest to a campaign."""
    two = findings["two"]()
    assert [case.campaign.n_accounts for case in cases_of(two, n_cases=9, n_members=1)] == [210, 61]
    assert [row["verdict"] for row in leads_of(two)] == ["lead", "declared", "single_account"]


def test_the_bars_of_a_run_are_read_leniently() -> None:
    """What a run does not record, or records in another shape, is today's bar."""
    assert bars_of({}) == bars_of({"settings": {"bars": [1]}}) == bars_of({"settings": "?"}) == Bars()
    assert bars_of({"settings": {"bars": {"q_max": 0.01, "unknown": 4}}}).q_max == 0.01
