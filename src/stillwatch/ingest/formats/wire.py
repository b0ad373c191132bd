"""wire: OTLP in JSON as typed records, and what a span or a log record tells, whatever it was encoded in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from stillwatch.ingest.cells import Column
from stillwatch.ingest.formats.attributes import (
    CALLS,
    NO_CALLS,
    NOT_NUMBERED,
    NUMBERED,
    OPERATION,
    Attributes,
    Wanted,
    are_numbered,
    is_calling,
)

OK, FAILED = "200", "error"
_FAILURES = (2, "STATUS_CODE_ERROR")
_RESOURCES, _SCOPES, _SPANS = attrgetter("resourceSpans"), attrgetter("scopeSpans"), attrgetter("spans")
_ATTRIBUTES, _EVENTS, _START = attrgetter("attributes"), attrgetter("events"), attrgetter("startTimeUnixNano")
_KEY, _VALUE = attrgetter("key"), attrgetter("value")
_STRING, _INT = attrgetter("stringValue"), attrgetter("intValue")
_BOOL, _LIST = attrgetter("boolValue"), attrgetter("arrayValue")
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
    """Columns of what may be model calls, whatever they were encoded in, one value for each.

    `events` are the names and attributes of the events on it; `are_aside` says which tell of a call that a span stands
    for.
    """

    places: Column
    times: Column
    states: Column
    attributes: Attributes
    events: list[list[tuple[str, dict[str, Any]]]]
    are_aside: list[bool]


class Told(NamedTuple):
    """A log record, whatever it was encoded in."""

    place: str
    ts: int | None
    name: str
    attributes: dict[str, Any]
    body: Any


def spans(exports: Iterable[Export], wanted: Wanted) -> Calls:
    """The spans of exports. Cost: about 3 us for a span of twenty attributes."""
    scopes = chain.from_iterable(map(_SCOPES, chain.from_iterable(map(_RESOURCES, exports))))
    found = list(chain.from_iterable(map(_SPANS, scopes)))
    lists = list(map(_EVENTS, found))
    events = [[(event.name, _pairs(event.attributes)) for event in one] for one in lists] if any(lists) else lists
    return Calls(
        [f"{span.traceId}:{span.spanId}".lower() for span in found],
        list(map(_nanoseconds, map(_START, found))),
        [OK if (status := span.status) is None or status.code not in _FAILURES else FAILED for span in found],
        _attributes(list(map(_ATTRIBUTES, found)), wanted),
        events,
        [False] * len(found),
    )  # fmt: skip


def _attributes(lists: Sequence[list[KeyValue]], wanted: Wanted) -> Attributes:
    """The attributes of spans, those of one shape (the same names in the same order) at once, since most are alike."""
    pairs = list(chain.from_iterable(lists))
    values = list(map(_VALUE, pairs))
    told = Attributes([False] * len(lists), {}, [NOT_NUMBERED] * len(lists))
    for shape in _shapes(lists, list(map(_KEY, pairs))):
        if not CALLS.isdisjoint(shape.spots):
            operations = _column(values, shape, OPERATION)
            are_calls = NO_CALLS.isdisjoint(one for one in operations if type(one) is str)
            kept = None if are_calls else [n for n, one in enumerate(operations) if is_calling(one)]
            _tell(told, shape if kept is None else shape.of(kept), values, wanted)
    return told


class _Shape(NamedTuple):
    """Rows whose attributes have the same names: where each stands, and where those of a row begin among all."""

    spots: Mapping[str, int]
    rows: Sequence[int]
    starts: Sequence[int]

    def of(self, kept: Sequence[int]) -> _Shape:
        """Some of these rows."""
        return _Shape(self.spots, [self.rows[n] for n in kept], [self.starts[n] for n in kept])


def _shapes(lists: Sequence[list[KeyValue]], keys: list[str]) -> Iterable[_Shape]:
    """The shapes among lists of attributes; of several under one key the last counts."""
    widths = list(map(len, lists))
    width = widths[0] if widths else 0
    if widths.count(width) == len(widths) and keys == keys[:width] * len(widths):
        spots = {name: spot for spot, name in enumerate(keys[:width])}
        return [_Shape(spots, range(len(widths)), range(0, len(keys), width))] if width else []
    found: dict[tuple[str, ...], _Shape] = {}
    start = 0
    for row, n in enumerate(widths):
        shape = tuple(keys[start : start + n])
        if shape not in found:
            found[shape] = _Shape({name: spot for spot, name in enumerate(shape)}, [], [])
        found[shape].rows.append(row)  # type: ignore[attr-defined]
        found[shape].starts.append(start)  # type: ignore[attr-defined]
        start += n
    return found.values()


def _tell(told: Attributes, shape: _Shape, values: Sequence[Any], wanted: Wanted) -> None:
    n_all = len(told.are_calls)
    for name in shape.spots:
        if name in wanted:
            column = _column(values, shape, name)
            if len(column) == n_all:
                told.columns[name] = column
            else:
                _put(told.columns.setdefault(name, [None] * n_all), shape.rows, column)
    _put(told.are_calls, shape.rows, [True] * len(shape.rows))
    if are_numbered(shape.spots):
        names = [name for name in shape.spots if NUMBERED.fullmatch(name)]
        columns = [_column(values, shape, name) for name in names]
        _put(told.numbered, shape.rows, [dict(zip(names, one, strict=True)) for one in zip(*columns, strict=True)])


def _put(column: list[Any], rows: Sequence[int], values: Sequence[Any]) -> None:
    for row, value in zip(rows, values, strict=True):
        column[row] = value


def _column(values: Sequence[Any], shape: _Shape, name: str) -> list[Any]:
    """What rows of one shape say under a name."""
    spot, starts = shape.spots.get(name), shape.starts
    if spot is None:
        return [None] * len(starts)
    if isinstance(starts, range):
        return _told(values[spot :: starts.step])
    return _told([values[start + spot] for start in starts])


def _told(values: Sequence[AnyValue | None], depth: int = 0) -> list[Any]:
    """What values say; most columns hold texts only, or whole numbers, or lists of texts, and are read at once."""
    try:
        texts = list(map(_STRING, values))
    except AttributeError:  # a value that is null
        return [value_of(one, depth) for one in values]
    if all(texts):
        return texts
    if set(texts) == {None}:
        numbers = list(map(_INT, values))
        if None not in numbers:
            with suppress(ValueError):
                return list(map(int, numbers))
        lists = list(map(_LIST, values))
        if all(lists) and set(numbers) | set(map(_BOOL, values)) == {None} and depth < _DEEPEST:
            inner = iter(_told([one for item in lists for one in item.values], depth + 1))
            return [list(islice(inner, len(item.values))) for item in lists]
    return [value_of(one, depth) if text is None else text for text, one in zip(texts, values, strict=True)]


def rows(exports: Iterable[Export]) -> Iterator[dict[str, Any]]:
    """The attributes of each span, with those of generative AI on its events."""
    scopes = chain.from_iterable(map(_SCOPES, chain.from_iterable(map(_RESOURCES, exports))))
    for span in chain.from_iterable(map(_SPANS, scopes)):
        more = (pair for event in span.events for pair in event.attributes if pair.key.startswith("gen_ai."))
        yield _pairs([*span.attributes, *more])


def logs(export: Export) -> list[Told]:
    """The log records of an export."""
    records = (log for resource in export.resourceLogs for scope in resource.scopeLogs for log in scope.logRecords)
    return [_log(log) for log in records]


def _log(log: LogRecord) -> Told:
    attributes = _pairs(log.attributes)
    name = log.eventName or event_name(attributes)
    ts = _nanoseconds(log.timeUnixNano) or _nanoseconds(log.observedTimeUnixNano)
    place = f"{log.traceId}:{log.spanId}".lower() if log.traceId and log.spanId else ""
    return Told(place, ts, name, attributes, value_of(log.body))


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
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue | None, depth: int = 0) -> Any:
    """What a value says; None where it says nothing, or lies too deep."""
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
        return [value_of(one, depth + 1) for one in value.arrayValue.values]
    if value.kvlistValue is not None:
        return {pair.key: value_of(pair.value, depth + 1) for pair in value.kvlistValue.values}
    return value.doubleValue
