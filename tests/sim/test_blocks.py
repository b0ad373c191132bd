"""What each block of a campaign does to its accounts and exchanges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stillwatch.sim.scenarios import HARD_NEGATIVES, Scenario, campaign, load_scenario, ordinary
from stillwatch.sim.world import Played, cast, play, write_world

CROWD = load_scenario("bench").only("consumer")
DAY_US = 86_400_000_000


def planted(scale: float = 0.3, **changes: Any) -> tuple[Played, pa.Table, pa.Table]:
    """A crowd and one campaign of 60 accounts: the world, the campaign's accounts and its exchanges."""
    crew = {"n_accounts": 200, **changes.pop("crew", {})}
    played = play(CROWD.having(campaign("harvest", crew=crew, **changes)), seed=5, scale=scale)
    ids = played.truth.filter(pc.is_valid(played.truth["campaign"]))["account_id"].combine_chunks()
    return (
        played,
        played.accounts.filter(pc.is_in(played.accounts["account_id"], ids)),
        played.exchanges.filter(pc.is_in(played.exchanges["account_id"], ids)),
    )


def instants(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    found: np.ndarray[Any, np.dtype[np.int64]] = column.cast(pa.int64()).to_numpy()
    return found


def test_a_stated_total_is_met() -> None:
    """The exchanges of a campaign add up to what it states, times the scale, within a few per cent."""
    _, _, rows = planted(n_exchanges=40_000, scale=0.5)
    assert abs(rows.num_rows - 20_000) < 800


def test_totals_are_heavy_tailed() -> None:
    """Load balancing leaves some accounts with several times the median."""
    _, _, rows = planted()
    counts = rows["account_id"].value_counts().field("counts").to_numpy()
    assert counts.max() > 3 * np.median(counts)


def test_the_banned_are_replaced() -> None:
    """Accounts live for about the stated time, others begin where they end, and the campaign goes on to its end."""
    _, accounts, rows = planted(life_days=5.0, scale=1.0, crew={"churn": 0.0, "exchanges": 60})
    first = rows.group_by("account_id").aggregate([("ts", "min"), ("ts", "max")])
    begin, end = instants(first["ts_min"]), instants(first["ts_max"])
    assert np.median(end - begin) < 8 * DAY_US
    assert begin.max() - begin.min() > 12 * DAY_US
    days = (instants(rows["ts"]) - begin.min()) // DAY_US
    per_day = np.bincount(days)[:18]
    assert per_day.min() > 0.4 * per_day.mean()
    assert len(accounts) == 200


def test_accounts_are_signed_up_in_batches() -> None:
    """Sign-ups fall on few afternoons, or evenly over the days where there are no batches."""
    for n_batches, fewest, most in ((3, 1, 8), (0, 15, 60)):
        _, accounts, _ = planted(n_batches=n_batches, aged=0.0, signup_days=30.0)
        days = len(np.unique(instants(accounts["created_at"]) // DAY_US))
        assert fewest <= days <= most


def test_a_factory_uses_its_domains() -> None:
    """Most accounts of a factory have an address at one of its few domains."""
    _, accounts, _ = planted(n_domains=3)
    top = sorted(accounts["email_domain"].value_counts().field("counts").to_pylist())[-3:]
    assert sum(top) > 0.5 * len(accounts)


def test_a_work_list_is_sent_once_or_reworded() -> None:
    """With one wording no task is sent twice; with two, tasks come back in other words."""
    plain: dict[str, Any] = {"templates": {}, "elicit": 0.0, "crew": {"speech": {"agentic": 1.0}}}
    _, _, once = planted(**plain)
    assert len(once["prompt"].unique()) == once.num_rows
    _, _, often = planted(wordings=8.0, **plain)
    goals = pc.struct_field(pc.extract_regex(often["prompt"], "(?P<goal>Goal: [^.]*)"), "goal").drop_null()
    told = often.filter(pc.match_substring(often["prompt"], "Goal: "))["prompt"].unique()
    assert len(goals.unique()) < 0.3 * len(goals)
    assert len(told) > 1.5 * len(goals.unique())


def test_the_crew_moves_to_a_new_model_at_once() -> None:
    """Within two days of the release most of a campaign's large-model traffic is on it, and little of the crowd's."""
    played, _, rows = planted(scale=1.0)
    release = instants(played.exchanges["ts"]).min() + 18 * DAY_US
    crew = pc.is_in(played.exchanges["account_id"], rows["account_id"].combine_chunks())
    ts = instants(played.exchanges["ts"])
    soon = pa.chunked_array([(ts > release + DAY_US) & (ts < release + 3 * DAY_US)])
    mine, theirs = (
        pc.mean(pc.equal(played.exchanges.filter(pc.and_(soon, who))["model"], "polaris-2")).as_py()
        for who in (crew, pc.invert(crew))
    )
    assert mine > 0.7
    assert theirs < 0.2


def test_conversations_are_handed_over() -> None:
    """With hand-over, some exchanges of a conversation come from another account of the crew, and totals stay."""
    from stillwatch.sim.traffic import send

    scenario = CROWD.having(campaign("harvest", handover=0.4, crew={"n_accounts": 80, "session": 8}))
    company = cast(scenario, seed=3)
    first = int(scenario.start.timestamp()) // 3600
    rows = send(company, first, first + scenario.n_days * 24)
    moved = rows.account != rows.origin
    crew = len(company.parts) - 1
    assert (company.part[rows.account[moved]] == crew).all() and (company.part[rows.origin[moved]] == crew).all()
    share = moved.sum() / (company.part[rows.account] == crew).sum()
    assert 0.1 < share < 0.4
    assert (rows.turn[moved] > 0).all()
    assert (company.begin_us[rows.account] <= rows.ts).all() and (rows.ts < company.end_us[rows.account]).all()


def test_a_conversation_says_the_same_in_every_row() -> None:
    """With `messages`, each ends with the row's prompt, and conversations handed over begin in two accounts alike."""
    crew = {"n_accounts": 60, "session": 6}
    scenario = replace(CROWD.having(campaign("harvest", handover=0.5, crew=crew)), messages=True)
    played = play(scenario, seed=3, scale=0.2)
    owners: dict[str, set[str]] = {}
    for row in played.exchanges.select(["account_id", "prompt", "messages"]).to_pylist():
        said = row["messages"]
        assert said[-1] == {"role": "user", "content": row["prompt"]}
        assert [each["role"] for each in said] == ["user", "assistant"] * (len(said) // 2) + ["user"]
        if 1 < len(said) < 23:
            owners.setdefault("\0".join(each["content"] for each in said[:2]), set()).add(row["account_id"])
    planted = set(played.truth.filter(pc.is_valid(played.truth["campaign"]))["account_id"].to_pylist())
    shared = [accounts for accounts in owners.values() if len(accounts) > 1]
    assert len(shared) > 20
    assert all(accounts <= planted for accounts in shared)


def test_a_copycat_looks_like_its_victim() -> None:
    """A campaign that copies a population sends its system prompt with its clients through its proxies."""
    scenario = load_scenario("lookalikes").only("victim", "copycat")
    played = play(scenario, seed=2)
    joined = played.exchanges.join(played.truth, "account_id")
    for column in ("system_prompt", "user_agent"):
        theirs, mine = (
            set(joined.filter(pc.equal(joined["population"], name))[column].drop_null().to_pylist())
            for name in ("victim", "copycat")
        )
        assert theirs & mine and len(theirs) <= 4


@pytest.mark.parametrize("name", HARD_NEGATIVES)
def test_each_look_alike_can_stand_alone(name: str) -> None:
    """Every hard negative is a population of its own name in the truth, without a campaign."""
    scenario = CROWD.having(ordinary(name, n_accounts=80))
    played = play(scenario, seed=1, scale=0.5)
    rows = played.truth.filter(pc.equal(played.truth["population"], name))
    assert rows.num_rows == 40
    assert rows["campaign"].null_count == 40


def test_the_licensed_are_on_the_allowlist(tmp_path: Path) -> None:
    """The accounts that may distil, and only they, are written for `scan --allowlist`."""
    scenario = Scenario(populations=(ordinary("licensed", n_accounts=6), ordinary("consumer", n_accounts=9)))
    world = write_world(scenario, tmp_path, seed=1)
    truth = pq.read_table(world.truth)
    licensed = truth.filter(pc.equal(truth["population"], "licensed"))["account_id"].to_pylist()
    assert world.allowlist.read_text("utf-8").split() == sorted(licensed)


def test_many_people_sit_behind_a_reseller() -> None:
    """A declared reseller names hundreds of end users in several languages; nobody else names any."""
    played = play(CROWD.having(ordinary("reseller", n_accounts=2, exchanges=900, spread=0.1)), seed=1, scale=0.5)
    users = played.exchanges["end_user"].drop_null()
    assert len(users.unique()) > 50
    declared = played.accounts.filter(played.accounts["is_reseller"])["account_id"].to_pylist()
    named = played.exchanges.filter(pc.is_valid(played.exchanges["end_user"]))["account_id"].unique().to_pylist()
    assert sorted(named) == sorted(declared)
