"""alone: one heavy account that harvests by itself: a lead, never a campaign.

One account is one draw from the accounts there are, so however many prompts it sends, the evidence cannot exceed the
number of accounts it is compared with. The few heaviest are examined, for a harvest is volume; each is scored by what
its own prompts ask for and compared with the heaviest of its peers. Whether it asks for itself or for a rival's model
cannot be told from one account, which is why the verdict is a lead of a kind of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from stillwatch.detect.groups import Candidate
from stillwatch.detect.population import Population
from stillwatch.detect.texts import Texts
from stillwatch.detect.traits import N_HALVES, Traits
from stillwatch.evidence.capabilities import ELICITING, tag_prompts
from stillwatch.evidence.harvest import FEWEST_PROMPTS
from stillwatch.evidence.innocent import OWN_USE, Margin
from stillwatch.evidence.judge import Weighed
from stillwatch.evidence.ranks import FEWEST_PEERS
from stillwatch.evidence.signal import Finding, Subject
from stillwatch.kernels.evalues import e_bh, hub_e_log2, mean_e_log2

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_EXCHANGES = 1_000
"""Exchanges below which one account is not examined: a harvest of its own would be too small to train on."""

MOST_EXAMINED = 8
"""Accounts examined, the heaviest; each costs all of them bits, for e-BH counts every one."""

HEAVY_PEERS = 500
"""Accounts of a peer group that the heaviest are compared with: the next heaviest."""

ALONE_Q_MAX = 0.1
"""Largest e-BH q value at which one account is a lead: of ten such leads, one may be as ordinary as its peers."""

MOST_BITS = 30.0
"""Bits beyond which an account's prompts say no more, so that one who asks for nothing else hides nobody."""


def heaviest(population: Population) -> Ints:
    """Positions of the accounts to examine, and of the peers each is compared with; empty where nobody is heavy.

    Cost: one sort of the accounts.
    """
    at = _examined(population)
    volume = population.counter("n_exchanges")
    parts = []
    for level in np.unique(population.peer[at]):
        here = np.flatnonzero(population.peer == level)
        parts.append(here[np.lexsort((here, -volume[here]))][: MOST_EXAMINED + HEAVY_PEERS])
    return np.sort(np.concatenate(parts)) if parts else at


def _examined(population: Population) -> Ints:
    volume = population.counter("n_exchanges")
    heavy = np.flatnonzero(volume >= FEWEST_EXCHANGES)
    return heavy[np.lexsort((heavy, -volume[heavy]))][:MOST_EXAMINED]


def weigh_alone(
    population: Population, traits: Traits, texts: Texts | None, *, known: Mask, cleared: Mask
) -> list[tuple[Weighed, float]]:
    """The heavy accounts whose own prompts stand out, each with its q value among all that were examined.

    Args:
        texts: prompts of `heaviest` accounts. known: members of campaigns, who are neither examined nor peers.
        cleared: accounts that a person cleared, who are peers and not examined.

    Cost: one tagging of at most `texts.PROMPTS_READ` prompts of each account read.
    """
    if texts is None or not len(texts):
        return []
    shows = tag_prompts(texts.prompts)
    n_prompts = np.bincount(texts.owner, minlength=len(population))
    counts = {name: np.bincount(texts.owner[shows[name]], minlength=len(population)) for name in ELICITING}
    read = (n_prompts >= FEWEST_PROMPTS) & ~known
    examined = [int(at) for at in _examined(population) if read[at] and not cleared[at]]
    found = []
    for at in examined:
        peers = np.flatnonzero(read & (population.peer == population.peer[at]))
        finding = _finding(at, peers, n_prompts, counts, len(examined))
        if finding is not None:
            found.append((at, finding))
    # Who has too few peers bets nothing: an e-value of 1, which e-BH counts.
    silent = [0.0] * (len(examined) - len(found))
    q_values = e_bh(np.array([finding.e_log2 for _, finding in found] + silent))
    shares = {at: {name: float(shows[name][texts.owner == at].mean()) for name in shows} for at, _ in found}
    return [
        (_weighed(population, traits, at, finding, shares[at]), float(q))
        for (at, finding), q in zip(found, q_values, strict=False)
        if q <= ALONE_Q_MAX
    ]


def conformal_e_log2(scores: Floats) -> Floats:
    """Bits of "this one does not belong with the others": n s_i / sum(s), for scores s_i >= 0 of n exchangeable draws.

    The mean over i is exactly 1, so the mean of any one is 1 where the draws are exchangeable (Vovk 2020,
    "Cross-conformal e-prediction", 2); it is at most n. Where all scores are 0 every e-value is 1.
    """
    total = float(scores.sum())
    if total <= 0:
        return np.zeros(len(scores))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log2(scores * len(scores) / total))


def own_bits(n_prompts: Ints, counts: Mapping[str, Ints]) -> dict[str, Floats]:
    """By capability, (accounts,) bits that an account's prompts ask for it oftener than those of all of them do.

    The score, and no evidence by itself: accounts differ more than draws of one coin.
    """
    bits = {}
    for name, count in counts.items():
        share = float((count / n_prompts).mean())
        if share > 0:
            bits[name] = np.minimum(hub_e_log2(count, n_prompts, min(share, 1.0)), MOST_BITS)
    return bits


def _finding(at: int, peers: Ints, n_prompts: Ints, counts: Mapping[str, Ints], n_examined: int) -> Finding | None:
    if len(peers) - 1 < FEWEST_PEERS:
        return None
    n, ours = n_prompts[peers], int(np.searchsorted(peers, at))
    bits = own_bits(n, {name: count[peers] for name, count in counts.items()})
    if not bits:
        return None
    each = np.stack(list(bits.values()))
    scores = np.array([np.exp2(mean_e_log2(one)) for one in each.T])
    name = list(bits)[int(each[:, ours].argmax())]
    x, size = float(counts[name][at]), float(n_prompts[at])
    share = float((counts[name][peers] / n).mean())
    low = float(betaincinv(x, size - x + 1, 0.025)) if x else 0.0
    high = float(betaincinv(x + 1, size - x, 0.975)) if x < size else 1.0
    return Finding(
        signal="elicitation_alone",
        family="content",
        question="harvest",
        statistic=x / size,
        n=int(size),
        effect=x / size / share,
        lo=low / share,
        hi=high / share,
        null_id="conformal-among-heaviest-peers/1",
        e_log2=float(conformal_e_log2(scores)[ours]),
        h1="the account asks for what training data is made of far more than its heaviest peers",
        h0="what it asks for could be that of any of its heaviest peers",
        detail={
            "capability": name,
            "share_of_peers": share,
            "peers": len(peers) - 1,
            "peers_as_far_out": int((scores >= scores[ours]).sum()) - 1,
            "examined": n_examined,
            **{f"{one}_bits": float(values[ours]) for one, values in bits.items()},
        },
    )


def _weighed(population: Population, traits: Traits, at: int, finding: Finding, shares: Mapping[str, float]) -> Weighed:
    """The account as a group of one; who runs it is no question, and own use explains all of it."""
    n = len(population)
    membership = np.zeros(n)
    membership[at] = 1.0
    candidate = Candidate(np.array([at]), membership, np.zeros(n), (None,) * N_HALVES)
    everybody, nobody = np.ones(n, bool), np.zeros(n, bool)
    subject = Subject(population, traits, candidate, population.unit, everybody, nobody, None)
    return Weighed(subject, {finding.signal: finding}, 0.0, finding.e_log2, [Margin(OWN_USE, 0.0, {})], shares)
