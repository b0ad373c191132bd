"""campaign: one operator behind many accounts, who harvests answers from a work list: how it is run, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from stillwatch.errors import SettingsError
from stillwatch.sim.bounds import SHARE, Range, check_number, check_numbers, check_weights
from stillwatch.sim.population import Population, unwritten

PLACES: Final = ("head", "tail", "middle", "system")
FACETS: Final = ("card", "exit", "client", "hours")
TIERS: Final = (0, 1, 2, 4)
"""How many of `FACETS` every account has of its own at each tier of isolation, in their order."""

MIMICRY: Final = ("payment", "age", "volume", "exit", "client", "hours")
RANGES: Final[Mapping[str, Range]] = {
    "n_exchanges": (0, 1e12),
    "per_card": (1, 1e9),
    "per_phone": (1, 1e9),
    "n_issuers": (0, 1e6),
    "signup_days": (0, 1e5),
    "n_batches": (0, 1e6),
    "n_domains": (0, 1e6),
    "life_days": (0, 1e5),
    "rented": (0, 1e6),
    "per_account": (1, 1e6),
    "wordings": (1, 1e6),
    "n_phrases": (0, 1e9),
    **dict.fromkeys("aged elicit cover handover".split(), SHARE),
}
"""What the numbers of a campaign may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A crew and how it is run; shares are of 1, `signup_days` count back from its first account's beginning."""

    crew: Population
    n_exchanges: int = 0
    """Exchanges in all; 0: as the crew's median and spread give."""
    own: Mapping[str, float] = field(default_factory=lambda: {"card": 0.4})
    """Share of accounts with a `card`, an `exit`, a `client` or `hours` that are theirs alone; the rest share."""
    per_card: float = 5.0
    """Accounts on each shared card."""
    n_issuers: int = 0
    """Issuers of all its cards; 0: as everybody's."""
    signup_days: float = 9.0
    n_batches: int = 6
    """Afternoons on which accounts are signed up; 0: evenly over the days."""
    aged: float = 0.15
    """Share of accounts that were bought, with an age like anybody's."""
    n_domains: int = 0
    """E-mail domains that the account factory registered for its accounts; 0: they use what everybody uses."""
    per_phone: float = 1.0
    """Accounts that its factory confirms with one telephone number."""
    life_days: float = 0.0
    """Mean days until an account is banned and another takes its place; 0: none is."""
    rented: int = 45
    """Networks it rents in each pool of its crew (they scale with the world); 0: it draws on the whole pool."""
    templates: Mapping[str, int] = field(default_factory=lambda: {"head": 5, "tail": 3, "system": 3})
    """Templates by place."""
    per_account: int = 4
    """Templates an account may use."""
    wordings: float = 1.0
    """How often each task of the work list is sent, worded anew each time; 1: once."""
    elicit: float = 0.5
    """Share of tasks that ask for the reasoning; `n_phrases` ways to put it, 0: always afresh."""
    n_phrases: int = 0
    cover: float = 0.0
    """Share of exchanges that are a customer's, with no task in them; `cover_speech` is what customers say."""
    cover_speech: Mapping[str, float] = field(default_factory=lambda: {"life": 0.6, "code": 0.2, "work": 0.2})
    handover: float = 0.0
    """Share of conversations that another account of the crew carries on after some turns."""
    copies: str = ""
    """A population whose system prompt, clients and exits the crew takes over, to look like its victims."""
    mimics: frozenset[str] = frozenset()
    """What each account takes after an ordinary account that chance chose, any of `MIMICRY`: whether it has a card and
    declares an organisation, which make its plan (`payment`); when it signed up, begins and leaves (`age`); how much it
    sends (`volume`); its client and settings; its hours. With `exit`, own exits are as its crew's `exits` say."""
    among: str = ""
    """The population those ordinary accounts are of; everybody where empty."""

    def __post_init__(self) -> None:
        self._check_numbers()
        wrong = {
            "mimics what cannot be": self.mimics - set(MIMICRY),
            "says what the grammar has no rule for": unwritten(self.cover_speech),
            "puts templates nowhere known": set(self.templates) - set(PLACES),
            "has no such facet to own": set(self.own) - set(FACETS),
        }
        for what, names in wrong.items():
            if names:
                raise SettingsError(f"campaign {self.name} {what}", got=", ".join(sorted(names)))
        if self.crew.group != (1, 1):
            raise SettingsError(f"campaign {self.name} has a crew in groups", do="Leave its group at (1, 1)")
        if "age" in self.mimics and self.life_days:
            raise SettingsError(
                f"campaign {self.name} mimics the age of others and replaces its banned", do="Leave one of them out"
            )

    def _check_numbers(self) -> None:
        where = f"campaign {self.name}"
        check_numbers(where, self, RANGES)
        for facet, share in self.own.items():
            check_number(f"{where}.own.{facet}", share, SHARE)
        for place, n_texts in self.templates.items():
            check_number(f"{where}.templates.{place}", n_texts, (0, 1e9))
        check_weights(f"{where}.cover_speech", self.cover_speech)

    @property
    def name(self) -> str:
        """The name of the crew, and of the campaign in the truth."""
        return self.crew.name

    def at_tier(self, tier: int) -> Self:
        """The same campaign at a tier of isolation, from 0 (all is shared) to 3 (own card, exit, client and hours)."""
        if tier not in range(len(TIERS)):
            raise SettingsError(f"campaign {self.name} has no such tier", got=str(tier), expected="0 to 3")
        return replace(self, own={facet: float(place < TIERS[tier]) for place, facet in enumerate(FACETS)})

    def with_crew(self, **changes: object) -> Self:
        """The same campaign with another crew: fields of `Population` by name."""
        return replace(self, crew=replace(self.crew, **changes))  # type: ignore[arg-type]
