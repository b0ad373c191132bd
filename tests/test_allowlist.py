from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from stillwatch.allowlist import Allowlist, Licensed, load_allowlist
from stillwatch.errors import InputError

DAY = date(2026, 6, 30)
ORGS = {"a1": "acme", "a2": "acme", "b1": "beta", "lone": None}
TOKENS = {"a1": 600, "a2": 400, "b1": 50, "lone": 10, "stranger": 5}


def excused(*entries: Licensed, on: date = DAY) -> tuple[set[str], list[str]]:
    found = Allowlist(entries).licensed_accounts(orgs=ORGS, tokens=TOKENS, on=on)
    return set(found.accounts), [reason for _, reason in found.lapsed]


def write(folder: Path, content: str | bytes, name: str = "allowlist.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_plain_lines_are_ids_of_organisations_or_accounts(tmp_path: Path) -> None:
    """Comments, blank lines, white space, a byte order mark and Windows line ends are no part of an id."""
    path = write(tmp_path, b"\xef\xbb\xbf# licensed\r\nacme\r\n\r\n  b1  # until they stop\r\norg#7\r\n")
    found = load_allowlist(path)
    assert [entry.org_id for entry in found.entries] == ["acme", "b1", "org#7"]
    assert all(entry.org_id == entry.account_id for entry in found.entries)
    assert found.licensed_accounts(orgs=ORGS, tokens=TOKENS, on=DAY).accounts == {"a1", "a2", "b1"}


def test_toml_tables_carry_term_and_volume(tmp_path: Path) -> None:
    """Each table is one licence, with an end and a limit where it has them."""
    text = '[[licensed]]\norg_id = "acme"\nuntil = 2026-06-30\nmax_tokens = 1000\n[[licensed]]\naccount_id = "b 1"\n'
    assert load_allowlist(write(tmp_path, text, "allow.toml")).entries == (
        Licensed(org_id="acme", until=DAY, max_tokens=1000),
        Licensed(account_id="b 1"),
    )


def test_toml_is_known_by_its_tables_whatever_the_file_is_called(tmp_path: Path) -> None:
    """A TOML allowlist in a file with another name reads the same."""
    path = write(tmp_path, '# ours\n[[licensed]]\naccount_id = "lone"\n', "allowlist")
    assert load_allowlist(path).entries == (Licensed(account_id="lone"),)


@pytest.mark.parametrize("name", ["empty.txt", "empty.toml"])
def test_an_empty_allowlist_excuses_nobody(tmp_path: Path, name: str) -> None:
    """An empty file is an allowlist without entries."""
    found = load_allowlist(write(tmp_path, "\n# nobody yet\n", name))
    assert found == Allowlist()
    assert found.licensed_accounts(orgs=ORGS, tokens=TOKENS, on=DAY).accounts == frozenset()


def test_a_licence_of_an_organisation_covers_all_its_accounts() -> None:
    """An organisation covers its accounts, an account only itself, and an account's id is not an organisation's."""
    assert excused(Licensed(org_id="acme")) == ({"a1", "a2"}, [])
    assert excused(Licensed(account_id="a1")) == ({"a1"}, [])
    assert excused(Licensed(account_id="acme")) == (set(), ["names no account in the logs"])
    assert excused(Licensed(org_id="a1")) == (set(), ["names no account in the logs"])


def test_accounts_without_an_organisation_are_covered_by_their_id_only() -> None:
    """An unknown organisation matches nothing, not even another unknown one."""
    assert excused(Licensed(account_id="stranger"), Licensed(account_id="lone")) == ({"stranger", "lone"}, [])
    assert Licensed(account_id="x").covers("lone", None) is False


@pytest.mark.parametrize(("on", "valid"), [(date(2026, 6, 29), True), (DAY, True), (date(2026, 7, 1), False)])
def test_a_licence_runs_to_the_end_of_its_last_day(on: date, valid: bool) -> None:
    """The day named is still covered; the next is not, and the reason gives the date."""
    expected = ({"a1", "a2"}, []) if valid else (set(), ["expired on 2026-06-30"])
    assert excused(Licensed(org_id="acme", until=DAY), on=on) == expected


@pytest.mark.parametrize(("limit", "valid"), [(1001, True), (1000, True), (999, False), (0, False)])
def test_a_licence_covers_its_volume_and_no_more(limit: int, valid: bool) -> None:
    """The limit is of all accounts of the organisation together; beyond it nobody is excused."""
    expected = ({"a1", "a2"}, []) if valid else (set(), [f"used 1000 tokens of {limit}"])
    assert excused(Licensed(org_id="acme", max_tokens=limit)) == expected


def test_one_valid_licence_is_enough() -> None:
    """An account under an expired and a valid licence is excused, and the expired one is still named."""
    old, new = Licensed(org_id="acme", until=date(2025, 1, 1)), Licensed(account_id="a1")
    assert excused(old, new, old) == ({"a1"}, ["expired on 2025-01-01"])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('orgid = "x"', r"unknown key; got 'orgid'\. Did you mean org_id\?"),
        ('org_id = "x"\nuntill = 2026-01-01', "Did you mean until"),
        ("org_id = 7", "wrong org_id; got 7; expected an id"),
        ('org_id = " "', "wrong org_id"),
        ('account_id = ["x"]', "wrong account_id"),
        ('org_id = "x"\nuntil = "2026-01-01"', "wrong until.*without quotes"),
        ('org_id = "x"\nuntil = 2026-01-01T00:00:00Z', "wrong until"),
        ('org_id = "x"\nmax_tokens = true', "wrong max_tokens"),
        ('org_id = "x"\nmax_tokens = 1.5', "wrong max_tokens"),
        ('org_id = "x"\nmax_tokens = -1', "wrong max_tokens"),
        ("until = 2026-01-01", "names nobody; expected org_id or account_id"),
        ("", "names nobody"),
    ],
)
def test_a_licence_that_makes_no_sense_is_named(tmp_path: Path, table: str, words: str) -> None:
    """The error says which licence of the file is wrong and what was expected; nothing is guessed."""
    path = write(tmp_path, f'[[licensed]]\norg_id = "ok"\n[[licensed]]\n{table}\n', "allow.toml")
    with pytest.raises(InputError, match=rf"licence 2 of the allowlist .*{words}"):
        load_allowlist(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("acme\nbeta, gamma\n", "line 2 .* is not one id.*'beta, gamma'"),
        ("a b", "is not one id"),
        ('"acme"', "is not one id"),
        ("acme;beta", "is not one id"),
        ("acme\n[[licensed]]\n", "is not TOML"),
        ("[[licensed]", "is not TOML"),
        ('[licensed]\norg_id = "x"', "holds something else than licences"),
        ('[[licenced]]\norg_id = "x"', "holds something else than licences; got licenced"),
        (b"\xff\xfea\x00", "is not UTF-8 text"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, content: str | bytes, words: str) -> None:
    """A list pasted in another form is an error; read as ids it would quietly excuse nobody."""
    with pytest.raises(InputError, match=words):
        load_allowlist(write(tmp_path, content))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """An absent file and a folder are errors: going on without the allowlist would accuse licensed customers."""
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load_allowlist(path)


def test_the_practice_allowlist_reads(shared: Path) -> None:
    """The plain list that comes with the practice traffic is read as it is."""
    found = load_allowlist(shared / "practice" / "allowlist.txt")
    assert found.entries
    assert all(entry.org_id and entry.until is None for entry in found.entries)
