from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.audit.dataset import Dataset
from stillwatch.audit.declared import read_declared
from stillwatch.audit.licences import UNSTATED
from stillwatch.audit.shapes import ROWS as SCHEMA
from stillwatch.audit.shapes import first_answers
from stillwatch.errors import InputError

ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "It is 3."}
PAIR = {"prompt": "Add 1 and 2.", "completion": "It is 3."}
CHAT = [{"role": "system", "content": "s"}, {"role": "user", "content": "Add."}, {"role": "assistant", "content": "3"}]
SHAREGPT = [{"from": "human", "value": "Add."}, {"from": "gpt", "value": "3"}, {"from": "human", "value": "Thanks"}]
TEMPLATE = "Below is an instruction.\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\nIt is 3.</s>"
ROWS: list[tuple[dict[str, Any], tuple[str | None, str | None, str]]] = [
    (ALPACA, ("Add.\n1 and 2", "It is 3.", "alpaca")),
    ({"instruction": "Add.", "input": "", "output": "3"}, ("Add.", "3", "alpaca")),
    (PAIR, ("Add 1 and 2.", "It is 3.", "pair")),
    ({"question": "Why?", "answer": 42}, ("Why?", "42", "pair")),
    ({"messages": CHAT}, ("Add.", "3", "messages")),
    ({"conversations": SHAREGPT[:2]}, ("Add.", "3", "sharegpt")),
    ({"text": "Once upon a time."}, (None, "Once upon a time.", "plain")),
]


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read(*paths: Path, **options: Any) -> tuple[list[dict[str, Any]], Dataset]:
    dataset = Dataset(paths, **options)
    return [row for batch in dataset.batches() for row in batch.to_pylist()], dataset


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_every_shape_is_read_even_mixed_in_one_file(tmp_path: Path) -> None:
    """A file that mixes all shapes gives each row its own prompt, answer and shape, and numbers the rows."""
    rows, dataset = read(written(tmp_path / "mixed.jsonl", lines([row for row, _ in ROWS])))
    assert [(row["prompt"], row["answer"], row["shape"]) for row in rows] == [expected for _, expected in ROWS]
    assert [row["row"] for row in rows] == list(range(len(ROWS)))
    assert dataset.files[0].shapes == {"alpaca": 2, "pair": 2, "messages": 1, "sharegpt": 1, "plain": 1}
    assert not dataset.files[0].rejects


@pytest.mark.parametrize("layout", ["array", "pretty", "nested", "spaced", "long"])
def test_a_json_document_is_read_like_lines(tmp_path: Path, layout: str) -> None:
    """One array in a file, pretty-printed or below a key, gives the rows of the same objects as lines."""
    plain = [row for row, _ in ROWS]
    documents = {
        "array": json.dumps(plain),
        "pretty": json.dumps(plain, indent=2),
        "nested": json.dumps({"version": 1, "notes": ["x"], "data": plain}),
        "long": json.dumps({"about": {"of": "x" * 100}, "data": [{"text": "long " * 30_000}, *plain]}),
        "spaced": json.dumps({"version": 1, "data": plain}, indent=4),
    }
    rows, _ = read(written(tmp_path / "rows.json", documents[layout].encode()))
    rows = rows[layout == "long" :]
    assert [(row["prompt"], row["answer"], row["shape"]) for row in rows] == [expected for _, expected in ROWS]


def test_lines_with_arrays_of_objects_stay_lines(tmp_path: Path) -> None:
    """A row that holds a list of objects beside its text, alone or first of many, is one row."""
    row = {"id": 1, "tags": [{"a": 1}, {"b": 2}], "text": "t"}
    for rows in ([row], [row, row]):
        found, _ = read(written(tmp_path / "rows.jsonl", lines(rows)))
        assert [one["answer"] for one in found] == ["t"] * len(rows)


def test_every_answer_of_a_conversation_is_an_exchange_of_its_own(tmp_path: Path) -> None:
    """Answers stand with the question before them, whatever surrounds them; rows are counted once."""
    tool = [{"role": "tool", "content": "t"}, {"role": "assistant", "content": "4"}]
    logged = {"messages": CHAT[:2], "completion": "It is 3."}
    texts = {"text": TEMPLATE}, {"text": "User: a\nBot: b\nUser: c\nBot: d says User: x"}
    rows, dataset = read(
        written(
            tmp_path / "rows.jsonl",
            lines([{"conversations": SHAREGPT}, {"messages": CHAT + tool}, logged, *texts, {"text": "Plain."}]),
        )
    )
    assert [(row["prompt"], row["answer"], row["row"], row["first"]) for row in rows] == [
        ("Add.", "3", 0, True), ("Thanks", None, 0, False),
        ("Add.", "3", 1, True), (None, "4", 1, False),
        ("Add.", "It is 3.", 2, True),
        ("Below is an instruction.", None, 3, True), ("Add.\n\n### Input:\n1 and 2", "It is 3.", 3, False),
        ("a", "b", 4, True), ("c", "d says User: x", 4, False),
        (None, "Plain.", 5, True),
    ]  # fmt: skip
    assert dataset.files[0].shapes == {"sharegpt": 1, "messages": 2, "plain": 3}
    assert dataset.files[0].notes == {"text_in_turns": 2}


def test_of_a_conversation_the_first_answer_stands_for_the_row() -> None:
    """Rows without an answer give none, the others one each, whatever comes before it."""
    rows = [("q", "a", True), ("r", "b", False), ("only", None, True), ("preface", None, True), ("s", "c", False)]
    batch = pa.RecordBatch.from_pylist([{"prompt": p, "answer": a, "first": f} for p, a, f in rows], schema=SCHEMA)
    assert first_answers(batch).column("answer").to_pylist() == ["a", "c"]
    assert first_answers(batch.slice(2, 1)).num_rows == 0


def test_a_row_never_stands_in_two_batches(tmp_path: Path) -> None:
    """However many exchanges rows have, each batch begins with the first of a row."""
    turns = [{"role": role, "content": str(at)} for at in range(5) for role in ("user", "assistant")]
    dataset = Dataset([written(tmp_path / "rows.jsonl", lines([{"messages": turns}] * 10_000))])
    batches = list(dataset.batches())
    assert len(batches) > 1 and sum(batch.num_rows for batch in batches) == 50_000
    assert all(batch["first"][0].as_py() for batch in batches)
    assert [row for batch in batches for row in batch["row"].to_pylist()] == [
        at for at in range(10_000) for _ in range(5)
    ]


def test_parquet_and_csv_give_what_jsonl_gives(tmp_path: Path) -> None:
    """The same pairs and conversations come out of columnar files."""
    pq.write_table(pa.Table.from_pylist([{"messages": CHAT}, {"messages": None}]), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text('instruction,input,output\nAdd.,"1 and 2","It is\n3."\n', "utf-8")
    rows, dataset = read(tmp_path)
    assert [(row["prompt"], row["answer"]) for row in rows] == [("Add.", "3"), ("Add.\n1 and 2", "It is\n3.")]
    assert [read.rejects for read in dataset.files] == [{"row_without_text": 1}, {}]


@pytest.mark.parametrize("content", [b"[]", b"[" * 9000, b'{"data": [ {', b"[1, 2"])
def test_a_document_without_a_row_says_so(tmp_path: Path, content: bytes) -> None:
    """JSON that holds no whole row is named for that, not as an empty file; what stands beside it is read."""
    written(tmp_path / "a.json", content)
    written(tmp_path / "b.jsonl", lines([PAIR]))
    _, dataset = read(tmp_path)
    assert dataset.files[1].n_rows == 1 and dataset.files[0].n_rows == 0
    assert dataset.files[0].unreadable != "an empty file"


def test_a_column_of_ones_own_is_mapped(tmp_path: Path) -> None:
    """`--map` names a column that no table knows, and refuses a target that is none of ours."""
    path = written(tmp_path / "odd.jsonl", lines([{"frage": "Why?", "antwort": "Because."}]))
    rows, _ = read(path, mapping={"frage": "prompt", "antwort": "completion"})
    assert (rows[0]["prompt"], rows[0]["answer"]) == ("Why?", "Because.")
    with pytest.raises(InputError, match="no such column"):
        Dataset([path], mapping={"frage": "asked"})


def test_what_is_broken_is_counted_and_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """Bad escapes, other JSON, wrong encodings and empty rows each cost their own row, under a name of their own."""
    bad = [
        b'{"prompt": "bad \\x escape", "completion": "a"}',
        b"[1, 2, 3]",
        b'"only a string"',
        b'{"prompt": "latin \xe9", "completion": "caf\xe9"}',
        b'{"prompt": "", "completion": "   "}',
        b'{"messages": "not a list"}',
        b'{"messages": [{"role": "user"}, 7]}',
        b'{"prompt": "cut off',
        b"{" * 5000,
        b'{"prompt": {"deep": 1}, "completion": "kept"}',
    ]
    _, dataset = read(written(tmp_path / "bad.jsonl", b"\n".join(bad) + b"\n" + lines([PAIR])))
    found = dataset.files[0]
    assert found.n_rows == 3
    assert found.rejects == {"line_broken_json": 3, "line_not_an_object": 2, "row_without_text": 3}
    assert found.notes == {"line_invalid_utf8": 1, "chat_not_a_list": 1, "turn_not_read": 2, "value_not_text": 1}


def test_a_broken_object_in_an_array_costs_no_other(tmp_path: Path) -> None:
    """Within one array an object with a bad escape is rejected, and the ones after it are read."""
    document = b'[{"prompt":"a","completion":"x"},{"prompt":"\\q","completion":"x"},{"prompt":"b","completion":"]y}"}]'
    rows, dataset = read(written(tmp_path / "rows.json", document))
    assert [(row["prompt"], row["answer"]) for row in rows] == [("a", "x"), ("b", "]y}")]
    assert dataset.files[0].rejects == {"line_broken_json": 1}


@pytest.mark.parametrize("layout", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
def test_marked_encodings_are_read(tmp_path: Path, encoding: str, layout: str) -> None:
    """UTF-16, UTF-32 and UTF-8 with a byte order mark are read as what they are, and noted by name."""
    rows = [{"prompt": "é\U0001f600", "completion": "\u010a"}, PAIR]
    table = "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in rows)
    texts = {"jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "csv": table}
    text = texts.get(layout, json.dumps(rows, indent=1, ensure_ascii=False))
    found, dataset = read(written(tmp_path / f"w.{layout}", ("\ufeff" + text).encode(encoding)))
    assert [(row["prompt"], row["answer"]) for row in found] == [tuple(row.values()) for row in rows]
    assert dataset.files[0].notes == ({} if encoding == "utf-8" else {f"file_{encoding[:6].replace('-', '')}": 1})


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["w.jsonl", "w.json", "w.csv", "w.jsonl.gz"])
def test_wide_encodings_that_cannot_be_read_are_named(tmp_path: Path, encoding: str, name: str) -> None:
    """Without a byte order mark, or packed, UTF-16 and UTF-32 are named as what they are, and the rest is read."""
    text = f"prompt,completion\n{PAIR['prompt']},x\n" if name == "w.csv" else lines([PAIR]).decode()
    wide = text.encode(encoding)
    content = gzip.compress(("\ufeff" + text).encode(encoding)) if name.endswith(".gz") else wide
    written(tmp_path / name, content)
    written(tmp_path / "a.jsonl", lines([PAIR]))
    rows, dataset = read(tmp_path)
    assert len(rows) == 1
    assert f"is {encoding[:6].upper()} text" in str(dataset.files[1].unreadable)


def test_zeros_at_the_start_are_no_encoding(tmp_path: Path) -> None:
    """A log that begins with a hole of zeros costs its first line and nothing else."""
    _, dataset = read(written(tmp_path / "hole.jsonl", b"\0" * 4096 + lines([PAIR, PAIR])))
    assert dataset.files[0].n_rows == 1 and dataset.files[0].rejects == {"line_broken_json": 1}


def test_what_is_no_plain_file_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """A pipe, a socket, a device, a link to nothing and packed Parquet cost themselves; a pipe for a README too."""
    written(tmp_path / "a.jsonl", lines([PAIR]))
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("README.md", "croissant.json", "dataset_info.json", "LICENSE"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    written(tmp_path / "packed.parquet.gz", b"")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind("s.json")
    rows, dataset = read(tmp_path)
    assert len(rows) == 1 and len(dataset.files) == 1
    told = {name.removeprefix(f"{tmp_path}/") for name in dataset.skipped}
    assert told >= {
        "pipe.jsonl (a named pipe, not a plain file)",
        "s.json (a socket, not a plain file)",
        "zero.csv (a device, not a plain file)",
        "gone.parquet (a link to nothing)",
    }
    assert any(name.startswith("packed.parquet.gz (") for name in told) and len(told) == 9
    assert read_declared([tmp_path]).licence == UNSTATED
    with pytest.raises(InputError, match="not a plain file"):
        Dataset([tmp_path / "pipe.jsonl"])


def test_a_huge_line_is_counted(tmp_path: Path) -> None:
    """A line of 100 MB is not held in memory: it is rejected by name and its neighbours are read."""
    with (tmp_path / "long.jsonl").open("wb") as file:
        file.write(lines([PAIR]))
        file.write(b'{"prompt": "' + b"x" * (100 << 20) + b'", "completion": "y"}\n')
        file.write(lines([PAIR]))
    rows, dataset = read(tmp_path / "long.jsonl")
    assert len(rows) == 2
    assert dataset.files[0].rejects == {"line_too_long": 1}


def test_an_unreadable_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    """A damaged Parquet file, an empty file and one without a known column do not stop the audit of the rest."""
    written(tmp_path / "a.parquet", b"PAR1 and nothing else")
    written(tmp_path / "b.csv", b"x,y\n1,2\n")
    written(tmp_path / "c.jsonl", lines([PAIR]))
    written(tmp_path / "d.jsonl", b"")
    written(tmp_path / "dataset_info.json", b"{}")
    rows, dataset = read(tmp_path)
    assert len(rows) == 1
    assert [bool(one.unreadable) for one in dataset.files] == [True, True, False, True]
    assert "no column of a known shape" in str(dataset.files[1].unreadable)


def test_an_empty_column_is_named(tmp_path: Path) -> None:
    """A column that is there and never filled is listed, in rows and in columns."""
    written(tmp_path / "a.jsonl", lines([{"prompt": "p", "completion": None}] * 3))
    pq.write_table(pa.table({"text": ["t"], "document": pa.nulls(1, pa.string())}), tmp_path / "b.parquet")
    _, dataset = read(tmp_path)
    assert [one.empty_columns for one in dataset.files] == [["completion"], ["document"]]
    assert dataset.files[0].notes == {"answer_empty": 3}


def test_nothing_to_read_is_an_error_that_says_why(tmp_path: Path) -> None:
    """Where no row of any file is left, the one line names the reasons with their counts."""
    with pytest.raises(InputError, match="line_broken_json 2"):
        read(written(tmp_path / "a.jsonl", b'{"a": 1}\n{"text"\n{"text"\n'))


def test_a_table_with_two_columns_of_one_name_is_named_and_the_rest_read(tmp_path: Path) -> None:
    """Which of two twin columns is meant nobody can say: that file is unreadable, its neighbour is read."""
    pq.write_table(pa.Table.from_arrays([["a"], ["b"]], names=["text", "text"]), tmp_path / "a.parquet")
    written(tmp_path / "b.jsonl", lines([PAIR]))
    rows, dataset = read(tmp_path)
    assert len(rows) == 1 and "2 columns are called text" in str(dataset.files[0].unreadable)


def test_text_of_fixed_width_is_read_like_other_bytes(tmp_path: Path) -> None:
    """A column of bytes of one width is text, and bytes that are not UTF-8 cost a note and no file."""
    table = pa.table({"text": pa.array([b"abcd", b"\xff\xfeab"], pa.binary(4))})
    pq.write_table(table, tmp_path / "a.parquet")
    rows, dataset = read(tmp_path / "a.parquet")
    assert [row["answer"] for row in rows] == ["abcd", "\ufffd\ufffdab"]
    assert dataset.files[0].notes == {"value_invalid_utf8": 1}
