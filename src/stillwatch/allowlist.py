"""allowlist: who may distil, until when and how much; read from TOML or from plain lines of ids."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

from stillwatch.errors import InputError
from stillwatch.settings import suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Licensed:
    """One licence: it covers the account of this id and every account of this organisation.

    A plain line does not say which of the two its id is, so it names both.
    """

    org_id: str | None = None
    account_id: str | None = None
    until: date | None = None
    """The last day of the licence, in UTC; None for no end."""
    max_tokens: int | None = None
    """Tokens, input and output together, that all its accounts may use in the logs scanned; None for no limit."""

    def covers(self, account_id: str, org_id: str | None) -> bool:
        """Whether the licence names this account or its organisation."""
        return account_id == self.account_id or (org_id is not None and org_id == self.org_id)


@dataclass(frozen=True, slots=True)
class Excused:
    """What an allowlist says of the accounts of one scan."""

    accounts: frozenset[str]
    """Accounts a valid licence covers."""
    lapsed: tuple[tuple[Licensed, str], ...]
    """Licences that excuse nobody, with the reason: expired, over its volume, or naming nobody in the logs."""


@dataclass(frozen=True, slots=True)
class Allowlist:
    """The licences a user declares."""

    entries: tuple[Licensed, ...] = ()

    def licensed_accounts(self, *, orgs: Mapping[str, str | None], tokens: Mapping[str, int], on: date) -> Excused:
        """Find the accounts that are excused.

        Args:
            orgs: account id to organisation id, where one is known.
            tokens: account id to tokens used, for every account in the logs.
            on: the day that licences must reach, in UTC: the last of the logs, not today.

        Cost: linear in accounts, times the number of licences that cover one.
        """
        covered: dict[Licensed, set[str]] = {entry: set() for entry in self.entries}
        by_id: dict[str, list[Licensed]] = {}
        for entry in covered:
            for name in {entry.org_id, entry.account_id} - {None}:
                by_id.setdefault(str(name), []).append(entry)
        for account in tokens:
            org = orgs.get(account)
            for entry in [*by_id.get(account, ()), *by_id.get(org or "", ())]:
                if entry.covers(account, org):
                    covered[entry].add(account)
        reasons = {entry: _why_lapsed(entry, accounts, tokens, on) for entry, accounts in covered.items()}
        valid = [accounts for entry, accounts in covered.items() if reasons[entry] is None]
        return Excused(
            accounts=frozenset().union(*valid),
            lapsed=tuple((entry, reason) for entry, reason in reasons.items() if reason is not None),
        )


def _why_lapsed(entry: Licensed, accounts: set[str], tokens: Mapping[str, int], on: date) -> str | None:
    used = sum(tokens[account] for account in accounts)
    if entry.until is not None and on > entry.until:
        return f"expired on {entry.until.isoformat()}"
    if entry.max_tokens is not None and used > entry.max_tokens:
        return f"used {used} tokens of {entry.max_tokens}"
    return None if accounts else "names no account in the logs"


_COMMENT = re.compile(r"(^|\s)#.*")
"""From a `#` that opens a word: `org#1` is an id."""


def load_allowlist(path: Path) -> Allowlist:
    """Read an allowlist: `[[licensed]]` tables in TOML, or one id a line, `#` starting a comment.

    Raises:
        InputError: the file cannot be read, or one of its entries makes no sense; the entry is named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"the allowlist {path} cannot be read", got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise InputError(f"the allowlist {path} is not UTF-8 text", got=str(error)) from error
    is_toml = path.suffix == ".toml" or any(line.lstrip().startswith("[") for line in text.splitlines())
    return Allowlist(tuple(_from_toml(text, path) if is_toml else _from_lines(text, path)))


def _from_lines(text: str, path: Path) -> Iterator[Licensed]:
    for number, line in enumerate(text.splitlines(), start=1):
        name = _COMMENT.sub("", line).strip()
        # A list pasted from elsewhere would otherwise be read as one long id that excuses nobody.
        if any(character.isspace() or character in ",;\"'" for character in name):
            raise InputError(
                f"line {number} of the allowlist {path} is not one id",
                got=repr(name),
                do="Write one id a line, or TOML where an id holds spaces, commas or quotes.",
            )
        if name:
            yield Licensed(org_id=name, account_id=name)


def _from_toml(text: str, path: Path) -> Iterator[Licensed]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the allowlist {path} is not TOML", got=str(error)) from error
    tables = document.pop("licensed", [])
    if document or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(
            f"the allowlist {path} holds something else than licences",
            got=", ".join(document) or "licensed, but no [[licensed]] tables",
            expected="[[licensed]] tables only",
        )
    for number, table in enumerate(tables, start=1):
        yield read_licence(table, where=f"licence {number} of the allowlist {path}")


def read_licence(table: Mapping[str, Any], *, where: str) -> Licensed:
    """Check one licence, as read from TOML.

    Raises:
        InputError: a key is unknown or a value is wrong; `where` names the place.
    """
    known = [field.name for field in fields(Licensed)]
    for name, value in table.items():
        if name not in known:
            raise InputError(f"{where} holds an unknown key", got=repr(name), do=suggestion(name, known))
        if not _has_type(name, value):
            raise InputError(f"{where} holds a wrong {name}", got=repr(value), expected=_EXPECTED[name])
    if not {"org_id", "account_id"} & table.keys():
        raise InputError(f"{where} names nobody", expected="org_id or account_id")
    return Licensed(**table)


_EXPECTED = {
    "org_id": "an id in quotes",
    "account_id": "an id in quotes",
    "until": "a date such as 2027-01-31, without quotes",
    "max_tokens": "a whole number, at least 0",
}


def _has_type(name: str, value: object) -> bool:
    if name == "until":
        return isinstance(value, date) and not isinstance(value, datetime)
    if name == "max_tokens":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, str) and bool(value.strip())
