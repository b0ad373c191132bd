"""The seam: what open_logs delivers, whatever the format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.ingest import footer
from stillwatch.ingest.interrupts import interruptible
from stillwatch.ingest.source import open_logs
from stillwatch.records import EXCHANGES

Rows = list[dict[str, Any]]
Reader = Callable[..., Any]
Writer = Callable[[Rows], Path]

text = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.sampled_from(["", "a,b", 'say "so"', "two\nlines", "\r\n", "Ünïcødé 漢字", "[1]", "{}", "null", "0x1F", " 7 "]),
)
count = st.one_of(st.none(), st.integers(0, 2**63 - 1))
row = st.fixed_dictionaries(
    {
        "account_id": text,
        "ts": st.datetimes(datetime(1999, 6, 1), datetime(2027, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001 (zoned)
        "prompt": text,
        "model": text,
        "input_tokens": count,
        "temperature": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    }
)


@given(rows=st.lists(row, min_size=1, max_size=12))
def test_the_same_rows_in_any_format(rows: Rows, reading: Reader, writers: Mapping[str, Any], tmp_path: Path) -> None:
    """The same rows give the same batches and the same rejects from Parquet, JSON lines and CSV."""
    read = {form: reading(write(tmp_path / f"same.{form}", rows)) for form, write in writers.items()}
    first = read.pop("parquet")
    assert first.n_accounted == len(rows)
    for other in read.values():
        assert other.rejects == first.rejects
        assert other.rows == first.rows


def test_rows_arrive_whole(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """Every format delivers every row, in the canonical schema, texts as dictionaries or not, nothing to report."""
    read = reading(written(log_rows))
    assert all(_plain(batch.schema).equals(EXCHANGES) for batch in read.batches)
    assert [{name: got[name] for name in log_rows[0]} for got in read.rows] == log_rows
    assert not read.rejects and not read.notes


def _plain(schema: pa.Schema) -> pa.Schema:
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in schema.types]
    return pa.schema([field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)])


def test_only_the_columns_asked_for(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """Batches hold exactly the columns asked for, in canonical order, also those the logs lack."""
    read = reading(written(log_rows), columns=["user_agent", "prompt"])
    assert [batch.schema.names for batch in read.batches] == [["prompt", "user_agent"]]
    assert read.column("user_agent") == [None] * len(log_rows)


def test_the_window(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """Rows with since <= ts < until are delivered; the others are counted, not rejected."""
    since, until = log_rows[1]["ts"], log_rows[4]["ts"]
    read = reading(written(log_rows), since=since, until=until)
    assert read.column("ts") == [row["ts"] for row in log_rows[1:4]]
    assert read.notes == {"outside_window": 3} and not read.rejects
    assert read.source.describe().files[0].n_rows == 6


def test_rejects_by_name(written: Writer, reading: Reader, log_rows: Rows, now: datetime) -> None:
    """A row without account or believable instant is rejected under its first reason, and nothing is lost."""
    bad: Rows = [
        {"account_id": None},
        {"account_id": ""},
        {"account_id": "  "},
        {"ts": None},
        {"ts": now + timedelta(days=2)},
        {"ts": datetime(1997, 1, 1, tzinfo=UTC), "account_id": None},
    ]
    read = reading(written(log_rows + [log_rows[0] | change for change in bad]))
    assert read.n_rows == 6
    assert read.rejects == {"account_id_missing": 3, "ts_before_2000": 1, "ts_in_the_future": 1, "ts_missing": 1}
    assert read.n_accounted == 12


def test_tomorrow_is_not_the_future(written: Writer, reading: Reader, log_rows: Rows, now: datetime) -> None:
    """A clock that is a day ahead of ours is believed."""
    assert reading(written([log_rows[0] | {"ts": now + timedelta(hours=23)}])).n_rows == 1


def test_times_without_a_zone_are_counted(written: Writer, reading: Reader) -> None:
    """Instants without a zone are read as UTC and counted."""
    read = reading(written([{"account_id": "a", "ts": "2026-11-01 10:00:00"}]))
    assert read.column("ts") == [datetime(2026, 11, 1, 10, tzinfo=UTC)]
    assert read.notes == {"ts_without_zone": 1}


@pytest.mark.parametrize("ts", [1_793_527_200, 1_793_527_200_000, 1_793_527_200_000_000, "2026-11-01T11:00:00+01:00"])
def test_foreign_names_and_times(written: Writer, reading: Reader, ts: object) -> None:
    """Logs under foreign names are read by guesses that are reported."""
    read = reading(
        written([{"user": "u1", "timestamp": ts, "input": "hello", "response": "hi", "Client-IP": "192.0.2.1"}])
    )
    assert read.column("ts") == [datetime(2026, 11, 1, 10, tzinfo=UTC)]
    assert (read.rows[0]["account_id"], read.rows[0]["prompt"], read.rows[0]["completion"]) == ("u1", "hello", "hi")
    assert read.source.describe().guesses == {
        "user": "account_id",
        "timestamp": "ts",
        "input": "prompt",
        "response": "completion",
        "Client-IP": "ip",
    }


def test_numbers_may_name_accounts(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """An account named by a whole number is the same account in every format."""
    table = [{"user_id": 10_042, "ts": row["ts"]} for row in log_rows]
    assert set(reading(written(table)).column("account_id")) == {"10042"}


def test_files_of_different_columns_and_types(tmp_path: Path, reading: Reader, writers: Mapping[str, Any]) -> None:
    """Files of one scan may differ in format, columns and types; what one lacks is null."""
    when = datetime(2026, 11, 1, tzinfo=UTC)
    writers["parquet"](tmp_path / "a.parquet", [{"account_id": "7", "ts": when, "ip": "192.0.2.1"}])
    writers["jsonl"](tmp_path / "b.jsonl", [{"user": 7, "ts": 1_793_491_200, "status": 200}])
    writers["csv"](tmp_path / "c.csv", [{"uid": "7", "time": "2026-11-01", "input_tokens": "12"}])
    read = reading(tmp_path, mapping={"uid": "account_id"})
    assert read.column("account_id") == ["7"] * 3 and set(read.column("ts")) == {when}
    assert read.column("ip") == ["192.0.2.1", None, None]
    assert read.column("status") == [None, "200", None]
    assert read.column("input_tokens") == [None, None, 12]


def test_order_and_repetition_of_paths(
    tmp_path: Path, reading: Reader, writers: Mapping[str, Any], log_rows: Rows
) -> None:
    """The order of paths does not matter and a path given twice is read once."""
    one = writers["jsonl"](tmp_path / "1.jsonl", log_rows[:3])
    two = writers["csv"](tmp_path / "2.csv", log_rows[3:])
    assert reading(one, two).rows == reading(two, one, tmp_path, two).rows


def test_description(tmp_path: Path, reading: Reader, writers: Mapping[str, Any], log_rows: Rows) -> None:
    """The manifest has the hash, size, rows and first row of each file, and the columns present, absent and unknown."""
    rows = [row | {"colour": "red", "user_agent": None} for row in log_rows]
    paths = [writers["parquet"](tmp_path / "a.parquet", rows), writers["jsonl"](tmp_path / "b.jsonl", rows[:2])]
    source = open_logs(paths, now=datetime(2026, 11, 21, tzinfo=UTC))
    assert [(file.n_rows, file.first_row) for file in source.describe().files] == [(6, 0), (None, 6)]
    assert "user_agent" in source.describe().columns
    list(source.batches())
    seen = source.describe()
    assert [(file.n_rows, file.first_row) for file in seen.files] == [(6, 0), (2, 6)]
    assert [file.sha256 for file in seen.files] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [file.n_bytes for file in seen.files] == [path.stat().st_size for path in paths]
    assert set(seen.columns) == set(log_rows[0]) and "user_agent" in seen.absent
    assert set(seen.columns) | set(seen.absent) == set(EXCHANGES.names)
    assert seen.unknown == ("colour",)


def test_reading_again_counts_once(written: Writer, log_rows: Rows, now: datetime) -> None:
    """A second reading of other columns does not double what was rejected."""
    source = open_logs([written([*log_rows, {**log_rows[0], "account_id": None}])], now=now)
    for columns in (None, ["prompt"], ["account_id"]):
        assert sum(batch.num_rows for batch in source.batches(columns=columns)) == 6
    assert source.rejects() == {"account_id_missing": 1}


def test_progress(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """Progress is told in stored bytes, never falls, and ends at the whole."""
    told: list[tuple[int, int]] = []
    path = written(log_rows)
    reading(path, on_progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (path.stat().st_size,) * 2


def test_conversations(tmp_path: Path, reading: Reader, writers: Mapping[str, Any]) -> None:
    """A conversation gives the last user turn as the prompt and the system or developer message."""
    chats: list[list[dict[str, Any]]] = [
        [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "one"},
            {"role": "user", "content": "two"},
        ],
        [],
        [{"role": "user", "content": "three"}, {"role": "assistant", "content": "four"}],
        [{"role": "assistant", "content": "five"}],
        [{"role": "developer", "content": "Be long"}],
    ]
    rows: Rows = [{"user": "u", "created": 1_793_527_200, "messages": chat} for chat in chats]
    for form in ("jsonl", "parquet"):
        read = reading(writers[form](tmp_path / f"chat.{form}", rows))
        assert read.column("prompt") == ["two", None, "three", None, None]
        assert read.column("system_prompt") == ["Be brief", None, None, None, "Be long"]
        assert read.column("messages") == chats
        assert {"prompt", "system_prompt", "messages"} <= set(read.source.describe().columns)
        assert reading(tmp_path / f"chat.{form}", columns=["prompt"]).column("prompt")[0] == "two"


def test_openai_style_rows(tmp_path: Path, reading: Reader, writers: Mapping[str, Any]) -> None:
    """Content in parts, nested usage, tool definitions and choices are understood."""
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    rows: Rows = [
        {
            "id": "req-1",
            "user": "u",
            "created": 1_793_527_200,
            "messages": [{"role": "user", "content": parts}],
            "choices": [{"message": {"role": "assistant", "content": "A cat"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
            "tools": [{"type": "function", "function": {"name": "search"}}],
            "tool_calls": [{"id": "1"}, {"id": "2"}],
        }
    ]
    for form in ("jsonl", "parquet"):
        got = reading(writers[form](tmp_path / f"openai.{form}", rows)).rows[0]
        assert got["prompt"] == "What is this?" and got["completion"] == "A cat"
        assert (got["input_tokens"], got["output_tokens"], got["tool_calls"]) == (5, 7, 2)
        assert got["tool_names"] == ["search"] and got["exchange_id"] == "req-1"


def test_agent_traces(shared: Path, reading: Reader) -> None:
    """The recorded agent runs are read whole when the session stands for the account, and stays the session."""
    folder = shared / "data" / "agent_traces"
    read = reading(folder / "*.jsonl", mapping={"session_id": "account_id"})
    n_lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
    assert read.n_rows == n_lines and not read.rejects and not read.notes
    assert read.column("account_id") == read.column("session_id")
    assert read.source.describe().columns == ("account_id", "ts", "session_id", "prompt", "completion")


@pytest.mark.slow
def test_practice_agrees_with_duckdb(shared: Path, now: datetime) -> None:
    """On the practice logs our batches sum to what DuckDB reads by itself."""
    folder = shared / "practice" / "exchanges"
    source = open_logs([folder], now=now, threads=2)
    ours = pa.Table.from_batches(source.batches(columns=["account_id", "ts", "prompt", "input_tokens"]))
    query = "select count(*), sum(input_tokens), sum(epoch_us(ts)), bit_xor(hash(prompt, ts, account_id)) from "
    with duckdb.connect() as connection:
        connection.register("ours", ours)
        theirs = connection.sql(f"{query} read_parquet('{folder}/*.parquet')").fetchall()
        assert connection.sql(f"{query} ours").fetchall() == theirs


def test_a_window_reads_only_its_row_groups(
    tmp_path: Path, reading: Reader, table: Any, log_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups outside the window are not read: not even damage inside them is seen."""
    monkeypatch.setattr(footer, "_WORTH_BYTES", 0)
    rows = [row | {"prompt": f"prompt {n}" * 50} for n, row in enumerate(log_rows)]
    path = tmp_path / "groups.parquet"
    pq.write_table(table(rows), path, row_group_size=2, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:300] = b"\xff" * 296
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="damaged"):
        reading(path)
    read = reading(path, since=log_rows[2]["ts"])
    assert read.n_rows == 4 and read.notes == {"outside_window": 2}
    read = reading(path, since=log_rows[4]["ts"], until=log_rows[5]["ts"])
    assert read.column("ts") == [log_rows[4]["ts"]] and read.notes == {"outside_window": 5}
    read = reading(path, until=datetime(2026, 10, 1, tzinfo=UTC))
    assert read.n_rows == 0 and read.notes == {"outside_window": 6}


@given(
    hours=st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=30),
    start=st.integers(0, 9),
    length=st.integers(0, 5),
    unit=st.sampled_from(["ms", "us", "ns"]),
    zone=st.sampled_from([None, "UTC", "Asia/Tokyo"]),
)
def test_pruning_changes_nothing(
    hours: list[int | None], start: int, length: int, unit: str, zone: str | None, tmp_path: Path, reading: Reader
) -> None:
    """With and without a look at the footer a window gives the same rows, rejects and notes."""
    origin = datetime(2026, 11, 1, tzinfo=UTC)
    times = [None if hour is None else origin + timedelta(hours=hour) for hour in hours]
    ts = pa.array(times, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    path = tmp_path / "pruned.parquet"
    pq.write_table(pa.table({"account_id": ["a"] * len(hours), "ts": ts}), path, row_group_size=4)
    window = {"since": origin + timedelta(hours=start), "until": origin + timedelta(hours=start + length)}
    plain = reading(path, **window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footer, "_WORTH_BYTES", 0)
        pruned = reading(path, **window)
    assert plain.rows == pruned.rows and plain.rejects == pruned.rejects
    assert plain.notes.get("outside_window") == pruned.notes.get("outside_window")
    assert pruned.n_accounted == len(hours)


def test_null_instants_are_counted_through_a_window(
    tmp_path: Path, reading: Reader, table: Any, log_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row without an instant is rejected whatever the window, not lost with its row group."""
    monkeypatch.setattr(footer, "_WORTH_BYTES", 0)
    rows = [*log_rows[:2], {**log_rows[0], "ts": None}]
    path = tmp_path / "groups.parquet"
    pq.write_table(table(rows), path)
    read = reading(path, since=datetime(2026, 11, 20, tzinfo=UTC))
    assert read.rejects == {"ts_missing": 1} and read.notes == {"outside_window": 2}


def test_a_map_that_fits_nothing(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """A --map from a column that no file has is an error that lists what there is."""
    with pytest.raises(InputError, match="no file has a column uid; got account_id"):
        reading(written(log_rows), mapping={"uid": "prompt"})


def test_a_map_for_the_accounts_file(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """A --map meant for the accounts file does not stand in the way of the logs."""
    mapping = {"organisation": "org_id", "customer_no": "account_id"}
    path = written(log_rows)
    opened = open_logs([path], mapping=mapping, now=datetime(2026, 11, 25, tzinfo=UTC), has_accounts=True)
    assert sum(batch.num_rows for batch in opened.batches()) == 6
    # Without such a file it is a slip of the pen, and silence would name other accounts than the caller meant.
    with pytest.raises(InputError, match="no file has a column customer_no"):
        reading(path, mapping=mapping)


def test_unknown_columns_cannot_be_asked_for(written: Writer, reading: Reader, log_rows: Rows) -> None:
    """Asking for a column that is not canonical is an error."""
    with pytest.raises(InputError, match="colour is no canonical column"):
        reading(written(log_rows), columns=["colour"])


def test_an_accounts_file_among_the_logs(
    tmp_path: Path, reading: Reader, writers: Mapping[str, Any], log_rows: Rows
) -> None:
    """Sign-ups are not taken for exchanges: an accounts file in the folder is an error that says where it belongs."""
    writers["jsonl"](tmp_path / "log.jsonl", log_rows)
    signed_up = [{"account_id": "a", "created_at": row["ts"], "plan": "free"} for row in log_rows]
    writers["parquet"](tmp_path / "accounts.parquet", signed_up)
    with pytest.raises(InputError, match=r"accounts\.parquet holds accounts, not exchanges; got plan.*--accounts"):
        reading(tmp_path)


def test_a_conversation_fills_in_for_a_prompt_in_every_reading(tmp_path: Path, now: datetime) -> None:
    """Where a file has both, a prompt that is missing comes from the conversation, whichever columns are asked for."""
    chat = [{"role": "user", "content": "from the chat"}]
    table = pa.table(
        {
            "account_id": ["a", "b"],
            "ts": [1_793_527_200] * 2,
            "prompt": ["own", None],
            "system_prompt": ["s", "s"],
            "messages": [chat, chat],
        }
    )
    pq.write_table(table, tmp_path / "both.parquet")
    source = open_logs([tmp_path / "both.parquet"], now=now)
    for batches in (
        source.batches(),
        source.batches(columns=["prompt", "system_prompt"]),
        source.prompts(accounts=pa.array(["a", "b"])),
    ):
        assert pa.Table.from_batches(list(batches))["prompt"].to_pylist() == ["own", "from the chat"]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_prompts_of_several_files_all_arrive(threads: int, tmp_path: Path, now: datetime) -> None:
    """Each prompt of the accounts asked for comes once, however many files are read side by side."""
    for number in range(4):
        rows = {"account_id": ["a", "b", "c"], "ts": [1_793_527_200] * 3, "prompt": [f"{number}{x}" for x in "abc"]}
        pq.write_table(pa.table(rows), tmp_path / f"{number}.parquet")
    done: list[int] = []
    source = open_logs([tmp_path], now=now, threads=threads)
    batches = source.prompts(accounts=pa.array(["a", "c"]), on_progress=lambda part, total: done.append(total - part))
    found = [prompt for batch in batches for prompt in batch["prompt"].to_pylist()]
    assert sorted(found) == [f"{number}{x}" for number in range(4) for x in "ac"]
    assert len(done) == 4 and min(done) == 0


def test_parts_read_side_by_side_are_the_same_rows(
    tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the threads: the same rows, rejects and rows of each file; progress only grows, and ends at the end."""
    monkeypatch.setattr("stillwatch.ingest.parquet._PART_BATCHES", 0)
    first, day = 1_793_000_000, 86_400
    for number in range(3):
        rows = {
            "account_id": [None if n % 50 == 7 else f"a{n % 9}" for n in range(400)],
            "ts": [first + 100 * day if n % 40 == 3 else first + 1_000 * n for n in range(400)],
            "prompt": [f"{number} of {n}" for n in range(400)],
        }
        pq.write_table(pa.table(rows), tmp_path / f"{number}.parquet", row_group_size=37)
    read = {}
    for threads in (1, 2, 5):
        source = open_logs([tmp_path], now=now, threads=threads)
        steps: list[tuple[int, int]] = []
        batches = list(source.batches(since=datetime.fromtimestamp(first + 9_000, UTC), on_progress=_kept(steps)))
        assert len(batches) > 10
        done = [part for part, _ in steps]
        assert done == sorted(done) and steps[-1][0] == steps[-1][1]
        found = sorted((row for batch in batches for row in batch.to_pylist()), key=lambda row: str(row["prompt"]))
        read[threads] = (found, source.rejects(), [file.n_rows for file in source.describe().files])
    assert read[1] == read[2] == read[5]
    assert read[1][2] == [400, 400, 400]


def _kept(steps: list[tuple[int, int]]) -> Callable[[int, int], None]:
    return lambda done, total: steps.append((done, total))


def test_a_signal_ends_a_query() -> None:
    """What DuckDB makes of a signal is an interrupt again; any other error of a program stays what it is."""
    with pytest.raises(KeyboardInterrupt), interruptible():
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="else"), interruptible():
        raise RuntimeError("something else")


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.float64(), pa.string()])
def test_absurd_token_counts_add_up(kind: pa.DataType, tmp_path: Path, now: datetime) -> None:
    """A count of tokens that no exchange has is cut and noted, so that sums neither wrap nor fall below a cap."""
    tokens = pa.array([5, None, *[2**62] * 8]).cast(kind, safe=False)
    n = len(tokens)
    table = pa.table({"account_id": ["a"] * n, "ts": [1_793_527_200] * n, "input_tokens": tokens})
    pq.write_table(table, tmp_path / "many.parquet")
    source = open_logs([tmp_path / "many.parquet"], now=now)
    read = pa.Table.from_batches(list(source.batches()))["input_tokens"].to_pylist()
    assert read[:2] == [5, None] and min(read[2:]) >= 1 << 32 and sum(read[2:]) < 1 << 62
    assert source.notes() == {"input_tokens_unreadable": 8}
