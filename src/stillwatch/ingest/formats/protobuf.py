"""protobuf: OTLP exports in protobuf, as flat rows; a file holds one export or many, each behind its length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stillwatch.errors import InputError
from stillwatch.extras import require
from stillwatch.ingest.formats.otlp import *
from stillwatch.ingest.formats.wire import Calls, Told, event_name
from stillwatch.ingest.formats.otlp import called,told_in,together,needed,names_in
from stillwatch.ingest.formats.attributes import *
from stillwatch.ingest.importer import Exploded
class NAMES_:
    def __contains__(s,x): return True
NAMES=needed(['x'])


_TRACES = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
_LOGS = "opentelemetry.proto.collector.logs.v1.logs_service_pb2"
_LENGTH_BYTES = 4


def exports(data: bytes) -> list[bytes]:
    """The exports in a file: those behind their lengths (4 bytes, big endian), as collectors write, or the whole."""
    found, at = [], 0
    while at + _LENGTH_BYTES < len(data):
        n = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        if not n or at + n > len(data):
            return [data]
        found.append(data[at : at + n])
        at += n
    return found if found and at == len(data) else [data]


def explode(found: Sequence[bytes], wanted: Wanted, *, signal: str | None = None) -> tuple[Exploded, int]:
    """What may be model calls in exports, and how many of these are none; `signal` is traces or logs where it is known."""
    names, told, n_refused = needed(wanted), [], 0
    for data in found:
        try:
            told.append(_told(data, names, signal))
        except InputError:
            n_refused += 1
    return called(together(told), names), n_refused


def _told(data, names, signal):
    if signal != "logs":
        calls = _spans(data, names)
        if signal == "traces" or any(place != ":" for place in calls.places):
            return calls
    return told_in(_log_records(data), names)


def names(data: bytes) -> list[str]:
    return names_in([{n: None for n in c} for c in [_told(data, NAMES, None).attributes.columns]])


def partial_success(n_rejected: int, why: str) -> bytes:
    """The answer to an export of which `n_rejected` spans or log records were not taken; both kinds look alike."""
    answer = require(_TRACES, "otlp").ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = n_rejected, why
    return bytes(answer.SerializeToString())


def _spans(data: bytes, names) -> Calls:
    export = _parsed(require(_TRACES, "otlp").ExportTraceServiceRequest(), data)
    spans = [span for one in export.resource_spans for scope in one.scope_spans for span in scope.spans]
    return Calls(
        [f"{span.trace_id.hex()}:{span.span_id.hex()}" for span in spans],
        [span.start_time_unix_nano or None for span in spans],
        ["error" if span.status.code == 2 else "200" for span in spans],
        of_rows([_pairs(span.attributes) for span in spans], [is_call(_pairs(span.attributes)) for span in spans], names),
        [[(event.name, _pairs(event.attributes)) for event in span.events] for span in spans],
        [False] * len(spans),
    )


def _log_records(data: bytes) -> Sequence[Told]:
    export = _parsed(require(_LOGS, "otlp").ExportLogsServiceRequest(), data)
    logs = (log for one in export.resource_logs for scope in one.scope_logs for log in scope.log_records)
    return [_log(log) for log in logs]


def _log(log: Any) -> Told:
    attributes = _pairs(log.attributes)
    place = f"{log.trace_id.hex()}:{log.span_id.hex()}" if log.trace_id and log.span_id else ""
    ts = log.time_unix_nano or log.observed_time_unix_nano or None
    return Told(place, ts, log.event_name or event_name(attributes), attributes, _value(log.body))


def _parsed(export: Any, data: bytes) -> Any:
    try:
        export.ParseFromString(data)
    except Exception as error:  # protobuf's own error class moves between its versions
        raise InputError("these bytes are no OTLP export", got=f"{len(data)} bytes", expected="protobuf") from error
    return export


def _pairs(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return [_value(one) for one in found.values]
    if kind == "kvlist_value":
        return _pairs(found.values)
    return found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else found
