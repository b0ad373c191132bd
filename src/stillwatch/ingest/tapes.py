"""tapes: values as JSON writes them, as Arrow arrays: texts, numbers, and the conversations in lists of turns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.ingest.cast import CHAT
from stillwatch.kernels.columns import I64, text_spans
from stillwatch.kernels.lexing import ARRAY, ESCAPED, NULL, OBJECT, TEXT, Words
from stillwatch.kernels.tape import Names, Tape, items, members, tape
from stillwatch.kernels.written import Values, texts, whole
from stillwatch.records import MESSAGE

Kinds = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_TURN = Names.of(["role", "content"])


def are_texts(kinds: Kinds) -> Bools:
    """Which kinds are texts."""
    found: Bools = (kinds == TEXT) | (kinds == ESCAPED)
    return found


def strings(values: Values) -> pa.Array:
    """Texts; null where there is none."""
    offsets, data = texts(values)
    return pa.Array.from_buffers(
        pa.string(), len(values.kind), [_bits(values.kind != NULL), pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def _bits(is_there: Bools) -> pa.Buffer | None:
    return None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))


def raws(values: Values) -> pa.Array:
    """Values as they are written; null, where it is written, too."""
    quotes = are_texts(values.kind).astype(np.int32)
    starts, ends = values.first - quotes, values.last + quotes
    kinds = np.where(ends > 0, np.uint8(TEXT), np.uint8(NULL))
    found = strings(Values(values.data, kinds, starts, ends))
    return pa.Array.from_buffers(pa.binary(), len(found), found.buffers(), found.null_count)


def numbers(values: Values) -> pa.Array:
    """Whole numbers; null where there is none."""
    return pa.array(whole(values), mask=values.kind == NULL)


def reals(values: Values) -> pa.Array:
    """Numbers with a fraction; null where there is none."""
    return strings(values).cast(pa.float64())


def chats(values: Values, marks: Words | None = None) -> pa.Array | None:
    """Conversations, which are lists of a role and a text; None where one is something else."""
    is_list = values.kind == ARRAY
    if (is_list != (values.kind != NULL)).any():
        return None
    rows = np.flatnonzero(is_list)
    given = tape(values.data, values.first[rows].astype(np.int64), values.last[rows].astype(np.int64), marks=marks)
    if given is None:
        return None
    turns, found = items(given, given.roots)
    counts = np.zeros(len(is_list), np.int64)
    counts[rows] = found
    return _chat(given, turns, counts)


def _chat(given: Tape, turns: I64, counts: I64) -> pa.Array | None:
    if (given.kind[turns] != OBJECT).any():
        return None
    found = members(given, turns, _TURN)
    if found is None:
        return None
    roles, contents = given.at(found[0]), given.at(found[1])
    if not are_texts(contents.kind).all() or not (are_texts(roles.kind) | (roles.kind == NULL)).all():
        return None
    return chat(counts, strings(roles), strings(contents))


def chat(counts: I64, roles: pa.Array, contents: pa.Array) -> pa.Array:
    """Conversations of so many turns each; one without any is null."""
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    mask = None if counts.all() else np.append(counts == 0, False)
    struct = pa.StructArray.from_arrays([roles, contents], fields=list(MESSAGE))
    return pa.ListArray.from_arrays(pa.array(ends, mask=mask), struct).cast(CHAT)


def chats_in(column: pa.Array) -> pa.Array | None:
    """The conversations in texts that are lists of turns as JSON; None where one is something else."""
    given = tape_of_lists(column)
    return None if given is None else _chat(given, *items(given, given.roots))


def tape_of_lists(column: pa.Array) -> Tape | None:
    """The tape of texts that are lists as JSON; None where one is something else."""
    if column.type != pa.string() or column.null_count or not len(column):
        return None
    spans = text_spans(column)
    starts, ends = spans.offsets[:-1], spans.offsets[1:]
    if (starts == ends).any() or (spans.data[starts] != ord("[")).any():
        return None
    return tape(spans.data, starts, ends)
