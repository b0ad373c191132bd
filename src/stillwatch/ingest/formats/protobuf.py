"""protobuf: OTLP exports in protobuf, as flat rows; a file holds one export or many, each behind its length.

The numbers of fields are those of opentelemetry-proto 1.x (trace, logs, common), which never change. All exports of a
file are read together, one level of nesting at a time; what nobody asked for is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillwatch.ingest.formats.attributes import (
    CALLS,
    FIRST_NUMBERED,
    NOT_NUMBERED,
    OPERATION,
    Attributes,
    Wanted,
    is_calling,
    numbered_in,
)
from stillwatch.ingest.formats.messages import Messages, Reader
from stillwatch.ingest.formats.otlp import called, names_in, needed, together, told_in
from stillwatch.ingest.formats.wire import Calls, Told, event_name
from stillwatch.ingest.importer import Exploded
from stillwatch.kernels.columns import I64
from stillwatch.kernels.protowire import FIXED64, LENGTH, VARINT, named

_LENGTH_BYTES = 4
_BARE = 0x0A
"""The first byte of an export that stands without its length: field 1, of which it consists."""


def exports(data: bytes) -> tuple[list[bytes], bool]:
    """The exports in a file, those behind their lengths (4 bytes, big endian) or the whole, and whether it was cut."""
    found, at = [], 0
    while data[:1] != bytes([_BARE]) and at + _LENGTH_BYTES <= len(data):
        n = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if at + _LENGTH_BYTES + n > len(data):
            break
        found.append(data[at + _LENGTH_BYTES : at + _LENGTH_BYTES + n])
        at += _LENGTH_BYTES + n
    return (found, at < len(data)) if found else ([data], False)


def explode(found: Sequence[bytes], wanted: Wanted, *, signal: str | None = None) -> tuple[Exploded, int]:
    """What may be model calls in exports, and how many of these are none; `signal` is traces or logs where known.

    Cost: about 5 us for a span of twenty attributes, and what `called` costs.
    """
    names = needed(wanted)
    parts, n_refused = _told(found, names, signal)
    return called(together(parts), names), n_refused


def names(data: bytes) -> list[str]:
    """The names of the attributes of calls in an export, and of the columns made of them."""
    reader = Reader([data])
    rows = reader.dicts(reader.inside(reader.items, 9), len(reader.items.starts))
    for row, _, more in reader.events(reader.items):
        rows[row] |= {name: value for name, value in more.items() if name.startswith("gen_ai.")}
    return names_in([*rows, *(log.attributes for log in _logs(reader, reader.items))])


def partial_success(n_rejected: int, why: str) -> bytes:
    """The answer to an export of which `n_rejected` spans or log records were not taken; both kinds look alike."""
    inside = b"\x08" + _varint(n_rejected) + b"\x12" + _varint(len(why.encode())) + why.encode()
    return b"\x0a" + _varint(len(inside)) + inside


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _told(found: Sequence[bytes], names: Wanted, signal: str | None) -> tuple[list[Calls], int]:
    reader = Reader(found)
    items, export = reader.items, reader.export_of(reader.items.starts)
    are_logs = np.full(len(found), signal == "logs")
    if signal is None:
        # A span begins with its ids; under their numbers a log record has what is no text.
        ids = items.table
        are_logs[:] = True
        are_logs[export[ids.owner[(ids.number <= 2) & (ids.wire == LENGTH)]]] = False
    parts = [_calls(reader, items.of(~are_logs[export]), names)]
    parts += [told_in(_logs(reader, items.of(export == n)), names) for n in np.flatnonzero(are_logs)]
    if not reader.bad.any():
        return parts, 0
    sound = [one for one, is_bad in zip(found, reader.bad, strict=True) if not is_bad]
    return _told(sound, names, signal)[0] if sound else [], len(found) - len(sound)


def _calls(reader: Reader, spans: Messages, names: Wanted) -> Calls:
    n = len(spans.starts)
    traces, ids = (reader.hexes(*spans.table.having(number, LENGTH).last(n)) for number in (1, 2))
    start = spans.table.having(7, FIXED64).last(n)[1].view(np.uint64)
    status = reader.inside(spans, 15)
    codes = status.table.having(3, VARINT)
    failed = np.zeros(n, np.bool_)
    failed[status.owner[codes.owner]] = codes.value == 2
    events: list[list[tuple[str, dict[str, Any]]]] = [[] for _ in range(n)]
    for row, name, attributes in reader.events(spans):
        events[row].append((name, attributes))
    return Calls(
        [f"{trace}:{span}" for trace, span in zip(traces, ids, strict=True)],
        [one or None for one in start.tolist()],
        ["error" if one else "200" for one in failed.tolist()],
        _attributes(reader, reader.inside(spans, 9), n, names),
        events,
        [False] * n,
    )


def _logs(reader: Reader, logs: Messages) -> list[Told]:
    n = len(logs.starts)
    traces, ids = (reader.hexes(*logs.table.having(number, LENGTH).last(n)) for number in (9, 10))
    times, seen = (logs.table.having(number, FIXED64).last(n)[1].view(np.uint64).tolist() for number in (1, 11))
    events = reader.texts(*logs.table.having(12, LENGTH).last(n))
    bodies = reader.values(*logs.table.having(5, LENGTH).last(n))
    attributes = reader.dicts(reader.inside(logs, 6), n)
    return [
        Told(f"{trace}:{span}" if trace and span else "", time or late or None, event or event_name(more), more, body)
        for trace, span, time, late, event, more, body in zip(
            traces, ids, times, seen, events, attributes, bodies, strict=True
        )
    ]


def _attributes(reader: Reader, pairs: Messages, n: int, names: Wanted) -> Attributes:
    """The wanted attributes of those of n spans that make calls."""
    known = list(dict.fromkeys([OPERATION, *CALLS, *FIRST_NUMBERED, *names]))
    keys, (starts, ends) = reader.keys_and_values(pairs)
    found = named(reader.data, *keys, [name.encode() for name in known])
    calling = np.zeros(n, np.bool_)
    calling[pairs.owner[(found >= 0) & (found < len(CALLS))]] = True
    spots = np.flatnonzero(found == 0)
    for row, operation in zip(pairs.owner[spots].tolist(), reader.values(starts[spots], ends[spots]), strict=True):
        calling[row] &= is_calling(operation)
    is_wanted = np.array([name in names for name in known] + [False])
    spots = np.flatnonzero(is_wanted[found] & calling[pairs.owner])
    spots = spots[np.argsort(found[spots], kind="stable")]
    told, rows = reader.values(starts[spots], ends[spots]), pairs.owner[spots]
    cuts = np.searchsorted(found[spots], np.arange(len(known) + 1)).tolist()
    columns = {
        name: _placed(rows[first:end], told[first:end], n)
        for name, first, end in zip(known, cuts[:-1], cuts[1:], strict=True)
        if first < end
    }
    numbered: list[Mapping[str, Any]] = [NOT_NUMBERED] * n
    is_first = np.array([name in FIRST_NUMBERED for name in known] + [False])[found] & calling[pairs.owner]
    if is_first.any():
        have = np.zeros(n, np.bool_)
        have[pairs.owner[is_first]] = True
        numbered = list(map(numbered_in, reader.dicts(pairs.of(have[pairs.owner]), n)))
    return Attributes(calling.tolist(), columns, numbered)


def _placed(rows: I64, values: list[Any], n: int) -> list[Any]:
    """Values in a column of n rows; of several for one row the last."""
    if len(rows) == n and (rows == np.arange(n)).all():
        return values
    column: list[Any] = [None] * n
    for row, value in zip(rows.tolist(), values, strict=True):
        column[row] = value
    return column
