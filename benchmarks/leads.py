"""leads: what a Profile can tell of shared access, and whom the verdict on one heavy account names.

    python benchmarks/leads.py [--seeds 3] [--write benchmarks/leads.md]

Two verdicts of single accounts are wanted: `shared_access` (many people behind one account, no harvest) and
`single_account` (one heavy account that harvests alone). This measures the tests that first come to mind, on made-up
worlds where the truth is known: why the first is not given on a Profile alone, and how often the second names whom.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats import beta

from stillwatch import LocalEngine, RootKey, ScanRequest, load_settings, scan
from stillwatch.detect.digest import RowKeys, digest
from stillwatch.detect.population import Population, build_population
from stillwatch.detect.profiles import deduplicate, profile
from stillwatch.kernels.evalues import conformal_p, rank_e_log2
from stillwatch.keys import Secret
from stillwatch.sim.scenarios import Scenario, campaign, load_scenario, ordinary
from stillwatch.sim.world import Played, play, write_world

Floats = npt.NDArray[np.float64]

KEY = RowKeys.from_subkey(RootKey(Secret(bytes(range(32)))).subkey("rows").reveal())
FEWEST_ROWS = 30
"""Sampled exchanges below which an account says too little of who is behind it."""

SMALL_P = 0.05
MANY_BITS = 10.0
SHARED = ("resold", "hobby_bot")
"""Populations with many people behind one account."""

CROWD = (
    ordinary("consumer", n_accounts=1_200),
    ordinary("household", n_accounts=120),
    ordinary("nomad", n_accounts=100),
    ordinary("coding_agent", n_accounts=100),
    ordinary("campus", n_accounts=100),
    ordinary("resold", n_accounts=60),
    ordinary("hobby_bot", n_accounts=40),
)


def population_of(played: Played) -> Population:
    """The population a scan would see."""
    facts = pa.Table.from_batches(
        [digest(batch, keys=KEY) for batch in played.exchanges.combine_chunks().to_batches(max_chunksize=8192)]
    )
    return build_population(profile(deduplicate(facts)), played.accounts)


def association_bits(network: npt.NDArray[Any], client: npt.NDArray[Any]) -> float:
    """Bits of "each client program goes with networks of its own", within one account.

    Universal inference (Wasserman, Ramdas and Balakrishnan 2020): the chance of each client given its network and the
    rows before (Krichevsky and Trofimov's estimator), over the largest likelihood of clients that do not depend on
    networks. Its mean is at most 1 where they do not.
    """
    _, network = np.unique(network, return_inverse=True)
    _, client, count = np.unique(client, return_inverse=True, return_counts=True)
    n_clients = len(count)
    seen = np.zeros((int(network.max()) + 1, n_clients))
    bits = -float((count * np.log2(count / len(client))).sum())
    for at, one in zip(network, client, strict=True):
        bits += float(np.log2((seen[at, one] + 0.5) / (seen[at].sum() + 0.5 * n_clients)))
        seen[at, one] += 1
    return bits


def measured(population: Population) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Accounts with enough rows, and what each test says of them."""
    at = np.flatnonzero(population.sampled >= FEWEST_ROWS)
    rhythm = population.profiles.column("rhythm").combine_chunks().flatten().to_numpy().reshape(-1, 7, 24)
    rows = [slice(population.offsets[i], population.offsets[i + 1]) for i in at]
    network, client = population.sample["network"], population.sample["client"]
    return at, {
        "networks": np.array([float(len(np.unique(network[each]))) for each in rows]),
        "clients": np.array([float(len(np.unique(client[each]))) for each in rows]),
        "hours of the day": (rhythm[at].sum(axis=1) > 0).sum(axis=1).astype(np.float64),
        "clients by network": np.array([association_bits(network[each], client[each]) for each in rows]),
    }


def named_by(name: str, score: Floats, peer: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whom a test would name: by bits where it has some, else by a rank among peers of at most `SMALL_P`."""
    if name == "clients by network":
        return np.asarray(score >= MANY_BITS)
    named = np.zeros(len(score), bool)
    for level in np.unique(peer):
        here = np.flatnonzero(peer == level)
        for i in here:
            named[i] = conformal_p(score[i], score[here[here != i]])[()] <= SMALL_P
    return named


def interval(n: int, of: int) -> str:
    """A share with its exact 95 % interval (Clopper and Pearson)."""
    low = beta.ppf(0.025, n, of - n + 1) if n else 0.0
    high = beta.ppf(0.975, n + 1, of - n) if n < of else 1.0
    return f"{n} of {of} ({100 * low:.1f} to {100 * high:.1f} %)"


def shared_access(seeds: range) -> list[str]:
    """How often each test names accounts of each population."""
    names = ("networks", "clients", "hours of the day", "clients by network")
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    sizes: dict[str, int] = defaultdict(int)
    middle: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for seed in seeds:
        played = play(Scenario(populations=CROWD), seed=seed)
        population = population_of(played)
        truth: Mapping[str, str] = dict(
            zip(played.truth["account_id"].to_pylist(), played.truth["population"].to_pylist(), strict=True)
        )
        at, scores = measured(population)
        kind = [truth[population.account_ids[i]] for i in at]
        told = {name: named_by(name, scores[name], population.peer[at]) for name in names}
        for i, one in enumerate(kind):
            sizes[one] += 1
            middle[one].append(tuple(scores[name][i] for name in names[:3]))
            for name in names:
                counts[one][name] += int(told[name][i])
    header = ["population", "people behind", "networks, clients, hours (median)", *names]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for one in sorted(sizes, key=lambda one: (one not in SHARED, one)):
        medians = ", ".join(f"{value:g}" for value in np.median(np.array(middle[one]), axis=0))
        cells = [interval(counts[one][name], sizes[one]) for name in names]
        behind = "many" if one in SHARED else "one"
        lines.append(f"| {' | '.join([one, behind, medians, *cells])} |")
    return lines


def worlds() -> dict[str, tuple[Scenario, int]]:
    """Worlds with and without one key that harvests alone: the scenario, and how many such keys there are."""
    alone = campaign("one_key", crew={"n_accounts": 1})
    people = Scenario(populations=(ordinary("consumer", n_accounts=1_500), ordinary("coding_agent", n_accounts=300)))
    bench, lookalikes = load_scenario("bench").quiet(), load_scenario("lookalikes").quiet()
    return {
        "people and agents": (people, 0),
        "people and agents, one key": (people.having(alone), 1),
        "bench": (bench, 0),
        "bench, one key": (bench.having(alone), 1),
        "look-alikes": (lookalikes, 0),
        "look-alikes, one key": (lookalikes.having(alone), 1),
    }


def heavy_account(seeds: range) -> list[str]:
    """Who is a lead by itself, in worlds with and without a key that harvests alone."""
    header = ["world", "keys that harvest", "of these leads", "worlds with another lead", "others named", "who"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name, (scenario, planted) in worlds().items():
        caught, disturbed, others = 0, 0, Counter[str]()
        for seed in seeds:
            truth, named = _alone(scenario, seed)
            ordinary_ones = [truth[one] for one in named if truth[one] != "one_key"]
            caught += len(named) - len(ordinary_ones)
            disturbed += bool(ordinary_ones)
            others.update(ordinary_ones)
        who = ", ".join(f"{one} {n}" for one, n in others.most_common()) or "nobody"
        cells = [interval(caught, planted * len(seeds)) if planted else "none", interval(disturbed, len(seeds))]
        lines.append(f"| {name} | {planted * len(seeds)} | {' | '.join(cells)} | {sum(others.values())} | {who} |")
    return lines


def _alone(scenario: Scenario, seed: int) -> tuple[dict[str, str], list[str]]:
    """Each account's campaign or population, and those that are a lead by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        world = write_world(scenario, Path(folder) / "world", seed=seed, threads=1)
        settings = load_settings(None, {}, {"scan.threads": 1})
        findings = scan(
            ScanRequest(logs=[world.exchanges], accounts=world.accounts),
            settings=settings,
            engine=LocalEngine(threads=1, memory_mb=512, n_shards=16),
            key=RootKey(Secret(bytes([seed]) * 32)),
            now=datetime(2027, 1, 1, tzinfo=UTC),
            clock=lambda: 0.0,
        )
        rows = pq.read_table(world.truth).to_pylist()
    evidence = findings.evidence.filter(pc.equal(findings.evidence["subject_kind"], "account"))
    shown = pc.is_in(findings.evidence_rows["evidence_id"], value_set=evidence["evidence_id"].combine_chunks())
    named = findings.evidence_rows.filter(shown)["account_id"].unique().to_pylist()
    return {row["account_id"]: row["campaign"] or row["population"] for row in rows}, named


def limits() -> list[str]:
    """The most bits a rank can give, against those that e-BH asks of one account among as many."""
    lines = ["| accounts | most bits of a rank | bits needed at q 0.001 | at q 0.1 |", "|---|---|---|---|"]
    for n in (500, 2_000, 20_000, 1_000_000):
        most = float(rank_e_log2(1 / (n + 1))[()])
        lines.append(f"| {n:,} | {most:.1f} | {np.log2(n / 0.001):.1f} | {np.log2(n / 0.1):.1f} |")
    return lines


PAGE = """# Leads of single accounts: what a Profile can tell

{machine}; seeds 1 to {n_seeds}; command: `python benchmarks/leads.py --seeds {n_seeds}`. Traffic is made up
(`stillwatch simulate`).

## Shared access

Accounts named by each test, among those with {fewest} sampled exchanges or more: a rank among peers of at most
{small_p:g}, or {many_bits:g} bits for client programs that go with networks of their own. Intervals are exact.

{shared}

Many networks and clients are no sign of shared access here: pooled subscriptions come through one proxy and one
program each, a bot through its server, and who has many networks is a heavy user on the move. Programs do not go with
networks of their own either. The hours of the day name users on the move more often than shared accounts, and no rank
of one account can weigh enough (below). Ranks are among all peers, other shared accounts included. What is left in a
Profile is the mix of scripts, a proxy of language and never evidence. What could decide is not in it: conversations
that run at the same time, and the end users that a gateway names. So the verdict is given to groups of accounts that
one operator holds, and never to one account.

## One heavy account

A rank among n accounts cannot weigh more than about log2(n / ln(n)^2) bits, and to choose one account among as many
asks for more:

{limits}

So no rank can choose one account among all. What `single_account` does instead: it examines the eight heaviest
accounts only, of 1,000 exchanges or more, and compares what each one's prompts ask for with the 500 heaviest of its
peers; e-BH over those examined, at q of at most 0.1. Leads of that kind, and whom they name:

{heavy}

The crowd decides: where dozens of customers grade answers or ask for steps all day, a key that does so too is one of
them, and a grader who is among the heaviest may be a lead. A lead accuses nobody, and none of these is a campaign.
"""


def page(n_seeds: int) -> str:
    """The page, measured anew."""
    seeds = range(1, n_seeds + 1)
    return PAGE.format(
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        n_seeds=n_seeds,
        fewest=FEWEST_ROWS,
        small_p=SMALL_P,
        many_bits=MANY_BITS,
        shared="\n".join(shared_access(seeds)),
        heavy="\n".join(heavy_account(seeds)),
        limits="\n".join(limits()),
    )


def main() -> None:
    """Measure and print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    said = page(asked.seeds)
    if asked.write:
        asked.write.write_text(said, encoding="utf-8")
    else:
        print(said)


if __name__ == "__main__":
    main()
