"""bounds: what the numbers of a scenario may be, and one clear error for the one that may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from stillwatch.errors import SettingsError

Range = tuple[float, float]
SHARE: Final[Range] = (0.0, 1.0)
POSITIVE: Final = 1e-3
"""The least of what must be more than nothing."""

MOST_ACCOUNTS: Final = 20_000_000
MOST_EXITS: Final = 64
"""Networks of one account in one pool."""


def check_numbers(where: str, holder: object, ranges: Mapping[str, Range]) -> None:
    """Refuse a field outside its range, which is inclusive; a nan lies in none.

    Raises:
        SettingsError: with the place of the field, what it holds and its range.
    """
    for name, range_ in ranges.items():
        check_number(f"{where}.{name}", getattr(holder, name), range_)


def check_number(where: str, value: Any, range_: Range) -> None:
    """Refuse a number outside a range, a nan and what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not range_[0] <= value <= range_[1]:
        raise SettingsError(
            f"{where} is out of range", got=_said(value), expected=f"{range_[0]:,.10g} to {range_[1]:,.10g}"
        )


def check_weights(where: str, weights: Mapping[str, float]) -> None:
    """Refuse weights that are negative or no numbers, or of which none is above zero."""
    for name, weight in weights.items():
        check_number(f"{where}.{name}", weight, (0.0, 1e9))
    if not sum(weights.values()) > 0:
        raise SettingsError(f"{where} chooses nothing", got=_said(dict(weights)), expected="a weight above 0")


def check_span(where: str, span: tuple[float, float] | None) -> None:
    """Refuse a part of the calendar that is no part of it, or of no length."""
    if span is None:
        return
    for end in span:
        check_number(where, end, SHARE)
    if span[1] - span[0] < POSITIVE:
        raise SettingsError(f"{where} is no span", got=_said(list(span)), expected="an earlier and a later share")


def check_exits(where: str, exits: Mapping[str, tuple[int, int]]) -> None:
    """Refuse networks of an account where it may end up with none, or with more than `MOST_EXITS` in a pool."""
    for pool, (fewest, most) in exits.items():
        if not 0 <= fewest <= most <= MOST_EXITS:
            expected = f"fewest and most, 0 to {MOST_EXITS}"
            raise SettingsError(f"{where}.{pool} is out of range", got=_said([fewest, most]), expected=expected)
    if not any(fewest > 0 for fewest, _ in exits.values()):
        raise SettingsError(f"{where} leaves accounts without a network", expected="a pool with a fewest above 0")


def _said(value: object) -> str:
    """A value, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
