"""fingerprints: the program that connects is not the one that the user agent claims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatch.detect.digest import client_parts
from stillwatch.evidence.harvest import ranked
from stillwatch.evidence.ranks import rank_units
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.ordering import distinct_by_run

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
    owner, client, count = distinct_by_run(population.sample["client"], population.offsets)
    agent, tls = client_parts(client)
    both = np.flatnonzero((agent != 0) & (tls != 0))
    if not len(both):
        return None
    owner, count = owner[both], count[both]
    inside = np.zeros(len(population), bool)
    inside[subject.candidate.members] = True
    outside = subject.eligible & ~inside & ~subject.set_aside
    _, pair_of = np.unique(client[both], return_inverse=True)
    _, agent_of = np.unique(agent[both], return_inverse=True)
    n_pair, n_agent = (_units(subject, owner, values, outside) for values in (pair_of, agent_of))
    more = ~outside[owner]
    known = n_agent[agent_of] >= FEWEST_UNITS
    rare = n_pair[pair_of] + more < RARE * (n_agent[agent_of] + more)
    n = np.bincount(owner[known], count[known], minlength=len(population))
    shown = np.bincount(owner[known & rare], count[known & rare], minlength=len(population))
    return np.where(n > 0, shown / np.maximum(n, 1), np.nan)


def _units(
    subject: Subject, owner: npt.NDArray[np.int64], value: npt.NDArray[np.int64], outside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """(values,) outside units that show each value."""
    n_units = int(subject.unit.max(initial=0)) + 1
    here = outside[owner]
    pairs = np.unique(value[here] * n_units + subject.unit[owner[here]])
    return np.bincount(pairs // n_units, minlength=int(value.max(initial=-1)) + 1)


BORROWED = BorrowedAgents()
