"""judge: findings of one group into a verdict, against four bars and the best innocent explanation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from stillwatch.detect.growth import overlap
from stillwatch.detect.traits import FAMILIES
from stillwatch.evidence.innocent import RESELLER, SPEAKS, Margin, hedged_bits, weigh_innocent
from stillwatch.evidence.phrases import told_by_prompts
from stillwatch.evidence.signal import Finding, Signal, Subject
from stillwatch.kernels.evalues import e_bh, mean_e_log2
from stillwatch.settings import Bars

Ints = npt.NDArray[np.int64]

DECLARED_SHARE = 0.8
"""Share of members in one declared organisation or paying unit at which the operator is no secret."""

MOST_PEELINGS = 4
"""Most times the groups are weighed again; it stops as soon as no other turns out to be a campaign."""


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


def weigh_together(
    subjects: Sequence[Subject], signals: Sequence[Signal], *, bars: Bars, n_min_population: int, threads: int = 1
) -> list[Weighed]:
    """Weigh every group; those found to be campaigns are set aside and all weighed again, until none is new.

    Another campaign is no reference for what ordinary accounts ask for: beside one that asks for nothing but reasoning
    a second that asks for it in a fifth of its prompts would look modest.
    """
    with ThreadPoolExecutor(threads) as pool:
        weighed = list(pool.map(partial(weigh, signals=signals), subjects))
        n_known = 0
        for _ in range(MOST_PEELINGS):
            known = [
                one.subject.candidate.members
                for one, q in zip(weighed, q_values(weighed), strict=True)
                if verdict(one, q, bars, n_min_population=n_min_population) == "campaign"
            ]
            if len(known) in (0, n_known) or len(weighed) == 1:
                break
            n_known = len(known)
            aside = np.zeros(len(weighed[0].subject.population), bool)
            aside[np.concatenate(known)] = True
            weighed = list(pool.map(partial(_weigh_again, signals=signals, set_aside=aside), weighed))
    return weighed


def _weigh_again(weighed: Weighed, *, signals: Sequence[Signal], set_aside: npt.NDArray[np.bool_]) -> Weighed:
    """Ask again what compares a group with its peers; what its hubs say stands."""
    subject = replace(weighed.subject, set_aside=set_aside)
    told = {name: one for name, one in weighed.findings.items() if one.question == "operator"}
    return weigh(subject, signals, told=told)


def weigh(subject: Subject, signals: Sequence[Signal], *, told: Mapping[str, Finding] | None = None) -> Weighed:
    """Ask every signal, then every innocent hypothesis; signals that have `told` are not asked again."""
    before = told or {}
    asked = [before.get(signal.name) or signal.weigh(subject) for signal in signals]
    said = [finding for finding in asked if finding is not None]
    found = {finding.signal: finding for finding in said}
    operator = [
        mean_e_log2(np.array(of_family))
        for family in FAMILIES
        if (of_family := [one.e_log2 for one in said if one.family == family and one.question == "operator"])
    ]
    harvest = [one.e_log2 for one in said if one.question == "harvest"]
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


def named(weighed: Weighed) -> Weighed:
    """The same findings about a group whose members their prompts have told as well; of groups that may be reported."""
    subject = weighed.subject
    if subject.reading is None or weighed.e_log2 <= 0:
        return weighed
    candidate = told_by_prompts(subject.candidate, subject.population, subject.reading)
    return replace(weighed, subject=replace(subject, candidate=candidate)) if len(candidate.members) else weighed


def q_values(weighed: Sequence[Weighed]) -> list[float]:
    """e-BH over all groups weighed in this scan (Wang & Ramdas 2022)."""
    return [float(q) for q in e_bh(np.array([one.e_log2 for one in weighed]))] if weighed else []


SURELY = 10.0
"""Mean bits of membership (odds of a thousand) from which what a group holds beyond its parts are no bystanders."""

Judged = tuple[Weighed, float]
"""A weighed group and its q-value."""


def apart(weighed: Sequence[Judged], bars: Bars) -> list[Judged]:
    """Of groups that share more than half of the smaller's members, one, or the parts of one.

    Where a whole and parts of it all clear the bars, the whole stands only if those it holds beyond its parts belong
    to it as surely as `SURELY`: they are the rest of a campaign, and else bystanders, who cost a group little that has
    a campaign in it. Where none clears the bars it is the one that comes nearest to them.
    """
    clear = sorted((each for each in weighed if not shortfalls(*each, bars)), key=lambda each: -len(_members(each)))
    short = [each for each in weighed if shortfalls(*each, bars)]
    whole = [each for each in clear if _is_whole(each, clear)]
    nearest = sorted(short, key=lambda each: -min(each[0].e_log2, each[0].best_innocent.bits))
    return _disjoint([*whole, *nearest])


def _is_whole(one: Judged, others: Sequence[Judged]) -> bool:
    members, bits = _members(one), one[0].subject.candidate.bits
    inside = [other for other in others if len(_members(other)) < len(members) and _overlapping(other, one)]
    parts = _disjoint(sorted(inside, key=_mean_bits, reverse=True))
    if not parts:
        return True
    rest = np.setdiff1d(members, np.concatenate([_members(part) for part in parts]))
    return bool(len(rest)) and float(bits[rest].mean()) >= SURELY


def _disjoint(groups: Sequence[Judged]) -> list[Judged]:
    """Groups in their order, without those that share more than half of the smaller's members with one before."""
    kept: list[Judged] = []
    for one in groups:
        if not any(_overlapping(one, other) for other in kept):
            kept.append(one)
    return kept


def _members(one: Judged) -> Ints:
    return one[0].subject.candidate.members


def _overlapping(one: Judged, other: Judged) -> bool:
    return overlap(_members(one), _members(other)) > 0.5


def _mean_bits(one: Judged) -> float:
    return float(one[0].subject.candidate.bits[_members(one)].mean())


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
    if largest >= DECLARED_SHARE:
        return "declared"
    return "shared_access" if is_shared_access(weighed, bars) else "lead"


def is_shared_access(weighed: Weighed, bars: Bars) -> bool:
    """Whether one operator holds the accounts and what is asked through them is like anybody's.

    One operator is shown, and beyond what any innocent cause explains by what content has no part in; both harvest
    signals were asked and neither speaks. Without text, or where nobody's prompts repeat, that cannot be said.
    """
    others = [one for one in weighed.margins if one.hypothesis is not RESELLER]
    beyond = min(sum(bits for family, bits in one.parts.items() if family != "content") for one in others)
    return (
        weighed.operator_bits >= bars.operator_bits_min
        and beyond >= bars.innocent_margin_bits_min
        and {"elicitation", "partition"} <= set(weighed.findings)
        and weighed.harvest_bits < SPEAKS
    )


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
