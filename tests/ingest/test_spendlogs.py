"""LiteLLM's database, read page by page from a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stillwatch.errors import InputError
from stillwatch.ingest import spendlogs
from stillwatch.ingest.spendlogs import SpendLogs
from stillwatch.ingest.times import as_us
from tests import conversation as one
from tests.receive.database import ALWAYS, Database, connected

pytestmark = pytest.mark.services

TABLES = """
create table "LiteLLM_SpendLogs" (request_id text primary key, call_type text, api_key text, "startTime" timestamp(3),
    model text, model_group text, "user" text, metadata jsonb, team_id text, end_user text, requester_ip_address text,
    messages jsonb, response jsonb, session_id text, status text, proxy_server_request jsonb, litellm_call_id text,
    prompt_tokens integer, completion_tokens integer);
create table "LiteLLM_VerificationToken" (token text primary key, user_id text, team_id text, organization_id text,
    created_at timestamp(3), blocked boolean);
create table "LiteLLM_UserTable" (user_id text primary key, user_email text, organization_id text,
    created_at timestamp(3));
"""
"""The columns that are read, typed as in LiteLLM's schema; the schema itself is used in receive/test_real.py."""

N_ROWS = 37


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """Some rows at few instants, keys and users."""
    with Database.made() as made:
        with connected(made.url) as connection:
            connection.execute(TABLES)
        for n in range(N_ROWS):
            when = (one.WHEN + timedelta(seconds=n // 5)).replace(tzinfo=None)
            row = one.spend_log() | {"request_id": f"r{n:02d}", "litellm_call_id": f"c{n}", "startTime": when}
            made.insert("LiteLLM_SpendLogs", row)
        for token, user, team in (
            ("t1", "acct-7", "team"),
            ("t2", "acct-7", "team"),
            ("t3", None, "team"),
            ("t4", "", ""),
        ):
            made_at = datetime(2026, 1, int(token[1]))  # noqa: DTZ001 (the column has no zone)
            key = {"token": token, "user_id": user, "team_id": team, "created_at": made_at}
            made.insert("LiteLLM_VerificationToken", key)
        ann = {"user_id": "acct-7", "user_email": " Ann@Example.ORG", "organization_id": "org"}
        made.insert("LiteLLM_UserTable", ann)
        made.insert("LiteLLM_UserTable", {"user_id": "default_user_id", "user_email": "admin@example.org"})
        yield made


def read(logs: SpendLogs, *, window: Any = ALWAYS, after: Any = None) -> list[dict[str, Any]]:
    return [row for batches, _ in logs.pages(window, after) for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("page_rows", [1, 5, 36, 37, 5000])
def test_pages_give_every_row_once(page_rows: int, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the page, each row comes once, in order, though many share an instant."""
    monkeypatch.setattr(spendlogs, "PAGE_ROWS", page_rows)
    rows = read(SpendLogs(database.url))
    assert [row["exchange_id"] for row in rows] == [f"c{n}" for n in range(N_ROWS)]
    assert rows[0] == one.ROW | {"exchange_id": "c0", "tls_fingerprint": None}


def test_reading_goes_on_where_it_stopped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the end of any page on, the rest comes."""
    monkeypatch.setattr(spendlogs, "PAGE_ROWS", 7)
    logs = SpendLogs(database.url)
    ends = [end for _, end in logs.pages(ALWAYS)]
    for n, end in enumerate(ends, start=1):
        assert len(read(logs, after=end)) == max(0, N_ROWS - 7 * n)


def test_the_window_is_half_open(database: Database) -> None:
    """Rows at the first instant are read, rows at the last are not."""
    bounds = [as_us(one.WHEN + timedelta(seconds=n)) for n in (1, 3)]
    rows = read(SpendLogs(database.url), window=replace(ALWAYS, since=bounds[0], until=bounds[1]))
    assert [row["exchange_id"] for row in rows] == [f"c{n}" for n in range(5, 15)]


def test_keys_and_users_become_accounts(database: Database) -> None:
    """An account knows its first key, its organisation and its mail's domain; the address only as a keyed hash."""
    table = SpendLogs(database.url).accounts(key=b"k" * 32).to_pylist()
    found = {row["account_id"]: row for row in table}
    assert set(found) == {"acct-7", "team", "t4"}
    ann = found["acct-7"]
    assert ann["created_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert (ann["org_id"], ann["email_domain"], len(ann["email_hash"])) == ("org", "example.org", 64)
    other = SpendLogs(database.url).accounts(key=b"l" * 32).to_pylist()
    assert {row["email_hash"] for row in other}.isdisjoint({row["email_hash"] for row in table} - {None})
    assert found["team"]["org_id"] == "team" and found["t4"]["email_hash"] is None


def test_a_database_without_spend_logs_is_an_error(database: Database) -> None:
    """The error names the table that is missing, and no password."""
    url = database.url.rpartition("/")[0] + "/postgres"
    with pytest.raises(InputError, match="holds no table LiteLLM_SpendLogs") as caught:
        read(SpendLogs(url))
    assert "postgres@" not in str(caught.value)
    assert "secret" not in repr(SpendLogs("postgresql://u:secret@h/d"))


def test_nothing_can_be_written(database: Database) -> None:
    """The connection is read-only."""
    with SpendLogs(database.url)._connected() as connection, pytest.raises(Exception, match="read-only"):
        connection.execute('delete from "LiteLLM_SpendLogs"')


# --- what a client, or another version, may leave in the database ------------------------------------------

DEEP = '{"messages": [{"role": "user", "content": "deep"}], "x": ' + "[" * 3000 + "]" * 3000 + "}"
HUGE = '{"messages": [{"role": "user", "content": "huge"}], "x": 1e400, "y": ' + "9" * 5000 + "}"
NAMES = 'x\'); drop table "LiteLLM_SpendLogs"; --', '"; select 1; --', "%s %(a)s {0}", "\\u0000\u202e=cmd|' /C calc'!A0"


@pytest.fixture
def hostile() -> Iterator[Database]:
    """A database of its own with the tables, and nothing in them."""
    with Database.made() as made:
        with connected(made.url) as connection:
            connection.execute(TABLES)
        yield made


def put(database: Database, *rows: dict[str, Any]) -> None:
    for n, row in enumerate(rows):
        given = one.spend_log() | {"startTime": one.WHEN.replace(tzinfo=None), "litellm_call_id": f"c{n}"}
        database.insert("LiteLLM_SpendLogs", given | {"request_id": f"r{n:03d}"} | row)


def test_instants_that_are_none(hostile: Database) -> None:
    """Infinite, ancient and absent instants are rejected by name; the rows beside them are read."""
    with connected(hostile.url) as connection:
        connection.execute('alter table "LiteLLM_SpendLogs" alter "startTime" drop not null')
    odd = ["infinity", "-infinity", "0044-03-15 BC", "12345-01-01", None, "1969-12-31", "9999-12-31 23:59:59"]
    put(hostile, {}, *({"startTime": text} for text in odd))
    logs = SpendLogs(hostile.url)
    assert [row["exchange_id"] for row in read(logs)] == ["c0", "c7"]
    assert +logs.tally.rejects == {"ts_not_a_time": 4, "ts_missing": 1, "ts_before_2000": 1}
    assert not +logs.tally.notes
    latest = replace(ALWAYS, latest=as_us(one.WHEN))
    assert [row["exchange_id"] for row in read(SpendLogs(hostile.url), window=latest)] == ["c0"]


def test_instants_with_a_zone(hostile: Database) -> None:
    """Where the column has a zone, the instant is the same, whatever zone the server is set to."""
    with connected(hostile.url) as connection:
        connection.execute('alter table "LiteLLM_SpendLogs" alter "startTime" type timestamptz')
        name = hostile.url.rpartition("/")[2]
        connection.execute(f"alter database \"{name}\" set timezone = 'America/New_York'")
    put(hostile, {"startTime": one.WHEN})
    window = replace(ALWAYS, since=as_us(one.WHEN), until=as_us(one.WHEN) + 1)
    assert [row["ts"] for row in read(SpendLogs(hostile.url), window=window)] == [one.WHEN]


def test_json_of_any_shape(hostile: Database) -> None:
    """JSON that is deep, of huge numbers, of another shape or a text hides no row, and none beside it."""
    shapes = ["7", "null", "[]", "[[1]]", '"bare"', '"[]"', "{}", "true", '{"role": "user"}']
    requests = [DEEP, HUGE, *shapes]
    put(hostile, *({"proxy_server_request": text} for text in requests))
    put(hostile, *({"request_id": f"m{n}", "messages": text, "metadata": text, "response": text}
                   for n, text in enumerate([DEEP, HUGE, *shapes])))  # fmt: skip
    logs = SpendLogs(hostile.url)
    rows = read(logs)
    assert len(rows) == 2 * len(requests) and not +logs.tally.rejects
    by_id = {row["exchange_id"]: row for row in rows[len(requests) :]}
    assert [row["prompt"] for row in rows[:2]] == ["deep", "huge"]
    assert (by_id["c0"]["prompt"], by_id["c1"]["prompt"]) == ("deep", "huge")
    assert {row["prompt"] for row in rows[: len(requests)]}.isdisjoint({"7", "null", "true"})
    assert "bare" in {row["prompt"] for row in rows[: len(requests)]}


def test_rows_that_arrive_behind_a_page_are_told(hostile: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that began long ago and ends while the table is read is missed, and counted; one ahead is read."""
    monkeypatch.setattr(spendlogs, "PAGE_ROWS", 2)
    put(hostile, *({} for _ in range(5)))
    logs = SpendLogs(hostile.url)
    early, late = ((one.WHEN + timedelta(days=days)).replace(tzinfo=None) for days in (-1, 1))
    n_rows = 0
    for n, (batches, _) in enumerate(logs.pages(ALWAYS)):
        n_rows += sum(batch.num_rows for batch in batches)
        if n == 1:
            put(hostile, {"request_id": "behind", "startTime": early}, {"request_id": "ahead", "startTime": late})
    assert n_rows == logs.n_read == 6
    assert logs.tally.notes == {"arrived_while_read": 1}


def test_names_are_values(hostile: Database) -> None:
    """Ids that are statements, formats or control characters are ids, also where reading goes on from them."""
    put(hostile, *({"request_id": name, "user": name, "end_user": name, "model": name} for name in NAMES))
    logs = SpendLogs(hostile.url)
    found = {row["account_id"] for row in read(logs)}
    assert found == set(NAMES)
    ends = [end for _, end in logs.pages(ALWAYS)]
    assert all(not read(logs, after=end) for end in ends[-1:])
    for name in NAMES:
        hostile.insert("LiteLLM_VerificationToken", {"token": name, "user_id": name, "created_at": "infinity"})
    accounts = SpendLogs(hostile.url).accounts(key=b"k" * 32).to_pylist()
    assert {row["account_id"]: row["created_at"] for row in accounts} == dict.fromkeys(NAMES)


def test_columns_of_other_types(hostile: Database) -> None:
    """Numbers, ids and addresses in PostgreSQL's own types, and metadata as text, give the values they stand for."""
    call_id = "4e542747-bf3e-45e4-8761-9621ded9817c"
    changes = ("litellm_call_id type uuid using litellm_call_id::uuid", "prompt_tokens type numeric",
               "requester_ip_address type inet using requester_ip_address::inet", "metadata type text")  # fmt: skip
    with connected(hostile.url) as connection:
        for change in changes:
            connection.execute(f'alter table "LiteLLM_SpendLogs" alter {change}')
    put(hostile, {"litellm_call_id": call_id})
    (row,) = read(SpendLogs(hostile.url))
    assert row == one.ROW | {"exchange_id": call_id, "tls_fingerprint": None}


def test_large_rows_are_held_one_at_a_time(hostile: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the requests of a page, few are held at once, and reading goes on from any of them."""
    monkeypatch.setattr(spendlogs, "_CHUNK_BYTES", 1000)
    put(hostile, *({"proxy_server_request": {"messages": [{"role": "user", "content": "x" * 2000}]}} for _ in range(5)))
    logs = SpendLogs(hostile.url)
    pages = list(logs.pages(ALWAYS))
    assert [sum(batch.num_rows for batch in batches) for batches, _ in pages] == [1] * 5
    assert len(read(logs, after=pages[2][1])) == 2


def test_an_address_meant_for_prisma(hostile: Database) -> None:
    """LiteLLM's own DATABASE_URL, with what only its client understands, is taken as it is; the schema is its own."""
    put(hostile, {})
    with connected(hostile.url) as connection:
        connection.execute('create schema "odd ""one"""; create table "odd ""one"""."LiteLLM_SpendLogs" (other text)')
    url = f"{hostile.url}?schema=public&connection_limit=5&pool_timeout=3&application_name=x%20y"
    assert len(read(SpendLogs(url))) == 1
    with pytest.raises(InputError, match="holds no table"):
        read(SpendLogs(f"{hostile.url}?schema=odd%20%22one%22"))


def test_a_table_that_cannot_be_read(hostile: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database refuses is one line that says what to do, not a traceback."""
    monkeypatch.setattr(spendlogs, "_TOO_BIG", ("'",))
    put(hostile, {})
    with pytest.raises(InputError, match=r"cannot be read; got [su][yn]"):
        read(SpendLogs(hostile.url))
    monkeypatch.undo()
    with connected(hostile.url) as connection:
        connection.execute('alter table "LiteLLM_SpendLogs" alter "startTime" type text')
    with pytest.raises(InputError, match="startTime is no instant; got text"):
        read(SpendLogs(hostile.url))


SILENT = "postgresql:///x?host=/nowhere"


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:secret@[::1/x", "postgresql://u:secret@h:99999999/x", "postgresql://u:secret@/x?host=/nowhere",
     "postgresql://u:secret@127.0.0.1:1/x?nonsense=x&password=secret", "postgresql://u:sec%zzret@h/x", SILENT],
)  # fmt: skip
def test_addresses_that_are_none(url: str, hostile: Database) -> None:
    """An address that libpq refuses, or that leads nowhere, is one error without the password."""
    with pytest.raises(InputError, match="cannot be reached") as caught:
        read(SpendLogs(url))
    assert "secret" not in SpendLogs(url).name
    assert "secret" not in str(caught.value) and "sec%zzret" not in str(caught.value)
