"""otlp: OpenTelemetry's GenAI spans and events, as OTLP in JSON or protobuf, under old and new attribute names.

A span of a model call is an exchange. A log record of the same call, which may carry the content, completes it: both
name the span. Spans of agents, tools and plain HTTP are no model calls. The names follow the semantic conventions for
generative AI (`semantic-conventions-genai`, docs/gen-ai) and, before them, versions 1.28 to 1.36 and OpenLLMetry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import pyarrow as pa

from stillwatch.ingest.cells import Column, listed
from stillwatch.ingest.chat import (
    any_address,
    cached_tool_names,
    operation,
    outer_address,
    status,
    stop_reason,
    tool_names,
)
from stillwatch.ingest.formats.attributes import (
    NO_ATTRIBUTES,
    Wanted,
    is_call,
    joined,
    numbered_in,
    of_rows,
)
from stillwatch.ingest.formats.genai import answers, conversations, numbered_lists, with_systems
from stillwatch.ingest.formats.litellm import somebody
from stillwatch.ingest.formats.spans import spans as scanned
from stillwatch.ingest.formats.wire import Calls, Export, Told, logs, rows, spans
from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, Exploded, Importer, at

_DETAILS = "gen_ai.client.inference.operation.details"
_TURNS = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_CHOICE = "gen_ai.choice"
_TEXTS = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")
_LOGS = attrgetter("resourceLogs")
_FUNCTIONS = "llm.request.functions"
_DERIVED = ("call", "ts", "place", "status", "aside", "turns", "said", "calls", "stop")
_READ = frozenset(
    "gen_ai.system_instructions gen_ai.input.messages gen_ai.output.messages gen_ai.prompt gen_ai.completion".split()
)
"""Attributes that the derived columns are made of."""


def explode(exports: Sequence[Export], wanted: Wanted) -> Exploded:
    """The spans and log records of exports, in their order: see `called`."""
    names = needed(wanted)
    if not any(map(_LOGS, exports)):
        return called(spans(exports, names), names)
    parts = [part for export in exports for part in (spans([export], names), told_in(logs(export), names))]
    return called(together(parts), names)


def scan(lines: bytes, wanted: Wanted) -> Exploded | None:
    """The same of exports of spans on lines of plain JSON; None where they are to be decoded."""
    names = needed(wanted)
    told = scanned(lines, names)
    return None if told is None else called(told, names)


def needed(wanted: Wanted) -> Wanted:
    """The attributes to look at for these columns, those among them that `called` makes of others."""
    return _READ.union(wanted)


def names(exports: Sequence[Export]) -> list[str]:
    """The names of the attributes of calls, and of the columns made of them."""
    records = chain.from_iterable(map(logs, exports))
    return names_in(chain(rows(exports), (log.attributes for log in records)))


def parts(export: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """An export of each span and log record in an export; a malformed one shall cost no other."""
    for top, middle, bottom in (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")):
        for resource in _objects(export.get(top)):
            for scope in _objects(resource.get(middle)):
                items = scope.get(bottom)
                for item in items if isinstance(items, list) else ():
                    yield {top: [{middle: [{bottom: [item]}]}]}


def _objects(value: Any) -> list[Any]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def names_in(attributes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names among these attributes of spans and log records that tell of calls."""
    return [*dict.fromkeys(chain.from_iterable(one for one in attributes if is_call(one))), *_DERIVED]


def together(parts: Sequence[Calls]) -> Calls:
    """What several exports tell, as one."""
    if not parts:
        return Calls([], [], [], NO_ATTRIBUTES, [], [])
    places, times, states, attributes, events, are_aside = zip(*parts, strict=True)
    lists: Any = (list(chain.from_iterable(columns)) for columns in (places, times, states, events, are_aside))
    places, times, states, events, are_aside = lists
    return Calls(places, times, states, joined(attributes), events, are_aside)


def told_in(records: Iterable[Told], wanted: Wanted) -> Calls:
    """The log records of one export: each of a whole call, and each call told turn by turn, is one row.

    What is no model call is one too, without attributes.
    """
    told: list[tuple[Any, ...]] = []
    by_turns: dict[str, list[Told]] = {}
    for log in records:
        if log.name == _DETAILS or (log.name not in (*_TURNS, _CHOICE) and is_call(log.attributes)):
            told.append((log.place, log.ts, True, log.attributes, []))
        elif (log.name in _TURNS or log.name == _CHOICE) and log.place:
            by_turns.setdefault(log.place, []).append(log)
        else:
            told.append((log.place, log.ts, False, {}, []))
    for turns in by_turns.values():
        events = [(one.name, one.body if isinstance(one.body, dict) else one.attributes) for one in turns]
        told.append((turns[0].place, turns[0].ts, True, {}, events))
    if not told:
        return together([])
    columns: Any = map(list, zip(*told, strict=True))
    places, times, are_calls, rows, events = columns
    return Calls(places, times, [None] * len(told), of_rows(rows, are_calls, wanted), events, [True] * len(told))


def called(told: Calls, wanted: Wanted) -> Exploded:
    """The attributes of each, and beside them the columns call, ts, place, status, aside, turns, of the answer
    said, calls and stop, and tools."""
    are_calls, columns, numbered = told.attributes
    n_rows = len(are_calls)
    turns: list[Any] = []
    choices: list[Any] = []
    if any(told.events):
        turns, choices = _events(told, wanted)
    lists: list[dict[str, Any]] = []
    if any(numbered):
        lists = list(map(numbered_lists, numbered))
        tools = columns.get("tools") or [None] * n_rows
        columns["tools"] = [one.get(_FUNCTIONS, other) for one, other in zip(lists, tools, strict=True)]

    def first_of(name: str, old: str, told_by_events: list[Any]) -> Column:
        in_lists = [one.get(old) for one in lists]
        given = (columns.get(name), in_lists, columns.get(old), told_by_events)
        return _first_of([column for column in given if column is not None and len(column)], n_rows)

    turns = conversations(first_of("gen_ai.input.messages", "gen_ai.prompt", turns))
    if "gen_ai.system_instructions" in columns:
        turns = with_systems(turns, columns["gen_ai.system_instructions"])
    said, calls, stops = answers(first_of("gen_ai.output.messages", "gen_ai.completion", choices))
    derived: dict[str, Column] = {
        "call": ["yes" if is_call else "no" for is_call in are_calls], "ts": told.times, "place": told.places,
        "status": told.states, "aside": told.are_aside, "turns": turns, "said": said, "calls": calls, "stop": stops,
    }  # fmt: skip
    return Exploded(n_rows, columns | derived)


def _first_of(columns: Sequence[Column], n_rows: int) -> Column:
    """Of each row the first value that says something; an empty tuple where none does."""
    if len(columns) == 1 and isinstance(columns[0], pa.Array):
        return columns[0]
    found: list[Any] = [()] * n_rows
    for column in map(listed, reversed(columns)):
        found = list(column) if all(column) else [a or b for a, b in zip(column, found, strict=True)]
    return found


def _events(told: Calls, wanted: Wanted) -> tuple[list[Any], list[Any]]:
    """The turns and choices that events tell; what else generative AI says on them is put among the attributes."""
    n_rows = len(told.events)
    are_calls, columns, numbered = told.attributes
    turns: list[Any] = [()] * n_rows
    choices: list[Any] = [()] * n_rows
    for row, events in enumerate(told.events):
        if not are_calls[row]:
            continue
        turns[row] = [
            {"role": body.get("role", _TURNS[name]), "content": body.get("content")}
            for name, body in events
            if name in _TURNS
        ]
        choices[row] = [body for name, body in events if name == _CHOICE]
        for more in (body for name, body in events if name not in _TURNS and name != _CHOICE):
            numbered[row] = {**numbered[row], **numbered_in(more)}
            for key in more:
                if key in wanted and key.startswith("gen_ai."):
                    columns.setdefault(key, [None] * n_rows)[row] = more[key]
    return turns, choices


def offered(value: Any) -> Any:
    """The names of the tools a request offers, as definitions or as the JSON text of them."""
    if type(value) is not str:
        return tool_names(value)
    names = cached_tool_names(value)
    return value if names is None else list(names)


def request_id(value: Any) -> Any:
    """x-request-id as a header attribute (a list) or inside LiteLLM's copy of the headers (a text)."""
    if isinstance(value, list):
        return value[0] if value else None
    if isinstance(value, str) and value.startswith("{"):
        # Name after value, as Python writes them: what looks like a name inside another header's value is none.
        texts = [one or other for one, other in _TEXTS.findall(value)] if "x-request-id" in value else []
        return next((said for name, said in zip(texts[::2], texts[1::2], strict=False) if name == "x-request-id"), None)
    return value


OTLP = Importer(
    name="otlp",
    title="OpenTelemetry GenAI (OTLP)",
    marks=(("resourceSpans",), ("resourceLogs",)),
    explode=explode,
    scan=scan,
    names=names,
    parts=parts,
    record=Export,
    only={"call": ("yes",)},
    asides=("resourceLogs",),
    fields={
        "account_id": at(
            "user.id", "metadata.user_api_key_user_id", "metadata.user_api_key_team_id",
            "metadata.user_api_key_org_id", "metadata.user_api_key_hash", "enduser.id", "enduser.pseudo.id",
            read=somebody,
        ),
        "ts": at("ts"),
        "exchange_id": at("litellm.call_id", "gen_ai.response.id", "gen_ai.request.id", "place"),
        "api_key_id": at("metadata.user_api_key_hash"),
        "end_user": at("enduser.id", "enduser.pseudo.id", "llm.user", "metadata.user_api_key_end_user_id"),
        "session_id": at("gen_ai.conversation.id", "session.id"),
        "model": at("litellm.model_group", "gen_ai.request.model", "gen_ai.response.model"),
        "access_path": at("gen_ai.operation.name", "llm.request.type", "http.route", read=operation),
        "status": at("http.response.status_code", "status", read=status),
        "messages": at("turns"),
        "completion": at("said"),
        "input_tokens": at("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "output_tokens": at("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "reasoning_tokens": at("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
        "max_tokens": at("gen_ai.request.max_tokens", "llm.request.max_tokens"),
        "temperature": at("gen_ai.request.temperature"),
        "tool_names": at("gen_ai.tool.definitions", "tools", read=offered),
        "tool_calls": at("calls"),
        "stop_reason": at("gen_ai.response.finish_reasons", "stop", read=stop_reason),
        "ip": (
            *at("client.address", "metadata.requester_ip_address", read=outer_address),
            *at("client.address", "metadata.requester_ip_address", read=any_address),
        ),
        "user_agent": at("user_agent.original", "metadata.user_agent"),
        "tls_fingerprint": at("tls.client.ja4", "tls.client.ja3"),
        REQUEST: at("http.request.header.x-request-id", "metadata.requester_custom_headers", read=request_id),
        SPAN: at("place"),
        ASIDE: at("aside"),
    },
    switches={
        "account_id": "set the span attribute user.id to the paying account (enduser.id is somebody else's user)",
        "prompt": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true; with LiteLLM also "
        "USE_OTEL_LITELLM_REQUEST_SPAN=true",
        "completion": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true",
        "ip": "set the span attribute client.address, or add the access log of the proxy in front",
        "user_agent": "set the span attribute user_agent.original",
        "tls_fingerprint": "add the access log of the proxy in front",
        "session_id": "set the span attribute gen_ai.conversation.id",
        "end_user": "set the span attribute enduser.id",
        "input_tokens": "set gen_ai.usage.input_tokens and gen_ai.usage.output_tokens; of streams, have clients ask "
        "for them (stream_options.include_usage)",
    },
)  # fmt: skip
