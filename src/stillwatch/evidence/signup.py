"""signup: accounts made in one stretch of time, more than their peers' were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.evidence.harvest import mean_of_halves
from stillwatch.evidence.hubs import binomial_interval
from stillwatch.evidence.ranks import tally_units
from stillwatch.evidence.signal import Finding, Question, Subject

Mask = npt.NDArray[np.bool_]

SHARES = (0.5, 0.8)
"""Shares of the choosing half that a stretch must hold; each is tried and the e-values averaged."""

FEWEST_CHOOSERS = 6
"""Accounts that must choose a stretch; fewer fall close together by chance."""


@dataclass(frozen=True, slots=True)
class SignUpWindow:
    """The group's accounts were made within one stretch of time, however evenly.

    The stretch is the shortest that holds a share of the accounts of one half of the units; the score of an account of
    the other half is whether it was made in it. Fails where an innocent cause brings people in together, as a course or
    a new office does; a promotion in one country is met by peers of that country only through the kinship of networks.
    To defeat it, buy accounts of all ages, or make them over years. The provider controls the trait.
    """

    name: str = "sign_up_window"
    family: str = "time"
    question: Question = "operator"
    needs: tuple[str, ...] = ("created_at",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Choose the stretch on one half of the units, rank the other half; swap; average."""
        if "created_at" not in subject.population.accounts.column_names:
            return None
        made = subject.population.accounts.column("created_at").combine_chunks().cast(pa.int64())
        at = np.where(made.is_valid().to_numpy(zero_copy_only=False), made.fill_null(0).to_numpy(), np.nan)
        coin = subject.population.coin
        tried = [self._half(subject, at, coin == side, share) for share in SHARES for side in (False, True)]
        return mean_of_halves(self.name, tried)

    def _half(self, subject: Subject, made: npt.NDArray[np.float64], choosers: Mask, share: float) -> Finding | None:
        members = subject.candidate.members
        _, first = np.unique(subject.unit[members], return_index=True)
        chosen = np.sort(made[members[first]][choosers[members[first]] & np.isfinite(made[members[first]])])
        n = int(np.ceil(share * len(chosen)))
        if len(chosen) < FEWEST_CHOOSERS:
            return None
        spans = chosen[n - 1 :] - chosen[: len(chosen) - n + 1]
        start = int(np.argmin(spans))
        since, until = chosen[start], chosen[start + n - 1]
        score = np.where(np.isfinite(made), ((made >= since) & (made <= until)).astype(np.float64), np.nan)
        days = float(until - since) / 86_400_000_000
        tally = tally_units(subject, score, among=~choosers)
        if tally is None:
            return None
        low, high = binomial_interval(tally.n_shown, tally.n_units)
        return Finding(
            signal=self.name,
            family=self.family,
            question=self.question,
            statistic=tally.n_shown / tally.n_units,
            n=tally.n_units,
            effect=tally.n_shown / tally.n_units - tally.expected,
            lo=low - tally.expected,
            hi=high - tally.expected,
            null_id="beta-binomial-among-peers-with-kinship/1",
            e_log2=tally.e_log2,
            h1="the share of units made in the stretch lies evenly between that of peers and 1",
            h0="units are made in the stretch as often as peers, correlated as units that meet at any one hub are",
            detail={"days": days, "shown": tally.n_shown, "expected": tally.expected, "kinship": tally.kinship},
        )


WINDOW = SignUpWindow()
