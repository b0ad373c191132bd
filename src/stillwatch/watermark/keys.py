"""keys: provider, campaign, account, epoch: the tree of keys under the marks subkey, each way in journaled.

A key is a path of names, each step an HMAC-SHA-256 of the one above, so that no key tells anything about another.
Whoever is handed one gets it through a `KeyRing`, which writes into the journal who asked for which key and why. Keys
of accounts and campaigns, which let text lead back to a customer, are cut for embedding only where a policy or a
decision of the gate says so.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from stillwatch.errors import KeyFileError
from stillwatch.journal import Journal
from stillwatch.kernels.columns import U64
from stillwatch.keys import RootKey, Secret
from stillwatch.records import Decision

N_MARK_KEY_BYTES = 16
_ID = b"stillwatch/1/mark key id"


@dataclass(frozen=True, slots=True)
class Label:
    """Whose key it is. A campaign is a lineage; an account may be marked with or without one."""

    epoch: str
    campaign: str | None = None
    account: str | None = None

    @property
    def level(self) -> str:
        """`provider`, `campaign` or `account`: the deepest name given."""
        return "account" if self.account is not None else "campaign" if self.campaign is not None else "provider"

    def path(self) -> tuple[tuple[str, str], ...]:
        """The steps from the marks subkey down to this key."""
        named = (("campaign", self.campaign), ("account", self.account), ("epoch", self.epoch))
        return (("provider", ""), *((step, name) for step, name in named if name is not None))


@dataclass(frozen=True, slots=True)
class Policy:
    """A written rule under which accounts may be marked: its name and version, as the journal will cite it."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class MarkKey:
    """One key of the tree: 128 bits that are not shown, and a public id that is."""

    label: Label
    secret: Secret

    @property
    def key_id(self) -> str:
        """The public name of this key: 16 hex digits that say nothing of whose it is."""
        return hashlib.sha256(_ID + self.secret.reveal()).hexdigest()[:16]


class KeyRing:
    """The keys of one installation, cut on request; every request is journaled before a key is handed out."""

    def __init__(self, root: RootKey, *, journal: Journal) -> None:
        self._root = root
        self._journal = journal

    def for_embedding(self, label: Label, *, because: Policy | Decision | None = None, now: datetime) -> MarkKey:
        """A key to mark answers with.

        Args:
            because: the policy, or the gate's decision to `mark` this account. A provider's key needs none.

        Raises:
            KeyFileError: an account's or a campaign's key without a reason that covers it.
        """
        reason = _reason(label, because)
        return self._handed_out([label], "embed", reason, now)[0]

    def for_detection(self, labels: Sequence[Label], *, because: str, now: datetime) -> list[MarkKey]:
        """Keys to look for in texts; `because` says in a few words why, for the journal. One entry for all."""
        return self._handed_out(labels, "detect", because, now)

    def reveal(self, key_ids: Sequence[str], *, because: str, now: datetime) -> None:
        """Journal that somebody is told whom these keys belong to; called before they are."""
        self._journal.append("reveal", {"because": because, "key_ids": list(key_ids)}, now)

    def decoys(self, n: int, *, epoch: str) -> U64:
        """n keys (n, 2) that nothing was ever marked with: the null, measured on the very text under test."""
        top = _step(self._subkey(), "decoys", epoch)
        cut = [_step(top, "decoy", str(at))[:N_MARK_KEY_BYTES] for at in range(n)]
        return np.frombuffer(b"".join(cut), "<u8").astype(np.uint64).reshape(n, 2)

    def routing(self, *, epoch: str) -> Secret:
        """The key that says which level a window is marked at; it carries no mark itself."""
        return Secret(_step(self._subkey(), "routing", epoch)[:N_MARK_KEY_BYTES])

    def seal(self) -> Secret:
        """The key of 32 bytes under which a gate hands marks to an engine; it opens tickets and cuts no key."""
        return Secret(_step(self._subkey(), "seal", ""))

    def _handed_out(self, labels: Sequence[Label], use: str, because: str, now: datetime) -> list[MarkKey]:
        keys = [MarkKey(label, Secret(self._cut(label))) for label in labels]
        counts = Counter(label.level for label in labels)
        ids = hashlib.sha256("\n".join(key.key_id for key in keys).encode()).hexdigest()
        shown = [key.key_id for key in keys[:16]]
        body = {"use": use, "because": because, "keys": dict(sorted(counts.items())), "first_key_ids": shown}
        body["key_ids_sha256"] = ids
        self._journal.append("mark_keys", body, now)
        return keys

    def _cut(self, label: Label) -> bytes:
        node = self._subkey()
        for step, name in label.path():
            node = _step(node, step, name)
        return node[:N_MARK_KEY_BYTES]

    def _subkey(self) -> bytes:
        return self._root.subkey("marks").reveal()


def key_words(keys: Sequence[Secret]) -> U64:
    """The keys as the words (n, 2) that kernels read."""
    joined = b"".join(key.reveal() for key in keys)
    return np.frombuffer(joined, "<u8").astype(np.uint64).reshape(len(keys), 2)


def _step(node: bytes, step: str, name: str) -> bytes:
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    return hmac.new(node, f"{step}\0{len(name)}\0{name}".encode(), hashlib.sha256).digest()


def _reason(label: Label, because: Policy | Decision | None) -> str:
    if isinstance(because, Policy) and because.name.strip():
        return f"policy {because.name}"
    if isinstance(because, Decision):
        if because.action != "mark" or because.account_id != label.account:
            raise KeyFileError(
                "this decision does not cover the mark",
                got=f"{because.action} for another account" if because.action == "mark" else because.action,
                expected="a decision to mark this very account",
            )
        return f"decision {because.decision_id}"
    if label.level == "provider":
        return "provider mark"
    raise KeyFileError(
        f"marking by {label.level} is off",
        do="Name the documented policy that allows it, or mark on a decision of the gate.",
    )
