"""chat: the readers that importers share: conversations, answers, tools, states and addresses in their usual shapes.

Conversations and answers of OpenAI (chat, completions, responses), Anthropic and OpenTelemetry look different and say
the same; here each becomes a list of role and content, or one text. Every reader takes any value.
"""

from __future__ import annotations

import ipaddress
import math
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec

from stillwatch.ingest.jsonl import lenient
from stillwatch.kernels.nesting import DEEPEST

_DEEPEST = DEEPEST
"""Levels that a text is looked for in: all that a lenient reading keeps."""

_OK = range(200, 300)
_OPERATIONS = {
    "chat": "chat",
    "completion": "chat",
    "acompletion": "chat",
    "chat/completions": "chat",
    "text_completion": "text_completion",
    "atext_completion": "text_completion",
    "completions": "text_completion",
    "generate_content": "chat",
    "messages": "chat",
    "anthropic_messages": "chat",
    "responses": "chat",
    "aresponses": "chat",
    "embeddings": "embeddings",
    "embedding": "embeddings",
    "aembedding": "embeddings",
}
_INSIDE = [
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 127.0.0.0/8 169.254.0.0/16 100.64.0.0/10 ::1/128 fc00::/7 fe80::/10"
    ).split()
]


class Turn(msgspec.Struct, gc=False):
    """One message of a conversation, without what no column holds; its text stands in one of the three last."""

    role: Any = None
    content: Any = None
    parts: Any = None
    text: Any = None


class Function(msgspec.Struct, gc=False):
    """The function a tool is."""

    name: Any = None


class Tool(msgspec.Struct, gc=False):
    """A tool that a request offers, without the schema of its arguments."""

    name: Any = None
    type: Any = None
    function: Function | str | None = None


TURNS = list[Turn | str] | str | None
"""What a conversation is decoded to where speed matters."""

CHAT_OF_ANY_SHAPE = list[Turn | str] | dict[str, Any] | str | None
"""The same where an empty object stands for none."""

TOOLS = msgspec.Raw
"""What the tools of a request are decoded to where speed matters: nothing yet, since most requests offer the same."""

_TURNS = msgspec.json.Decoder(list[Turn | str])
_TOOLS = msgspec.json.Decoder(list[Tool | str] | str | None)
_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)


def parsed(value: Any) -> Any:
    """JSON inside a text as what it says; every other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return msgspec.json.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # Python writes NaN, and a client any number: neither may hide what else is said.
            found, _ = lenient(value.encode("utf-8", "replace"), lists=True)
            return value if found is None else found
    return value


def conversation(value: Any) -> Any:
    """Turns, from a list of messages, a request that holds them, or bare text; what is neither as it is."""
    if type(value) is not list:
        value = _turns(value) if type(value) is str and value.startswith("[") else parsed(value)
        if isinstance(value, str):
            return [Turn("user", value)] if value else None
        if isinstance(value, dict):
            return _of_request(value)
        if not isinstance(value, list):
            return value
    return [turn if type(turn) is Turn and type(turn.content) is str else _turn(turn) for turn in value] or None


def _turns(text: str) -> Any:
    """A text that may hold a list of messages, without the detour over plain objects where it does."""
    try:
        return _TURNS.decode(text)
    except _REFUSED:
        return parsed(text)


def _turn(turn: Any) -> Turn:
    if type(turn) is Turn:
        said = next((one for one in (turn.content, turn.parts, turn.text) if one is not None), None)
        return Turn(turn.role if isinstance(turn.role, str) else None, prose(said))
    if not isinstance(turn, dict):
        return Turn("user", prose(turn))
    content = turn.get("content")
    if content is None:
        content = turn.get("parts", turn.get("text"))
    role = turn.get("role")
    return Turn(role if isinstance(role, str) else None, prose(content))


def _of_request(request: dict[str, Any]) -> Any:
    for key in ("messages", "input", "prompt"):
        if request.get(key):
            turns = conversation(request[key])
            first = prose(request.get("system") or request.get("instructions"))
            return [Turn("system", first), *turns] if first and isinstance(turns, list) else turns
    return [_turn(request)] if "role" in request else None


def prose(value: Any, depth: int = 0) -> str | None:
    """The text in a text, a part, a message, or a list of these; None where there is none."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return None
    if isinstance(value, dict):
        for key in ("text", "content", "parts", "output_text"):
            found = prose(value.get(key), depth + 1)
            if found is not None:
                return found
        return None
    if isinstance(value, list):
        parts = [text for part in value if (text := prose(part, depth + 1)) is not None]
        return "\n".join(parts) if parts else None
    return None


def answer(value: Any) -> str | None:
    """The text of an answer: choices, output items, content parts, a whole response, or bare text."""
    value = parsed(value)
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        return prose(value)
    if isinstance(value, list) and value and not any(map(_is_message, value)):
        return prose(value)  # the parts of one answer, of which thoughts come first
    said = _said(value)
    if isinstance(said, dict):
        for key in ("message", "delta"):
            if isinstance(said.get(key), dict):
                return prose(said[key])
        return prose(said)
    return prose(value)


def _said(value: Any) -> Any:
    """The first choice of an answer, or the message it is."""
    if isinstance(value, dict):
        for key in ("choices", "output", "content", "message"):
            if value.get(key):
                return _said(value[key]) if key in ("choices", "output") else value
        return value
    if isinstance(value, list):
        messages = [one for one in value if isinstance(one, dict)]
        return next(
            (one for one in messages if one.get("type", "message") == "message"), messages[0] if messages else None
        )
    return None


def _is_message(one: Any) -> bool:
    """Whether an item of an answer is a message of its own, or a choice, and not a part of one."""
    return (
        not isinstance(one, dict)
        or not {"role", "message", "delta", "parts", "finish_reason"}.isdisjoint(one)
        or (one.get("type") == "message")
    )


def stop_reason(value: Any) -> Any:
    """Why an answer ended, of its first choice; a list of reasons gives its first."""
    if type(value) is list and value and type(value[0]) is str:
        return value[0]
    value = parsed(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value[0]
    said = _said(value)
    found = (said.get("finish_reason") or said.get("stop_reason")) if isinstance(said, dict) else None
    if found is None and isinstance(value, dict):
        found = value.get("stop_reason") or value.get("finish_reason")
    return found if isinstance(found, str) else None


def n_tool_calls(value: Any) -> int | None:
    """How many tools an answer calls; None where there is no answer."""
    value = parsed(value)
    if not isinstance(value, (dict, list)) or not value:
        return None
    items = value["output"] if isinstance(value, dict) and "output" in value else value
    calls = [one for one in items if _kind(one) == "function_call"] if isinstance(items, list) else []
    if calls:
        return len(calls)
    said = _said(value)
    if not isinstance(said, dict):
        return None
    inner = said.get("message")
    message = inner if isinstance(inner, dict) else said
    called = message.get("tool_calls")
    if isinstance(called, list):
        return len(called)
    parts = message.get("parts", message.get("content"))
    return sum(_kind(part) in ("tool_call", "tool_use") for part in parts) if isinstance(parts, list) else 0


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def tool_names(value: Any) -> Any:
    """The names of the tools a request offers; bytes are JSON."""
    value = parsed(_tools(value) if type(value) is bytes else value)
    if not isinstance(value, list):
        return value
    return [_tool(one) for one in value] or None


def _tools(text: bytes) -> Any:
    with suppress(*_REFUSED):
        return _TOOLS.decode(text)
    return lenient(text, lists=True)[0]


def _tool(one: Any) -> str | None:
    if type(one) is Tool:
        name = one.function.name if type(one.function) is Function else one.name or one.type
    elif isinstance(one, dict):
        inner = one.get("function")
        name = (inner if isinstance(inner, dict) else one).get("name", one.get("type"))
    else:
        name = one
    return name if isinstance(name, str) else None


def n_items(value: Any) -> int | None:
    """How many items a list has."""
    value = parsed(value)
    return len(value) if isinstance(value, list) else None


def none_called(_said: Any) -> int:
    """The number of tools that an answer calls which lists none."""
    return 0


def status(value: Any) -> str | None:
    """An HTTP status as text; success without a number is 200, failure without one is `error`."""
    if value in ("success", 200):
        return "200"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value in (math.inf, -math.inf):
        return None
    text = str(int(value)) if isinstance(value, (int, float)) else value.strip().lower()
    if text in ("success", "ok", "succeeded"):
        return "200"
    if text in ("failure", "failed", "error"):
        return "error"
    return "200" if text.isdecimal() and int(text) in _OK else text or None


def operation(value: Any) -> Any:
    """What was asked of the interface, in the words of OpenTelemetry: chat, text_completion, embeddings."""
    return _operation(value) if type(value) is str else value


@lru_cache(maxsize=1024)
def _operation(text: str) -> str | None:
    path = (
        (text.partition("://")[2].partition("/")[2] or text)
        .partition("?")[0]
        .strip("/")
        .removeprefix("openai/")
        .removeprefix("v1/")
    )
    return _OPERATIONS.get(path, text or None)


def _parsed_address(text: str) -> tuple[str, bool] | None:
    """An address without its port, and whether it is one of an inner network."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    return str(found), any(found in network for network in _INSIDE if network.version == found.version)


def outer_address(value: Any) -> str | None:
    """The last address of a list that is not of an inner network.

    The last: what stands before it was sent by the client, who may write anything there.
    """
    return _outer_address(value) if type(value) is str else None


@lru_cache(maxsize=1 << 16)
def _outer_address(text: str) -> str | None:
    found = (_parsed_address(part) for part in reversed(text.split(",")))
    return next((one[0] for one in found if one and not one[1]), None)


def any_address(value: Any) -> Any:
    """The last address of a list, without its port."""
    return _any_address(value) if type(value) is str else value


@lru_cache(maxsize=1 << 16)
def _any_address(text: str) -> str | None:
    found = (_parsed_address(part) for part in reversed(text.split(",")))
    return next((one[0] for one in found if one), None)


@lru_cache(maxsize=1024)
def cached_prose(text: str) -> str | None:
    """The text in a JSON text, such as a system prompt that stands on every row."""
    return prose(parsed(text))


@lru_cache(maxsize=1024)
def cached_tool_names(text: str) -> tuple[str | None, ...] | None:
    """The names in a JSON text of tool definitions, which stands on every row."""
    names = tool_names(text)
    return tuple(names) if isinstance(names, list) else None
