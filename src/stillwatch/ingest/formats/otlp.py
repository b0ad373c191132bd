"""otlp: OpenTelemetry's GenAI spans and events, as OTLP in JSON or protobuf, under old and new attribute names.

A span of a model call is an exchange. A log record of the same call, which may carry the content, completes it: both
name the span. Spans of agents, tools and plain HTTP are no model calls. The names follow the semantic conventions for
generative AI (`semantic-conventions-genai`, docs/gen-ai) and, before them, versions 1.28 to 1.36 and OpenLLMetry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
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
from stillwatch.ingest.formats.wire import Export, Told, logs, spans
from stillwatch.ingest.importer import ASIDE, REQUEST, Importer, at

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
_FIRST_NUMBERED = frozenset(
    "gen_ai.prompt.0.role gen_ai.prompt.0.content gen_ai.completion.0.content gen_ai.completion.0.role "
    "llm.request.functions.0.name".split()
)


def explode(export: Export) -> Iterable[dict[str, Any]]:
    """Flat rows of an export: attributes by their names, and what `_row` adds."""
    return rows(spans(export), logs(export)) if export.resourceLogs else [_span(span) for span in spans(export)]


def rows(calls: Iterable[Told], records: Iterable[Told]) -> Iterator[dict[str, Any]]:
    """Flat rows: one for each span, one for each log record of a whole call, one for each call told turn by turn."""
    yield from map(_span, calls)
    told: dict[str, list[Told]] = {}
    for log in records:
        if log.name == _DETAILS or (log.name not in (*_TURNS, _CHOICE) and _is_call(log.attributes)):
            yield _row(log) | {"aside": True}
        elif (log.name in _TURNS or log.name == _CHOICE) and log.place:
            told.setdefault(log.place, []).append(log)
        else:
            yield {"call": "no"}
    for turns in told.values():
        events = [(one.name, one.body if isinstance(one.body, dict) else one.attributes) for one in turns]
        yield _row(turns[0]._replace(attributes={}, events=events)) | {"aside": True}


def _span(span: Told) -> dict[str, Any]:
    return _row(span) if _is_call(span.attributes) else {"call": "no"}


def _is_call(attributes: Mapping[str, Any]) -> bool:
    operation_name = attributes.get("gen_ai.operation.name")
    if type(operation_name) is str and operation_name in _NO_CALLS:  # an attacker may put a list here
        return False
    # Nearly every call has the first; a set operation over all names is dearer.
    return _CALLS[0] in attributes or any(name in attributes for name in _CALLS)


def _row(told: Told) -> dict[str, Any]:
    """The attributes, and beside them: call, ts, place, status, aside, turns, and of the answer said, calls, stop."""
    row = told.attributes
    turns, choices = _events(row, told.events) if told.events else ([], [])
    numbered = _numbered(row) if not row.keys().isdisjoint(_FIRST_NUMBERED) else {}
    row["call"], row["ts"], row["place"], row["status"], row["aside"] = "yes", told.ts, told.place, told.status, False
    asked = row.get("gen_ai.input.messages") or numbered.get("gen_ai.prompt") or row.get("gen_ai.prompt") or turns
    row["turns"] = _with_system(_conversation(asked), row.get("gen_ai.system_instructions"))
    said = row.get("gen_ai.output.messages") or numbered.get("gen_ai.completion") or row.get("gen_ai.completion")
    row["said"], row["calls"], row["stop"] = _answer(said or choices or None)
    if "llm.request.functions" in numbered:
        row["tools"] = numbered["llm.request.functions"]
    return row


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


def _conversation(asked: Any) -> Any:
    """Turns; the usual shape, messages of parts as JSON, without the detour over plain objects."""
    if type(asked) is str and asked.startswith("["):
        try:
            messages = _MESSAGES.decode(asked)
        except _REFUSED:
            return conversation(asked)
        return [Turn(one.role, _text(one)) for one in messages]
    return conversation(asked)


def _answer(said: Any) -> tuple[str | None, int | None, Any]:
    """The text of an answer, how many tools it calls, and why it ended."""
    if type(said) is str and said.startswith("["):
        try:
            messages = _MESSAGES.decode(said)
        except _REFUSED:
            messages = []
        if messages:
            first = messages[0]
            n_calls = len([1 for part in first.parts or () if part.type in ("tool_call", "tool_use")])
            return _text(first), n_calls + len(first.tool_calls or ()), first.finish_reason
    said = parsed(said)
    return answer(said) if said else None, n_tool_calls(said), stop_reason(said) if said else None


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
        "exchange_id": at("litellm.call_id", "gen_ai.response.id", "place"),
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
