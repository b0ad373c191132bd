"""nodes: the paths of an importer's table as a tree, the types records are decoded to, and what stands at each path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from types import GenericAlias
from typing import Any

import msgspec

from stillwatch.ingest.chat import parsed

FIRST = "0"
"""The key of a path that means: the first of a list."""

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)
_FIRST_OF = itemgetter(0)


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


def shaped(value: Any, node: Node) -> Any:
    """A value that was decoded to plain objects, as if it had been decoded to the type of its node."""
    value = parsed(value)
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)  # a map of Arrow
    if node.is_list:
        return [shaped(value[0], node.inner[FIRST])] if isinstance(value, list) and value else node.empty
    if not isinstance(value, Mapping):
        return node.empty
    given = [value.get(key) for key in node.inner]
    # A text that holds a record is left: it is decoded to what is asked for, when its column is taken apart.
    return node.kind(
        *(
            shaped(one, child) if child.is_typed and type(one) is not str else one
            for one, child in zip(given, node.inner.values(), strict=True)
        )
    )


def descend(node: Node, values: Sequence[Any], prefix: str, found: dict[str, list[Any]]) -> None:
    """Put the values at every path below a typed node into `found`; paths that no record has are left out."""
    columns = zip(*map(msgspec.structs.astuple, values), strict=True)
    for (key, child), column in zip(node.inner.items(), columns, strict=False):
        if column[0] is None and column.count(None) == len(column):
            continue
        if child.is_list:
            item = child.inner[FIRST]
            lists = _of_kind(list, column, child)
            firsts = list(map(_FIRST_OF, lists)) if all(lists) else [one[0] if one else item.empty for one in lists]
            descend(item, firsts, f"{prefix}{key}.{FIRST}.", found)
        elif child.is_typed:
            descend(child, _of_kind(child.kind, column, child), f"{prefix}{key}.", found)
        else:
            others = found.get(prefix + key)
            if others is None:
                found[prefix + key] = list(column)
            else:  # the same path, once as one key and once as several
                found[prefix + key] = [b if a is None else a for a, b in zip(column, others, strict=True)]
            if child.inner:
                below(child, column, f"{prefix}{key}.", found)


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
            return shaped(value, node)
    return node.empty


def below(node: Node, values: Sequence[Any], prefix: str, found: dict[str, list[Any]]) -> None:
    """The paths below a value that is itself taken whole."""
    opened = [parsed(value) for value in values]
    for key, child in node.inner.items():
        if key == FIRST:
            column = [value[0] if isinstance(value, list) and value else None for value in opened]
        else:
            column = [value.get(key) if isinstance(value, dict) else None for value in opened]
        found[prefix + key] = column
        if child.inner:
            below(child, column, f"{prefix}{key}.", found)
