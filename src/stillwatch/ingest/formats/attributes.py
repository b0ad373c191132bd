"""attributes: the attributes of many spans or log records as columns, whatever they were encoded in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

Wanted = Collection[str]
"""Names of attributes that are looked at: an attacker may send as many others as there are bytes."""

OPERATION = "gen_ai.operation.name"
NO_CALLS = frozenset(
    "execute_tool invoke_agent create_agent invoke_workflow retrieval search_memory plan execute_task".split()
)
CALLS = frozenset(
    [
        OPERATION, "gen_ai.request.model", "gen_ai.response.model", "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
    ]
)  # fmt: skip
"""Attributes one of which every span of a model call has."""

NUMBERED = re.compile(r"(gen_ai\.(?:prompt|completion)|llm\.request\.functions)\.(\d+)\.(\w+)")
"""Attributes over which old libraries spread a list: gen_ai.prompt.0.content and so on."""

FIRST_NUMBERED = frozenset(
    "gen_ai.prompt.0.role gen_ai.prompt.0.content gen_ai.completion.0.content gen_ai.completion.0.role "
    "llm.request.functions.0.name".split()
)


class Attributes(NamedTuple):
    """What spans or log records say of themselves.

    `are_calls`: which tell of a model call; `columns`: the wanted attributes of these, by name, one value for each
    row, None where it has none; `numbered`: of each row the attributes that old libraries number.
    """

    are_calls: list[bool]
    columns: dict[str, Any]
    numbered: list[Mapping[str, Any]]


NO_ATTRIBUTES = Attributes([], {}, [])
NOT_NUMBERED: Mapping[str, Any] = {}


def of_rows(rows: Sequence[Mapping[str, Any]], are_calls: Sequence[bool], wanted: Wanted) -> Attributes:
    """The same of rows that are mappings; of what is no call nothing is told."""
    told = [row if is_call else NOT_NUMBERED for row, is_call in zip(rows, are_calls, strict=True)]
    there = dict.fromkeys(chain.from_iterable(told))
    columns = {name: [row.get(name) for row in told] for name in there if name in wanted}
    return Attributes(list(are_calls), columns, list(map(numbered_in, told)))


def is_call(attributes: Mapping[str, Any]) -> bool:
    """Whether somebody with these attributes tells of a model call."""
    return is_calling(attributes.get(OPERATION)) and not CALLS.isdisjoint(attributes)


def is_calling(operation: Any) -> bool:
    """Whether an operation may be a model call; an attacker may name it by a list."""
    return type(operation) is not str or operation not in NO_CALLS


def are_numbered(names: Collection[str]) -> bool:
    """Whether some of these names are numbered ones."""
    return not FIRST_NUMBERED.isdisjoint(names)


def numbered_in(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbered attributes of a row."""
    return {name: row[name] for name in row if NUMBERED.fullmatch(name)} if are_numbered(row) else NOT_NUMBERED


def joined(parts: Sequence[Attributes]) -> Attributes:
    """Several, one after the other."""
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    for part in parts:
        n_part = len(part.are_calls)
        for name in dict.fromkeys(chain(columns, part.columns)):
            column = columns.setdefault(name, [None] * n_rows)
            column += part.columns.get(name) or [None] * n_part
        n_rows += n_part
    return Attributes(
        list(chain.from_iterable(part.are_calls for part in parts)), columns,
        list(chain.from_iterable(part.numbered for part in parts)),
    )  # fmt: skip
