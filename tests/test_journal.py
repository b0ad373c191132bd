from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import JournalError
from stillwatch.journal import START, Journal
from stillwatch.keys import Secret

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def filled(folder: Path, n: int = 4) -> tuple[Journal, list[str]]:
    journal = Journal(folder / "journal")
    return journal, [journal.append("decision", {"i": i}, NOON + timedelta(seconds=i)) for i in range(n)]


def test_lines_are_chained_by_their_hashes(tmp_path: Path) -> None:
    """A reader with nothing but json and hashlib can follow the chain, and receipts are the lines' hashes."""
    journal, receipts = filled(tmp_path)
    prev = "0" * 64
    for i, line in enumerate(journal.path.read_bytes().splitlines()):
        record = json.loads(line)
        assert record == {
            "v": 1,
            "n": i + 1,
            "ts": (NOON + timedelta(seconds=i)).isoformat(),
            "kind": "decision",
            "body": {"i": i},
            "prev": prev,
        }
        prev = hashlib.sha256(line).hexdigest()
        assert receipts[i] == prev
    assert journal.verify() == journal.verify(receipts=receipts) == 4


def test_an_empty_journal_is_whole_and_an_absent_one_is_an_error(tmp_path: Path) -> None:
    """Nothing written is not the same as nothing there."""
    (tmp_path / "empty").touch()
    assert Journal(tmp_path / "empty").verify() == 0
    with pytest.raises(JournalError, match=r"absent cannot be opened"):
        Journal(tmp_path / "absent").verify()
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path).append("x", {}, NOON)


def test_only_the_owner_reads_a_journal(tmp_path: Path) -> None:
    """File and new folder are private whatever the umask."""
    before = os.umask(0)
    try:
        Journal(tmp_path / "state" / "journal").append("reveal", {}, NOON)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "journal").stat().st_mode) == 0o600


@given(kind=st.text(), body=st.dictionaries(st.text(), JSON_VALUES, max_size=4), after=JSON_VALUES)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, kind: str, body: dict[str, Any], after: object
) -> None:
    """Any JSON body, with any characters in it, reads back equal and keeps the chain whole."""
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal")
    journal.append(kind, body, NOON)
    journal.append("after", {"value": after}, NOON)
    first, second = journal.entries()
    assert (first.n, first.kind, first.body, first.ts, first.prev) == (1, kind, body, NOON, START)
    assert (second.n, second.body, second.prev) == (2, {"value": after}, first.sha256)
    assert journal.path.read_bytes().count(b"\n") == 2
    assert journal.path.read_bytes().isascii()


@pytest.mark.parametrize("length", [4090, 4096, 8191, 20_000, 300_000])
def test_a_long_last_line_is_found_whole(tmp_path: Path, length: int) -> None:
    """The chain goes on after a line longer than any block the file is read in."""
    journal = Journal(tmp_path / "journal")
    for i in range(3):
        journal.append("long", {"text": "x" * (length + i)}, NOON)
    assert journal.verify() == 3


def test_times_are_kept_in_utc_and_need_a_zone(tmp_path: Path) -> None:
    """A time from another zone is the same instant; one without a zone is refused."""
    journal = Journal(tmp_path / "journal")
    journal.append("x", {}, NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
    (entry,) = journal.entries()
    assert (entry.ts, entry.ts.utcoffset()) == (NOON, timedelta(0))
    with pytest.raises(JournalError, match="zone"):
        journal.append("x", {}, NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    "body",
    [
        {"key": Secret(b"hunter2")},
        {"bytes": b"hunter2"},
        {"nan": float("nan")},
        {"inf": [float("inf")]},
        {9: "a", 10: "b"},
        {1: "a", "1": "b"},
        {"set": {1}},
        {"when": NOON},
    ],
)
def test_a_body_that_is_not_json_is_refused(tmp_path: Path, body: dict[Any, Any]) -> None:
    """What could not be read back equal is refused, quotes no secret, and leaves the journal as it was."""
    journal, _ = filled(tmp_path, 1)
    before = journal.path.read_bytes()
    with pytest.raises(JournalError, match="holds what JSON cannot") as caught:
        journal.append("x", body, NOON)
    assert "hunter2" not in str(caught.value)
    assert journal.path.read_bytes() == before


def test_a_body_that_holds_itself_is_refused(tmp_path: Path) -> None:
    """Endless nesting is an error of ours, not a crash."""
    body: dict[str, Any] = {}
    body["again"] = body
    with pytest.raises(JournalError):
        Journal(tmp_path / "journal").append("x", body, NOON)
    assert Journal(tmp_path / "journal").verify() == 0


def test_many_processes_append_to_one_chain(tmp_path: Path) -> None:
    """Lines of processes that write at once are all there, each process's in its order, in one whole chain."""
    code = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path;"
        "from stillwatch.journal import Journal; sys.stdin.read(); journal = Journal(Path(sys.argv[1]));"
        "[journal.append(sys.argv[2], {'i': i}, datetime(2026, 1, 1, tzinfo=UTC)) for i in range(25)]"
    )
    path = tmp_path / "journal"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(k)], stdin=subprocess.PIPE) for k in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert Journal(path).verify() == 100
    for k in range(4):
        assert [entry.body["i"] for entry in Journal(path).entries() if entry.kind == str(k)] == list(range(25))


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    """Whichever byte is changed, the chain breaks, or, in the last line, its receipt is gone."""
    journal, receipts = filled(tmp_path)
    whole = journal.path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        journal.path.write_bytes(changed)
        with pytest.raises(JournalError):
            journal.verify(receipts=receipts[-1:])


LINES: list[tuple[str, Callable[[list[bytes]], list[bytes]], str]] = [
    ("first gone", lambda lines: lines[1:], "line 1: it does not follow"),
    ("second gone", lambda lines: lines[:1] + lines[2:], "line 2: it does not follow"),
    ("two swapped", lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2: it does not follow"),
    ("one doubled", lambda lines: [*lines[:2], *lines[1:]], "line 3: it does not follow"),
    ("last doubled", lambda lines: [*lines, lines[3]], "line 5: it does not follow"),
    ("an empty line", lambda lines: [*lines[:2], b"\n", *lines[2:]], "line 3: it is not an entry"),
    ("another journal", lambda lines: lines[:2] + lines[:2], "line 3: it does not follow"),
]


@pytest.mark.parametrize(("change", "words"), [line[1:] for line in LINES], ids=[line[0] for line in LINES])
def test_the_first_broken_line_is_named(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    """Lines taken out, moved, doubled or put in are noticed, and the error says where."""
    journal, _ = filled(tmp_path)
    journal.path.write_bytes(b"".join(change(journal.path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(JournalError, match=words):
        journal.verify()


def rewritten(record: dict[str, Any], **changes: object) -> bytes:
    return json.dumps(record | changes, sort_keys=True, separators=(",", ":")).encode()


FORGERIES: list[tuple[str, Callable[[dict[str, Any]], bytes]]] = [
    ("spaces", lambda record: json.dumps(record, sort_keys=True).encode()),
    ("key order", lambda record: json.dumps(dict(reversed(record.items())), separators=(",", ":")).encode()),
    ("a doubled key", lambda record: rewritten(record)[:-1] + b',"v":1}'),
    ("an added key", lambda record: rewritten(record, zz=1)),
    ("another version", lambda record: rewritten(record, v=2)),
    ("a true version", lambda record: rewritten(record, v=True)),
    ("a number for text", lambda record: rewritten(record, kind=1)),
    ("no time", lambda record: rewritten(record, ts="yesterday")),
    ("NaN", lambda record: rewritten(record, body={"x": float("nan")})),
    ("a list", lambda record: b"[]"),
    ("a list of keys", lambda record: b'["body","kind","n","prev","ts","v"]'),
    ("not JSON", lambda record: b"\xff\xfe"),
    ("deep nesting", lambda record: b"[" * 100_000),
    ("a long number", lambda record: b"1" * 10_000),
]


@pytest.mark.parametrize("forge", [forgery[1] for forgery in FORGERIES], ids=[forgery[0] for forgery in FORGERIES])
def test_a_line_has_one_spelling(tmp_path: Path, forge: Callable[[dict[str, Any]], bytes]) -> None:
    """A last line written another way is refused by readers and by the next writer."""
    journal, _ = filled(tmp_path)
    lines = journal.path.read_bytes().splitlines()
    journal.path.write_bytes(b"\n".join([*lines[:3], forge(json.loads(lines[3])), b""]))
    with pytest.raises(JournalError, match="line 4: it is not an entry of format 1"):
        journal.verify()
    with pytest.raises(JournalError, match="the last line: it is not an entry"):
        journal.append("x", {}, NOON)


def test_a_line_numbered_wrongly_is_noticed(tmp_path: Path) -> None:
    """A chain whose hashes fit but whose numbers do not is refused."""
    journal, _ = filled(tmp_path, 1)
    record = json.loads(journal.path.read_bytes())
    journal.path.write_bytes(rewritten(record, n=7) + b"\n")
    with pytest.raises(JournalError, match="line 1: it does not follow"):
        journal.verify()


def test_a_torn_last_line_is_reported_and_not_written_after(tmp_path: Path) -> None:
    """Wherever a crash cut the last line, verifying says so and appending refuses, and the file stays as it is."""
    journal, receipts = filled(tmp_path, 2)
    whole = journal.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(whole)):
        journal.path.write_bytes(whole[:cut])
        with pytest.raises(JournalError, match="line 2: its end is missing"):
            journal.verify()
        with pytest.raises(JournalError, match="the last line: its end is missing"):
            journal.append("x", {}, NOON)
        assert journal.path.read_bytes() == whole[:cut]
    journal.path.write_bytes(whole[:last])
    assert journal.verify() == 1
    with pytest.raises(JournalError, match=r"cut off or rewritten; got no line for 1 receipts"):
        journal.verify(receipts=receipts)


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """A write that stops half-way, or that cannot be made to last, is taken back and reported."""
    journal, _ = filled(tmp_path)
    before = journal.path.read_bytes()
    write = os.write

    def write_half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, write_half if failing == "write" else fail)
        with pytest.raises(JournalError, match=r"disk full|No space left"):
            journal.append("x", {}, NOON)
    assert journal.path.read_bytes() == before
    journal.append("x", {}, NOON)
    assert journal.verify() == 5


def test_reading_stops_where_the_journal_ended_when_it_began(tmp_path: Path) -> None:
    """Lines appended while a reader is under way belong to the next reading."""
    journal, _ = filled(tmp_path, 2)
    reading = journal.entries()
    next(reading)
    journal.append("x", {}, NOON)
    assert len(list(reading)) == 1
    assert journal.verify() == 3
