from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest

from stillwatch.errors import SettingsError
from stillwatch.sim.scenarios import HARD_NEGATIVES, LIBRARIES, campaign, load_scenario, ordinary, shipped
from stillwatch.sim.world import Played, cast, play

WORLDS = next(iter(shipped().values())).parent


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_scenario_has_accounts_and_says_what_it_follows(name: str) -> None:
    """Each can be cast, has a title, and each of its blocks says what in the public record or in traffic it follows."""
    scenario = load_scenario(name)
    assert scenario.title and scenario.follows
    assert all(each.follows for each in scenario.populations)
    innocent = {each.follows for each in load_scenario("empty").populations}
    assert all(each.crew.follows and each.crew.follows not in innocent for each in scenario.campaigns)
    assert len(cast(scenario, seed=1, scale=0.01)) >= len(scenario.populations)


def test_the_reported_sizes_are_the_reported_ones() -> None:
    """Accounts, exchanges and dates are those of the letter and of the post, and as much ordinary traffic surrounds."""
    june, february = load_scenario("reported-2026-06"), load_scenario("reported-2026-02")
    assert [(each.crew.n_accounts, each.n_exchanges) for each in june.campaigns] == [(25_000, 28_800_000)]
    assert (june.start.isoformat(), june.n_days) == ("2026-04-22T00:00:00+00:00", 45)
    assert [each.n_exchanges for each in february.campaigns] == [150_000, 3_400_000, 13_000_000]
    assert sum(each.crew.n_accounts for each in february.campaigns) == 24_000
    for scenario in (june, february):
        assert "allegations of one party" in " ".join(scenario.follows.split())


@pytest.mark.parametrize("scale", [0.0002, 0.0005, 0.002, 0.005, 0.02, 0.1])
@pytest.mark.parametrize("name", ["reported-2026-06", "reported-2026-02"])
def test_ordinary_traffic_is_more_than_the_campaigns(name: str, scale: float) -> None:
    """At every scale a tenth more ordinary exchanges are expected than planted ones, and nearly so many are sent."""
    for seed in (1, 2, 3) if scale < 0.05 else (1,):
        company = cast(load_scenario(name), seed=seed, scale=scale)
        planted = sum(part.cast.exchanges.sum() for part in company.parts if part.campaign)
        assert company.expected - planted >= 1.0999 * planted
    if scale < 0.001:
        played = play(load_scenario(name), seed=1, scale=scale)
        campaign_of = dict(
            zip(played.truth["account_id"].to_pylist(), played.truth["campaign"].to_pylist(), strict=True)
        )
        n_planted = sum(campaign_of[account] is not None for account in played.exchanges["account_id"].to_pylist())
        assert played.exchanges.num_rows - n_planted > n_planted


def test_ordinary_traffic_alone_means_no_campaign() -> None:
    """The scenario `empty` plants nothing and holds every look-alike."""
    scenario = load_scenario("empty")
    assert not scenario.campaigns
    assert set(HARD_NEGATIVES) <= {each.name for each in scenario.populations}


def test_the_libraries_are_used() -> None:
    """No population or campaign of the libraries is left out of all shipped scenarios."""
    texts = "".join(path.read_text("utf-8") for path in shipped().values())
    for library in LIBRARIES:
        for name in tomllib.loads((WORLDS / f"{library}.toml").read_text("utf-8")):
            assert f"\n{name} = " in texts or f'like = "{name}"' in texts, name


def test_worlds_with_one_knob_moved_are_a_line_each() -> None:
    """Blocks are replaced by name, added, or picked, and the rest of the scenario stays as it is."""
    base = load_scenario("bench")
    changed = base.having(campaign("harvest", tier=3, cover=0.5, crew={"n_accounts": 30}), ordinary("hackathon"))
    assert [each.name for each in changed.campaigns] == ["harvest"]
    assert changed.campaigns[0].own == {"card": 1, "exit": 1, "client": 1, "hours": 1}
    assert changed.campaigns[0].crew.n_accounts == 30
    assert {each.name for each in changed.populations} == {each.name for each in base.populations} | {"hackathon"}
    assert not base.quiet().campaigns
    assert [each.name for each in base.only("consumer").populations] == ["consumer"]


@pytest.mark.parametrize("tier", range(4))
def test_a_tier_says_what_is_shared(tier: int) -> None:
    """At tier 0 cards and exits are shared, at 1 exits still, from 2 neither; nobody's card is ever a stranger's."""
    base = load_scenario("bench").only("consumer", "harvest")
    scenario = base.having(campaign("harvest", tier=tier, rented=5, crew={"n_accounts": 60}))
    played = play(scenario, seed=4, scale=0.5)
    crew = played.accounts.join(played.truth, "account_id").to_pylist()
    cards = [row["payment_fingerprint"] for row in crew if row["campaign"]]
    others = {row["payment_fingerprint"] for row in crew if not row["campaign"]}
    assert (len(set(cards)) == len(cards)) == (tier >= 1)
    assert not set(cards) & others
    mine = {row["account_id"] for row in crew if row["campaign"]}
    rows = played.exchanges.select(["account_id", "ip"]).to_pylist()
    networks: dict[str, set[str]] = {}
    for row in rows:
        if row["account_id"] in mine:
            networks.setdefault(row["ip"].rpartition(".")[0] or row["ip"].partition("::")[0], set()).add(
                row["account_id"]
            )
    assert (max(len(users) for users in networks.values()) > 5) == (tier < 2)


def test_half_the_scale_keeps_every_ratio_and_nobody() -> None:
    """At half the scale the accounts are others; shares of accounts and exchanges, and tokens, agree within errors."""
    scenario = load_scenario("empty").having(campaign("harvest", crew={"n_accounts": 400}))
    whole, half = (play(scenario, seed=2, scale=scale) for scale in (1.0, 0.5))
    assert not set(whole.truth["account_id"].to_pylist()) & set(half.truth["account_id"].to_pylist())
    shared = set(whole.exchanges["prompt"].to_pylist()) & set(half.exchanges["prompt"].to_pylist())
    assert len(shared) < 0.05 * half.exchanges.num_rows
    sizes = []
    for played in (whole, half):
        names = dict(zip(played.truth["account_id"].to_pylist(), played.truth["population"].to_pylist(), strict=True))
        rows: dict[str, dict[str, int]] = {}
        for account in played.exchanges["account_id"].to_pylist():
            counts = rows.setdefault(names[account], {})
            counts[account] = counts.get(account, 0) + 1
        sizes.append({name: np.array(list(counts.values()), float) for name, counts in rows.items()})
    for name, many in sizes[0].items():
        few = sizes[1][name]
        assert abs(len(few) - len(many) / 2) <= 1
        error = np.sqrt(many.var() / len(many) + few.var() / len(few)) + 1
        assert abs(many.mean() - few.mean()) < 4.5 * error, name
    whole_answers, half_answers = (answers_of(played) for played in (whole, half))
    for name, longer in whole_answers.items():
        shorter = half_answers[name]
        if len(shorter) >= 30:  # accounts; of fewer, the error is not known
            error = np.sqrt(longer.var() / len(longer) + shorter.var() / len(shorter))
            assert abs(longer.mean() - shorter.mean()) < 4.5 * error, name


def answers_of(played: Played) -> dict[str, npt.NDArray[np.float64]]:
    """Of each population, the mean log length of the answers of each account."""
    rows = played.exchanges.select(["account_id", "output_tokens"]).join(played.truth, "account_id")
    logs = rows.set_column(1, "log", pc.ln(rows["output_tokens"].cast("float64")))
    means = logs.group_by(["population", "account_id"]).aggregate([("log", "mean")])
    names = np.array(means["population"].to_pylist())
    return {name: means["log_mean"].to_numpy()[names == name] for name in np.unique(names)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[populations]\nconsumers = { n_accounts = 3 }", "Did you mean consumer"),
        ("[populations]\nconsumer = { n_acounts = 3 }", "Did you mean n_accounts"),
        ("[populations]\nconsumer = { n_accounts = 'three' }", "makes no sense"),
        ("[populations]\nconsumer = { rhythm = 'night' }", "unknown rhythm"),
        ("[populations]\nconsumer = { languages = { xx = 1 } }", "unknown languages"),
        ("[populations]\nconsumer = { speech = { gossip = 1 } }", "no rule for"),
        ("[populations]\nconsumer = { head = { symbol = 'head', scope = 'world' } }", "unknown scope"),
        ("[[campaigns]]\nlike = 'harvest'\ntier = 4", "no such tier"),
        ("[[campaigns]]\nlike = 'harvest'\ncopies = 'nobody'", "copies a population that is not there"),
        ("[[campaigns]]\nlike = 'harvest'\n[[campaigns]]\nlike = 'harvest'", "two blocks of one name"),
        ("colour = 'red'", "no key 'colour'"),
        ("start = 2026-03-02T00:00:00\n[populations]\nconsumer = {}", "start with a time zone"),
        ("[populations", "is not TOML"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(text: str, says: str, tmp_path: Path) -> None:
    """An error says which block and key is wrong and what to do."""
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=says):
        load_scenario(path)


def test_a_scenario_that_is_not_there_lists_those_that_are() -> None:
    """The error names the shipped scenarios."""
    with pytest.raises(SettingsError, match="reported-2026-06"):
        load_scenario("reported")


@pytest.mark.parametrize(
    ("scale", "seed"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (float("inf"), 1), (1.0, -1), (1e9, 1)]
)
def test_an_impossible_size_is_refused(scale: float, seed: int) -> None:
    """A world of no or of countless accounts is an error before anything is drawn."""
    with pytest.raises(SettingsError):
        cast(load_scenario("bench"), seed=seed, scale=scale)
