"""fingerprints: the program that connects is not the one that the user agent claims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatch.detect.digest import client_parts
from stillwatch.detect.population import Population
from stillwatch.evidence.harvest import ranked
from stillwatch.evidence.ranks import rank_units
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.ordering import distinct_by_run
from stillwatch.kernels.tallies import n_units

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEWEST_UNITS = 30
"""Outside units that must claim a user agent before it is known how its programs connect."""

RARE = 0.05
"""Share of the outside units that claim a user agent, of which fewer connect in a rare way."""


@dataclass(frozen=True, slots=True)
class BorrowedAgents:
    """Members claim popular user agents and connect as hardly any other user of these does.

    Score: the share of an account's sampled exchanges whose TLS fingerprint is rare among outside units that claim the
    same user agent. Fails behind a company's proxy that opens TLS, and on new versions of a browser. To defeat it,
    imitate the handshake as well, which libraries for it do. Clients choose both, so a stranger can be made to
    look alike only by connecting in the stranger's name.
    """

    name: str = "borrowed_user_agents"
    family: str = "network_client"
    question: Question = "operator"
    needs: tuple[str, ...] = ("tls_fingerprint",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Rank the members' shares among their peers'."""
        score = rare_share(subject)
        if score is None:
            return None
        return ranked(self.name, rank_units(subject, score), {}, family=self.family, question=self.question)


def rare_share(subject: Subject) -> Floats | None:
    """(accounts,) share of sampled exchanges with a rare pair; nan where none has a pair that can be judged.

    A member is counted as one more of the outside units, so that members and outsiders are held to the same.
    """
    population = subject.population
    shown = population.once("clients shown", _shown)
    if not len(shown.owner):
        return None
    inside = np.zeros(len(population), bool)
    inside[subject.candidate.members] = True
    outside = (subject.eligible & ~inside & ~subject.set_aside)[shown.owner]
    unit = population.unit[shown.owner]
    n_pair, n_agent = (n_units(values, unit, where=outside) for values in (shown.pair, shown.agent))
    known = n_agent[shown.agent] >= FEWEST_UNITS
    rare = n_pair[shown.pair] + ~outside < RARE * (n_agent[shown.agent] + ~outside)
    n = np.bincount(shown.owner, shown.count * known, minlength=len(population))
    n_rare = np.bincount(shown.owner, shown.count * (known & rare), minlength=len(population))
    return np.where(n > 0, n_rare / np.maximum(n, 1), np.nan)


@dataclass(frozen=True, slots=True)
class _Shown:
    """Clients whose user agent and handshake were both told, and who shows them: account, sampled exchanges that do,
    number of the pair and of the user agent; in the order of paying units."""

    owner: Ints
    count: Ints
    pair: Ints
    agent: Ints


def _shown(population: Population) -> _Shown:
    owner, client, count = distinct_by_run(population.sample["client"], population.offsets)
    agent, tls = client_parts(client)
    both = np.flatnonzero((agent != 0) & (tls != 0))
    both = both[np.argsort(population.unit[owner[both]], kind="stable")]
    pair_of, agent_of = (np.unique(values[both], return_inverse=True)[1] for values in (client, agent))
    return _Shown(owner[both], count[both], pair_of, agent_of)


BORROWED = BorrowedAgents()
