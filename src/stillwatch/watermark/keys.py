"""keys: provider, campaign, account, epoch: the tree of keys under the marks subkey, each way in journaled.

A key is a path of names, each step an HMAC-SHA-256 of the one above, so that no key tells anything about another.
Whoever is handed one gets it through a `KeyRing`, which writes into the journal who asked for which key and why. Keys
of accounts and campaigns, which let text lead back to a customer, are cut for embedding only where a policy or a
decision of the gate says so.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import numpy as np

from stillwatch.errors import InputError, KeyFileError
from stillwatch.journal import Journal
from stillwatch.kernels.columns import U64
from stillwatch.keys import RootKey, Secret
from stillwatch.records import Decision

N_MARK_KEY_BYTES = 16
MAX_DECISION_AGE = timedelta(hours=24)
"""How old a decision of the gate may be that a key is cut for, unless a shorter or longer age is asked for."""

CLOCKS_APART = timedelta(minutes=5)
"""How far the clocks of a gate and of whoever cuts keys may differ."""

_ID = b"stillwatch/1/mark key id"


@dataclass(frozen=True, slots=True)
class Label:
    """Whose key it is. A campaign is a lineage; an account may be marked with or without one."""

    epoch: str
    campaign: str | None = None
    account: str | None = None

    def __post_init__(self) -> None:
        for what, name in (("epoch", self.epoch), ("campaign", self.campaign), ("account", self.account)):
            if name is not None:
                _check_name(what, name)

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
    """A written rule under which accounts may be marked: its name and the SHA-256 of its text."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        _check_name("policy", self.name)
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise KeyFileError("a policy is cited by the SHA-256 of its text", got=repr(self.sha256)[:80])

    @classmethod
    def read(cls, path: Path) -> Self:
        """The policy written in a file, cited by the file's name and content.

        Raises:
            KeyFileError: there is no such file, it cannot be read, or it says nothing.
        """
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise KeyFileError(f"the policy {_shown(path)} is not a file", got="a pipe or a device")
        try:
            text = path.read_bytes()
        except OSError as error:
            raise KeyFileError(
                f"the policy {_shown(path)} cannot be read",
                got=error.strerror or type(error).__name__,
                do="Name the file in which the policy is written.",
            ) from error
        if not text.strip():
            raise KeyFileError(f"the policy {_shown(path)} is empty", do="Write down who may be marked, when and why.")
        return cls(_shown(Path(path.name)), hashlib.sha256(text).hexdigest())


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

    def for_embedding(
        self,
        label: Label,
        *,
        because: Policy | Decision | None = None,
        now: datetime,
        max_age: timedelta = MAX_DECISION_AGE,
    ) -> MarkKey:
        """A key to mark answers with.

        Args:
            because: the policy, or the gate's decision to `mark` this account. A provider's key needs none.
            max_age: how old a decision may be; the time until its policy expires, where that is shorter.

        Raises:
            KeyFileError: an account's or a campaign's key without a reason that covers it: a decision of another
                action, for another account, from the future or older than `max_age`.
        """
        reason = _reason(label, because, now, max_age)
        return self._handed_out([label], "embed", reason, now)[0]

    def for_detection(self, labels: Sequence[Label], *, because: str, now: datetime) -> list[MarkKey]:
        """Keys to look for in texts; `because` says in a few words why, for the journal. One entry for all."""
        return self._handed_out(labels, "detect", because, now)

    def reveal(self, key_ids: Sequence[str], *, because: str, now: datetime) -> None:
        """Journal that somebody is told whom these keys belong to; called before they are."""
        self._journal.append("reveal", {"because": because, "key_ids": list(key_ids)}, now)

    def decoys(self, n: int, *, epoch: str, because: str, now: datetime) -> U64:
        """n keys (n, 2) that nothing was ever marked with: the null, measured on the very text under test."""
        self._told("decoys", because, now, {"n": n, "epoch": epoch})
        top = _step(self._subkey(), "decoys", epoch)
        cut = [_step(top, "decoy", str(at))[:N_MARK_KEY_BYTES] for at in range(n)]
        return np.frombuffer(b"".join(cut), "<u8").astype(np.uint64).reshape(n, 2)

    def routing(self, *, epoch: str, because: str, now: datetime) -> Secret:
        """The key that says which level a window is marked at; it carries no mark itself."""
        self._told("routing", because, now, {"epoch": epoch})
        return Secret(_step(self._subkey(), "routing", epoch)[:N_MARK_KEY_BYTES])

    def seal(self, *, because: str, now: datetime) -> Secret:
        """The key of 32 bytes under which a gate hands marks to an engine; it opens tickets and cuts no key."""
        self._told("seal", because, now, {})
        return Secret(_step(self._subkey(), "seal", ""))

    def _told(self, use: str, because: str, now: datetime, more: Mapping[str, object]) -> None:
        """Journal that a key which marks nothing by itself is about to be handed out."""
        self._journal.append("mark_keys", {"use": use, "because": because, **more}, now)

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


def _check_decision(label: Label, decision: Decision, now: datetime, max_age: timedelta) -> None:
    got = None
    if decision.action != "mark":
        got = decision.action
    elif label.account is None or decision.account_id != label.account:
        got = "mark for another account"
    elif not decision.decision_id.strip():
        got = "a decision without an id"
    elif decision.ts.tzinfo is None:
        got = "a decision whose time has no zone"
    elif decision.ts - now > CLOCKS_APART:
        got = "a decision from the future"
    elif now - decision.ts > max_age:
        got = f"a decision {now - decision.ts} old"
    if got is not None:
        raise KeyFileError(
            "this decision does not cover the mark",
            got=got,
            expected=f"a decision to mark this very account, at most {max_age} old",
        )


def key_words(keys: Sequence[Secret]) -> U64:
    """The keys as the words (n, 2) that kernels read."""
    joined = b"".join(key.reveal() for key in keys)
    return np.frombuffer(joined, "<u8").astype(np.uint64).reshape(len(keys), 2)


def _step(node: bytes, step: str, name: str) -> bytes:
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    return hmac.new(node, f"{step}\0{len(name)}\0{name}".encode(), hashlib.sha256).digest()


def _check_name(what: str, name: str) -> None:
    """Refuse a name that is blank, or that is no text: bytes of a command line that are not UTF-8."""
    if not name.strip():
        raise InputError(f"the name of a mark's {what} is blank", got=repr(name)[:80], expected="a name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of a mark's {what} is not UTF-8", got=ascii(name)[:80]) from None


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _reason(label: Label, because: Policy | Decision | None, now: datetime, max_age: timedelta) -> str:
    if isinstance(because, Policy):
        return f"policy {because.name} sha256 {because.sha256}"
    if isinstance(because, Decision):
        _check_decision(label, because, now, max_age)
        return f"decision {because.decision_id}"
    if label.level == "provider":
        return "provider mark"
    raise KeyFileError(
        f"marking by {label.level} is off",
        do="Name the documented policy that allows it, or mark on a decision of the gate.",
    )
