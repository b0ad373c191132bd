"""hubs: one operator? Facets that ought to be independent agree across a group.

A group formed on one half of the hubs is tested on the other half: among the n units that carry a hub, how many lie
in the group, against the share of the cohort's edges the group holds. What formed the group never tests it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv

from stillwatch.detect.membership import SMALLEST_MEETING
from stillwatch.detect.traits import KINDS, N_HALVES
from stillwatch.evidence.ranks import LEAST_KINSHIP
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.evalues import hub_e_log2, mean_e_log2, share_e_log2

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SharedHubs:
    """Members meet at more hubs of one family than their share of the population predicts.

    Null: which carriers of a hub are members is independent of the hub, given cohort and activity. Fails where an
    innocent cause joins the family to what formed the group: one organisation, one place, one tool; those are
    hypotheses of their own (`innocent`). To defeat it an operator must give every account a trait of its own.

    With `kinship` carriers are correlated under the null, as people of one trade are who rent from the same clouds: a
    hub that is nearly the group's own still tells, one in which some of it meet among strangers does not.
    """

    name: str
    family: str
    needs: tuple[str, ...]
    question: Question = "operator"
    kinship: float = 0.0

    def weigh(self, subject: Subject) -> Finding | None:
        """Average the e-values of all halves, each the mean over the hubs of the other half."""
        tested = [self._weigh_half(subject, number) for number in range(N_HALVES)]
        told = [half for half in tested if half is not None]
        if not told:
            return None
        e_log2 = mean_e_log2(np.array([half.e_log2 if half else -np.inf for half in tested]))
        observed, expected = sum(half.observed for half in told), sum(half.expected for half in told)
        low, high = poisson_interval(observed)
        return Finding(
            signal=self.name,
            family=self.family,
            question=self.question,
            statistic=float(observed),
            n=max(half.n_units for half in told),
            effect=observed / max(expected, 1e-9),
            lo=low / max(expected, 1e-9),
            hi=high / max(expected, 1e-9),
            null_id="hub-configuration-with-kinship/1" if self.kinship else "hub-configuration-by-cohort/1",
            e_log2=e_log2,
            h1="each hub has its own share of carriers in the group, uniform between the null share and 1",
            h0="carriers of a hub lie in the group as often as the group's share of its cohorts' edges",
            detail={"hubs_tested": sum(half.n_hubs for half in told), "halves": len(told), "expected": expected},
            shows=tuple(
                (KINDS[kind].name, np.concatenate([half.keys[half.kinds == kind] for half in told]))
                for kind in np.unique(np.concatenate([half.kinds for half in told]))
            ),
        )

    def _weigh_half(self, subject: Subject, number: int) -> _Half | None:
        members = subject.candidate.halves[number]
        if members is None:
            return None
        traits = subject.traits
        who = subject.incidence(self.family)
        members = members[who.unit[members] >= 0]
        if not len(members):
            return None
        looked_at = np.array([kind.family == self.family and kind.column in self.needs for kind in KINDS])
        hubs = np.flatnonzero(looked_at[traits.kind] & traits.half(number ^ 1))
        carriers = who.carriers[hubs].sum(axis=1)
        observed, expected = who.observed(members)[hubs], who.expected(members, hubs)
        enough = (carriers >= SMALLEST_MEETING) & (expected > 0) & (expected < carriers)
        if not enough.any():
            return None
        hubs, carriers, observed, expected = hubs[enough], carriers[enough], observed[enough], expected[enough]
        e_log2 = self._e_log2(observed, carriers, expected / carriers)
        met = observed > expected
        strong = e_log2 > 0
        return _Half(
            e_log2=mean_e_log2(e_log2),
            n_hubs=len(hubs),
            n_units=len(np.unique(who.unit[members])),
            observed=int(observed[met].sum()),
            expected=float(expected[met].sum()),
            kinds=traits.kind[hubs[strong]],
            keys=traits.key[hubs[strong]],
        )

    def _e_log2(self, observed: Ints, carriers: Ints, share: Floats) -> Floats:
        if not self.kinship:
            return hub_e_log2(observed, carriers, share)
        hubs = zip(observed.tolist(), carriers.tolist(), share.tolist(), strict=True)
        return np.array([share_e_log2(x, n, part, self.kinship) for x, n, part in hubs])


@dataclass(frozen=True, slots=True)
class _Half:
    e_log2: float
    n_hubs: int
    n_units: int
    observed: int
    expected: float
    kinds: Ints
    keys: npt.NDArray[np.uint64]


def poisson_interval(observed: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean (Garwood 1936)."""
    low = float(gammaincinv(observed, 0.025)) if observed else 0.0
    return low, float(gammaincinv(observed + 1, 0.975))


def binomial_interval(x: int, n: int) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper & Pearson 1934)."""
    low = float(betaincinv(x, n - x + 1, 0.025)) if x else 0.0
    return low, float(betaincinv(x + 1, n - x, 0.975)) if x < n else 1.0


IDENTITY = SharedHubs("shared_identity", "identity", ("payment_fingerprint", "phone_hash", "email_hash"))
FUNDING = SharedHubs("shared_issuers", "funding", ("payment_bin",))
MAIL = SharedHubs("shared_mail_domains", "funding", ("email_domain",))
NETWORK_CLIENT = SharedHubs("shared_network_client", "network_client", ("ip", "user_agent", "tls_fingerprint"))
NETWORK = SharedHubs("shared_networks", "network_client", ("ip",), kinship=LEAST_KINSHIP)
"""Networks alone, beside people of one trade: what is left to weigh where the provider saw nothing."""
CONTENT = SharedHubs("shared_templates", "content", ("prompt", "system_prompt"))
SIGN_UP = SharedHubs("sign_up_bursts", "time", ("created_at",))
