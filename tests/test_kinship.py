"""kinship: which campaign carries on which lineage, whatever the order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kinship import Known, relate


def accounts(first: int, last: int) -> frozenset[bytes]:
    """Accounts with these numbers, the last one not among them."""
    return frozenset(n.to_bytes(16) for n in range(first, last))


OLD = Known("l-old", 1, accounts(0, 100))
YOUNG = Known("l-young", 2, accounts(100, 200))


def test_without_lineages_every_campaign_is_new() -> None:
    """Nothing before, nothing gone."""
    related, gone = relate({"c1": accounts(0, 20)}, [])
    assert [(one.status, one.lineage_id) for one in related] == [("new", None)] and gone == []


def test_the_same_accounts_are_the_same_lineage() -> None:
    """A campaign that lost some accounts and replaced others goes on."""
    related, gone = relate({"c1": accounts(50, 150)}, [OLD])
    assert [(one.status, one.lineage_id) for one in related] == [("same", "l-old")] and gone == []


def test_few_accounts_in_common_are_no_kinship() -> None:
    """Below a third of the smaller one a campaign is new, and the lineage is gone."""
    related, gone = relate({"c1": accounts(80, 180)}, [OLD])
    assert [one.status for one in related] == ["new"] and gone == ["l-old"]
    related, gone = relate({"c1": accounts(66, 166)}, [OLD])
    assert [one.status for one in related] == ["same"] and gone == []


def test_a_split_leaves_the_lineage_with_the_larger_part() -> None:
    """The smaller part is named for where it came from, whatever it is called."""
    for larger, smaller in (("a", "b"), ("b", "a")):
        related, gone = relate({larger: accounts(0, 60), smaller: accounts(60, 100)}, [OLD])
        told = {one.campaign_id: one for one in related}
        assert (told[larger].status, told[larger].lineage_id) == ("same", "l-old")
        assert (told[smaller].status, told[smaller].lineage_id) == ("split", None)
        assert told[smaller].split_from == ("l-old",) and gone == []


def test_a_merge_leaves_the_older_lineage() -> None:
    """The younger one ends in it, also where it brought more accounts."""
    big = Known("l-a-big-young-one", 2, accounts(100, 900))
    related, gone = relate({"c": accounts(0, 900)}, [big, OLD])
    assert [(one.status, one.lineage_id, one.absorbed) for one in related] == [
        ("merged", "l-old", ("l-a-big-young-one",))
    ]
    assert gone == []


def test_parts_change_hands() -> None:
    """A part of the old that joins the young stays the young's, and both go on."""
    related, _ = relate({"x": accounts(0, 60), "y": accounts(60, 200)}, [OLD, YOUNG])
    assert {one.campaign_id: (one.status, one.lineage_id) for one in related} == {
        "x": ("same", "l-old"),
        "y": ("same", "l-young"),
    }


GROUPS = st.lists(st.frozensets(st.integers(0, 40), min_size=1, max_size=20), max_size=5)


@given(GROUPS, GROUPS, st.randoms(use_true_random=False))
def test_order_changes_nothing(before: list[frozenset[int]], now: list[frozenset[int]], random: object) -> None:
    """Any order of lineages, campaigns and accounts gives the same kin; each lineage goes to one place or is gone."""
    known = [Known(f"l{n}", n // 2, [i.to_bytes(2) for i in ids]) for n, ids in enumerate(before)]
    campaigns = {f"c{n}": [i.to_bytes(2) for i in ids] for n, ids in enumerate(now)}
    related, gone = relate(campaigns, known)
    mixed = list(campaigns.items())
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert relate({name: ids[::-1] for name, ids in mixed}, known[::-1]) == (related, gone)
    placed = [one.lineage_id for one in related if one.lineage_id] + [a for one in related for a in one.absorbed] + gone
    assert sorted(placed) == sorted(one.lineage_id for one in known)
