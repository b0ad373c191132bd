from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.errors import FindingsError
from stillwatch.journal import Journal
from stillwatch.keys import RootKey, Secret
from stillwatch.policy.compiling import compile_snapshot
from stillwatch.policy.sealed import load_snapshot, write_snapshot
from stillwatch.policy.snapshot import Snapshot
from stillwatch.records import CAMPAIGNS, MEMBERS, SCHEMA_VERSION
from stillwatch.watermark.keys import KeyRing, Label
from tests.policy.making import EXAMPLE, NOW, policy

ROOT = RootKey(Secret(b"r" * 32))
ROWS = (
    ("c1", "ann", 0.99),
    ("c1", "bob", 0.95),
    ("c1", "low", 0.2),
    ("c2", "cat", 0.91),
    ("c2", None, 0.99),
    ("c2", "nan", float("nan")),
    ("c2", "over", 1.5),
    ("gone", "eve", 0.99),
)


def write_findings(
    folder: Path, *, verdicts: tuple[tuple[str, str], ...] = (("c1", "campaign"), ("c2", "campaign"))
) -> Path:
    """A findings folder with the columns that are read, the others null."""
    folder.mkdir()
    campaigns = [dict.fromkeys(CAMPAIGNS.names) | {"campaign_id": one, "verdict": what} for one, what in verdicts]
    members = [
        dict.fromkeys(MEMBERS.names) | {"campaign_id": one, "account_id": account, "membership": share}
        for one, account, share in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(campaigns, CAMPAIGNS), folder / "campaigns.parquet")
    pq.write_table(pa.Table.from_pylist(members, MEMBERS), folder / "members.parquet")
    (folder / "run.json").write_text(json.dumps({"complete": True, "schema_version": SCHEMA_VERSION}), "utf-8")
    return folder


def compiled(folder: Path, **known: object) -> Snapshot:
    ring = KeyRing(ROOT, journal=Journal(folder.parent / "journal"))
    usual: dict[str, object] = {"policy": policy(), "root": ROOT, "ring": ring, "now": NOW}
    return compile_snapshot(folder, **usual | known)  # type: ignore[arg-type]


def named(found: Snapshot) -> dict[str, str]:
    """Who is in it, with the lineage."""
    standings = {account: found.standing(account) for account in ("ann", "bob", "low", "cat", "nan", "over", "eve", "")}
    return {account: one.lineage.lineage_id for account, one in standings.items() if one is not None}


def test_members_whom_a_rule_can_touch_are_in_it(tmp_path: Path) -> None:
    """Those below the rule's membership, without a campaign, or with a number that is none, are not."""
    assert named(compiled(write_findings(tmp_path / "findings"))) == {"ann": "c1", "bob": "c1", "cat": "c2"}


def test_without_a_policy_all_members_are_kept(tmp_path: Path) -> None:
    """The membership is kept too, for whichever policy comes."""
    found = compiled(write_findings(tmp_path / "findings"), policy=None)
    assert set(named(found)) == {"ann", "bob", "low", "cat"}


def test_verdicts_without_a_rule_are_left_out(tmp_path: Path) -> None:
    """Nobody is named whom the policy says nothing about."""
    folder = write_findings(tmp_path / "findings", verdicts=(("c1", "campaign"), ("c2", "declared")))
    assert set(named(compiled(folder))) == {"ann", "bob"}


def test_lineages_are_those_that_are_given(tmp_path: Path) -> None:
    """Two campaigns of one lineage share it, and its budget."""
    found = compiled(write_findings(tmp_path / "findings"), lineages={"c1": "L", "c2": "L"})
    assert named(found) == {"ann": "L", "bob": "L", "cat": "L"}


def test_who_was_overturned_is_not_in_it(tmp_path: Path) -> None:
    """An appeal that was granted holds."""
    assert set(named(compiled(write_findings(tmp_path / "findings"), overturned={"ann"}))) == {"bob", "cat"}


def test_a_dismissed_campaign_is_not_in_it(tmp_path: Path) -> None:
    """Nor its mark; whoever is in another campaign too stays for that one."""
    marking = policy(EXAMPLE.replace('action = "step_up"\nstep_up = "organisation"', 'action = "mark"'))
    found = compiled(write_findings(tmp_path / "findings"), dismissed={"c1"}, policy=marking)
    assert named(found) == {"cat": "c2"} and [one.campaign_id for one in found.lineages] == ["c2"]
    assert len(list(Journal(tmp_path / "journal").entries())) == 1
    assert named(compiled(tmp_path / "findings", dismissed={"c1", "c2", "unknown"})) == {}


def test_marks_are_cut_where_the_policy_marks(tmp_path: Path) -> None:
    """The key is the lineage's, and the journal says that it was cut and under which policy."""
    marking = policy(EXAMPLE.replace('action = "step_up"\nstep_up = "organisation"', 'action = "mark"'))
    found = compiled(write_findings(tmp_path / "findings"), policy=marking)
    journal = Journal(tmp_path / "journal")
    assert [entry.body["because"] for entry in journal.entries()] == [f"policy 2026-06-01 sha256 {marking.sha256}"] * 2
    ring = KeyRing(ROOT, journal=Journal(tmp_path / "other"))
    key = ring.for_detection([Label("2026-06", campaign="c1")], because="test", now=NOW)[0]
    assert [one.mark_key_id for one in found.lineages if one.campaign_id == "c1"] == [key.key_id]


def test_no_mark_is_cut_where_none_is_asked(tmp_path: Path) -> None:
    """A policy that marks nobody touches no key and no journal."""
    compiled(write_findings(tmp_path / "findings"))
    assert not (tmp_path / "journal").exists()


def test_it_goes_through_a_file(tmp_path: Path) -> None:
    """What is compiled, written and loaded names the same accounts."""
    found = compiled(write_findings(tmp_path / "findings"))
    write_snapshot(found, tmp_path / "gate.snapshot", ROOT)
    assert named(load_snapshot(tmp_path / "gate.snapshot", ROOT, NOW)) == named(found)


@pytest.mark.parametrize("kind", ["absent", "unfinished", "other version", "no members", "damaged", "not json"])
def test_what_is_no_findings_folder_is_refused(tmp_path: Path, kind: str) -> None:
    """An unfinished or damaged folder makes no snapshot."""
    folder = write_findings(tmp_path / "findings")
    if kind == "absent":
        folder = tmp_path / "elsewhere"
    elif kind in ("unfinished", "other version", "not json"):
        text = {"unfinished": "{}", "other version": '{"complete":true,"schema_version":99}', "not json": "[" * 99_999}
        (folder / "run.json").write_text(text[kind], "utf-8")
    elif kind == "no members":
        (folder / "members.parquet").unlink()
    else:
        (folder / "members.parquet").write_bytes(b"PAR1" * 10)
    with pytest.raises(FindingsError):
        compiled(folder)
