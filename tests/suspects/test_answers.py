from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stillwatch.errors import InputError
from stillwatch.suspects import answers
from stillwatch.suspects.answers import Files, parse_place, read_answers

ROWS = [
    {"model": "m", "family": "f", "prompt": "p", "output": "one"},
    {"model": "m", "prompt": "p", "output": "two"},
    {"model": "n", "prompt": "p", "output": "three"},
    {"model": "n", "prompt": "q", "output": None},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_every_kind_of_file_holds_the_same(name: str, tmp_path: Path) -> None:
    """Models, families, several answers to a prompt, and rows without text, from each kind of file."""
    path = tmp_path / name
    lines = "\n".join(map(json.dumps, ROWS)).encode()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        packed = {".gz": gzip.compress(lines), ".zst": zstandard.compress(lines)}
        path.write_bytes(packed.get(path.suffix, lines))
    m, n = read_answers(path)
    assert (m.name, m.family, m.outputs) == ("m", "f", {"p": ("one", "two")})
    assert (n.name, n.family, n.outputs) == ("n", "n", {"p": ("three",)})
    assert n.rejects == 1


def test_places(tmp_path: Path) -> None:
    """Family, file and model are told apart; a path that exists is taken as it stands, whatever is in its name."""
    assert [getattr(parse_place("a=b.parquet#c"), name) for name in ("family", "where", "model")] == [
        "a",
        "b.parquet",
        "c",
    ]
    one = parse_place("us=https://host/v1?x=1#m#1")
    assert (one.family, one.where, one.model, one.is_endpoint) == ("us", "https://host/v1?x=1#m", "1", True)
    odd = tmp_path / "a=b#c.jsonl"
    odd.write_text('{"prompt": "p", "output": "x"}')
    assert parse_place(str(odd)).where == str(odd)
    assert Files().one(parse_place(f"{odd}")).outputs == {"p": ("x",)}
    with pytest.raises(InputError, match="name of a model"):
        parse_place("https://host/v1")


def test_one_model_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    """The error says how to name one; a model that is not there is an error that lists those that are."""
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    files = Files()
    with pytest.raises(InputError, match=r"holds 2 models.*a\.jsonl#m"):
        files.one(parse_place(str(path)))
    assert files.one(parse_place(f"kin={path}#n")).family == "kin"
    with pytest.raises(InputError, match="no model 'x'; got m, n"):
        files.several(parse_place(f"{path}#x"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "holds no answers"),
        ("a.jsonl", b"{", "line 1 is not JSON"),
        ("a.jsonl", b"[1]", "line 1 is not an object"),
        ("a.jsonl", b'{"question": "x"}', "lacks a column; got question; expected prompt and output"),
        ("a.jsonl", b'{"prompt": 1, "output": 2}', "holds no answers"),
        ("a.jsonl.gz", b"nope", "cannot be unpacked"),
        ("a.jsonl.zst", b"nope", "cannot be unpacked"),
        ("a.parquet", b"nope", "is not Parquet"),
        ("a.txt", b"hello", "is of no known kind"),
    ],
)
def test_bad_files_are_one_line(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    """Whatever a file holds, the error names it and what was expected."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_answers(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_answers(tmp_path / "absent.jsonl")


def test_pipes_and_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is not waited for; a few bytes that unpack to more than the limit are never held."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match="not a file"):
        read_answers(tmp_path / "pipe.jsonl")
    monkeypatch.setattr(answers, "MAX_BYTES", 10_000)
    row = json.dumps({"prompt": "p", "output": "x" * 20_000}).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(row))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(row))
    (tmp_path / "a.jsonl").write_bytes(row)
    many = pa.table({"prompt": [f"p{n}" for n in range(100)], "output": ["x" * 200] * 100})
    pq.write_table(many, tmp_path / "a.parquet")
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.jsonl", "a.parquet"):
        with pytest.raises(InputError, match="holds more than"):
            read_answers(tmp_path / name)
    monkeypatch.setattr(answers, "MAX_ROWS", 10)
    with pytest.raises(InputError, match="more than 10 rows"):
        read_answers(tmp_path / "a.parquet")


def test_packed_files_in_several_pieces_are_read_whole(tmp_path: Path) -> None:
    """Appended gzip members and Zstandard frames are one file."""
    rows = [json.dumps({"prompt": p, "output": "x"}).encode() + b"\n" for p in "ab"]
    for name, pack in (("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(b"".join(pack(row) for row in rows))
        assert set(read_answers(tmp_path / name)[0].outputs) == {"a", "b"}


def test_columns_of_other_types_are_rejects(tmp_path: Path) -> None:
    """Lists, numbers, bytes and nulls where text should be are counted and left out."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "output": [["x"], None]}), path)
    with pytest.raises(InputError, match="holds no answers; got 2 unreadable rows"):
        read_answers(path)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("gpt-4.1.jsonl", "gpt-4.1"), ("v1.5.jsonl.gz", "v1.5"), ("m.ndjson.zst", "m"), (".jsonl", ".jsonl")],
)
def test_a_model_without_a_name_goes_by_its_whole_file_name(name: str, stem: str, tmp_path: Path) -> None:
    """Only the endings of the kind of file are taken off: versions of a model are not one model."""
    path = tmp_path / name
    line = b'{"prompt": "p", "output": "x"}\n'
    path.write_bytes({".gz": gzip.compress(line), ".zst": zstandard.compress(line)}.get(path.suffix, line))
    assert [(one.name, one.family) for one in read_answers(path)] == [(stem, stem)]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    """Editors on some systems begin UTF-8 files with one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "p", "output": "x"}\n')
    assert read_answers(path)[0].outputs == {"p": ("x",)}


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000])
def test_nesting_without_end_is_one_line_that_says_where(line: bytes, tmp_path: Path) -> None:
    """A line nested beyond what can be read is bad input, not a crash."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "p", "output": "x"}\n' + line)
    with pytest.raises(InputError, match="line 2 is not JSON"):
        read_answers(path)
