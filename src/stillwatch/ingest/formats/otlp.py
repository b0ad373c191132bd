"""otlp: OpenTelemetry's GenAI spans and events, as OTLP in JSON or protobuf, under old and new attribute names.

A span of a model call is an exchange. A log record of the same call, which may carry the content, completes it: both
name the span. Spans of agents, tools and plain HTTP are no model calls. The names follow the semantic conventions for
generative AI (`semantic-conventions-genai`, docs/gen-ai) and, before them, versions 1.28 to 1.36 and OpenLLMetry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import Any

import msgspec

from stillwatch.ingest.chat import (
    Turn,
    answer,
    any_address,
    cached_prose,
    cached_tool_names,
    conversation,
    n_tool_calls,
    operation,
    outer_address,
    parsed,
    prose,
    status,
    stop_reason,
    tool_names,
)
from stillwatch.ingest.formats.litellm import somebody
from stillwatch.ingest.formats.wire import Calls, Export, Told, logs, spans
from stillwatch.ingest.importer import ASIDE, REQUEST, Exploded, Importer, at

_NO_CALLS = frozenset(
    "execute_tool invoke_agent create_agent invoke_workflow retrieval search_memory plan execute_task".split()
)
_CALLS = (
    "gen_ai.request.model", "gen_ai.response.model", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens",
    "gen_ai.operation.name",
)  # fmt: skip
_DETAILS = "gen_ai.client.inference.operation.details"
_TURNS = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_CHOICE = "gen_ai.choice"
_NUMBERED = re.compile(r"(gen_ai\.(?:prompt|completion)|llm\.request\.functions)\.(\d+)\.(\w+)")
_REQUEST_ID = re.compile(r"""['"]x-request-id['"]: ['"]([^'"]+)""")


class Part(msgspec.Struct, gc=False):
    """A part of a message."""

    type: Any = None
    content: Any = None
    text: Any = None


class Message(msgspec.Struct, gc=False):
    """A message as the conventions write it, inside a text."""

    role: str | None = None
    parts: list[Part] | None = None
    content: Any = None
    finish_reason: str | None = None
    tool_calls: list[Any] | None = None


_MESSAGES = msgspec.json.Decoder(list[Message])
_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)
_LOGS, _ROLE, _PARTS = attrgetter("resourceLogs"), attrgetter("role"), attrgetter("parts")
_STOP = attrgetter("finish_reason")
_NONE = Calls([], [], [], [], [], [])
_NOT_NUMBERED: dict[str, Any] = {}
_FUNCTIONS = "llm.request.functions"
_FIRST_NUMBERED = frozenset(
    "gen_ai.prompt.0.role gen_ai.prompt.0.content gen_ai.completion.0.content gen_ai.completion.0.role "
    "llm.request.functions.0.name".split()
)


def explode(exports: Sequence[Export]) -> Exploded:
    """The spans and log records of exports, in their order: see `called`."""
    if not any(map(_LOGS, exports)):
        return called(told_in(spans(exports), ()))
    return called(together([told_in(spans([export]), logs(export)) for export in exports]))


def together(parts: Sequence[Calls]) -> Calls:
    """What several exports tell, as one."""
    return Calls(*(list(chain.from_iterable(columns)) for columns in zip(_NONE, *parts, strict=True)))


def told_in(calls: Calls | None, records: Iterable[Told]) -> Calls:
    """The spans and records of one export: each record of a whole call, and each call told turn by turn, is one more.

    What is no model call stays, without attributes.
    """
    told: list[tuple[Any, ...]] = []
    by_turns: dict[str, list[Told]] = {}
    for log in records:
        if log.name == _DETAILS or (log.name not in (*_TURNS, _CHOICE) and _is_call(log.attributes)):
            told.append((log.place, log.ts, None, log.attributes | {"call": "yes"}, [], True))
        elif (log.name in _TURNS or log.name == _CHOICE) and log.place:
            by_turns.setdefault(log.place, []).append(log)
        else:
            told.append((log.place, log.ts, None, {}, [], True))
    for turns in by_turns.values():
        events = [(one.name, one.body if isinstance(one.body, dict) else one.attributes) for one in turns]
        told.append((turns[0].place, turns[0].ts, None, {"call": "yes"}, events, True))
    found = together([Calls(*map(list, zip(*told, strict=True)))]) if told else _NONE
    if calls is None:
        return found
    are_calls = list(map(_is_call, calls.attributes))
    if not all(are_calls):
        attributes = [one if is_call else {} for one, is_call in zip(calls.attributes, are_calls, strict=True)]
        calls = calls._replace(attributes=attributes)
    return together([calls, found]) if told else calls


def _is_call(attributes: Mapping[str, Any]) -> bool:
    operation_name = attributes.get("gen_ai.operation.name")
    if type(operation_name) is str and operation_name in _NO_CALLS:  # an attacker may put a list here
        return False
    # Nearly every call has the first; a set operation over all names is dearer.
    return _CALLS[0] in attributes or any(name in attributes for name in _CALLS)


def called(told: Calls) -> Exploded:
    """The attributes of each, and beside them the columns call, ts, place, status, aside, turns, and of the answer
    said, calls and stop."""
    rows = told.attributes
    by_event: list[tuple[list[Any], list[Any]]] = [((), ())] * len(rows)  # type: ignore[list-item]
    if any(told.events):
        pairs = zip(rows, told.events, strict=True)
        by_event = [_events(row, events) if events and row else ([], []) for row, events in pairs]
    there = set[str]().union(*rows)
    numbered: list[dict[str, Any]] = [_NOT_NUMBERED] * len(rows)
    if not there.isdisjoint(_FIRST_NUMBERED):
        numbered = [_NOT_NUMBERED if _FIRST_NUMBERED.isdisjoint(row) else _numbered(row) for row in rows]
        for row, lists in zip(rows, numbered, strict=True):
            row.update({"tools": lists[_FUNCTIONS]} if _FUNCTIONS in lists else {})
    asked = [
        row.get("gen_ai.input.messages") or lists.get("gen_ai.prompt") or row.get("gen_ai.prompt") or turns
        for row, lists, (turns, _) in zip(rows, numbered, by_event, strict=True)
    ]
    turns = _conversations(asked)
    if "gen_ai.system_instructions" in there:
        turns = list(map(_with_system, turns, [row.get("gen_ai.system_instructions") for row in rows]))
    answers = [
        row.get("gen_ai.output.messages") or lists.get("gen_ai.completion") or row.get("gen_ai.completion") or choices
        for row, lists, (_, choices) in zip(rows, numbered, by_event, strict=True)
    ]
    said, calls, stops = _answers(answers)
    return Exploded(
        rows,
        {
            "call": ["yes" if row else "no" for row in rows], "ts": told.times, "place": told.places,
            "status": told.states, "aside": told.are_aside, "turns": turns, "said": said, "calls": calls,
            "stop": stops,
        },
    )  # fmt: skip


def _events(row: dict[str, Any], events: Iterable[tuple[str, dict[str, Any]]]) -> tuple[list[Any], list[Any]]:
    """The turns and choices that events tell; the other attributes of generative AI on them go into the row."""
    turns: list[Any] = []
    choices: list[Any] = []
    for name, body in events:
        if name in _TURNS:
            turns.append({"role": body.get("role", _TURNS[name]), "content": body.get("content")})
        elif name == _CHOICE:
            choices.append(body)
        else:
            row |= {key: value for key, value in body.items() if key.startswith("gen_ai.")}
    return turns, choices


def _conversations(asked: Sequence[Any]) -> list[Any]:
    """Turns of each; where all have the usual shape, messages of parts as JSON, they are read at once."""
    decoded = _decoded(asked)
    if decoded is None:
        return list(map(_conversation, asked))
    messages = list(chain.from_iterable(decoded))
    turns = map(Turn, map(_ROLE, messages), _texts(messages))
    return [list(islice(turns, len(one))) for one in decoded]


def _decoded(texts: Sequence[Any]) -> list[list[Message]] | None:
    """The messages in each text; None where one holds something else."""
    if set(map(type, texts)) == {str}:
        with suppress(*_REFUSED):
            return list(map(_MESSAGES.decode, texts))
    return None


def _conversation(asked: Any) -> Any:
    """Turns; the usual shape, messages of parts as JSON, without the detour over plain objects."""
    if type(asked) is str and asked.startswith("["):
        try:
            messages = _MESSAGES.decode(asked)
        except _REFUSED:
            return conversation(asked)
        return list(map(Turn, map(_ROLE, messages), map(_text, messages)))
    return conversation(asked or [])


def _answers(said: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Of each answer its text, how many tools it calls, and why it ended."""
    decoded = _decoded(said)
    if decoded is None or not all(decoded):
        texts, calls, stops = zip(*map(_answer, said), strict=True) if said else ((), (), ())
        return list(texts), list(calls), list(stops)
    firsts = [one[0] for one in decoded]
    return _texts(firsts), list(map(_n_calls, firsts)), list(map(_STOP, firsts))


def _answer(said: Any) -> tuple[str | None, int | None, Any]:
    if type(said) is str and said.startswith("["):
        try:
            messages = _MESSAGES.decode(said)
        except _REFUSED:
            messages = []
        if messages:
            return _text(messages[0]), _n_calls(messages[0]), messages[0].finish_reason
    said = parsed(said)
    return (answer(said), n_tool_calls(said), stop_reason(said)) if said else (None, None, None)


def _n_calls(message: Message) -> int:
    n_calls = len(message.tool_calls or ())
    for part in message.parts or ():
        if part.type in ("tool_call", "tool_use"):
            n_calls += 1
    return n_calls


def _texts(messages: Sequence[Message]) -> list[str | None]:
    """The text of each message; most have one part, which is text."""
    parts = list(map(_PARTS, messages))
    if None not in parts and set(map(len, parts)) == {1}:
        contents = [part[0].content for part in parts]
        if set(map(type, contents)) == {str} and all(contents):
            return contents
    return list(map(_text, messages))


def _text(message: Message) -> str | None:
    if message.parts is None:
        return prose(message.content)
    if len(message.parts) == 1 and type(text := message.parts[0].content) is str and text:
        return text
    texts = [text for part in message.parts if (text := prose(part.content) or prose(part.text)) is not None]
    return "\n".join(texts) if texts else None


def _with_system(turns: Any, system: Any) -> Any:
    first = (cached_prose(system) if type(system) is str else prose(system)) if system else None
    if not first:
        return turns
    rest = turns if isinstance(turns, list) else []
    return rest if rest and rest[0].role == "system" else [_opening(first), *rest]


@lru_cache(maxsize=256)
def _opening(system: str) -> Turn:
    return Turn("system", system)


def _numbered(attributes: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Lists that old libraries spread over attributes: gen_ai.prompt.0.content and so on."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, value in attributes.items():
        match = _NUMBERED.fullmatch(name)
        if match and len(match[2]) <= 4:
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = value
    return {name: [items[n] for n in sorted(items)] for name, items in found.items()}


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
        found = _REQUEST_ID.search(value)
        return found[1] if found else None
    return value


OTLP = Importer(
    name="otlp",
    title="OpenTelemetry GenAI (OTLP)",
    marks=(("resourceSpans",), ("resourceLogs",)),
    explode=explode,
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
        REQUEST: at("http.request.header.x-request-id", "metadata.requester_custom_headers", "place", read=request_id),
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
    },
)  # fmt: skip
