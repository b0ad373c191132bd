"""traits: hubs against a plain count, and what bounds them."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.detect.population import Population
from stillwatch.detect.traits import FAMILIES, HUBS_PER_ACCOUNT, KINDS, N_HALVES, SMALLEST_SHARE, Traits, find_traits
from stillwatch.kernels.hashing import HashKey, hash_strings
from tests.detect.making import KEY, accounts_file, facts, keys, numbered, population, town

SAMPLED_KINDS = ("network", "client", "system", "head", "tail")
"""Kinds whose hubs are keys of sampled exchanges, as the log gave them."""

Edges = dict[tuple[int, int], float]


def busy(seed: int, n: int = 60) -> Population:
    """Accounts of very unequal volume, some with more hubs of a kind than an account may carry."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n), rng.integers(1, 90, n))
    columns = {
        name: keys(20 + at, rng.integers(-2, size, len(who)))
        for at, (name, size) in enumerate(zip(SAMPLED_KINDS, (30, 5, 4, 60, 500), strict=True))
    }
    return population(facts(who, **columns))


def edges_by_hand(people: Population, kind: str) -> Edges:
    """(account, key) to the share of its sampled exchanges: the most used first, never a chance visit."""
    edges: Edges = {}
    for account in range(len(people)):
        seen = people.sample[kind][people.offsets[account] : people.offsets[account + 1]].tolist()
        counts = Counter(key for key in seen if key)
        most_used = sorted(counts, key=lambda key: (-counts[key], key))[:HUBS_PER_ACCOUNT]
        edges |= {
            (account, key): counts[key] / len(seen) for key in most_used if counts[key] >= SMALLEST_SHARE * len(seen)
        }
    return edges


def edges_of(traits: Traits, kind: str) -> Edges:
    """The same of the traits found."""
    number = [each.name for each in KINDS].index(kind)
    hubs = np.flatnonzero(traits.kind == number)
    share = traits.share[:, hubs].tocoo()
    return {
        (int(account), int(traits.key[hubs[column]])): float(value)
        for account, column, value in zip(share.row, share.col, share.data, strict=True)
    }


@pytest.mark.parametrize("kind", SAMPLED_KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_hubs_are_what_a_plain_count_finds(seed: int, kind: str) -> None:
    """Hubs shared by two accounts or more, with each account's share, and the lonely ones counted."""
    people = busy(seed)
    traits = find_traits(people, key=KEY)
    edges = edges_by_hand(people, kind)
    carriers: dict[int, set[int]] = defaultdict(set)
    for account, key in edges:
        carriers[key].add(account)
    shared = {edge: share for edge, share in edges.items() if len(carriers[edge[1]]) > 1}
    assert shared
    assert edges_of(traits, kind) == pytest.approx(shared)
    alone = Counter(account for account, key in edges if len(carriers[key]) == 1)
    number = [each.name for each in KINDS].index(kind)
    assert traits.alone[:, number].tolist() == [alone[account] for account in range(len(people))]


def test_cards_are_hubs_of_those_who_share_them() -> None:
    """A payment instrument is a hub where two accounts bear it; one of one's own, or none, is not."""
    cards = np.array([0, 0, 0, 1, 1, 2, -1, -1])
    people = population(facts(np.arange(8)), accounts_file(8, payment_fingerprint=numbered(cards, "card")))
    carried = edges_of(find_traits(people, key=KEY), "payment")
    groups = defaultdict(set)
    for account, key in carried:
        groups[key].add(account)
    assert sorted(map(sorted, groups.values())) == [[0, 1, 2], [3, 4]]
    assert set(carried.values()) == {1.0}


def test_hubs_are_in_order_and_found_once() -> None:
    """Hubs are ordered by kind, then key, so that nothing after them depends on the log's order."""
    traits = find_traits(busy(3), key=KEY)
    order = list(zip(traits.kind.tolist(), traits.key.tolist(), strict=True))
    assert order == sorted(set(order))
    assert traits.share.shape == (60, len(traits)) and len(traits) == len(order)


def test_edges_are_bounded_by_accounts_and_not_by_traffic() -> None:
    """No account carries more hubs of a kind than its bound, however many it was seen at."""
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(30), 128)
    traits = find_traits(population(facts(who, network=keys(9, rng.integers(0, 2000, len(who))))), key=KEY)
    assert traits.share.nnz + traits.alone.sum() <= 30 * HUBS_PER_ACCOUNT
    for kind in range(len(KINDS)):
        assert (traits.share[:, traits.kind == kind].getnnz(axis=1) <= HUBS_PER_ACCOUNT).all()


def test_folds_are_coins_of_the_key() -> None:
    """About half of the hubs fall into either half; another split or another key tosses otherwise, hub by hub."""
    people, _ = town(600, seed=1)
    one = find_traits(people, key=KEY)
    other = find_traits(people, key=HashKey(1, 2))
    sampled = one.kind != [kind.name for kind in KINDS].index("payment")
    coins, again = one.coins[sampled], other.coins[other.kind != [kind.name for kind in KINDS].index("payment")]
    for first, second in ((coins[:, 0], again[:, 0]), (coins[:, 0], coins[:, 1])):
        assert set(first.tolist()) == {0, 1} and 0.42 < first.mean() < 0.58
        assert 0.4 < (first == second).mean() < 0.6
    for number in range(N_HALVES):
        assert (one.half(number) ^ one.half(number ^ 1)).all()


def _two_countries(*, told: bool) -> tuple[Traits, Population]:
    """Two countries, each with a bank and a network of its own, and forty accounts who share neither."""
    n = 240
    here = np.arange(n) % 3 == 0
    networks = np.where(here, 0, 1)
    columns = {"payment_bin": np.where(here, "400000", "500000").tolist()}
    if told:
        columns["country"] = np.where(here, "AA", "BB").tolist()
    people = population(facts(np.arange(n), network=keys(20, networks)), accounts_file(n, **columns))
    return find_traits(people, key=KEY), people


def test_an_issuer_is_no_hub_where_countries_are_unknown() -> None:
    """Without the country a bank would stand for it, so nobody meets there."""
    traits, _ = _two_countries(told=False)
    assert "issuer" not in {KINDS[kind].name for kind in traits.kind.tolist()}


def test_a_country_with_a_bank_of_its_own_is_no_surprise() -> None:
    """All who live in a country, however small, carry its issuer as often as was expected of them."""
    traits, people = _two_countries(told=True)
    issuers = np.flatnonzero(traits.of_family("funding"))
    countrymen = np.flatnonzero(people.country == people.country[0])
    counted = traits.incidence("funding")
    assert len(issuers) == 2
    np.testing.assert_allclose(counted.expected(countrymen, issuers), counted.observed(countrymen)[issuers])


def _mailing(domains: list[str | None], *, country: str | None = "AA") -> list[str]:
    """The domains, of accounts of one country, at which these accounts meet."""
    n = len(domains)
    listed = accounts_file(n, email_domain=domains, country=[country] * n)
    traits = find_traits(population(facts(np.arange(n)), listed), key=KEY)
    known = {int(hash_strings(pa.array([name]), KEY)[0]): name for name in domains if name}
    mail = [each.name for each in KINDS].index("mail")
    return [known[int(key)] for key in traits.key[traits.kind == mail]]


def test_accounts_meet_at_a_mail_domain_that_few_have() -> None:
    """A domain of a factory is a hub; a provider with more than thirty accounts and one in a hundred is none."""
    factory, strangers = ["factory.example"] * 30, [f"own-{number}.example" for number in range(100)]
    assert _mailing([*factory, *strangers, *["provider.example"] * 31, None]) == ["factory.example"]
    assert _mailing([*["provider.example"] * 31, *strangers * 40]).count("provider.example") == 1


def test_a_mail_domain_is_no_hub_where_countries_are_unknown() -> None:
    """Without the country a local provider would stand for it."""
    assert _mailing(["factory.example"] * 8, country=None) == []


def test_families_and_origins_are_known_words() -> None:
    """Every kind has a family and an origin of the design, and who pays is seen by the provider."""
    assert {kind.family for kind in KINDS} <= set(FAMILIES)
    assert {kind.origin for kind in KINDS} == {"provider", "client"}
    assert {kind.origin for kind in KINDS if kind.family == "identity"} == {"provider"}
    assert {kind.origin for kind in KINDS if kind.family in ("content", "network_client")} == {"client"}
    assert len({kind.name for kind in KINDS}) == len(KINDS)
