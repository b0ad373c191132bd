from __future__ import annotations

import base64
from pathlib import Path

import pytest

from stillwatch.errors import KeyFileError
from stillwatch.keys import Secret
from stillwatch.watermark.schemes import Mark, Scheme
from stillwatch.watermark.tickets import open_ticket, seal_ticket
from tests.watermark import making

SEAL = Secret(bytes(range(100, 132)))


@pytest.fixture
def mark(tmp_path: Path) -> Mark:
    split = (("provider", 0.5), ("account", 0.5))
    return making.mark(making.ring(tmp_path), Scheme(name="kgw", width=1, gamma=0.5, delta=3.0, split=split))


def test_a_ticket_carries_the_whole_mark(mark: Mark) -> None:
    """What is opened is what was sealed, and sealing is repeatable."""
    ticket = seal_ticket(mark, SEAL)
    assert open_ticket(ticket, SEAL) == mark
    assert seal_ticket(mark, SEAL) == ticket
    assert len(ticket) < 700 and ticket.isascii()


def test_a_ticket_shows_nothing(mark: Mark) -> None:
    """Neither keys nor scheme can be read off it."""
    raw = base64.urlsafe_b64decode(seal_ticket(mark, SEAL))
    for key in mark.keys.values():
        assert key.reveal() not in raw and key.reveal().hex().encode() not in raw
    assert b"kgw" not in raw and b"account" not in raw


def test_a_changed_ticket_does_not_open(mark: Mark) -> None:
    """One bit changed anywhere, another key, or a piece cut off is refused."""
    raw = base64.urlsafe_b64decode(seal_ticket(mark, SEAL))
    for at in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[at] ^= 1
        with pytest.raises(KeyFileError, match="does not open"):
            open_ticket(base64.urlsafe_b64encode(changed).decode(), SEAL)
    with pytest.raises(KeyFileError, match="does not open"):
        open_ticket(seal_ticket(mark, SEAL), Secret(bytes(32)))


@pytest.mark.parametrize("hostile", ["", "a", "ä" * 40, "x" * 5000, "\x00", None, 7, ["a"], "====", "A" * 64])
def test_what_a_client_sends_is_refused(hostile: object) -> None:
    """Anything else in a ticket's place is one clean error, never another one."""
    with pytest.raises(KeyFileError):
        open_ticket(hostile, SEAL)
