"""mixture: which part of its members' traffic belongs to a group: a harvest may hide inside customers' traffic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.detect.membership import enriched_hubs
from stillwatch.detect.traits import KINDS
from stillwatch.evidence.signal import Subject

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WORK = ("system", "head", "tail")
"""Kinds of traits that show what an exchange is for."""


def share_of_work(subject: Subject, accounts: Ints) -> Floats:
    """(accounts,) share of each account's sampled exchanges that show a template the group made its own.

    An estimate from below: a task without the group's set words is not told from a customer's. It is reported and
    weighs nothing. Cost: linear in the sampled exchanges of the accounts.
    """
    population, traits = subject.population, subject.traits
    own = enriched_hubs(traits, subject.candidate.members, within=traits.of_family("content") & traits.forming)
    lengths = population.sampled[accounts]
    ends = np.cumsum(lengths)
    rows = np.arange(int(lengths.sum())) + np.repeat(population.offsets[accounts] - ends + lengths, lengths)
    shown = np.zeros(len(rows), bool)
    for number, kind in enumerate(KINDS):
        if kind.name in WORK:
            shown |= np.isin(population.sample[kind.name][rows], traits.key[own & (traits.kind == number)])
    owner = np.repeat(np.arange(len(accounts)), lengths)
    return np.asarray(np.bincount(owner, shown, minlength=len(accounts)) / np.maximum(lengths, 1))


def belonging_of_group(subject: Subject, accounts: Ints) -> dict[str, float]:
    """The median over accounts, and the ends of the middle eight tenths, by name."""
    low, middle, high = np.quantile(share_of_work(subject, accounts), (0.1, 0.5, 0.9))
    return {"belongs": float(middle), "belongs_low": float(low), "belongs_high": float(high)}
