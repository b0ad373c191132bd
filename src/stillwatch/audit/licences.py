"""licences: known data sets with licence, teacher and terms, and where what is declared does not go with them.

A licence and a provider's terms are two things: a licence goes with the data, terms bind whoever accepted them when
the answers were collected. Both are reported, neither is a legal opinion.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from stillwatch.errors import InputError

UNSTATED = "not stated"
_NONCOMMERCIAL, _SHARE_ALIKE, _NO_DERIVATIVES = (
    "non-commercial use only",
    "same licence for derivatives",
    "no derivatives",
)
_FAMILIES = (
    (r"apache", "Apache-2.0"),
    (r"\bmit\b", "MIT"),
    (r"bsd[ -]?3", "BSD-3-Clause"),
    (r"bsd[ -]?2", "BSD-2-Clause"),
    (r"\bcc0|zero/1\.0|publicdomain", "CC0-1.0"),
    (r"odc[- ]?by|open data commons attribution", "ODC-BY-1.0"),
    (r"\bodbl\b", "ODbL-1.0"),
    (r"\bcdla-permissive-2", "CDLA-Permissive-2.0"),
)
_SPELT = (
    (r"(?:creative commons |^)attribution(?=[ -](?:non|no|share|\d))", "cc by"),
    (r"\bnon-?commercial\b", "nc"),
    (r"\bshare-?alike\b", "sa"),
    (r"\bno-?deriv(?:ative)?s\b", "nd"),
)
"""How the names of Creative Commons licences are written out, at the head of their texts for one."""


@dataclass(frozen=True, slots=True)
class Known:
    """One known data set; `files` are its rows where they are at hand, next to the register that names it."""

    name: str
    licence: str = UNSTATED
    teacher: str = UNSTATED
    terms: str = ""
    also: tuple[str, ...] = ()
    made_from: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """A provider's terms on what its answers may be used for."""

    id: str
    provider: str = UNSTATED
    restricts: str = UNSTATED


@dataclass(frozen=True, slots=True)
class Register:
    """Known data sets and terms; later entries of one name win over earlier ones."""

    datasets: tuple[Known, ...] = ()
    terms: Mapping[str, Terms] = field(default_factory=dict)

    def plus(self, other: Register) -> Register:
        """Both, the other one's entries first in force."""
        mine = {known.name: known for known in self.datasets} | {known.name: known for known in other.datasets}
        return Register(tuple(mine.values()), {**self.terms, **other.terms})

    def find(self, names: Iterable[str]) -> Known | None:
        """The data set that goes by one of these names, the latest entry first."""
        wanted = {_plain(name) for name in names} - {""}
        for known in reversed(self.datasets):
            if wanted & {_plain(name) for name in (known.name, *known.also)}:
                return known
        return None

    def with_files(self) -> list[Known]:
        """The data sets whose rows are at hand."""
        return [known for known in self.datasets if known.files]


def shipped() -> Register:
    """The register that comes with the package."""
    return _parsed(tomllib.loads((files("stillwatch.audit") / "known.toml").read_text("utf-8")), Path(), "known.toml")


def load_register(path: Path) -> Register:
    """Read a register: TOML or JSON with `dataset` (and `terms`) tables; `files` are relative to it.

    Raises InputError where it cannot be read, a key is unknown, or a file it names is absent.
    """
    try:
        text = path.read_text("utf-8-sig")
        tree = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read the register {path}", got=error.strerror or "an error") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no register", got=" ".join(str(error).split())[:120], expected="TOML or JSON"
        ) from error
    return _parsed(tree, path.parent, str(path))


def spdx(text: str | None) -> str:
    """The SPDX name of a licence however it is written; the text itself where it is none we know.

    >>> spdx("cc by-nc 4.0"), spdx("Apache License, Version 2.0"), spdx(None)
    ('CC-BY-NC-4.0', 'Apache-2.0', 'not stated')
    >>> spdx("Attribution-NonCommercial-ShareAlike 3.0 Unported")
    'CC-BY-NC-SA-3.0'
    """
    text = (text or "").strip()
    low = re.sub(r"[_\u2010-\u2015]", "-", text.lower())
    if low in ("", "unknown", "other", "none", UNSTATED):
        return UNSTATED
    for pattern, short in _SPELT:
        low = re.sub(pattern, short, low)
    creative = re.search(
        r"(?:\bcc|creativecommons\.org/licenses/|creative commons)[ /-]*(by(?:[ -](?:nc|sa|nd))*)[ /-]*v?(\d\.\d)?", low
    )
    if creative:
        return "CC-" + re.sub(r"[ -]+", "-", creative[1]).upper() + f"-{creative[2] or '4.0'}"
    return next((name for pattern, name in _FAMILIES if re.search(pattern, low)), text)


def conditions(licence: str) -> list[str]:
    """What a licence asks of whoever uses the data, as far as its name says it."""
    parts = spdx(licence).split("-")
    rules = {"NC": _NONCOMMERCIAL, "SA": _SHARE_ALIKE, "ND": _NO_DERIVATIVES}
    return [rule for mark, rule in rules.items() if mark in parts] + ([_SHARE_ALIKE] if parts[0] == "ODbL" else [])


def conflict(declared: str, source: str) -> str | None:
    """How a declared licence departs from that of the data it holds; None where they are the same or one is unknown.

    >>> conflict("MIT", "CC-BY-NC-4.0")
    'declared MIT, but CC-BY-NC-4.0 asks: non-commercial use only'
    """
    ours, theirs = spdx(declared), spdx(source)
    if ours == theirs or UNSTATED in (ours, theirs):
        return None
    dropped = [rule for rule in conditions(theirs) if rule not in conditions(ours) or rule == _SHARE_ALIKE]
    if dropped:
        return f"declared {ours}, but {theirs} asks: {', '.join(dropped)}"
    return f"declared {ours}, while this part is under {theirs}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _parsed(tree: Any, folder: Path, where: str) -> Register:
    if not isinstance(tree, dict) or not set(tree) <= {"dataset", "terms"} or not tree:
        raise InputError(f"{where} is no register", expected="tables called dataset and terms")
    if not all(isinstance(entries, list) for entries in tree.values()):
        raise InputError(f"{where}: an entry is not understood", expected="lists of tables")
    terms = [_entry(Terms, entry, where) for entry in tree.get("terms", [])]
    datasets = [_known(entry, folder, where) for entry in tree.get("dataset", [])]
    return Register(tuple(datasets), {one.id: one for one in terms})


def _known(entry: Any, folder: Path, where: str) -> Known:
    known = _entry(Known, entry, where)
    paths = tuple(folder / name for name in known.files)
    for path in paths:
        if not path.exists():
            raise InputError(f"{where}: {known.name} names a file that is not there", got=str(path))
    values = {one.name: getattr(known, one.name) for one in fields(Known)}
    return Known(**values | {"files": paths, "licence": spdx(known.licence)})


def _entry(kind: type[Any], entry: Any, where: str) -> Any:
    known = {one.name: one for one in fields(kind)}
    if isinstance(entry, dict) and "licence" in known and "license" in entry:
        entry = {"licence" if name == "license" else name: value for name, value in entry.items()}
    if not isinstance(entry, dict) or not set(entry) <= set(known) or not ({"name", "id"} & set(entry)):
        got = ", ".join(map(str, entry)) if isinstance(entry, dict) else str(entry)
        raise InputError(f"{where}: an entry is not understood", got=got[:120], expected=", ".join(known))
    for name, value in entry.items():
        is_list = known[name].default == ()
        sound = (
            isinstance(value, list) and all(isinstance(part, str) for part in value)
            if is_list
            else isinstance(value, str)
        )
        if not sound:
            raise InputError(f"{where}: {name} has the wrong type", got=repr(value)[:80])
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()})


def names_of(paths: Sequence[Path], declared: str | None) -> list[str]:
    """What a data set may go by: its declared name, and the names of its files and of the folder they lie in."""
    found = [declared] if declared else []
    for path in paths:
        found += [
            path.name if path.is_dir() else path.name.split(".")[0],
            path.absolute().parent.name if path.is_file() else path.name,
        ]
    return list(dict.fromkeys(found))
