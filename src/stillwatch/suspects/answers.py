"""answers: what a model said, prompt by prompt: read from a file or collected from an endpoint.

A place is written `[FAMILY=]PLACE[#MODEL]`. PLACE is a Parquet or JSONL file (also .gz, .zst) with `prompt` and
`output`; `model` and `family` are read where they are there, and #MODEL picks one model of a file that holds several.
For an endpoint PLACE is its base address and #MODEL the model to ask for. FAMILY says which models are of one origin:
the versions of one vendor's model are one control, not several.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from stillwatch.errors import InputError

MAX_ROWS = 5_000_000
MAX_BYTES = 2 * 2**30
"""Of a file, packed and unpacked: answers are held in memory, and a few hundred prompts are all that is needed."""

N_ROWS_AT_ONCE = 64
"""Rows of a Parquet file that become text at once: one value may stand for all of them."""
ENDPOINT_STARTS = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Place:
    """Where answers come from, as it was written on the command line."""

    written: str
    family: str | None
    where: str
    model: str | None

    @property
    def is_endpoint(self) -> bool:
        """Whether the answers must be asked for."""
        return self.where.startswith(ENDPOINT_STARTS)


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one model: for each prompt one or more texts, in the order of the file.

    `source` is the SHA-256 of the file's bytes, or the address and the model of an endpoint; `rejects` counts rows
    without a prompt or a text, and prompts an endpoint refused.
    """

    name: str
    family: str
    outputs: Mapping[str, tuple[str, ...]]
    source: str = ""
    rejects: int = 0


def parse_place(written: str) -> Place:
    """Read `[FAMILY=]PLACE[#MODEL]`; a path that exists is taken as it stands.

    >>> parse_place("claude=outputs.parquet#claude-2")
    Place(written='claude=outputs.parquet#claude-2', family='claude', where='outputs.parquet', model='claude-2')
    """
    family, where = None, written
    if not Path(written).exists():
        before, equals, after = written.partition("=")
        if equals and before and after and "/" not in before and "#" not in before:
            family, where = before, after
    model = None
    if not Path(where).exists() and "#" in where:
        where, _, named = where.rpartition("#")
        model = named or None
    place = Place(written, family, where, model)
    if not where:
        raise InputError("a place names no file", got=repr(written), expected="[FAMILY=]FILE[#MODEL]")
    if place.is_endpoint and model is None:
        raise InputError("an endpoint needs the name of a model", got=written, do="Write it as ADDRESS#MODEL.")
    return place


class Files:
    """Files of answers, each read once however many of its models are asked for."""

    def __init__(self) -> None:
        self._read: dict[str, list[Answers]] = {}

    def several(self, place: Place) -> list[Answers]:
        """The models of one file, or the one that #MODEL names.

        Raises:
            InputError: the file cannot be read, lacks a column, or holds no such model.
        """
        if place.where not in self._read:
            self._read[place.where] = read_answers(Path(place.where))
        models = self._read[place.where]
        chosen = [one for one in models if place.model in (None, one.name)]
        if not chosen:
            raise InputError(f"{place.where} holds no model {place.model!r}", got=_some([one.name for one in models]))
        return [replace(one, family=place.family) if place.family else one for one in chosen]

    def rejects(self) -> dict[str, int]:
        """Rows without a prompt or a text, by file."""
        return {where: models[0].rejects for where, models in self._read.items()}

    def one(self, place: Place) -> Answers:
        """The one model of a file.

        Raises:
            InputError: as `several`, and where the file holds several models and none is named.
        """
        found = self.several(place)
        if len(found) > 1:
            raise InputError(
                f"{place.where} holds {len(found)} models", got=_some([one.name for one in found]),
                do=f"Name one: {place.where}#{found[0].name}",
            )  # fmt: skip
        return found[0]


def read_answers(path: Path) -> list[Answers]:
    """The models of one file, by name.

    Raises:
        InputError: the file cannot be read, or lacks a column.

    Cost: the whole file in memory; some 10 microseconds a row.
    """
    content = _content(path)
    size = 0
    grouped: dict[str, dict[str, list[str]]] = {}
    families: dict[str, str] = {}
    rejects = 0
    for row in _rows(path, content):
        model, family, prompt, output = (row.get(name) for name in ("model", "family", "prompt", "output"))
        name = model if isinstance(model, str) and model else _stem(path)
        if not (isinstance(prompt, str) and prompt and isinstance(output, str)):
            rejects += 1
            continue
        size += len(prompt) + len(output)
        if size > MAX_BYTES:
            raise _too_large(path)
        grouped.setdefault(name, {}).setdefault(prompt, []).append(output)
        if isinstance(family, str) and family:
            families.setdefault(name, family)
    if not grouped:
        raise InputError(
            f"{path} holds no answers", got=f"{rejects} unreadable rows", expected="rows with prompt and output"
        )
    source = hashlib.sha256(content).hexdigest()
    return [
        Answers(
            name=name,
            family=families.get(name, name),
            outputs={prompt: tuple(texts) for prompt, texts in outputs.items()},
            source=source,
            rejects=rejects,
        )
        for name, outputs in sorted(grouped.items())
    ]


def _some(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def _stem(path: Path) -> str:
    """The name of a file without the endings of its kind: "gpt-4.1.jsonl" and "gpt-4.5.jsonl" are not one model."""
    name = path.name
    for endings in ((".gz", ".zst"), (".jsonl", ".ndjson", ".json", ".parquet")):
        name = next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
    return name or path.name


def _rows(path: Path, content: bytes) -> Iterator[dict[str, Any]]:
    if path.name.endswith(".parquet"):
        try:
            file = pq.ParquetFile(io.BytesIO(content))
            columns = file.schema_arrow.names
            wanted = [name for name in ("model", "family", "prompt", "output") if name in columns]
            if not {"prompt", "output"} <= set(wanted):
                raise _lacks(path, columns)
            if file.metadata.num_rows > MAX_ROWS:
                raise _too_many(path)
            for batch in file.iter_batches(batch_size=N_ROWS_AT_ONCE, columns=wanted):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path} is not Parquet", got=str(error)[:200]) from error
        return
    decoder = msgspec.json.Decoder()
    named = False
    for n, line in enumerate(_unpacked(path, content).removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{path} line {n} is not JSON", got=str(error)[:120]) from error
        if not isinstance(row, dict):
            raise InputError(f"{path} line {n} is not an object", expected='{"prompt": ..., "output": ...}')
        named = named or {"prompt", "output"} <= row.keys()
        if not named:
            raise _lacks(path, row)
        if n > MAX_ROWS:
            raise _too_many(path)
        yield row


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file", got="a pipe, a device or a folder")
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(path)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read", got=getattr(error, "strerror", None) or str(error)) from error


def _within(path: Path, content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise _too_large(path)
    return content


def _too_large(path: Path) -> InputError:
    return InputError(
        f"{path} holds more than {MAX_BYTES / 2**30:g} GiB", do="Take a sample: a few hundred prompts do."
    )


def _too_many(path: Path) -> InputError:
    return InputError(f"{path} has more than {MAX_ROWS:,} rows", do="Take a sample: a few hundred prompts do.")


def _unpacked(path: Path, content: bytes) -> bytes:
    try:
        if path.name.endswith(".gz"):
            with gzip.open(io.BytesIO(content)) as reader:
                return _within(path, reader.read(MAX_BYTES + 1))
        if path.name.endswith(".zst"):
            with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as packed:
                return _within(path, packed.read(MAX_BYTES + 1))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path} cannot be unpacked", got=str(error)[:120]) from error
    if not path.name.endswith((".jsonl", ".ndjson", ".json")):
        raise InputError(f"{path} is of no known kind", expected=".parquet, .jsonl, .jsonl.gz or .jsonl.zst")
    return content


def _lacks(path: Path, columns: Any) -> InputError:
    return InputError(
        f"{path} lacks a column", got=_some([str(column)[:40] for column in columns]), expected="prompt and output",
        do="Rename the two columns; model and family may stand beside them.",
    )  # fmt: skip
