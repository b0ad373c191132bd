"""summary: a terminal summary that a person understands and a stranger cannot steer."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from stillwatch.cli.summary import print_summary
from stillwatch.dossier.findings import Findings

Make = Callable[..., Findings]


@pytest.fixture
def findings() -> dict[str, Make]:
    """The makers that the dossier's tests use too."""
    makers: dict[str, Make] = runpy.run_path(str(Path(__file__).parents[1] / "dossier" / "conftest.py"))["FACTORIES"]
    return makers


def printed(findings: Findings, *, width: int = 80, report: str | None = None, **options: object) -> str:
    """What a terminal of that width would get."""
    file = io.StringIO()
    print_summary(Console(file=file, width=width, **options), findings, report=report)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120, 300])
@pytest.mark.parametrize("name", ["two", "nothing", "hostile"])
def test_no_line_is_wider_than_the_terminal(findings: dict[str, Make], name: str, width: int) -> None:
    """Everything fits, at any width."""
    text = printed(findings[name](), width=width, report="findings/" + "long/" * 40)
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_it_says_what_was_found_and_how_sure(findings: dict[str, Make], width: int) -> None:
    """Counts, bits against bars, the innocent explanation, leads, absences, rejects and the report's path."""
    text = re.sub(r"[│\s]+", " ", printed(findings["two"](), width=width, report="findings/report.html"))
    for said in (
        "2 campaigns among 10,221 accounts.",
        "210 accounts, 203 of them sure enough to name",
        "48,212, 1 Sep to 15 Oct 2026",
        "19,400,125 in, 61,777,090 out",
        "238.3 bits, bar 10; ordinary traffic gets there at most once in a million million",
        "58.4 bits, bar 7; beyond the best innocent explanation, one organisation",
        "154 accounts, 3.9 expected, 37 outside: exit network 02c4f1a9e0d7b352",
        "be110c2266aa90f1",
        "a harvest is not shown, by 3.6 bits",
        "Not examined completion, phone hash, tls fingerprint, tool names",
        "1 entry of the allowlist not applied: see run.json",
        "78 rejected (61 no timestamp, 17 invalid json), 140 duplicates counted once",
        "Report findings/report.html",
    ):
        assert said in text


def test_nothing_found_is_not_called_innocence(findings: dict[str, Make]) -> None:
    """An empty finding says what it does not prove."""
    text = printed(findings["nothing"]())
    assert "No campaign was found. That is not proof that none exists." in text
    assert "Leads" not in text and "Bits:" not in text


def test_too_few_accounts_are_not_called_nothing_found(findings: dict[str, Make]) -> None:
    """Below the smallest population the verdict is that nothing can be told."""
    found = findings["nothing"]()
    counts = {**found.run["counts"], "accounts": 60}
    few = {"too_few_to_tell": True, "counts": counts, "settings": {"scan": {"n_min_population": 200}}}
    text = printed(replace(found, run={**found.run, **few}))
    assert "60 accounts are too few to tell (fewer than 200)." in text
    assert "No campaign was found" not in text


def test_hostile_strings_cannot_steer_the_terminal(findings: dict[str, Make]) -> None:
    """Rich markup stays text, and no control or bidi character reaches the terminal."""
    text = printed(findings["hostile"](), width=120, force_terminal=True, color_system="truecolor")
    free = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", free)
    assert "\x1b[31m" not in text


def test_rich_markup_in_a_name_is_shown_as_it_is(findings: dict[str, Make]) -> None:
    """A trait called [red] is called [red]."""
    two = findings["two"]()
    run = {**two.run, "rejects": {"[red]bad[/red]": 4}}
    assert "4 [red]bad[/red]" in printed(replace(two, run=run), width=120)


def test_no_colour_is_honoured(findings: dict[str, Make], monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set, no colour code is sent even to a terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(findings["two"](), force_terminal=True, color_system="truecolor")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text)


def test_a_terminal_that_knows_only_ascii_gets_ascii(findings: dict[str, Make]) -> None:
    """Where the terminal cannot show a minus sign or an ellipsis, it gets a hyphen and dots, and no error."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict", write_through=True)
    print_summary(Console(file=file, width=80), findings["two"](), report="dossier-é.html")
    text = raw.getvalue().decode("ascii")
    assert "2 campaigns among 10,221 accounts." in text and "dossier-\\xe9.html" in text


def test_many_campaigns_are_cut_and_counted(findings: dict[str, Make]) -> None:
    """Ten panels at most; the rest is counted and its file named."""
    text = printed(findings["many"](13))
    assert text.count(" Campaign ") == 10
    assert "3 more campaigns: see campaigns.parquet." in text
    assert "194 more in leads.parquet." in text


def test_the_same_findings_print_the_same(findings: dict[str, Make]) -> None:
    """The summary holds no clock."""
    assert printed(findings["two"]()) == printed(findings["two"]())
