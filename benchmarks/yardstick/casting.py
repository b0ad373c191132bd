"""casting: the worlds of the detection benchmark: campaigns by kind, and the crowds they hide in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from stillwatch.sim.campaign import Campaign
from stillwatch.sim.population import Population
from stillwatch.sim.scenarios import HARD_NEGATIVES, Scenario, campaign, load_scenario, ordinary

TIERS: Final = (0, 1, 2, 3)
SEEDS: Final = (1, 2, 3, 4, 5)
LOW_AND_SLOW: Final = (75, 94, 112, 131, 150)
"""Accounts of a low-and-slow campaign, by seed."""

CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    # Rented clouds, one work list dealt over accounts whose loads a balancer evens out.
    "cloud": {"like": "harvest", "crew": {"spread": 0.3}},
    # Half of the traffic is customers', exits are homes, cards its own.
    "relay": {"like": "relay"},
    # Few requests each, from homes, at people's hours, with cards of their own.
    "low_and_slow": {
        "like": "harvest",
        "own": {"card": 1.0},
        "rented": 0,
        "n_batches": 0,
        "signup_days": 30.0,
        "aged": 0.3,
        "crew": {
            "exchanges": 60,
            "spread": 0.3,
            "exits": {"home": (1, 3)},
            "clients": {"web": 0.7, "sdk-py": 0.3},
            "days": 0.6,
            "session": 4.0,
            "gap_s": 40.0,
            "stay_h": 6.0,
        },
    },
    # Everybody moves to the new model within hours of its release; otherwise as agents do.
    "pivot": {"like": "agentic", "life_days": 0.0, "handover": 0.0, "crew": {"large": 1.0, "adopt_days": 0.15}},
    # Every task twice in other words, without any set text around it.
    "paraphrased": {"like": "harvest", "templates": {}, "wordings": 2.0, "elicit": 0.3},
    # Eighty-five templates over four places.
    "many_templates": {
        "like": "harvest",
        "templates": {"head": 40, "tail": 25, "system": 20},
        "wordings": 1.5,
        "elicit": 0.25,
    },
    # A tenth of conversations is carried on by another account; whole conversations are logged.
    "handover": {"like": "harvest", "handover": 0.1},
}
"""Campaign kinds: what each changes in a campaign of the library."""

KINDS: Final = tuple(CHANGES)


def of_kind(kind: str, *, tier: int | None, n_accounts: int = 100, name: str = "", **changes: Any) -> Campaign:
    """A campaign of a kind at a tier of isolation; the kind's own where the tier is None."""
    change: dict[str, Any] = dict(CHANGES[kind]) | changes
    like = change.pop("like")
    crew = {**change.pop("crew", {}), "n_accounts": n_accounts, "name": name or kind}
    return campaign(like, tier=tier, crew=crew, **change)


def bench_with(*campaigns: Campaign, messages: bool = False) -> Scenario:
    """The bench world with these campaigns instead of its own."""
    return replace(load_scenario("bench").quiet().having(*campaigns), messages=messages)


def recall_world(kind: str, tier: int | None, seed: int) -> Scenario:
    """The bench world with one campaign of a kind at a tier."""
    n_accounts = LOW_AND_SLOW[seed % len(LOW_AND_SLOW)] if kind == "low_and_slow" else 100
    return bench_with(of_kind(kind, tier=tier, n_accounts=n_accounts), messages=kind == "handover")


def several_world() -> Scenario:
    """Three campaigns of different kinds side by side, which share a popular cloud and its networks."""
    return bench_with(
        of_kind("cloud", tier=None, n_accounts=80),
        of_kind("many_templates", tier=None, n_accounts=80),
        of_kind("relay", tier=None, n_accounts=80),
    )


def empty_world() -> Scenario:
    """Every ordinary population, look-alikes included, and no campaign."""
    return load_scenario("empty")


def lookalike_world() -> Scenario:
    """Every look-alike, a copycat of an honest product, and a relay."""
    return load_scenario("lookalikes")


def grown(name: str, n_accounts: int) -> Population:
    """A population of the library with so many accounts."""
    return ordinary(name, n_accounts=n_accounts)


def innocents_world() -> Scenario:
    """The empty world with enough of each look-alike to be weighed as a group."""
    wanted = {"reseller": 20, "licensed": 24, "resold": 30, "victim": 60, "office_vpn": 60}
    return empty_world().having(*(grown(name, n) for name, n in wanted.items()))


CONTROLS: Final = ("anybody", "consumer", "agency", "rag_product")
"""Populations that are no hard negative, and all together, of which groups are drawn as well."""

WEIGHED_AS_GROUPS: Final = (*HARD_NEGATIVES, *CONTROLS)
