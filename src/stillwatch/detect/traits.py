"""traits: the hubs where accounts meet, and how strongly each account carries them.

A hub is a (kind, key): one payment instrument, one network, one prompt template. Accounts meet only at hubs;
nothing in this package ever builds a pair of accounts.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csc_matrix, csr_matrix

from stillwatch.detect.incidence import Incidence, build_incidence
from stillwatch.detect.population import Population
from stillwatch.kernels.carriers import Edges
from stillwatch.kernels.columns import frozen
from stillwatch.kernels.hashing import HashKey, combine, hash_strings
from stillwatch.kernels.ordering import distinct_by_run, most_by_run, n_distinct, places

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SMALLEST_SHARE = 0.0
"""An account carries a hub when it shows in at least this share of its sampled exchanges, so a chance visit does not
count; for accounts of 50 sampled exchanges or fewer, one exchange is enough."""

HUBS_PER_ACCOUNT = 24
"""Hubs of one kind an account may carry, the most used first; bounds the edges by the accounts."""

SPLITS = 2
"""Times the hubs are halved by a coin of their own, so that one unlucky toss does not decide."""

N_HALVES = 2 * SPLITS

SIGN_UP_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of trait: the family it belongs to, who controls it, and whether groups may form on it."""

    name: str
    family: str
    origin: str
    forms_groups: bool
    column: str


KINDS = (
    Kind("payment", "identity", "provider", True, "payment_fingerprint"),
    Kind("phone", "identity", "provider", True, "phone_hash"),
    Kind("email", "identity", "provider", True, "email_hash"),
    Kind("issuer", "funding", "provider", True, "payment_bin"),
    Kind("network", "network_client", "client", True, "ip"),
    Kind("client", "network_client", "client", False, "user_agent"),
    Kind("system", "content", "client", True, "system_prompt"),
    Kind("head", "content", "client", True, "prompt"),
    Kind("tail", "content", "client", True, "prompt"),
    Kind("sign_up", "time", "provider", False, "created_at"),
    Kind("conversation", "content", "client", False, "messages"),
    Kind("mail", "funding", "provider", True, "email_domain"),
)
"""Every kind of trait; `column` names the canonical column without which the kind is not examined."""

FAMILIES = ("identity", "funding", "network_client", "content", "time")


@dataclass(frozen=True, slots=True)
class Traits:
    """Hubs carried by at least two accounts, ordered by kind then key.

    Attributes:
        kind: (h,) index into `KINDS`. key: (h,) keyed hash. coins: (h, SPLITS) 0 or 1, keyed.
        share: (accounts, h) sparse; the share of an account's sampled exchanges that show the hub, 1 for identity.
        by_hub: the same, by column.
        alone: (accounts, kinds) hubs of each kind that nobody else carries; they count in an account's activity.
        template: (h,) whether what it opens, closes or instructs differs from exchange to exchange: a frame that is
            filled anew each time, and not one question that many ask. Only content is.
        by_account, by_unit, by_country: who carries what, counted by account, by paying unit, and by paying unit with
            countries for cohorts however small.
    """

    kind: Ints
    key: npt.NDArray[np.uint64]
    coins: Ints
    share: csr_matrix
    by_hub: csc_matrix
    alone: Ints
    template: Mask
    by_account: Incidence
    by_unit: Incidence
    by_country: Incidence
    _masks: dict[str, Mask] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.kind)

    def of_family(self, family: str) -> Mask:
        """Which hubs belong to a family."""
        if family not in self._masks:
            self._masks[family] = frozen(np.array([kind.family == family for kind in KINDS])[self.kind])
        return self._masks[family]

    def span(self, family: str) -> slice:
        """From the first hub of a family to the last; some of other families may lie between."""
        kinds = [number for number, kind in enumerate(KINDS) if kind.family == family]
        first, last = np.searchsorted(self.kind, [kinds[0], kinds[-1] + 1])
        return slice(int(first), int(last))

    @property
    def edges(self) -> Edges:
        """`by_hub` as kernels take it."""
        return Edges.of(self.by_hub.indptr, self.by_hub.indices, self.by_hub.data)

    def half(self, number: int) -> Mask:
        """Hubs of one of the `N_HALVES` halves; its neighbour (number ^ 1) holds the others."""
        return np.asarray(self.coins[:, number // 2] == number % 2)

    def incidence(self, family: str) -> Incidence:
        """How a family is counted: identity by account, since it is what makes paying units; the rest by unit.

        Issuers are compared within one country only, or they would stand for it.
        """
        return {"identity": self.by_account, "funding": self.by_country}.get(family, self.by_unit)

    def without(self, population: Population, gone: Mask) -> Traits:
        """The same hubs, with nobody of `gone` carrying any."""
        share = self.share.copy()
        share.data[np.repeat(gone, np.diff(share.indptr))] = 0.0
        share.eliminate_zeros()
        with ThreadPoolExecutor(1) as pool:
            by_account, by_unit, by_country = _every_way(population, share, self.alone, self.kind, pool)
        return replace(
            self, share=share, by_hub=share.tocsc(), by_account=by_account, by_unit=by_unit, by_country=by_country
        )

    @property
    def forming(self) -> Mask:
        """Which hubs may form groups."""
        if "forming" not in self._masks:
            self._masks["forming"] = frozen(np.array([kind.forms_groups for kind in KINDS])[self.kind])
        return self._masks["forming"]


def find_traits(population: Population, *, key: HashKey, threads: int = 1) -> Traits:
    """Find the hubs of a population.

    Args:
        key: keys account columns into hubs and tosses the coins of each hub. threads: kinds looked at side by side.

    Cost: linear in sampled rows; memory by accounts, at most `HUBS_PER_ACCOUNT` edges per account and kind.
    """
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda kind: _meeting_at(population, kind, key), KINDS))
        kinds = np.repeat(np.arange(len(KINDS)), [len(one.hubs) for one in found])
        starts = np.cumsum([0, *(len(one.hubs) for one in found)])
        keys = np.concatenate([one.hubs for one in found])
        rows = np.concatenate([one.account for one in found])
        columns = np.concatenate([one.hub + start for one, start in zip(found, starts[:-1], strict=True)])
        shares = np.concatenate([one.share for one in found])
        alone = np.stack([one.alone for one in found], axis=1)
        template = np.concatenate([one.template for one in found])
        del found
        matrix = csr_matrix((shares, (rows, columns)), shape=(len(population), len(keys)))
        del rows, columns, shares
        by_hub = pool.submit(matrix.tocsc)
        ways = _every_way(population, matrix, alone, kinds, pool)
    tossed = combine([keys, kinds.astype(np.uint64)], key)
    coins = ((tossed[:, None] >> np.arange(SPLITS, dtype=np.uint64)) & np.uint64(1)).astype(np.int64)
    return Traits(kinds, keys, coins, matrix, by_hub.result(), alone, template, *ways)


@dataclass(frozen=True, slots=True)
class _Met:
    """The hubs of one kind that two accounts or more carry, and what else find_traits says of them.

    Attributes:
        hubs: keys, ascending. template: (hubs,). account, hub, share: (edges,). alone: (accounts,) as in `Traits`.
    """

    hubs: npt.NDArray[np.uint64]
    template: Mask
    account: Ints
    hub: Ints
    share: npt.NDArray[np.float64]
    alone: Ints


def _meeting_at(population: Population, kind: Kind, key: HashKey) -> _Met:
    account, value, share = _edges(population, kind, key)
    hubs = _shared_hubs(value)
    at = places(value, hubs)
    kept = np.flatnonzero(at >= 0)
    n_all, n_met = (np.bincount(some, minlength=len(population)) for some in (account, account[kept]))
    return _Met(hubs, _filled_anew(population, kind, hubs), account[kept], at[kept], share[kept], n_all - n_met)


def _every_way(
    population: Population, share: csr_matrix, alone: Ints, kind: Ints, pool: Executor
) -> tuple[Incidence, Incidence, Incidence]:
    """Who carries what, counted by account, by paying unit, and by paying unit within countries."""
    everyone = np.arange(len(population))
    build = partial(build_incidence, share, alone, kind, cohort=population.cohort)
    by_account = pool.submit(build, unit=everyone)
    by_unit = build(unit=population.unit)
    return by_account.result(), by_unit, by_unit.with_cohorts(population.country)


PAYLOAD = {"system": "head", "head": "tail", "tail": "head"}
"""What is filled in where an exchange shows a hub of a kind, as far as the facts tell."""

FILLED_ANEW = 0.5
"""Share of a hub's sampled exchanges with payloads of their own from which it is a template."""


def _filled_anew(population: Population, kind: Kind, hubs: npt.NDArray[np.uint64]) -> Mask:
    """Which hubs of one kind have payloads that differ, (hubs,)."""
    if kind.name not in PAYLOAD or not len(hubs):
        return np.zeros(len(hubs), bool)
    value, payload = population.sample[kind.name], population.sample[PAYLOAD[kind.name]]
    at = places(value, hubs)
    shown = np.flatnonzero(at >= 0)
    at = at[shown]
    n_rows, n_payloads = np.bincount(at, minlength=len(hubs)), n_distinct(at, payload[shown], len(hubs))
    return np.asarray(n_payloads >= FILLED_ANEW * np.maximum(n_rows, 1))


_FROM_ACCOUNTS = ("payment", "phone", "email", "issuer", "sign_up", "mail")

_Edges = tuple[Ints, npt.NDArray[np.uint64], npt.NDArray[np.float64]]


def _edges(population: Population, kind: Kind, key: HashKey) -> _Edges:
    if kind.name in _FROM_ACCOUNTS:
        return _account_edges(population, kind, key)
    if kind.name == "conversation":
        return _conversation_edges(population)
    return _sampled_edges(population, kind.name)


def _sampled_edges(population: Population, name: str) -> _Edges:
    """Hubs of one kind in the sampled exchanges, with the share of the account's exchanges that show them."""
    owner, value, count = distinct_by_run(population.sample[name], population.offsets)
    share = count / population.sampled[owner]
    kept = np.flatnonzero(share >= SMALLEST_SHARE)
    kept = kept[most_by_run(owner[kept], count[kept], HUBS_PER_ACCOUNT)]
    return owner[kept], value[kept], share[kept]


def _conversation_edges(population: Population) -> _Edges:
    """Openings of conversations; each shows in one exchange at least, and how many more is not kept."""
    openings = population.profiles.column("conversations").combine_chunks()
    owner = np.repeat(np.arange(len(population)), openings.value_lengths().to_numpy())
    return owner, openings.flatten().to_numpy(), 1.0 / population.sampled[owner]


def _account_edges(population: Population, kind: Kind, key: HashKey) -> _Edges:
    """Hubs that come from the accounts file."""
    if kind.column not in population.accounts.column_names:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0)
    values = population.accounts.column(kind.column).combine_chunks()
    if kind.name == "sign_up":
        hour = values.cast(pa.int64()).fill_null(-1).to_numpy() // SIGN_UP_HOUR_US
        hashed = np.where(hour >= 0, hour + 1, 0).astype(np.uint64)
    else:
        hashed = hash_strings(values, key)
    if kind.name in ("issuer", "mail"):
        hashed = np.where(population.country >= 0, hashed, np.uint64(0))
    if kind.name == "mail":
        hashed = np.where(_is_popular(hashed), np.uint64(0), hashed)
    known = np.flatnonzero(hashed)
    return known, hashed[known], np.ones(len(known))


POPULAR_MAIL = (30, 0.01)
"""Accounts, and share of all, from which a mail domain is a provider that strangers use, and tells nothing of them."""


def _is_popular(domain: npt.NDArray[np.uint64]) -> Mask:
    """(accounts,) whether the mail domain of each is one that many use."""
    _, at, n = np.unique(domain, return_inverse=True, return_counts=True)
    return np.asarray(n[at] > max(POPULAR_MAIL[0], POPULAR_MAIL[1] * len(domain)))


def _shared_hubs(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Keys carried by two accounts or more, ascending; each (account, key) occurs once."""
    keys, count = np.unique(value, return_counts=True)
    return keys[count > 1]
