"""scenarios: which populations and campaigns live in a world, as a readable TOML file or a few lines of Python.

A scenario file names ordinary populations by the table of `worlds/populations.toml` they are like, campaigns by that
of `worlds/campaigns.toml`, and changes what it wants: every field of `Population` and `Campaign` is a key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from stillwatch.errors import InputError, SettingsError
from stillwatch.settings import suggestion
from stillwatch.sim.bounds import SHARE, check_number, check_numbers
from stillwatch.sim.campaign import Campaign
from stillwatch.sim.places import POOLS, Pool
from stillwatch.sim.population import Frame, Population

Block = TypeVar("Block")
COMPLAINT: Final = re.compile(r"Expected `(?P<expected>.*?)`(?:, got `(?P<got>.*?)`)?(?: - at `(?P<path>.*)`)?")
LIBRARIES: Final = ("populations", "campaigns")
NO_CHANGE: Final[Mapping[str, Any]] = {}
HARD_NEGATIVES: Final = (
    "hackathon", "classroom", "office_vpn", "campus", "judge", "evaluator", "reseller", "resold", "licensed",
    "victim", "coding_agent", "release_day", "carrier",
)  # fmt: skip
"""Ordinary populations that look like a campaign in one way each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Which populations and campaigns live in a world, from when and for how long."""

    title: str = ""
    follows: str = ""
    """What in the public record it follows, and what it does not claim."""
    start: datetime = datetime(2026, 3, 2, tzinfo=UTC)
    n_days: int = 30
    release: float = 0.6
    """Share of the calendar after which the newest model is out."""
    populations: tuple[Population, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Network pools to add to or change in `places.POOLS`."""
    messages: bool = False
    """Write the column `messages`: what was asked and answered before, which shows conversations handed over."""
    least_ordinary: float = 0.0
    """Ordinary exchanges to expect at least, as a multiple of the campaigns'; where chance drew fewer, as it may at a
    small scale, every ordinary account sends so much more."""

    def __post_init__(self) -> None:
        names = [*(each.name for each in self.populations), *(each.name for each in self.campaigns)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SettingsError("a scenario has two blocks of one name", got=", ".join(twice))
        ordinary = {population.name for population in self.populations}
        if strangers := sorted({each.copies for each in self.campaigns} - ordinary - {""}):
            raise SettingsError("a campaign copies a population that is not there", got=", ".join(strangers))
        if self.start.tzinfo is None:
            raise SettingsError("a scenario needs a start with a time zone", got=str(self.start))
        check_number("the year of start", self.start.year, (1971, 2200))
        check_numbers("scenario", self, {"n_days": (1, 3660), "release": SHARE, "least_ordinary": (0, 100)})
        if strangers := sorted({each.among for each in self.campaigns} - ordinary - {""}):
            raise SettingsError("a campaign hides among a population that is not there", got=", ".join(strangers))
        pools = self.all_pools()
        for each in (*self.populations, *(one.crew for one in self.campaigns)):
            if unknown := sorted(set(each.exits) - set(pools)):
                raise SettingsError(
                    f"{each.name}.exits names a pool that is not there",
                    got=", ".join(unknown),
                    expected=f"any of {', '.join(pools)}",
                    do="Add it under [pools], or choose one that is there.",
                )

    def all_pools(self) -> Mapping[str, Pool]:
        """The common pools and its own."""
        return {**POOLS, **self.pools}

    def only(self, *names: str) -> Self:
        """The same world with none but these populations and campaigns."""
        there = {*(each.name for each in self.populations), *(each.name for each in self.campaigns)}
        if unknown := sorted(set(names) - there):
            raise SettingsError("the scenario has no such block", got=unknown[0], do=suggestion(unknown[0], [*there]))
        return replace(
            self,
            populations=tuple(each for each in self.populations if each.name in names),
            campaigns=tuple(each for each in self.campaigns if each.name in names),
        )

    def quiet(self) -> Self:
        """The same world without its campaigns."""
        return replace(self, campaigns=())

    def having(self, *blocks: Population | Campaign) -> Self:
        """The same world with these blocks, instead of those of the same names or added to the rest."""
        new = {each.name for each in blocks}
        return replace(
            self,
            populations=(
                *(each for each in self.populations if each.name not in new),
                *(each for each in blocks if isinstance(each, Population)),
            ),
            campaigns=(
                *(each for each in self.campaigns if each.name not in new),
                *(each for each in blocks if isinstance(each, Campaign)),
            ),
        )


def ordinary(name: str, /, **changes: Any) -> Population:
    """A population of the library, with fields of `Population` changed."""
    return replace(_population(name, {}), **changes)


def campaign(like: str, /, *, tier: int | None = None, crew: Mapping[str, Any] = NO_CHANGE, **changes: Any) -> Campaign:
    """A campaign of the library at a tier of isolation, with fields of `Campaign`, and of its `crew`, changed."""
    made = replace(_campaign({"like": like}), **changes).with_crew(**crew)
    return made if tier is None else made.at_tier(tier)


def shipped() -> dict[str, Path]:
    """The scenarios that come with the package, by name."""
    folder = Path(str(files("stillwatch.sim") / "worlds"))
    return {path.stem: path for path in sorted(folder.glob("*.toml")) if path.stem not in LIBRARIES}


def load_scenario(name: str | Path) -> Scenario:
    """Read a scenario: the name of a shipped one, or the path of a TOML file.

    Raises:
        SettingsError: there is no such scenario, or a line of it makes no sense.
    """
    known = shipped()
    path = known.get(str(name), Path(name))
    if not path.is_file():
        raise SettingsError(
            f"there is no scenario {str(name)!r}", do=f"Name a TOML file, or one of: {', '.join(known)}."
        )
    table, where = _read(path), str(path)
    _check_keys(Scenario, table, where)
    populations = tuple(
        _population(each, _table(change, f"{where}: populations.{each}"))
        for each, change in _table(table.pop("populations", {}), f"{where}: populations").items()
    )
    listed = _list(table.pop("campaigns", []), f"{where}: campaigns")
    campaigns = tuple(_campaign(_table(each, f"{where}: campaigns[{n}]")) for n, each in enumerate(listed))
    pools = {
        name: _pool(name, _table(pool, f"{where}: pools.{name}"))
        for name, pool in _table(table.pop("pools", {}), f"{where}: pools").items()
    }
    plain = _convert(Scenario, table, where)
    return replace(plain, populations=populations, campaigns=campaigns, pools=pools)


def demo_scenario(*, n_consumers: int = 3000) -> Scenario:
    """The demonstration: thirty days of a provider's ordinary traffic and one campaign, sized by its consumers."""
    scenario = load_scenario("demo")
    size = n_consumers / next(each.n_accounts for each in scenario.populations if each.name == "consumer")
    return replace(
        scenario,
        populations=tuple(replace(p, n_accounts=max(1, round(p.n_accounts * size))) for p in scenario.populations),
        campaigns=tuple(c.with_crew(n_accounts=max(2, round(c.crew.n_accounts * size))) for c in scenario.campaigns),
    )


@cache
def _library(name: str) -> dict[str, Any]:
    return _read(Path(str(files("stillwatch.sim") / "worlds" / f"{name}.toml")))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror or type(error).__name__) from error
    except RecursionError as error:
        raise SettingsError(f"{path} is not TOML", got="tables nested too deeply") from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise SettingsError(f"{path} is not TOML", got=str(error)) from error


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where} makes no sense", got=type(value).__name__, expected="a table")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise SettingsError(f"{where} makes no sense", got=type(value).__name__, expected="a list of tables")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{where} makes no sense", got=repr(value)[:60], expected="a name")
    return value


def _pool(name: str, table: Mapping[str, Any]) -> Pool:
    _check_keys(Pool, table, f"pool {name}")
    return _convert(Pool, table, f"pool {name}")


def _entry(library: str, name: str) -> dict[str, Any]:
    table = _library(library)
    if name not in table:
        raise SettingsError(f"there is no such block among the {library}", got=name, do=suggestion(name, [*table]))
    entry = dict(table[name])
    if like := entry.pop("like", None):
        entry = _merged(_entry(library, like), entry)
    return entry


def _population(name: str, change: Mapping[str, Any]) -> Population:
    """A population like the one of its name, or like the one its table names."""
    change = dict(change)
    like = _text(change.pop("like", name), f"population {name}: like")
    table = _merged(_entry("populations", like), change) | {"name": name}
    _check_keys(Population, table, f"population {name}")
    return _convert(Population, table, f"population {name}")


def _campaign(change: Mapping[str, Any]) -> Campaign:
    change = dict(change)
    like = change.pop("like", None)
    name = _text(change.pop("name", like), "a campaign's name")
    where = f"campaign {name}"
    if "crew" in change:
        _table(change["crew"], f"{where}: crew")
    table = _merged(_entry("campaigns", _text(like, f"{where}: like")), change) if like is not None else change
    tier = table.pop("tier", None)
    if tier is not None and type(tier) is not int:
        raise SettingsError(f"{where}: tier makes no sense", got=repr(tier)[:60], expected="0 to 3")
    crew = {"name": name, **table.get("crew", {})}
    if "like" in crew:
        crew = _merged(_entry("populations", _text(crew.pop("like"), f"{where}: crew.like")), crew)
    table["crew"] = crew
    _check_keys(Campaign, table, where)
    _check_keys(Population, table["crew"], where)
    made = _convert(Campaign, table, where)
    return made if tier is None else made.at_tier(tier)


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A table with changes; of the tables in it only a crew is changed key by key, unless it is like another."""
    merged = {**base, **change}
    if "crew" in base and "crew" in change and "like" not in change["crew"]:
        merged["crew"] = {**base["crew"], **change["crew"]}
    return merged


def _check_keys(kind: type, table: Mapping[str, Any], where: str) -> None:
    known: Sequence[str] = [each.name for each in fields(kind)]
    for name in table:
        if name not in known:
            raise SettingsError(f"{where}: there is no key {name!r}", do=suggestion(name, known))
    for place in ("system", "head", "tail"):
        if kind is Population and place in table:
            _check_keys(Frame, _table(table[place], f"{where}: {place}"), f"{where}: {place}")


def _convert(kind: type[Block], table: Mapping[str, Any], where: str) -> Block:
    try:
        return msgspec.convert(table, type=kind)
    except msgspec.ValidationError as error:
        raise _explained(where, str(error)) from None


def _explained(where: str, said: str) -> SettingsError:
    """What msgspec says of a value, as the key's path, what it got and what it expected."""
    found = COMPLAINT.fullmatch(said)
    if not found:
        return SettingsError(f"{where} makes no sense", got=said)
    key = (found["path"] or "").removeprefix("$").removeprefix(".")
    return SettingsError(
        f"{where}: {key} makes no sense" if key else f"{where} makes no sense",
        got=found["got"],
        expected=found["expected"],
    )
