"""extract: an importer's table put to work: records in, one column of values per canonical column out.

Records of plain JSON are read from their tape; the rest is decoded by msgspec into types that hold nothing but the
paths of the table, so that what nobody asked for is skipped and not built. A record of another shape than the type (a
number where an object belongs) is read patiently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from stillwatch.ingest.cells import Column, chats, first, joined, listed, taken
from stillwatch.ingest.chat import answer, n_tool_calls, parsed, stop_reason
from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, Exploded, Importer
from stillwatch.ingest.nodes import Node, descend, shaped
from stillwatch.ingest.scanned import NotPlainError, Scanner, found_in
from stillwatch.records import EXCHANGES, TIMESTAMP

_ALWAYS = frozenset({"account_id", "ts", REQUEST})
"""Columns that are there though no row has a value."""

_OPENING = frozenset({answer, n_tool_calls, stop_reason})
"""Readers that first open JSON inside a text: where several look at one path, it is opened once for all."""


class Cells(NamedTuple):
    """Canonical columns of `n_rows` values each; `n_excluded` rows are no model call."""

    columns: dict[str, Any]
    n_rows: int
    n_excluded: int


class Found(NamedTuple):
    """Values of `n_rows` records each, by path."""

    values: dict[str, Column]
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
        self._scanner = Scanner(self._root)
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
        return shaped(record, self._root)

    def cells(self, records: Sequence[Any]) -> Cells:
        """The values of each canonical column: a list, of conversations an Arrow array."""
        return self.gathered([self.found(records)])

    def gathered(self, parts: Iterable[Found]) -> Cells:
        """The same of what was found in records part by part, so that few records are held at a time."""
        pieces: dict[str, list[Column | int]] = {}
        n_all = 0
        for found, n_rows in parts:
            for path in found:
                pieces.setdefault(path, [n_all])
            for path, columns in pieces.items():
                columns.append(found.get(path, n_rows))
            n_all += n_rows
        return self._cells({path: joined(columns) for path, columns in pieces.items()}, n_all)

    def scanned(self, lines: bytes) -> Found | None:
        """What is found in the records on some lines of plain JSON; None where they are to be decoded."""
        if self.importer.explode is not None:
            exploded = self.importer.scan(lines, self.paths) if self.importer.scan else None
            return None if exploded is None else self.found_in(exploded)
        try:
            return Found(*found_in(self._scanner, lines))
        except NotPlainError:
            return None

    def found(self, records: Sequence[Any]) -> Found:
        """The values at each path that records have."""
        if self.importer.explode is not None:
            return self.found_in(self.importer.explode(records, self.paths))
        found: dict[str, Column] = {}
        descend(self._root, records, "", found)
        return Found(found, len(records))

    def found_in(self, exploded: Exploded) -> Found:
        """The same of the flat rows that records were exploded to."""
        n_rows, columns = exploded
        return Found({path: columns[path] for path in self.paths if path in columns}, n_rows)

    def _cells(self, found: dict[str, Column], n_rows: int) -> Cells:
        kept = self._kept(found, n_rows)
        if kept is not None:
            found = {path: taken(values, kept) for path, values in found.items()}
        for path in self._opened:
            if path in found:
                found[path] = list(map(parsed, listed(found[path])))
        n_kept = n_rows if kept is None else len(kept)
        columns: dict[str, Any] = {}
        for ours, places in self.fields.items():
            values = first(places, found)
            if len(values) or ours in _ALWAYS:
                columns[ours] = _given(ours, values) if len(values) else [None] * n_kept
        return Cells(columns, n_kept, n_rows - n_kept)

    def _kept(self, found: Mapping[str, Column], n_rows: int) -> list[int] | None:
        kept: list[int] | None = None
        for path, values in self.importer.only.items():
            column = listed(found.get(path, []))
            if any(value is not None and value not in values for value in column):
                kept = [
                    n for n in (range(n_rows) if kept is None else kept) if column[n] is None or column[n] in values
                ]
        return kept


def _given(ours: str, values: Column) -> Any:
    """A canonical column as `conform` and `join` take it: numbers as an array only where numbers belong."""
    if ours == "messages":
        return chats(values)
    kind = EXCHANGES.field(ours).type if ours in EXCHANGES.names else None
    fits = kind in (pa.int64(), pa.float64(), TIMESTAMP) or getattr(values, "type", None) in (pa.string(), kind)
    return values if fits and kind is not None else listed(values)


def row(importer: Importer, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The canonical rows of one record, values as they go into `conform`; one, unless the importer explodes records."""
    extractor = Extractor(importer, importer.fields)
    cells = extractor.cells([extractor.shaped(record)]).columns
    columns = {name: values.to_pylist() if isinstance(values, pa.Array) else values for name, values in cells.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
