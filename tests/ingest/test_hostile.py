"""Bad input: a clear error or a counted, named reject; never a traceback, never a silent loss."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.ingest import delimited, footer, stream
from stillwatch.ingest import parquet as reader
from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.parquet import _bites
from stillwatch.ingest.source import open_logs

Rows = list[dict[str, Any]]
Reader = Callable[..., Any]
Writer = Callable[[Rows], Path]

GOOD = b'{"account_id": "a", "ts": 1793527200, "prompt": "p"}'


# --- Parquet ----------------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path: Path, table: Any, log_rows: Rows) -> Path:
    """A sound Parquet file of 600 rows."""
    path = tmp_path / "log.parquet"
    rows = [row | {"prompt": f"{n} {row['prompt']}"} for n, row in enumerate(log_rows * 100)]
    pq.write_table(table(rows), path, row_group_size=100)
    return path


def test_truncated_parquet(parquet: Path, reading: Reader) -> None:
    """A Parquet file cut short is an error that names it and the next step."""
    parquet.write_bytes(parquet.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"log\.parquet is damaged.*Copy it again, or leave it out"):
        reading(parquet)


@given(at=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=30))
def test_corrupt_parquet(at: int, junk: bytes, parquet: Path, reading: Reader, tmp_path: Path) -> None:
    """Damage anywhere in a Parquet file is an error that names it, or costs no row from the account."""
    data = bytearray(parquet.read_bytes())
    at %= len(data) - len(junk)
    data[at : at + len(junk)] = junk
    path = tmp_path / "bad.parquet"
    path.write_bytes(bytes(data))
    try:
        read = reading(path)
    except InputError as error:
        assert "bad.parquet" in str(error)
    else:
        assert read.n_accounted == sum(file.n_rows for file in read.source.describe().files)


def test_a_corrupt_file_among_good_ones(parquet: Path, reading: Reader, tmp_path: Path) -> None:
    """One damaged file stops the reading and is named, though others are sound."""
    data = parquet.read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"b\.parquet"):
        reading(tmp_path)


def test_text_called_parquet(tmp_path: Path, reading: Reader) -> None:
    """JSON lines under a Parquet name are recognised as text."""
    (tmp_path / "x.parquet").write_bytes(GOOD)
    with pytest.raises(InputError, match=r"x\.parquet is not a Parquet file.*rename it to \.jsonl"):
        reading(tmp_path / "x.parquet")


def test_duplicate_columns_in_parquet(tmp_path: Path, reading: Reader) -> None:
    """A needed column that is there twice is an error; one that nobody needs is not."""
    ts = pa.array([datetime(2026, 11, 1, tzinfo=UTC)])
    for names, fine in ((["account_id", "ts", "x", "x"], True), (["account_id", "ts", "ts", "x"], False)):
        values = [pa.array(["a"]), ts, ts if names[2] == "ts" else pa.array([1]), pa.array([2])]
        pq.write_table(pa.Table.from_arrays(values, names), tmp_path / "twice.parquet")
        if fine:
            assert reading(tmp_path / "twice.parquet").n_rows == 1
        else:
            with pytest.raises(InputError, match="2 columns named ts"):
                reading(tmp_path / "twice.parquet")


def test_odd_types_in_parquet(tmp_path: Path, reading: Reader) -> None:
    """Types nobody expects are read where they can be, noted where they cannot, and lose no row."""
    table = pa.table(
        {
            "account_id": pa.array([UUID(int=7).bytes] * 2, pa.uuid() if hasattr(pa, "uuid") else pa.binary(16)),
            "ts": pa.array([datetime(2026, 11, 1)] * 2, pa.timestamp("ns")),  # noqa: DTZ001 (the case in question)
            "prompt": pa.array([[{"a": [1]}], None]),
            "model": pa.array(["m", None]).dictionary_encode(),
            "status": pa.array([200, None], pa.int16()),
            "input_tokens": pa.array([1.5, 2.0]),
            "output_tokens": pa.array([-3, 4]),
            "max_tokens": pa.array([2**64 - 1, 5], pa.uint64()),
            "temperature": pa.array([float("inf"), float("nan")]),
            "tool_names": pa.array([{"a": 1}, None]),
            "ip": pa.array([b"\xff\xfe", b"192.0.2.1"]),
            "user_agent": pa.array(["ua", None], pa.large_string()),
            "tls_fingerprint": pa.array(["t", "u"], pa.string_view()),
            "stop_reason": pa.array([True, None]),
        }
    )
    pq.write_table(table, tmp_path / "odd.parquet")
    read = reading(tmp_path / "odd.parquet")
    first, second = read.rows
    assert first["account_id"] == second["account_id"] == str(UUID(int=7))
    assert first["prompt"] == '[{"a":[1]}]' and first["status"] == "200" and first["stop_reason"] == "true"
    assert (first["input_tokens"], second["input_tokens"]) == (None, 2)
    assert (first["output_tokens"], second["output_tokens"]) == (None, 4)
    assert (first["max_tokens"], second["max_tokens"]) == (None, 5)
    assert (first["temperature"], second["temperature"]) == (None, None)
    assert (first["ip"], first["user_agent"], first["tls_fingerprint"]) == ("\\xff\\xfe", "ua", "t")
    assert read.notes == {
        "input_tokens_unreadable": 1,
        "ip_invalid_utf8": 1,
        "max_tokens_unreadable": 1,
        "output_tokens_unreadable": 1,
        "temperature_unreadable": 1,
        "tool_names_unreadable": 1,
        "ts_without_zone": 2,
    }


def test_invalid_utf8_in_parquet(tmp_path: Path, reading: Reader) -> None:
    """Bytes that are not UTF-8 are spelt out, so that two accounts stay two, and are noted."""
    raw = pa.array([b"a\xff", b"a\xfe", b"ok"]).view(pa.string())
    pq.write_table(pa.table({"account_id": raw, "ts": pa.array([1_793_527_200] * 3)}), tmp_path / "u.parquet")
    read = reading(tmp_path / "u.parquet")
    assert read.column("account_id") == ["a\\xff", "a\\xfe", "ok"]
    assert read.notes == {"account_id_invalid_utf8": 2}


def test_invalid_utf8_inside_structures(tmp_path: Path, reading: Reader) -> None:
    """Bytes that are not UTF-8 are spelt out in conversations too."""
    content = pa.array([b"a\xff", b"ok"]).view(pa.string())
    turns = pa.StructArray.from_arrays([pa.array(["user", "user"]), content], ["role", "content"])
    chats = pa.ListArray.from_arrays([0, 1, 2], turns)
    pq.write_table(pa.table({"user": ["a", "b"], "ts": [1_793_527_200] * 2, "messages": chats}), tmp_path / "u.parquet")
    read = reading(tmp_path / "u.parquet")
    assert read.column("prompt") == ["a\\xff", "ok"] and read.notes == {"messages_invalid_utf8": 1}


@pytest.mark.parametrize("worth_bytes", [0, 1 << 20])
def test_a_long_text_repeated_in_a_dictionary(
    worth_bytes: int, tmp_path: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system prompt of a megabyte on every row comes in batches of bounded size."""
    monkeypatch.setattr(footer, "_WORTH_BYTES", worth_bytes)
    table = pa.table({"account_id": ["a"] * 100, "ts": [1_793_527_200] * 100, "system_prompt": ["s" * (1 << 20)] * 100})
    pq.write_table(table, tmp_path / "long.parquet")
    read = reading(tmp_path / "long.parquet", columns=["system_prompt"])
    assert read.n_rows == 100
    assert max(batch.num_rows for batch in read.batches) <= 32


@pytest.mark.parametrize("mixed", [False, True])
def test_a_long_text_in_a_dictionary_beside_columns_that_fill_the_file(
    mixed: bool, tmp_path: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt of a megabyte on every row never stands there thousandfold, also where plain pages follow it."""
    monkeypatch.setattr(footer, "_WORTH_BYTES", 0)
    # The second prompt exceeds the writer's dictionary: what comes after it is written plain.
    prompts = ["s" * (1 << 20)] * 1000 + ([f"{n} " * 300 for n in range(2000)] if mixed else [])
    n = len(prompts)
    agents = [os.urandom(300).hex() for _ in range(n)]
    table = pa.table({"account_id": ["a"] * n, "ts": [1_793_527_200] * n, "user_agent": agents, "prompt": prompts})
    pq.write_table(table, tmp_path / "long.parquet", write_batch_size=100)
    del table, prompts
    n_rows, before = 0, pa.total_allocated_bytes()
    for batch in open_logs([tmp_path / "long.parquet"], now=datetime(2026, 12, 1, tzinfo=UTC)).batches():
        n_rows += batch.num_rows
        assert pa.total_allocated_bytes() - before < 640 << 20
    assert n_rows == n


def test_memory_that_is_not_there_is_no_damage(parquet: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not fit into memory is told as that, and not called damaged."""

    def spent(*_: Any, **__: Any) -> Any:
        raise pa.ArrowMemoryError("malloc of size 99 failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spent)
    with pytest.raises(InputError, match="more memory than there is; got malloc"):
        reading(parquet)


def test_an_index_before_its_dictionary_is_damage() -> None:
    """A negative index into a dictionary is an error, not a value from somewhere else."""
    indices = pa.array([0, -2, 1], pa.int32())
    broken = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]), safe=False)
    with pytest.raises(pa.ArrowIndexError):
        list(_bites(pa.record_batch([broken], ["user_agent"])))


# --- JSON lines -------------------------------------------------------------------------------------------


def test_broken_lines(lines: Any, reading: Reader) -> None:
    """Broken lines and lines that are no object are counted by name; blank ones are not rows."""
    read = reading(
        lines([GOOD, b'{"account_id": "b", ', b"[1, 2]", b"7", b'"text"', b"null", b"", b"  ", GOOD + b"\r"])
    )
    assert read.n_rows == 2
    assert read.rejects == {"line_broken_json": 1, "line_not_an_object": 4}
    assert read.source.describe().files[0].n_rows == read.n_accounted == 7


def test_wrong_types_in_lines(lines: Any, reading: Reader) -> None:
    """Values of wrong type reject a row where it needs them and are noted where it does not."""
    changes: Sequence[dict[str, Any]] = [
        {"account_id": ["a"]},
        {"account_id": {"a": 1}},
        {"account_id": True},
        {"ts": "yesterday"},
        {"ts": [1]},
        {"ts": True},
        {"ts": 10**30},
        {"ts": -5},
        {"input_tokens": "many", "temperature": "hot", "prompt": {"a": 1}, "tool_names": 7},
        {"account_id": 12, "input_tokens": "12", "temperature": "0.5", "status": 200},
        {"messages": "not a chat", "prompt": None},
        {"messages": [1, 2]},
        {"messages": '[{"role": "user", "content": "in text"}]', "prompt": None},
    ]
    read = reading(lines([json.dumps(json.loads(GOOD) | change).encode() for change in changes]))
    assert read.rejects == {"account_id_not_text": 3, "ts_before_2000": 1, "ts_not_a_time": 4}
    assert read.notes == {
        "input_tokens_unreadable": 1,
        "messages_unreadable": 1,
        "temperature_unreadable": 1,
        "tool_names_unreadable": 1,
    }
    assert read.column("prompt") == ['{"a":1}', "p", "not a chat", "p", "in text"]
    assert read.rows[1]["account_id"] == "12" and read.rows[1]["status"] == "200"
    assert read.rows[1]["input_tokens"] == 12 and read.rows[1]["temperature"] == 0.5
    assert read.n_accounted == len(changes)


def test_lines_only_the_lenient_reader_takes(lines: Any, reading: Reader) -> None:
    """NaN, lone surrogates, raw control characters and invalid UTF-8 do not cost the row, and are noted."""
    read = reading(
        lines(
            [
                GOOD,
                GOOD.replace(b'"p"', b'"p", "temperature": NaN'),
                GOOD.replace(b'"p"', rb'"cut \ud83d"'),
                GOOD.replace(b'"p"', b'"tab\tand\0nul"'),
                GOOD.replace(b'"p"', b'"caf\xe9 \xc3\xa9"'),
            ]
        )
    )
    assert read.column("prompt") == ["p", "p", "cut \\ud83d", "tab\tand\0nul", "caf\\xe9 é"]
    assert read.notes == {"line_invalid_utf8": 1, "line_read_leniently": 3} and not read.rejects


def test_nesting_without_end(lines: Any, reading: Reader) -> None:
    """A line nested a hundred thousand deep is read without that, and noted; one that never closes is a broken line."""
    deep = b"[" * 100_000 + b"]" * 100_000
    odd = [GOOD.replace(b'"p"', deep), GOOD[:-1] + b', "other": ' + deep + b"}", GOOD.replace(b'"p"', deep[:-9])]
    read = reading(lines([GOOD, *odd]))
    assert read.column("prompt")[0] == read.column("prompt")[2] == "p"
    assert read.rejects == {"line_broken_json": 1}
    assert read.notes == {"line_read_leniently": 2, "prompt_unreadable": 1}


def test_a_long_prompt(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """Prompts of ten megabytes are read like others."""
    long = "ä" * (5 << 20)
    read = reading(written([log_rows[0], log_rows[1] | {"prompt": long}, log_rows[2]]))
    assert [len(prompt) for prompt in read.column("prompt")] == [len(row["prompt"]) for row in log_rows[:1]] + [
        len(long),
        len(log_rows[2]["prompt"]),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_line_too_long_to_hold(suffix: str, tmp_path: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the limit is rejected without being held, and its neighbours are read."""
    for module in (stream, delimited):
        monkeypatch.setattr(module, "LONGEST_LINE_BYTES", 1000)
    monkeypatch.setattr(stream, "_PLAIN_BYTES", 100)
    good, head = (GOOD, []) if suffix == "jsonl" else (b"a,1793527200,p", [b"account_id,ts,prompt"])
    long = good.replace(b"p", b"p" * 5000) if suffix == "csv" else good.replace(b'"p"', b'"' + b"p" * 5000 + b'"')
    path = tmp_path / f"long.{suffix}"
    path.write_bytes(b"\n".join([*head, good, long, good, good]) + b"\n")
    read = reading(path)
    assert read.n_rows == 3 and read.rejects == {"line_too_long": 1}


def test_a_file_that_is_no_json_lines(tmp_path: Path, reading: Reader) -> None:
    """A JSON array over many lines is an error that says how to turn it into lines."""
    (tmp_path / "array.json").write_text(json.dumps([json.loads(GOOD)] * 3, indent=1))
    with pytest.raises(InputError, match=r"array\.json is not JSON lines.*jq"):
        reading(tmp_path / "array.json")


def test_keys_that_come_late(tmp_path: Path, reading: Reader) -> None:
    """A canonical column that first appears after the sample is read, and described once it was."""
    late = GOOD.replace(b'"p"', b'"p", "ip": "192.0.2.9"')
    (tmp_path / "late.jsonl").write_bytes(b"\n".join([GOOD] * 1500 + [late]))
    read = reading(tmp_path / "late.jsonl")
    assert read.column("ip")[-1] == "192.0.2.9"
    assert "ip" in read.source.describe().columns


# --- CSV --------------------------------------------------------------------------------------------------


def test_rows_of_wrong_width(tmp_path: Path, reading: Reader) -> None:
    """Rows with too few or too many fields are counted, the others read."""
    (tmp_path / "w.csv").write_text(
        "account_id,ts,prompt\na,1793527200,p\nb,1793527200\nc,1793527200,p,q\n\nd,1793527200,\n"
    )
    read = reading(tmp_path / "w.csv")
    assert read.column("account_id") == ["a", "d"] and read.rejects == {"row_wrong_width": 2}
    assert read.column("prompt") == ["p", None]


def test_a_quote_left_open_costs_one_row(tmp_path: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open quote does not swallow the rest of the file, at its end or in its midst."""
    for limit in (1 << 20, 200):
        monkeypatch.setattr(delimited, "LONGEST_LINE_BYTES", limit)
        monkeypatch.setattr(stream, "BLOCK_BYTES", 100)
        monkeypatch.setattr(stream, "_PLAIN_BYTES", 50)
        rows = [b"account_id,ts,prompt", b'a,1793527200,"two\nlines"', b'b,1793527200,"open']
        rows += [b"c%d,1793527200,p" % n for n in range(30)] + [b'd,1793527200,"x "" y"']
        (tmp_path / "q.csv").write_bytes(b"\n".join(rows) + b"\n")
        read = reading(tmp_path / "q.csv")
        assert read.column("account_id") == ["a", *(f"c{n}" for n in range(30)), "d"]
        assert read.column("prompt")[0] == "two\nlines" and read.column("prompt")[-1] == 'x " y'
        assert read.rejects == {"row_broken_quotes": 1}


@given(
    fields=st.lists(st.lists(st.text(alphabet='ab,"\n\r ', max_size=6), min_size=1, max_size=4), min_size=1, max_size=8)
)
def test_any_text_as_csv(fields: list[list[str]], tmp_path: Path, reading: Reader) -> None:
    """Whatever follows the header, reading ends, and rows delivered and rejected are those of the manifest."""
    text = "account_id,ts,prompt\n" + "\n".join(",".join(row) for row in fields)
    (tmp_path / "any.csv").write_bytes(text.encode())
    read = reading(tmp_path / "any.csv")
    assert read.n_accounted == read.source.describe().files[0].n_rows


def test_csv_dialects(tmp_path: Path, reading: Reader) -> None:
    """Semicolons, tabs, a byte order mark, CRLF and a missing last line end are all read."""
    for name, text in (
        ("a.csv", "\ufeffaccount_id;ts;prompt\r\na;1793527200;b,c\r\n"),
        ("b.tsv", "account_id\tts\tprompt\na\t1793527200\tb,c"),
        ("c.csv", '"account_id","ts","prompt"\n"a","1793527200","b,c"'),
    ):
        (tmp_path / name).write_bytes(text.encode())
        assert reading(tmp_path / name).rows[0]["prompt"] == "b,c"


def test_bytes_in_csv(tmp_path: Path, reading: Reader) -> None:
    """NUL bytes and invalid UTF-8 in CSV do not cost the row."""
    (tmp_path / "b.csv").write_bytes(b"account_id,ts,prompt\na,1793527200,n\0l\nb,1793527200,caf\xe9\n")
    read = reading(tmp_path / "b.csv")
    assert read.column("prompt") == ["n\0l", "caf\\xe9"] and read.notes == {"prompt_invalid_utf8": 1}


def test_duplicate_columns_in_csv(tmp_path: Path, reading: Reader) -> None:
    """A needed column that stands twice in the header is an error."""
    (tmp_path / "d.csv").write_text("account_id,account_id,ts\na,b,1793527200\n")
    with pytest.raises(InputError, match="2 columns named account_id"):
        reading(tmp_path / "d.csv")


# --- Any format -------------------------------------------------------------------------------------------


def test_missing_required_columns(written: Writer, reading: Reader) -> None:
    """Logs without an account say what they have, what is expected, and how to map it."""
    with pytest.raises(InputError, match=r"no column for account_id; got who, ts.*--map who=account_id"):
        reading(written([{"who": "a", "ts": "2026-11-01T00:00:00Z"}]))


def test_empty_files(tmp_path: Path, reading: Reader, lines: Any) -> None:
    """Empty files among others are noted; nothing but empty files is an error."""
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.csv").write_bytes(b"\n\n")
    (tmp_path / "c.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="no rows at all; got only empty files"):
        reading(tmp_path)
    lines([GOOD])
    read = reading(tmp_path)
    assert read.n_rows == 1 and read.notes == {"empty_file": 3}


def test_a_header_alone(tmp_path: Path, reading: Reader, writers: Mapping[str, Any]) -> None:
    """A file of column names without rows gives no rows and no error."""
    (tmp_path / "h.csv").write_text("account_id,ts\n")
    empty = pa.table({"account_id": pa.array([], pa.string()), "ts": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "h.parquet")
    assert reading(tmp_path).n_rows == 0


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "csv.gz", "csv.zst"])
@pytest.mark.parametrize("harm", ["cut", "junk"])
def test_a_packed_file_cut_short(
    suffix: str, harm: str, tmp_path: Path, packed: Callable[[Path, bytes], Path], reading: Reader
) -> None:
    """The rows before the damage are kept and the damage is counted once."""
    head = b"account_id,ts,prompt\n" if suffix.startswith("csv") else b""
    row = 'a,1793527200,p"%d"\n' if head else GOOD.decode().replace("{", '{"n": %d, ') + "\n"
    path = packed(tmp_path / f"log.{suffix}", head + "".join(row % n for n in range(20_000)).encode())
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + (b"\0" * 40 + data[half + 40 :] if harm == "junk" else b""))
    read = reading(path)
    assert 0 < read.n_rows <= 20_000 - (harm == "cut")
    assert read.rejects["truncated_file"] == 1


@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv.gz", "jsonl.zst"])
def test_a_packed_file_without_a_row(suffix: str, tmp_path: Path, packed: Any, reading: Reader) -> None:
    """A packed file that was cut before its first row, or is not packed at all, is an error that names it."""
    path = packed(tmp_path / f"log.{suffix}", GOOD + b"\n")
    for data in (path.read_bytes()[:15], b"this is plain text\n"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"log\..* holds no whole line; got a cut or damaged file"):
            reading(path)


def test_packed_files_in_several_members(tmp_path: Path, reading: Reader) -> None:
    """Members written one after the other, and padding after the last, are read as one file."""
    member = gzip.compress(GOOD + b"\n")
    (tmp_path / "m.jsonl.gz").write_bytes(member * 3 + b"\0" * 100)
    read = reading(tmp_path / "m.jsonl.gz")
    assert read.n_rows == 3 and not read.rejects


def test_other_encodings(tmp_path: Path, reading: Reader) -> None:
    """UTF-16 and UTF-32 are refused by name, marked or not; a UTF-8 byte order mark is not part of the text."""
    for encoding in ("utf-16", "utf-32", "utf-16-be", "utf-32-be", "utf-16-le", "utf-32-le"):
        (tmp_path / "wide.jsonl").write_bytes(GOOD.decode().encode(encoding))
        with pytest.raises(InputError, match=f"is {encoding[:6].upper()} text"):
            reading(tmp_path / "wide.jsonl")
    (tmp_path / "mark.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert reading(tmp_path / "mark.jsonl").n_rows == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_nobody_may_read(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """A file without permission to read is an error that says so."""
    path = written(log_rows)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot read"):
        reading(path)


def test_a_file_that_vanishes(written: Writer, log_rows: Rows, now: datetime) -> None:
    """A file removed after it was opened is an error, not a traceback."""
    from stillwatch.ingest.source import open_logs

    path = written(log_rows)
    source = open_logs([path], now=now)
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        list(source.batches())
    with pytest.raises(InputError, match=path.name):
        source.describe()


@pytest.mark.parametrize("is_dictionary", [True, False], ids=["kept as a dictionary", "plain to Arrow"])
@pytest.mark.parametrize("how", ["list", "map", "struct"])
def test_nested_texts_of_a_small_file_are_not_spelt_out_at_once(
    how: str, is_dictionary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One long text that a dictionary repeats inside lists, maps or objects is spelt out for a few rows at a time."""
    n, size = 3000, 10_000
    entry = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * size]))
    entry = entry if is_dictionary else entry.dictionary_decode()
    ones = pa.array(range(n + 1), pa.int32())
    roles = pa.array(["user"] * n)
    nested = {
        "list": lambda: pa.ListArray.from_arrays(ones, pa.StructArray.from_arrays([roles, entry], ["role", "content"])),
        "map": lambda: pa.MapArray.from_arrays(ones, roles, entry),
        "struct": lambda: pa.StructArray.from_arrays([roles, entry], ["role", "content"]),
    }[how]()
    path = tmp_path / "log.parquet"
    table = pa.table({"account_id": ["a"] * n, "ts": pa.array([datetime(2026, 11, 20, tzinfo=UTC)] * n), "m": nested})
    pq.write_table(table, path, compression="zstd", row_group_size=1000)
    assert path.stat().st_size < size
    monkeypatch.setattr(reader, "_SPELT_BYTES", 60 * size)
    file = LogFile(path=path, format="parquet", packing="", n_bytes=path.stat().st_size, importer="")
    names = {"account_id": "account_id", "ts": "ts", "messages": "m"}
    raws = list(reader.read(file, names, window=Window(since=None, until=None, latest=0), threads=1))
    assert sum(raw.n_rows for raw in raws) == n
    assert max(raw.n_rows for raw in raws) <= 60


def test_a_dictionary_inside_lists_over_row_groups(tmp_path: Path, reading: Reader) -> None:
    """Roles that were written as categories are read, wherever the file's row groups end."""
    n = 30
    roles = pa.array(["user"] * n).dictionary_encode()
    turns = pa.StructArray.from_arrays([roles, pa.array([f"p{at}" for at in range(n)])], ["role", "content"])
    chats = pa.ListArray.from_arrays(pa.array(range(n + 1), pa.int32()), turns)
    when = pa.array([datetime(2026, 11, 20, tzinfo=UTC)] * n)
    table = pa.table({"account_id": ["a"] * n, "ts": when, "messages": chats})
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=7)
    assert reading(tmp_path / "log.parquet").column("prompt") == [f"p{at}" for at in range(n)]
