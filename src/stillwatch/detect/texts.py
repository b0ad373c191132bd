"""texts: the second look: distinct prompts of candidates and of some peers, read again, never kept.

Which prompts are read is fixed by the Profiles (a coordinated bottom-k of prompt keys), so it does not depend on the
order of the log. The text lives in memory while it is weighed and goes nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.detect.groups import Candidate
from stillwatch.detect.population import Population
from stillwatch.kernels.hashing import HashKey, combine, hash_strings

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

PROMPTS_READ = 32
"""Distinct prompts read again per account."""

MEMBERS_READ = 500
"""Most members of one candidate whose prompts are read again; the rest is represented by them."""

PEERS_READ = 500
"""Most outsiders read again per peer group."""

NEAR_READ, NEAR_BITS = 300, -10.0
"""Most outsiders that come near a candidate whose prompts are read again, and the odds from which one does: what they
ask for may yet speak for them, but not against odds of a thousand."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which prompts of which accounts to read again: account keys ascending, (account, prompt) keys ascending.

    `near` are the positions of those read for nothing but that they come near a candidate.
    """

    accounts: Keys
    positions: Ints
    pairs: Keys
    near: Ints


@dataclass(frozen=True, slots=True)
class Texts:
    """Prompts read again: `owner[i]` is the population position of the account that sent `prompts[i]`.

    `near` are the accounts chosen because they come near a candidate: nobody's peers.
    """

    owner: Ints
    prompts: pa.LargeStringArray
    near: Ints

    def __len__(self) -> int:
        return len(self.owner)

    def of(self, positions: Ints, *, near: Ints) -> Texts:
        """Those of some accounts, of whom some were chosen because they come near a candidate."""
        kept = np.flatnonzero(np.isin(self.owner, positions))
        return Texts(self.owner[kept], self.prompts.take(pa.array(kept)), near)


def choose_texts(population: Population, candidates: Sequence[Candidate], peers: Ints, *, key: HashKey) -> Wanted:
    """Choose members, outsiders of their peer groups, and who comes near; the first two by keyed hash, so that nobody
    can tell who.

    Args:
        peers: dense peer group per account.
    """
    account = population.profiles.column("account").to_numpy()
    chosen, inside = [], np.zeros(len(population), bool)
    for candidate in candidates:
        group = candidate.members
        chosen.append(group[np.argsort(account[group], kind="stable")][:MEMBERS_READ])
        inside[group] = True
    for peer in np.unique(peers[inside]):
        outsiders = np.flatnonzero(~inside & (peers == peer))
        chosen.append(outsiders[np.argsort(account[outsiders], kind="stable")][:PEERS_READ])
    fair = np.unique(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    near = np.setdiff1d(np.concatenate([_nearest(candidate) for candidate in candidates] or [fair]), fair)
    return replace(wanted_of(population, np.concatenate([fair, near]), key=key), near=near)


def wanted_of(population: Population, at: Ints, *, key: HashKey) -> Wanted:
    """The prompts to read again of the accounts at these positions."""
    account = population.profiles.column("account").to_numpy()
    at = at[np.argsort(account[at], kind="stable")]
    prompts = population.profiles.column("prompts").combine_chunks()
    starts = prompts.offsets.to_numpy().astype(np.int64)
    flat = prompts.values.to_numpy()
    lengths = np.minimum(starts[at + 1] - starts[at], PROMPTS_READ)
    owner = np.repeat(at, lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    pairs = combine([account[owner], flat[np.repeat(starts[at], lengths) + within]], key)
    return Wanted(account[at], at, np.sort(pairs), np.zeros(0, np.int64))


def _nearest(candidate: Candidate) -> Ints:
    """The outsiders that come nearest to a candidate."""
    outside = np.flatnonzero((candidate.membership < 0.5) & (candidate.bits >= NEAR_BITS))
    return outside[np.argsort(-candidate.bits[outside], kind="stable")][:NEAR_READ]


def pick_texts(batch: pa.RecordBatch, wanted: Wanted, *, key: HashKey) -> pa.Table:
    """The wanted prompts of one batch: columns `pair`, `account` (keys) and `prompt`; the kernel of the second pass."""
    account = hash_strings(batch.column("account_id"), key)
    at = np.minimum(np.searchsorted(wanted.accounts, account), max(len(wanted.accounts) - 1, 0))
    rows = np.flatnonzero(wanted.accounts[at] == account) if len(wanted.accounts) else np.zeros(0, np.int64)
    prompt = batch.column("prompt").take(pa.array(rows))
    pair = combine([account[rows], hash_strings(prompt, key)], key)
    place = np.minimum(np.searchsorted(wanted.pairs, pair), max(len(wanted.pairs) - 1, 0))
    hit = np.flatnonzero(wanted.pairs[place] == pair) if len(wanted.pairs) else np.zeros(0, np.int64)
    _, first = np.unique(pair[hit], return_index=True)
    kept = hit[first]
    return pa.table(
        {
            "pair": pa.array(pair[kept]),
            "account": pa.array(account[rows][kept]),
            "prompt": prompt.take(pa.array(kept)).cast(pa.large_string()),
        }
    )


def collect_texts(parts: Iterable[pa.Table], wanted: Wanted) -> Texts | None:
    """One copy of each wanted prompt, in the order of the pair keys; None where the logs held no text."""
    tables = [part for part in parts if part.num_rows]
    if not tables:
        return None
    whole = pa.concat_tables(tables).sort_by([("pair", "ascending"), ("prompt", "ascending")]).combine_chunks()
    pair = whole.column("pair").to_numpy()
    first = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]])
    whole = whole.take(pa.array(first)).combine_chunks()
    owner = wanted.positions[np.searchsorted(wanted.accounts, whole.column("account").to_numpy())]
    return Texts(owner, whole.column("prompt").combine_chunks(), wanted.near)
