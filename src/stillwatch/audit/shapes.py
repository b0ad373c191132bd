"""shapes: what was asked and what was answered, from rows of any of the shapes training data comes in.

| shape    | a row looks like                                                          |
| -------- | ------------------------------------------------------------------------- |
| messages | `messages`: list of `role` and `content`                                   |
| sharegpt | `conversations`: list of `from` and `value`                                |
| alpaca   | `instruction`, perhaps `input`, and `output`                               |
| pair     | `prompt`, `question` or the like, and `completion`, `answer` or the like   |
| plain    | `text`; where its turns are marked (`### Instruction:`), taken apart at them |

Each row is read by the first shape that gives it text, so a file may mix them. A row is one exchange or, where it
is a conversation, several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.audit.turns import CONTENT, Exchange, in_lists, in_text, may_be_marked
from stillwatch.ingest.cast import Cells

CHATS = {"messages": "messages", "conversations": "sharegpt", "conversation": "sharegpt", "chat": "messages"}
"""Columns that hold whole conversations, and the shape they make."""

INSTRUCTION, INPUT = "instruction", "input"
PROMPTS = ("prompt", "question", "query", "problem")
ANSWERS = ("completion", "output", "response", "answer", "chosen", "solution")
TEXTS = ("text", "content", "document")
COLUMNS = (*CHATS, INSTRUCTION, INPUT, *PROMPTS, *ANSWERS, *TEXTS)
"""Every name that is looked for."""

SHAPES = ("messages", "sharegpt", "alpaca", "pair", "plain")

TEXT = pa.large_string()
ROWS = pa.schema([("prompt", TEXT), ("answer", TEXT), ("shape", pa.string()), ("first", pa.bool_())])
"""One exchange; `first` where it begins a row."""

_SCALARS = (bool, int, float)


def rows_of(cells: Mapping[str, Cells], n_rows: int, notes: Counter[str]) -> pa.Table:
    """The exchanges of n_rows rows as `ROWS`, in order; one all null where a row holds no text.

    `prompt` is null where it is not known, as in the plain shape. What was odd is counted in `notes`.
    """
    nothing = pa.nulls(n_rows, TEXT)
    column = {name: _texts(cells[name], notes) for name in COLUMNS if name in cells and name not in CHATS}
    said = _first(column, ANSWERS, nothing)
    prompt, answer = nothing, nothing
    shape = pa.nulls(n_rows, pa.string())
    several: dict[int, list[Exchange]] = {}

    def take(name: str, asked: pa.Array, told: pa.Array) -> pa.Array:
        nonlocal prompt, answer, shape
        free = pc.and_(pc.is_null(shape), pc.or_(pc.is_valid(asked), pc.is_valid(told)))
        prompt, answer = pc.if_else(free, asked, prompt), pc.if_else(free, told, answer)
        shape = pc.if_else(free, pa.scalar(name), shape)
        return free

    def take_several(name: str, found: dict[int, list[Exchange]]) -> None:
        if not found:
            return
        heads = [found[at][0] if at in found else (None, None) for at in range(n_rows)]
        free = take(name, *(pa.array(list(part), TEXT) for part in zip(*heads, strict=True)))
        taken = set(np.flatnonzero(free.to_numpy(zero_copy_only=False)).tolist())
        several.update({at: exchanges[1:] for at, exchanges in found.items() if at in taken and len(exchanges) > 1})

    for name, kind in CHATS.items():
        if name in cells:
            take_several(kind, _chats(cells[name], said, notes))
    if INSTRUCTION in column:
        instruction, more = column[INSTRUCTION], column.get(INPUT, nothing)
        # Both filled before they are joined: Arrow's own skipping of nulls loses rows of large strings.
        both = pc.binary_join_element_wise(pc.fill_null(instruction, ""), pc.fill_null(more, ""), pa.scalar("\n", TEXT))
        joined = pc.if_else(pc.is_valid(more), both, instruction)
        take("alpaca", *(pc.if_else(pc.is_valid(instruction), part, nothing) for part in (joined, said)))
    take("pair", _first(column, (*PROMPTS, INPUT), nothing), said)
    texts = pc.if_else(pc.is_null(shape), _first(column, TEXTS, nothing), nothing)
    take_several("plain", _marked(texts, notes))
    take("plain", nothing, texts)
    return _in_order(pa.table({"prompt": prompt, "answer": answer, "shape": shape}), several)


def first_answers(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Of each row of a batch of `ROWS` the first exchange with an answer: those of one conversation are much alike."""
    numbers = np.cumsum(rows.column("first").to_numpy(zero_copy_only=False))
    answered = np.flatnonzero(pc.is_valid(rows.column("answer")).to_numpy(zero_copy_only=False))
    return rows.take(pa.array(answered[np.unique(numbers[answered], return_index=True)[1]]))


def _in_order(heads: pa.Table, several: Mapping[int, list[Exchange]]) -> pa.Table:
    """The first exchange of each row, each followed by the others of its row."""
    n = heads.num_rows
    if not several:
        return heads.append_column("first", pa.array(np.ones(n, np.bool_))).cast(ROWS)
    rows = np.array([at for at, more in several.items() for _ in more], np.int64)
    parts = [list(part) for part in zip(*(one for more in several.values() for one in more), strict=True)]
    added = {"prompt": pa.array(parts[0], TEXT), "answer": pa.array(parts[1], TEXT)}
    added["shape"] = heads["shape"].take(pa.array(rows)).combine_chunks()
    every = pa.concat_tables([heads, pa.table(added)])
    first = pa.array(np.arange(n + len(rows)) < n)
    order = np.argsort(np.concatenate([np.arange(n), rows]), kind="stable")
    return every.append_column("first", first).take(pa.array(order)).cast(ROWS)


def _first(columns: Mapping[str, pa.Array], names: Iterable[str], nothing: pa.Array) -> pa.Array:
    """Of each row the first of these columns that holds text."""
    found = [columns[name] for name in names if name in columns]
    return pc.coalesce(*found) if found else nothing


def _texts(cells: Cells, notes: Counter[str]) -> pa.Array:
    """A column as text; empty and blank text is null, numbers are spelt out, what is no text is null and noted."""
    if not isinstance(cells, list):
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
        if pa.types.is_nested(kind):
            cells = cells.to_pylist()
        else:
            return _filled(_decoded(cells.cast(kind), notes))
    return _filled(pa.array([value if type(value) is str else _text(value, notes) for value in cells], TEXT))


def _filled(texts: pa.Array) -> pa.Array:
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
    return pc.if_else(blank, pa.scalar(None, TEXT), texts)


def _decoded(array: pa.Array, notes: Counter[str]) -> pa.Array:
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type) or _is_fixed(array.type):
        try:
            return array.cast(pa.binary() if _is_fixed(array.type) else array.type).cast(TEXT)
        except pa.ArrowInvalid:
            texts = [None if value is None else value.decode("utf-8", "replace") for value in array.to_pylist()]
            notes["value_invalid_utf8"] += sum(text is not None and "\ufffd" in text for text in texts)
            return pa.array(texts, TEXT)
    return array.cast(TEXT)


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind))


def _text(value: Any, notes: Counter[str]) -> str | None:
    """Text out of what stands where text should: a number, parts, a list of turns; None, noted, for anything else."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, _SCALARS):
        return str(value)
    if isinstance(value, list):
        parts = [_text(part, notes) for part in value]
        return "\n".join(part for part in parts if part) or None
    if isinstance(value, dict):
        inner = next((value[name] for name in CONTENT if value.get(name)), None)
        if inner is not None:
            return _text(inner, notes)
    notes["value_not_text"] += 1
    return None


def _chats(cells: Cells, said: pa.Array, notes: Counter[str]) -> dict[int, list[Exchange]]:
    """The exchanges of each conversation, by row; `said` (n_rows,) answers one that ends in a question, as in logs."""
    values = cells if isinstance(cells, list) else cells.to_pylist()
    found = {at: exchanges for at, value in enumerate(values) if (exchanges := _turns(value, notes))}
    for at, exchanges in found.items():
        asked, answer = exchanges[-1]
        if answer is None:
            exchanges[-1] = asked, said[at].as_py()
    return found


def _turns(value: Any, notes: Counter[str]) -> list[Exchange]:
    if isinstance(value, str | bytes):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            notes["chat_not_a_list"] += 1
            return []
    if value is None:
        return []
    if not isinstance(value, list):
        notes["chat_not_a_list"] += 1
        return []
    odd: Counter[str] = Counter()
    exchanges = in_lists(value, lambda one: _text(one, notes), lambda: odd.update(["turn_not_read"]))
    notes.update(odd)
    return exchanges


def _marked(texts: pa.Array, notes: Counter[str]) -> dict[int, list[Exchange]]:
    """The exchanges of each text in which turns are marked, by row."""
    likely = np.flatnonzero(pc.fill_null(may_be_marked(texts), False).to_numpy(zero_copy_only=False)).tolist()
    found = {at: exchanges for at in likely if (exchanges := in_text(texts[at].as_py()))}
    notes["text_in_turns"] += len(found)
    return found
