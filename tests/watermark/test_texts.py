from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.errors import InputError
from stillwatch.watermark.grams import Tokens
from stillwatch.watermark.texts import read_documents


def by_letter(texts: Sequence[str]) -> list[Tokens]:
    return [np.array([ord(letter) for letter in text], np.int64) for text in texts]


def ids(path: Path) -> list[tuple[list[int], list[int]]]:
    return [(one.tokens.tolist(), one.prompt.tolist()) for one in read_documents(path, encode=by_letter)]


def test_token_ids_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    """Arrays, rows of JSON and rows of Parquet give the same documents."""
    rows = [{"tokens": [1, 2, 3], "prompt_tokens": [9]}, {"tokens": [4, 5, 6], "prompt_tokens": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    np.save(tmp_path / "a.npy", np.array([[1, 2, 3], [4, 5, 6]], np.uint16))
    np.save(tmp_path / "one.npy", np.array([7, 8]))
    expected = [([1, 2, 3], [9]), ([4, 5, 6], [])]
    assert ids(tmp_path / "a.jsonl") == ids(tmp_path / "a.parquet") == expected
    (tmp_path / "b.jsonl").write_text("\ufeff" + json.dumps(rows[0]))
    assert ids(tmp_path / "b.jsonl") == expected[:1]
    assert ids(tmp_path / "a.npy") == [([1, 2, 3], []), ([4, 5, 6], [])]
    assert ids(tmp_path / "one.npy") == [([7, 8], [])]
    assert len(ids(tmp_path)) == 8


def test_text_is_read_by_the_tokenizer_given(tmp_path: Path) -> None:
    """Text, completions and whole files go through the tokenizer, prompts too, and stay in their order among ids."""
    rows = [{"text": "ab", "prompt": "c"}, {"tokens": [1]}, {"completion": "d"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.txt").write_bytes(b"x\xff")
    assert ids(tmp_path / "a.jsonl") == [([97, 98], [99]), ([1], []), ([100], [])]
    assert ids(tmp_path / "b.txt") == [([120, 0xFFFD], [])]


def test_many_rows_are_read_in_pieces(tmp_path: Path) -> None:
    """A file of more rows than are held at once is read whole and in order."""
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": "a" * (at % 7)}) for at in range(2500)))
    assert [len(tokens) for tokens, _ in ids(tmp_path / "a.jsonl")] == [at % 7 for at in range(2500)]


@pytest.mark.parametrize(
    "line",
    [
        '{"text": 7}', '{"tokens": ["a"]}', '{"tokens": [1.5]}', '{"tokens": [[1]]}', '{"other": 1}', "[1, 2]",
        "nonsense", '{"text": "a", "prompt": 3}', '{"tokens": [1], "prompt_tokens": ["b"]}', '{"tokens": {"a": 1}}',
        '{"tokens": 3}', '{"tokens": [99999999999999999999]}', '{"tokens": [1, null]}', '{"tokens": [true]}',
        '{"tokens": [[1, 2], [3]]}', '{"text": ' + "[" * 200_000 + "]" * 200_000 + "}",
    ],
)  # fmt: skip
def test_rows_that_are_neither_are_refused(tmp_path: Path, line: str) -> None:
    """A row without ids or text, or with something else in their place, is one line of error that says where."""
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"a\.jsonl"):
        ids(tmp_path / "a.jsonl")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """Absent, empty, foreign, broken and pickled files are errors that name the file; no pickle is loaded."""
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "none.npy").write_bytes(b"")
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "empty.jsonl").write_text("")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "floats.npy", np.array([1.5]))
    for name in ("bad.parquet", "bad.npy", "none.npy", "x.csv", "empty.jsonl", "pickled.npy", "floats.npy", "absent"):
        with pytest.raises(InputError, match=name.partition(".")[0]):
            ids(tmp_path / name)


HEADER = "{'descr': '<i8', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "header",
    [
        "[" * 50, "'\''", "    x\n  y", "{[]: 1}", HEADER % "(10**30,)", HEADER % f"({10**30},)", HEADER % "(2, True)",
        HEADER % "(-5,)", HEADER % "(99999999999999,)",
    ],
)  # fmt: skip
def test_a_damaged_header_is_one_line(tmp_path: Path, header: str) -> None:
    """Whatever NumPy raises at a header, the error names the file."""
    raw = f"{header}\n".encode()
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + bytes(64))
    with pytest.raises(InputError, match=r"bad\.npy cannot be read"):
        ids(tmp_path / "bad.npy")


def test_no_archive_is_taken_for_an_array(tmp_path: Path) -> None:
    """A file that begins as a zip archive does and is none is an error that names it."""
    (tmp_path / "bad.npy").write_bytes(b"PK\x03\x04" + bytes(64))
    with pytest.raises(InputError, match=r"bad\.npy cannot be read"):
        ids(tmp_path / "bad.npy")


def test_an_array_of_an_older_python_is_read_quietly(tmp_path: Path) -> None:
    """A header as Python 2 wrote it is read, without a warning among the findings."""
    raw = (HEADER % "(3L,)" + "\n").encode()
    body = np.arange(3, dtype="<i8").tobytes()
    (tmp_path / "old.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + body)
    assert ids(tmp_path / "old.npy") == [([0, 1, 2], [])]


def test_the_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    """Of a file of many lines the error says which one."""
    (tmp_path / "a.jsonl").write_text('{"tokens": [1]}\n\n{"tokens": [1')
    with pytest.raises(InputError, match=r"a\.jsonl cannot be read; got line 3: "):
        ids(tmp_path / "a.jsonl")


def test_what_is_not_a_plain_file_is_refused(tmp_path: Path) -> None:
    """A pipe is not waited for, and an archive under another name is not taken for an array."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    np.savez(tmp_path / "made.npz", a=np.arange(3))
    (tmp_path / "made.npz").rename(tmp_path / "made.npy")
    for name in ("pipe.jsonl", "made.npy"):
        with pytest.raises(InputError, match=name.partition(".")[0]):
            ids(tmp_path / name)


def test_text_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """The error says how to name one."""
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match="--tokenizer"):
        read_documents(tmp_path / "a.txt")
