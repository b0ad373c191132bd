"""What every test shares: a home of its own, seeded examples, and the outside material."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
