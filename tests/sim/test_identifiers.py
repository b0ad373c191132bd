"""Identifiers beside the account: API keys, session ids, addresses and telephone numbers."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stillwatch.sim.scenarios import Scenario, campaign, load_scenario, ordinary
from stillwatch.sim.world import Played, play


@pytest.fixture(scope="module")
def played() -> Played:
    crew = {"n_accounts": 80, "session": 8}
    blocks = (ordinary("consumer", n_accounts=300), ordinary("rag_product", n_accounts=30))
    one = campaign("harvest", per_phone=4.0, handover=0.4, crew=crew)
    return play(Scenario(populations=blocks, campaigns=(one,)), seed=3)


def test_keys_are_an_accounts_own_and_absent_in_applications(played: Played) -> None:
    """Every API row has one of up to three keys of its account, every other none."""
    app = pc.equal(played.exchanges["access_path"], "app")
    assert pc.all(pc.equal(app, pc.is_null(played.exchanges["api_key_id"]))).as_py()
    keys = played.exchanges.filter(pc.invert(app)).group_by("api_key_id").aggregate([("account_id", "count_distinct")])
    assert pc.max(keys["account_id_count_distinct"]).as_py() == 1
    owned = played.exchanges.group_by("account_id").aggregate([("api_key_id", "count_distinct")])
    assert set(owned["api_key_id_count_distinct"].to_pylist()) == {0, 1, 2, 3}


def test_a_session_is_of_one_account(played: Played) -> None:
    """Applications name every conversation, other clients some; also one handed over never has one name twice."""
    rows = played.exchanges
    assert rows.filter(pc.equal(rows["access_path"], "app"))["session_id"].null_count == 0
    named = rows.filter(pc.is_valid(rows["session_id"]))
    assert 0 < named.num_rows < rows.num_rows
    each = named.group_by("session_id").aggregate([("account_id", "count_distinct"), ("ts", "count")])
    assert pc.max(each["account_id_count_distinct"]).as_py() == 1
    assert pc.mean(each["ts_count"]).as_py() > 1.5


def test_a_factory_confirms_many_accounts_with_one_number(played: Played) -> None:
    """Numbers are an ordinary account's own or absent; a factory's are shared; addresses never are."""
    truth = played.accounts.join(played.truth, "account_id")
    inside = pc.is_valid(truth["campaign"])

    def most(rows: pa.Table, name: str) -> int:
        counts = rows[name].drop_null().value_counts().field("counts")
        return int(pc.max(counts).as_py())

    assert most(truth.filter(pc.invert(inside)), "phone_hash") == 1
    assert most(truth.filter(inside), "phone_hash") > 2
    assert most(truth, "email_hash") == 1
    for name, share in (("phone_hash", 0.4), ("email_hash", 0.03)):
        assert abs(truth[name].null_count / truth.num_rows - share) < 0.09


def test_the_demonstration_shares_no_number() -> None:
    """A campaign whose factory is not said to share numbers does not."""
    accounts = play(load_scenario("demo").only("harvest"), seed=1).accounts
    assert len(accounts["phone_hash"].drop_null().unique()) == len(accounts) - accounts["phone_hash"].null_count
