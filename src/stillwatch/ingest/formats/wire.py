"""wire: OTLP in JSON as typed records, and what a span or a log record tells, whatever it was encoded in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

_OK, _FAILED = "200", "error"
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


class Told(NamedTuple):
    """A span or a log record, whatever it was encoded in."""

    place: str
    ts: int | None
    name: str
    status: str | None
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    body: Any


def spans(export: Export) -> list[Told]:
    """The spans of an export."""
    return [_span(span) for resource in export.resourceSpans for scope in resource.scopeSpans for span in scope.spans]


def logs(export: Export) -> Iterator[Told]:
    """The log records of an export."""
    return (_log(log) for resource in export.resourceLogs for scope in resource.scopeLogs for log in scope.logRecords)


def _span(span: Span) -> Told:
    attributes = _pairs(span.attributes)
    events = [(event.name, _pairs(event.attributes)) for event in span.events] if span.events else []
    failed = span.status is not None and span.status.code in (2, "STATUS_CODE_ERROR")
    place = f"{span.traceId}:{span.spanId}".lower()
    return Told(place, _nanoseconds(span.startTimeUnixNano), "", _FAILED if failed else _OK, attributes, events, None)


def _log(log: LogRecord) -> Told:
    attributes = _pairs(log.attributes)
    name = log.eventName or event_name(attributes)
    ts = _nanoseconds(log.timeUnixNano) or _nanoseconds(log.observedTimeUnixNano)
    place = f"{log.traceId}:{log.spanId}".lower() if log.traceId and log.spanId else ""
    return Told(place, ts, name, None, attributes, [], _value(log.body))


def event_name(attributes: Mapping[str, Any]) -> str:
    """The name of an event where it stands among the attributes; none where what stands there is no text."""
    name = attributes.get("event.name")
    return name if isinstance(name, str) else ""


def _nanoseconds(value: int | str | None) -> int | None:
    try:
        return int(value) if value else None
    except ValueError:
        return None


def _pairs(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        # Nearly all are texts and whole numbers: these are not worth a call each.
        if value is not None and (text := value.stringValue) is not None:
            found[pair.key] = text
        elif value is not None and type(number := value.intValue) is int:
            found[pair.key] = number
        else:
            found[pair.key] = _value(value)
    return found


def _value(value: AnyValue | None, depth: int = 0) -> Any:
    if value is None or depth > _DEEPEST:
        return None
    if value.stringValue is not None:
        return value.stringValue
    if value.intValue is not None:
        return _nanoseconds(value.intValue) or 0
    if value.boolValue is not None:
        return value.boolValue
    if value.arrayValue is not None:
        return [_value(one, depth + 1) for one in value.arrayValue.values]
    if value.kvlistValue is not None:
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlistValue.values}
    return value.doubleValue
