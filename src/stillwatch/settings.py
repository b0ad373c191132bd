"""settings: one frozen tree, read from stillwatch.toml, the environment and the command line.

A section is a frozen dataclass, an option is a field of it; the file, the variables' names and the checks all follow
from the fields. `[scan] threads = 4` in the file, `STILLWATCH_SCAN_THREADS=4` in the environment and
`{"scan.threads": 4}` from the command line name the same option; the command line wins over the environment, the
environment over the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from stillwatch.errors import SettingsError

SETTINGS_FILE = "stillwatch.toml"
ENVIRONMENT_PREFIX = "STILLWATCH_"

Number = TypeVar("Number", int, float)


def _option(
    default: Number, *, at_least: float = -math.inf, at_most: float = math.inf, moves_findings: bool = True
) -> Number:
    """Declare an option with its range; `moves_findings=False` leaves it out of the fingerprint."""
    return field(default=default, metadata={"at_least": at_least, "at_most": at_most, "moves_findings": moves_findings})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """How a scan runs. Threads, memory and partitions change its time, never its findings."""

    seed: int = _option(0, at_least=0, at_most=2**63 - 1)
    """Seed of every random choice; with the rows, the key and the settings it fixes each byte of the findings."""

    threads: int = _option(2, at_least=1, at_most=1024, moves_findings=False)
    """Worker threads of the pass over exchanges."""

    memory_mb: int = _option(512, at_least=64, moves_findings=False)
    """Mebibytes the shuffled facts may hold before they spill to disk."""

    partitions: int = _option(16, at_least=1, at_most=4096, moves_findings=False)
    """Parts the accounts are shuffled into; one part at a time is held in memory."""

    n_min_accounts: int = _option(12, at_least=2)
    """Accounts of the smallest group that is weighed; fewer agree by kinship and chance too often."""

    n_min_population: int = _option(200, at_least=0)
    """Accounts below which the answer is "cannot tell": too few ordinary ones to measure a null on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What a group must reach to be reported, and an account to be named a member. They stand nowhere else."""

    q_max: float = _option(0.001, at_least=0.0, at_most=1.0)
    """Largest e-BH q value: the share of false campaigns among those reported is at most this."""

    operator_bits_min: float = _option(10.0, at_least=0.0)
    """Fewest bits that one operator holds the accounts."""

    harvest_bits_min: float = _option(10.0, at_least=0.0)
    """Fewest bits that the pooled traffic serves training."""

    innocent_margin_bits_min: float = _option(7.0, at_least=0.0)
    """Fewest bits by which a campaign beats the best innocent explanation."""

    membership_min: float = _option(0.9, at_least=0.0, at_most=1.0)
    """Smallest calibrated probability at which an account is named a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole tree; every section has working defaults."""

    scan: ScanSettings = field(default_factory=ScanSettings)
    bars: Bars = field(default_factory=Bars)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The tree as plain values, fit for run.json."""
        return asdict(self)

    def fingerprint(self) -> str:
        """Name the settings that can move a finding: SHA-256, in hex, of their canonical JSON.

        >>> Settings().fingerprint() == Settings(scan=ScanSettings(threads=8)).fingerprint()
        True
        >>> Settings().fingerprint() == Settings(bars=Bars(q_max=0.01)).fingerprint()
        False
        """
        moving = {
            section: {
                option.name: getattr(values, option.name)
                for option in fields(values)
                if option.metadata["moves_findings"]
            }
            for section, values in ((found.name, getattr(self, found.name)) for found in fields(self))
        }
        return hashlib.sha256(json.dumps(moving, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Read the settings: defaults, then the file, then the environment, then the command line.

    Args:
        path: a TOML file, or None for none.
        environ: the environment; only `STILLWATCH_<SECTION>_<OPTION>` is looked at, and empty means "not given".
        overrides: `section.option` to value, as the command line gave them; None means "not given".

    Raises:
        SettingsError: the file cannot be read, or a name or a value makes no sense; the nearest valid name is given.
    """
    settings = Settings()
    given = chain(_in_file(path), _in_environment(environ or {}), _in_overrides(overrides or {}))
    for where, section, option, value in given:
        values = _named(settings, section, where=where, kind="section")
        current = _named(values, option, where=where, kind=f"option of [{section}]")
        checked = _checked(values, option, value, kind=type(current), where=f"{where}: {section}.{option}")
        settings = replace(settings, **{section: replace(values, **{option: checked})})
    return settings


def suggestion(name: str, known: Sequence[str]) -> str:
    """What to write instead of an unknown name: the nearest that is known, else all of them.

    >>> suggestion("thraeds", ["seed", "threads"])
    'Did you mean threads?'
    """
    nearest = get_close_matches(name, known, n=1)
    return f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(known)}."


Given = tuple[str, str, str, object]
"""Where an option was given, its section, its name and its value."""


def _in_file(path: Path | None) -> Iterator[Given]:
    for section, table in (_read_toml(path) if path else {}).items():
        if not isinstance(table, dict):
            raise SettingsError(
                f"{path}: {section} stands outside a section", do="Write it below its section, such as [scan]."
            )
        # An unknown section is refused even where it is empty.
        _named(Settings(), section, where=str(path), kind="section")
        for option, value in table.items():
            yield str(path), section, option, value


def _in_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    for section in fields(Settings):
        prefix = f"{ENVIRONMENT_PREFIX}{section.name.upper()}_"
        for name in sorted(environ):
            if name.startswith(prefix) and environ[name]:
                yield name, section.name, name.removeprefix(prefix).lower(), _parsed(environ[name])


def _in_overrides(overrides: Mapping[str, object]) -> Iterator[Given]:
    for name, value in overrides.items():
        if value is not None:
            section, _, option = name.partition(".")
            yield "command line", section, option, _parsed(value) if isinstance(value, str) else value


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read", got=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML", got=str(error)) from error


def _named(tree: Any, name: str, *, where: str, kind: str) -> Any:
    """The section or the option of this name; a name that is not there is an error that suggests the nearest."""
    known = [found.name for found in fields(tree)]
    if name not in known:
        raise SettingsError(f"{where}: no {kind} is called {name!r}", do=suggestion(name, known))
    return getattr(tree, name)


def _checked(values: Any, option: str, value: object, *, kind: type, where: str) -> object:
    """The value as the option's own type, if it has that type and is in range."""
    accepted = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted) or not math.isfinite(value):
        expected = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{where} has the wrong type", got=repr(value), expected=expected)
    limits = next(found.metadata for found in fields(values) if found.name == option)
    if not limits["at_least"] <= value <= limits["at_most"]:
        expected = f"from {limits['at_least']} to {limits['at_most']}"
        raise SettingsError(f"{where} is out of range", got=repr(value), expected=expected)
    return kind(value)


def _parsed(text: str) -> object:
    """A number where the text is one, else the text, which no option takes."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
