"""fingerprints: programs that claim to be others, and what is none: own programs, common ones, half of a client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from stillwatch.evidence.fingerprints import BORROWED, rare_share
from stillwatch.evidence.signal import Finding
from stillwatch.records import EXCHANGES
from tests.evidence.making import Town, as_table

N, CROWD = 500, np.arange(30)
Client = tuple[str | None, str | None]
BROWSERS = ("Fox/1 (desk)", "Fox/1 (phone)", "Owl/3 (desk)")


def honest(who: int) -> Client:
    """One of three browsers, each with the handshake of its own."""
    return BROWSERS[who % 3], f"tls of {who % 3}"


def town(client: Callable[[int], Client]) -> Town:
    """Five hundred people with twenty rows each and one client."""
    begin = datetime(2026, 3, 2, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {
            "account_id": f"p{who:04d}",
            "ts": begin + timedelta(minutes=7 * who + row),
            "user_agent": client(who)[0],
            "tls_fingerprint": client(who)[1],
        }
        for who in range(N)
        for row in range(20)
    ]
    return Town(as_table(rows, EXCHANGES), None)


def said(client: Callable[[int], Client]) -> Finding | None:
    """What the signal says of the first thirty."""
    return BORROWED.weigh(town(client).subject(CROWD))


def test_a_library_that_claims_to_be_browsers_is_seen() -> None:
    """Thirty accounts with borrowed names and one handshake among people whose browsers are what they say."""
    finding = said(lambda who: (BROWSERS[who % 3], "tls of a library") if who < 30 else honest(who))
    assert finding is not None and finding.e_log2 > 10 and finding.statistic == 1.0


@pytest.mark.parametrize(
    "client",
    [
        honest,
        lambda who: ("own program", "tls of its own") if who < 30 else honest(who),
        lambda who: (BROWSERS[who % 3], "tls of a library") if who % 7 == 0 else honest(who),
    ],
    ids=["honest", "a program of their own", "a library that many use"],
)
def test_what_is_no_borrowed_name_weighs_nothing(client: Callable[[int], Client]) -> None:
    """Honest browsers, programs that claim nothing popular, and what people outside do as often."""
    finding = said(client)
    assert finding is None or finding.e_log2 < 1


@pytest.mark.parametrize("gone", [0, 1])
def test_half_of_a_client_cannot_be_compared(gone: int) -> None:
    """Without user agents or without fingerprints nothing is examined."""
    assert said(lambda who: tuple(None if at == gone else part for at, part in enumerate(honest(who)))) is None  # type: ignore[arg-type, return-value]


def test_the_share_is_of_the_exchanges_that_can_be_judged() -> None:
    """A member counts as one more outside unit: what one in four hundred does is rare, what one in four does is not."""
    share = rare_share(
        town(lambda who: (BROWSERS[0], "odd") if who == 3 else (BROWSERS[0], f"tls {who % 4}")).subject(CROWD)
    )
    assert share is not None and share[3] == 1.0
    assert not np.delete(share, 3).any()
