"""clock: when people and programs send, and how long what they send is: rhythms of a week, shapes of token counts."""

from __future__ import annotations

from typing import Final

import numpy as np

from stillwatch.sim.dice import Floats, Ints
from stillwatch.sim.kernels import HOUR_US, WEEK_H

RHYTHMS: Final = ("people", "office", "machine")
_PEOPLE = (3, 2, 1, 1, 1, 1, 2, 4, 6, 7, 8, 8, 7, 8, 8, 8, 8, 8, 9, 10, 11, 11, 9, 6)
_OFFICE = (1, 1, 1, 1, 1, 1, 2, 6, 20, 28, 30, 27, 18, 24, 29, 28, 25, 18, 9, 5, 4, 3, 2, 1)
_DAY: Final = {"people": _PEOPLE, "office": _OFFICE, "machine": (1,) * 24}
_WEEKEND: Final = {"people": 0.85, "office": 0.18, "machine": 1.0}


def weekly_weights() -> Floats:
    """Relative activity [rhythm, hour of the week since a Thursday], of mean 1 for each rhythm."""
    hour = np.arange(WEEK_H)
    weekend = np.isin(hour // 24, (2, 3))  # 1970-01-01 was a Thursday
    table = np.array([np.array(_DAY[each])[hour % 24] * np.where(weekend, _WEEKEND[each], 1.0) for each in RHYTHMS])
    weights: Floats = table / table.mean(axis=1, keepdims=True)
    return weights


class Calendar:
    """How much of a rhythm in a time zone lies between two instants."""

    def __init__(self, start_us: int, n_days: int) -> None:
        self._start_us, self._hours = start_us, np.arange(n_days * 24 + 1)
        self._weights = weekly_weights()

    def _level(self, rhythm: int, zone: int) -> Floats:
        local = self._start_us // HOUR_US + self._hours[:-1] + zone
        return np.concatenate([[0.0], np.cumsum(self._weights[rhythm, local % WEEK_H])])

    def amount(self, rhythm: Ints, zone: Ints, begin_us: Ints, end_us: Ints) -> Floats:
        """Hours of mean weight between two instants, for each account."""
        out = np.empty(len(zone))
        for here, level in self._kinds(rhythm, zone):
            ends = [np.interp((at[here] - self._start_us) / HOUR_US, self._hours, level) for at in (begin_us, end_us)]
            out[here] = ends[1] - ends[0]
        return out

    def draw(self, rhythm: Ints, zone: Ints, begin_us: Ints, end_us: Ints, luck: Floats) -> Ints:
        """An instant (us) between two, drawn by the rhythm."""
        out = np.empty(len(zone))
        for here, level in self._kinds(rhythm, zone):
            low, high = (
                np.interp((at[here] - self._start_us) / HOUR_US, self._hours, level) for at in (begin_us, end_us)
            )
            out[here] = np.interp(low + luck[here] * (high - low), level, self._hours)
        drawn: Ints = self._start_us + (out * HOUR_US).astype(np.int64)
        return np.clip(drawn, begin_us, np.maximum(begin_us, end_us - 1))

    def _kinds(self, rhythm: Ints, zone: Ints) -> list[tuple[Ints, Floats]]:
        kinds, which = np.unique(np.stack([rhythm, zone], axis=1), axis=0, return_inverse=True)
        flat = which.reshape(-1)
        return [(np.flatnonzero(flat == n), self._level(int(r), int(z))) for n, (r, z) in enumerate(kinds)]


QUANTILES: Final = np.array([0.0, 0.01, 0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 1.0])
SHAPES: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "conversation": (
        (2, 40, 181, 247, 398, 972, 1035, 1081, 1200, 4075, 4086, 4122, 14050),
        (7, 16, 38, 50, 81, 102, 141, 213, 397, 428, 463, 612, 1000),
    ),
    "completion": (
        (6, 18, 74, 148, 573, 1058, 1454, 1886, 2748, 5152, 7325, 7436, 7437),
        (6, 6, 6, 7, 9, 11, 13, 15, 22, 54, 85, 247, 1899),
    ),
}
"""Input and output tokens at `QUANTILES` of two services, in the first half hour of the Azure LLM inference trace 2023
(Patel et al., Splitwise, ISCA 2024; CC BY 4.0); benchmarks/simulate.py compares with the second half hour."""


def draw_tokens(quantiles: tuple[int, ...], median: float, luck: Floats) -> Floats:
    """Token counts of a shape, stretched to a median."""
    level = np.log(np.array(quantiles, float))
    drawn: Floats = np.exp(np.interp(luck, QUANTILES, level)) * (median / quantiles[len(quantiles) // 2])
    return drawn
