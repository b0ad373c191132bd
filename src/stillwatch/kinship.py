"""kinship: which campaign of this scan is which lineage of the last, by the accounts they share.

A campaign and a lineage are kin when they share a third of the smaller one's accounts. Lineages choose in the order of
their age: each takes, of its kin, the campaign with most of its accounts that no older lineage took. So a split leaves
the lineage with its larger part, a merge leaves the older lineage, and neither the order of the campaigns nor that of
their accounts matters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["new", "same", "merged", "split"]

SHARED_PART = 3
"""Kin share at least one in so many accounts of the smaller one: replaced accounts do not end a lineage, and chance
never begins one."""


@dataclass(frozen=True, slots=True)
class Known:
    """A lineage as it was last seen: what it is called, in which scan it began, and its accounts, hashed."""

    lineage_id: str
    first_scan: int
    accounts: Collection[bytes]


@dataclass(frozen=True, slots=True)
class Kin:
    """What one campaign is to the lineages before it.

    Attributes:
        lineage_id: the lineage it carries on; None where it begins one.
        status: `new` without kin, `same`, `merged` where it took in further lineages, `split` where it is the smaller
            part of a lineage that went on elsewhere.
        absorbed: lineages that end in it.
        split_from: lineages it is the smaller part of.
    """

    campaign_id: str
    lineage_id: str | None
    status: Status
    absorbed: tuple[str, ...] = ()
    split_from: tuple[str, ...] = ()


def relate(campaigns: Mapping[str, Collection[bytes]], known: Collection[Known]) -> tuple[list[Kin], list[str]]:
    """Relate the campaigns of one scan to the lineages before it.

    Args:
        campaigns: accounts by campaign id, hashed as those of `known` are.
        known: lineages that have not ended.

    Returns:
        What each campaign is, by campaign id, and the lineages that have no kin here, by lineage id.

    Cost: linear in accounts, times the lineages an account was in.
    """
    shared = _shared(campaigns, known)
    taken: dict[str, str] = {}
    absorbed: dict[str, list[str]] = defaultdict(list)
    split_from: dict[str, list[str]] = defaultdict(list)
    for one in sorted(known, key=lambda one: (one.first_scan, one.lineage_id)):
        kin = shared.get(one.lineage_id)
        if not kin:
            continue
        nearest = sorted(kin, key=lambda campaign: (-kin[campaign], campaign))
        free = [campaign for campaign in nearest if campaign not in taken]
        if not free:
            absorbed[nearest[0]].append(one.lineage_id)
            continue
        taken[free[0]] = one.lineage_id
        for other in nearest:
            if other != free[0]:
                split_from[other].append(one.lineage_id)
    related = [
        _kin(campaign, taken.get(campaign), tuple(absorbed[campaign]), tuple(split_from[campaign]))
        for campaign in sorted(campaigns)
    ]
    return related, sorted(one.lineage_id for one in known if not shared.get(one.lineage_id))


def _kin(campaign: str, lineage_id: str | None, absorbed: tuple[str, ...], split_from: tuple[str, ...]) -> Kin:
    if lineage_id is None:
        return Kin(campaign, None, "split" if split_from else "new", (), split_from)
    return Kin(campaign, lineage_id, "merged" if absorbed else "same", absorbed, split_from)


def _shared(campaigns: Mapping[str, Collection[bytes]], known: Collection[Known]) -> dict[str, dict[str, int]]:
    """Accounts that each lineage shares with each of its kin."""
    carried: dict[bytes, list[str]] = defaultdict(list)
    for campaign, accounts in campaigns.items():
        for account in accounts:
            carried[account].append(campaign)
    shared: dict[str, dict[str, int]] = {}
    for one in known:
        counts = Counter(campaign for account in one.accounts for campaign in carried.get(account, ()))
        kin = {
            campaign: n
            for campaign, n in counts.items()
            if SHARED_PART * n >= min(len(one.accounts), len(campaigns[campaign]))
        }
        if kin:
            shared[one.lineage_id] = kin
    return shared
