"""signal: the seam through which evidence comes: one subject in, one finding out.

A Signal says what it measures, which question it answers, what it needs and how it fails. Its e-value has mean at
most 1 when the null it names is true; that is the whole contract, and `tests/contracts` holds every Signal to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from stillwatch.detect.groups import Candidate
from stillwatch.detect.incidence import Incidence, build_incidence
from stillwatch.detect.population import Population
from stillwatch.detect.traits import Traits
from stillwatch.evidence.reading import Reading

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Question = Literal["operator", "harvest"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A candidate, everybody else, and the world in which it is weighed.

    Attributes:
        unit: (accounts,) what counts once. Paying units, or coarser where an innocent hypothesis says so.
        eligible: (accounts,) the population of the null; all, or those an innocent hypothesis would draw from.
        set_aside: (accounts,) members of other groups already found to be campaigns: no reference for this one.
        reading: what distinct prompts of members and of some of their peers show; None where no text was logged.
    """

    population: Population
    traits: Traits
    candidate: Candidate
    unit: Ints
    eligible: Mask
    set_aside: Mask
    reading: Reading | None
    _counted: dict[bool, Incidence] = field(default_factory=dict, init=False, repr=False, compare=False)

    def incidence(self, family: str) -> Incidence:
        """How carriers of a family are counted when it is tested: by unit, among the eligible.

        Accounts on one card came together, so that they lie in a group together says nothing of the card.
        """
        within_country = family == "funding"
        if within_country not in self._counted:
            self._counted[within_country] = self._count(within_country)
        return self._counted[within_country]

    def _count(self, within_country: bool) -> Incidence:
        ready = self.traits.by_country if within_country else self.traits.by_unit
        if self.eligible.all() and np.array_equal(self.unit, ready.unit):
            return ready
        traits, cohort = self.traits, self.population.country if within_country else self.population.cohort
        return build_incidence(
            traits.share, traits.alone, traits.kind, unit=self.unit, cohort=cohort, eligible=self.eligible
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What a Signal has to say; becomes one row of `records.EVIDENCE`.

    `n` is the number of units it rests on; `effect` a ratio or a difference with a 95 % interval [lo, hi];
    `shows` which sampled rows of members show it: (kind, keys) or None for all.
    """

    signal: str
    family: str
    question: Question
    statistic: float
    n: int
    effect: float
    lo: float
    hi: float
    null_id: str
    e_log2: float
    h1: str
    h0: str
    detail: Mapping[str, object] = field(default_factory=dict)
    shows: tuple[tuple[str, npt.NDArray[np.uint64]], ...] = ()


class Signal(Protocol):
    """One way to tell a campaign from everybody else."""

    @property
    def name(self) -> str:
        """Unique; as it stands in `evidence.parquet`."""
        ...

    @property
    def family(self) -> str:
        """One of `traits.FAMILIES`."""
        ...

    @property
    def question(self) -> Question:
        """What it answers."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Canonical columns without which it is not examined; any one suffices."""
        ...

    def weigh(self, subject: Subject) -> Finding | None:
        """Weigh a subject; None where there is too little to go on."""
        ...
