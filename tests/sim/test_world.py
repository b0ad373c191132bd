from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stillwatch.errors import InputError, SettingsError
from stillwatch.records import ACCOUNTS, EXCHANGES
from stillwatch.sim.campaign import Campaign
from stillwatch.sim.population import Frame, Population
from stillwatch.sim.scenarios import Scenario, campaign, demo_scenario, ordinary
from stillwatch.sim.world import Played, play, write_world

SCENARIO = demo_scenario(n_consumers=240)


@pytest.fixture(scope="module")
def played() -> Played:
    return play(SCENARIO, seed=5)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.parquet"))}


def of(played: Played, name: str) -> pa.Table:
    """Exchanges of one population."""
    ids = played.truth.filter(pc.equal(played.truth["population"], name))["account_id"]
    return played.exchanges.filter(pc.is_in(played.exchanges["account_id"], ids.combine_chunks()))


def networks(rows: pa.Table) -> list[str]:
    """The /24 (or IPv6 /48) of each row."""
    return [ip.rpartition(".")[0] or ip.partition("::")[0] for ip in rows["ip"].to_pylist()]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """A world written twice from one seed, the second time over the first, is the same to the byte, on any threads."""
    write_world(SCENARIO, tmp_path, seed=7, threads=1)
    first = digests(tmp_path)
    for threads in (2, 5):
        write_world(SCENARIO, tmp_path, seed=7, threads=threads)
        assert digests(tmp_path) == first
    assert len(first) == 6


def test_another_seed_is_another_world(played: Played) -> None:
    """Two seeds share neither accounts nor more than a few prompts."""
    other = play(SCENARIO, seed=6)
    assert not set(played.truth["account_id"].to_pylist()) & set(other.truth["account_id"].to_pylist())
    mine, theirs = (set(of(world, "harvest")["prompt"].to_pylist()) for world in (played, other))
    assert not mine & theirs


def test_a_population_does_not_depend_on_its_neighbours() -> None:
    """Taking the campaign away leaves what ordinary accounts say untouched."""
    alone = play(replace(SCENARIO, campaigns=()), seed=5)
    both = play(SCENARIO, seed=5)
    for name in ("consumer", "rag_product"):
        assert of(alone, name)["prompt"].to_pylist() == of(both, name)["prompt"].to_pylist()


def test_schema_is_canonical(played: Played) -> None:
    """Every column has the name and type that records.py gives it."""
    for table, schema in ((played.exchanges, EXCHANGES), (played.accounts, ACCOUNTS)):
        assert all(field.equals(schema.field(field.name)) for field in table.schema)
    assert played.exchanges["prompt"].null_count == 0


def test_truth_covers_every_account_once(played: Played) -> None:
    """Logs, accounts and truth name the same accounts; only the campaign's have a campaign."""
    ids = played.truth["account_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert set(ids) == set(played.accounts["account_id"].to_pylist()) == set(played.exchanges["account_id"].to_pylist())
    planted = played.truth.filter(pc.is_valid(played.truth["campaign"]))
    assert set(planted["population"].to_pylist()) == set(planted["campaign"].to_pylist()) == {"harvest"}


def test_rows_are_in_order_and_after_sign_up(played: Played) -> None:
    """Rows are sorted by time, inside the calendar, and no account sends before it exists."""
    ts = played.exchanges["ts"].cast(pa.int64()).to_numpy()
    assert (np.diff(ts) >= 0).all()
    begin = int(SCENARIO.start.timestamp()) * 1_000_000
    assert ts[0] >= begin and ts[-1] < begin + SCENARIO.n_days * 86_400_000_000
    born = dict(
        zip(
            played.accounts["account_id"].to_pylist(),
            played.accounts["created_at"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    )
    assert all(
        born[i] <= t + 1_000_000 for i, t in zip(played.exchanges["account_id"].to_pylist(), ts.tolist(), strict=True)
    )


def test_the_work_list_never_repeats(played: Played) -> None:
    """No two exchanges of the campaign carry the same prompt, while ordinary people repeat themselves and others."""
    assert len(of(played, "harvest")["prompt"].unique()) == of(played, "harvest").num_rows
    assert len(of(played, "consumer")["prompt"].unique()) < of(played, "consumer").num_rows


def test_the_campaign_shares_cards_and_has_own_ones(played: Played) -> None:
    """Some cards pay for many of its accounts, other accounts have one of their own, strangers have neither."""
    truth = played.accounts.join(played.truth, "account_id")
    cards = truth.filter(pc.equal(truth["population"], "harvest"))["payment_fingerprint"].value_counts().to_pylist()
    outside = truth.filter(pc.not_equal(truth["population"], "harvest"))["payment_fingerprint"].unique().to_pylist()
    counts = [each["counts"] for each in cards]
    assert max(counts) >= 2 and counts.count(1) >= 2
    assert not {each["values"] for each in cards} & set(outside)


def test_the_campaign_rotates_through_networks_of_strangers() -> None:
    """Its accounts use several networks each, and ordinary accounts use most of the same ones."""
    played = play(demo_scenario(n_consumers=900), seed=8)
    mine = of(played, "harvest")
    strangers = pc.invert(pc.is_in(played.exchanges["account_id"], mine["account_id"].combine_chunks()))
    everyone = set(networks(played.exchanges.filter(strangers)))
    used: dict[str, set[str]] = {}
    for account, network in zip(mine["account_id"].to_pylist(), networks(mine), strict=True):
        used.setdefault(account, set()).add(network)
    assert np.median([len(each) for each in used.values()]) >= 3
    pool = set().union(*used.values())
    assert len(pool & everyone) > 0.5 * len(pool)


def test_the_campaign_asks_for_reasoning_and_wraps_tasks() -> None:
    """With one phrase and one template of each place, a third of tasks has each template and half the phrase."""
    crew = {"name": "harvest", "n_accounts": 30}
    one = campaign(
        "harvest", crew=crew, templates={"head": 1, "tail": 1, "system": 1}, per_account=9, elicit=0.5, n_phrases=1
    )
    rows = play(Scenario(populations=(ordinary("consumer", n_accounts=20),), campaigns=(one,)), seed=3)
    mine = of(rows, "harvest")
    parts = [text.split("\n\n") for text in mine["prompt"].to_pylist()]
    heads, tails = common([p[0] for p in parts]), common([p[-1] for p in parts] + [p[-2] for p in parts if len(p) > 1])
    system = mine["system_prompt"].null_count
    assert abs(heads - mine.num_rows / 3) < mine.num_rows / 6
    assert abs(tails - mine.num_rows / 2) < mine.num_rows / 6
    assert abs(system - mine.num_rows * 2 / 3) < mine.num_rows / 6


def common(texts: list[str]) -> int:
    """How often the most common text occurs."""
    return max(texts.count(text) for text in set(texts))


def test_cover_hides_tasks_among_customers() -> None:
    """With cover, most exchanges carry neither template nor request for reasoning."""
    crew = {"name": "harvest", "n_accounts": 30}
    relay = campaign("harvest", crew=crew, cover=0.7, elicit=1.0, templates={"head": 2}, cover_speech={"life": 1.0})
    rows = of(play(Scenario(populations=(), campaigns=(relay,)), seed=3), "harvest")
    plain = sum("\n\n" not in text for text in rows["prompt"].to_pylist())
    assert 0.62 < plain / rows.num_rows < 0.78


def test_a_group_shares_what_it_is_said_to_share() -> None:
    """Accounts of one group have one card, one organisation and one client; other groups have others."""
    office = Population(
        name="office",
        n_accounts=12,
        group=(6, 6),
        shares=frozenset({"card", "org", "client", "network"}),
        declared=1.0,
        system=Frame(symbol="system", scope="group"),
    )
    rows = play(Scenario(populations=(office,)), seed=2)
    joined = rows.exchanges.join(rows.accounts, "account_id")
    by_card = joined.group_by("payment_fingerprint").aggregate(
        [
            ("account_id", "count_distinct"),
            ("org_id", "count_distinct"),
            ("user_agent", "count_distinct"),
            ("system_prompt", "count_distinct"),
        ]
    )
    assert by_card.num_rows == 2
    assert by_card["account_id_count_distinct"].to_pylist() == [6, 6]
    for facet in ("org_id", "user_agent", "system_prompt"):
        assert by_card[f"{facet}_count_distinct"].to_pylist() == [1, 1]


@pytest.mark.parametrize(
    "names", [["mine.parquet"], ["exchanges/a.parquet"], ["accounts.parquet"], ["world.json", "x"]]
)
def test_a_foreign_folder_is_refused(names: list[str], tmp_path: Path) -> None:
    """A folder with logs of someone else is left alone, also where its files have the names of a world's."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(InputError, match="Choose an empty folder"):
        write_world(SCENARIO, tmp_path, seed=1)
    assert all((tmp_path / name).read_bytes() == b"mine" for name in names)


def test_a_folder_of_no_readable_name_is_refused(tmp_path: Path) -> None:
    """A name that is not UTF-8 is one line of error before anything is made."""
    with pytest.raises(InputError, match="not UTF-8"):
        write_world(SCENARIO, tmp_path / "a\udcff" / "world", seed=1)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_the_earlier_world(tmp_path: Path) -> None:
    """Stopped halfway, a run leaves the world before it as it was, and nothing beside it."""
    write_world(SCENARIO, tmp_path / "world", seed=1)
    first = digests(tmp_path)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(SCENARIO, tmp_path / "world", seed=2, on_progress=stop)
    assert digests(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Population(name="x", n_accounts=1, shares=frozenset({"luck"})),
        lambda: Population(name="x", n_accounts=1, head=Frame(symbol="head", scope="world")),
        lambda: Campaign(crew=Population(name="x", n_accounts=4, group=(2, 2))),
        lambda: Campaign(crew=Population(name="x", n_accounts=4), templates={"nose": 1}),
    ],
)
def test_senseless_blocks_are_refused(make: Callable[[], Any]) -> None:
    """A block that asks for what cannot be is an error when it is made."""
    with pytest.raises(SettingsError):
        make()


def test_no_account_is_known_by_its_id(played: Played) -> None:
    """Account ids of the campaign are spread over the sorted ids like anybody's."""
    order = np.array([bool(name) for name in played.truth["campaign"].to_pylist()])
    places = np.flatnonzero(order) / len(order)
    assert 0.3 < places.mean() < 0.7 and places.std() > 0.15


def test_volumes_overlap() -> None:
    """The best single threshold on how much an account sends tells campaign from ordinary programs badly."""
    played = play(demo_scenario(n_consumers=900), seed=4)
    counts = {
        name: of(played, name)["account_id"].value_counts().field("counts").to_numpy()
        for name in ("harvest", "rag_product")
    }
    mine, theirs = counts["harvest"], counts["rag_product"]
    wins = (mine[:, None] > theirs[None, :]).mean() + 0.5 * (mine[:, None] == theirs[None, :]).mean()
    assert 0.25 < wins < 0.75
