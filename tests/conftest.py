"""What every test shares: a home of its own, seeded examples, small worlds, and the outside material."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from stillwatch.dossier.findings import Findings
    from stillwatch.sim.world import Played, World

ROOT = Path(__file__).resolve().parents[1]

# The same examples on every machine, however slow, and no folder of failures left behind.
settings.register_profile(
    "house",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("house")

# A shell starts what runs behind it with SIGINT ignored, nohup with SIGHUP; the processes that tests start and end by
# these signals would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of the test's own: no test reads or makes the keys of whoever runs it."""
    for name in os.environ:
        if name.startswith("STILLWATCH_") and name not in ("STILLWATCH_SHARED", "STILLWATCH_REQUIRE"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("STILLWATCH_HOME", str(home))
    yield home


@pytest.fixture(scope="session")
def shared() -> Path:
    """The outside material, `STILLWATCH_SHARED` or `../shared`; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("STILLWATCH_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"the outside material is not at {folder}; STILLWATCH_SHARED names another place")
    return folder


@pytest.fixture(scope="session")
def loud() -> Played:
    """A world with one loud campaign, in memory."""
    from stillwatch.sim.world import play
    from tests import worlds

    return play(worlds.scenario(), seed=worlds.SEED)


@pytest.fixture(scope="session")
def loud_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same world in files."""
    from stillwatch.sim.world import write_world
    from tests import worlds

    return write_world(worlds.scenario(), tmp_path_factory.mktemp("loud"), seed=worlds.SEED)


@pytest.fixture(scope="session")
def loud_findings(loud_world: World) -> Findings:
    """What a scan of it finds."""
    from tests import worlds

    return worlds.scanned(loud_world.exchanges, accounts=loud_world.accounts)


@pytest.fixture(scope="session")
def loud_folder(loud_findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The findings folder of that scan."""
    from stillwatch.dossier.folder import write_findings

    folder = tmp_path_factory.mktemp("written") / "findings"
    write_findings(loud_findings, folder)
    return folder


@pytest.fixture(scope="session")
def quiet() -> Played:
    """The world without its campaign, in memory."""
    from stillwatch.sim.world import play
    from tests import worlds

    return play(worlds.scenario(campaign=False), seed=worlds.SEED)
