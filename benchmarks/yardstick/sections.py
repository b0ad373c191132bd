"""sections: which worlds each table of the detection benchmark is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.yardstick import casting
from benchmarks.yardstick.casting import KINDS, SEEDS, TIERS
from benchmarks.yardstick.trial import Trial

EMPTY_SEEDS: Final = range(1001, 1101)
INNOCENT_SEEDS: Final = range(7001, 7041)
"""Seeds 2001 to 2040 were looked at when `OWN_QUESTIONS` was chosen; on these nothing was."""

QUICK_SEEDS: Final = 2
QUICK_EMPTY: Final = 12


@dataclass(frozen=True, slots=True)
class Labelled:
    """A trial and what its row of a table is called."""

    row: tuple[str, ...]
    trial: Trial


def _seeds(quick: bool) -> Sequence[int]:
    return SEEDS[:QUICK_SEEDS] if quick else SEEDS


def _empties(quick: bool, n: int = len(EMPTY_SEEDS)) -> Sequence[int]:
    return EMPTY_SEEDS[: QUICK_EMPTY if quick else n]


def recall(quick: bool) -> list[Labelled]:
    """Every kind at its own facets and at each tier, several campaigns side by side, and the look-alikes."""
    found = [
        Labelled(
            (kind, "own" if tier is None else str(tier)),
            Trial(scenario=casting.recall_world(kind, tier, seed), seed=seed, rebar=True),
        )
        for kind in KINDS
        for tier in ((None, 2) if quick else (None, *TIERS))
        for seed in _seeds(quick)
    ]
    found += [
        Labelled((name, "own"), Trial(scenario=world(), seed=seed, rebar=True))
        for name, world in (("three side by side", casting.several_world), ("look-alikes", casting.lookalike_world))
        for seed in _seeds(quick)
    ]
    return found


def ordinary(quick: bool) -> list[Labelled]:
    """Worlds without a campaign."""
    return [
        Labelled(("empty",), Trial(scenario=casting.empty_world(), seed=seed, rebar=True)) for seed in _empties(quick)
    ]


def evalues(quick: bool) -> list[Labelled]:
    """Worlds in which groups that are innocent by the truth are weighed; nobody is excused by an allowlist."""
    world, groups = casting.innocents_world(), casting.WEIGHED_AS_GROUPS
    seeds = INNOCENT_SEEDS[:QUICK_EMPTY] if quick else INNOCENT_SEEDS
    return [
        Labelled(("innocent",), Trial(scenario=world, seed=seed, allowlisted=False, groups_of=groups)) for seed in seeds
    ]


CHANNELS: Final[dict[str, Callable[[Trial], Trial]]] = {
    "nothing": lambda trial: trial,
    "payments": lambda trial: replace(trial, without_accounts=("payment_fingerprint", "payment_bin")),
    "addresses": lambda trial: replace(trial, without=("ip",)),
    "text": lambda trial: replace(trial, without=("prompt", "system_prompt", "messages")),
    "text but its hash": lambda trial: replace(trial, hashed=("prompt", "system_prompt"), without=("messages",)),
    "user agents": lambda trial: replace(trial, without=("user_agent", "tls_fingerprint")),
    "models": lambda trial: replace(trial, without=("model",)),
    "accounts file": lambda trial: replace(trial, without=("accounts",)),
}
"""What each channel taken away is in a trial."""

MEASURED_KINDS: Final = ("cloud", "relay", "low_and_slow", "pivot")


def _measured(quick: bool) -> list[Labelled]:
    """The kinds that bounds are stated for, at their own facets, and some empty worlds."""
    found = [
        Labelled((kind,), Trial(scenario=casting.recall_world(kind, None, seed), seed=seed))
        for kind in MEASURED_KINDS
        for seed in _seeds(quick)
    ]
    return found + [
        Labelled(("empty",), Trial(scenario=casting.empty_world(), seed=seed)) for seed in _empties(quick, 20)
    ]


def channels(quick: bool) -> list[Labelled]:
    """The measured worlds without each channel."""
    return [Labelled((name, *one.row), less(one.trial)) for name, less in CHANNELS.items() for one in _measured(quick)]


def ablations(quick: bool) -> list[Labelled]:
    """The measured worlds, weighed again without each signal."""
    return [Labelled(one.row, replace(one.trial, ablate=True)) for one in _measured(quick)]


def calibration(quick: bool) -> list[Labelled]:
    """The measured worlds with their facets dealt out anew: whatever is found there is false."""
    return [Labelled(one.row, replace(one.trial, permuted=True)) for one in _measured(quick)]


SIZES: Final = (
    (30, 0.001), (30, 0.01), (30, 0.1), (100, 0.003), (100, 0.01), (100, 0.04), (100, 0.3),
    (300, 0.01), (300, 0.1), (300, 0.3), (1000, 0.1), (1000, 0.3), (2500, 0.1), (2500, 0.3),
)  # fmt: skip
"""Accounts of a campaign, and their share of all accounts."""

LARGE: Final = ((25_000, 0.3),)
COVERS: Final = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
BENCH_ACCOUNTS: Final = 2450


def sizes(quick: bool, *, large: bool = False) -> list[Labelled]:
    """A cloud campaign of each size at each prevalence; the crowd and its networks scale with it."""
    found = []
    for n, share in SIZES[1:7:2] if quick else (*SIZES, *(LARGE if large else ())):
        scale = n * (1 - share) / share / BENCH_ACCOUNTS
        world = casting.bench_with(casting.of_kind("cloud", tier=None, n_accounts=round(n / scale)))
        found += [
            Labelled((f"{n:,}", f"{100 * share:g} %"), Trial(scenario=world, seed=seed, scale=scale))
            for seed in (_seeds(quick) if n < 1000 else SEEDS[:2])
        ]
    return found


def covers(quick: bool) -> list[Labelled]:
    """Cloud campaigns and relays with a growing share of customers' traffic."""
    return [
        Labelled(
            (kind, f"{100 * cover:g} %"),
            Trial(scenario=casting.bench_with(casting.of_kind(kind, tier=None, cover=cover)), seed=seed),
        )
        for kind in ("cloud", "relay")
        for cover in (COVERS[::2] if quick else COVERS)
        for seed in _seeds(quick)
    ]


def peers(quick: bool) -> list[Labelled]:
    """The measured worlds, the look-alikes and some empty ones, with the peers on the same accounts."""
    found = [one for one in _measured(quick) if one.row != ("empty",)]
    found += [
        Labelled(("look-alikes",), Trial(scenario=casting.lookalike_world(), seed=seed)) for seed in _seeds(quick)
    ]
    found += [
        Labelled(("empty",), Trial(scenario=casting.empty_world(), seed=seed)) for seed in _empties(quick, len(SEEDS))
    ]
    return [Labelled(one.row, replace(one.trial, peers=True)) for one in found]
