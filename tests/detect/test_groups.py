"""groups: who is found in a planted block, who never is, and what finding them costs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from stillwatch.detect.groups import THE_SAME, Candidate, find_candidates
from stillwatch.detect.growth import Growth, jaccard
from stillwatch.detect.membership import belonging, explained_away
from stillwatch.detect.population import Population
from stillwatch.detect.traits import Traits, find_traits
from stillwatch.kernels.hashing import HashKey
from tests.detect.making import Crew, Ints, town

N_MIN = 5


FACETS = {"payment": 8, "network": 8, "head": 6}


def anywhere(n: int, *, size: int, seed: int) -> Ints:
    """Some accounts, anywhere."""
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def hidden_crew(n: int, *, size: int, seed: int) -> tuple[Population, Traits, Ints]:
    """A crew that rotates through cards, networks and templates of its own, among accounts that share at random."""
    crew = anywhere(n, size=size, seed=seed)
    people, traits = town(n, Crew(crew, FACETS), seed=seed)
    return people, traits, crew


def candidates(people: Population, traits: Traits) -> list[Candidate]:
    """The groups worth weighing."""
    return find_candidates(people, traits, n_min=N_MIN)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("size", [40, 120])
def test_a_crew_is_found_by_propagation(size: int, seed: int) -> None:
    """No two accounts need share all: account to hub to account, the whole crew is found, and nobody else."""
    people, traits, crew = hidden_crew(900, size=size, seed=seed)
    found = candidates(people, traits)
    assert found
    members = found[0].members
    assert len(np.intersect1d(members, crew)) >= 0.9 * len(crew)
    assert len(np.intersect1d(members, crew)) >= 0.95 * len(members)
    sure = np.flatnonzero(found[0].membership >= 0.9)
    assert len(np.setdiff1d(sure, crew)) <= 0.02 * len(crew)


@pytest.mark.parametrize(
    "home",
    [
        "spread",
        "own",
        "own, large",
    ],
)
def test_a_crew_does_not_hide_behind_its_country(home: str) -> None:
    """Cards of a country that hardly anybody else has do not make a crew the measure of what is ordinary."""
    n, size = 900, 160 if home == "own, large" else 80
    crew = anywhere(n, size=size, seed=9)
    country = np.array(["aa", "bb", "cc"])[np.arange(n) % 3] if home == "spread" else np.full(n, "aa")
    if home != "spread":
        country[crew] = "zz"
    found = candidates(*town(n, Crew(crew, FACETS), seed=9, country=country.tolist()))
    assert found and len(np.intersect1d(found[0].members, crew)) >= 0.9 * len(crew)


@pytest.mark.parametrize("seed", [4, 5])
def test_two_crews_are_two_groups(seed: int) -> None:
    """Crews that share nothing are not made one, and neither hides the other."""
    both = anywhere(900, size=160, seed=seed)
    crews = [both[::2], both[1::2]]
    people, traits = town(900, *(Crew(crew, FACETS) for crew in crews), seed=seed)
    found = candidates(people, traits)
    assert len(found) == 2
    shares = [[len(np.intersect1d(group.members, crew)) / len(crew) for crew in crews] for group in found]
    assert sorted(max(share) > 0.9 for share in shares) == [True, True]
    assert all(min(share) < 0.05 for share in shares)
    assert {share.index(max(share)) for share in shares} == {0, 1}


@pytest.mark.parametrize("seed", range(8))
def test_where_nothing_is_shared_but_by_chance_there_is_no_group(seed: int) -> None:
    """Networks, templates and cards drawn independently, the popular ones included, make no candidate."""
    people, traits = town(700, seed=seed, n_hubs={"network": 200, "head": 150, "tail": 150, "system": 12}, n_cards=200)
    assert candidates(people, traits) == []


@pytest.mark.parametrize("family", ["payment", "network", "head"])
def test_one_family_alone_makes_no_group(family: str) -> None:
    """Accounts that share one kind of thing only, however plainly, meet nowhere in two families."""
    people, traits = town(700, Crew(anywhere(700, size=60, seed=11), {family: 3}), seed=11)
    assert candidates(people, traits) == []


def test_a_candidate_is_in_order() -> None:
    """Members ascend and are those of even odds or better; probabilities are such; halves are account positions."""
    people, traits, _ = hidden_crew(900, size=80, seed=6)
    for group in candidates(people, traits):
        assert (np.diff(group.members) > 0).all() and len(group.members) >= N_MIN
        assert group.membership.shape == group.bits.shape == (len(people),)
        assert ((group.membership >= 0) & (group.membership <= 1)).all()
        assert np.array_equal(group.members, np.flatnonzero(group.membership >= 0.5))
        for half in group.halves:
            assert half is None or (half.min() >= 0 and half.max() < len(people))


def test_no_group_is_weighed_twice() -> None:
    """Of candidates that are nearly the same one is left."""
    people, traits, _ = hidden_crew(900, size=150, seed=7)
    found = candidates(people, traits)
    for at, group in enumerate(found):
        for other in found[:at]:
            assert jaccard(group.members, other.members) < THE_SAME


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("n_bystanders", [0, 40])
def test_a_part_grows_into_the_whole_and_drops_bystanders(share: float, n_bystanders: int) -> None:
    """A seed that holds some of a crew, and others besides, gives the crew and hardly anybody else."""
    people, traits, crew = hidden_crew(900, size=120, seed=8)
    rng = np.random.default_rng(8)
    others = rng.choice(np.setdiff1d(np.arange(len(people)), crew), n_bystanders, replace=False)
    part = rng.choice(crew, int(share * len(crew)), replace=False)
    seed = np.sort(np.concatenate([part, others]))
    groups = [found.reaching(0.0) for found in Growth(traits, traits.forming).settled(seed, n_min=N_MIN)]
    assert max(jaccard(group, crew) for group in groups) >= 0.9


def test_nothing_settles_on_nobody() -> None:
    """A seed of strangers makes no group of strangers."""
    people, traits, crew = hidden_crew(900, size=80, seed=9)
    strangers = np.setdiff1d(np.arange(len(people)), crew)[:30]
    for found in Growth(traits, traits.forming).settled(strangers, n_min=N_MIN):
        assert len(np.setdiff1d(found.reaching(3.17), crew)) <= N_MIN


@pytest.mark.parametrize("least", [-50.0, 0.0, 2.5])
def test_who_belongs_is_told_alike_of_some_and_of_everybody(least: float) -> None:
    """Those named and the rest together are the population; a bar that the rest reaches takes it in."""
    people, traits, crew = hidden_crew(900, size=80, seed=10)
    found = belonging(traits, crew, within=traits.forming)
    bits = found.of_everybody()
    assert bits.shape == (len(people),)
    assert np.array_equal(found.accounts[: len(crew)], crew) and len(np.unique(found.accounts)) == len(found.accounts)
    assert np.array_equal(found.reaching(least), np.flatnonzero(bits >= least))
    carrying = np.asarray((traits.share[:, found_hubs(traits, crew)] > 0).sum(axis=1)).ravel() > 0
    assert (bits[~carrying & ~np.isin(np.arange(len(people)), crew)] == found.elsewhere).all()


def found_hubs(traits: Traits, crew: Ints) -> Ints:
    """Every hub that one of the crew carries."""
    return np.unique(traits.share[crew].indices)


def test_nobody_makes_no_group() -> None:
    """One account has nobody to meet."""
    people, traits = town(1, seed=1)
    assert candidates(people, traits) == []


def peak_of(n: int) -> int:
    """Bytes at the peak of looking for groups among n accounts of which half share one network and one template."""
    people, traits = town(n, Crew(np.arange(n // 2), {"network": 1, "head": 1}), seed=1, n_rows=4)
    assert np.asarray((traits.share > 0).sum(axis=0)).max() >= n // 2
    tracemalloc.start()
    try:
        candidates(people, traits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_accounts_are_never_paired() -> None:
    """Half of all accounts meet at one hub; twice the accounts take about twice the memory, and not four times."""
    small, large = peak_of(12000), peak_of(24000)
    assert large < 2.6 * small
    assert large < 24000 * 24000 // 8


def test_the_key_does_not_decide_who_is_found() -> None:
    """Another key tosses other folds: what tests a group changes, who is in it hardly does."""
    people, traits, crew = hidden_crew(900, size=100, seed=8)
    for each in (traits, find_traits(people, key=HashKey(3, 4))):
        assert len(np.intersect1d(candidates(people, each)[0].members, crew)) >= 0.9 * len(crew)


def test_a_template_that_others_use_is_explained_away() -> None:
    """Users of a public template are not drawn in by a crew that also sends it, as long as it has its own."""
    n = 900
    crew = anywhere(n, size=80, seed=12)
    people, traits = town(n, Crew(crew, FACETS), seed=12)
    public = explained_away(traits, crew)
    carried = (traits.share > 0).toarray()
    inside = np.isin(np.arange(n), crew)
    for hub in public:
        assert 3 * carried[inside, hub].sum() < 2 * carried[:, hub].sum()
    assert traits.of_family("content")[public].all()
    assert len(people) == n
