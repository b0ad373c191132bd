"""trial: what a world is counted to hold is what it holds."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.yardstick.runs import Kept, play_all
from benchmarks.yardstick.trial import EDGES, Trial, examine
from stillwatch.sim.world import play
from tests.worlds import SEED, crew_of, scenario

LOUD = Trial(scenario=scenario(), seed=SEED, rebar=True, peers=True)


def test_a_loud_campaign_is_counted_in_full() -> None:
    """Planted and ordinary add up to everybody; found, named and the reliability's rows agree with one another."""
    result = examine(LOUD)
    everybody = play(scenario(), seed=SEED)
    crew = crew_of(everybody)
    assert sum(result["planted"].values()) == len(crew)
    assert result["n_seen"] == len(crew) + sum(seen for seen, _ in result["populations"].values())
    assert result["found"] == {"harvest": 1} and (result["fragments"], result["spurious"]) == (0, 0)
    assert result["named"]["harvest"] > 0.9 * len(crew)
    rows = result["reliability"]["campaign"]
    assert len(rows) == len(EDGES) - 1 and sum(row[0] for row in rows) == result["n_seen"]
    assert sum(row[1] for row in rows) == len(crew)
    counts = result["attributes"]["language"].values()
    assert sum(row[0] for row in counts) == result["n_seen"] - len(crew)
    assert result["bars"]["q_max x 1"]["named"] == result["named"]
    planted, caught, _ = result["peers"]["stillwatch"]
    assert (planted, caught) == (len(crew), result["named"]["harvest"])


def test_without_its_channel_nothing_is_named() -> None:
    """A trial without text and without accounts says so in its result, and its name in the cache is another."""
    blind = replace(LOUD, without=("prompt", "system_prompt", "accounts"), rebar=False, peers=False)
    assert blind.name() != LOUD.name()
    assert sum(examine(blind)["named"].values()) == 0


def test_innocent_groups_are_weighed_by_name() -> None:
    """Groups drawn by the truth stand in the result under their names, in their order, with their own members."""
    trial = Trial(scenario=scenario(campaign=False), seed=SEED, groups_of=("consumer", "reseller", "anybody"))
    result = examine(trial)
    assert result["innocents"] == ["consumer", "anybody"]
    assert [group["n"] for group in result["groups"]] == [60, 60]
    assert set(result["groups"][0]["who"]) == {"(consumer)"}


def test_the_name_of_a_trial_is_the_same_in_every_process() -> None:
    """Nothing in it hangs on the order of a set, which Python shuffles anew each time it starts."""
    words = "from benchmarks.yardstick.casting import empty_world; from benchmarks.yardstick.trial import Trial; "
    words += "print(Trial(scenario=empty_world(), seed=1).name())"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = {
        subprocess.run(
            [sys.executable, "-c", words], env=environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1 and said.pop().strip()


def test_a_result_is_kept_and_read_again(tmp_path: Path) -> None:
    """The second run of a trial reads what the first one kept, whatever the order it is asked in."""
    other = Trial(scenario=scenario(campaign=False), seed=SEED)
    kept = Kept(tmp_path)
    kept.put(other, {"n_seen": 1})
    kept.put(LOUD, {"n_seen": 2})
    assert play_all([LOUD, other, LOUD], kept=kept, processes=1, label="test") == [{"n_seen": n} for n in (2, 1, 2)]
