"""report: one page, offline, without a script, whatever the logs held."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from stillwatch.dossier.findings import Findings
from stillwatch.dossier.report import render_report
from stillwatch.errors import FindingsError

Make = Callable[..., Findings]

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A strict reading of a page: tags must nest and close; attributes, ids and text are kept."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what opens."""
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what opens and closes at once."""
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Hold that what closes is what opened last."""
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.text += data


def test_every_page_is_well_formed(any_findings: Findings) -> None:
    """Tags nest and close, and every id stands once."""
    page = Page(render_report(any_findings))
    assert page.open == []
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_every_link_stays_on_the_page_and_leads_somewhere(any_findings: Findings) -> None:
    """A link is an anchor that exists."""
    page = Page(render_report(any_findings))
    ids = {value for name, value in page.attributes if name == "id"}
    links = [value for name, value in page.attributes if name == "href"]
    assert links
    assert {link.removeprefix("#") for link in links} <= ids


def test_nothing_is_run_and_nothing_is_loaded(any_findings: Findings) -> None:
    """No script, no handler, no inline style, no address of anything outside the file."""
    text = render_report(any_findings)
    page = Page(text)
    assert "<script" not in text.lower()
    assert "://" not in text
    assert "url(" not in text
    assert page.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "link", "form", "base", "use", "image"})
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "style", "srcset"}]


def test_the_policy_allows_the_one_stylesheet_and_nothing_else(any_findings: Findings) -> None:
    """The policy stands before the style, denies by default, and its hash is that of the style."""
    text = render_report(any_findings)
    policy = next(value for name, value in Page(text).attributes if name == "content" and "default-src" in value)
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert text.index("Content-Security-Policy") < text.index("<style>")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_strings_come_out_as_text(findings: dict[str, Make]) -> None:
    """Markup is escaped, and nothing that moves a cursor, hides or reverses text is left."""
    text = render_report(findings["hostile"]())
    assert "<img" not in text and "&lt;script&gt;" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "{{7*7}}" in text and "49" not in re.sub(r"[0-9a-f.,:]{3,}", "", Page(text).text)


def test_the_same_findings_give_the_same_bytes(findings: dict[str, Make]) -> None:
    """Rendering holds no clock and no chance, and the order of rows in the tables does not matter."""
    once = findings["two"]()
    turned = {
        stem: getattr(once, stem).take(list(range(getattr(once, stem).num_rows))[::-1])
        for stem in ("campaigns", "leads", "members", "evidence", "evidence_rows", "traits", "explanations")
    }
    assert render_report(once) == render_report(findings["two"]()) == render_report(replace(once, **turned))


def test_what_is_cut_is_said(findings: dict[str, Make]) -> None:
    """Members, rows, accounts and traits that are not shown are counted, and their file is named."""
    text = Page(render_report(findings["two"]())).text
    assert "50 of 203 members shown; all are in members.parquet." in text
    assert "5 of 32 sampled rows shown, drawn from 48,212; evidence_rows.parquet." in text
    assert "40 of 210 accounts shown" in text
    assert "20 of 24 traits" in text
    assert "acct-1-0049" in text and "acct-1-0202" not in text


def test_the_verdict_is_in_plain_words(findings: dict[str, Make]) -> None:
    """A reader meets the number of campaigns first, and no finding is not called innocence."""
    assert "2 campaigns among 10,221 accounts." in render_report(findings["two"]())
    empty = Page(render_report(findings["nothing"]())).text
    assert "No campaign was found. That is not proof that none exists." in empty
    assert "No group of accounts cleared all four bars." in empty


def test_a_reader_learns_what_was_not_looked_at(findings: dict[str, Make]) -> None:
    """Absent channels, rejects, keys, settings and files are on the page."""
    text = Page(render_report(findings["nothing"]())).text
    for said in (
        "phone hash",
        "rejected: no timestamp",
        "5be1c0a94d2f7733",
        "9c41d0b2f6e6a773",
        "exchanges/2026-09-01.parquet",
    ):
        assert said in text


def test_the_bars_are_those_of_the_run(findings: dict[str, Make]) -> None:
    """A run judged by other bars is shown against those."""
    two = findings["two"]()
    strict = replace(two, run={**two.run, "settings": {"bars": {"operator_bits_min": 33.0}}})
    assert "at least 33 bits for one operator" in render_report(strict)


def test_a_run_that_says_nothing_is_not_invented(findings: dict[str, Make]) -> None:
    """With an empty run.json the page still stands, and says that things are not known."""
    text = Page(render_report(replace(findings["two"](), run={}))).text
    assert "not known" in text and "2 campaigns." in text


def test_a_run_of_absurd_values_still_renders(findings: dict[str, Make]) -> None:
    """Numbers no counter can hold, dates before the calendar and lists for maps are not known, not an error."""
    absurd = {
        "counts": {"accounts": 10**400, "rows_kept": float("nan"), "rows_read": True},
        "period": {"first": "0001-01-01T00:00:00+23:00", "last": ["x"]},
        "rejects": ["a"],
        "channels": {"absent": "ip"},
        "input": {"files": [{"n_rows": 10**400, "path": None}, "x"]},
        "settings": {"bars": {"q_max": "small"}},
        "key_ids": None,
    }
    text = Page(render_report(replace(findings["two"](), run=absurd))).text
    assert "2 campaigns." in text and "at most 0.001" in text


def test_a_campaign_without_recorded_activity_says_so(findings: dict[str, Make]) -> None:
    """Pictures that cannot be drawn are not drawn empty."""
    text = Page(render_report(replace(findings["two"](), activity={}))).text
    assert "The activity of this campaign was not recorded" in text


def test_a_hundred_campaigns_stay_below_five_megabytes(findings: dict[str, Make]) -> None:
    """The page is bounded; what has no section is still in the table, and that is said."""
    text = render_report(findings["many"](100))
    shown = text.count('<section class="case"')
    assert len(text.encode()) < 5_000_000
    assert text.count("Campaign 100 ") >= 1
    assert shown == 100 or f"{shown} of 100 campaigns have a section of their own here" in text


def test_a_table_of_another_version_is_refused(findings: dict[str, Make]) -> None:
    """A missing column is named before anything is drawn."""
    two = findings["two"]()
    with pytest.raises(FindingsError, match="membership"):
        replace(two, members=two.members.drop_columns(["membership"]))


def test_too_few_accounts_are_not_called_nothing_found(findings: dict[str, Make]) -> None:
    """Below the smallest population the page says that nothing can be told."""
    found = findings["nothing"]()
    few = {"too_few_to_tell": True, "settings": {"scan": {"n_min_population": 20_000}}}
    text = Page(render_report(replace(found, run={**found.run, **few}))).text
    assert "10,221 accounts are too few to tell (fewer than 20,000)." in text
    assert "No campaign was found" not in text
