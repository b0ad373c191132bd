"""jsonl: column names and raw batches of JSON lines, plain or packed.

Lines are decoded many at a time by msgspec, only the keys asked for. A line it refuses gets a second, lenient reading
(NaN, lone surrogates, control characters, invalid UTF-8, nesting without end); what that refuses too is rejected by
name.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from stillwatch.errors import InputError
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.raw import Columns, Raw
from stillwatch.ingest.stream import BLOCK_BYTES, Stream, blocks, first_block
from stillwatch.kernels.nesting import shallow

_SAMPLE_LINES = 1000
_SAMPLE_WINDOWS = 8
_SAMPLE_BYTES = 64 << 10
_DEPTH = 3
_MOST_DIGITS = 4000
"""Python refuses to read numbers of more than 4300."""

_REMEDIES = {
    b"[": "For one list in a file: jq -c '.[]' FILE > FILE.jsonl; if jq refuses it, it was cut: copy it again",
    b"{": "For objects over many lines: jq -c . FILE > FILE.jsonl; if jq refuses it, it was cut: copy it again",
}

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)


def columns(file: LogFile) -> Columns:
    """The dotted names of the keys in a sample: the first thousand lines and, in a large plain file, some throughout.

    Raises InputError where none of these lines is a JSON object.
    """
    names: dict[str, None] = {}
    chats: set[str] = set()
    n_lines = n_objects = 0
    first = b""
    for line in _sample(file):
        first = first or line.lstrip()[:1]
        n_lines += 1
        row, _ = lenient(line)
        if isinstance(row, dict):
            n_objects += 1
            for name, value in _flat(row, "", _DEPTH):
                names.setdefault(name)
                if _is_chat(value):
                    chats.add(name)
    if n_lines and not n_objects:
        raise InputError(
            f"{file.name} is not JSON lines: none of its first {n_lines} lines is a JSON object",
            expected="one object per line",
            do=_REMEDIES.get(first, "Leave it out, or rename it to say what it is"),
        )
    return Columns(names=tuple(names), chats=frozenset(chats))


def read(file: LogFile, sources: Mapping[str, str]) -> Iterator[Raw]:
    """Raw batches of the columns `sources` (canonical -> theirs). Cost: linear; memory: a block and its values."""
    paths = {ours: _path(theirs, file) for ours, theirs in sources.items()}
    heads = {head: f"c{n}" for n, head in enumerate(dict.fromkeys(path[0] for path in paths.values()))}
    decoder = _decoder(heads)
    with Stream(file) as stream:
        for block, n_long in blocks(stream):
            rejects = Counter(line_too_long=n_long) if n_long else Counter[str]()
            notes: Counter[str] = Counter()
            rows = _decode(block, decoder, heads, rejects, notes)
            cells = {ours: _values(rows, heads[path[0]], path[1:]) for ours, path in paths.items()}
            yield Raw(cells, len(rows), done_bytes=stream.n_read, rejects=rejects, notes=notes)
        if stream.cut:
            yield Raw(done_bytes=file.n_bytes, rejects={"truncated_file": 1})


def _decoder(heads: Mapping[str, str]) -> msgspec.json.Decoder[Any]:
    fields: list[tuple[str, Any, Any]] = [(name, Any, None) for name in heads.values()]
    line = msgspec.defstruct("Line", fields, rename={name: head for head, name in heads.items()}, gc=False)
    return msgspec.json.Decoder(line)


def _path(theirs: str, file: LogFile) -> list[str]:
    if any(char in '"\\' or ord(char) < ord(" ") for char in theirs):
        raise InputError(f"{file.name}: the key {theirs!r} cannot be read", do="Rename it without quotes in its name")
    return theirs.split(".")


def _decode(
    block: bytes,
    decoder: msgspec.json.Decoder[Any],
    heads: Mapping[str, str],
    rejects: Counter[str],
    notes: Counter[str],
) -> Sequence[Any]:
    try:
        rows: Sequence[Any] = decoder.decode_lines(block)
        return rows
    except _REFUSED:
        pass
    kept: list[Any] = []
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            kept.append(decoder.decode(line))
        except _REFUSED:
            row, spoilt = lenient(line)
            if isinstance(row, dict):
                kept.append(decoder.type(**{name: row.get(head) for head, name in heads.items()}))
                notes[spoilt] += 1
            else:
                rejects[spoilt] += 1
    return kept


def lenient(line: bytes, *, lists: bool = False) -> tuple[Any, str]:
    """One line by the standard library, with the note it deserves; None and the reason where that refuses it too.

    With `lists` a list of records will do. What lies deeper than a hundred levels becomes null: no column reads it.
    """
    note = "line_read_leniently" if line.isascii() or _is_utf8(line) else "line_invalid_utf8"
    try:
        try:
            row = _plain(line)
        except RecursionError:
            row = _plain(shallow(line))
    except (ValueError, RecursionError):
        return None, "line_broken_json"
    return (row, note) if isinstance(row, (dict, list) if lists else dict) else (None, "line_not_an_object")


def _plain(line: bytes) -> Any:
    return _clean(json.loads(line.decode("utf-8", "surrogateescape"), strict=False, parse_int=_whole))


def _whole(digits: str) -> int | float:
    """A whole number; one too long for Python is as good as infinite."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _clean(value: Any) -> Any:
    """The value with not-a-number as null, and bytes and surrogates that no UTF-8 text can hold spelt out."""
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            raw = value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = value.encode("utf-8", "backslashreplace")
        return raw.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _values(rows: Sequence[Any], name: str, path: Sequence[str]) -> list[Any]:
    """One column: the field `name` of every row, and what lies at `path` inside it."""
    found = list(map(attrgetter(name), rows))
    for key in path:
        found = [value.get(key) if isinstance(value, dict) else None for value in found]
    return found


def _sample(file: LogFile) -> Iterator[bytes]:
    lines = first_block(file).split(b"\n", _SAMPLE_LINES)
    yield from (line for line in lines[:_SAMPLE_LINES] if line.strip())
    if file.packing or file.n_bytes <= BLOCK_BYTES:
        return
    with file.path.open("rb") as raw:
        for n in range(1, _SAMPLE_WINDOWS + 1):
            raw.seek(file.n_bytes * n // (_SAMPLE_WINDOWS + 1))
            yield from (line for line in raw.read(_SAMPLE_BYTES).split(b"\n")[1:-1] if line.strip())


def _flat(row: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        yield prefix + key, value
        if depth > 1 and isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.", depth - 1)


def _is_chat(value: Any) -> bool:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = msgspec.json.decode(value)
        except _REFUSED:
            return False
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) and "role" in turn for turn in value)
