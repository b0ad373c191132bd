"""audit_report: an audit as a folder: one page for a person, JSON and Evidence for programs, a Croissant patch.

Names, columns and reasons come from strangers' files, so the page is made as that of a scan is (`report.py`): every
value is made plain and escaped, and its policy forbids everything but its own stylesheet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from markupsafe import Markup

from stillwatch.audit.audit import Audit, counted
from stillwatch.audit.findings import Finding
from stillwatch.dossier.report import environment, policy, style
from stillwatch.dossier.svg import box, picture, rule, text
from stillwatch.dossier.whole import write_whole
from stillwatch.errors import FindingsError

REPORT, RESULT, EVIDENCE, PATCH = "report.html", "audit.json", "evidence.parquet", "croissant-patch.json"
FILES = (REPORT, RESULT, EVIDENCE, PATCH)

VERDICTS = {
    "finding": "finding",
    "lead": "lead",
    "estimate": "estimate",
    "nothing": "nothing found",
    "cannot_tell": "cannot tell",
    "not_examined": "not examined",
}
CHECKS = {
    "licence": "licence and terms",
    "overlap": "copies of registered sets",
    "registry": "copies of a provider's answers",
    "identity": "answers that say who wrote them",
    "written": "text written by models",
    "canary": "canaries",
    "marks": "marks in the answers",
}
MAX_FILES = 200
_NO_SHARE = ("canary", "marks")
"""Checks whose effect is no share of the rows."""

_WIDTH, _LEFT, _RIGHT, _ROW = 860, 250, 120, 34


def render_audit(audit: Audit) -> str:
    """The audit as one self-contained page; the same audit gives the same bytes."""
    found = [one for one in audit.findings if one.verdict == "finding"]
    leads = [one for one in audit.findings if one.verdict == "lead"]
    page = (
        environment()
        .get_template("audit.html")
        .render(
            policy=policy(),
            style=Markup(style()),  # noqa: S704 - our own stylesheet
            audit=audit,
            verdict=headline(len(found), len(leads)),
            groups=[(CHECKS[check], [one for one in audit.findings if one.check == check]) for check in CHECKS],
            verdicts=VERDICTS,
            shares=share_picture(audit.findings),
            counts={name: counted(audit.files, name) for name in ("rejects", "notes", "shapes")},
            files=audit.files[:MAX_FILES],
            skipped=audit.skipped[:MAX_FILES],
        )
    )
    return page.rstrip() + "\n"


def headline(n_findings: int, n_leads: int) -> str:
    """The page's first line.

    >>> headline(2, 1), headline(0, 0)
    ('2 findings, 1 lead', 'No finding')
    """
    said = [f"{n:,} {word}{'s' if n != 1 else ''}" for n, word in ((n_findings, "finding"), (n_leads, "lead")) if n]
    return ", ".join(said) or "No finding"


def share_picture(findings: Sequence[Finding]) -> Markup | None:
    """Shares with their intervals, on one square-root axis, so that half a percent is seen beside fifty."""
    shown = [(_label(one), one) for one in findings if one.evidence is not None and one.check not in _NO_SHARE]
    if not shown:
        return None
    top = max(0.01, *(min(1.0, one.evidence.hi) for _, one in shown if one.evidence))
    scale = (_WIDTH - _LEFT - _RIGHT) / math.sqrt(top)
    bottom = 28 + _ROW * len(shown)
    body: list[str] = []
    last = -float(_ROW)
    for share in (0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1):
        x = _LEFT + scale * math.sqrt(share)
        if share <= top and x - last >= _ROW:
            body.append(rule(x, 20, x, bottom, kind="rule faint"))
            body.append(text(x, 14, f"{100 * share:g} %", kind="note", anchor="middle"))
            last = x
    for at, (label, one) in enumerate(shown):
        assert one.evidence is not None
        y, kind = 28 + _ROW * at, "mark" if one.verdict in ("finding", "estimate") else "mark quiet"
        low, mid, high = (
            _LEFT + scale * math.sqrt(max(0.0, min(1.0, v)))
            for v in (one.evidence.lo, one.evidence.effect, one.evidence.hi)
        )
        body += [
            text(_LEFT - 14, y + 20, label, anchor="end", cells=34),
            box(low, y + 14, max(high - low, 1.5), 3, kind=kind),
            box(mid - 2.5, y + 7, 5, 17, kind=kind),
            text(min(high + 8, _WIDTH - _RIGHT + 8), y + 20, f"{100 * one.evidence.effect:.2f} %", kind="note"),
        ]
    desc = "; ".join(
        f"{label}: {100 * one.evidence.effect:.2f} %, {VERDICTS[one.verdict]}" for label, one in shown if one.evidence
    )
    title = "Shares of the rows, with 95 % intervals"
    return picture(body, kind="shares", title=title, desc=desc, width=_WIDTH, height=bottom + 8)


def _label(one: Finding) -> str:
    return str(one.detail.get("registry") or CHECKS[one.check])


def check_audit_target(folder: Path) -> None:
    """Refuse, before any work is done, a target that holds something else than an audit; raises FindingsError."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FindingsError(f"{folder} is not a folder", do="Name another --out.")
    if folder.is_dir() and {path.name for path in folder.iterdir()} - set(FILES):
        raise FindingsError(
            f"{folder} holds something else than an audit", expected="a new folder, or one an audit wrote",
            do="Name another --out; nothing was changed.",
        )  # fmt: skip


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write the folder (mode 0700) whole or not at all, over an earlier audit; returns the path of the page.

    Raises:
        FindingsError: the target holds something else, or cannot be written.
    """
    check_audit_target(folder)
    write_whole(folder, partial(_fill, audit))
    return folder / REPORT


def _fill(audit: Audit, folder: Path) -> None:
    pq.write_table(audit.evidence, folder / EVIDENCE, compression="zstd", version="2.6")
    (folder / REPORT).write_text(render_audit(audit), "utf-8")
    for name, tree in ((RESULT, audit.to_dict()), (PATCH, audit.croissant)):
        (folder / name).write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", "utf-8")
