"""words: numbers, times and names come out as a person reads them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from stillwatch.dossier import words


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "not known"), (-1, "not known"), (math.nan, "not known"), (0, "0"), (1_234_567, "1,234,567")],
)
def test_counts(value: float | None, shown: str) -> None:
    """Counts have separators; unknown ones say so."""
    assert words.count(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-0.01, "0.0"),
        (-12.34, "\N{MINUS SIGN}12.3"),
        (math.inf, "∞"),
        (-math.inf, "\N{MINUS SIGN}∞"),
        (None, "\N{EN DASH}"),
        (math.nan, "\N{EN DASH}"),
        (1e4, "10,000.0"),
    ],
)
def test_bits(value: float | None, shown: str) -> None:
    """Bits have one decimal, a true minus, and no negative zero."""
    assert words.bits(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.001, "0.001"),
        (3.9, "3.9"),
        (10.0, "10"),
        (4180.4, "4,180"),
        (0.0, "0"),
        (-0.25, "\N{MINUS SIGN}0.25"),
        (None, "\N{EN DASH}"),
        (3.1e-27, "3.1\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10⁻²⁷"),
        (9.99e-9, "1.0\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10⁻⁸"),
    ],
)
def test_decimals(value: float | None, shown: str) -> None:
    """At most three digits that matter, and powers of ten where a float is long."""
    assert words.decimal(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (10.0, "at most once in 1,024"),
        (0.0, "no less often than this"),
        (math.nan, "no less often than this"),
        (27.4, "at most once in 177 million"),
        (math.inf, "at most once in a million million"),
        (1e9, "at most once in a million million"),
    ],
)
def test_how_rarely(value: float, shown: str) -> None:
    """Bits become a rate that is never claimed to be rarer than Markov's inequality allows."""
    assert words.once_in(value) == shown


def test_days_and_periods() -> None:
    """Days are in UTC, from datetimes, dates and ISO text; what is no date is shown as it is."""
    late = datetime(2026, 9, 1, 1, tzinfo=timezone(timedelta(hours=3)))
    assert words.day(late) == "31 Aug 2026"
    assert words.period("2026-09-01T00:00:04+00:00", date(2026, 10, 15)) == "1 Sep to 15 Oct 2026"
    assert (
        words.period(datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
        == "31 Dec 2025 to 1 Jan 2026"
    )
    assert words.period(None, None) == "not known"
    assert words.day("soon\x1b") == "soon\\x1b"


def test_names_are_cut_by_their_width_on_a_terminal() -> None:
    """Wide characters count twice, and a cut shows; ten megabytes cost no more than a line."""
    assert words.plain("abcdef", cells=4) == "abc…"
    assert words.plain("漢字漢字", cells=4) == "漢…" or words.plain("漢字漢字", cells=5) == "漢字…"
    assert len(words.plain("x" * 10_000_000, cells=50)) == 50


def test_membership_is_never_rounded_up_to_certainty() -> None:
    """What is below 1 is not shown as 1."""
    assert (words.probability(0.99999), words.probability(0.9), words.probability(None)) == (
        "> 0.999",
        "0.900",
        "\N{EN DASH}",
    )


def test_a_missed_bar_is_told_in_its_own_unit() -> None:
    """Bits are bits, accounts are accounts, and a lead that missed nothing has a dash."""
    assert words.missed("harvest_bits", 3.6) == "a harvest is not shown, by 3.6 bits"
    assert words.missed("members", 1.0) == "too few sure members, short by 1 account"
    assert words.missed("q_value", 0.02) == "false discovery rate too high, by 0.02"
    assert words.missed("new_bar", 2.0) == "new bar, by 2"
    assert words.missed("", 0.0) == "\N{EN DASH}"
