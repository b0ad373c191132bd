"""geo: the country of an address, from the .mmdb file an operator brings; nothing is shipped.

A country is policy an operator writes, never evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Protocol

from stillwatch.errors import PolicyError
from stillwatch.extras import require
from stillwatch.policy.networks import parse_address


class Reader(Protocol):
    """What is used of a maxminddb reader."""

    def get(self, ip_address: str) -> Any:
        """The record of an address, or None."""


class Countries:
    """Countries by address, as ISO 3166-1 alpha-2 codes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @classmethod
    def open(cls, path: Path) -> Countries:
        """Open a file of the MaxMind DB format, in any of the usual layouts. Needs the extra `geo`.

        Raises:
            ExtraMissing: maxminddb is not installed.
            PolicyError: the file cannot be read.
        """
        maxminddb = require("maxminddb", "geo")
        try:
            return cls(maxminddb.open_database(str(path)))
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise PolicyError(f"the database of networks {path} cannot be read", got=str(error)[:200]) from error

    def of(self, ip: str | None) -> str | None:
        """The country of an address; None where it is not known, the record is damaged, or it is no address."""
        address = parse_address(ip)
        if address is None:
            return None
        bits, number = address
        try:
            # An IPv4 address inside IPv6 is the same address.
            found = self._reader.get(str(IPv4Address(number) if bits == 32 else IPv6Address(number)))
        except Exception:
            # A damaged record is an unknown country; readers raise errors of their own for it.
            return None
        for name in ("country", "registered_country"):
            record = found.get(name) if isinstance(found, Mapping) else None
            code = record.get("iso_code") if isinstance(record, Mapping) else record
            if isinstance(code, str) and len(code) == 2:
                return code.upper()
        code = found.get("country_code") if isinstance(found, Mapping) else None
        return code.upper() if isinstance(code, str) and len(code) == 2 else None
