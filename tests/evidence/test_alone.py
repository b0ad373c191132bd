"""alone: one heavy account stands out among the heaviest of its peers, or does not, and is never more than a lead."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.allowlist import Allowlist, Licensed
from stillwatch.dossier.explain import explain
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.telling import tell
from stillwatch.evidence import alone
from stillwatch.evidence.alone import conformal_e_log2, own_bits
from stillwatch.sim.scenarios import Scenario, campaign, ordinary
from stillwatch.sim.world import Played, play
from tests.worlds import crew_of, scanned, without, written


@cache
def world() -> Played:
    """Some four hundred people, half of them busy, and one key that asks for every step."""
    harvester = campaign("one_key", crew={"n_accounts": 1, "exchanges": 1_800, "spread": 0.0}, elicit=0.9, n_phrases=1)
    crowd = (ordinary("consumer", n_accounts=160), ordinary("consumer", name="busy", n_accounts=240, exchanges=110))
    return play(Scenario(populations=crowd, campaigns=(harvester,)), seed=4)


def found(folder: Path, played: Played, **asked: Any) -> Findings:
    """A scan of these exchanges."""
    logs, accounts = (
        written(table, folder / f"{name}.parquet")
        for name, table in (("rows", played.exchanges), ("who", played.accounts))
    )
    return scanned(logs, accounts=accounts, **asked)


def alone_in(findings: Findings) -> pa.Table:
    """The leads of single accounts."""
    return findings.leads.filter(pc.equal(findings.leads["verdict"], "single_account"))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The world, scanned."""
    return found(tmp_path_factory.mktemp("alone"), world())


def test_one_heavy_key_that_harvests_is_a_lead_and_no_campaign(findings: Findings) -> None:
    """It is named by its own lead, with bits, a q value and what it missed; nobody is a member of anything."""
    (harvester,) = crew_of(world())
    (lead,) = alone_in(findings).to_pylist()
    assert (lead["n_accounts"], lead["operator_bits"], lead["best_innocent"]) == (1, 0.0, "own_use")
    assert lead["harvest_bits"] >= 6 and lead["q_value"] <= alone.ALONE_Q_MAX
    assert lead["failed_bar"] == "innocent_margin_bits" and lead["capabilities"]
    assert findings.campaigns.num_rows == findings.members.num_rows == 0
    (evidence,) = [row for row in findings.evidence.to_pylist() if row["subject_id"] == lead["campaign_id"]]
    assert (evidence["subject_kind"], evidence["signal"]) == ("account", "elicitation_alone")
    assert evidence["lo"] <= evidence["effect"] <= evidence["hi"]
    rows = findings.evidence_rows.filter(pc.equal(findings.evidence_rows["evidence_id"], evidence["evidence_id"]))
    assert set(rows["account_id"].to_pylist()) == {harvester}


def test_explain_says_so_of_the_lead_and_of_the_account(findings: Findings) -> None:
    """Neither speaks of one operator as missing, and both say that a lead accuses nobody."""
    (harvester,) = crew_of(world())
    (lead,) = alone_in(findings).to_pylist()
    of_lead, of_account = (
        " ".join(line.text for line in tell(explain(findings, name))) for name in (lead["campaign_id"], harvester)
    )
    assert "1 account was weighed by itself" in of_lead and "It is one account." in of_lead
    assert "for the use of its own holder" in of_lead and "own use, the nearest" in of_lead
    assert f"It is lead {lead['campaign_id']} by itself" in of_account and "accuses nobody" in of_account


def test_without_it_nobody_stands_out(tmp_path: Path) -> None:
    """The same people without the key: no lead of a single account."""
    played = world()
    quiet = without(played.exchanges, crew_of(played))
    assert alone_in(scanned(written(quiet, tmp_path / "rows.parquet"))).num_rows == 0


def test_who_was_cleared_or_licensed_is_no_lead(tmp_path: Path) -> None:
    """A granted appeal and a licence excuse a single account as they do members."""
    harvester = crew_of(world())
    assert alone_in(found(tmp_path, world(), overturned=frozenset(harvester))).num_rows == 0
    licence = Allowlist(tuple(Licensed(account_id=name) for name in harvester))
    assert alone_in(found(tmp_path, world(), allowlist=licence)).num_rows == 0


def test_below_the_bound_nobody_is_examined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The bound of size is what the constant says."""
    monkeypatch.setattr(alone, "FEWEST_EXCHANGES", 1_000_000)
    assert alone_in(found(tmp_path, world())).num_rows == 0


def test_logs_without_text_have_no_single_account(tmp_path: Path) -> None:
    """Volume alone is no lead."""
    rows = world().exchanges.drop_columns(["prompt"])
    assert alone_in(scanned(written(rows, tmp_path / "rows.parquet"))).num_rows == 0


@given(st.lists(st.floats(0, 1e9, allow_nan=False), min_size=2, max_size=60))
def test_e_values_of_all_draws_average_one(scores: list[float]) -> None:
    """So each has mean 1 where the draws could stand in any order, and none is above their number."""
    e = np.exp2(conformal_e_log2(np.array(scores)))
    assert e.mean() == pytest.approx(1.0)
    assert e.max() <= len(scores) * (1 + 1e-9)


def test_accounts_that_differ_by_habit_are_fair_to_one_another() -> None:
    """However unlike people are, the examined have mean 1 among peers of the same kind, graders among them."""
    rng = np.random.default_rng(8)
    drawn = []
    for _ in range(400):
        habit = np.where(rng.random(200) < 0.03, rng.beta(8, 2, 200), rng.beta(0.3, 6, 200))
        n = rng.integers(8, 33, 200)
        bits = own_bits(n, {"grading": rng.binomial(n, habit)})["grading"]
        drawn.append(np.exp2(conformal_e_log2(np.exp2(bits)))[:8])
    e = np.array(drawn).ravel()
    assert e.mean() <= 1 + 3 * e.std(ddof=1) / np.sqrt(len(e))
