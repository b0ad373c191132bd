"""judge: findings of one group into a verdict, against four bars and the best innocent explanation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatch.detect.traits import FAMILIES
from stillwatch.evidence.innocent import Margin, hedged_bits, weigh_innocent
from stillwatch.evidence.signal import Finding, Signal, Subject
from stillwatch.kernels.evalues import e_bh, mean_e_log2
from stillwatch.settings import Bars

DECLARED_SHARE = 0.8
"""Share of members in one declared organisation or paying unit at which the operator is no secret."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate with everything that was found about it.

    `operator_bits` and `harvest_bits` are log2 of the mean e-value over families and over signals: valid whatever the
    dependence between them (Vovk & Wang 2021, section 3). A campaign needs both, so `e_log2` is the smaller.
    """

    subject: Subject
    findings: Mapping[str, Finding]
    operator_bits: float
    harvest_bits: float
    margins: Sequence[Margin]
    capabilities: Mapping[str, float]

    @property
    def e_log2(self) -> float:
        """log2 e-value against "no common operator, or no harvest"."""
        return min(self.operator_bits, self.harvest_bits)

    @property
    def best_innocent(self) -> Margin:
        """The innocent explanation a campaign beats by least."""
        return self.margins[0]


def weigh(subject: Subject, signals: Sequence[Signal]) -> Weighed:
    """Ask every signal, then every innocent hypothesis."""
    told = [finding for signal in signals if (finding := signal.weigh(subject)) is not None]
    found = {finding.signal: finding for finding in told}
    operator = [
        mean_e_log2(np.array(of_family))
        for family in FAMILIES
        if (of_family := [one.e_log2 for one in told if one.family == family and one.question == "operator"])
    ]
    harvest = [one.e_log2 for one in told if one.question == "harvest"]
    return Weighed(
        subject=subject,
        findings=found,
        operator_bits=_bits(operator),
        harvest_bits=_bits(harvest),
        margins=weigh_innocent(subject, found),
        capabilities=_capabilities(subject),
    )


def _bits(e_log2: list[float]) -> float:
    """Bits of the mean, hedged so that silence is a lost bit and not a lost case; 0 where nothing was examined."""
    return hedged_bits(mean_e_log2(np.array(e_log2))) if e_log2 else 0.0


def q_values(weighed: Sequence[Weighed]) -> list[float]:
    """e-BH over all groups weighed in this scan (Wang & Ramdas 2022)."""
    return [float(q) for q in e_bh(np.array([one.e_log2 for one in weighed]))] if weighed else []


def shortfalls(weighed: Weighed, q_value: float, bars: Bars) -> dict[str, float]:
    """How far each bar is missed, in its own unit; only the bars that are missed."""
    missed = {
        "operator_bits": bars.operator_bits_min - weighed.operator_bits,
        "harvest_bits": bars.harvest_bits_min - weighed.harvest_bits,
        "innocent_margin_bits": bars.innocent_margin_bits_min - weighed.best_innocent.bits,
        "q_value": q_value - bars.q_max,
    }
    return {name: by for name, by in missed.items() if by > 0}


def verdict(weighed: Weighed, q_value: float, bars: Bars, *, n_min_population: int) -> str:
    """One of `records.VERDICTS`."""
    population, members = weighed.subject.population, weighed.subject.candidate.members
    if len(population) < n_min_population:
        return "cannot_tell"
    if not shortfalls(weighed, q_value, bars):
        return "campaign"
    unit = population.unit[members]
    largest = np.bincount(unit).max() / len(unit)
    return "declared" if largest >= DECLARED_SHARE else "lead"


def _capabilities(subject: Subject) -> dict[str, float]:
    if subject.reading is None:
        return {}
    ours = np.isin(subject.reading.owner, subject.candidate.members)
    return {name: float(shows[ours].mean()) for name, shows in subject.reading.shows.items()} if ours.any() else {}


def detail_json(finding: Finding) -> str:
    """A finding's detail as canonical JSON, versioned, with the question it answers."""
    plain = {"version": 1, "question": finding.question} | {
        name: _plain(value) for name, value in finding.detail.items()
    }
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _plain(value: object) -> object:
    return round(float(value), 9) if isinstance(value, (float, np.floating)) else value
