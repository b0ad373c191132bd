"""lineup: everybody's answers brought together: files are read, teachers and controls behind endpoints are asked.

The suspect is never asked here: that comes after the plan is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stillwatch.compare.panel import Panel, make_panel
from stillwatch.errors import InputError
from stillwatch.suspects.answers import Answers, Files, Place, parse_place

Collect = Callable[[Place, Sequence[str]], Answers]
"""Ask an endpoint these prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who is wanted, as written on the command line: `[FAMILY=]PLACE[#MODEL]`."""

    suspect: str
    teachers: Sequence[str]
    controls: Sequence[str] = ()
    students: Sequence[str] = ()
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """Who answers, as far as it is known before the suspect is asked; `answers` is None where it will be.

    `rejects` counts, by place, rows of files that could not be read and prompts that endpoints refused.
    """

    suspect: Place
    answers: Answers | None
    panel: Panel
    rejects: Mapping[str, int] = field(default_factory=dict)


def line_up(wanted: Wanted, *, collect: Collect, n_prompts: int, seed: int) -> Lineup:
    """Read and ask, and choose the prompts.

    Raises:
        InputError: a file cannot be read as asked, an endpoint does not answer, or there is no common prompt.
    """
    files = Files()
    suspect = parse_place(wanted.suspect)
    answers = None if suspect.is_endpoint else files.one(suspect)
    # Whoever is named twice is one.
    teachers, students, controls = (
        list(dict.fromkeys(map(parse_place, places))) for places in (wanted.teachers, wanted.students, wanted.controls)
    )
    read = {place: files.one(place) for place in (*teachers, *students) if not place.is_endpoint}
    several = {place: files.several(place) for place in controls if not place.is_endpoint}
    before = files.one(parse_place(wanted.before)) if wanted.before else None
    known = [*([answers] if answers else []), *read.values(), *([before] if before else [])]
    prompts = _to_ask(known or [one for found in several.values() for one in found], n_prompts, seed)
    asked = {place: collect(place, prompts) for place in (*teachers, *students, *controls) if place.is_endpoint}
    named = _name(suspect, answers)
    panel = make_panel(
        name=named,
        source=answers.source if answers else f"{suspect.where}#{suspect.model}",
        family=suspect.family or (answers.family if answers else named),
        teachers=[read.get(place) or asked[place] for place in teachers],
        controls=[one for place in controls for one in several.get(place) or [asked[place]]],
        students=[read.get(place) or asked[place] for place in students],
        before=before,
        answered=answers.outputs if answers else None,
        n_prompts=n_prompts,
        seed=seed,
    )
    rejects = files.rejects() | {place.where: one.rejects for place, one in asked.items()}
    return Lineup(
        suspect=suspect, answers=answers, panel=panel, rejects={where: n for where, n in sorted(rejects.items()) if n}
    )


def read_expected(path: Path) -> tuple[dict[str, str], str]:
    """Right answers by prompt, from a file with `prompt` and `output`, and the SHA-256 of the file."""
    found = Files().one(parse_place(str(path)))
    return {prompt: texts[0] for prompt, texts in found.outputs.items()}, found.source


def _name(suspect: Place, answers: Answers | None) -> str:
    return answers.name if answers else suspect.model or suspect.where


def _to_ask(files: Sequence[Answers], n_prompts: int, seed: int) -> list[str]:
    """The prompts that go to endpoints: those that every file answered, chosen as the panel chooses."""
    if not files:
        raise InputError(
            "there are no prompts to ask", do="Name a teacher or a control as a file; its prompts are the ones asked."
        )
    common = sorted(set.intersection(*(set(one.outputs) for one in files)))
    rng = np.random.default_rng(seed)
    return [common[at] for at in rng.permutation(len(common))[:n_prompts]]
