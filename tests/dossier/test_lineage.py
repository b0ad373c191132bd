"""lineage: what the registry remembers, in run.json, on the page and in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillwatch.dossier.findings import Findings
from stillwatch.dossier.folder import read_findings, write_findings
from stillwatch.dossier.lineage import dismissed, members_of, memory_of, recorded, remember
from stillwatch.dossier.provenance import verdict
from stillwatch.dossier.report import render_report
from stillwatch.keys import RootKey, Secret
from stillwatch.lineages import Lineages
from stillwatch.records import FINDINGS

Make = Callable[..., Findings]
DAY = datetime(2026, 9, 3, 12, tzinfo=UTC)
KEY = RootKey(Secret(b"\1" * 32))
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


@pytest.fixture
def registry(tmp_path: Path) -> Lineages:
    """A registry that is not there yet."""
    return Lineages(tmp_path / "registry.sqlite", key=KEY)


def reviewed(findings: Findings, registry: Lineages, word: Any, why: str) -> Findings:
    """The findings of the same scan again, after a review of each campaign."""
    for one in recorded(findings, registry, at=DAY).campaigns:
        accounts = members_of(findings, one.campaign_id)
        registry.review(one, accounts, word, why=why, at=DAY, journal=lambda body: None)
    return remember(findings, registry, at=DAY)


def test_lineages_are_in_run_json_alone(findings: dict[str, Make], registry: Lineages, tmp_path: Path) -> None:
    """The Parquet files are those of a scan that nobody remembers; run.json comes back as it was."""
    two = findings["two"]()
    said = reviewed(two, registry, "watch", "x")
    for name, one in (("plain", two), ("said", said)):
        write_findings(one, tmp_path / name)
    for stem in FINDINGS:
        assert (tmp_path / f"plain/{stem}.parquet").read_bytes() == (tmp_path / f"said/{stem}.parquet").read_bytes()
    again = read_findings(tmp_path / "said")
    assert memory_of(again.run) == memory_of(said.run) and len(memory_of(again.run).campaigns) == 2


@pytest.mark.parametrize("word", ["confirm", "dismiss", "watch"])
def test_the_page_says_what_was_reviewed(findings: dict[str, Make], registry: Lineages, word: str) -> None:
    """Each review is on the page with its day and reason, and nothing it holds is markup."""
    page = render_report(reviewed(findings["two"](), registry, word, HOSTILE))
    told = {"confirm": "confirmed", "dismiss": "dismissed", "watch": "watched"}[word]
    said = f"{told} by review on 3 Sep 2026: &lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202e"
    assert page.count(said) == 2
    assert page.count(f"</code> {told} by review</td>") == 2
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page


def test_a_dismissed_campaign_stays_listed(findings: dict[str, Make], registry: Lineages) -> None:
    """It keeps its section, and the verdict counts it apart."""
    two = findings["two"]()
    said = reviewed(two, registry, "dismiss", "a class")
    assert dismissed(said) == set(two.campaigns["campaign_id"].to_pylist())
    assert verdict(said)[0] == verdict(two)[0] and "2 of 2 dismissed by review." in verdict(said)[1]
    assert dismissed(two) == dismissed(reviewed(two, registry, "confirm", "x")) == set()


def test_what_is_gone_is_on_the_page(findings: dict[str, Make], registry: Lineages) -> None:
    """A scan without the campaigns of the one before names them."""
    remember(findings["two"](), registry, at=DAY)
    page = render_report(remember(findings["nothing"](), registry, at=DAY))
    assert "In the scan before, and not in this one: " in page
    assert "campaign 3f9ac2d1740be586, 203 accounts (lineage l" in page


def test_a_registry_that_cannot_be_used_costs_no_findings(findings: dict[str, Make], registry: Lineages) -> None:
    """The findings stand, no dismissal counts, and the page says why."""
    registry.path.write_bytes(b"noise" * 999)
    registry.path.chmod(0o600)
    said = remember(findings["two"](), registry, at=DAY)
    assert "damaged" in (memory_of(said.run).problem or "") and dismissed(said) == set()
    page = render_report(said)
    assert "Reviews and earlier scans were not looked at." in page and "damaged" in page


BROKEN: list[Any] = [
    7,
    [],
    {"campaigns": 3, "gone": "x", "problem": None},
    {"campaigns": [3, {}, {"campaign_id": "x"}], "gone": [{}, 4, {"n_accounts": -1}]},
    {"campaigns": [{"campaign_id": 1, "lineage_id": [], "status": {}, "since": 2, "absorbed": 3, "split_from": {}}]},
    {
        "campaigns": [
            {
                "campaign_id": "3f9ac2d1740be586",
                "lineage_id": HOSTILE,
                "status": HOSTILE,
                "since": HOSTILE,
                "absorbed": [HOSTILE, 3],
                "split_from": [None],
                "review": {"verdict": HOSTILE, "why": [], "at": 4, "holds": "yes"},
            }
        ],
        "gone": [{"lineage_id": HOSTILE, "campaign_id": None, "n_accounts": 3}],
    },
]


@pytest.mark.parametrize("said", BROKEN, ids=lambda said: json.dumps(said)[:30])
def test_a_changed_run_json_is_read_leniently(findings: dict[str, Make], said: Any) -> None:
    """Whatever stands there, no dismissal is read into it and the page is whole."""
    two = findings["two"]()
    changed = replace(two, run={**two.run, "lineages": said})
    assert dismissed(changed) == set()
    page = render_report(changed)
    assert "<script" not in page and "\x1b" not in page and page.rstrip().endswith("</html>")
