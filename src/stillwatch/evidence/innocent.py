"""innocent: explanations that are hypotheses of their own, each weighed against what it cannot account for.

A hypothesis says which families an innocent cause would make agree, and from whom the cause would draw. What it
explains is struck out; the rest is weighed again in its own population. The sum is the margin by which a campaign
beats it, and a group is reported only when it beats the best of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from stillwatch.detect.groups import enriched_hubs
from stillwatch.detect.population import dense, joined_units
from stillwatch.detect.traits import KINDS
from stillwatch.evidence.harvest import Elicitation
from stillwatch.evidence.hubs import IDENTITY, NETWORK_CLIENT, SIGN_UP, poisson_interval
from stillwatch.evidence.signal import Finding, Question, Signal, Subject
from stillwatch.kernels.evalues import hub_e_log2

Mask = npt.NDArray[np.bool_]

SMALLEST_FLEET = 4
"""Accounts on one payment instrument that make it a fleet rather than a household."""

POPULAR_OUTSIDE = 30
"""Outside units that must carry a tool before it counts as popular."""

MOSTLY = 0.5
"""Share of members a hypothesis must cover before it narrows the population."""


NETWORKS_OF_A_PLACE, COVER_OF_A_PLACE = 3, 0.7
"""A place is at most so many networks that reach this share of a group: an office, a campus, a lecture hall."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An innocent cause.

    Attributes:
        leaves: signals it does not explain, weighed again; their bits add up to the margin.
        narrow: which accounts the cause would draw from; all where it does not apply.
        would_change: the observation that would change the verdict, in one sentence.
    """

    name: str
    says: str
    leaves: tuple[str, ...]
    narrow: Callable[[Subject], Mask]
    would_change: str


@dataclass(frozen=True, slots=True)
class Margin:
    """By how much the evidence a hypothesis leaves open still speaks for a campaign, signal by signal."""

    hypothesis: Hypothesis
    bits: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fleets:
    """Several payers, each with a fleet of accounts, act as one: no honest organisation needs more than one.

    Counts, among the group's paying units beyond its largest, those with `SMALLEST_FLEET` accounts or more; the null
    is how often a paying unit of the population has a fleet. Fails on an organisation that gives each department a
    card and declares none. To defeat it, pay for each account with its own card.
    """

    name: str = "several_fleets"
    family: str = "identity"
    question: Question = "operator"
    needs: tuple[str, ...] = ("payment_fingerprint",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Compare fleets among the group's units with fleets among everybody else's."""
        population = subject.population
        if "payment_fingerprint" not in population.accounts.column_names:
            return None
        payment = population.accounts.column("payment_fingerprint")
        payer = joined_units(len(population), [payment])
        inside = np.zeros(len(population), bool)
        inside[subject.candidate.members] = True
        known = payment.combine_chunks().is_valid().to_numpy(zero_copy_only=False)
        size_in = np.bincount(payer[inside & known], minlength=int(payer.max()) + 1)
        size_out = np.bincount(payer[~inside & known], minlength=len(size_in))
        units_in, units_out = int((size_in > 0).sum()), int(((size_in == 0) & (size_out > 0)).sum())
        if units_in < 2 or not units_out:
            return None
        fleets_in = int((size_in >= SMALLEST_FLEET).sum())
        fleets_out = int(((size_in == 0) & (size_out >= SMALLEST_FLEET)).sum())
        rate = (fleets_out + 1) / (units_out + 2)
        others = max(fleets_in - 1, 0)
        low, high = poisson_interval(others)
        expected = rate * (units_in - 1)
        return Finding(
            signal=self.name,
            family=self.family,
            question=self.question,
            statistic=float(fleets_in),
            n=units_in,
            effect=others / expected,
            lo=low / expected,
            hi=high / expected,
            null_id="fleet-rate-of-the-population/1",
            e_log2=float(hub_e_log2(np.array([others]), np.array([units_in - 1]), np.array([rate]))[0]),
            h1="each further paying unit has a fleet with a chance uniform between the null rate and 1",
            h0="paying units of the group, beyond the largest, have fleets as often as everybody else's",
            detail={"rate_outside": rate, "smallest_fleet": SMALLEST_FLEET},
        )


@dataclass(frozen=True, slots=True)
class ElicitationByTask:
    """Elicitation, where the group sits at one place counted by the task its members were set.

    A teacher or a foreman sets a task: all who work at it then ask for the same, and that is one choice, not many. A
    group that comes through many networks was set nothing by its place, and stays counted by paying unit.
    """

    name: str = "elicitation_by_task"
    family: str = "content"
    question: Question = "harvest"
    needs: tuple[str, ...] = ("prompt",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Weigh elicitation by task where the group sits at one place, else by payer."""
        unit = by_task(subject) if sits_at_one_place(subject) else subject.unit
        finding = ELICITATION.weigh(replace(subject, unit=unit, eligible=everybody(subject)))
        return None if finding is None else replace(finding, signal=self.name)


def sits_at_one_place(subject: Subject) -> bool:
    """Whether `NETWORKS_OF_A_PLACE` networks the group made its own reach most of its members."""
    own, left = _own_networks(subject), np.ones(len(subject.candidate.members), bool)
    carried = (subject.traits.share[subject.candidate.members][:, own] > 0).toarray()
    for _ in range(min(NETWORKS_OF_A_PLACE, len(own))):
        left &= ~carried[:, np.argmax(carried[left].sum(axis=0))]
    return bool(left.mean() <= 1 - COVER_OF_A_PLACE)


def _own_networks(subject: Subject) -> npt.NDArray[np.int64]:
    network = subject.traits.kind == [kind.name for kind in KINDS].index("network")
    return np.flatnonzero(enriched_hubs(subject.traits, subject.candidate.members, within=network))


def by_task(subject: Subject) -> npt.NDArray[np.int64]:
    """Units by the task an account works at most; an account that works at none stays in its paying unit.

    A task is a template the group made its own, or several that nearly the same members use (Jaccard index of 3/4 or
    more), as the exercises of one course are.
    """
    traits, members = subject.traits, subject.candidate.members
    own = np.flatnonzero(enriched_hubs(traits, members, within=traits.of_family("content") & traits.forming))
    unit = subject.population.unit.copy()
    if not len(own):
        return unit
    share = traits.share[:, own].tocsr()
    used = (share[members] > 0).astype(np.int64)
    both = (used.T @ used).toarray()
    users = np.diag(both)
    alike = 4 * both >= 3 * (users[:, None] + users[None, :] - both)
    _, task = connected_components(csr_matrix(alike), directed=False)
    work = share @ csr_matrix((np.ones(len(own)), (np.arange(len(own)), task)))
    uses = np.diff(share.indptr) > 0
    unit[uses] = -1 - np.asarray(work.argmax(axis=1)).ravel()[uses]
    return dense(unit)


ELICITATION = Elicitation()
FLEETS = Fleets()
BY_TASK = ElicitationByTask()


def everybody(subject: Subject) -> Mask:
    """The whole population."""
    return np.ones(len(subject.population), bool)


def carriers_of_tool(subject: Subject) -> Mask:
    """Accounts that carry the popular client or system prompt most members carry; everybody if there is none."""
    traits, members = subject.traits, subject.candidate.members
    kinds = [i for i, kind in enumerate(KINDS) if kind.name in ("client", "system")]
    hubs = np.flatnonzero(np.isin(traits.kind, kinds))
    carried = (traits.share[:, hubs] > 0).tocsr()
    inside = np.asarray(carried[members].sum(axis=0)).ravel()
    outside = np.asarray(carried.sum(axis=0)).ravel() - inside
    popular = (inside >= MOSTLY * len(members)) & (outside >= POPULAR_OUTSIDE)
    if not popular.any():
        return everybody(subject)
    tool = int(np.flatnonzero(popular)[np.argmax(inside[popular])])
    return np.asarray(carried[:, tool].todense()).ravel() > 0


HYPOTHESES = (
    Hypothesis(
        "one_organisation",
        "the accounts belong to one organisation and use its product, from its network, on its cards",
        ("several_fleets", "elicitation"),
        everybody,
        "a verified organisation that claims these accounts, or an allowlist entry",
    ),
    Hypothesis(
        "popular_tool",
        "the accounts use the same popular tool, which sends its own prompts through its own client",
        ("shared_identity", "shared_network_client", "sign_up_bursts", "elicitation"),
        carriers_of_tool,
        "other users of the tool who share payment and networks with the group as often as its members do",
    ),
    Hypothesis(
        "shared_network",
        "the accounts sit behind one campus, office, VPN or cloud egress and do there what people there do",
        ("several_fleets", "elicitation_by_task"),
        everybody,
        "ordinary accounts behind the same networks that ask for the same things and share the same cards",
    ),
    Hypothesis(
        "benchmark_harness",
        "the accounts run the same public benchmark or evaluation harness",
        ("shared_identity", "shared_network_client", "partition"),
        everybody,
        "the same prompts sent by evaluators outside the group",
    ),
)

LEFT_OPEN: Mapping[str, Signal] = {
    signal.name: signal for signal in (IDENTITY, NETWORK_CLIENT, SIGN_UP, FLEETS, BY_TASK)
}
"""Signals a hypothesis weighs again in its own population; the rest is taken from the findings of the group."""


def weigh_innocent(subject: Subject, found: Mapping[str, Finding]) -> list[Margin]:
    """Weigh every hypothesis, the best (smallest margin) first.

    Args:
        found: the findings of the group in the whole population, by signal.

    A signal left open counts with half its e-value plus one half, so that one that happens to say nothing costs at
    most one bit; signals of different families multiply because the hypothesis names no cause for both.
    """
    margins = []
    known: dict[str, Finding | None] = dict(found)
    for hypothesis in HYPOTHESES:
        eligible = hypothesis.narrow(subject)
        narrowed = replace(subject, eligible=eligible)
        parts: dict[str, float] = {}
        for name in hypothesis.leaves:
            again = LEFT_OPEN.get(name)
            if again and not eligible.all():
                finding = again.weigh(narrowed)
            else:
                if again and name not in known:
                    known[name] = again.weigh(subject)
                finding = known.get(name)
            if finding is not None:
                parts[name] = hedged_bits(finding.e_log2)
        margins.append(Margin(hypothesis, float(sum(parts.values())), parts))
    return sorted(margins, key=lambda margin: (margin.bits, margin.hypothesis.name))


def hedged_bits(e_log2: float) -> float:
    """log2 of (1 + e) / 2: an e-value that bets half its money and keeps the rest."""
    return float(np.logaddexp2(0.0, e_log2) - 1.0)
