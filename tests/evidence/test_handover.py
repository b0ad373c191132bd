"""handover: who carries on one another's conversations, and what is none: set texts, one payer, a pair of friends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.evidence.handover import FEWEST_HANDOVERS, HANDED_OVER, handovers, stays_e_log2
from stillwatch.evidence.signal import Finding
from stillwatch.records import ACCOUNTS, EXCHANGES
from tests.evidence.making import Town, as_table

N, CROWD = 400, np.arange(30)


def conversation(name: str) -> list[dict[str, str]]:
    """Three turns of a conversation of this name."""
    return [
        {"role": role, "content": f"{role} of {name} {at}"} for at, role in enumerate(("user", "assistant", "user"))
    ]


def town(held: Callable[[int, int], str | None], *, card: Callable[[int], str] = "card {}".format) -> Town:
    """Four hundred people of six rows; `held` names the conversation of an account's row, or None for its own."""
    begin = datetime(2026, 3, 2, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {
            "account_id": f"p{who:04d}",
            "ts": begin + timedelta(minutes=7 * who + row),
            "prompt": f"question {who} {row}",
            "messages": conversation(held(who, row) or f"{who} {row}"),
        }
        for who in range(N)
        for row in range(6)
    ]
    accounts = [{"account_id": f"p{who:04d}", "payment_fingerprint": card(who)} for who in range(N)]
    return Town(as_table(rows, EXCHANGES), as_table(accounts, ACCOUNTS))


def said(held: Callable[[int, int], str | None], **options: Any) -> Finding | None:
    """What the signal says of the crowd."""
    return HANDED_OVER.weigh(town(held, **options).subject(CROWD))


def ring(who: int, row: int) -> str | None:
    """Each of the crowd begins one conversation and carries on that of the one before."""
    return f"ring {(who + (row == 1)) % 30}" if who < 30 and row < 2 else None


def test_a_crowd_that_hands_conversations_round_is_one_operator() -> None:
    """Thirty handovers inside and none out speak with many bits, and count each account once."""
    finding = said(ring)
    assert finding is not None and finding.e_log2 > 40
    assert finding.statistic == finding.n <= 30 and finding.effect > 5


def test_handovers_that_leave_the_group_speak_against_it() -> None:
    """Where the other account is a stranger every time, there are no bits."""
    finding = said(lambda who, row: f"with {who % 200}" if row == 0 else None)
    assert finding is not None and finding.statistic == 0 and finding.e_log2 < 0


@pytest.mark.parametrize(
    "held",
    [
        lambda who, row: "examples of a tool" if row == 0 else None,
        lambda who, row: f"friends {who // 2}" if who < 2 * FEWEST_HANDOVERS - 2 and row == 0 else None,
        lambda who, row: f"friends {who // 2} {row}" if who < 2 * FEWEST_HANDOVERS - 2 else None,
        lambda who, row: None,
    ],
    ids=["a set text", "three pairs of friends", "with many threads", "nobody"],
)
def test_what_is_no_handover_is_not_counted(held: Callable[[int, int], str | None]) -> None:
    """Set texts and a few pairs of friends leave nothing to say."""
    assert said(held) is None


def test_accounts_of_one_payer_hand_nothing_over() -> None:
    """A firm's accounts are one unit, and a unit does not carry on its own conversation."""
    assert said(ring, card=lambda who: "firm" if who < 30 else f"card {who}") is None


def test_each_unit_is_once_the_one_and_once_the_other() -> None:
    """However many conversations two accounts share, they are one pair."""
    one, other = handovers(town(lambda who, row: f"pair {who // 2} {row}" if who < 40 else None).traits.by_unit)
    assert len(one) == len(set(one.tolist())) == len(set(other.tolist())) == 20


@given(share=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=8))
def test_the_mean_under_the_null_is_one(share: list[float]) -> None:
    """Summed over all outcomes with the null's own chances."""
    chances, total = np.array(share), 0.0
    for outcome in range(2 ** len(share)):
        stays = np.array([bool(outcome >> at & 1) for at in range(len(share))])
        total += float(np.where(stays, chances, 1 - chances).prod()) * 2 ** stays_e_log2(stays, chances)
    assert total == pytest.approx(1.0)


def test_logs_without_conversations_say_nothing() -> None:
    """Where the column is absent nothing is examined."""
    rows = [{"account_id": f"p{who}", "ts": datetime(2026, 3, 2, tzinfo=UTC), "prompt": "a"} for who in range(30)]
    assert HANDED_OVER.weigh(Town(pa.table(as_table(rows, EXCHANGES)), None).subject(np.arange(9))) is None
