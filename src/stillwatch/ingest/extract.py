"""extract: an importer's table put to work: records in, one list of values per canonical column out.

JSON is decoded by msgspec into types that hold nothing but the paths of the table, so that what nobody asked for is
skipped and not built. A record of another shape than the type (a number where an object belongs) is read patiently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from operator import attrgetter, itemgetter
from types import GenericAlias, NoneType
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from stillwatch.ingest.cast import CHAT
from stillwatch.ingest.chat import Turn, answer, conversation, n_tool_calls, parsed, prose, stop_reason
from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, Exploded, Importer, Place
from stillwatch.records import MESSAGE

FIRST = "0"
"""The key of a path that means: the first of a list."""

_ALWAYS = frozenset({"account_id", "ts", REQUEST})
"""Columns that are there though no row has a value."""

_BAD_VALUE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)

_OPENING = frozenset({answer, n_tool_calls, stop_reason})
"""Readers that first open JSON inside a text: where several look at one path, it is opened once for all."""

_TEXT = frozenset({str, NoneType})
_LISTS = frozenset({list, NoneType})
_PEEK = 64
_ROLE, _CONTENT, _FIRST_OF = attrgetter("role"), attrgetter("content"), itemgetter(0)


@dataclass(slots=True)
class Node:
    """One key of a record: taken whole, as `given` type, or a type of its own with the keys below it."""

    whole: bool = False
    given: Any = Any
    inner: dict[str, Node] = field(default_factory=dict)
    kind: Any = None
    decoder: msgspec.json.Decoder[Any] | None = None
    empty: Any = None

    @property
    def is_typed(self) -> bool:
        """Whether its value is decoded to a type of its own."""
        return bool(self.inner) and not self.whole

    @property
    def is_list(self) -> bool:
        """Whether its value is a list, of which the first item is looked at."""
        return set(self.inner) == {FIRST} and self.inner[FIRST].is_typed

    def compile(self) -> Any:
        """The type its value is decoded to: an object or a list, a text that may hold one, or nothing."""
        if not self.is_typed:
            return self.given
        if self.is_list:
            item = self.inner[FIRST]
            item.compile()
            self.kind, self.empty = GenericAlias(list, (item.kind,)), []
        else:
            # Names of attributes are numbered, since a key may be anything.
            fields = [(f"f{n}", child.compile(), None) for n, child in enumerate(self.inner.values())]
            rename = {f"f{n}": key for n, key in enumerate(self.inner)}
            self.kind = msgspec.defstruct("Record", fields, rename=rename, gc=False)
            self.empty = self.kind()
        self.decoder = msgspec.json.Decoder(self.kind)
        return self.kind | str | None


class Cells(NamedTuple):
    """Canonical columns of `n_rows` values each; `n_excluded` rows are no model call."""

    columns: dict[str, Any]
    n_rows: int
    n_excluded: int


class Found(NamedTuple):
    """Values of `n_rows` records each, by path."""

    values: dict[str, list[Any]]
    n_rows: int


class Extractor:
    """Reads the `wanted` canonical columns of an importer's records; `paths` are the places it looks at."""

    def __init__(self, importer: Importer, wanted: Iterable[str]) -> None:
        names = {*wanted, REQUEST, SPAN, ASIDE}
        self.importer = importer
        self.fields = {name: places for name, places in importer.fields.items() if name in names}
        places = [place.path for places in self.fields.values() for place in places]
        self.paths = list(dict.fromkeys([*places, *importer.only]))
        self._root = Node()
        if importer.explode is None:
            kinds = {place.path: place.kind for places in self.fields.values() for place in places}
            for path in self.paths:
                node = self._root
                for key in path.split("."):
                    node = node.inner.setdefault(key, Node())
                node.whole, node.given = True, kinds.get(path, Any)
                if path in importer.whole_keys:
                    self._root.inner.setdefault(path, Node(whole=True, given=kinds.get(path, Any)))
            self._root.compile()
        readers: dict[str, list[Any]] = {}
        for place in chain.from_iterable(self.fields.values()):
            readers.setdefault(place.path, []).append(place.read)
        self._opened = [path for path, given in readers.items() if len(given) > 1 and _OPENING.issuperset(given)]
        kind: Any = self._root.kind if importer.explode is None else importer.record
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind | list[kind])

    def shaped(self, record: Mapping[str, Any]) -> Any:
        """A record that was decoded to plain objects, as if it had been decoded to this extractor's type."""
        if self.importer.explode is not None:
            return msgspec.convert(record, self.importer.record, strict=False)
        return _shaped(record, self._root)

    def cells(self, records: Sequence[Any]) -> Cells:
        """The values of each canonical column: a list, of conversations an Arrow array."""
        return self.gathered([self.found(records)])

    def gathered(self, parts: Iterable[Found]) -> Cells:
        """The same of what was found in records part by part, so that few records are held at a time."""
        all_found: dict[str, list[Any]] = {}
        n_all = 0
        for found, n_rows in parts:
            for path in dict.fromkeys(chain(all_found, found)):
                values = found.get(path) or [None] * n_rows
                if path in all_found:
                    all_found[path] += values
                else:
                    all_found[path] = [None] * n_all + values if n_all else values
            n_all += n_rows
        return self._cells(all_found, n_all)

    def found(self, records: Sequence[Any]) -> Found:
        """The values at each path that records have."""
        if self.importer.explode is not None:
            return self.found_in(self.importer.explode(records, self.paths))
        found: dict[str, list[Any]] = {}
        _descend(self._root, records, "", found)
        return Found(found, len(records))

    def found_in(self, exploded: Exploded) -> Found:
        """The same of the flat rows that records were exploded to."""
        n_rows, columns = exploded
        return Found({path: list(columns[path]) for path in self.paths if path in columns}, n_rows)

    def _cells(self, found: dict[str, list[Any]], n_rows: int) -> Cells:
        kept = self._kept(found, n_rows)
        if kept is not None:
            found = {path: [values[row] for row in kept] for path, values in found.items()}
        for path in self._opened:
            if path in found:
                found[path] = list(map(parsed, found[path]))
        n_kept = n_rows if kept is None else len(kept)
        columns: dict[str, Any] = {}
        for ours, places in self.fields.items():
            values = _first(places, found)
            if values or ours in _ALWAYS:
                columns[ours] = values or [None] * n_kept
        if "messages" in columns:
            columns["messages"] = chats(columns["messages"])
        return Cells(columns, n_kept, n_rows - n_kept)

    def _kept(self, found: Mapping[str, list[Any]], n_rows: int) -> list[int] | None:
        kept: list[int] | None = None
        for path, values in self.importer.only.items():
            column = found.get(path, [])
            if any(value is not None and value not in values for value in column):
                kept = [
                    n for n in (range(n_rows) if kept is None else kept) if column[n] is None or column[n] in values
                ]
        return kept


def row(importer: Importer, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The canonical rows of one record, values as they go into `conform`; one, unless the importer explodes records."""
    extractor = Extractor(importer, importer.fields)
    cells = extractor.cells([extractor.shaped(record)]).columns
    columns = {name: values.to_pylist() if isinstance(values, pa.Array) else values for name, values in cells.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def chats(values: Sequence[Any]) -> Any:
    """Conversations as an Arrow array, built flat; as plain values where one holds what is no conversation."""
    if not set(map(type, values)) <= _LISTS:
        return list(map(_plain, values))
    turns = list(chain.from_iterable(filter(None, values)))
    are_all_told = all(values)
    ends = [0, *accumulate(map(len, values) if are_all_told else [len(value) if value else 0 for value in values])]
    try:
        roles = pa.array(list(map(_ROLE, turns)), pa.string())
        contents = pa.array(list(map(_CONTENT, turns)), pa.string())
    except (pa.ArrowException, *_BAD_VALUE):
        return list(map(_plain, values))
    starts = pa.array(ends, pa.int32(), mask=None if are_all_told else [*(not value for value in values), False])
    struct = pa.StructArray.from_arrays([roles, contents], fields=list(MESSAGE))
    return pa.ListArray.from_arrays(starts, struct).cast(CHAT)


def _plain(value: Any) -> Any:
    """A conversation without types of ours, so that `conform` reads it though another of its batch is none."""
    if type(value) is not list:
        return value
    return [{"role": one.role, "content": one.content} if type(one) is Turn else one for one in value]


def _shaped(value: Any, node: Node) -> Any:
    value = parsed(value)
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)  # a map of Arrow
    if node.is_list:
        return [_shaped(value[0], node.inner[FIRST])] if isinstance(value, list) and value else node.empty
    if not isinstance(value, Mapping):
        return node.empty
    given = [value.get(key) for key in node.inner]
    # A text that holds a record is left: it is decoded to what is asked for, when its column is taken apart.
    return node.kind(
        *(
            _shaped(one, child) if child.is_typed and type(one) is not str else one
            for one, child in zip(given, node.inner.values(), strict=True)
        )
    )


def _descend(node: Node, values: Sequence[Any], prefix: str, found: dict[str, list[Any]]) -> None:
    """Put the values at every path below a typed node into `found`; paths that no record has are left out."""
    columns = zip(*map(msgspec.structs.astuple, values), strict=True)
    for (key, child), column in zip(node.inner.items(), columns, strict=False):
        if column[0] is None and column.count(None) == len(column):
            continue
        if child.is_list:
            item = child.inner[FIRST]
            lists = _of_kind(list, column, child)
            firsts = list(map(_FIRST_OF, lists)) if all(lists) else [one[0] if one else item.empty for one in lists]
            _descend(item, firsts, f"{prefix}{key}.{FIRST}.", found)
        elif child.is_typed:
            _descend(child, _of_kind(child.kind, column, child), f"{prefix}{key}.", found)
        else:
            others = found.get(prefix + key)
            if others is None:
                found[prefix + key] = list(column)
            else:  # the same path, once as one key and once as several
                found[prefix + key] = [b if a is None else a for a, b in zip(column, others, strict=True)]
            if child.inner:
                _below(child, column, f"{prefix}{key}.", found)


def _of_kind(kind: Any, column: Sequence[Any], node: Node) -> Sequence[Any]:
    """The values as decoded; text among them that holds such a value opened, and whatever else is there left empty."""
    if set(map(type, column)) == {kind}:
        return column
    return [value if type(value) is kind else _typed(value, node) for value in column]


def _typed(value: Any, node: Node) -> Any:
    if isinstance(value, str) and node.decoder is not None:
        try:
            return node.decoder.decode(value)
        except _REFUSED:
            return _shaped(value, node)
    return node.empty


def _below(node: Node, values: Sequence[Any], prefix: str, found: dict[str, list[Any]]) -> None:
    """The paths below a value that is itself taken whole."""
    opened = [parsed(value) for value in values]
    for key, child in node.inner.items():
        if key == FIRST:
            column = [value[0] if isinstance(value, list) and value else None for value in opened]
        else:
            column = [value.get(key) if isinstance(value, dict) else None for value in opened]
        found[prefix + key] = column
        if child.inner:
            _below(child, column, f"{prefix}{key}.", found)


def _first(places: Sequence[Place], found: Mapping[str, list[Any]]) -> list[Any]:
    """Of each row the first value among `places`; an empty text is none. Empty where no row has any."""
    values: list[Any] = []
    for place in places:
        column = found.get(place.path, [])
        kinds = set(map(type, column))
        if kinds <= {NoneType}:
            continue
        if place.read is not None and not (place.read is prose and kinds <= _TEXT):
            column = _read(place, column, kinds)
            kinds = set(map(type, column))
        if str in kinds and "" in column:
            column = [None if type(value) is str and not value else value for value in column]
            kinds.add(NoneType)
        if values:
            values = [other if value is None else value for value, other in zip(values, column, strict=True)]
            kinds = set(map(type, values))
        else:
            values = column
        if NoneType not in kinds:
            break
    return values


def _read(place: Place, column: list[Any], kinds: set[type]) -> list[Any]:
    """What the reader of a place makes of every value; each text that stands on many rows is read once."""
    assert place.read is not None
    read = place.read
    if read is conversation and kinds <= _LISTS and _is_simple(column):
        return column if all(column) else [value or None for value in column]
    if msgspec.Raw in kinds:
        column = [bytes(value) if type(value) is msgspec.Raw else value for value in column]
    try:
        if (kinds <= _TEXT or kinds == {msgspec.Raw}) and 2 * len(set(column[:_PEEK])) <= _PEEK:
            known = {value: None if value is None else read(value) for value in set(column)}
            return list(map(known.__getitem__, column))
        return [None if value is None else read(value) for value in column]
    except _BAD_VALUE:
        return [_patiently(place, value) for value in column]


def _is_simple(conversations: Sequence[list[Any] | None]) -> bool:
    """Whether these conversations are nothing but turns of text, as their reader would leave them."""
    turns = list(chain.from_iterable(filter(None, conversations)))
    return set(map(type, turns)) <= {Turn} and set(map(type, map(_CONTENT, turns))) <= {str}


def _patiently(place: Place, value: Any) -> Any:
    """What cannot be read is handed on as it is, so that `conform` counts it as unreadable."""
    assert place.read is not None
    try:
        return None if value is None else place.read(value)
    except _BAD_VALUE:
        return value
