from __future__ import annotations

import pytest

from stillwatch.errors import PolicyError
from stillwatch.policy.deciding import decide
from stillwatch.policy.model import LEVELS
from stillwatch.policy.reading import parse_policy
from stillwatch.policy.showing import WAYS, Reasoning, Shows
from tests.policy.making import EXAMPLE, policy, request, snapshot

REASONING = """
[reasoning]
levels = { none = "withhold", email = "merge", payment = "keep" }
actions = { allow_limited = "summarise" }
verdicts = { shared_access = "withhold" }
opened_by_prompt = ["deep-*"]
[[reasoning.accounts]]
account_id = "partner"
show = "keep"
[[reasoning.accounts]]
org_id = "lab"
show = "summarise"
"""
TEXT = EXAMPLE + REASONING
SHARED = snapshot(("shared", 1, 1.0), ("partner", 1, 1.0))


def shows(account: str = "ann", text: str = TEXT, **known: object) -> Shows | None:
    return decide(request(account, **known), policy(text), SHARED).shows


def test_a_policy_without_the_table_shows_everything() -> None:
    """What is not written changes nothing."""
    assert policy().reasoning == Reasoning() and shows(text=EXAMPLE) is None


@pytest.mark.parametrize(
    ("known", "how", "rule"),
    [
        ({"identity_level": "none"}, "withhold", "level:none"),
        ({"identity_level": "no such"}, "withhold", "level:none"),
        ({"identity_level": "phone"}, "merge", "level:phone"),
        ({"features": frozenset({"logprobs"})}, "summarise", "action:allow_limited"),
        ({"account": "shared"}, "withhold", "verdict:shared_access"),
        ({"org_id": "lab"}, "summarise", "organisation:lab"),
        ({"account": "shared", "org_id": "lab"}, "summarise", "organisation:lab"),
    ],
)
def test_the_strictest_of_what_applies_is_shown(known: dict[str, object], how: str, rule: str) -> None:
    """Level, decision and verdict each say something; an account or organisation that is named decides alone."""
    found = shows(**known)  # type: ignore[arg-type]
    assert found is not None
    assert (found.how, found.rule) == (how, rule)


@pytest.mark.parametrize(
    "known", [{"account": "partner"}, {"identity_level": "payment"}, {"account": "partner", "org_id": "lab"}]
)
def test_to_keep_is_to_do_nothing(known: dict[str, object]) -> None:
    """A reply of which all is shown is not looked at."""
    assert shows(**known) is None  # type: ignore[arg-type]


def test_a_verdict_that_is_lifted_or_licensed_withholds_nothing() -> None:
    """Where the verdict's own rule leaves an account alone, so does what it says of reasoning."""
    assert shows("shared", identity_level="organisation", model="any") is None
    licensed = shows("shared", org_id="org-licensed")
    assert licensed is not None
    assert licensed.rule == "level:email"


def test_shadow_mode_and_failure_and_prompts_are_told_along() -> None:
    """What a face needs beside the filter comes with it."""
    shadow = shows(text=TEXT.replace('"enforce"', '"shadow"'), model="deep-1")
    assert shadow is not None
    assert (shadow.shadow, shadow.opens, shadow.on_failure) == (True, True, "deny")
    plain = shows()
    assert plain is not None
    assert (plain.shadow, plain.opens) == (False, False)


def test_every_level_has_its_word() -> None:
    """A level that is not written is shown what the one below it is, and the lowest everything."""
    read = policy(EXAMPLE + '[reasoning]\nlevels = { phone = "merge" }\n').reasoning
    assert dict(read.levels) == dict(zip(LEVELS, ["keep", "keep", "merge", "merge", "merge"], strict=True))
    assert WAYS == ("keep", "merge", "summarise", "withhold")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('none = "withhold"', 'none = "withold"', "[reasoning.levels] none; got 'withold'"),
        ('none = "withhold"', "none = 1", "expected one of keep, merge, summarise, withhold"),
        ('none = "withhold"', 'nobody = "withhold"', "[reasoning.levels] has no key 'nobody'"),
        ("allow_limited =", "deny =", "[reasoning.actions] has no key 'deny'"),
        ("shared_access =", "lead =", "a verdict with a rule of its own, [verdicts.lead]"),
        ('"deep-*"', '"deep-[a]"', "without [ ]"),
        ("actions =", "action =", "Did you mean actions?"),
        ('account_id = "partner"\n', "", "got neither"),
        ('account_id = "partner"', 'account_id = "partner"\norg_id = "o"', "got both"),
        ('show = "keep"', "", "show is missing"),
        ('org_id = "lab"', 'account_id = "partner"', "every account and organisation once"),
        ('actions = { allow_limited = "summarise" }', "actions = {}", "[reasoning.actions] says nothing"),
    ],
)
def test_what_is_wrong_is_said_precisely(old: str, new: str, says: str) -> None:
    """The message holds the table, the key, what was got and what is expected or near."""
    assert old in TEXT
    with pytest.raises(PolicyError) as caught:
        parse_policy(TEXT.replace(old, new).encode(), file="gate.toml")
    assert says in str(caught.value) and str(caught.value).startswith("gate.toml: ")
