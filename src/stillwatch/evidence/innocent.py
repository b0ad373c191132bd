"""innocent: explanations that are hypotheses of their own, each weighed against what it cannot account for.

A hypothesis says which families an innocent cause would make agree, and from whom the cause would draw. What it
explains is struck out; the rest is weighed again in its own population. The sum is the margin by which a campaign
beats it, and a group is reported only when it beats the best of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from stillwatch.detect.incidence import heaviest
from stillwatch.detect.membership import enriched_hubs
from stillwatch.detect.population import dense
from stillwatch.detect.traits import KINDS
from stillwatch.evidence.fleets import FLEETS
from stillwatch.evidence.harvest import Elicitation
from stillwatch.evidence.hubs import FUNDING, IDENTITY, MAIL, NETWORK, NETWORK_CLIENT, SIGN_UP
from stillwatch.evidence.signal import Finding, Question, Signal, Subject
from stillwatch.evidence.signup import WINDOW
from stillwatch.kernels.evalues import mean_e_log2, too_few_e_log2

Mask = npt.NDArray[np.bool_]

POPULAR_OUTSIDE = 30
"""Outside units that must carry a tool before it counts as popular."""

MOSTLY = 0.5
"""Share of members a hypothesis must cover before it narrows the population."""


NETWORKS_OF_A_PLACE, COVER_OF_A_PLACE = 3, 0.7
"""A place is at most so many networks that reach this share of a group: an office, a campus, a lecture hall."""


OWN_QUESTIONS = 0.25
"""Share of their peers' repeats at which people repeat one another who come with questions of their own, such as the
users of one tool."""

PARTLY_BITS = 6.0
"""Most bits of what a hypothesis explains in part: odds of 64, below the least margin that `settings.Bars` ships. Some
tools are for questions that nobody asks twice, so however many repeats are missing, it is no proof."""


AGAINST_BITS = 10.0
"""Most bits that what a hypothesis foretells counts against a campaign: one that asks the same thing from several
accounts, to take the best of the answers, is rare beside those that deal a list out, but there are such."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An innocent cause.

    Attributes:
        leaves: signals it does not explain, weighed again; their bits add up to the margin.
        at_one_place: what it leaves instead where the group sits at one place; None where a place explains no more.
        narrow: which accounts the cause would draw from; all where it does not apply.
        would_change: the observation that would change the verdict, in one sentence.
        partly: `partition`, where its people come with questions of their own: what is missing of `OWN_QUESTIONS` of
            their peers' repeats counts, and at most `PARTLY_BITS`, so that it never carries the margin alone.
        foretells_against: signals whose contrary the cause foretells, so that bits below 0 count against a campaign,
            down to -`AGAINST_BITS`: a harness sends the same questions from everywhere.
    """

    name: str
    says: str
    leaves: tuple[str, ...]
    narrow: Callable[[Subject], Mask]
    would_change: str
    partly: tuple[str, ...] = ()
    foretells_against: tuple[str, ...] = ()
    at_one_place: tuple[str, ...] | None = None

    def leaves_of(self, subject: Subject) -> tuple[str, ...]:
        """The signals it leaves open for a group."""
        if self.at_one_place is not None and sits_at_one_place(subject):
            return self.at_one_place
        return self.leaves


@dataclass(frozen=True, slots=True)
class Margin:
    """By how much the evidence a hypothesis leaves open still speaks for a campaign, family by family."""

    hypothesis: Hypothesis
    bits: float
    parts: Mapping[str, float]


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
    share = traits.by_hub[:, own].tocsr()
    used = (share[members] > 0).astype(np.int64)
    both = (used.T @ used).toarray()
    users = np.diag(both)
    alike = 4 * both >= 3 * (users[:, None] + users[None, :] - both)
    _, task = connected_components(csr_matrix(alike), directed=False)
    work = share @ csr_matrix((np.ones(len(own)), (np.arange(len(own)), task)))
    users_of_one, most = heaviest(work)
    unit[users_of_one] = -1 - most
    return dense(unit)


ELICITATION = Elicitation()
BY_TASK = ElicitationByTask()


def everybody(subject: Subject) -> Mask:
    """The whole population."""
    return np.ones(len(subject.population), bool)


def carriers_of_tool(subject: Subject) -> Mask:
    """Accounts that carry the popular client or system prompt most members carry; everybody if there is none."""
    traits, members = subject.traits, subject.candidate.members
    kinds = [i for i, kind in enumerate(KINDS) if kind.name in ("client", "system")]
    hubs = np.flatnonzero(np.isin(traits.kind, kinds))
    carried = (traits.by_hub[:, hubs] > 0).tocsr()
    inside = np.asarray(carried[members].sum(axis=0)).ravel()
    outside = np.asarray(carried.sum(axis=0)).ravel() - inside
    popular = (inside >= MOSTLY * len(members)) & (outside >= POPULAR_OUTSIDE)
    if not popular.any():
        return everybody(subject)
    tool = int(np.flatnonzero(popular)[np.argmax(inside[popular])])
    return np.asarray(carried[:, tool].todense()).ravel() > 0


PROVIDER_OBSERVES = ("payment_fingerprint", "payment_bin", "phone_hash", "email_hash", "created_at")
"""Account columns that clients do not choose freely."""


SPEAKS = 4.0
"""Bits from which sign-ups count as something the provider saw: odds of 16, which one signal of a kind may cost."""


def what_clients_show(subject: Subject, found: Mapping[str, Finding]) -> str:
    """The signal by which a hypothesis weighs networks and clients: of both, of networks alone, or none ("").

    Networks and prompts can be copied, and those who do like work come through like networks. Where the provider
    could have seen what joins one payer to another (issuers, telephones, sign-ups), something of it must speak for the
    group, or nothing of these counts; a card that several accounts of one customer share joins nobody. Where the
    provider could have seen nothing, networks count alone, and as people of one trade share them: strangers who do like
    work use like clients and rent from the same clouds.
    """
    traits, members = subject.traits, subject.candidate.members
    if not set(PROVIDER_OBSERVES) & set(subject.population.accounts.column_names):
        return NETWORK.name
    if any(one.family == "time" and one.question == "operator" and one.e_log2 >= SPEAKS for one in found.values()):
        return NETWORK_CLIENT.name
    joins_payers = np.array([kind.name in ("issuer", "phone", "email", "mail") for kind in KINDS])[traits.kind]
    return NETWORK_CLIENT.name if enriched_hubs(traits, members, within=joins_payers).any() else ""


RESELLER = Hypothesis(
    "reseller",
    "the accounts belong to a reseller: one operator, through whom strangers ask what anybody asks",
    ("shared_templates", "work_templates", "elicitation"),
    everybody,
    "a reseller's contract, or customers who speak for themselves",
    partly=("partition",),
)
"""Strangers behind one operator: what `judge.is_shared_access` says of a group, and so no innocent rival of it."""

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
        "the accounts use the same tool, popular or not, which sends its own prompts through its own client",
        (
            "shared_identity",
            "shared_issuers",
            "shared_mail_domains",
            "shared_network_client",
            "handed_over",
            "sign_up_bursts",
            "sign_up_window",
        ),
        carriers_of_tool,
        "other users of the tool who share payment and networks with the group as often as its members do",
        partly=("partition",),
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
        ("shared_identity", "shared_issuers", "shared_mail_domains", "shared_network_client", "partition"),
        everybody,
        "the same prompts sent by evaluators outside the group",
        foretells_against=("partition",),
    ),
    Hypothesis(
        "classroom",
        "the accounts are a course or a hackathon: signed up for it, set the same tasks, perhaps in one hall",
        ("several_fleets", "shared_identity", "shared_issuers", "shared_network_client", "partition"),
        everybody,
        "a teacher or a host who names the course and its dates",
        foretells_against=("partition",),
        at_one_place=("several_fleets", "elicitation_by_task"),
    ),
    RESELLER,
)

OWN_USE = Hypothesis(
    "own_use",
    "the account grades answers, or asks for reasoning, for the use of its own holder",
    (),
    everybody,
    "what the holder does with the answers: a declared use or a licence, or a model trained on them",
)
"""What one account can never be told from; weighed against no group."""

LEFT_OPEN: Mapping[str, Signal] = {
    signal.name: signal
    for signal in (IDENTITY, FUNDING, MAIL, NETWORK, NETWORK_CLIENT, SIGN_UP, WINDOW, FLEETS, BY_TASK)
}
"""Signals a hypothesis weighs again in its own population; the rest is taken from the findings of the group."""


def weigh_innocent(subject: Subject, found: Mapping[str, Finding]) -> list[Margin]:
    """Weigh every hypothesis, the best (smallest margin) first.

    Args:
        found: the findings of the group in the whole population, by signal.

    Of the signals left open, those of one family are averaged; a family counts with half its e-value plus one half, so
    that one that happens to say nothing costs at most one bit; different families multiply because the hypothesis
    names no cause for both.
    """
    margins = []
    known: dict[str, Finding | None] = dict(found)
    by_clients = what_clients_show(subject, found)
    for hypothesis in HYPOTHESES:
        eligible = hypothesis.narrow(subject)
        narrowed = replace(subject, eligible=eligible)
        left: dict[str, list[float]] = {}
        for leaves in hypothesis.leaves_of(subject):
            name = by_clients if leaves == NETWORK_CLIENT.name else leaves
            again = LEFT_OPEN.get(name)
            if again and not eligible.all():
                finding = again.weigh(narrowed)
            else:
                if again and name not in known:
                    known[name] = again.weigh(subject)
                finding = known.get(name)
            if finding is not None:
                left.setdefault(finding.family, []).append(finding.e_log2)
        for name in hypothesis.partly:
            if (partial := known.get(name)) is not None:
                left.setdefault(partial.family, []).append(_in_part(partial))
        parts = {family: hedged_bits(mean_e_log2(np.array(bits))) for family, bits in left.items()}
        for name in hypothesis.foretells_against:
            if (contrary := known.get(name)) is not None and contrary.e_log2 < 0:
                parts[contrary.family] = max(contrary.e_log2, -AGAINST_BITS)
        margins.append(Margin(hypothesis, float(sum(parts.values())), parts))
    return sorted(margins, key=lambda margin: (margin.bits, margin.hypothesis.name))


def _in_part(partition: Finding) -> float:
    """Bits of the repeats missing beside people who come with questions of their own."""
    expected, dispersion = (cast(float, partition.detail[name]) for name in ("expected", "dispersion"))
    return min(too_few_e_log2(int(partition.statistic), OWN_QUESTIONS * expected, dispersion), PARTLY_BITS)


def hedged_bits(e_log2: float) -> float:
    """log2 of (1 + e) / 2: an e-value that bets half its money and keeps the rest."""
    return float(np.logaddexp2(0.0, e_log2) - 1.0)
