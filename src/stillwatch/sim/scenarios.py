"""scenarios: the ordinary populations of a provider, and the demonstration with one campaign among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from stillwatch.sim.campaign import Campaign
from stillwatch.sim.population import Frame, Population
from stillwatch.sim.world import Scenario

SMALL_TALK: Final = {
    "life": 0.4,
    "study": 0.14,
    "work": 0.14,
    "code": 0.08,
    "math": 0.06,
    "write": 0.1,
    "popular": 0.08,
}
TASKS: Final = {"code": 0.4, "math": 0.25, "study": 0.15, "work": 0.1, "write": 0.1}

CONSUMERS: Final = Population(
    name="consumer",
    n_accounts=3000,
    exchanges=9,
    spread=1.15,
    speech=SMALL_TALK,
    free=0.5,
    languages={"en": 0.62, "es": 0.12, "de": 0.1, "zh": 0.08, "ja": 0.08},
    clients={"web": 0.6, "app": 0.37, "sdk-py": 0.03},
    exits={"home": (1, 2), "mobile": (0, 2), "vpn": (0, 1)},
    system=Frame(symbol="persona", scope="account", share=0.08),
)
HOUSEHOLDS: Final = replace(
    CONSUMERS, name="household", n_accounts=240, group=(2, 4), shares=frozenset({"card", "network"}), free=0.0
)
CODERS: Final = Population(
    name="coding_agent",
    n_accounts=260,
    exchanges=45,
    spread=1.2,
    speech={"trace": 0.8, "code": 0.2},
    clients={"drake-cli": 1.0},
    system=Frame(symbol="tool"),
    exits={"home": (1, 2), "office": (0, 2), "cloud": (0, 1)},
    rhythm="office",
    session=14,
    gap_s=15,
    large=0.85,
    context=2500,
    output=320,
)
PAIRS: Final = replace(
    CODERS,
    name="pair_agent",
    n_accounts=180,
    clients={"siskin-ide": 1.0},
    system=Frame(symbol="tool", n=3),
    exchanges=30,
)
PRODUCTS: Final = Population(
    name="rag_product",
    n_accounts=130,
    exchanges=100,
    spread=0.9,
    group=(3, 6),
    declared=1.0,
    churn=0.05,
    shares=frozenset({"card", "org", "mail", "client", "signup"}),
    speech={"passages": 1.0},
    retry=0.0,
    system=Frame(symbol="system", scope="group"),
    head=Frame(symbol="head", scope="group", share=0.5),
    exits={"cloud": (1, 3)},
    clients={"sdk-py": 0.7, "sdk-js": 0.3},
    rhythm="office",
    session=3,
    context=400,
)
AGENCIES: Final = Population(
    name="agency",
    n_accounts=90,
    exchanges=45,
    group=(8, 16),
    shares=frozenset({"card", "mail"}),
    speech={"work": 0.6, "write": 0.4},
    system=Frame(symbol="system", scope="group", n=3, share=0.7),
    exits={"office": (1, 2), "home": (0, 1), "cloud": (0, 1)},
    clients={"web": 0.5, "sdk-js": 0.5},
    rhythm="office",
)
EVALUATORS: Final = Population(
    name="evaluator",
    n_accounts=36,
    exchanges=180,
    spread=0.9,
    speech={"benchmark": 1.0},
    public={"benchmark": 1200},
    head=Frame(symbol="head", n=4, key="suite"),
    tail=Frame(symbol="elicit", n=2, share=0.3, key="suite"),
    active=(0.58, 0.9),
    exits={"cloud": (1, 3), "office": (0, 1)},
    clients={"sdk-py": 1.0},
    rhythm="machine",
    session=80,
    gap_s=4,
    large=0.9,
    adopt_days=1.0,
    retry=0.1,
    output=420,
)
JUDGES: Final = Population(
    name="judge",
    n_accounts=30,
    exchanges=90,
    speech={"verdict": 1.0},
    head=Frame(symbol="head", n=3, key="judging"),
    tail=Frame(symbol="elicit", n=2, key="judging"),
    exits={"cloud": (1, 2)},
    clients={"sdk-py": 1.0},
    rhythm="machine",
    session=30,
    gap_s=5,
    retry=0.0,
)
BATCHES: Final = Population(
    name="batch",
    n_accounts=14,
    exchanges=450,
    spread=0.7,
    speech={"ticket": 1.0},
    retry=0.0,
    declared=1.0,
    free=0.0,
    head=Frame(symbol="head", scope="account", n=2),
    exits={"cloud": (1, 4)},
    clients={"sdk-py": 0.6, "sdk-js": 0.4},
    rhythm="machine",
    session=120,
    gap_s=2,
    context=5,
    output=60,
)
CAMPUS: Final = replace(
    CONSUMERS,
    name="campus",
    n_accounts=220,
    exits={"campus": (1, 3), "mobile": (0, 1)},
    free=0.8,
    languages={"en": 0.9, "zh": 0.1},
    speech={"study": 0.5, "math": 0.2, "code": 0.15, "life": 0.1, "popular": 0.05},
    exchanges=8,
)
NOMADS: Final = replace(
    CONSUMERS,
    name="nomad",
    n_accounts=70,
    exits={"vpn": (4, 12), "home": (4, 16), "cloud": (2, 8)},
    stay_h=3.0,
    exchanges=70,
    speech={**SMALL_TALK, "code": 0.4},
    clients={"sdk-py": 0.3, "web": 0.7},
    free=0.0,
    large=0.8,
)

ORDINARY: Final = (
    CONSUMERS,
    HOUSEHOLDS,
    CODERS,
    PAIRS,
    PRODUCTS,
    AGENCIES,
    EVALUATORS,
    JUDGES,
    BATCHES,
    CAMPUS,
    NOMADS,
)

HARVEST: Final = Campaign(
    crew=Population(
        name="harvest",
        n_accounts=120,
        exchanges=110,
        spread=0.75,
        speech=TASKS,
        exits={"cloud": (5, 12)},
        stay_h=2.0,
        clients={"sdk-py": 0.75, "sdk-js": 0.25},
        rhythm="people",
        session=8,
        gap_s=20,
        active=(0.3, 0.97),
        churn=0.15,
        retry=0.0,
        large=0.9,
        adopt_days=0.5,
        output=620,
    ),
)


def demo_scenario(*, n_consumers: int = 3000) -> Scenario:
    """Thirty days of a provider's ordinary traffic and one campaign; all sizes follow the number of consumers."""
    scale = n_consumers / CONSUMERS.n_accounts
    populations = tuple(replace(each, n_accounts=max(1, round(each.n_accounts * scale))) for each in ORDINARY)
    crew = replace(HARVEST.crew, n_accounts=max(2, round(HARVEST.crew.n_accounts * scale)))
    return Scenario(populations=populations, campaigns=(replace(HARVEST, crew=crew),))
