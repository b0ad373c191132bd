"""Policies, requests and snapshots that the tests of this room share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stillwatch.keys import Secret
from stillwatch.policy.model import Policy, micros
from stillwatch.policy.reading import parse_policy
from stillwatch.policy.ruling import Request
from stillwatch.policy.snapshot import Lineage, Snapshot, gather

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = Secret(bytes(range(32)))

EXAMPLE = """
format = 1
version = "2026-06-01"
mode = "enforce"
on_failure = "deny"
mark_epoch = "2026-06"

[levels.none]
models = ["small-*"]
capabilities = ["chat"]
features = []
max_output_tokens = 500
[[levels.none.budgets]]
per = "account"
tokens = 10_000
period = "1h"
burst = 2_000

[levels.email]
models = ["small-*", "large"]
capabilities = ["chat", "tools"]
features = ["reasoning"]
[[levels.email.budgets]]
per = "account"
tokens = 100_000
period = "1h"
burst = 20_000

[levels.organisation]
models = ["*"]
capabilities = ["*"]
features = ["reasoning", "logprobs", "batch"]

[[budgets]]
name = "lineage-hour"
per = "lineage"
tokens = 100_000
period = "1h"
burst = 10_000

[[budgets]]
name = "network-minute"
per = "network"
requests = 600
period = "1m"
burst = 60

[verdicts.campaign]
action = "step_up"
step_up = "organisation"

[verdicts.shared_access]
action = "mark"
features_off = ["logprobs"]
min_membership = 0.5
lifted_by = "organisation"

[networks]
mmdb = "geo.mmdb"
[[networks.rules]]
name = "office"
cidrs = ["192.0.2.0/28", "2001:db8::/32"]
action = "allow"
[[networks.rules]]
name = "closed"
cidrs = ["192.0.2.0/24"]
countries = ["XX"]
action = "deny"

[[licensed]]
org_id = "org-licensed"
until = 2026-12-31
max_tokens = 5_000_000

[screening]
lists = ["restricted.txt"]
"""


def policy(text: str = EXAMPLE, **changes: str) -> Policy:
    """The example, some of its pieces replaced: `old=new` of whole texts."""
    return parse_policy(text.encode(), file="gate.toml") if not changes else replace(policy(text), **changes)  # type: ignore[arg-type]


def request(account: str = "ann", **known: Any) -> Request:
    """A harmless call."""
    usual: dict[str, Any] = {"account_id": account, "now": NOW, "model": "small-1", "identity_level": "email"}
    return Request(**usual | known)


def snapshot(*members: tuple[str, int, float], made: datetime = NOW, days: int = 30, **known: Any) -> Snapshot:
    """Accounts in lineage 0 (a campaign) or 1 (shared access)."""
    lineages = (Lineage("lin-0", "c0", "campaign"), Lineage("lin-1", "c1", "shared_access", "0123456789abcdef"))
    accounts, lineage_of, membership = gather(members, lineages, key=KEY)
    us = micros(made)
    whole: dict[str, Any] = {"made_us": us, "expires_us": us + days * 86_400_000_000, "key": KEY, "lineages": lineages}
    return Snapshot(accounts=accounts, lineage_of=lineage_of, membership=membership, **whole | known)
