"""A database of the test's own, with the tables that LiteLLM's own migrations make."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from stillwatch.ingest.conform import Window
from tests.needs import needs

SERVER = os.environ.get("STILLWATCH_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
_NUMBERS = count()
ALWAYS = Window(since=None, until=None, latest=2**62)


def connected(url: str) -> Any:
    """A connection, in autocommit; the test is skipped where there is no server."""
    try:
        import psycopg
    except ImportError:
        needs("postgres", is_there=False, how="pip install 'stillwatch[postgres]'")
        raise
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=3)
    except psycopg.Error:
        needs("postgres", is_there=False, how="a server at STILLWATCH_POSTGRES or on 127.0.0.1:5432")
        raise


@dataclass(frozen=True)
class Database:
    """One database, by its address."""

    url: str

    @classmethod
    @contextmanager
    def made(cls, litellm: str | None = None) -> Iterator[Self]:
        """A fresh database; with the tables of LiteLLM's schema where its executable is given."""
        name = f"stillwatch_test_{os.getpid()}_{next(_NUMBERS)}"
        with connected(SERVER) as server:
            server.execute(f'drop database if exists "{name}"')
            server.execute(f'create database "{name}"')
            try:
                one = cls(SERVER.rpartition("/")[0] + f"/{name}")
                if litellm is not None:
                    one.migrate(Path(litellm))
                yield one
            finally:
                server.execute(f'drop database "{name}" with (force)')

    def migrate(self, litellm: Path) -> None:
        """Run the migrations that LiteLLM ships, in their order."""
        found = sorted(litellm.parents[1].glob("lib/python3*/site-packages/litellm_proxy_extras/migrations/*/*.sql"))
        assert found, "LiteLLM ships no migrations"
        with connected(self.url) as connection:
            for path in found:
                connection.execute(path.read_text("utf-8"))

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Put a row in; keys that are no column are left out."""
        with connected(self.url) as connection:
            names = connection.execute(
                "select column_name, data_type from information_schema.columns where table_name = %s", [table]
            )
            kinds = dict(names.fetchall())
            given = {
                name: json.dumps(value) if kinds[name] == "jsonb" and not isinstance(value, str) else value
                for name, value in row.items()
                if name in kinds
            }
            columns = ", ".join(f'"{name}"' for name in given)
            places = ", ".join(["%s"] * len(given))
            sql = f'insert into "{table}" ({columns}) values ({places})'  # noqa: S608 (the test's own names)
            connection.execute(sql, list(given.values()))
