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
