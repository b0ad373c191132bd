"""wire: OTLP in JSON as typed records, and what a span or a log record tells, whatever it was encoded in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

_OK, _FAILED = "200", "error"
_FAILURES = (2, "STATUS_CODE_ERROR")
_RESOURCES, _SCOPES, _SPANS = attrgetter("resourceSpans"), attrgetter("scopeSpans"), attrgetter("spans")
_ATTRIBUTES, _EVENTS, _START = attrgetter("attributes"), attrgetter("events"), attrgetter("startTimeUnixNano")
_KEY, _VALUE = attrgetter("key"), attrgetter("value")
_STRING = attrgetter("stringValue")
_DEEPEST = 16


class AnyValue(msgspec.Struct, gc=False):
    """A value as OTLP/JSON writes it; one field is set."""

    stringValue: str | None = None  # noqa: N815 (the names of the format)
    intValue: int | str | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: Values | None = None  # noqa: N815
    kvlistValue: Pairs | None = None  # noqa: N815


class KeyValue(msgspec.Struct, gc=False):
    """An attribute."""

    key: str = ""
    value: AnyValue | None = None


class Values(msgspec.Struct, gc=False):
    """A list."""

    values: list[AnyValue] = []


class Pairs(msgspec.Struct, gc=False):
    """A map."""

    values: list[KeyValue] = []


class Event(msgspec.Struct, gc=False):
    """An event on a span."""

    name: str = ""
    attributes: list[KeyValue] = []


class Status(msgspec.Struct, gc=False):
    """How a span ended: 0 unset, 1 ok, 2 error."""

    code: int | str = 0


class Span(msgspec.Struct, gc=False):
    """A span."""

    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    startTimeUnixNano: int | str | None = None  # noqa: N815
    attributes: list[KeyValue] = []
    events: list[Event] = []
    status: Status | None = None


class LogRecord(msgspec.Struct, gc=False):
    """A log record, an event where it has a name."""

    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    timeUnixNano: int | str | None = None  # noqa: N815
    observedTimeUnixNano: int | str | None = None  # noqa: N815
    eventName: str = ""  # noqa: N815
    body: AnyValue | None = None
    attributes: list[KeyValue] = []


class ScopeSpans(msgspec.Struct, gc=False):
    """Spans of one library."""

    spans: list[Span] = []


class ResourceSpans(msgspec.Struct, gc=False):
    """Spans of one program."""

    scopeSpans: list[ScopeSpans] = []  # noqa: N815


class ScopeLogs(msgspec.Struct, gc=False):
    """Log records of one library."""

    logRecords: list[LogRecord] = []  # noqa: N815


class ResourceLogs(msgspec.Struct, gc=False):
    """Log records of one program."""

    scopeLogs: list[ScopeLogs] = []  # noqa: N815


class Export(msgspec.Struct, gc=False):
    """What an exporter sends and a collector writes on a line: spans or log records."""

    resourceSpans: list[ResourceSpans] = []  # noqa: N815
    resourceLogs: list[ResourceLogs] = []  # noqa: N815


class Calls(NamedTuple):
    """Columns of what may be model calls, whatever they were encoded in: lists of one length.

    `attributes` are dicts of the call's own, `events` the names and attributes of the events on it; `are_aside` says
    which tell of a call that a span stands for.
    """

    places: list[str]
    times: list[int | None]
    states: list[str | None]
    attributes: list[dict[str, Any]]
    events: list[list[tuple[str, dict[str, Any]]]]
    are_aside: list[bool]


class Told(NamedTuple):
    """A log record, whatever it was encoded in."""

    place: str
    ts: int | None
    name: str
    attributes: dict[str, Any]
    body: Any


def spans(exports: Iterable[Export]) -> Calls:
    """The spans of exports. Cost: about 4 us for a span of twenty attributes."""
    scopes = chain.from_iterable(map(_SCOPES, chain.from_iterable(map(_RESOURCES, exports))))
    found = list(chain.from_iterable(map(_SPANS, scopes)))
    lists = list(map(_EVENTS, found))
    events = [[(event.name, _pairs([event])[0]) for event in one] for one in lists] if any(lists) else lists
    return Calls(
        [f"{span.traceId}:{span.spanId}".lower() for span in found],
        list(map(_nanoseconds, map(_START, found))),
        [_OK if (status := span.status) is None or status.code not in _FAILURES else _FAILED for span in found],
        _pairs(found),
        events,
        [False] * len(found),
    )  # fmt: skip


def logs(export: Export) -> list[Told]:
    """The log records of an export."""
    records = (log for resource in export.resourceLogs for scope in resource.scopeLogs for log in scope.logRecords)
    return [_log(log) for log in records]


def _log(log: LogRecord) -> Told:
    (attributes,) = _pairs([log])
    name = log.eventName or event_name(attributes)
    ts = _nanoseconds(log.timeUnixNano) or _nanoseconds(log.observedTimeUnixNano)
    place = f"{log.traceId}:{log.spanId}".lower() if log.traceId and log.spanId else ""
    return Told(place, ts, name, attributes, _value(log.body))


def event_name(attributes: Mapping[str, Any]) -> str:
    """The name of an event where it stands among the attributes; none where what stands there is no text."""
    name = attributes.get("event.name")
    return name if isinstance(name, str) else ""


def _nanoseconds(value: int | str | None) -> int | None:
    try:
        return int(value) if value else None
    except ValueError:
        return None


def _pairs(holders: Sequence[Span | LogRecord | Event]) -> list[dict[str, Any]]:
    """The attributes of each; of several under one key the last counts. All are read at once, which is cheaper."""
    lists = list(map(_ATTRIBUTES, holders))
    pairs = list(chain.from_iterable(lists))
    values = list(map(_VALUE, pairs))
    try:
        told = [_value(one) if text is None else text for text, one in zip(map(_STRING, values), values, strict=True)]
    except AttributeError:  # a value that is null
        told = list(map(_value, values))
    items = zip(map(_KEY, pairs), told, strict=True)
    return [dict(islice(items, len(one))) for one in lists]


def _value(value: AnyValue | None, depth: int = 0) -> Any:
    if value is None or depth > _DEEPEST:
        return None
    if (text := value.stringValue) is not None:
        return text
    if (number := value.intValue) is not None:
        try:
            return int(number)
        except ValueError:
            return 0
    if value.boolValue is not None:
        return value.boolValue
    if value.arrayValue is not None:
        return [_value(one, depth + 1) for one in value.arrayValue.values]
    if value.kvlistValue is not None:
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlistValue.values}
    return value.doubleValue
