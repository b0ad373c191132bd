"""Sessions that begin in gusts: bursts and pauses that all accounts of a population share."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stillwatch.sim.scenarios import Scenario, ordinary
from stillwatch.sim.world import play


def irregularity(gust: float) -> tuple[float, int]:
    """Standard deviation over mean of the gaps between exchanges, and how many there are."""
    population = ordinary("completion", n_accounts=600, rhythm="machine", exchanges=60, gust=gust)
    ts = play(Scenario(populations=(population,), n_days=4), seed=2).exchanges["ts"].cast(pa.int64()).to_numpy()
    gaps = np.diff(ts)
    return float(gaps.std() / gaps.mean()), len(ts)


def test_gusts_make_bursts_and_pauses_and_no_more_traffic() -> None:
    """With gusts the gaps spread far wider, and as much is sent."""
    (even, n_even), (gusty, n_gusty) = irregularity(0.0), irregularity(1.8)
    assert gusty > 1.5 * even
    assert abs(n_gusty - n_even) < 0.1 * n_even
