from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import PolicyError
from stillwatch.policy.model import LEVELS
from stillwatch.policy.reading import load_policy, parse_policy
from stillwatch.policy.tables import MAX_BYTES
from tests.policy.making import EXAMPLE, policy


def refused(old: str, new: str) -> str:
    """What is said of the example with one piece changed."""
    assert old in EXAMPLE
    with pytest.raises(PolicyError) as caught:
        parse_policy(EXAMPLE.replace(old, new, 1).encode(), file="gate.toml")
    return str(caught.value)


def test_the_example_is_read() -> None:
    """Every table of the example arrives."""
    read = policy()
    assert (read.version, read.mode, read.on_failure, read.mark_epoch) == ("2026-06-01", "enforce", "deny", "2026-06")
    assert list(read.levels) == list(LEVELS)
    assert read.levels["email"].features == {"reasoning"}
    assert [budget.name for budget in read.budgets] == ["lineage-hour", "network-minute"]
    assert read.verdicts["campaign"].step.step_up == "organisation"
    assert [rule.name for rule in read.network_rules] == ["office", "closed"]
    assert read.licensed[0].max_tokens == 5_000_000
    assert read.screening is not None


def test_a_level_that_is_not_written_has_what_the_one_below_has() -> None:
    """Proving more never opens less, and never opens something nobody wrote."""
    read = policy()
    assert read.levels["phone"].models == read.levels["email"].models
    assert read.levels["payment"].budgets == read.levels["email"].budgets


@pytest.mark.parametrize("key", ["format = 1\n", 'version = "2026-06-01"\n', 'mode = "enforce"\n'])
def test_a_key_that_is_missing_is_named(key: str) -> None:
    """What must be there is asked for by name."""
    assert key.split(maxsplit=1)[0] in refused(key, "")


def test_there_is_no_default_for_failure() -> None:
    """A policy that does not say what happens on failure is no policy."""
    says = refused('on_failure = "deny"', "")
    assert "on_failure is missing" in says
    assert "deny, allow_limited, allow" in says


MANY_BUDGETS = "".join(
    f'[[budgets]]\nname = "b{n}"\nper = "account"\ntokens = 9\nperiod = "1h"\nburst = 9\n' for n in range(14)
)

CASES = [
    ('on_failure = "deny"', 'on_failure = "open"', "gate.toml: on_failure; got 'open'; expected one of deny"),
    ('on_failure = "deny"', 'on_failur = "deny"', "no key 'on_failur'. Did you mean on_failure?"),
    ('models = ["small-*"]', 'model = ["small-*"]', "You wrote 'model'"),
    ('mode = "enforce"', 'mode = "enforced"', "Did you mean enforce?"),
    ("mark_epoch", "mark_epok", "no key 'mark_epok'. Did you mean mark_epoch?"),
    ("format = 1", "format = 2", "format; got 2"),
    ("format = 1", "format = true", "format; got True"),
    ("[levels.email]", "[levels.e-mail]", "Did you mean email?"),
    ('features = ["reasoning"]', 'features = ["resoning"]', "Did you mean reasoning?"),
    ('features = ["reasoning"]', 'features = "reasoning"', "expected a list of texts"),
    ("tokens = 10_000", "tokens = -1", "[levels.none.budgets 1] tokens; got -1"),
    ("tokens = 10_000", "tokens = nan", "tokens; got nan"),
    ("tokens = 10_000", "tokens = inf", "tokens; got inf"),
    ("tokens = 10_000", "tokens = 1e4", "expected a whole number"),
    ("tokens = 10_000", "tokens = 10_000\nrequests = 2", "got tokens and requests"),
    ("tokens = 10_000", "token = 10_000", "got neither"),
    ("tokens = 10_000", "tokens = 99999999999999999999999", "tokens; got 99999999999999999999999"),
    ('period = "1h"', 'period = "-1h"', "expected a duration"),
    ('period = "1h"', 'period = "0h"', "expected a duration"),
    ('period = "1h"', "period = 3600", "expected a duration"),
    ('period = "1h"', 'period = "999999d"', "at most 366d"),
    ("burst = 2_000", "", "burst is missing"),
    ('per = "lineage"', 'per = "linage"', "Did you mean lineage?"),
    ('per = "lineage"', 'per = "licence"', "got 'licence'"),
    ("lineage-hour", "network-minute", "two budgets are called 'network-minute'"),
    ("lineage-hour", "licence", "kept for licences"),
    ('"small-*"', '"small-[a-z]"', "without [ ]"),
    ('"small-*"', '"*****"', "at most four *"),
    ('step_up = "organisation"', "", "step_up is missing"),
    ('step_up = "organisation"', 'step_up = "none"', "got 'none'"),
    ('features_off = ["logprobs"]', 'features_off = ["batch"]', "some of reasoning, logprobs"),
    ("min_membership = 0.5", "min_membership = nan", "a number from 0 to 1"),
    ("min_membership = 0.5", "min_membership = 1.5", "a number from 0 to 1"),
    ("[verdicts.campaign]", "[verdicts.campain]", "Did you mean campaign?"),
    ('mark_epoch = "2026-06"\n', "", "mark_epoch"),
    ("192.0.2.0/28", "192.0.2.1/28", "host bits"),
    ("192.0.2.0/28", "localhost", "192.0.2.0/24"),
    ("192.0.2.0/28", "::ffff:192.0.2.0/124", "read as IPv4"),
    ('countries = ["XX"]', 'countries = ["xx"]', "got 'xx'"),
    ('mmdb = "geo.mmdb"\n', "", "without which no country is known"),
    ('name = "closed"', 'name = "office"', "a name no other rule has"),
    ('action = "allow"', 'action = "mark"', "another action"),
    ('action = "allow"', 'action = "slow"', "wait is missing"),
    ("org_id =", "orgid =", "Did you mean org_id?"),
    ("max_tokens = 5_000_000", "max_tokens = -5", "wrong max_tokens"),
    ("max_tokens = 5_000_000", f"max_tokens = {2**51}", "max_tokens; got 2251799813685248"),
    ("[screening]", MANY_BUDGETS + "[screening]", "too many budgets"),
    ("2026-12-31", '"soon"', "wrong until"),
    ('lists = ["restricted.txt"]', "lists = []", "a list"),
    ("[screening]", "[screening]\nsimilarity = 0.1", "0.5 or more"),
    ("[screening]", "[sreening]", "Did you mean screening?"),
    ("[screening]", "[[screening]]", "a table [screening]"),
]


@pytest.mark.parametrize(("old", "new", "says"), CASES)
def test_what_is_wrong_is_said_precisely(old: str, new: str, says: str) -> None:
    """The message holds the file, the table, the key, what was got and what is expected or near."""
    told = refused(old, new)
    assert says in told
    assert told.startswith("gate.toml: ")


def test_the_lowest_level_must_be_written() -> None:
    """What callers may do of whom nothing is known is never guessed."""
    error = refused_bytes(EXAMPLE.replace("levels.none", "levels.phone").encode())
    assert "gate.toml: [levels] none is missing" in str(error)


def test_duplicate_tables_and_keys_are_refused() -> None:
    """Two tables of one name cannot both hold."""
    assert "not TOML" in str(refused_bytes((EXAMPLE + "\n[levels.none]\n").encode()))
    assert "not TOML" in str(refused_bytes(b'mode = "shadow"\n' + EXAMPLE.encode()))


def refused_bytes(content: bytes) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse_policy(content, file="gate.toml")
    return caught.value


HOSTILE = {
    "utf-16": EXAMPLE.encode("utf-16"),
    "latin-1": EXAMPLE.replace("small", "sm\xe4ll").encode("latin-1"),
    "nul": b"\0" * 100,
    "empty": b"",
    "huge": b"#" * (MAX_BYTES + 1),
    "deep list": b"format = " + b"[" * 50_000 + b"]" * 50_000,
    "deep table": b"[" + b".".join([b"a"] * 20_000) + b"]\n",
    "digits": b"format = " + b"9" * 10_000,
    "hex digits": b"format = 0x" + b"f" * 100_000,
    "long key": b"k" * 100_000 + b" = 1",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_a_line(kind: str) -> None:
    """Whatever the bytes, the answer is one PolicyError of bounded length."""
    assert len(str(refused_bytes(HOSTILE[kind]))) < 500


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    """Any bytes are a policy or a PolicyError."""
    with pytest.raises(PolicyError):
        parse_policy(content)


@given(st.integers(0, len(EXAMPLE) - 1), st.text(min_size=1, max_size=3))
def test_a_damaged_example_is_read_or_refused(at: int, piece: str) -> None:
    """Text put anywhere into a policy makes another policy or a PolicyError."""
    try:
        parse_policy((EXAMPLE[:at] + piece + EXAMPLE[at:]).encode("utf-8", "surrogatepass"))
    except PolicyError as error:
        assert len(str(error)) < 1000


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The path stands in the error."""
    with pytest.raises(PolicyError, match=r"gone\.toml cannot be read"):
        load_policy(tmp_path / "gone.toml")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path)


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    """Editors that write one are forgiven."""
    (tmp_path / "gate.toml").write_bytes(b"\xef\xbb\xbf" + EXAMPLE.encode())
    assert load_policy(tmp_path / "gate.toml").version == "2026-06-01"
