"""disclosing: when a new snapshot begins to act; until then the one before stays in force.

Whoever is named, let go or moved sees it at one instant with all others, some time after the findings, and nobody can
tell the instant before. It is drawn from each stretch of the policy's `batch` under a key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime

from stillwatch.keys import Secret
from stillwatch.policy.model import Disclosure, micros
from stillwatch.policy.snapshot import Snapshot, empty_snapshot


def begins_us(made_us: int, disclosure: Disclosure, secret: Secret) -> int:
    """When a snapshot begins to act, in microseconds since 1970: at most the delay and two batches after it was made.

    >>> begins_us(1_000_000, Disclosure(delay_s=60), Secret(b"key"))
    61000000
    """
    due, batch = made_us + disclosure.delay_s * 1_000_000, disclosure.batch_s * 1_000_000
    if not batch:
        return due
    n = due // batch
    at = n * batch + _drawn(n, batch, secret)
    return at if at >= due else (n + 1) * batch + _drawn(n + 1, batch, secret)


def _drawn(n: int, batch: int, secret: Secret) -> int:
    digest = hmac.digest(secret.reveal(), f"stillwatch/1/disclosure {batch} {n}".encode(), "sha256")
    return int.from_bytes(digest[:16], "big") % batch


class InForce:
    """The snapshot in force, and a newer one that waits. `current` may be read from any thread.

    Args:
        before: what was in force when the process before this one ended; None where nothing is known of it.
        secret: what instants are drawn under; every process of an installation needs the same.
        keep: told of every snapshot that comes into force.
    """

    def __init__(self, before: Snapshot | None, *, secret: Secret, keep: Callable[[Snapshot], object]) -> None:
        self.current = before or empty_snapshot()
        self._secret, self._keep = secret, keep
        self._next: Snapshot | None = None

    @property
    def waits(self) -> bool:
        """Whether a newer one waits. No other is taken until it acts: else one after the other might never."""
        return self._next is not None

    def take(self, newer: Snapshot, disclosure: Disclosure, now: datetime) -> None:
        """Have a newer snapshot wait for its time, or act."""
        if (newer.made_us, newer.source) == (self.current.made_us, self.current.source):
            # A process that is started anew, or a file that was put in place again.
            self.current = newer
            return
        self._next = newer
        self.turn(disclosure, now)

    def turn(self, disclosure: Disclosure, now: datetime) -> None:
        """Look at the clock. One that went back before the snapshot was made does not keep it waiting."""
        newer, now_us = self._next, micros(now)
        if newer is None:
            return
        waits = newer.made_us <= now_us < begins_us(newer.made_us, disclosure, self._secret)
        if waits and now_us < self.current.expires_us:
            return
        self.current, self._next = newer, None
        self._keep(newer)
