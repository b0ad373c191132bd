"""places: what accounts of a simulated world have in common: networks, clients, issuers, calendars, set texts.

Everything is drawn from the seed and the name of the thing, so two populations that name the same pool, client or text
meet there, and adding a population changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from stillwatch.errors import SettingsError
from stillwatch.sim.bounds import check_numbers
from stillwatch.sim.dice import Dice, Ints, Words, name_word
from stillwatch.sim.grammar import strings
from stillwatch.sim.kernels import HOUR_US, write_hex
from stillwatch.sim.tongues import grammar

COUNTRIES: Final = ("US", "GB", "IN", "AU", "DE", "AT", "ES", "MX", "AR", "TW", "SG", "CN", "JP", "BR", "PL", "KE")
ZONES: Final = np.array([-6, 0, 5, 10, 1, 1, 1, -6, -3, 8, 8, 8, 9, -3, 1, 3])
"""Hours ahead of UTC, by place in `COUNTRIES`."""

HOMES: Final[Mapping[str, Mapping[int, float]]] = {
    "en": {0: 0.45, 1: 0.14, 2: 0.14, 3: 0.07, 10: 0.04, 13: 0.06, 14: 0.05, 15: 0.05},
    "de": {4: 0.85, 5: 0.15},
    "es": {6: 0.5, 7: 0.3, 8: 0.2},
    "zh": {9: 0.4, 10: 0.2, 11: 0.3, 0: 0.1},
    "ja": {12: 1.0},
}
"""Countries, by place in `COUNTRIES`, where speakers of a language live."""

FREE_MAIL: Final = ("mailhill.example", "postino.example", "inboxly.example", "kumo.example", "briefkasten.example")
MODELS: Final = ("polaris-1-mini", "polaris-1", "polaris-2")
CAPS: Final = np.array([-1, -1, 512, 1024, 2048, 4096, 8192])
HEATS: Final = np.array([np.nan, np.nan, 0.0, 0.2, 0.7, 1.0])
N_NETWORKS: Final = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Networks that accounts leave through: how many (they scale with the world), how unequally used, how shared."""

    n_networks: int = 60
    skew: float = 0.5
    local: bool = False
    """Each country has favourites of its own."""
    n_hosts: int = 253
    """Addresses in use on each network; few: many accounts behind one address."""

    def __post_init__(self) -> None:
        check_numbers("a pool", self, {"n_networks": (1, N_NETWORKS), "skew": (0, 5), "n_hosts": (1, 253)})


POOLS: Final[Mapping[str, Pool]] = {
    "home": Pool(n_networks=9000, skew=0.35, local=True),
    "mobile": Pool(n_networks=48, skew=0.8, local=True),
    "carrier": Pool(n_networks=12, skew=0.5, local=True, n_hosts=3),
    "office": Pool(n_networks=2500, skew=0.3, local=True),
    "officevpn": Pool(n_networks=2, n_hosts=2),
    "cloud": Pool(n_networks=150, skew=0.7),
    "vpn": Pool(n_networks=40, skew=0.8, n_hosts=8),
    "campus": Pool(n_networks=5, skew=0.6, n_hosts=6),
    "hall": Pool(n_networks=2, n_hosts=4),
    "lecture": Pool(n_networks=2, n_hosts=4),
    "relay": Pool(),
}
"""Common pools, sized for a world of some thousand accounts."""

N_ISSUERS: Final = 30
CLIENTS_PER_FAMILY: Final[Mapping[str, int]] = {"web": 16, "app": 9, "sdk-py": 14, "sdk-js": 10, "curl": 4}
ACCESS_PATHS: Final[Mapping[str, str]] = {"web": "app", "app": "app", "cloud": "cloud"}
"""The door a family of clients uses, by the first word of its name; the API where none is named."""

SYSTEMS: Final = ("linux", "macos", "windows", "android", "ios")


def hexes(words: Words, *, prefix: str = "", digits: int = 12) -> pa.Array:
    """Identifiers: a prefix and up to 16 hex digits of each word; a clash has the odds of a birthday."""
    return strings(*write_hex(words, np.frombuffer(prefix.encode(), np.uint8), digits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The seed, the calendar and the common places of one world. Times are microseconds since 1970, UTC."""

    seed: int
    start: datetime
    n_days: int
    scale: float = 1.0
    release: float = 0.6
    """Share of the calendar after which the newest model may be used."""
    pools: Mapping[str, Pool] = field(default_factory=lambda: POOLS)
    messages: bool = False
    """Whole conversations are written out."""
    least_ordinary: float = 0.0
    """Ordinary exchanges to expect at least, as a multiple of the campaigns'."""

    @property
    def start_us(self) -> int:
        """When the calendar begins."""
        return int(self.start.timestamp()) * 1_000_000

    @property
    def end_us(self) -> int:
        """When it ends."""
        return self.start_us + self.n_days * 24 * HOUR_US

    @property
    def release_us(self) -> int:
        """When the newest model is out."""
        return self.start_us + round(self.release * self.n_days * 24 * HOUR_US)

    def dice(self, n: int, *names: object) -> Dice:
        """Dice for n things of whatever the names name. Another scale is another world: all things are drawn anew."""
        word = np.uint64(name_word(self.seed, float(self.scale).hex(), *names))
        return Dice(Dice(np.arange(n, dtype=np.uint64) ^ word).word("stage"))

    def pool(self, name: str) -> Pool:
        """A pool of the scenario.

        Raises:
            SettingsError: there is none of the name; the error lists those there are.
        """
        if name not in self.pools:
            raise SettingsError(f"there is no pool {name!r}", expected=f"one of {', '.join(self.pools)}")
        return self.pools[name]

    def networks(self, pool: str) -> Ints:
        """The network numbers of a pool, most popular first; `kernels.write_addresses` writes them."""
        n = max(1, round(self.pool(pool).n_networks * self.scale))
        return self.dice(n, "networks", pool).below("network", N_NETWORKS)

    def exits(self, pool: str, country: Ints, n_each: int, dice: Dice) -> Ints:
        """Networks[len(country), n_each] from a pool; in a local pool each country has favourites of its own."""
        numbers, kind = self.networks(pool), self.pool(pool)
        rank = np.stack(
            [dice.skewed(f"{pool}{nth}", len(numbers), kind.skew) for nth in range(n_each)], axis=1
        ).reshape(len(country), n_each)
        shift = country[:, None] * (len(numbers) // len(COUNTRIES)) if kind.local else 0
        chosen: Ints = numbers[(rank + shift) % len(numbers)]
        return chosen

    def clients(self, family: str) -> pa.Table:
        """The versions of one client, most used first: user_agent, tls_fingerprint, and the settings it sends.

        The settings are the same at any scale: most accounts of a population have them, so they move its totals.
        """
        one, each = self.dice(1, "client", family), self.dice(CLIENTS_PER_FAMILY.get(family, 4), "versions", family)
        sent = replace(self, scale=1.0).dice(1, "client", family)
        product = grammar().write("en_word", one.word("product"))[0].as_py()
        major, minor, system = one.below("major", 9)[0], each.below("minor", 30), each.below("system", len(SYSTEMS))
        runs_on = zip(minor.tolist(), system.tolist(), strict=True)
        agents = [f"{product}-{family}/{major}.{version} ({SYSTEMS[place]})" for version, place in runs_on]
        lead = f"t13d{13 + one.below('ciphers', 6)[0]}{10 + one.below('extensions', 9)[0]}h2_"
        first, second = hexes(each.word("tls")).to_pylist(), hexes(each.word("tls2")).to_pylist()
        return pa.table(
            {
                "user_agent": agents,
                "tls_fingerprint": [f"{lead}{a}_{b}" for a, b in zip(first, second, strict=True)],
                "max_tokens": np.repeat(CAPS[sent.below("cap", len(CAPS))], len(each)),
                "access_path": [ACCESS_PATHS.get(family.split("-", maxsplit=1)[0], "api")] * len(each),
                "temperature": np.repeat(HEATS[sent.below("heat", len(HEATS))], len(each)),
            }
        )

    def text_seeds(self, symbol: str, key: str, number: Ints) -> Words:
        """Seeds of set texts that all who name the key have in common, such as a benchmark or a product's prompt."""
        return Dice(np.asarray(number).astype(np.uint64)).word(
            "text", name_word(self.seed, float(self.scale).hex(), symbol, key)
        )
