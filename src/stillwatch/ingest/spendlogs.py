"""spendlogs: LiteLLM's own PostgreSQL: SpendLogs page by page, and its keys and users as accounts.

Pages follow the index on startTime and request_id; nothing is locked and nothing written. The table's key is the
provider's response id, under which rows get lost; here litellm_call_id is the exchange (docs/import.md).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec
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

_FIRST = ("-infinity", "")
_WINDOW = '(%s::timestamp is null or "startTime" >= %s) and (%s::timestamp is null or "startTime" < %s)'
_COUNT = f'select count(*) from "{_TABLE}" where "startTime" is not null and {_WINDOW}'  # noqa: S608 (names are ours)
_CHUNK_BYTES = 32 << 20
"""Of text that is held at a time: a client may send requests of many megabytes."""

_PRISMAS = frozenset("schema connection_limit pool_timeout pgbouncer sslaccept sslidentity socket_timeout".split())
"""What LiteLLM's DATABASE_URL may say to Prisma, and libpq does not know."""


@dataclass(slots=True)
class SpendLogs:
    """The spend logs of one database. `url` is a libpq address; a password in it is shown nowhere.

    `n_read`: rows read, those of an earlier reading that this one goes on from included.
    """

    url: str = field(repr=False)
    tally: Tally = field(default_factory=Tally)
    n_read: int = 0

    @property
    def name(self) -> str:
        """The address without user and password."""
        scheme, _, rest = self.url.partition("?")[0].partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def estimate(self) -> int:
        """About how many rows there are, as the planner has it; 0 where it does not know."""
        with self._reading() as connection:
            found = connection.execute("select reltuples from pg_class where oid = to_regclass(%s)", [f'"{_TABLE}"'])
            return max(0, int((found.fetchone() or [0])[0]))

    def pages(
        self, window: Window, after: Sequence[str] | None = None
    ) -> Iterator[tuple[list[pa.RecordBatch], tuple[str, str]]]:
        """Pages in the order of startTime and request_id from behind `after`, each with where it ends.

        Memory: the rows of a page, at most 32 MiB of text or one row. A row without startTime has no place in that
        order: such rows are counted as `ts_missing` at the end. Raises InputError where the database cannot be
        reached or read, or holds no spend logs.
        """
        extractor = Extractor(SPENDLOGS, EXCHANGES.names)
        heads = dict.fromkeys(path.partition(".")[0] for path in extractor.paths)
        last = (after[0], after[1]) if after else _FIRST
        with self._reading() as connection:
            there = _columns(connection, _TABLE)
            if not {"startTime", "request_id"} <= set(there):
                raise InputError(f"{self.name} holds no table {_TABLE}", do="Name LiteLLM's own database")
            if not there["startTime"].startswith("timestamp"):
                raise InputError(
                    f"{self.name}: startTime is no instant", got=there["startTime"], expected="timestamp",
                    do="Name LiteLLM's own database, or export the table and import the file",
                )  # fmt: skip
            sql = _query([name for name in heads if name in there], is_jsonb=there.get("metadata") == "jsonb")
            n_rows = PAGE_ROWS
            while n_rows == PAGE_ROWS:
                n_rows = 0
                for rows in self._chunks(connection, sql, last, window):
                    n_rows += len(rows)
                    self.n_read += len(rows)
                    last = rows[-1]["startTime"], rows[-1]["request_id"]
                    yield self._conformed(rows, extractor, window), last
            lost = connection.execute(f'select count(*) from "{_TABLE}" where "startTime" is null')  # noqa: S608
            self.tally.rejects += Counter(ts_missing=lost.fetchone()[0])
            # LiteLLM writes a row when its answer ends, under the time at which it began: behind a page already read.
            there_now = connection.execute(_COUNT, _bounds(window)).fetchone()[0]
            self.tally.notes += Counter(arrived_while_read=max(0, there_now - self.n_read))

    def accounts(self, *, key: bytes) -> pa.Table:
        """What the keys and users of the database say of each account; e-mail addresses become keyed hashes.

        An account is named as in the logs: a key's user, else its team, its organisation, the key itself.
        """
        with self._reading() as connection:
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

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A connection; what the database says while it is read becomes an InputError."""
        psycopg = require("psycopg", "postgres")
        with self._connected() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                raise InputError(
                    f"{self.name} cannot be read",
                    got=self._said(error),
                    do="Mend that; the same command goes on where it stopped",
                ) from None

    def _connected(self) -> Any:
        """A read-only connection in UTC that gives instants as text, since Python's end at 9999, and JSON as it is."""
        psycopg = require("psycopg", "postgres")
        adapters = require("psycopg.types.string", "postgres")
        url, schema = _for_libpq(self.url)
        try:
            connection = psycopg.connect(
                url, autocommit=True, connect_timeout=10,
                options="-c default_transaction_read_only=on -c timezone=UTC -c datestyle=ISO",
            )  # fmt: skip
            if schema:
                connection.execute("select set_config('search_path', quote_ident(%s), false)", [schema])
        except (psycopg.Error, ValueError) as error:
            raise InputError(
                f"{self.name} cannot be reached", got=self._said(error), do="Check address, name and password"
            ) from None
        require("psycopg.types.json", "postgres").set_json_loads(_json, connection)
        for kind in ("timestamp", "timestamptz", "date", "inet", "uuid"):
            connection.adapters.register_loader(kind, adapters.TextLoader)
        return connection

    def _said(self, error: Exception) -> str:
        """What libpq said, without the password: it quotes an address that it cannot read."""
        address, _, query = self.url.partition("?")
        given = address.partition("://")[2].rpartition("@")[0].partition(":")[2]
        others = [value for name, value in parse_qsl(query) if name.endswith("password")]
        text = str(error).replace(self.url, self.name)
        for secret in filter(None, [given, unquote(given), *others]):
            text = text.replace(secret, "***")
        return " ".join(text.split())[:200]

    def _chunks(self, connection: Any, sql: str, last: Sequence[str], window: Window) -> Iterator[list[dict[str, Any]]]:
        """The rows of one page, as many at a time as are held at once."""
        cursor = connection.cursor()
        rows: list[dict[str, Any]] = []
        n_bytes = 0
        for row in cursor.stream(sql, [*last, *_bounds(window), PAGE_ROWS]):
            rows.append(dict(zip([column.name for column in cursor.description], row, strict=True)))
            n_bytes += sum(len(value) for value in row if type(value) is str)
            if n_bytes >= _CHUNK_BYTES:
                yield rows
                rows, n_bytes = [], 0
        if rows:
            yield rows

    def _conformed(self, rows: list[dict[str, Any]], extractor: Extractor, window: Window) -> list[pa.RecordBatch]:
        cells = extractor.cells([extractor.shaped(row | {"startTime": _zoned(row)}) for row in rows]).columns
        batch = conform(cells, columns=EXCHANGES.names, window=window, tally=self.tally)
        return [batch] if batch.num_rows else []


def _for_libpq(url: str) -> tuple[str, str]:
    """The address without what only Prisma understands, and the schema that it names."""
    address, _, query = url.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    kept = urlencode([(name, value) for name, value in given if name not in _PRISMAS], quote_via=quote)
    return f"{address}?{kept}" if kept else address, dict(given).get("schema", "")


def _zoned(row: Mapping[str, Any]) -> Any:
    """The instant of a row; one without a zone is of UTC, as LiteLLM writes it."""
    text = row["startTime"]
    return f"{text}Z" if isinstance(text, str) and "+" not in text else text


def _json(raw: bytes | str) -> Any:
    """A JSON object or list as it is written, since only what is asked for is read of it; what is neither as itself."""
    text = raw if isinstance(raw, str) else raw.decode()
    with suppress(msgspec.MsgspecError, ValueError):
        return text if text.startswith(("{", "[")) else msgspec.json.decode(text)
    return None


def _bounds(window: Window) -> list[datetime | None]:
    """The parameters of `_WINDOW`."""
    since, until = _naive(window.since), _naive(window.until)
    return [since, since, until, until]


def _query(names: Sequence[str], *, is_jsonb: bool) -> str:
    """The statement of one page; bounds are parameters, names are ours."""
    needed = dict.fromkeys(["startTime", "request_id", *names])
    without = " - ".join(["metadata", *(f"'{name}'" for name in _TOO_BIG)])
    object_only = f"case jsonb_typeof(metadata) when 'object' then {without} else metadata end as metadata"
    shorter = {"metadata": object_only} if is_jsonb else {}
    columns = ", ".join(shorter.get(name, f'"{name}"') for name in needed)
    return (
        f'select {columns} from "{_TABLE}" '  # noqa: S608 (no name comes from outside)
        f'where ("startTime", request_id) > (%s, %s) and {_WINDOW} order by "startTime", request_id limit %s'
    )


def _columns(connection: Any, table: str) -> dict[str, str]:
    """The columns of the table that this name stands for, with their types; none where it is not there."""
    rows = connection.execute(
        "select attname, atttypid::regtype::text from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped", [f'"{table}"'],
    )  # fmt: skip
    return dict(rows.fetchall())


def _rows(connection: Any, table: str) -> list[dict[str, Any]]:
    """The rows of a small table; none where it is not there."""
    wanted = "token user_id team_id organization_id created_at user_email sso_user_id".split()
    names = [name for name in _columns(connection, table) if name in wanted]
    if not names:
        return []
    listed = ", ".join(f'"{name}"' for name in names)
    rows = connection.execute(f'select {listed} from "{table}"')  # noqa: S608 (no name comes from outside)
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _moment(text: Any) -> datetime | None:
    """An instant of the database; None for one that is infinite, or that no clock of ours shows."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _add(known: dict[str, Any], row: Mapping[str, Any], user: Mapping[str, Any], key: bytes) -> None:
    """Add what one key and its user say; the earliest sign-up counts."""
    made = [time for one in (row, user) if (time := _moment(one.get("created_at")))]
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
