from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import ExtraMissing, PolicyError
from stillwatch.policy.geo import Countries
from tests.policy.mmdb import write_mmdb


class Records:
    """A reader of a dictionary."""

    def __init__(self, records: dict[str, Any]) -> None:
        self.records = records

    def get(self, ip_address: str) -> Any:
        found = self.records[ip_address]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.mark.parametrize(
    ("record", "country"),
    [
        ({"country": {"iso_code": "XX"}}, "XX"),
        ({"registered_country": {"iso_code": "yy"}}, "YY"),
        ({"country_code": "ZZ"}, "ZZ"),
        ({"country": "QQ"}, "QQ"),
        ({"country": {"iso_code": 5}}, None),
        ({"country": {"iso_code": "TOO LONG"}}, None),
        (None, None),
        (["XX"], None),
        (ValueError("damaged"), None),
    ],
)
def test_layouts_of_records(record: Any, country: str | None) -> None:
    """The usual layouts are read; anything else is an unknown country."""
    assert Countries(Records({"192.0.2.1": record})).of("192.0.2.1") == country
    assert Countries(Records({})).of(None) is None


def test_a_real_database_is_read(tmp_path: Path) -> None:
    """A synthesised .mmdb answers through maxminddb itself."""
    pytest.importorskip("maxminddb")
    write_mmdb(tmp_path / "geo.mmdb", {"192.0.2.0/24": "XX", "198.51.100.0/25": "YY"})
    countries = Countries.open(tmp_path / "geo.mmdb")
    asked = ("192.0.2.77", "::ffff:192.0.2.77", "198.51.100.1", "198.51.100.200", "::1", "junk", "")
    assert [countries.of(ip) for ip in asked] == ["XX", "XX", "YY", None, None, None, None]


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """Absent, empty and damaged files are named."""
    pytest.importorskip("maxminddb")
    (tmp_path / "bad.mmdb").write_bytes(b"junk" * 100)
    for name in ("none.mmdb", "bad.mmdb"):
        with pytest.raises(PolicyError, match="cannot be read"):
            Countries.open(tmp_path / name)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without maxminddb the error says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(ExtraMissing, match=r"stillwatch\[geo\]"):
        Countries.open(Path("geo.mmdb"))
