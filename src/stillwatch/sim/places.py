"""places: what accounts of a simulated world have in common: networks, clients, issuers, calendars, set texts.

Everything is drawn from the seed and the name of the thing, so two populations that name the same pool, client or text
meet there, and adding a population changes nothing for the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stillwatch.sim.grammar import join
from stillwatch.sim.tongues import grammar_for

Ints = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

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


@dataclass(frozen=True, slots=True)
class Pool:
    """Networks that accounts leave through: how many, how unequally used, and whether each country has its own."""

    n_networks: int
    skew: float = 0.5
    local: bool = False


POOLS: Final[Mapping[str, Pool]] = {
    "home": Pool(9000, 0.35, local=True),
    "mobile": Pool(48, 0.8, local=True),
    "office": Pool(2500, 0.3, local=True),
    "cloud": Pool(150, 0.7),
    "vpn": Pool(40, 0.8),
    "campus": Pool(5, 0.6),
}
"""Common pools; one not named here is a small `Pool(60)`."""

N_NETWORKS: Final = 1 << 19
N_ISSUERS: Final = 30
CLIENTS_PER_FAMILY: Final[Mapping[str, int]] = {"web": 16, "app": 9, "sdk-py": 14, "sdk-js": 10, "curl": 4}


def skewed(rng: np.random.Generator, n_items: int, exponent: float, size: int | tuple[int, ...]) -> Ints:
    """Draw items whose popularity falls as rank to the power of -exponent."""
    weights = np.arange(1, n_items + 1) ** -exponent
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size), side="right").clip(0, n_items - 1)


def random_hex(rng: np.random.Generator, n: int, *, prefix: str = "", digits: int = 12) -> pa.Array:
    """Random identifiers of up to 16 hex digits; a clash has the odds of a birthday."""
    text = rng.bytes(8 * n).hex()
    return pa.array([prefix + text[at : at + digits] for at in range(0, 16 * n, 16)], pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The seed, the calendar and the common places of one world. Times are microseconds since 1970, UTC."""

    seed: int
    start: datetime
    n_days: int
    release: float = 0.6
    """Share of the calendar after which the newest model may be used."""
    pools: Mapping[str, Pool] = field(default_factory=lambda: POOLS)

    @property
    def start_us(self) -> int:
        """When the calendar begins."""
        return int(self.start.timestamp()) * 1_000_000

    def rng(self, *names: object) -> np.random.Generator:
        """A generator of its own for whatever the names name."""
        return np.random.default_rng([self.seed, zlib.crc32("/".join(map(str, names)).encode())])

    def pool(self, name: str) -> Pool:
        """A pool of the scenario, or a small one."""
        return self.pools.get(name, Pool(60))

    def networks(self, pool: str) -> Ints:
        """The network numbers of a pool, most popular first; `address` writes them."""
        return self.rng("networks", pool).choice(N_NETWORKS, self.pool(pool).n_networks, replace=False)

    def exits(self, pool: str, country: Ints, n_each: int, rng: np.random.Generator) -> Ints:
        """Networks[len(country), n_each] from a pool; in a local pool each country has favourites of its own."""
        numbers, kind = self.networks(pool), self.pool(pool)
        rank = skewed(rng, len(numbers), kind.skew, (len(country), n_each))
        shift = country[:, None] * (len(numbers) // len(COUNTRIES)) if kind.local else 0
        chosen: Ints = numbers[(rank + shift) % len(numbers)]
        return chosen

    def clients(self, family: str) -> pa.Table:
        """The versions of one client, most used first: user_agent, tls_fingerprint, and the settings it sends."""
        rng = self.rng("clients", family)
        n_versions = CLIENTS_PER_FAMILY.get(family, 4)
        product = grammar_for("en", "word").write("word", 1, rng)[0].as_py()
        major, minor = rng.integers(0, 9), rng.integers(0, 30, n_versions)
        systems = ("linux", "macos", "windows", "android", "ios")
        agents = [f"{product}-{family}/{major}.{v} ({systems[rng.integers(5)]})" for v in minor]
        lead = f"t13d{rng.integers(13, 19)}{rng.integers(10, 19):02d}h2_"
        prints = join([random_hex(rng, n_versions, prefix=lead), random_hex(rng, n_versions)], pa.scalar("_"))
        caps = np.full(n_versions, rng.choice(CAPS))
        heats = np.full(n_versions, rng.choice(HEATS))
        return pa.table({"user_agent": agents, "tls_fingerprint": prints, "max_tokens": caps, "temperature": heats})

    def texts(self, symbol: str, key: str, n: int, language: str = "en") -> pa.Array:
        """Set texts that all who name the key have in common, such as a benchmark or a product's prompt."""
        return grammar_for(language, symbol).write(symbol, n, self.rng("texts", symbol, key, language))


def address(network: Ints, host: Ints) -> pa.Array:
    """Addresses in ranges no one owns: 240.0.0.0/5, and documentation IPv6 for every eighth network."""
    pairs, place = np.unique(network * 256 + host, return_inverse=True)
    texts = []
    for pair in pairs.tolist():
        number, last = divmod(pair, 256)
        if number % 8:
            texts.append(f"{240 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.{last}")
        else:
            texts.append(f"2001:db8:{number // 8:x}::{last:x}")
    return pa.array(texts, pa.string()).take(pa.array(place))
