"""genai: what was asked and answered, as OpenTelemetry's conventions for generative AI write it, old and new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import Any

import msgspec

from stillwatch.ingest.chat import (
    Turn,
    answer,
    cached_prose,
    conversation,
    n_tool_calls,
    parsed,
    prose,
    stop_reason,
)
from stillwatch.ingest.formats.attributes import NUMBERED


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
_ROLE, _PARTS, _STOP = attrgetter("role"), attrgetter("parts"), attrgetter("finish_reason")


def conversations(asked: Sequence[Any]) -> list[Any]:
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


def answers(said: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
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


def with_system(turns: Any, system: Any) -> Any:
    """The turns behind a system prompt that is told apart, unless they begin with one."""
    first = (cached_prose(system) if type(system) is str else prose(system)) if system else None
    if not first:
        return turns
    rest = turns if isinstance(turns, list) else []
    return rest if rest and rest[0].role == "system" else [_opening(first), *rest]


@lru_cache(maxsize=256)
def _opening(system: str) -> Turn:
    return Turn("system", system)


def numbered_lists(attributes: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Lists that old libraries spread over attributes: gen_ai.prompt.0.content and so on."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, value in attributes.items():
        match = NUMBERED.fullmatch(name)
        if match and len(match[2]) <= 4:
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = value
    return {name: [items[n] for n in sorted(items)] for name, items in found.items()}
