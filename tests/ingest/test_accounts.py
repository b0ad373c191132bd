"""The accounts file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import InputError
from stillwatch.ingest.accounts import read_accounts
from stillwatch.records import ACCOUNTS

Rows = list[dict[str, Any]]
Writer = Callable[[Rows], Path]


def test_canonical_columns(written: Writer) -> None:
    """Every format gives the canonical schema, sorted by account; what is absent is null."""
    table, lost = read_accounts(written([{"account_id": "b", "plan": "team"}, {"account_id": "a", "plan": "free"}]))
    assert table.schema.equals(ACCOUNTS, check_metadata=True) and not lost
    assert table.column("account_id").to_pylist() == ["a", "b"]
    assert table.column("plan").to_pylist() == ["free", "team"]
    assert table.column("org_id").null_count == 2


def test_foreign_names(written: Writer) -> None:
    """Common foreign names are understood, and of an e-mail address only the domain is kept."""
    rows: Rows = [
        {
            "id": 17,
            "created": "2026-01-02T03:04:05Z",
            "organization_id": "o1",
            "email": "Some.One@Example.ORG",
            "card_fingerprint": "f",
            "reseller": "yes",
        }
    ]
    table, lost = read_accounts(written(rows))
    got = table.to_pylist()[0]
    assert got["account_id"] == "17" and got["created_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert got["email_domain"] == "example.org" and got["is_reseller"] is True
    assert (got["org_id"], got["payment_fingerprint"]) == ("o1", "f") and not lost
    assert "some.one" not in str(table.to_pylist()).lower()


def test_bad_rows_are_counted(written: Writer) -> None:
    """Rows without an account are rejected, unreadable values null, both counted by name."""
    rows: Rows = [
        {"account_id": None, "created_at": "2026-01-01", "is_reseller": "no"},
        {"account_id": "a", "created_at": "long ago", "is_reseller": "perhaps"},
    ]
    table, lost = read_accounts(written(rows))
    assert table.num_rows == 1 and table.column("created_at").null_count == 1
    assert lost == {
        "account_id_missing": 1,
        "created_at_unreadable": 1,
        "created_at_without_zone": 1,
        "is_reseller_unreadable": 1,
    }


def test_repeated_accounts(tmp_path: Path, writers: Mapping[str, Any]) -> None:
    """Of several rows for an account one stays, the same whatever the order of rows and files."""
    rows: Rows = [
        {"account_id": "a", "plan": "team", "country": "NL"},
        {"account_id": "a", "plan": "free", "country": None},
        {"account_id": "b", "plan": None, "country": None},
        {"account_id": "a", "plan": "free", "country": "DE"},
    ]
    for n, order in enumerate((rows, rows[::-1])):
        folder = tmp_path / str(n)
        folder.mkdir()
        writers["parquet"](folder / "1.parquet", order[:2])
        writers["csv"](folder / "2.csv", order[2:])
        table, lost = read_accounts(folder)
        assert [(row["account_id"], row["plan"], row["country"]) for row in table.to_pylist()] == [
            ("a", "free", "DE"),
            ("b", None, None),
        ]
        assert lost == {"account_id_repeated": 2}


def test_mapping_shared_with_the_logs(written: Writer) -> None:
    """A mapping may name columns of the logs, which are passed over."""
    path = written([{"customer_no": "a", "plan": "free"}])
    table, _ = read_accounts(path, mapping={"customer_no": "account_id", "when": "ts"})
    assert table.column("account_id").to_pylist() == ["a"]


def test_no_accounts(tmp_path: Path, written: Writer) -> None:
    """An empty file and one without an account column are errors."""
    (tmp_path / "none.csv").write_bytes(b"")
    with pytest.raises(InputError, match=r"none\.csv holds no account"):
        read_accounts(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no column for account_id"):
        read_accounts(written([{"name": "a", "colour": "red"}]))
