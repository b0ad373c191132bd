"""panel: who is compared with whom, on which prompts, in which order; nothing of the suspect's answers goes into it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatch.compare.canonical import canonical
from stillwatch.errors import InputError
from stillwatch.suspects.answers import Answers

MIN_COVERAGE = 0.9
"""Share of the teachers' prompts a control must have answered; with less it is set aside and named."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Teachers, controls and whoever else answers beside the suspect, by unique labels.

    `texts` holds the canonical first answer of each to each prompt of `prompts`, in that order, and `outputs` all raw
    answers by prompt. `families` names the family of every label, `sources` the file or the endpoint it comes from, the
    suspect's included. `set_aside` are controls and students left out, with the reason.
    """

    suspect: str
    teachers: tuple[str, ...]
    controls: tuple[str, ...]
    students: tuple[str, ...]
    before: str | None
    families: Mapping[str, str]
    sources: Mapping[str, str]
    prompts: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, Mapping[str, tuple[str, ...]]]
    set_aside: Mapping[str, str]

    @property
    def labels(self) -> list[str]:
        """Everybody, the suspect first."""
        return [self.suspect, *self.texts]

    def unrelated(self, teacher: str) -> dict[str, str]:
        """The family of each control that is kin neither to the suspect nor to this teacher."""
        kin = {self.families[self.suspect], self.families[teacher]}
        return {model: self.families[model] for model in self.controls if self.families[model] not in kin}

    def prompts_sha256(self) -> str:
        """The SHA-256 of the prompts in their order."""
        return prompts_sha256(self.prompts)


def prompts_sha256(prompts: Sequence[str]) -> str:
    """The SHA-256, in hex, of prompts in their order, each with its length before it."""
    digest = hashlib.sha256()
    for prompt in prompts:
        data = prompt.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def make_panel(
    *,
    name: str,
    family: str,
    teachers: Sequence[Answers],
    controls: Sequence[Answers],
    students: Sequence[Answers] = (),
    before: Answers | None = None,
    answered: Collection[str] | None = None,
    source: str = "",
    n_prompts: int,
    seed: int,
) -> Panel:
    """Choose prompts that everybody answered and shuffle them.

    Args:
        name, family, source: of the suspect. answered: the prompts it is known to have answered, None where it will be
            asked.
        n_prompts: how many at most. seed: of their choice and order.

    Raises:
        InputError: there is no teacher, or no prompt that all have answered.
    """
    if not teachers:
        raise InputError("there is no teacher to compare with", do="Name one with --teacher.")
    common = _common([*teachers, *students, *([before] if before else [])], answered)
    set_aside: dict[str, str] = {}
    students = _without_copies(students, common, set_aside, teachers=teachers)
    needed = {(one.name, one.source) for one in (*teachers, *students, *([before] if before else []))}
    kept = _standing(controls, common, {(name, source), *needed}, set_aside)
    common = [prompt for prompt in common if all(prompt in control.outputs for control in kept)]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(common))[:n_prompts]
    labels = _labels(name, [*teachers, *kept, *students, *([before] if before else [])])
    told = {label: one for label, one in labels.items() if one is not None}
    prompts, texts = _spoken([common[at] for at in order], told, teachers)
    of = {id(one): label for label, one in told.items()}
    return Panel(
        suspect=next(iter(labels)),
        teachers=tuple(of[id(one)] for one in teachers),
        controls=tuple(of[id(one)] for one in kept),
        students=tuple(of[id(one)] for one in students),
        before=of[id(before)] if before else None,
        families={next(iter(labels)): family} | {label: one.family for label, one in told.items()},
        sources={next(iter(labels)): source} | {label: one.source for label, one in told.items()},
        prompts=tuple(prompts),
        texts=texts,
        outputs={label: one.outputs for label, one in told.items()},
        set_aside=set_aside,
    )


def _common(needed: Sequence[Answers], answered: Collection[str] | None) -> list[str]:
    """The prompts all of them have answered, sorted, so that the order of files and rows does not matter."""
    found = set(needed[0].outputs)
    for one in needed[1:]:
        found &= one.outputs.keys()
    if answered is not None:
        found &= set(answered)
    if not found:
        raise InputError(
            "suspect and teachers share no prompt",
            do="Ask the suspect exactly the prompts that the teacher answered; a prompt is matched letter by letter.",
        )
    return sorted(found)


def _standing(
    controls: Sequence[Answers], prompts: Sequence[str], others: Collection[tuple[str, str]], set_aside: dict[str, str]
) -> list[Answers]:
    """The controls that are none of the others, by name and source, answered enough, and are no copies."""
    kept: list[Answers] = []
    for control in controls:
        share = sum(prompt in control.outputs for prompt in prompts) / len(prompts)
        if (control.name, control.source) in others:
            set_aside[_free(control.name, set_aside)] = "it is the suspect, a teacher or a student itself"
        elif share < MIN_COVERAGE:
            set_aside[_free(control.name, set_aside)] = f"it answered {share:.0%} of the prompts"
        else:
            kept.append(control)
    return _without_copies(kept, prompts, set_aside)


def _without_copies(
    models: Sequence[Answers], prompts: Sequence[str], set_aside: dict[str, str], *, teachers: Sequence[Answers] = ()
) -> list[Answers]:
    """The models without those that say what an earlier one of another family says, word for word.

    Copies would make one family look like many. Siblings of one family count once in any case; students, who are given
    with their teachers, count by head, so that none may repeat a teacher or another student.
    """

    def said(one: Answers) -> tuple[tuple[str, ...] | None, ...]:
        return tuple(one.outputs.get(prompt) for prompt in prompts)

    seen = {said(one): one for one in reversed(teachers)}
    kept = []
    for one in models:
        first = seen.setdefault(said(one), one)
        if first is not one and (teachers or first.family != one.family):
            set_aside[_free(one.name, set_aside)] = f"it answers as {first.name} does, word for word"
        else:
            kept.append(one)
    return kept


def _spoken(
    prompts: Sequence[str], told: Mapping[str, Answers], teachers: Sequence[Answers]
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The prompts to which no teacher is silent, and everybody's canonical first answers to them."""
    spoken = [p for p in prompts if all(canonical(one.outputs[p][0]) for one in teachers)]
    if not spoken:
        raise InputError("no prompt is left that everybody answered", do="Check that the files hold the same prompts.")
    return spoken, {label: tuple(canonical(one.outputs[p][0]) for p in spoken) for label, one in told.items()}


def _labels(name: str, others: Sequence[Answers]) -> dict[str, Answers | None]:
    """A label for everybody: the name, with a number where two are called alike."""
    labels: dict[str, Answers | None] = {name: None}
    for one in others:
        labels[_free(one.name, labels)] = one
    return labels


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with a number where it is taken."""
    label, n = name, 1
    while label in taken:
        n += 1
        label = f"{name} ({n})"
    return label
