"""importer: one foreign log format as a table: for each canonical column, where a record of that format holds it.

    LITELLM = Importer(name="litellm", fields={"account_id": at("metadata.user_api_key_user_id", "user"), ...}, ...)

An importer is the pure function from a record to canonical values that its table spells out; `row` applies it to one
record, and `columns` to many at once, with the same result. Other packages add theirs under the entry-point group
`stillwatch.sources`, each entry naming an Importer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.records import EXCHANGES

GROUP = "stillwatch.sources"

REQUEST = "request_id"
"""Beside the canonical columns: the id that several logs of one request share, such as x-request-id."""

SPAN = "span"
"""Beside the canonical columns: an id that records of one call share within one system, such as a span and its events.

A record told aside goes by this id where it has one, so that an exchange may have both: its gateway's and its own.
"""

ASIDE = "aside"
"""Beside the canonical columns: true for a record that tells of a request whose exchange another log may hold."""

_OWN_MARK = "stillwatch"

_BUILT_IN = {
    name: f"stillwatch.ingest.formats.{module}:{name.upper()}"
    for name, module in {
        "litellm": "litellm",
        "spendlogs": "litellm",
        "openai": "openai",
        "otlp": "otlp",
        "envoy": "envoy",
        "langfuse": "langfuse",
        "langfuse_traces": "langfuse",
        "helicone": "helicone",
        "exchangelog": "exchangelog",
    }.items()
}


@dataclass(frozen=True, slots=True)
class Place:
    """A dotted path into a record (0 is the first of a list), and what makes the value there a canonical one.

    `kind` is the type msgspec decodes the value to; a record with another value there is read patiently.
    """

    path: str
    read: Callable[[Any], Any] | None = None
    kind: Any = Any


class Exploded(NamedTuple):
    """Flat rows as columns, by name, of `n_rows` values each."""

    n_rows: int
    columns: Mapping[str, pa.Array | list[Any]]


def at(*paths: str, read: Callable[[Any], Any] | None = None, kind: Any = Any) -> tuple[Place, ...]:
    """Places tried in this order; the first that holds a value counts."""
    return tuple(Place(path, read, kind) for path in paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """How one format is read.

    Attributes:
        name: what `--format` calls it. title: what people call it.
        marks: sets of dotted keys; a record that has all of any one set is taken for this format.
        fields: canonical column, REQUEST, SPAN or ASIDE -> places. only: path -> values; a record with another value
            there is no model call. A path that a record lacks excludes nothing.
        explode: where one record holds many exchanges: makes flat rows of records, with those columns that are wanted,
            whose names are then the paths. names: the names of all that these rows have.
        scan: the same rows of lines of plain JSON, without decoding them; None where they are to be decoded.
        parts: the exchanges inside a record, as records: each is read alone where the whole record cannot be.
        record: the type a record is decoded to where `explode` is given.
        whole_keys: paths that a record may also hold as one key with dots in its name.
        asides: dotted keys, one of which a sample shows where these logs hold records told aside.
        is_exchange: whether a record told aside that completes no exchange is one itself.
        switches: canonical column -> what to set in the program that writes these logs, for it to be there.
    """

    name: str
    title: str
    marks: tuple[tuple[str, ...], ...]
    fields: Mapping[str, tuple[Place, ...]]
    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    explode: Callable[[Sequence[Any], Collection[str]], Exploded] | None = None
    names: Callable[[Sequence[Any]], Iterable[str]] | None = None
    scan: Callable[[bytes, Collection[str]], Exploded | None] | None = None
    parts: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] | None = None
    record: Any = Any
    whole_keys: tuple[str, ...] = ()
    asides: tuple[str, ...] = ()
    is_exchange: bool = True
    switches: Mapping[str, str] = field(default_factory=dict)

    def mapped(self, mapping: Mapping[str, str]) -> Importer:
        """The importer that reads what `mapping` (theirs -> ours) names from where it says, and the rest as before."""
        named = {ours: at(theirs) for theirs, ours in mapping.items() if ours in EXCHANGES.names}
        whole_keys = tuple(theirs for theirs in mapping if "." in theirs)
        return replace(self, fields={**self.fields, **named}, whole_keys=(*self.whole_keys, *whole_keys))

    def matched(self, keys: Collection[str]) -> int:
        """How many keys the largest set of marks has that `keys` holds whole; 0 where none is held."""
        return max((len(mark) for mark in self.marks if set(mark) <= set(keys)), default=0)


@cache
def importers() -> Mapping[str, Importer]:
    """Every importer by name: ours, then those of other packages. Raises InputError for one that does not load."""
    found = {name: _load(name, where) for name, where in _BUILT_IN.items()}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name not in found:
            found[entry.name] = _load(entry.name, entry.value)
    return found


def _load(name: str, where: str) -> Importer:
    module, _, attribute = where.partition(":")
    try:
        importer = getattr(import_module(module), attribute.strip())
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the importer {name} does not load", got=str(error), do="Mend or uninstall the package that brings it"
        ) from error
    if not isinstance(importer, Importer):
        raise InputError(f"the importer {name} is none", got=type(importer).__name__, expected="an Importer")
    return importer


def named(name: str) -> Importer:
    """The importer called `name`. Raises InputError where there is none."""
    if name not in importers():
        raise InputError("no importer has this name", got=repr(name), expected=", ".join(sorted(importers())))
    return importers()[name]


def recognise(samples: Iterable[Collection[str]]) -> Importer | None:
    """The importer whose marks some record bears, by the dotted keys of each; the largest mark wins."""
    best: tuple[int, Importer] | None = None
    for keys in map(set, samples):
        if {"account_id", "ts"} <= keys and _OWN_MARK not in keys:
            continue  # already in our columns
        for importer in importers().values():
            size = importer.matched(keys)
            if size and (best is None or size > best[0]):
                best = size, importer
    return best[1] if best else None


def dotted(record: Mapping[str, Any], prefix: str = "", depth: int = 5) -> list[str]:
    """The dotted names of all keys in a record, to some depth."""
    keys = []
    for key, value in record.items():
        keys.append(f"{prefix}{key}")
        if depth > 1 and isinstance(value, Mapping):
            keys += dotted(value, f"{prefix}{key}.", depth - 1)
    return keys
