"""Made-up findings: a realistic pair of campaigns, a hostile one, many, and none."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from stillwatch.dossier.activity import Activity
from stillwatch.dossier.findings import Findings
from stillwatch.records import FINDINGS

START = datetime(2026, 9, 1, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>[red]\x1b[31m\u202egpj.exe\x00\r\n{{7*7}}"
"""Markup, rich markup, a terminal escape, a bidi override, control characters and a template expression."""


def table(stem: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of the findings folder."""
    return pa.Table.from_pylist(rows, schema=FINDINGS[stem])


def group(campaign_id: str, **changes: Any) -> dict[str, Any]:
    """One row of campaigns or leads."""
    row = {
        "campaign_id": campaign_id,
        "verdict": "campaign",
        "n_accounts": 210,
        "n_exchanges": 48_212,
        "input_tokens": 19_400_125,
        "output_tokens": 61_777_090,
        "first_seen": START,
        "last_seen": START + timedelta(days=44, hours=9),
        "operator_bits": 238.3,
        "harvest_bits": 95.3,
        "e_log2": 95.3,
        "q_value": 3.1e-27,
        "best_innocent": "one_organisation",
        "innocent_margin_bits": 58.4,
        "capabilities": [("code", 0.46), ("mathematics", 0.31), ("tool_use", 0.14), ("other", 0.09)],
        "not_examined": ["tls_fingerprint", "completion"],
    }
    return row | changes


def evidence(
    subject: str, number: int, signal: str, family: str, e_log2: float | None, **changes: Any
) -> dict[str, Any]:
    """One row of evidence."""
    row = {
        "evidence_id": f"{subject[:6]}-{signal}-{number}",
        "subject_kind": "campaign",
        "subject_id": subject,
        "signal": signal,
        "family": family,
        "statistic": 43.0,
        "n": 210,
        "effect": 18.2,
        "lo": 12.9,
        "hi": 25.6,
        "null_id": "carriers_of_hubs_v1",
        "p_log10": None,
        "e_log2": e_log2,
        "h1": "accounts that share a payment instrument lie in this group far beyond its share of the population",
        "h0": "carriers of the instrument fall into the group as the rest of the population does",
        "settings_hash": "0" * 16,
        "detail": '{"version": 1}',
    }
    return row | changes


def activity(seed: int, *, n_accounts: int, keys: list[str], n_days: int = 45, flat: bool = True) -> Activity:
    """A made-up campaign over its days: flat around the clock, or ordinary office hours."""
    rng = random.Random(seed)
    shape = [1.0 if flat else 0.2 + max(0.0, math.sin((hour % 24 - 7) / 12 * math.pi)) for hour in range(168)]
    ordinary = [
        0.25 + max(0.0, math.sin((hour % 24 - 6) / 13 * math.pi)) * (1.0 if hour < 120 else 0.45) for hour in range(168)
    ]
    edges = [
        (f"acct-{seed}-{account:04d}", key, round(rng.uniform(0.05, 1.0), 3))
        for account in range(n_accounts)
        for at, key in enumerate(keys)
        if rng.random() < (0.9 if at < 2 else 0.25)
    ]
    return Activity(
        days=[date(2026, 9, 1) + timedelta(days=day) for day in range(n_days)],
        exchanges_per_day=[int(1000 + 120 * rng.random() + (-600 if day % 17 == 5 else 0)) for day in range(n_days)],
        accounts_per_day=[int(n_accounts * (0.8 + 0.2 * rng.random())) for _ in range(n_days)],
        hour_of_week=[int(280 * weight * rng.uniform(0.85, 1.15)) for weight in shape],
        background_hour_of_week=[value / sum(ordinary) for value in ordinary],
        edges=edges,
    )


RUN: dict[str, Any] = {
    "version": "0.1.0",
    "settings": {
        "bars": {"q_max": 0.001, "operator_bits_min": 10.0, "harvest_bits_min": 10.0, "innocent_margin_bits_min": 7.0}
    },
    "settings_fingerprint": "9c41d0b2f6e6a7731f1f2f0d1a5e8d7c4b3a29181706f5e4d3c2b1a098765432",
    "key_ids": {"rows": "5be1c0a94d2f7733"},
    "input": {
        "files": [
            {
                "path": f"exchanges/2026-09-{day:02d}.parquet",
                "sha256": f"{day:02x}" * 32,
                "n_bytes": 18_200_433 + day,
                "n_rows": 17_130 + day,
            }
            for day in range(1, 4)
        ],
        "mapping": {"user": "account_id"},
        "guesses": {"timestamp": "ts"},
        "skipped": ["exchanges/notes.txt"],
        "since": "2026-09-01T00:00:00+00:00",
        "unknown_columns": ["trace_id"],
    },
    "counts": {
        "rows_read": 771_102,
        "rows_kept": 770_884,
        "duplicates": 140,
        "accounts": 10_221,
        "licensed_accounts": 12,
    },
    "period": {"first": "2026-09-01T00:00:04+00:00", "last": "2026-10-15T23:59:41+00:00"},
    "rejects": {"no_timestamp": 61, "invalid_json": 17},
    "notes": {"invalid_utf8": 5},
    "licences_not_applied": [{"entry": "org-lapsed", "reason": "expired on 2026-08-31"}],
    "channels": {
        "examined": [
            "ip",
            "user_agent",
            "prompt",
            "system_prompt",
            "output_tokens",
            "payment_fingerprint",
            "org_id",
            "ts",
        ],
        "absent": ["tls_fingerprint", "completion", "phone_hash", "tool_names"],
    },
}


def members(campaign_id: str, n: int, *, prefix: str) -> list[dict[str, Any]]:
    """Members in no particular order."""
    rows = [
        {
            "campaign_id": campaign_id,
            "account_id": f"{prefix}-{at:04d}",
            "membership": 1 - 0.1 * (at / n) ** 2,
            "n_exchanges": 200 + (at * 37) % 91,
            "bits": 40 - 30 * at / n,
        }
        for at in range(n)
    ]
    return rows[::-1]


def trait(
    campaign_id: str, key: str, kind: str, origin: str, inside: int, outside: int, expected: float
) -> dict[str, Any]:
    """One row of traits."""
    names = ("campaign_id", "trait_key", "kind", "origin", "n_inside", "n_outside", "expected")
    return dict(zip(names, (campaign_id, key, kind, origin, inside, outside, expected), strict=True))


def member_trait(campaign_id: str, account_id: str, key: str, kind: str, share: float) -> dict[str, Any]:
    """One row of member_traits."""
    names = ("campaign_id", "account_id", "trait_key", "kind", "share")
    return dict(zip(names, (campaign_id, account_id, key, kind, share), strict=True))


def explanation(campaign_id: str, hypothesis: str, bits: float, would_change: str) -> dict[str, Any]:
    """One row of explanations."""
    return {"campaign_id": campaign_id, "hypothesis": hypothesis, "bits": bits, "would_change": would_change}


HYDRA, RELAY = "3f9ac2d1740be586", "a04be77192cd3310"
INNOCENT = (
    ("one_organisation", 58.4, "an organisation with a verified identity that owns these accounts"),
    ("popular_tool", 131.0, "a published tool that sends these prompts and binds accounts to one card"),
    ("shared_network", 164.2, "a campus or an office that owns these address ranges"),
    ("benchmark_harness", 71.9, "a public benchmark that holds these prompts"),
)


def two_campaigns() -> Findings:
    """A large loud campaign and a small quiet one, with leads, as a scan of a month and a half would give."""
    hydra_traits = [
        trait(HYDRA, f"{at:02x}c4f1a9e0d7b352", kind, origin, inside, outside, expected)
        for at, (kind, origin, inside, outside, expected) in enumerate(
            [
                ("payment", "provider", 43, 0, 0.4),
                ("payment", "provider", 31, 1, 0.3),
                ("network", "client", 154, 37, 3.9),
                ("network", "client", 98, 12, 2.2),
                ("head", "client", 121, 64, 3.8),
                ("tail", "client", 88, 4, 1.9),
                ("client", "client", 201, 4_180, 90.1),
                ("sign_up", "provider", 37, 2, 0.8),
                *[("network", "client", 20 + at, 5, 1.0) for at in range(16)],
            ]
        )
    ]
    relay_traits = [
        trait(RELAY, "77aa0f11e2c93d40", "payment", "provider", 18, 0, 0.3),
        trait(RELAY, "0b12fe9ad8837c55", "email", "provider", 92, 14, 11.5),
    ]
    return Findings(
        campaigns=table(
            "campaigns",
            [
                group(
                    RELAY,
                    n_accounts=61,
                    n_exchanges=9_120,
                    input_tokens=4_100_551,
                    output_tokens=8_032_400,
                    operator_bits=17.7,
                    harvest_bits=14.1,
                    e_log2=14.1,
                    q_value=5.7e-5,
                    best_innocent="reseller",
                    innocent_margin_bits=8.2,
                    capabilities=[("writing", 0.72), ("code", 0.28)],
                ),
                group(HYDRA),
            ],
        ),
        leads=table(
            "leads",
            [
                group(
                    "be110c2266aa90f1",
                    verdict="lead",
                    n_accounts=31,
                    n_exchanges=2_290,
                    operator_bits=22.1,
                    harvest_bits=6.4,
                )
                | {"failed_bar": "harvest_bits", "shortfall": 3.6, "innocent_margin_bits": 4.0},
                group(
                    "c7719e0ab14f2d00",
                    verdict="declared",
                    n_accounts=120,
                    n_exchanges=80_313,
                    operator_bits=88.0,
                    harvest_bits=2.2,
                )
                | {"failed_bar": "innocent_margin_bits", "shortfall": 21.5, "innocent_margin_bits": -14.5},
                group(
                    "d00f0a4e1b8c9922",
                    verdict="single_account",
                    n_accounts=1,
                    n_exchanges=31_002,
                    operator_bits=0.0,
                    harvest_bits=31.5,
                )
                | {"failed_bar": "operator_bits", "shortfall": 10.0, "innocent_margin_bits": 0.3},
            ],
        ),
        members=table("members", members(HYDRA, 203, prefix="acct-1") + members(RELAY, 44, prefix="acct-2")),
        evidence=table(
            "evidence",
            [
                evidence(HYDRA, 1, "shared_payment", "identity", 188.2),
                evidence(HYDRA, 2, "signup_wave", "identity", 9.1),
                evidence(HYDRA, 3, "exit_networks", "network_client", 240.9),
                evidence(HYDRA, 4, "equal_loads", "time", 31.0),
                evidence(HYDRA, 5, "partition", "content", 97.3),
                evidence(HYDRA, 6, "skeletons", "content", 41.8, p_log10=-14.2),
                evidence(HYDRA, 7, "elicitation", "content", None, p_log10=-6.5),
                evidence(RELAY, 1, "shared_payment", "identity", 19.0),
                evidence(RELAY, 2, "equal_loads", "time", 13.6),
                evidence(RELAY, 3, "partition", "content", 15.1),
                evidence(RELAY, 4, "shared_templates", "content", 16.5, detail='{"question":"operator","version":1}'),
            ],
        ),
        evidence_rows=table(
            "evidence_rows",
            [
                {
                    "evidence_id": f"{HYDRA[:6]}-partition-5",
                    "account_id": f"acct-1-{at:04d}",
                    "row_id": f"{at * 7919:016x}",
                    "role": "sample",
                    "n_total": 48_212,
                }
                for at in range(32)
            ],
        ),
        traits=table("traits", hydra_traits + relay_traits),
        member_traits=table(
            "member_traits",
            [member_trait(HYDRA, f"acct-1-{at:04d}", "00c4f1a9e0d7b352", "payment", 1.0) for at in range(43)]
            + [member_trait(HYDRA, "acct-1-0004", "02c4f1a9e0d7b352", "network", 0.25)],
        ),
        explanations=table(
            "explanations",
            [explanation(HYDRA, *row) for row in INNOCENT]
            + [explanation(RELAY, "reseller", 8.2, "a reseller with verified identity whose customers these are")],
        ),
        run=RUN,
        activity={
            HYDRA: activity(1, n_accounts=210, keys=[row["trait_key"] for row in hydra_traits]),
            RELAY: activity(2, n_accounts=61, keys=[row["trait_key"] for row in relay_traits], flat=False),
        },
    )


def hostile() -> Findings:
    """One campaign in which every string a stranger can choose is an attack."""
    bad = HOSTILE
    return Findings(
        campaigns=table("campaigns", [group(bad, best_innocent=bad, capabilities=[(bad, 0.5)], not_examined=[bad])]),
        leads=table("leads", [group(bad + "2", verdict=bad) | {"failed_bar": bad, "shortfall": 1.0}]),
        members=table(
            "members", [{"campaign_id": bad, "account_id": bad, "membership": 0.95, "n_exchanges": 1, "bits": 1.0}]
        ),
        evidence=table(
            "evidence", [evidence(bad, 1, bad, bad, 12.0, h1=bad, h0=bad, null_id=bad, detail=bad, evidence_id=bad)]
        ),
        evidence_rows=table(
            "evidence_rows", [{"evidence_id": bad, "account_id": bad, "row_id": bad, "role": bad, "n_total": 1}]
        ),
        traits=table("traits", [trait(bad, bad, bad, bad, 2, 0, 0.1)]),
        member_traits=table("member_traits", [member_trait(bad, bad, bad, bad, 0.5)]),
        explanations=table("explanations", [explanation(bad, bad, 1.0, bad)]),
        run={
            "version": bad,
            "settings_fingerprint": bad,
            "key_ids": {bad: bad, "rows": bad},
            "input": {
                "files": [{"path": bad + "\udcff", "sha256": bad, "n_rows": bad}],
                "mapping": {bad: bad},
                "unknown_columns": [bad],
            },
            "counts": {"accounts": bad, "rows_kept": [bad]},
            "period": {"first": bad, "last": bad},
            "rejects": {bad: 3},
            "channels": {"examined": [bad], "absent": [bad]},
        },
        activity={bad: replace(activity(3, n_accounts=1, keys=[bad]), edges=[(bad, bad, 0.5)])},
    )


def nothing() -> Findings:
    """A scan that found nothing at all."""
    empty = {stem: table(stem, []) for stem in FINDINGS}
    return Findings(**empty, run=RUN)


def many(n: int) -> Findings:
    """`n` large campaigns, each with every table full."""
    ids = [f"{at:016x}" for at in range(n)]
    keys = [f"trait-{at:010d}" for at in range(24)]
    return Findings(
        campaigns=table("campaigns", [group(key, n_exchanges=10_000 + at) for at, key in enumerate(ids)]),
        leads=table(
            "leads",
            [
                group(f"lead-{at:04d}", verdict="lead") | {"failed_bar": "harvest_bits", "shortfall": 2.0}
                for at in range(200)
            ],
        ),
        members=table("members", [row for key in ids for row in members(key, 200, prefix=key)]),
        evidence=table(
            "evidence",
            [
                evidence(key, at, f"signal_{at}", family, 20.0)
                for key in ids
                for at, family in enumerate(["identity", "network", "time", "content"] * 3)
            ],
        ),
        evidence_rows=table("evidence_rows", []),
        member_traits=table("member_traits", []),
        traits=table("traits", [trait(key, one, "network", "client", 9, 1, 0.5) for key in ids for one in keys]),
        explanations=table("explanations", [explanation(key, *row) for key in ids for row in INNOCENT]),
        run=RUN,
        activity={key: activity(at, n_accounts=80, keys=keys) for at, key in enumerate(ids)},
    )


FACTORIES: dict[str, Callable[..., Findings]] = {
    "two": two_campaigns,
    "hostile": hostile,
    "nothing": nothing,
    "many": many,
}


@pytest.fixture
def findings() -> dict[str, Callable[..., Findings]]:
    """Makers of made-up findings, by name."""
    return FACTORIES


@pytest.fixture(params=["two", "hostile", "nothing"])
def any_findings(request: pytest.FixtureRequest) -> Findings:
    """Each of the small made-up findings in turn."""
    return FACTORIES[request.param]()
