"""Scenario files that are wrong: each loads and can be cast, or is one clear error."""

from __future__ import annotations

import math
import tomllib
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillwatch.errors import InputError, SettingsError
from stillwatch.sim import scenarios
from stillwatch.sim.places import POOLS
from stillwatch.sim.scenarios import load_scenario, shipped
from stillwatch.sim.world import cast

TABLES = {name: tomllib.loads(path.read_text("utf-8")) for name, path in shipped().items() if "reported" not in name}
WRONG = st.one_of(
    st.sampled_from([True, "", "x", "home", [], [3], {}, {"x": 1}, -1, 0, 3, 1.5, 2**70, -(2**70), date(2026, 1, 1)]),
    st.sampled_from([math.nan, math.inf, -math.inf, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]),
    st.floats(),
    st.integers(),
)


def places(table: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a table, tables and lists among them."""
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    return [path for key, value in items for path in ((*here, key), *places(value, (*here, key)))]


def changed(table: dict[str, Any], path: tuple[Any, ...], how: str, value: Any) -> dict[str, Any]:
    """The table with the value at a path replaced, removed or put under another name."""
    table = deepcopy(table)
    holder: Any = table
    for key in path[:-1]:
        holder = holder[key]
    if how == "replace":
        holder[path[-1]] = value
    elif how == "add" and isinstance(holder[path[-1]], dict):
        holder[path[-1]]["cover" if "crew" in holder[path[-1]] else "exchanges"] = value
    elif how == "remove":
        del holder[path[-1]]
    return table


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_scenario_loads_or_is_a_clear_error(data: st.DataObject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong types, numbers and removed keys of the shipped scenarios never end in a traceback, drawn or refused."""
    table = TABLES[data.draw(st.sampled_from(sorted(TABLES)))]
    for _ in range(data.draw(st.integers(1, 3))):
        if paths := places(table):
            path = data.draw(st.sampled_from(paths))
            table = changed(table, path, data.draw(st.sampled_from(["replace", "remove", "add"])), data.draw(WRONG))
    for library in scenarios.LIBRARIES:
        scenarios._library(library)  # read once, before the reader is another
    with monkeypatch.context() as patched:
        patched.setattr(scenarios, "_read", lambda path: deepcopy(table))
        try:
            cast(load_scenario("bench"), seed=1, scale=0.001)
        except SettingsError as error:
            assert error.wrong and "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("populations = 3", "populations makes no sense; got int; expected a table"),
        ("campaigns = [3]", r"campaigns\[0\] makes no sense; got int; expected a table"),
        ("campaigns = 3", "campaigns makes no sense; got int; expected a list of tables"),
        ("[populations]\nconsumer = 3", "populations.consumer makes no sense; got int; expected a table"),
        ("[populations]\nconsumer = { system = 3 }", "population consumer: system makes no sense; got int"),
        ("[populations]\nconsumer = { n_accounts = 'x' }", "n_accounts makes no sense; got str; expected int"),
        ("[populations]\nconsumer = { exits = { home = [1, 'x'] } }", r"exits\[...\]\[1\] makes no sense; got str"),
        ("[populations]\nconsumer = { like = ['x'] }", "like makes no sense"),
        ("[populations]\nconsumer = { exchanges = nan }", "consumer.exchanges is out of range; got nan"),
        ("[populations]\nconsumer = { n_accounts = -3 }", "consumer.n_accounts is out of range; got -3; expected 0 to"),
        ("[populations]\nconsumer = { free = 1.2 }", "consumer.free is out of range; got 1.2; expected 0 to 1"),
        ("[populations]\nconsumer = { speech = { life = -1 } }", "speech.life is out of range; got -1"),
        ("[populations]\nconsumer = { clients = {} }", "clients chooses nothing"),
        ("[populations]\nconsumer = { exits = { home = [0, 1] } }", "leaves accounts without a network"),
        ("[populations]\nconsumer = { exits = { hom = [1, 2] } }", f"got hom; .*{next(iter(POOLS))}"),
        ("[populations]\nconsumer = { active = [0.9, 0.1] }", "active is no span"),
        ("[populations]\nconsumer = { shape = 'round' }", "unknown shape"),
        ("[[campaigns]]\nlike = 'harvest'\ncover = 1.5", "harvest.cover is out of range; got 1.5; expected 0 to 1"),
        ("[[campaigns]]\nlike = 'harvest'\ncover_speech = {}", "cover_speech chooses nothing"),
        ("[[campaigns]]\nlike = 'harvest'\nown = { card = 2 }", "own.card is out of range"),
        ("[[campaigns]]\nlike = 'harvest'\ntier = 'x'", "tier makes no sense"),
        ("[[campaigns]]\nlike = 'harvest'\nmimics = ['luck']", "mimics what cannot be"),
        ("[[campaigns]]\nlike = 'harvest'\namong = 'nobody'", "hides among a population that is not there"),
        ("[[campaigns]]\nlike = 'harvest'\nlife_days = 2\nmimics = ['age']", "replaces its banned"),
        ("[[campaigns]]\ncover = 0.5", "a campaign's name makes no sense"),
        ("[[campaigns]]\nlike = 'harvest'\ncrew = 3", "crew makes no sense"),
        ("[pools]\nhome = { n_networks = 0 }", "n_networks is out of range"),
        ("[pools]\nhome = { networks = 3 }", "no key 'networks'"),
        ("n_days = 10000000", "n_days is out of range"),
        ("start = 9999-01-01T00:00:00Z", "year of start is out of range"),
        ("n_days = " + "9" * 5000, "is not TOML"),
        ("title = " + "[" * 5000, "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(text: str, says: str, tmp_path: Path) -> None:
    """The error names the block, the key, what stands there and what should."""
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=says):
        load_scenario(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk's error is one line about the file."""
    path = tmp_path / "mine.toml"
    path.write_text("", "utf-8")

    def fail(self: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(InputError, match=r"mine\.toml cannot be read; got Input/output error"):
        load_scenario(path)
