"""fleets: several payers, each with a fleet of accounts, act as one: no honest organisation needs more than one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillwatch.detect.population import joined_units
from stillwatch.evidence.hubs import poisson_interval
from stillwatch.evidence.signal import Finding, Question, Subject
from stillwatch.kernels.evalues import hub_e_log2

SMALLEST_FLEET = 4
"""Accounts on one payment instrument that make it a fleet rather than a household."""


@dataclass(frozen=True, slots=True)
class Fleets:
    """More of a group's payers have fleets than payers like them have.

    Counts, among the group's payment instruments beyond its largest, those with `SMALLEST_FLEET` accounts or more. The
    null is how often an instrument outside has a fleet, taken apart for those whose accounts send system prompts, as
    products do, and those whose accounts do not, as people do. Fails on an organisation that gives each department a
    card and declares none. To defeat it, pay for each account with its own card.
    """

    name: str = "several_fleets"
    family: str = "identity"
    question: Question = "operator"
    needs: tuple[str, ...] = ("payment_fingerprint",)

    def weigh(self, subject: Subject) -> Finding | None:
        """Compare fleets among the group's payers with fleets among everybody else's."""
        population = subject.population
        if "payment_fingerprint" not in population.accounts.column_names:
            return None
        payment = population.accounts.column("payment_fingerprint")
        payer = population.once("payers", lambda everybody: joined_units(len(everybody), [payment]))
        n = int(payer.max(initial=-1)) + 1
        known = payment.combine_chunks().is_valid().to_numpy(zero_copy_only=False)
        inside = np.zeros(len(population), bool)
        inside[subject.candidate.members] = True
        size_in = np.bincount(payer[inside & known], minlength=n)
        size_out = np.bincount(payer[~inside & known & subject.eligible & ~subject.set_aside], minlength=n)
        product = np.bincount(payer[known], population.with_system[known], n) * 2 >= np.bincount(
            payer[known], minlength=n
        )
        ours, others = size_in > 0, (size_in == 0) & (size_out > 0)
        if ours.sum() < 2 or not others.any():
            return None
        fleet_out = others & (size_out >= SMALLEST_FLEET)
        rate = np.array([(fleet_out[habit].sum() + 1) / (others[habit].sum() + 2) for habit in (~product, product)])
        beyond = ours.copy()
        beyond[np.argmax(size_in)] = False
        expected = float(rate[product[beyond].astype(np.int64)].sum())
        fleets, units = int((beyond & (size_in >= SMALLEST_FLEET)).sum()), int(beyond.sum())
        low, high = poisson_interval(fleets)
        return Finding(
            signal=self.name,
            family=self.family,
            question=self.question,
            statistic=float(fleets),
            n=units,
            effect=fleets / expected,
            lo=low / expected,
            hi=high / expected,
            null_id="fleet-rate-by-habit/1",
            e_log2=float(hub_e_log2(np.array([fleets]), np.array([units]), np.array([expected / units]))[0]),
            h1="each further payer has a fleet with a chance uniform between the null rate and 1",
            h0="payers of the group, beyond the largest, have fleets as often as payers of the same habit",
            detail={"expected": expected, "smallest_fleet": SMALLEST_FLEET},
        )


FLEETS = Fleets()
