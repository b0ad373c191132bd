from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.policy.deciding import decide
from stillwatch.policy.model import FEATURES, LEVELS, SWITCHABLE
from stillwatch.policy.ruling import COARSE, SEVERITY, Request, Ruling
from stillwatch.policy.snapshot import Snapshot, empty_snapshot
from stillwatch.records import ACTIONS
from tests.policy.making import EXAMPLE, NOW, policy, request, snapshot

MEMBERS = (("bob", 0, 0.99), ("low", 0, 0.5), ("eve", 1, 0.7))


def ruled(*, given_snapshot: Snapshot | None = None, **known: Any) -> Ruling:
    account = known.pop("account", "ann")
    return decide(request(account, **known), policy(), given_snapshot or snapshot(*MEMBERS))


def scopes(ruling: Ruling) -> list[str]:
    return [meter.budget.scope for meter in ruling.meters]


def test_every_action_has_a_rank_and_a_word() -> None:
    """No action of a Decision is left out."""
    assert set(SEVERITY) == set(COARSE) == set(ACTIONS)


def test_an_ordinary_call_is_allowed_under_its_budgets() -> None:
    """Whoever is in no finding and asks for what the level opens is let through, and counted."""
    ruling = ruled(ip="203.0.113.9")
    assert (ruling.action, ruling.reason, ruling.rule) == ("allow", "ok", "")
    assert scopes(ruling) == ["account", "network"]
    assert ruling.policy_version == "2026-06-01"


def test_a_member_must_step_up() -> None:
    """The verdict's rule acts on its member and names the level asked for, and spends nothing."""
    ruling = ruled(account="bob")
    assert (ruling.action, ruling.step_up, ruling.rule) == ("step_up", "organisation", "verdict:campaign")
    assert ruling.meters == ()
    assert "lin-0" in ruling.precise
    assert "lin-0" not in ruling.reason


def test_a_weak_membership_names_nobody() -> None:
    """Below the rule's membership an account is treated as any other, lineage budget included."""
    ruling = ruled(account="low")
    assert ruling.action == "allow"
    assert ruling.lineage_id is None
    assert "lineage" not in scopes(ruling)


def test_who_has_what_is_asked_climbs_no_further() -> None:
    """A member at the level that is asked for passes, under the budget its lineage shares."""
    ruling = ruled(account="bob", identity_level="organisation")
    assert ruling.action == "allow"
    assert [meter.subject for meter in ruling.meters if meter.budget.scope == "lineage"] == ["lin-0"]


def test_a_marked_account_gets_its_key() -> None:
    """A mark comes with its key id and with what is switched off; the client sees nothing of it."""
    ruling = ruled(account="eve", features=frozenset({"reasoning", "logprobs"}))
    assert (ruling.action, ruling.reason) == ("mark", "ok")
    assert ruling.mark_key_id == "0123456789abcdef"
    assert ruling.features_off == {"logprobs"}


def test_a_rule_is_lifted_by_identity() -> None:
    """`lifted_by` leaves those alone who proved as much."""
    assert ruled(account="eve", identity_level="organisation").mark_key_id is None


def test_a_closed_model_asks_for_the_next_level_that_opens_it() -> None:
    """The lowest level that opens the model is named; where none does, the call is denied."""
    assert ruled(model="giant").step_up == "organisation"
    assert ruled(model="large", identity_level="none").step_up == "email"
    closed = replace(policy(), levels={**policy().levels, "organisation": policy().levels["email"]})
    assert decide(request(model="giant"), closed, empty_snapshot()).action == "deny"


def test_features_are_left_out_or_asked_for() -> None:
    """Logprobs can be left out; a batch cannot, and asks for the level that opens it."""
    limited = ruled(features=frozenset({"reasoning", "logprobs"}))
    assert (limited.action, limited.features_off) == ("allow_limited", frozenset({"logprobs"}))
    assert ruled(features=frozenset({"batch"})).step_up == "organisation"


def test_long_answers_are_capped() -> None:
    """A level's cap is handed on, and a call that asks for more is allowed within it."""
    ruling = ruled(identity_level="none", max_output_tokens=501)
    assert (ruling.action, ruling.max_output_tokens) == ("allow_limited", 500)
    assert ruled(identity_level="none", max_output_tokens=500).action == "allow"


@pytest.mark.parametrize(
    ("known", "action"),
    [
        ({"ip": "192.0.2.200"}, "deny"),
        ({"ip": "::ffff:192.0.2.200"}, "deny"),
        ({"ip": "192.0.2.3"}, "allow"),
        ({"ip": "192.0.2.3", "country": "XX"}, "allow"),
        ({"ip": "203.0.113.1", "country": "XX"}, "deny"),
        ({"ip": "2001:db8:1::1"}, "allow"),
        ({"ip": "192.0.2.200%0"}, "allow"),
        ({"ip": "not an address"}, "allow"),
        ({"ip": "1" * 10_000}, "allow"),
    ],
)
def test_the_first_network_rule_acts(known: dict[str, Any], action: str) -> None:
    """Rules stand in order; an address that is none matches no network."""
    assert ruled(**known).action == action


def test_the_strictest_rule_acts() -> None:
    """A denied network is denied whatever else applies, and the operator reads every rule that did."""
    ruling = ruled(account="bob", ip="192.0.2.200", model="giant")
    assert ruling.action == "deny"
    assert "closed" in ruling.precise
    assert "lin-0" in ruling.precise
    assert "giant" in ruling.precise


def test_a_licence_excuses_until_it_ends() -> None:
    """A licensed organisation is under no verdict, its volume is a budget; the day after its end it is as others."""
    last = datetime.fromisoformat("2026-12-31T23:59:59+00:00")
    fresh = snapshot(*MEMBERS, days=365)
    ruling = ruled(account="bob", org_id="org-licensed", now=last, given_snapshot=fresh)
    assert (ruling.action, ruling.licensed) == ("allow", True)
    assert [(meter.budget.burst, meter.subject) for meter in ruling.meters if meter.budget.scope == "licence"] == [
        (5_000_000, "o:org-licensed")
    ]
    assert "lineage" not in scopes(ruling)
    ended = ruled(account="bob", org_id="org-licensed", now=last + timedelta(seconds=1), given_snapshot=fresh)
    assert ended.action == "step_up"
    assert "ended on 2026-12-31" in ended.precise


def test_an_account_named_like_a_licensed_organisation_is_not_licensed() -> None:
    """Ids of accounts and of organisations are two namespaces."""
    assert not ruled(account="org-licensed").licensed


def test_shadow_mode_lets_everything_through_and_says_what_it_would() -> None:
    """In shadow nothing is refused, switched off, marked or capped, and budgets are still counted."""
    shadow = policy(mode="shadow")
    for account, known in (("bob", {}), ("eve", {"features": frozenset({"logprobs"})}), ("ann", {"model": "giant"})):
        ruling = decide(request(account, **known), shadow, snapshot(*MEMBERS))
        assert (ruling.action, ruling.reason, ruling.shadow) == ("allow", "ok", True)
        assert ruling.would != "allow"
        assert (ruling.features_off, ruling.mark_key_id, ruling.step_up) == (frozenset(), None, None)
        assert ruling.meters


def test_an_old_snapshot_accuses_nobody() -> None:
    """After its expiry a snapshot says nothing."""
    assert ruled(account="bob", now=NOW + timedelta(days=30)).action == "allow"
    assert ruled(account="bob", now=NOW + timedelta(days=30, microseconds=-1)).action == "step_up"


def test_what_cannot_be_limited_is_for_whom_nothing_is() -> None:
    """Who has a cap, lacks a feature or is not shown all reasoning is told to step up; where that helps nobody, no."""
    assert ruled(identity_level="none", is_limitable=False).rule == "interface"
    assert ruled(identity_level="none", is_limitable=False).step_up == "organisation"
    assert ruled(identity_level="organisation", model="giant", is_limitable=False).action == "allow"
    held = policy(EXAMPLE + '[reasoning]\nlevels = { none = "merge" }\n')
    asked = request(identity_level="organisation", is_limitable=False)
    assert decide(asked, held, snapshot()).action == "deny"
    assert decide(request(identity_level="organisation"), held, snapshot()).action == "allow"


def test_an_unknown_identity_level_opens_nothing() -> None:
    """A word nobody wrote counts as none."""
    assert ruled(identity_level="ORGANISATION", model="giant").step_up == "organisation"
    assert ruled(identity_level="admin", model="large").step_up == "email"


TEXTS = st.text(max_size=20)
REQUESTS = st.builds(
    Request,
    account_id=TEXTS,
    now=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)).map(  # noqa: DTZ001
        lambda at: at.replace(tzinfo=NOW.tzinfo)
    ),
    org_id=st.none() | TEXTS,
    ip=st.none() | TEXTS | st.ip_addresses().map(str),
    country=st.none() | TEXTS,
    identity_level=st.sampled_from(LEVELS) | TEXTS,
    model=st.none() | TEXTS,
    capability=TEXTS,
    features=st.frozensets(st.sampled_from(FEATURES) | TEXTS, max_size=4),
    max_output_tokens=st.none() | st.integers(),
)


@given(REQUESTS)
def test_no_request_raises(asked: Request) -> None:
    """Whatever a caller can choose, there is a ruling, in words of the tables."""
    ruling = decide(asked, policy(), snapshot(*MEMBERS))
    assert ruling.action in ACTIONS
    assert ruling.reason == COARSE[ruling.action]
    level = policy().levels.get(asked.identity_level, policy().levels["none"])
    assert frozenset(SWITCHABLE) - level.features <= ruling.features_off <= frozenset(SWITCHABLE)


@given(
    st.sampled_from(LEVELS), st.sampled_from(["small-1", "large", "giant"]), st.frozensets(st.sampled_from(FEATURES))
)
def test_proving_more_never_refuses_more(name: str, model: str, features: frozenset[str]) -> None:
    """Along the ladder of the example, the next level is treated at most as strictly."""
    strictness = [
        SEVERITY[ruled(identity_level=level, model=model, features=features).action]
        for level in (name, LEVELS[min(LEVELS.index(name) + 1, 4)])
    ]
    assert strictness[1] <= strictness[0]
