"""snapshot: what the gate knows of accounts: which lineage, how sure, under which verdict, until when.

In memory an account is 16 bytes: a keyed hash of its id, sorted, and its lineage and membership beside it. Ids
themselves are not in it, so a stolen snapshot does not say whom it names. An account outside it is found absent with
probability 1 - n / 2**64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stillwatch.keys import Secret

FULL = 65_535
"""The membership of 1.0, as stored."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What all members of one lineage share."""

    lineage_id: str
    campaign_id: str
    verdict: str
    mark_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a snapshot says of one account."""

    lineage: Lineage
    membership: float


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Accounts and their lineages at one instant. Immutable; a newer one takes its place as a whole."""

    made_us: int
    expires_us: int
    """After this it says nothing any more: what was found so long ago accuses nobody today."""
    key: Secret
    """The key account ids are hashed with."""
    lineages: tuple[Lineage, ...] = ()
    accounts: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Keyed hashes, ascending, shape (n,)."""
    lineage_of: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    membership: npt.NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    policy_version: str | None = None
    source: str = ""
    """SHA-256 of the findings' files it was made from."""

    def standing(self, account_id: str) -> Standing | None:
        """What is said of an account, or None. Cost: one hash and a binary search."""
        if not len(self.accounts):
            return None
        name = account_hash(account_id, self.key.reveal())
        at = int(np.searchsorted(self.accounts, np.uint64(name)))
        if at == len(self.accounts) or int(self.accounts[at]) != name:
            return None
        return Standing(self.lineages[int(self.lineage_of[at])], int(self.membership[at]) / FULL)


def empty_snapshot() -> Snapshot:
    """A snapshot that names nobody: where nothing was found, or nothing compiled yet."""
    return Snapshot(made_us=0, expires_us=2**62, key=Secret(bytes(32)))


def account_hash(account_id: str, key: bytes) -> int:
    """64 bits of keyed BLAKE2b of an id."""
    digest = hashlib.blake2b(account_id.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


def gather(
    members: Iterable[tuple[str, int, float]], lineages: Sequence[Lineage], *, key: Secret
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
    """The three columns of a snapshot from (account id, index of its lineage, membership) in any order.

    An account named more than once keeps its highest membership, of equal ones the first lineage.
    """
    bare = key.reveal()
    rows = [(account_hash(name, bare), -round(FULL * min(max(share, 0.0), 1.0)), at) for name, at, share in members]
    assert all(0 <= at < len(lineages) for _, _, at in rows)
    rows.sort()
    kept = [row for n, row in enumerate(rows) if n == 0 or rows[n - 1][0] != row[0]]
    return (
        np.array([row[0] for row in kept], np.uint64),
        np.array([row[2] for row in kept], np.uint32),
        np.array([-row[1] for row in kept], np.uint16),
    )
