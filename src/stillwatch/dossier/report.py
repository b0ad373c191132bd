"""report: the findings as one page that opens from a file, offline, without a script.

Account ids, trait keys and file names come from logs, so they are hostile: every value the template prints passes
`words.plain` and is then escaped, whether or not the template asks for it. The page's policy forbids everything but
its one stylesheet, named by hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stillwatch.dossier import words
from stillwatch.dossier.activity import Activity
from stillwatch.dossier.bonds import bipartite
from stillwatch.dossier.cases import Case, bars_of, campaigns_of, cases_of, leads_of
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.lineage import ancestry, gone_in_words, memory_of, reviewed, standing
from stillwatch.dossier.pictures import hour_map, shares, timeline, waterfall
from stillwatch.dossier.provenance import provenance_of, verdict

__all__ = ["Activity", "Findings", "render_report"]

LIMITS = {
    "campaigns": 500,
    "cases": 100,
    "members": 50,
    "evidence": 60,
    "rows": 5,
    "traits": 40,
    "explanations": 20,
    "leads": 50,
    "files": 20,
    "rejects": 30,
    "columns": 60,
    "gone": 20,
}
"""How many of each the page shows; it says so wherever it shows fewer than there are."""

MAX_SECTION_BYTES = 4_200_000
"""What the campaigns' sections may weigh together; the page stays below 5 MB whatever the logs held."""


def render_report(findings: Findings) -> str:
    """The findings as one self-contained HTML page below 5 MB; the same findings give the same bytes.

    Tables and pictures are capped (`LIMITS`), and sections end where the page would grow too large; every cap states
    what it hides and which file holds the rest. Cost grows with campaigns times the rows of the tables.
    """
    says, extent = verdict(findings)
    page = (
        environment()
        .get_template("report.html")
        .render(
            policy=policy(),
            style=Markup(style()),  # noqa: S704 - our own stylesheet
            verdict=says,
            extent=extent,
            scan=provenance_of(findings),
            bars=bars_of(findings.run),
            campaigns=campaigns_of(findings),
            sections=_sections(cases_of(findings, n_cases=LIMITS["cases"], n_members=LIMITS["members"])),
            leads=leads_of(findings),
            memory=memory_of(findings.run),
        )
    )
    return page.rstrip() + "\n"


def _sections(cases: list[Case]) -> list[Markup]:
    """The sections of as many campaigns as the page can carry, and at least one."""
    template = environment().get_template("case.html")
    sections: list[Markup] = []
    n_bytes = 0
    for case in cases:
        section = Markup(template.render(case=case, pictures=_pictures(case)))  # noqa: S704 - the template escapes
        n_bytes += len(section.encode())
        if sections and n_bytes > MAX_SECTION_BYTES:
            break
        sections.append(section)
    return sections


def _pictures(case: Case) -> dict[str, Markup]:
    campaign, activity = case.campaign, case.activity
    drawn = {"waterfall": waterfall(case.questions)}
    if campaign.capabilities:
        drawn["shares"] = shares(campaign.capabilities)
    if activity is not None:
        drawn["timeline"] = timeline(activity)
        drawn["hours"] = hour_map(activity)
        drawn["bonds"] = bipartite(activity.edges, traits=case.traits, n_accounts=campaign.n_accounts)
    return drawn


@cache
def environment() -> Environment:
    """The template engine of every page: everything escaped, nothing undefined."""
    made = Environment(
        loader=PackageLoader("stillwatch.dossier"),
        autoescape=True,
        finalize=_printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        words=words, limits=LIMITS, ancestry=ancestry, reviewed=reviewed, standing=standing, gone_in_words=gone_in_words
    )
    return made


def _printed(value: object) -> object:
    """What every expression of the template passes before it is escaped."""
    return words.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def style() -> str:
    """The stylesheet of every page."""
    folder = files("stillwatch.dossier") / "templates"
    return "".join((folder / name).read_text("utf-8") for name in ("report.css", "pictures.css"))


def policy() -> str:
    """The content policy of every page: nothing but its own stylesheet, by hash."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
