"""Whether an account can be told by a count, a length, an id or a place in a file: rules and a boosted tree try."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from stillwatch.sim.scenarios import load_scenario
from stillwatch.sim.world import Played, play

ensemble = pytest.importorskip("sklearn.ensemble", reason="scikit-learn is not installed")
selection = pytest.importorskip("sklearn.model_selection", reason="scikit-learn is not installed")
metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

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
    assert found["rung_7"][0] < 0.3, found
    assert found["rung_7"][1] < 0.8, found


def test_ids_and_places_say_nothing() -> None:
    """Neither the id of an account or an exchange nor the place of its rows in the file tells a campaign's accounts."""
    played = play(load_scenario("bench"), seed=5)
    names, table = features(played)
    planted = np.array([name is not None for name in played.truth["campaign"].to_pylist()])
    for name in ("id", "row_id"):
        assert abs(metrics.roc_auc_score(planted, table[:, names.index(name)]) - 0.5) < 0.12
