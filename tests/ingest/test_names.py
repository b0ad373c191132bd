"""Foreign names and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from stillwatch.errors import InputError
from stillwatch.ingest.names import ACCOUNT_ALIASES, EXCHANGE_ALIASES, Names, check_mapping, plain, require, resolve
from stillwatch.records import ACCOUNTS, EXCHANGES


def found(columns: Sequence[str], mapping: Mapping[str, str] | None = None, chats: Sequence[str] = ()) -> Names:
    return resolve(
        columns,
        chats=frozenset(chats),
        mapping=mapping or {},
        canonical=EXCHANGES.names,
        aliases=EXCHANGE_ALIASES,
        where="a.csv",
    )


def test_canonical_names_are_no_guesses() -> None:
    """Canonical names stand for themselves."""
    names = found(["account_id", "ts", "prompt"])
    assert names.sources == {"account_id": "account_id", "ts": "ts", "prompt": "prompt"}
    assert not names.guesses and not names.unknown


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("user", "account_id"),
        ("User ID", "account_id"),
        ("userId", "account_id"),
        ("timestamp", "ts"),
        ("created", "ts"),
        ("@timestamp", "ts"),
        ("startTime", "ts"),
        ("usage.prompt_tokens", "input_tokens"),
        ("response", "completion"),
        ("input", "prompt"),
        ("remote_addr", "ip"),
        ("User-Agent", "user_agent"),
    ],
)
def test_guesses_are_reported(theirs: str, ours: str) -> None:
    """Each common foreign name is guessed, and the guess is reported."""
    names = found([theirs, "colour"])
    assert names.sources == {ours: theirs}
    assert names.guesses == {theirs: ours}
    assert names.unknown == ("colour",)


def test_two_guesses_clash() -> None:
    """Two columns that could be one canonical column are an error that says how to decide."""
    with pytest.raises(InputError, match=r"user, user_id.*--map user=account_id"):
        found(["user", "user_id", "ts"])


def test_the_user_settles_a_clash() -> None:
    """What the user maps wins, and the other column is unknown."""
    names = found(["user", "user_id", "ts"], {"user_id": "account_id"})
    assert names.sources["account_id"] == "user_id"
    assert names.unknown == ("user",)


def test_a_canonical_name_wins_over_a_guess() -> None:
    """Where the canonical name is there nothing is guessed for it."""
    names = found(["account_id", "user", "ts", "timestamp"])
    assert names.sources == {"account_id": "account_id", "ts": "ts"}
    assert names.unknown == ("user", "timestamp")


def test_two_maps_to_one_name_clash() -> None:
    """Two columns mapped to one name are an error."""
    with pytest.raises(InputError, match=r"2 columns of a\.csv could be account_id: a, b"):
        found(["a", "b"], {"a": "account_id", "b": "account_id"})


def test_a_mapped_column_also_keeps_its_own_name() -> None:
    """A session mapped to the account is still the session."""
    names = found(["session_id", "timestamp"], {"session_id": "account_id"})
    assert names.sources == {"account_id": "session_id", "session_id": "session_id", "ts": "timestamp"}


def test_twice_the_same_column() -> None:
    """A needed column that stands there twice is an error, one that nobody needs is not."""
    assert found(["account_id", "x", "x"]).unknown == ("x",)
    with pytest.raises(InputError, match="2 columns named account_id"):
        found(["account_id", "ts", "account_id"])


def test_a_guess_at_the_prompt_that_holds_conversations() -> None:
    """A column guessed as the prompt is read as messages where it holds conversations."""
    assert found(["input"]).sources == {"prompt": "input"}
    assert found(["input"], chats=["input"]).sources == {"messages": "input"}


def test_the_parent_of_a_used_column_is_not_unknown() -> None:
    """A structure of which a part is used counts as understood."""
    assert found(["usage", "usage.prompt_tokens", "usage.cost"]).unknown == ("usage.cost",)


def test_missing_columns_are_named_with_the_way_out() -> None:
    """The error names what is missing, what is there, and a --map that would help."""
    names = found(["who", "created"])
    with pytest.raises(InputError, match=r"no column for account_id.*got who, created.*--map who=account_id"):
        require(names, ["account_id", "ts"], columns=["who", "created"], where="a.csv")


def test_unknown_target_of_a_map() -> None:
    """A --map to a name that is not canonical is refused with the nearest one."""
    with pytest.raises(InputError, match="--map u=account_id"):
        check_mapping({"u": "acount_id"}, canonical=EXCHANGES.names)


@pytest.mark.parametrize(("aliases", "schema"), [(EXCHANGE_ALIASES, EXCHANGES), (ACCOUNT_ALIASES, ACCOUNTS)])
def test_the_tables_are_sound(aliases: Mapping[str, tuple[str, ...]], schema: list[str]) -> None:
    """Every alias is in plain spelling, stands for one canonical column only, and is not canonical itself."""
    listed = [alias for tiers in aliases.values() for tier in tiers for alias in tier.split()]
    assert len(listed) == len(set(listed))
    assert all(plain(alias) == alias for alias in listed)
    assert not set(listed) & set(schema.names)  # type: ignore[attr-defined]
    assert set(aliases) <= set(schema.names)  # type: ignore[attr-defined]
