"""activity: what a campaign did, reduced to what its pictures need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from stillwatch.errors import FindingsError
from stillwatch.records import HOURS_PER_WEEK


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One campaign over its days, over the week, and at the traits its accounts share; no text.

    Raises `FindingsError` when the parallel lists disagree in length or a week has not 168 hours.
    """

    days: list[date]
    """Days in UTC, ascending; days without traffic may be left out."""
    exchanges_per_day: list[int]
    """Exchanges of the campaign on each of `days`."""
    accounts_per_day: list[int]
    """Accounts of the campaign with at least one exchange on each of `days`."""
    hour_of_week: list[int]
    """168 counts of exchanges; hour 0 is Monday 00:00 UTC."""
    background_hour_of_week: list[float]
    """168 shares of everyone else's exchanges, summing to 1; all zeros where there is nobody else."""
    edges: list[tuple[str, str, float]]
    """(account_id, trait_key, share): which share (0 to 1) of the account's exchanges shows the trait."""

    def __post_init__(self) -> None:
        lengths = {len(self.days), len(self.exchanges_per_day), len(self.accounts_per_day)}
        if len(lengths) > 1:
            raise FindingsError("the lists per day differ in length", got=str(sorted(lengths)), expected="one length")
        for week in (self.hour_of_week, self.background_hour_of_week):
            if len(week) != HOURS_PER_WEEK:
                raise FindingsError("a week of hours is incomplete", got=str(len(week)), expected=str(HOURS_PER_WEEK))
