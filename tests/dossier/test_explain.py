"""explain: why, and why not something innocent, from the findings folder alone, whatever lies in it."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.dossier.explain import NOTHING, explain, find_group, what_there_is
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.folder import read_findings, write_findings
from stillwatch.dossier.telling import tell
from stillwatch.errors import FindingsError
from stillwatch.evidence.innocent import HYPOTHESES
from stillwatch.records import FINDINGS

Make = Callable[..., Findings]
HYDRA, LEAD = "3f9ac2d1740be586", "be110c2266aa90f1"


def told(findings: Findings, named: str) -> str:
    """What a person would read, in one line."""
    return " ".join(line.text for line in tell(explain(findings, named)))


def test_a_campaign_is_explained_from_its_rows(findings: dict[str, Make]) -> None:
    """Every piece of evidence with its bits, its null and its rows; every bar with what is to spare."""
    said = explain(findings["two"](), HYDRA)
    assert (said["kind"], said["n_accounts"]) == ("campaign", 210)
    evidence = [one for question in said["questions"] for one in question["evidence"]]
    assert len(evidence) == 7
    partition = next(one for one in evidence if one["signal"] == "partition")
    assert partition["bits"] == 97.3 and partition["n_rows"] == 48_212
    assert partition["rows"][0] == {"row_id": "0" * 16, "account_id": "acct-1-0000", "role": "sample"}
    assert {one["bar"]: round(one["spare"], 1) for one in said["bars"]} == {
        "q_value": 0.0,
        "operator_bits": 228.3,
        "harvest_bits": 85.3,
        "innocent_margin_bits": 51.4,
    }
    assert said["rows_lie_in"]["files"][0]["path"] == "exchanges/2026-09-01.parquet"


def test_the_words_say_why_and_why_not(findings: dict[str, Make]) -> None:
    """The claim, the rows, each innocent explanation with its margin and what would change the verdict."""
    text = told(findings["two"](), HYDRA)
    for said in (
        "Campaign 3f9ac2d1740be586: campaign",
        "210 accounts act as one",
        "One operator? 238.3 bits of 10 needed, cleared.",
        "partition (content): 97.3 bits",
        "Shown by 48,212 sampled exchanges of members, among them row 0000000000000000 of acct-1-0000",
        "one organisation, the nearest: the campaign beats it by 58.4 bits.",
        "It leaves open several fleets (weighed for it alone)",
        "one organisation: an organisation with a verified identity that owns these accounts",
        "exchanges/2026-09-01.parquet, 17,131 rows",
        "Which file holds which row is not recorded",
        "Not examined, because the logs do not hold it: tls fingerprint, completion.",
        "Who is behind it",
    ):
        assert said in text


def test_what_a_hypothesis_leaves_open_is_what_the_code_weighs(findings: dict[str, Make]) -> None:
    """The signals named are those of innocent.HYPOTHESES, and the rest of what was found is what it would explain."""
    told = explain(findings["two"](), HYDRA)["innocent"]
    assert {"one_organisation", "shared_network"} <= {one["hypothesis"] for one in told}
    for one in told:
        known = next(each for each in HYPOTHESES if each.name == one["hypothesis"])
        assert tuple(each["signal"] for each in one["leaves_open"]) == known.leaves
        assert not set(one["explains"]) & set(known.leaves)


def test_a_lead_accuses_nobody(findings: dict[str, Make]) -> None:
    """A group that was not reported says which bar it missed, and that it accuses nobody."""
    said = explain(findings["two"](), LEAD)
    assert (said["kind"], said["claim"]) == ("lead", None)
    text = told(findings["two"](), LEAD)
    assert "not reported: a harvest is not shown, by 3.6 bits. That accuses nobody." in text
    assert "act as one" not in text
    assert "No innocent explanation is in the findings." in text
    assert "A harvest? 6.4 bits of 10 needed, missed by 3.6." in text


def test_a_member_is_told_apart_from_its_campaign(findings: dict[str, Make]) -> None:
    """Membership, the campaign's hubs, and that a named account can be innocent."""
    said = explain(findings["two"](), "acct-1-0004")
    assert said["member_of"][0]["campaign_id"] == HYDRA
    assert said["named_in"][0]["signal"] == "partition"
    assert [(one["kind"], one["share"]) for one in said["member_of"][0]["hubs"]] == [
        ("payment", 1.0),
        ("network", 0.25),
    ]
    text = told(findings["two"](), "acct-1-0004")
    assert "a named account can be innocent" in text
    assert "payment instrument 00c4f1a9e0d7b352: 43 accounts, 0.4 expected, 0 outside" in text
    assert "in 25 % of its sampled exchanges" in text


@pytest.mark.parametrize("account", ["nobody", "", "\x1b[2J", "\udcff", "a" * 5_000, "acct-1-000", "c", "3f9"])
def test_nothing_known_is_said_in_these_words(findings: dict[str, Make], account: str) -> None:
    """An account that the findings do not name gets one sentence and no more."""
    two = findings["two"]()
    assert explain(two, account) == {"kind": "account", "account_id": account, "found": False, "says": NOTHING}
    assert [line.text for line in tell(explain(two, account))][1:] == ["nothing was found on this account"]


def test_a_beginning_is_enough_when_it_is_the_only_one(findings: dict[str, Make]) -> None:
    """Four characters that one id begins with name it; several are listed."""
    two, many = findings["two"](), findings["many"](30)
    assert explain(two, HYDRA[:4])["campaign_id"] == HYDRA
    assert find_group(two, "zzzz") is None
    with pytest.raises(FindingsError, match=r"several .* begin with 0000; got 0000000000000000, .* and 18 more"):
        explain(many, "0000")
    assert explain(many, f"{1:016x}")["campaign_id"] == f"{1:016x}"
    assert what_there_is(findings["nothing"]()) == "neither a campaign nor a lead"


def test_an_account_called_like_a_campaign_is_an_account(findings: dict[str, Make]) -> None:
    """An exact account id wins over the beginning of a campaign's id."""
    two = findings["two"]()
    rows = two.members.to_pylist()
    rows[0]["account_id"] = HYDRA[:6]
    renamed = pa.Table.from_pylist(rows, schema=two.members.schema)
    assert explain(replace(two, members=renamed), HYDRA[:6])["kind"] == "account"


def test_strangers_words_cannot_act(findings: dict[str, Make]) -> None:
    """No control or bidi character of the findings reaches the terminal, for a campaign, a lead or an account."""
    hostile = findings["hostile"]()
    bad = hostile.campaigns["campaign_id"][0].as_py()
    lead = hostile.leads["campaign_id"][0].as_py()
    for named in (bad, lead):
        for line in tell(explain(hostile, named)):
            assert not [one for one in line.text if unicodedata.category(one) in ("Cc", "Cf", "Cs")]
        json.dumps(explain(hostile, named), allow_nan=False)


def test_numbers_that_are_none_are_null(findings: dict[str, Make]) -> None:
    """Infinite and undefined figures are told and are valid JSON."""
    two = findings["two"]()
    rows = two.campaigns.to_pylist()
    for row in rows:
        row |= {"operator_bits": float("nan"), "harvest_bits": float("inf"), "q_value": float("nan")}
    odd = replace(two, campaigns=pa.Table.from_pylist(rows, schema=two.campaigns.schema))
    json.dumps(explain(odd, HYDRA), allow_nan=False)
    assert "A harvest?" in told(odd, HYDRA)


# --- hostile folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(findings: dict[str, Make], tmp_path: Path) -> Path:
    """A whole findings folder."""
    write_findings(findings["two"](), tmp_path / "findings")
    return tmp_path / "findings"


def retyped(folder: Path) -> None:
    """Bits as text."""
    table = pq.read_table(folder / "campaigns.parquet")
    at = table.column_names.index("operator_bits")
    changed = table.set_column(at, "operator_bits", pa.array(["many"] * table.num_rows))
    pq.write_table(changed, folder / "campaigns.parquet")


def emptied(folder: Path) -> None:
    """Bits taken out."""
    table = pq.read_table(folder / "explanations.parquet")
    changed = table.set_column(2, table.schema.field(2), pa.nulls(table.num_rows, pa.float64()))
    pq.write_table(changed, folder / "explanations.parquet")


def misspelt(folder: Path) -> None:
    """Account ids that are no text."""
    table = pq.read_table(folder / "members.parquet")
    raw = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary()).view(pa.string())
    pq.write_table(table.set_column(1, "account_id", raw), folder / "members.parquet")


def beyond_time(folder: Path) -> None:
    """A first day that no calendar has."""
    table = pq.read_table(folder / "leads.parquet")
    at = table.column_names.index("first_seen")
    far = pa.array([2**62] * table.num_rows, pa.int64()).cast(table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), far), folder / "leads.parquet")


def linked_out(folder: Path) -> None:
    """A table that is a link to another place."""
    (folder / "traits.parquet").rename(folder.parent / "traits.parquet")
    (folder / "traits.parquet").symlink_to(folder.parent / "traits.parquet")


def piped(folder: Path) -> None:
    """A table that is a pipe nobody writes to."""
    (folder / "traits.parquet").unlink()
    os.mkfifo(folder / "traits.parquet")


def foldered(folder: Path) -> None:
    """A table that is a folder."""
    (folder / "traits.parquet").unlink()
    (folder / "traits.parquet").mkdir()


def rewritten(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """A text file changed."""
    (folder / name).write_text(change((folder / name).read_text("utf-8")), "utf-8")


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "no run.json": lambda at: (at / "run.json").unlink(),
    "no table": lambda at: (at / "evidence.parquet").unlink(),
    "not json": lambda at: rewritten(at, "run.json", lambda text: text[:-9]),
    "deep json": lambda at: rewritten(at, "run.json", lambda _: "[" * 200_000),
    "unfinished": lambda at: rewritten(at, "run.json", lambda text: text.replace('"complete": true', '"complete": 0')),
    "other version": lambda at: rewritten(
        at, "run.json", lambda text: re.sub(r'"schema_version": \d+', '"schema_version": 99', text)
    ),
    "cut table": lambda at: (at / "evidence.parquet").write_bytes((at / "evidence.parquet").read_bytes()[:-40]),
    "noise": lambda at: (at / "members.parquet").write_bytes(b"PAR1" + b"\7" * 300 + b"PAR1"),
    "other columns": lambda at: pq.write_table(pa.table({"x": [1]}), at / "traits.parquet"),
    "retyped": retyped,
    "emptied": emptied,
    "misspelt": misspelt,
    "beyond time": beyond_time,
    "link": linked_out,
    "pipe": piped,
    "folder": foldered,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_folder_is_refused(folder: Path, how: str) -> None:
    """A folder that lacks something, is of another version or was changed gives one error and is never waited for."""
    HOSTILE[how](folder)
    with pytest.raises(FindingsError) as caught:
        read_findings(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stem", FINDINGS)
def test_flipped_bytes_never_end_in_a_traceback(folder: Path, stem: str) -> None:
    """Each byte flipped in turn, a table is refused or read, and what is read can be told."""
    path = folder / f"{stem}.parquet"
    whole = path.read_bytes()
    for at in range(4, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = read_findings(folder)
        except FindingsError:
            continue
        for named in (HYDRA, LEAD, "acct-1-0004"):
            tell(explain(found, named))


def test_the_mixture_is_told_of_the_campaign_and_of_a_member(loud_findings: Findings) -> None:
    """Which share of a member's exchanges shows the campaign's templates, and that the rest is held against nobody."""
    (campaign,) = loud_findings.campaigns["campaign_id"].to_pylist()
    belongs = explain(loud_findings, campaign)["belongs"]
    assert 0.5 < belongs["belongs_low"] <= belongs["belongs"] <= belongs["belongs_high"] <= 1
    assert "show templates the group made its own" in told(loud_findings, campaign)
    member = loud_findings.members["account_id"].to_pylist()[0]
    (one,) = explain(loud_findings, member)["member_of"]
    assert 0 < one["belongs_at_least"] <= 1
    assert f"of its sampled exchanges show one template of campaign {campaign}" in told(loud_findings, member)


@pytest.mark.parametrize(
    "detail", ["", "[]", "{", '{"belongs":2,"belongs_low":0,"belongs_high":1}', '{"belongs":"1"}', "[" * 5000]
)
def test_a_mixture_that_makes_no_sense_is_not_told(findings: dict[str, Make], detail: str) -> None:
    """A detail that somebody had in hand is passed over."""
    two = findings["two"]()
    at = two.evidence.column_names.index("detail")
    spoilt = two.evidence.set_column(
        at, two.evidence.schema.field("detail"), pa.array([detail] * two.evidence.num_rows)
    )
    assert explain(replace(two, evidence=spoilt), HYDRA)["belongs"] is None
