"""population: what ordinary accounts of one kind do, as data: how many, in what groups, what they say, whence and when.

A population is a table of a scenario file; each field of `Population` is a key of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from stillwatch.errors import SettingsError
from stillwatch.sim.bounds import (
    MOST_ACCOUNTS,
    POSITIVE,
    SHARE,
    Range,
    check_exits,
    check_number,
    check_numbers,
    check_span,
    check_weights,
)
from stillwatch.sim.clock import RHYTHMS, SHAPES
from stillwatch.sim.tongues import LANGUAGES, grammar

SHAREABLE = frozenset({"card", "org", "mail", "network", "client", "signup"})
SCOPES = ("all", "group", "account")
RANGES: Final[Mapping[str, Range]] = {
    "n_accounts": (0, MOST_ACCOUNTS),
    "exchanges": (POSITIVE, 1e8),
    "spread": (0, 5),
    "most": (1, 1e9),
    "behind": (1, 1e9),
    "stay_h": (0.01, 1e6),
    "days": (POSITIVE, 1),
    "session": (1, 10_000),
    "gap_s": (POSITIVE, 1e6),
    **dict.fromkeys("burst churn free declared retry large wander".split(), SHARE),
    "gust": (0, 3),
    "adopt_days": (0, 1e5),
    "context": (1, 1e7),
    "output": (1, 1e7),
}
"""What the numbers of a population may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Set text around what an account says: `n` texts of a symbol for everyone, for each group, or for each account."""

    symbol: str
    scope: str = "all"
    n: int = 1
    share: float = 1.0
    """Share of the accounts that use it."""
    key: str = ""
    """Populations that name the same key use the same texts; the population's own name where empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Accounts of one kind. Shares are of 1; `active` and `signup` are in parts of the calendar, which begins at 0."""

    name: str
    follows: str = ""
    """What in the public record or in published traffic it follows."""
    n_accounts: int = 100
    exchanges: float = 9.0
    """Median exchanges of an account; `spread` is the standard deviation of their logarithm."""
    spread: float = 1.1
    most: int = 5000
    group: tuple[int, int] = (1, 1)
    """Fewest and most accounts of a group."""
    shares: frozenset[str] = frozenset()
    """What the accounts of a group have in common: any of `SHAREABLE`."""
    languages: Mapping[str, float] = field(default_factory=lambda: {"en": 1.0})
    speech: Mapping[str, float] = field(default_factory=lambda: {"life": 1.0})
    """Start symbols of the grammar and how often they are used."""
    public: Mapping[str, int] = field(default_factory=dict)
    """Start symbols that stand for so many set texts instead, the same for everyone."""
    system: Frame | None = None
    head: Frame | None = None
    tail: Frame | None = None
    behind: int = 1
    """People behind each account; each has a language, a way and a favourite kind of their own."""
    exits: Mapping[str, tuple[int, int]] = field(default_factory=lambda: {"home": (1, 2)})
    """Pools, the most used first, and the fewest and most networks an account has in each."""
    stay_h: float = 6.0
    """Hours an account stays on one network."""
    clients: Mapping[str, float] = field(default_factory=lambda: {"web": 1.0})
    rhythm: str = "people"
    days: float = 0.5
    """Share of its days on which an account sends anything."""
    session: float = 4.0
    """Mean exchanges in a row; `gap_s` is the median time between two of them."""
    gap_s: float = 40.0
    burst: float = 0.0
    """Share of exchanges that a program sends at once with the next."""
    gust: float = 0.0
    """How much its sessions begin in gusts, as where its users react to the same events: parts of an hour are as busy
    as a Pareto variable of tail index 1 / gust is large; 0: evenly."""
    active: tuple[float, float] = (0.0, 1.0)
    churn: float = 0.25
    """Share of accounts that leave before the end."""
    signup: tuple[float, float] | None = None
    """Sign-ups spread evenly over this part of the calendar; none: over the years before, some within."""
    free: float = 0.0
    """Share of accounts without a card."""
    declared: float = 0.0
    """Share of groups that declare an organisation."""
    reseller: bool = False
    """It has told the provider that it resells."""
    licensed: bool = False
    """It may distil: its accounts are written to the allowlist."""
    retry: float = 0.03
    """Share of exchanges that repeat the one before of the same session."""
    large: float = 0.5
    """Share of accounts that prefer the large models, and move on to the newest."""
    wander: float = 0.06
    """Share of exchanges with a model that is not the account's own."""
    adopt_days: float = 12.0
    """Mean days until an account moves to a new model."""
    shape: str = "conversation"
    """Shape of its token counts, one of `clock.SHAPES`; `context` and `output` are their medians."""
    context: float = 900.0
    output: float = 180.0

    def __post_init__(self) -> None:
        self._check_numbers()
        wrong = {
            "shares what cannot be shared": self.shares - SHAREABLE,
            "speaks unknown languages": set(self.languages) - set(LANGUAGES),
            "has an unknown rhythm": {self.rhythm} - set(RHYTHMS),
            "has token counts of an unknown shape": {self.shape} - set(SHAPES),
            "has set texts of what it never says": set(self.public) - set(self.speech),
            "says what the grammar has no rule for": unwritten(
                (*self.speech, *(frame.symbol for frame in self.frames))
            ),
        }
        for what, names in wrong.items():
            if names:
                raise SettingsError(f"population {self.name} {what}", got=", ".join(sorted(names)))
        if any(frame.scope not in SCOPES for frame in self.frames):
            raise SettingsError(f"population {self.name} has a frame of unknown scope", expected=", ".join(SCOPES))
        if not 1 <= self.group[0] <= self.group[1] <= MOST_ACCOUNTS:
            raise SettingsError(
                f"population {self.name}.group is out of range", got=str(self.group), expected="fewest and most, from 1"
            )

    def _check_numbers(self) -> None:
        where = f"population {self.name}"
        if not self.name:
            raise SettingsError("a population has no name", do="Name it")
        check_numbers(where, self, RANGES)
        for name in ("languages", "speech", "clients"):
            check_weights(f"{where}.{name}", getattr(self, name))
        for name in ("active", "signup"):
            check_span(f"{where}.{name}", getattr(self, name))
        check_exits(f"{where}.exits", self.exits)
        for symbol, n_texts in self.public.items():
            check_number(f"{where}.public.{symbol}", n_texts, (1, 1e9))
        for frame in self.frames:
            check_numbers(f"{where}: frame {frame.symbol}", frame, {"n": (1, 1e6), "share": SHARE})

    @property
    def frames(self) -> list[Frame]:
        """Its set texts."""
        return [frame for frame in (self.system, self.head, self.tail) if frame]


def unwritten(symbols: Iterable[str]) -> set[str]:
    """The symbols that the grammar has no rule for."""
    return {symbol for symbol in symbols if f"en_{symbol}" not in grammar()}
