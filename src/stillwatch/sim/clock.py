"""clock: when people and programs send: working hours, evenings, round the clock, in sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stillwatch.sim.places import Floats, Ints, Stage

HOUR_US: Final = 3_600_000_000
RHYTHMS: Final = ("people", "office", "machine")
DAY: Final = {
    "people": np.array([3, 2, 1, 1, 1, 1, 2, 4, 6, 7, 8, 8, 7, 8, 8, 8, 8, 8, 9, 10, 11, 11, 9, 6], float),
    "office": np.array([1, 1, 1, 1, 1, 1, 2, 6, 20, 28, 30, 27, 18, 24, 29, 28, 25, 18, 9, 5, 4, 3, 2, 1], float),
    "machine": np.ones(24),
}
WEEKEND: Final = {"people": 0.85, "office": 0.18, "machine": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """For each of n accounts: its rhythm, its hours ahead of UTC, and between which times (us) it is active."""

    rhythm: str
    zone: Ints
    begin_us: Ints
    end_us: Ints
    session: float = 4.0
    """Mean number of exchanges in a row."""
    gap_s: float = 40.0
    """Median seconds between two of them."""


def hour_weights(stage: Stage, rhythm: str, zone: int) -> Floats:
    """Relative activity in each hour of the calendar, for one rhythm and time zone."""
    hours = stage.start_us // HOUR_US + np.arange(stage.n_days * 24) + zone
    weekday = (hours // 24 + 3) % 7  # 1970-01-01 was a Thursday
    weights: Floats = DAY[rhythm][hours % 24] * np.where(weekday >= 5, WEEKEND[rhythm], 1.0)
    return weights


def send_times(stage: Stage, shifts: Shifts, account: Ints, rng: np.random.Generator) -> Ints:
    """Times (us) of rows sorted by account, in sessions; linear in rows, one table per time zone.

    Rows of an account come out in the order of their sessions, not of time.
    """
    n_rows = len(account)
    fresh = rng.random(n_rows) < 1 / shifts.session
    fresh[:1] = True
    fresh[1:] |= account[1:] != account[:-1]
    session = np.cumsum(fresh) - 1
    starts = _session_starts(stage, shifts, account[fresh], rng)
    gaps = np.where(fresh, 0.0, rng.lognormal(np.log(shifts.gap_s), 0.9, n_rows)) * 1e6
    passed = np.cumsum(gaps)
    times = starts[session] + (passed - passed[fresh][session]).astype(np.int64)
    last = np.minimum(shifts.end_us[account], stage.start_us + stage.n_days * 24 * HOUR_US) - 1
    folded: Ints = np.where(times > last, starts[session] - (times - starts[session]) % HOUR_US, times)
    not_before: Ints = np.maximum(folded, shifts.begin_us[account])
    return not_before


def _session_starts(stage: Stage, shifts: Shifts, account: Ints, rng: np.random.Generator) -> Ints:
    """Start times (us) of sessions, drawn from each account's hours between its begin and its end."""
    zone = shifts.zone[account] % 24
    begin = (shifts.begin_us[account] - stage.start_us) / HOUR_US
    end = (shifts.end_us[account] - stage.start_us) / HOUR_US
    hours, drawn = np.arange(stage.n_days * 24 + 1), np.empty(len(account))
    for z in np.unique(zone):
        here = zone == z
        level = np.concatenate([[0.0], np.cumsum(hour_weights(stage, shifts.rhythm, int(z)))])
        low, high = np.interp(begin[here], hours, level), np.interp(end[here], hours, level)
        drawn[here] = np.interp(low + rng.random(here.sum()) * (high - low), level, hours)
    return stage.start_us + (drawn * HOUR_US).astype(np.int64)
