"""comparison: what `compare` found, as a page with a picture, and as a folder.

Names of models and families come from files, so they are hostile: they pass `words.plain` and are escaped, and the page
allows nothing but its one stylesheet. It holds no text of any prompt or answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from stillwatch.dossier import words
from stillwatch.dossier.report import environment, policy, style
from stillwatch.dossier.svg import box, picture, rule, text
from stillwatch.dossier.whole import write_whole
from stillwatch.errors import FindingsError

RESULT, EVIDENCE, PAGE = "result.json", "evidence.parquet", "comparison.html"

MAX_TEACHERS = 8
MAX_ROWS = 40
WIDTH, LEFT, SPAN, ROW = 840, 250, 480, 19


def check_folder(folder: Path) -> None:
    """Refuse, before anything is asked, a target that holds something else than a comparison.

    Raises:
        FindingsError: it is a file, or a folder with other content.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FindingsError(f"{folder} is not a folder", do="Name another --out.")
    if folder.is_dir() and {path.name for path in folder.iterdir()} - {RESULT, EVIDENCE, PAGE}:
        raise FindingsError(f"{folder} holds something else", do="Name another --out; nothing was changed.")


def write_comparison(result: Mapping[str, Any], evidence: pa.Table, folder: Path) -> Path:
    """Write result, evidence and page (folder 0700, files 0600), whole or not at all; the path of the page.

    Raises:
        FindingsError: the target holds something else, or cannot be written.
    """
    check_folder(folder)

    def fill(partial: Path) -> None:
        pq.write_table(evidence, partial / EVIDENCE, compression="zstd", version="2.6")
        (partial / PAGE).write_text(render_comparison(result), "utf-8")
        (partial / RESULT).write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", "utf-8")

    write_whole(folder, fill)
    return folder / PAGE


def render_comparison(result: Mapping[str, Any]) -> str:
    """The result as one self-contained HTML page; the same result gives the same bytes."""
    teachers = result["teachers"][:MAX_TEACHERS]
    page = (
        environment()
        .get_template("comparison.html")
        .render(
            policy=policy(),
            style=Markup(style()),  # noqa: S704 - our own stylesheet
            result=result,
            says=headline(result),
            teachers=teachers,
            pictures=[[likeness_picture(result, one, view) for view in one["views"]] for one in teachers],
            hidden=len(result["teachers"]) - len(teachers),
        )
    )
    return page.rstrip() + "\n"


def headline(result: Mapping[str, Any]) -> str:
    """Both words in one sentence."""
    same = {
        "same": "is not told apart from",
        "different": "is a different model from",
        "cannot tell": "cannot be said to be the same model as, or another than,",
    }[result["same_model"]]
    derived = {
        "derived": "it is derived from it or from what it comes from",
        "not derived": "it does not look derived from it",
        "cannot tell": "whether it learned from it cannot be told",
    }[result["derived"]]
    suspect, teacher = (words.plain(result[name], cells=60) for name in ("suspect", "teacher"))
    return f"{suspect} {same} {teacher}; {derived}"


def likeness_picture(result: Mapping[str, Any], teacher: Mapping[str, Any], view: Mapping[str, Any]) -> Markup:
    """How near the suspect is to the teacher and to every control, nearest first, with the bar for "derived"."""
    rows = [(float(value), name, False) for name, value in view["by_control"].items()]
    ranked = sorted([*rows, (float(view["similarity"]), teacher["teacher"], True)], key=lambda row: (-row[0], row[1]))
    shown = [row for n, row in enumerate(ranked) if n < MAX_ROWS or row[2]]
    bar = _bar(view, float(result["rules"]["margin_derived_min"]))
    scale = _scale([value for value, _, _ in shown] + ([bar] if bar is not None else []))
    body: list[str] = []
    y = 26.0
    if bar is not None:
        body += [
            rule(scale(bar), 18, scale(bar), y + ROW * len(shown), kind="bar"),
            text(scale(bar), 12, "bar for derived", kind="note", anchor="middle"),
        ]
    for value, name, is_teacher in shown:
        body += _row(value, name, is_teacher, teacher["controls"]["families"].get(name, ""), scale, y)
        y += ROW
    body.append(rule(scale(0), 18, scale(0), y))
    if len(ranked) > len(shown):
        body.append(text(LEFT, y + 14, f"{len(ranked) - len(shown)} more controls, all further off", kind="note"))
        y += 18
    place = 1 + [is_teacher for _, _, is_teacher in ranked].index(True)
    return picture(
        body,
        kind="likeness",
        title=f"Likeness of {words.plain(result['suspect'], cells=60)}: {view['view']}",
        desc=f"The teacher is number {place} of {len(ranked)}; margin {words.decimal(view['margin'])}.",
        width=WIDTH,
        height=round(y + 8),
    )


def _row(value: float, name: str, is_teacher: bool, family: str, scale: Scale, y: float) -> list[str]:
    low, high = sorted((scale(0), scale(value)))
    beside = "teacher" if is_teacher else family if family != name else ""
    return [
        text(LEFT - 12, y + 11, name, kind="strong" if is_teacher else "", anchor="end", cells=32),
        box(low, y + 2, max(high - low, 1), 11, kind="total" if is_teacher else "mark quiet"),
        text(max(high, scale(0)) + 6, y + 11, f"{value:.3f}  {words.plain(beside, cells=18)}", kind="note"),
    ]


class Scale:
    """Likeness to pixels."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._span = low, max(high - low, 1e-9)

    def __call__(self, value: float) -> float:
        """The x of a value."""
        return LEFT + SPAN * (value - self._low) / self._span


def _scale(values: Sequence[float]) -> Scale:
    return Scale(min([0.0, *values]), max([0.01, *values]))


def _bar(view: Mapping[str, Any], margin_min: float) -> float | None:
    """The likeness at which the margin would be reached: the best control and so many spreads."""
    margin, above = view["margin"], view["similarity"] - view["best"]
    if not margin or not above:
        return None
    return float(view["best"] + margin_min * above / margin)
