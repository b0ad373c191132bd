"""texts: what a detector reads: token ids or text, from files of any of four kinds.

| ending              | one document is                                                          |
| ------------------- | ------------------------------------------------------------------------ |
| `.npy`              | an array of token ids, or a row of one                                   |
| `.jsonl`, `.parquet` | a row: `tokens`, with `prompt_tokens` if known; or `text`, with `prompt` |
| `.txt`              | the whole file                                                           |

`completion` is read as `text`. Text needs a tokenizer: the provider's, whatever the student's is.
"""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import MAGIC_PREFIX

from stillwatch.errors import InputError
from stillwatch.extras import require
from stillwatch.watermark.grams import Document, Tokens

Encode = Callable[[Sequence[str]], list[Tokens]]
"""Texts to token ids."""

ENDINGS = (".jsonl", ".npy", ".parquet", ".txt")
ROWS_AT_ONCE = 1000
_NAMES = ("tokens", "prompt_tokens", "text", "completion", "prompt")
_NONE = np.zeros(0, np.int64)


def load_tokenizer(path: Path) -> Encode:
    """Read a tokenizer file of the `tokenizers` library (tokenizer.json).

    Raises:
        InputError: the file cannot be read as one. ExtraMissing: the library is not installed.
    """
    library = require("tokenizers", "tokenizer")
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise InputError(f"{path} is not a tokenizer file", got=str(error)[:200], expected="tokenizer.json") from error
    # Files carry what they were trained with; a text cut there would be judged by its beginning alone.
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> list[Tokens]:
        # Text that came from elsewhere may hold lone surrogates, which no tokenizer takes.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        return [np.array(one.ids, np.int64) for one in tokenizer.encode_batch(clean, add_special_tokens=False)]

    return encode


def read_documents(path: Path, *, encode: Encode | None = None) -> list[Document]:
    """The documents of a file, or of every file below a folder, in the order of their names.

    Args:
        encode: the tokenizer, for text; token ids are taken as they are.

    Raises:
        InputError: nothing to read, another kind of file, a row that is neither ids nor text, or text and no tokenizer.
    """
    if not path.exists():
        raise InputError(f"{path} is not there")
    files = sorted(one for one in path.rglob("*") if one.suffix in ENDINGS) if path.is_dir() else [path]
    documents = [document for file in files for document in _read(file, encode)]
    if not documents:
        raise InputError(f"{path} holds no text", expected=f"files of {', '.join(ENDINGS)}")
    return documents


def _read(path: Path, encode: Encode | None) -> Iterator[Document]:
    readers = {".npy": _arrays, ".jsonl": _lines, ".parquet": _table, ".txt": _whole}
    if path.suffix not in readers:
        raise InputError(
            f"{path} is of no kind that is read", got=path.suffix or "no ending", expected=", ".join(ENDINGS)
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file", got="a pipe, a device or a folder")
    rows: list[Mapping[str, Any]] = []
    try:
        for n, row in enumerate(readers[path.suffix](path), 1):
            rows.append(row | {"where": f"{path}, row {n}"})
            if len(rows) == ROWS_AT_ONCE:
                yield from _documents(rows, encode)
                rows = []
    except (OSError, EOFError, ValueError, RecursionError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read", got=str(error).splitlines()[0][:200]) from error
    yield from _documents(rows, encode)


def _documents(rows: Sequence[Mapping[str, Any]], encode: Encode | None) -> Iterator[Document]:
    texts = [row for row in rows if row.get("tokens") is None]
    ours = [row.get("text") if row.get("text") is not None else row.get("completion") for row in texts]
    for row, text in zip(texts, ours, strict=True):
        if not isinstance(text, str) or not isinstance(row.get("prompt") or "", str):
            raise InputError(f"{row['where']} holds neither tokens nor text", expected=", ".join(_NAMES))
    if texts and encode is None:
        raise InputError(f"{texts[0]['where']} is text", do="Name the provider's tokenizer: --tokenizer tokenizer.json")
    read = (
        iter(encode([*map(str, ours), *(row.get("prompt") or "" for row in texts)])) if encode and texts else iter(())
    )
    answers = [next(read) for _ in texts]
    made = iter([Document(answer, prompt) for answer, prompt in zip(answers, read, strict=True)])
    for row in rows:
        if row.get("tokens") is None:
            yield next(made)
        else:
            yield Document(_ids(row, "tokens"), _ids(row, "prompt_tokens"))


def _ids(row: Mapping[str, Any], name: str) -> Tokens:
    value = row.get(name)
    if value is None:
        return _NONE
    try:
        ids = _NONE if isinstance(value, list) and not value else np.asarray(value)
    except ValueError as error:
        raise InputError(f"{row['where']}: {name} is not a list of token ids", got="lists of many lengths") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"{row['where']}: {name} is not a list of token ids", got=str(ids.dtype))
    return ids.astype(np.int64)


def _arrays(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
            raise ValueError("no array of NumPy")
    try:
        with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
            # Without pickles: they run code.
            array: npt.NDArray[Any] = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        raise
    except Exception as error:  # a damaged header makes NumPy raise whatever its reader of Python text does
        raise ValueError(f"a damaged header: {error}") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "iu":
        raise InputError(f"{path} holds no token ids", got=f"{array.dtype} of {array.ndim} axes")
    for row in np.atleast_2d(array):
        yield {"tokens": np.asarray(row)}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        for n, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = msgspec.json.decode(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"line {n}: {error}") from error
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {n} is no object", got=type(row).__name__)
                yield {name: row[name] for name in _NAMES if name in row}


def _table(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        names = [name for name in _NAMES if name in file.schema_arrow.names]
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=names):
            yield from batch.to_pylist()


def _whole(path: Path) -> Iterator[dict[str, Any]]:
    yield {"text": path.read_bytes().decode("utf-8", "replace")}
