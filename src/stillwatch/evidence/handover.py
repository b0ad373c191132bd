"""handover: conversations that one account begins and another carries on, oftener within the group than by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatch.detect.incidence import Incidence
from stillwatch.detect.traits import KINDS
from stillwatch.evidence.hubs import poisson_interval
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.evalues import mean_e_log2

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CONVERSATION = [kind.name for kind in KINDS].index("conversation")

MOST_CARRIERS = 8
"""Units that carry one conversation from which it is a set text, such as the examples in a tool's prompt."""

FEWEST_HANDOVERS = 4
"""Handovers of the group's units below which nothing is said: a pair of friends shares a thread."""

RATES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
"""The alternatives: chances that the other unit of a handover lies in the group."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Members carry on one another's conversations, as accounts behind one balancer or router do.

    A handover is a conversation that two units of different payers have sent; each unit counts once as the one that
    has it and once as the other. The null puts the other unit into the group as often as the group's share of its
    cohort's conversations. Fails on people who hand each other threads by hand, as a team without a common payer does.
    To defeat it, keep each conversation on one account. Clients control the trait, so a stranger who copies another's
    conversation word for word is counted too; a member of no group is not made one by it.
    """

    name: str = "handed_over"
    family: str = "content"
    question: Question = "operator"
    needs: tuple[str, ...] = ("messages",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Count, of the handovers a unit of the group takes part in, those whose other unit is of the group too."""
        if not (subject.traits.kind == CONVERSATION).any():
            return None
        who = subject.incidence(self.family)
        one, other = handovers(who)
        units = np.unique(who.unit[subject.candidate.members])
        inside = np.zeros(len(who.cohort), bool)
        inside[units[units >= 0]] = True
        ours = inside[one]
        n = int(np.count_nonzero(ours))
        if n < FEWEST_HANDOVERS:
            return None
        stays = inside[other[ours]]
        share = _shares(who, inside)[who.cohort[other[ours]]]
        expected, observed = float(share.sum()), int(np.count_nonzero(stays))
        low, high = poisson_interval(observed)
        return Finding(
            signal=self.name,
            family=self.family,
            question=self.question,
            statistic=float(observed),
            n=n,
            effect=observed / expected,
            lo=low / expected,
            hi=high / expected,
            null_id="handover-partners-by-cohort/1",
            e_log2=stays_e_log2(stays, share),
            h1="the other unit of a handover is of the group with a chance of 0.1 to 0.95, in equal parts",
            h0="the other unit is of the group as often as the group's share of its cohort's conversations",
            detail={"handovers": n, "expected": expected},
        )


def handovers(who: Incidence) -> tuple[Ints, Ints]:
    """Pairs of units that have sent the same conversation, each unit at most once on either side; linear in edges.

    Of a conversation of more than two units the first two stand for it; one of more than `MOST_CARRIERS` is none.
    """
    by_hub = who.of_kinds((CONVERSATION,))[1].tocsc()
    n = np.diff(by_hub.indptr)
    at = by_hub.indptr[:-1][(n >= 2) & (n <= MOST_CARRIERS)]
    by_hub.sort_indices()
    one, other = by_hub.indices[at].astype(np.int64), by_hub.indices[at + 1].astype(np.int64)
    for side in (0, 1):
        _, first = np.unique((one, other)[side], return_index=True)
        one, other = one[first], other[first]
    return one, other


def stays_e_log2(stays: npt.NDArray[np.bool_], share: Floats) -> float:
    """Bits of "the other unit stays in the group oftener than these shares", the mean over `RATES`.

    Each rate gives a product of likelihood ratios of one toss each, whose mean is 1 under the null; a rate below a
    toss's own share is taken as that share, which bets nothing on it.
    """
    bits = []
    for rate in RATES:
        chance = np.maximum(rate, share)
        bits.append(float(np.where(stays, np.log2(chance / share), np.log2((1 - chance) / (1 - share))).sum()))
    return mean_e_log2(np.array(bits))


def _shares(who: Incidence, inside: npt.NDArray[np.bool_]) -> Floats:
    """(cohorts,) the group's share of the conversations, those nobody else carries on included; never 0 or 1."""
    held = np.bincount(who.cohort, who.activity[:, CONVERSATION] * inside, minlength=len(who.totals))
    total = who.totals[:, CONVERSATION]
    return np.asarray((held + 0.5) / (total + 1.0))


HANDED_OVER = HandedOver()
