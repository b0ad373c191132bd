"""shapes: what was asked and what was answered, from rows of any of the shapes training data comes in.

| shape    | a row looks like                                                          |
| -------- | ------------------------------------------------------------------------- |
| messages | `messages`: list of `role` and `content`                                   |
| sharegpt | `conversations`: list of `from` and `value`                                |
| alpaca   | `instruction`, perhaps `input`, and `output`                               |
| pair     | `prompt`, `question` or the like, and `completion`, `answer` or the like   |
| plain    | `text`                                                                     |

Each row is read by the first shape that gives it text, so a file may mix them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

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
ROWS = pa.schema([("prompt", TEXT), ("answer", TEXT), ("shape", pa.string())])

_ASKS = {"user", "human", "prompter", "customer"}
_ANSWERS = {"assistant", "gpt", "bot", "model", "chatgpt", "claude", "bard", "ai"}
_CONTENT = ("content", "value", "text")
_SCALARS = (bool, int, float)


def rows_of(cells: Mapping[str, Cells], n_rows: int, notes: Counter[str]) -> pa.Table:
    """The rows as `ROWS`, shape (n_rows,), all null where a row holds no text; what was odd is counted in `notes`.

    `prompt` is null in the plain shape; conversations join their turns with line breaks, one row each.
    """
    nothing = pa.nulls(n_rows, TEXT)
    column = {name: _texts(cells[name], notes) for name in COLUMNS if name in cells and name not in CHATS}
    prompt, answer = nothing, nothing
    shape = pa.nulls(n_rows, pa.string())

    def take(name: str, asked: pa.Array, said: pa.Array) -> None:
        nonlocal prompt, answer, shape
        free = pc.and_(pc.is_null(shape), pc.or_(pc.is_valid(asked), pc.is_valid(said)))
        prompt, answer = pc.if_else(free, asked, prompt), pc.if_else(free, said, answer)
        shape = pc.if_else(free, pa.scalar(name), shape)

    for name, kind in CHATS.items():
        if name in cells:
            take(kind, *_chats(cells[name], notes))
    said = _first(column, ANSWERS, nothing)
    if INSTRUCTION in column:
        instruction, more = column[INSTRUCTION], column.get(INPUT, nothing)
        # Both filled before they are joined: Arrow's own skipping of nulls loses rows of large strings.
        both = pc.binary_join_element_wise(pc.fill_null(instruction, ""), pc.fill_null(more, ""), pa.scalar("\n", TEXT))
        joined = pc.if_else(pc.is_valid(more), both, instruction)
        take("alpaca", *(pc.if_else(pc.is_valid(instruction), part, nothing) for part in (joined, said)))
    take("pair", _first(column, (*PROMPTS, INPUT), nothing), said)
    take("plain", nothing, _first(column, TEXTS, nothing))
    return pa.table({"prompt": prompt, "answer": answer, "shape": shape}, schema=ROWS)


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
        inner = next((value[name] for name in _CONTENT if value.get(name)), None)
        if inner is not None:
            return _text(inner, notes)
    notes["value_not_text"] += 1
    return None


def _chats(cells: Cells, notes: Counter[str]) -> tuple[pa.Array, pa.Array]:
    """What was asked and what was answered in each conversation."""
    values = cells if isinstance(cells, list) else cells.to_pylist()
    asked, said = [], []
    for value in values:
        one, other = _turns(value, notes)
        asked.append(one)
        said.append(other)
    return _filled(pa.array(asked, TEXT)), _filled(pa.array(said, TEXT))


def _turns(value: Any, notes: Counter[str]) -> tuple[str | None, str | None]:
    if isinstance(value, str | bytes):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            notes["chat_not_a_list"] += 1
            return None, None
    if value is None:
        return None, None
    if not isinstance(value, list):
        notes["chat_not_a_list"] += 1
        return None, None
    asked: list[str] = []
    said: list[str] = []
    for one in value:
        turn = one if isinstance(one, dict) else {}
        role = turn.get("role") or turn.get("from")
        text = _text(next((turn[name] for name in _CONTENT if turn.get(name)), None), notes)
        if text and str(role).lower() in _ASKS:
            asked.append(text)
        elif text and str(role).lower() in _ANSWERS:
            said.append(text)
        elif text is None or role is None:
            notes["turn_not_read"] += 1
    return "\n".join(asked) or None, "\n".join(said) or None
