"""genai: what was asked and answered, as OpenTelemetry's conventions for generative AI write it, old and new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.ingest.cells import Column, listed
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
from stillwatch.ingest.tapes import are_texts, chat, strings, tape_of_lists
from stillwatch.kernels.columns import I64
from stillwatch.kernels.lexing import NULL, OBJECT
from stillwatch.kernels.tape import Names, Tape, items, members, named


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


_MESSAGE, _PART = Names.of("role parts finish_reason tool_calls".split()), Names.of(["type", "content"])
_CALLED = Names.of(["tool_call", "tool_use"])
_MESSAGES = msgspec.json.Decoder(list[Message])
_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)
_ROLE, _PARTS, _STOP = attrgetter("role"), attrgetter("parts"), attrgetter("finish_reason")


def conversations(asked: Column) -> Column:
    """Turns of each; where all have the usual shape, messages of parts as JSON, they are read at once."""
    if isinstance(asked, pa.Array):
        told = _messages_in(asked)
        if told is not None:
            return chat(told.counts, told.roles, told.texts)
        asked = [text or () for text in listed(asked)]
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


def answers(said: Column) -> tuple[Column, Column, Column]:
    """Of each answer its text, how many tools it calls, and why it ended."""
    if isinstance(said, pa.Array):
        messages = _messages_in(said)
        if messages is not None and messages.counts.all():
            firsts = pa.array(np.cumsum(messages.counts) - messages.counts)
            return messages.texts.take(firsts), [0] * len(said), messages.stops.take(firsts)
        said = [text or () for text in listed(said)]
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


class _Messages(NamedTuple):
    """Messages that all are one part of text: how many each conversation has, and what stands in them, in a row."""

    counts: I64
    roles: pa.Array
    texts: pa.Array
    stops: pa.Array


def _messages_in(column: pa.Array) -> _Messages | None:
    """The messages in texts, without decoding them; None where one is not plain, or no one part of text."""
    given = tape_of_lists(column)
    if given is None:
        return None
    places, counts = items(given, given.roots)
    found = members(given, places, _MESSAGE) if _are(given, places, OBJECT) else None
    if found is None:
        return None
    roles, parts, stops, calls = found
    inside, n_parts = items(given, parts)
    if (n_parts != 1).any() or (given.at(calls).kind != NULL).any() or not _are(given, inside, OBJECT):
        return None
    found = members(given, inside, _PART)
    if found is None:
        return None
    kinds = named(given, np.where(given.at(found[0]).kind == NULL, -1, found[0]), _CALLED)
    contents = given.at(found[1])
    are_sound = all(_are_texts_or_null(given, spots) for spots in (roles, stops)) and are_texts(contents.kind).all()
    if kinds is None or (kinds >= 0).any() or not are_sound or (contents.last == contents.first).any():
        return None
    return _Messages(counts, strings(given.at(roles)), strings(contents), strings(given.at(stops)))


def _are(given: Tape, spots: I64, kind: int) -> bool:
    return bool((given.kind[spots] == kind).all())


def _are_texts_or_null(given: Tape, spots: I64) -> bool:
    kinds = given.at(spots).kind
    return bool((are_texts(kinds) | (kinds == NULL)).all())


def with_systems(turns: Column, systems: Column) -> Column:
    """The turns of each behind a system prompt that is told apart, unless they begin with one."""
    if not (isinstance(turns, pa.Array) and isinstance(systems, pa.Array) and systems.type == pa.string()):
        return list(map(with_system, listed(turns), listed(systems)))
    told = systems.dictionary_encode()
    firsts = pa.array([cached_prose(text) or None for text in told.dictionary.to_pylist()], pa.string())
    counts = pc.list_value_length(turns).fill_null(0).to_numpy().astype(np.int64)
    starts = np.cumsum(counts) - counts
    flat = turns.flatten()
    roles, contents = pc.struct_field(flat, "role"), pc.struct_field(flat, "content")
    opens = np.zeros(len(counts), np.bool_)
    opens[counts > 0] = np.asarray(pc.equal(roles.take(pa.array(starts[counts > 0])), "system").fill_null(False))
    codes = told.indices.fill_null(0).to_numpy()
    is_told = (
        np.asarray(told.indices.is_valid()) & np.asarray(firsts.is_valid())[codes] if len(firsts) else opens & False
    )
    added = is_told & ~opens
    # Each turn, and each system prompt added, by its place behind all turns.
    order = np.insert(np.arange(len(roles)), starts[added], len(roles) + np.arange(len(firsts))[codes[added]])
    role_of = np.minimum(order, len(roles))
    return chat(
        counts + added,
        pa.concat_arrays([roles, pa.array(["system"])]).take(pa.array(role_of)),
        pa.concat_arrays([contents, firsts]).take(pa.array(order)),
    )


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
