"""pipeline: logs to findings, held to the contract of `scan`."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stillwatch import __version__
from stillwatch.allowlist import Allowlist, Licensed
from stillwatch.detect.digest import RowKeys, digest
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.folder import read_findings
from stillwatch.errors import InputError
from stillwatch.keys import RootKey, Secret
from stillwatch.records import FINDINGS, SCHEMA_VERSION, VERDICTS
from stillwatch.settings import Bars, ScanSettings, Settings
from stillwatch.sim.scenarios import Scenario, campaign, ordinary
from stillwatch.sim.world import Played, World, play
from tests.worlds import KEY, ORDINARY, crew_of, saved, scanned, without, written


@pytest.fixture
def own_logs(loud: Played, tmp_path: Path) -> Path:
    """The campaign's exchanges and those of a hundred others: quick to scan where nothing needs to be found."""
    some = sorted(crew_of(loud)) + sorted(set(loud.truth["account_id"].to_pylist()) - crew_of(loud))[:100]
    return written(
        loud.exchanges.filter(pc.is_in(loud.exchanges["account_id"], pa.array(some))), tmp_path / "some.parquet"
    )


def test_a_loud_campaign_is_found_and_nobody_else(loud: Played, loud_findings: Findings) -> None:
    """One campaign; nearly all of its crew are named and nobody outside it is."""
    assert loud_findings.campaigns.num_rows == 1
    named = set(loud_findings.members["account_id"].to_pylist())
    assert named <= crew_of(loud)
    assert len(named) >= 0.9 * len(crew_of(loud))


def test_without_the_campaign_nothing_is_found(quiet: Played, tmp_path: Path) -> None:
    """The same world without its campaign has leads at most, and no member."""
    logs, accounts = (
        written(table, tmp_path / f"{at}.parquet") for at, table in enumerate((quiet.exchanges, quiet.accounts))
    )
    found = scanned(logs, accounts=accounts)
    assert found.campaigns.num_rows == found.members.num_rows == 0
    assert set(found.leads["verdict"].to_pylist()) <= set(VERDICTS) - {"campaign"}


def test_accounts_sold_on_to_ordinary_people_are_shared_access(tmp_path: Path) -> None:
    """One operator's accounts whose users ask what anybody asks: a verdict of its own, and no campaign."""
    talk, crew = dict(ordinary("consumer").speech), {"n_accounts": 80, "exchanges": 40, "exits": {"cloud": (2, 5)}}
    farm = campaign(
        "relay", cover=1.0, cover_speech=talk, templates={}, mimics=frozenset(), own={}, per_card=10.0, rented=6,
        n_issuers=1, signup_days=5.0, n_batches=2, crew={"name": "farm", "churn": 0.05, **crew},
    )  # fmt: skip
    played = play(Scenario(populations=ORDINARY, campaigns=(farm,)), seed=4)
    logs, accounts = (
        written(played.exchanges, tmp_path / "rows.parquet"),
        written(played.accounts, tmp_path / "who.parquet"),
    )
    found = scanned(logs, accounts=accounts)
    (lead,) = found.leads.to_pylist()
    assert found.campaigns.num_rows == 0 and lead["verdict"] == "shared_access"
    assert lead["n_accounts"] >= 70 and lead["operator_bits"] >= 10 and lead["harvest_bits"] < 4


def test_the_folder_holds_what_was_promised(loud_folder: Path) -> None:
    """Exactly the files of the contract, the folder for its owner alone, the files too."""
    assert {path.name for path in loud_folder.iterdir()} == {
        *(f"{stem}.parquet" for stem in FINDINGS),
        "run.json",
        "report.html",
    }
    assert stat.S_IMODE(loud_folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in loud_folder.iterdir()} == {0o600}
    assert [path.name for path in loud_folder.parent.iterdir()] == [loud_folder.name]


@pytest.mark.parametrize("stem", FINDINGS)
def test_a_file_has_the_schema_of_the_records(loud_folder: Path, stem: str) -> None:
    """Names, order, types and the version in the metadata are those of records.py."""
    schema = pq.read_schema(loud_folder / f"{stem}.parquet")
    assert schema.equals(FINDINGS[stem]) and schema.metadata == FINDINGS[stem].metadata
    assert schema.metadata[b"version"] == str(SCHEMA_VERSION).encode()


def test_what_was_written_can_be_read_back(loud_folder: Path, loud_findings: Findings) -> None:
    """A findings folder gives the tables it was written from."""
    again = read_findings(loud_folder)
    for stem in FINDINGS:
        assert getattr(again, stem).equals(getattr(loud_findings, stem)), stem


def test_the_tables_refer_to_one_another(loud_findings: Findings) -> None:
    """Every campaign and every piece of evidence named anywhere is there, once, and members are of campaigns only."""
    groups = [*loud_findings.campaigns["campaign_id"].to_pylist(), *loud_findings.leads["campaign_id"].to_pylist()]
    assert len(set(groups)) == len(groups) > 0
    for table, column in (
        (loud_findings.evidence, "subject_id"),
        (loud_findings.traits, "campaign_id"),
        (loud_findings.explanations, "campaign_id"),
    ):
        assert set(table[column].to_pylist()) <= set(groups)
    assert set(loud_findings.explanations["campaign_id"].to_pylist()) == set(groups)
    assert set(loud_findings.members["campaign_id"].to_pylist()) == set(
        loud_findings.campaigns["campaign_id"].to_pylist()
    )
    carried = loud_findings.member_traits.to_pylist()
    named = {(one["campaign_id"], one["account_id"]) for one in loud_findings.members.to_pylist()}
    shared = {(one["campaign_id"], one["trait_key"], one["kind"]) for one in loud_findings.traits.to_pylist()}
    assert {(one["campaign_id"], one["account_id"]) for one in carried} == named
    assert {(one["campaign_id"], one["trait_key"], one["kind"]) for one in carried} <= shared
    evidence = loud_findings.evidence["evidence_id"].to_pylist()
    assert len(set(evidence)) == len(evidence)
    assert set(loud_findings.evidence_rows["evidence_id"].to_pylist()) <= set(evidence)


def test_a_campaign_clears_every_bar_and_a_lead_does_not(loud_findings: Findings) -> None:
    """Verdicts, bars, q values and membership agree with one another."""
    bars = Settings().bars
    for row in loud_findings.campaigns.to_pylist():
        assert row["verdict"] == "campaign"
        assert row["operator_bits"] >= bars.operator_bits_min and row["harvest_bits"] >= bars.harvest_bits_min
        assert row["innocent_margin_bits"] >= bars.innocent_margin_bits_min and row["q_value"] <= bars.q_max
        assert row["e_log2"] <= min(row["operator_bits"], row["harvest_bits"])
    for row in loud_findings.leads.to_pylist():
        assert row["verdict"] in VERDICTS and row["verdict"] != "campaign"
        assert row["failed_bar"] and row["shortfall"] > 0
    membership = loud_findings.members["membership"].to_numpy()
    assert ((membership >= bars.membership_min) & (membership <= 1)).all()


def test_a_group_counts_what_its_accounts_did(loud: Played, loud_findings: Findings) -> None:
    """Accounts, exchanges, tokens and the first and last instant of a campaign are those of its members' rows."""
    group = loud_findings.campaigns.to_pylist()[0]
    names = loud_findings.members["account_id"].to_pylist()
    rows = loud.exchanges.filter(pc.is_in(loud.exchanges["account_id"], pa.array(names)))
    assert group["n_accounts"] == len(names)
    assert group["n_exchanges"] == rows.num_rows
    assert group["input_tokens"] == pc.sum(rows["input_tokens"]).as_py()
    assert group["output_tokens"] == pc.sum(rows["output_tokens"]).as_py()
    assert (group["first_seen"], group["last_seen"]) == tuple(pc.min_max(rows["ts"]).as_py().values())
    each = Counter(rows["account_id"].to_pylist())
    assert {row["account_id"]: row["n_exchanges"] for row in loud_findings.members.to_pylist()} == each


def test_evidence_says_what_it_is(loud_findings: Findings) -> None:
    """Each piece names its null and its alternative, carries no p-value as bits, and binds the settings."""
    assert loud_findings.evidence.num_rows
    for row in loud_findings.evidence.to_pylist():
        assert row["subject_kind"] == "campaign" and row["null_id"] and row["h0"] and row["h1"]
        assert row["settings_hash"] == Settings().fingerprint()
        assert row["e_log2"] is not None and np.isfinite(row["e_log2"]) and row["p_log10"] is None
        assert isinstance(json.loads(row["detail"])["version"], int)


def test_evidence_names_rows_of_the_logs(loud: Played, loud_findings: Findings) -> None:
    """Each row id is that of an exchange of the account it stands beside, as a new pass with the same key tells."""
    keys = RowKeys.from_subkey(KEY.subkey("rows").reveal())
    facts = [digest(batch, keys=keys) for batch in loud.exchanges.to_batches()]
    known = {
        (account, f"{row:016x}")
        for batch in facts
        for account, row in zip(batch.column("account_id").to_pylist(), batch.column("row_id").to_pylist(), strict=True)
    }
    rows = loud_findings.evidence_rows
    told = set(zip(rows["account_id"].to_pylist(), rows["row_id"].to_pylist(), strict=True))
    assert told and told <= known
    assert (rows["n_total"].to_numpy() >= 1).all()
    sample = Counter(rows["evidence_id"].to_pylist())
    totals = dict(zip(rows["evidence_id"].to_pylist(), rows["n_total"].to_pylist(), strict=True))
    assert all(n <= totals[name] for name, n in sample.items())


CANARY = "zebrafinch"


def planted(loud: Played) -> tuple[pa.Table, pa.Table]:
    """The loud world with a canary inside everything that must not come out."""
    rows, accounts = loud.exchanges, loud.accounts
    for name in ("prompt", "system_prompt"):
        text = rows[name].to_pylist()
        marked = [
            None if said is None else f"{said[: len(said) // 2]} {CANARY} {said[len(said) // 2 :]}" for said in text
        ]
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(marked, pa.string()))
    for name in ("user_agent", "tls_fingerprint", "exchange_id", "api_key_id", "session_id"):
        rows = rows.set_column(rows.column_names.index(name), name, prefixed(rows[name]))
    rows = rows.append_column("completion", prefixed(rows["prompt"]))
    for name in ("org_id", "payment_fingerprint", "email_domain", "payment_bin", "phone_hash", "email_hash"):
        accounts = accounts.set_column(accounts.column_names.index(name), name, prefixed(accounts[name]))
    return rows, accounts


def prefixed(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values that begin with the canary."""
    return pc.binary_join_element_wise(CANARY, values, "")


def everything_said(folder: Path) -> str:
    """All that a findings folder says: the raw bytes of its files, and what its compressed columns hold."""
    said = [path.read_bytes().decode("latin-1") for path in folder.iterdir()]
    said += [json.dumps(pq.read_table(folder / f"{stem}.parquet").to_pylist(), default=str) for stem in FINDINGS]
    return "\n".join(said)


def test_nothing_but_account_ids_comes_out_in_the_clear(loud: Played, tmp_path: Path) -> None:
    """No prompt, answer, system prompt, address, client, card, organisation or key is in any file, in any column."""
    rows, accounts = planted(loud)
    found = scanned(written(rows, tmp_path / "logs.parquet"), accounts=written(accounts, tmp_path / "accounts.parquet"))
    assert found.campaigns.num_rows, "this test wants a campaign to talk about"
    folder = tmp_path / "findings"
    saved(found, folder)
    said = everything_said(folder)
    assert CANARY not in said.lower()
    assert all(ip not in said for ip in set(rows["ip"].to_pylist()) - {None})
    assert not re.search(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", re.sub(r'"version": "[^"]*"', "", said))
    secrets = [KEY.secret, KEY.subkey("rows")]
    assert all(
        secret.reveal().hex() not in said and secret.reveal().decode("latin-1") not in said for secret in secrets
    )
    member = found.members["account_id"][0].as_py()
    assert member in said


def test_the_report_is_a_page_and_not_a_program(loud_folder: Path) -> None:
    """No script, no handler, nothing fetched from elsewhere."""
    page = (loud_folder / "report.html").read_text("utf-8").lower()
    assert page.startswith("<!doctype html>")
    assert not re.search(r"<script|javascript:|\son\w+\s*=|<iframe|<object|<embed|@import", page)
    assert not re.search(r"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//|url\(\s*[\"']?(?:https?:)?//", page)


def test_run_json_says_what_was_looked_at(loud: Played, loud_world: World, loud_folder: Path) -> None:
    """Version, settings, seed, key ids, the manifest with true hashes and places, counts, channels, times, memory."""
    run = json.loads((loud_folder / "run.json").read_text("utf-8"))
    assert run["complete"] is True
    assert (run["version"], run["schema_version"], run["seed"]) == (__version__, SCHEMA_VERSION, 0)
    assert run["settings"] == Settings().to_dict() and run["settings_fingerprint"] == Settings().fingerprint()
    assert run["key_ids"] == {"rows": KEY.key_id("rows")}
    next_row = 0
    for file in run["input"]["files"]:
        path = loud_world.exchanges / Path(file["path"]).name
        assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert file["n_bytes"] == path.stat().st_size
        assert (file["first_row"], file["n_rows"]) == (next_row, pq.read_metadata(path).num_rows)
        next_row += file["n_rows"]
    assert next_row == run["counts"]["rows_read"] == loud.exchanges.num_rows
    expected = {"rows_kept": next_row, "duplicates": 0, "accounts": loud.accounts.num_rows, "licensed_accounts": 0}
    assert expected.items() <= run["counts"].items()
    assert run["rejects"] == {} and run["account_rejects"] == {}
    assert {"prompt", "ip", "payment_fingerprint"} <= set(run["channels"]["examined"])
    assert not set(run["channels"]["examined"]) & set(run["channels"]["absent"])
    assert all(step["seconds"] >= 0 and step["peak_mb"] > 0 for step in run["steps"])
    assert len({step["step"] for step in run["steps"]}) == len(run["steps"]) >= 4


def test_absent_channels_are_named(own_logs: Path) -> None:
    """Without an accounts file, what it would have told stands among the absent, in run.json and beside each group."""
    found = scanned(own_logs)
    assert {"payment_fingerprint", "created_at"} <= set(found.run["channels"]["absent"])
    for row in [*found.campaigns.to_pylist(), *found.leads.to_pylist()]:
        assert row["not_examined"] == found.run["channels"]["absent"]


def test_a_log_of_who_and_when_is_enough(loud: Played, tmp_path: Path) -> None:
    """With the two required columns alone a scan ends well, finds nothing and names all it could not look at."""
    found = scanned(written(loud.exchanges.select(["account_id", "ts"]), tmp_path / "bare.parquet"))
    assert found.campaigns.num_rows == 0
    assert {"prompt", "ip", "user_agent", "system_prompt"} <= set(found.run["channels"]["absent"])
    assert saved(found, tmp_path / "findings")


@pytest.mark.parametrize("n", [1, 2])
def test_one_exchange_is_a_log(loud: Played, tmp_path: Path, n: int) -> None:
    """The smallest logs there are go through, and say nothing."""
    found = scanned(written(loud.exchanges.slice(0, n), tmp_path / "one.parquet"))
    assert found.run["counts"]["rows_kept"] == n
    assert found.campaigns.num_rows == found.leads.num_rows == 0
    assert saved(found, tmp_path / "findings")


def test_a_small_population_cannot_tell(loud_world: World) -> None:
    """Below the smallest population the same evidence gives no campaign, and says why."""
    settings = Settings(scan=ScanSettings(n_min_population=1000))
    found = scanned(loud_world.exchanges, accounts=loud_world.accounts, settings=settings)
    assert found.campaigns.num_rows == found.members.num_rows == 0
    assert set(found.leads["verdict"].to_pylist()) == {"cannot_tell"}
    assert set(found.leads["failed_bar"].to_pylist()) == {"population"}


def test_a_higher_bar_makes_a_lead_of_a_campaign(loud: Played, loud_world: World) -> None:
    """A campaign that misses a bar is a lead that names the bar and by how much; it has no members to act on."""
    settings = Settings(bars=Bars(innocent_margin_bits_min=1000.0))
    found = scanned(loud_world.exchanges, accounts=loud_world.accounts, settings=settings)
    assert found.campaigns.num_rows == found.members.num_rows == 0
    largest = max(found.leads.to_pylist(), key=lambda row: int(row["n_accounts"]))
    assert largest["n_accounts"] >= 0.9 * len(crew_of(loud))
    assert (largest["verdict"], largest["failed_bar"]) == ("lead", "innocent_margin_bits")
    assert largest["shortfall"] == pytest.approx(1000 - largest["innocent_margin_bits"])
    assert found.run["settings_fingerprint"] != Settings().fingerprint()


def test_a_window_is_a_log_of_its_rows(loud: Played, tmp_path: Path) -> None:
    """since <= ts < until gives the findings of a log that holds just those rows, and counts what lies outside."""
    first, last = pc.min_max(loud.exchanges["ts"]).as_py().values()
    since = first + (last - first) / 3
    until = loud.exchanges["ts"][loud.exchanges.num_rows * 4 // 5].as_py()
    assert since < until
    ts = loud.exchanges["ts"]
    inside = loud.exchanges.filter(pc.and_(pc.greater_equal(ts, pa.scalar(since)), pc.less(ts, pa.scalar(until))))
    accounts = written(loud.accounts, tmp_path / "accounts.parquet")
    whole, part = written(loud.exchanges, tmp_path / "whole.parquet"), written(inside, tmp_path / "part.parquet")
    asked = scanned(whole, accounts=accounts, since=since, until=until)
    assert saved(asked, tmp_path / "asked") == saved(scanned(part, accounts=accounts), tmp_path / "given")
    assert asked.run["counts"]["rows_kept"] == inside.num_rows
    assert asked.run["notes"]["outside_window"] == loud.exchanges.num_rows - inside.num_rows
    assert asked.run["input"]["since"] == since.isoformat()


def test_an_empty_window_is_an_error(own_logs: Path) -> None:
    """A window that holds no exchange is bad input, not an empty finding."""
    with pytest.raises(InputError, match=r"no exchange could be read.*outside_window"):
        scanned(own_logs, since=datetime(2031, 1, 1, tzinfo=UTC))


def test_licensed_distillers_leave_the_population(loud: Played, loud_world: World, tmp_path: Path) -> None:
    """A licensed crew is not found, and nobody else's findings differ from those of a log without it."""
    crew = crew_of(loud)
    allowlist = Allowlist(tuple(Licensed(account_id=name) for name in sorted(crew)))
    excused = scanned(loud_world.exchanges, accounts=loud_world.accounts, allowlist=allowlist)
    assert excused.campaigns.num_rows == 0
    assert excused.run["counts"]["licensed_accounts"] == len(crew)
    others = scanned(written(without(loud.exchanges, crew), tmp_path / "others.parquet"), accounts=loud_world.accounts)
    assert saved(excused, tmp_path / "excused") == saved(others, tmp_path / "others")


def test_a_granted_appeal_is_the_last_word(loud: Played, loud_world: World, loud_findings: Findings) -> None:
    """Overturned accounts are never named and stay in the population; a few of them clear nobody else."""
    named = set(loud_findings.members["account_id"].to_pylist())
    overturned = frozenset(sorted(named)[::40])
    again = scanned(loud_world.exchanges, accounts=loud_world.accounts, overturned=overturned)
    assert again.run["counts"]["overturned_accounts"] == len(overturned)
    assert again.run["counts"]["accounts"] == loud.accounts.num_rows
    assert set(again.members["account_id"].to_pylist()) == named - overturned
    assert not set(again.member_traits["account_id"].to_pylist()) & overturned


@pytest.mark.parametrize("every", [1, 4])
def test_where_people_clear_many_nobody_is_named(loud: Played, loud_world: World, every: int) -> None:
    """What accounts known to be innocent do as well is ordinary, and no case against the rest."""
    cleared = frozenset(sorted(crew_of(loud))[::every])
    assert scanned(loud_world.exchanges, accounts=loud_world.accounts, overturned=cleared).campaigns.num_rows == 0


def test_a_lapsed_licence_excuses_nobody(loud: Played, loud_world: World) -> None:
    """A licence that ended before the logs do is named in run.json, and the campaign is found."""
    ended = loud.exchanges["ts"][0].as_py().date()
    allowlist = Allowlist(tuple(Licensed(account_id=name, until=ended) for name in sorted(crew_of(loud))))
    found = scanned(loud_world.exchanges, accounts=loud_world.accounts, allowlist=allowlist)
    assert found.campaigns.num_rows == 1
    assert found.run["counts"]["licensed_accounts"] == 0
    assert len(found.run["licences_not_applied"]) == len(crew_of(loud))


def test_a_world_of_licensed_accounts_is_no_crash(own_logs: Path) -> None:
    """Where a licence covers everybody, the scan says so and what to do."""
    ids = pq.read_table(own_logs)["account_id"].unique().to_pylist()
    allowlist = Allowlist(tuple(Licensed(account_id=name) for name in ids))
    with pytest.raises(InputError, match="every account is on the allowlist"):
        scanned(own_logs, allowlist=allowlist)


def test_another_key_hides_differently(loud_world: World, loud_findings: Findings) -> None:
    """Two keys share no hash in their findings, and both find the campaign."""
    other = scanned(loud_world.exchanges, accounts=loud_world.accounts, key=RootKey(Secret(b"k" * 32)))
    assert other.campaigns.num_rows == 1
    assert other.run["key_ids"] != loud_findings.run["key_ids"]
    for stem, column in (("traits", "trait_key"), ("evidence_rows", "row_id")):
        ours, theirs = (set(getattr(found, stem)[column].to_pylist()) for found in (loud_findings, other))
        assert ours and theirs and not ours & theirs


def test_every_row_is_accounted_for(loud: Played, own_logs: Path, tmp_path: Path) -> None:
    """Rows read are rows kept, duplicates and named rejects, and nothing else."""
    rows = pq.read_table(own_logs).select(["account_id", "ts", "prompt"]).slice(0, 400).to_pylist()
    good = [json.dumps(row, default=lambda ts: ts.isoformat()) for row in rows]
    bad: list[Any] = ["{", '{"ts": "2026-03-03T00:00:00Z"}', '{"account_id": "a", "ts": "when"}', "[1]"]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join([*good, *good[:7], *bad]) + "\n")
    run = scanned(path).run
    assert run["counts"]["duplicates"] == 7 and run["counts"]["rows_kept"] == len(good)
    assert sum(run["rejects"].values()) == len(bad)
    assert run["counts"]["rows_read"] == len(good) + 7 + len(bad)


def test_progress_is_reported_step_by_step(own_logs: Path) -> None:
    """The steps come in the order of run.json, and the bytes read grow to all there are."""
    from stillwatch.engine.local import LocalEngine  # the engine is beside the point of every other test here
    from stillwatch.pipeline import ScanRequest, scan

    told: list[tuple[str, int, int]] = []
    findings = scan(
        ScanRequest(logs=[own_logs]),
        settings=Settings(),
        engine=LocalEngine(threads=1, memory_mb=64, n_shards=2),
        key=KEY,
        now=datetime(2026, 11, 21, tzinfo=UTC) + timedelta(days=1),
        clock=partial(next, iter(float(at) for at in range(100))),
        on_progress=lambda step, done, total: told.append((step, done, total)),
    )
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps == [step["step"] for step in findings.run["steps"]]
    read = [(done, total) for step, done, total in told if step == steps[0] and total]
    assert read == sorted(read) and read[-1][0] == read[-1][1] == own_logs.stat().st_size
    assert all(step["seconds"] == 1 for step in findings.run["steps"])


def test_old_findings_are_replaced_whole(loud_findings: Findings, tmp_path: Path) -> None:
    """Writing over earlier findings leaves the new ones, and nothing beside them."""
    nothing = {stem: getattr(loud_findings, stem).slice(0, 0) for stem in FINDINGS}
    saved(replace(loud_findings, **nothing), tmp_path / "findings")
    before = saved(loud_findings, tmp_path / "fresh")
    assert saved(loud_findings, tmp_path / "findings") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["findings", "fresh"]
