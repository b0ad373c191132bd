"""Whether an account can be told by a count, a length, an id or a place in a file: rules and a boosted tree try."""

from __future__ import annotations

from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from stillwatch.sim.scenarios import load_scenario
from stillwatch.sim.world import Played, cast, everybody, play

ensemble = pytest.importorskip("sklearn.ensemble", reason="scikit-learn is not installed")
selection = pytest.importorskip("sklearn.model_selection", reason="scikit-learn is not installed")
metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
stats = pytest.importorskip("scipy.stats")

TEXTUAL = ("letters", "letters_spread", "bare", "input")
"""Features that templates and system prompts of a campaign move."""

FEATURES = """
with sent as (
  select account_id, count(*) as n, count(distinct epoch_us(ts) // 86400000000) as n_days,
    median(input_tokens) as input, median(output_tokens) as output, stddev(output_tokens) as output_spread,
    max(output_tokens) as output_most,
    count(distinct ip) as addresses, count(distinct user_agent) as agents, count(distinct model) as models,
    avg(cast(model = 'polaris-2' as int)) as newest, avg(epoch_us(ts) // 3600000000 % 24) as hour,
    stddev(epoch_us(ts) // 3600000000 % 24) as hours, min(epoch_us(ts)) / 1e9 as first, max(epoch_us(ts)) / 1e9 as last,
    avg(length(prompt)) as letters, stddev(length(prompt)) as letters_spread, max(max_tokens) as cap,
    avg(cast(system_prompt is null as int)) as bare, max(temperature) as heat, avg(place) as place,
    max(cast(access_path = 'app' as int)) as app, max(exchange_id) as exchange_id
  from rows group by account_id),
cards as (select payment_fingerprint, count(*) as on_card from accounts group by 1),
mails as (select email_domain, count(*) as at_domain from accounts group by 1),
bins as (select payment_bin, count(*) as of_issuer from accounts group by 1)
select sent.* exclude (account_id, exchange_id), ('0x' || right(account_id, 8))::bigint as id,
  ('0x' || right(exchange_id, 8))::bigint as row_id, epoch_us(created_at) / 1e9 as born, on_card, at_domain, of_issuer,
  plan = 'free' as free, org_id is null as undeclared
from accounts join sent using (account_id) left join cards using (payment_fingerprint)
  left join mails using (email_domain) left join bins using (payment_bin)
order by account_id
"""


def features(played: Played) -> tuple[list[str], Any]:
    """Text-free features of each account, in the order of the truth: (names, array)."""
    con = duckdb.connect(config={"threads": 1})
    con.register("rows", played.exchanges.append_column("place", pa.array(np.arange(played.exchanges.num_rows))))
    con.register("accounts", played.accounts)
    found = con.execute(FEATURES).fetchnumpy()
    columns = [np.ma.filled(np.ma.asarray(values).astype(float), np.nan) for values in found.values()]
    return list(found), np.stack(columns, axis=1)


def told_apart(values: Any, planted: Any) -> tuple[float, float, str]:
    """Average precision of a boosted tree out of sample, and the area under the best single rule's curve."""
    names, table = values
    folds = selection.StratifiedKFold(3, shuffle=True, random_state=0)
    tree = ensemble.HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, random_state=0)
    scores = selection.cross_val_predict(tree, table, planted, cv=folds, method="predict_proba")[:, 1]
    rules = [metrics.roc_auc_score(planted, np.nan_to_num(column, nan=-1.0)) for column in table.T]
    areas = [max(rule, 1 - rule) for rule in rules]
    return metrics.average_precision_score(planted, scores), max(areas), names[int(np.argmax(areas))]


@pytest.mark.slow
def test_a_disguised_campaign_is_not_told_by_what_is_not_text() -> None:
    """Rules and a tree find the campaign that hides nothing, and not the one that hides everything."""
    played = play(load_scenario("ladder").only(
        "consumer", "household", "same_hours", "coding_agent", "rag_product", "campus", "nomad", "rung_0", "rung_7"
    ), seed=3)  # fmt: skip
    names, table = features(played)
    campaigns = np.array([name or "" for name in played.truth["campaign"].to_pylist()])
    found = {}
    for rung in ("rung_0", "rung_7"):
        some = np.isin(campaigns, ["", rung])
        found[rung] = told_apart((names, table[some]), campaigns[some] == rung)
    assert found["rung_0"][0] > 0.8
    assert found["rung_7"][0] < 0.1, found
    assert found["rung_7"][1] < 0.8, found


def test_ids_and_places_say_nothing() -> None:
    """Neither the id of an account or an exchange nor the place of its rows in the file tells a campaign's accounts."""
    played = play(load_scenario("bench"), seed=5)
    names, table = features(played)
    planted = np.array([name is not None for name in played.truth["campaign"].to_pylist()])
    for name in ("id", "row_id"):
        assert abs(metrics.roc_auc_score(planted, table[:, names.index(name)]) - 0.5) < 0.12


@cache
def facets(name: str, scale: float) -> dict[str, dict[str, Any]]:
    """Of each block of a scenario, without its exchanges: who has no card, plans, ages (days) and volumes."""
    company = cast(load_scenario(name), seed=9, scale=scale)
    accounts, truth, _ = everybody(company)
    place = {account: at for at, account in enumerate(company.ids.to_pylist())}
    order = np.array([place[account] for account in accounts["account_id"].to_pylist()])
    volume = np.concatenate([part.cast.exchanges for part in company.parts])[order]
    block = np.array(truth["population"].to_pylist())
    columns = {
        "no card": np.array([card is None for card in accounts["payment_fingerprint"].to_pylist()], float),
        "business": np.array([plan == "business" for plan in accounts["plan"].to_pylist()], float),
        "age": accounts["created_at"].cast(pa.int64()).to_numpy() / 86.4e9,
        "volume": volume,
    }
    planted = np.array([name is not None for name in truth["campaign"].to_pylist()])
    named = {one: {facet: values[block == one] for facet, values in columns.items()} for one in np.unique(block)}
    return named | {"": {facet: values[~planted] for facet, values in columns.items()}}


RUNGS = [
    *(("ladder", 4.0, f"rung_{n}", "") for n in range(6)),
    ("ladder", 4.0, "rung_6", "same_hours"),
    ("ladder", 4.0, "rung_7", "consumer"),
    ("lookalikes", 4.0, "relay", ""),
    ("reported-2026-06", 0.02, "operators", ""),
]


@pytest.mark.parametrize(("scenario", "scale", "block", "among"), RUNGS)
def test_neither_a_missing_card_nor_a_plan_marks_a_campaign(
    scenario: str, scale: float, block: str, among: str
) -> None:
    """As many accounts have no card, and declare an organisation, as of those the campaign hides among."""
    blocks = facets(scenario, scale)
    mine, theirs = blocks[block], blocks[among]
    for facet in ("no card", "business"):
        share = theirs[facet].mean()
        assert abs(mine[facet].mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(mine[facet])) + 1e-9, facet


@pytest.mark.parametrize(("block", "among"), [("rung_6", "same_hours"), ("rung_7", "consumer")])
def test_who_hides_age_and_volume_has_those_of_others(block: str, among: str) -> None:
    """Ages and totals of the last two rungs are those of the population they hide among; those of rung 0 are not."""
    blocks = facets("ladder", 4.0)
    for facet in ("age", "volume"):
        assert stats.ks_2samp(blocks[block][facet], blocks[among][facet]).pvalue > 1e-3, facet
        assert stats.ks_2samp(blocks["rung_0"][facet], blocks[among][facet]).pvalue < 1e-9, facet


@pytest.mark.slow
def test_the_sixth_rung_is_not_told_from_developers() -> None:
    """Among developers of its time zone, what is no text of rung 6 says little: its templates are its text."""
    played = play(load_scenario("ladder").only("same_hours", "consumer", "rung_6"), seed=3, scale=2.0)
    names, table = features(played)
    population = np.array(played.truth["population"].to_pylist())
    some, kept = population != "consumer", [at for at, name in enumerate(names) if name not in TEXTUAL]
    found = told_apart(([names[at] for at in kept], table[some][:, kept]), population[some] == "rung_6")
    assert found[0] < 0.4 and found[1] < 0.64, found
