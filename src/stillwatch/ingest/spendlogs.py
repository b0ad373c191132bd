"""spendlogs: LiteLLM's own PostgreSQL: SpendLogs page by page, and its keys and users as accounts.

Pages follow the index on startTime and request_id; nothing is locked and nothing written. The table's key is the
provider's response id, under which rows get lost; here litellm_call_id is the exchange (docs/import.md).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from stillwatch.errors import InputError
from stillwatch.extras import require
from stillwatch.ingest.conform import Tally, Window, conform
from stillwatch.ingest.extract import Extractor
from stillwatch.ingest.formats.litellm import SPENDLOGS, somebody
from stillwatch.records import ACCOUNTS, EXCHANGES

PAGE_ROWS = 5000

_TABLE, _KEYS, _USERS = "LiteLLM_SpendLogs", "LiteLLM_VerificationToken", "LiteLLM_UserTable"
_TOO_BIG = ("model_map_information", "model_map_value")
"""What LiteLLM repeats on every row of metadata: the model's prices."""

_FIRST = (datetime(1970, 1, 1), "")  # noqa: DTZ001 (the column has no zone)


@dataclass(slots=True)
class SpendLogs:
    """The spend logs of one database. `url` is a libpq address; a password in it is shown nowhere."""

    url: str = field(repr=False)
    tally: Tally = field(default_factory=Tally)

    @property
    def name(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def estimate(self) -> int:
        """About how many rows there are, as the planner has it; 0 where it does not know."""
        with self._connected() as connection:
            found = connection.execute("select reltuples from pg_class where oid = to_regclass(%s)", [f'"{_TABLE}"'])
            return max(0, int((found.fetchone() or [0])[0]))

    def pages(
        self, window: Window, after: Sequence[str] | None = None
    ) -> Iterator[tuple[list[pa.RecordBatch], tuple[str, str]]]:
        """Pages in the order of startTime and request_id from behind `after`, each with where it ends.

        Raises InputError where the database cannot be reached or holds no spend logs.
        """
        extractor = Extractor(SPENDLOGS, EXCHANGES.names)
        heads = dict.fromkeys(path.partition(".")[0] for path in extractor.paths)
        last = (datetime.fromisoformat(after[0]), after[1]) if after else _FIRST
        with self._connected() as connection:
            there = _columns(connection, _TABLE)
            if not {"startTime", "request_id"} <= set(there):
                raise InputError(f"{self.name} holds no table {_TABLE}", do="Name LiteLLM's own database")
            sql = _query([name for name in heads if name in there])
            while rows := self._page(connection, sql, last, window):
                last = rows[-1]["startTime"], rows[-1]["request_id"]
                yield self._conformed(rows, extractor, window), (last[0].isoformat(), last[1])

    def accounts(self, *, key: bytes) -> pa.Table:
        """What the keys and users of the database say of each account; e-mail addresses become keyed hashes.

        An account is named as in the logs: a key's user, else its team, its organisation, the key itself.
        """
        with self._connected() as connection:
            users = {row["user_id"]: row for row in _rows(connection, _USERS)}
            keys = _rows(connection, _KEYS)
        found: dict[str, dict[str, Any]] = {}
        for row in [*({"user_id": name} for name in users), *keys]:
            names = (row.get(name) for name in ("user_id", "team_id", "organization_id", "token"))
            account = next((name for name in names if somebody(name)), None)
            if account:
                known = found.setdefault(account, {"account_id": account})
                _add(known, row, users.get(row.get("user_id"), {}), key)
        rows = [found[name] for name in sorted(found)]
        return pa.Table.from_pylist(rows, schema=ACCOUNTS)

    def _connected(self) -> Any:
        psycopg = require("psycopg", "postgres")
        try:
            return psycopg.connect(
                self.url, autocommit=True, connect_timeout=10,
                options="-c default_transaction_read_only=on",
            )  # fmt: skip
        except psycopg.Error as error:
            got = " ".join(str(error).split())[:200]
            raise InputError(f"{self.name} cannot be reached", got=got, do="Check address, name and password") from None

    def _page(self, connection: Any, sql: str, last: tuple[datetime, str], window: Window) -> list[dict[str, Any]]:
        bounds = [_naive(bound) for bound in (window.since, window.until)]
        cursor = connection.execute(sql, [*last, bounds[0], bounds[0], bounds[1], bounds[1], PAGE_ROWS])
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _conformed(self, rows: list[dict[str, Any]], extractor: Extractor, window: Window) -> list[pa.RecordBatch]:
        zoned = [row | {"startTime": row["startTime"].replace(tzinfo=UTC)} for row in rows]
        cells = extractor.cells([extractor.shaped(row) for row in zoned]).columns
        batch = conform(cells, columns=EXCHANGES.names, window=window, tally=self.tally)
        return [batch] if batch.num_rows else []


def _query(names: Sequence[str]) -> str:
    """The statement of one page; bounds are parameters, names come from the database's own catalogue."""
    needed = dict.fromkeys(["startTime", "request_id", *names])
    without = " - ".join(["metadata", *(f"'{name}'" for name in _TOO_BIG)])
    columns = ", ".join(f"{without} as metadata" if name == "metadata" else f'"{name}"' for name in needed)
    return (
        f'select {columns} from "{_TABLE}" '  # noqa: S608 (no name comes from outside)
        'where ("startTime", request_id) > (%s, %s) and (%s::timestamp is null or "startTime" >= %s) '
        'and (%s::timestamp is null or "startTime" < %s) order by "startTime", request_id limit %s'
    )


def _columns(connection: Any, table: str) -> list[str]:
    rows = connection.execute("select column_name from information_schema.columns where table_name = %s", [table])
    return [row[0] for row in rows.fetchall()]


def _rows(connection: Any, table: str) -> list[dict[str, Any]]:
    """The rows of a small table; none where it is not there."""
    wanted = "token user_id team_id organization_id created_at user_email sso_user_id".split()
    names = [name for name in _columns(connection, table) if name in wanted]
    if not names:
        return []
    listed = ", ".join(f'"{name}"' for name in names)
    rows = connection.execute(f'select {listed} from "{table}"')  # noqa: S608 (no name comes from outside)
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _add(known: dict[str, Any], row: Mapping[str, Any], user: Mapping[str, Any], key: bytes) -> None:
    """Add what one key and its user say; the earliest sign-up counts."""
    times = [one["created_at"] for one in (row, user) if one.get("created_at")]
    made = [time if time.tzinfo else time.replace(tzinfo=UTC) for time in times]
    known["created_at"] = min([*made, *([known["created_at"]] if known.get("created_at") else [])], default=None)
    orgs = (known.get("org_id"), row.get("organization_id"), user.get("organization_id"), row.get("team_id"))
    known["org_id"] = next((org for org in orgs if org), None)
    email = user.get("user_email")
    if isinstance(email, str) and "@" in email:
        text = email.strip().lower()
        known["email_domain"] = text.rpartition("@")[2]
        known["email_hash"] = hmac.new(key, b"email\0" + text.encode(), hashlib.sha256).hexdigest()


def _naive(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1_000_000, UTC).replace(tzinfo=None)
