"""A journal whose checked past is remembered: it reads as the plain one does, costs less, and notices changes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillwatch.checked import BULKY, CheckedJournal
from stillwatch.errors import JournalError
from stillwatch.journal import Journal
from stillwatch.keys import Secret

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = Secret(bytes(range(32)))
PIECE = 2_000
RARE = ("appeal", "review")


def checked(folder: Path, key: Secret = KEY) -> CheckedJournal:
    return CheckedJournal(folder / "journal", key, piece_bytes=PIECE)


def write(folder: Path, n: int, *, rare_every: int = 10) -> None:
    """Decisions, and among them now and then an appeal or a review."""
    kinds = [RARE[i // rare_every % 2] if i % rare_every == 0 else "decision" for i in range(n)]
    Journal(folder / "journal").append_all((kind, {"i": i, "text": "x" * 40}, NOON) for i, kind in enumerate(kinds))


def counted(journal: CheckedJournal, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that are taken apart from now on."""
    read: list[bytes] = []
    whole = journal._read

    def reads(line: bytes, *, where: str) -> Any:
        read.append(line)
        return whole(line, where=where)

    monkeypatch.setattr(journal, "_read", reads)
    return read


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 57, 200])
@pytest.mark.parametrize("kinds", [None, (), ("appeal",), RARE, ("decision",), ("decision", "appeal")])
def test_it_reads_what_the_plain_journal_does(tmp_path: Path, n: int, kinds: Any) -> None:
    """Before anything is remembered, afterwards, and after more was written."""
    for written in (n, 3, 40):
        write(tmp_path, written)
        plain = [one for one in Journal(tmp_path / "journal").entries() if kinds is None or one.kind in kinds]
        for _ in range(2):
            assert list(checked(tmp_path).entries(kinds=kinds)) == plain
        assert checked(tmp_path).check() == checked(tmp_path).look() == Journal(tmp_path / "journal").verify()


def test_what_was_checked_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many decisions there were, appeals cost their own lines and the end of the journal."""
    write(tmp_path, 3_000, rare_every=100)
    assert checked(tmp_path).look() == 3_000
    journal = checked(tmp_path)
    read = counted(journal, monkeypatch)
    assert [entry.body["i"] for entry in journal.entries(kinds=("appeal",))] == list(range(0, 3_000, 200))
    assert len(read) < 15 + PIECE // 200
    journal.look()
    n_read = len(read)
    write(tmp_path, 5)
    assert journal.look() == 3_005 and len(read) == n_read + 5


def test_a_reader_remembers_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to be running: whoever reads first follows the whole chain, once."""
    write(tmp_path, 1_000)
    list(checked(tmp_path).entries(kinds=("appeal",)))
    journal = checked(tmp_path)
    read = counted(journal, monkeypatch)
    list(journal.entries(kinds=("appeal",)))
    assert len(read) < 100
    assert journal.memory.stat().st_mode & 0o777 == 0o600


def line_changed(text: bytes, n: int) -> bytes:
    lines = text.splitlines(keepends=True)
    lines[n] = lines[n].replace(b"xxxx", b"yyyy", 1)
    return b"".join(lines)


def forged(text: bytes, n: int) -> bytes:
    """All lines from one on written anew, so that the chain holds."""
    lines, prev = text.splitlines(), "0" * 64
    records = [json.loads(line) for line in lines]
    records[n]["body"]["i"] = -1
    for at, record in enumerate(records):
        record["prev"] = prev
        lines[at] = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        prev = hashlib.sha256(lines[at]).hexdigest()
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("n", [0, 5, 10, 250, 390, 399])
def test_a_changed_line_is_noticed_wherever_it_is(tmp_path: Path, n: int) -> None:
    """In what was remembered and after it; the plain chain notices it too."""
    write(tmp_path, 400)
    checked(tmp_path).look()
    path = tmp_path / "journal"
    path.write_bytes(line_changed(path.read_bytes(), n))
    write(tmp_path, 1)
    with pytest.raises(JournalError, match="broken"):
        checked(tmp_path).check()


CHANGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("written anew", lambda text: forged(text, 3)),
    ("cut off", lambda text: b"".join(text.splitlines(keepends=True)[:20])),
    ("emptied", lambda text: b""),
    ("grown", lambda text: text.replace(b"xxxx", b"xxxxy", 1)),
]


@pytest.mark.parametrize("change", [one for _, one in CHANGES], ids=[name for name, _ in CHANGES])
def test_what_a_chain_alone_cannot_show_is_noticed(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """A journal that was cut off or written anew is not the one that was checked."""
    write(tmp_path, 400)
    checked(tmp_path).look()
    path = tmp_path / "journal"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(JournalError, match=r"journal-.*\.checked"):
        checked(tmp_path).check()


def test_a_changed_appeal_is_believed_by_nobody(tmp_path: Path) -> None:
    """Whoever asks for appeals alone checks each of them."""
    write(tmp_path, 400)
    checked(tmp_path).look()
    path = tmp_path / "journal"
    path.write_bytes(line_changed(path.read_bytes(), 20))
    with pytest.raises(JournalError, match="not what was checked"):
        list(checked(tmp_path).entries(kinds=("appeal",)))


def test_a_journal_that_is_gone_is_noticed(tmp_path: Path) -> None:
    """Where something was remembered, an absent journal is no new one."""
    assert checked(tmp_path).is_absent
    write(tmp_path, 400)
    checked(tmp_path).look()
    (tmp_path / "journal").unlink()
    assert not checked(tmp_path).is_absent
    with pytest.raises(JournalError):
        list(checked(tmp_path).entries(kinds=("appeal",)))


def seals(text: bytes) -> Iterator[bytes]:
    yield text.replace(b"appeal", b"decision", 1)
    yield text[1:]
    yield text[:-1]
    yield b""
    yield b"0" * 64 + b"\n" + text.partition(b"\n")[2]
    yield text.replace(b'"pieces":[[', b'"pieces":[[1', 1)


def test_a_memory_that_was_changed_is_refused(tmp_path: Path) -> None:
    """It says which file, and what follows once it is deleted."""
    write(tmp_path, 400)
    checked(tmp_path).look()
    memory = checked(tmp_path).memory
    text = memory.read_bytes()
    for bad in seals(text):
        memory.write_bytes(bad)
        for read in (lambda: checked(tmp_path).check(), lambda: list(checked(tmp_path).entries(kinds=("appeal",)))):
            with pytest.raises(JournalError, match="remembered of the journal was changed"):
                read()
    memory.unlink()
    assert checked(tmp_path).check() == 400
    assert memory.read_bytes() == text


def test_each_key_has_a_memory_of_its_own(tmp_path: Path) -> None:
    """A scan under another key neither believes nor spoils what the gate remembers."""
    write(tmp_path, 400)
    other = Secret(bytes(32 * [7]))
    for key in (KEY, other):
        assert checked(tmp_path, key).check() == 400
    assert checked(tmp_path, KEY).memory != checked(tmp_path, other).memory
    assert len(list(tmp_path.glob("*.checked"))) == 2


def test_a_disk_that_takes_nothing_costs_only_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be remembered is followed again the next time."""
    write(tmp_path, 400)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert checked(tmp_path).look() == 400
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert checked(tmp_path).check() == 400


def test_bulky_kinds_are_what_a_gate_writes_for_each_call() -> None:
    """All else is remembered line by line, so a kind that comes with every call belongs here."""
    assert frozenset({"decision", "reasoning"}) == BULKY


@pytest.mark.slow
def test_appeals_among_many_decisions_are_quick(tmp_path: Path) -> None:
    """A hundred thousand decisions: the second reading takes less than a fifth of the first."""
    for _ in range(10):
        write(tmp_path, 10_000, rare_every=1_000)

    def took() -> float:
        began = time.process_time()
        assert (
            len(list(CheckedJournal(tmp_path / "journal", KEY, piece_bytes=1 << 20).entries(kinds=("appeal",)))) == 50
        )
        return time.process_time() - began

    first = took()
    assert took() < first / 5
