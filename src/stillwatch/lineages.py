"""lineages: what is remembered from scan to scan: which campaign carries on which, and what analysts said of it.

One SQLite file, `registry.sqlite` (mode 0600). Accounts stand in it as HMAC-SHA-256 under the subkey of the purpose
`lineages`, cut to 16 bytes; campaigns that another key hashed are not compared. Its version is SQLite's `user_version`;
an older file is brought up to date when it is opened, a newer one is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from stillwatch.errors import LineageError
from stillwatch.keys import RootKey
from stillwatch.kinship import Known, relate
from stillwatch.redact import plain_text

REGISTRY = "registry.sqlite"
"""Its name in the state folder."""

Verdict = Literal["confirm", "dismiss", "watch"]

MAX_WHY = 280
"""Characters of an analyst's reason, so that a page shows it whole."""

LOCK_SECONDS = 20.0
"""How long one process waits for another to finish with the file."""

APPLICATION = 0x5374_6C77
"""SQLite's `application_id` of a registry."""

STEPS = (
    """
    CREATE TABLE scans (n INTEGER PRIMARY KEY, key_id TEXT NOT NULL, findings TEXT NOT NULL, at TEXT NOT NULL,
                        said TEXT NOT NULL, UNIQUE (key_id, findings));
    CREATE TABLE lineages (lineage_id TEXT PRIMARY KEY, key_id TEXT NOT NULL, first_scan INTEGER NOT NULL,
                           last_scan INTEGER NOT NULL, campaign_id TEXT NOT NULL, ended_in TEXT) WITHOUT ROWID;
    CREATE TABLE members (lineage_id TEXT NOT NULL, account BLOB NOT NULL,
                          PRIMARY KEY (lineage_id, account)) WITHOUT ROWID;
    CREATE TABLE links (lineage_id TEXT NOT NULL, other TEXT NOT NULL, scan INTEGER NOT NULL,
                        PRIMARY KEY (lineage_id, other)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE reviews (n INTEGER PRIMARY KEY, lineage_id TEXT NOT NULL, campaign_id TEXT NOT NULL,
                          verdict TEXT NOT NULL, why TEXT NOT NULL, at TEXT NOT NULL);
    CREATE TABLE reviewed (n INTEGER NOT NULL, account BLOB NOT NULL, PRIMARY KEY (n, account)) WITHOUT ROWID;
    CREATE INDEX reviews_by_lineage ON reviews (lineage_id, n);
    """,
)
"""What brings a file from each version to the next; a registry of this version has taken all of them."""


@dataclass(frozen=True, slots=True)
class Review:
    """What an analyst said of a lineage.

    `holds` is False where it does not carry over to the campaign at hand: fewer than half of its accounts were
    reviewed, or a kindred lineage was confirmed or is watched.
    """

    verdict: Verdict
    why: str
    at: str
    campaign_id: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Lineage:
    """One campaign of a scan and the lineage it belongs to; `since` is when the lineage was first seen (ISO 8601)."""

    campaign_id: str
    lineage_id: str
    status: str
    since: str
    absorbed: tuple[str, ...]
    split_from: tuple[str, ...]
    review: Review | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """A lineage of the scan before that has no kin in this one."""

    lineage_id: str
    campaign_id: str
    n_accounts: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """The lineages of one scan: of its campaigns, by campaign id, and those that are gone."""

    campaigns: tuple[Lineage, ...]
    gone: tuple[Gone, ...]


class Lineages:
    """The registry in one file; any number of processes may use it at once, one after the other.

    Raises, from every method, `LineageError`: the file is damaged, locked, open to others than its owner, of a newer
    version or no registry, or the disk is full. Nothing is half recorded.
    """

    def __init__(self, path: Path, *, key: RootKey, wait_s: float = LOCK_SECONDS) -> None:
        self.path, self._wait_s = path, wait_s
        self._secret, self.key_id = key.subkey("lineages"), key.key_id("lineages")

    def remember(self, campaigns: Mapping[str, Collection[str]], *, logs: Collection[str], at: datetime) -> Remembered:
        """Record one scan and say what its campaigns are to the lineages before.

        The same campaigns from the same logs are recorded once: a second call changes nothing and says the same, save
        for reviews made since.

        Args:
            campaigns: account ids by campaign id.
            logs: what names the logs, such as the hashes of their files.
            at: the wall clock, with a time zone.

        Cost: linear in accounts.
        """
        hashed = {campaign: self._hashed(accounts) for campaign, accounts in campaigns.items()}
        findings = _identity(hashed, logs)
        with self._open() as db:
            known = db.execute("SELECT said FROM scans WHERE (key_id, findings) = (?, ?)", (self.key_id, findings))
            row = known.fetchone()
            said = json.loads(row[0]) if row else self._record(db, hashed, findings, at.isoformat())
            return _told(db, said, hashed)

    def known(self, campaigns: Mapping[str, Collection[str]], *, logs: Collection[str]) -> Remembered | None:
        """What `remember` would say of a scan that is recorded, with today's reviews; None of another.

        Nothing is recorded, and no file made.
        """
        if not self.path.exists():
            return None
        hashed = {campaign: self._hashed(accounts) for campaign, accounts in campaigns.items()}
        named = (self.key_id, _identity(hashed, logs))
        with self._open() as db:
            row = db.execute("SELECT said FROM scans WHERE (key_id, findings) = (?, ?)", named).fetchone()
            return _told(db, json.loads(row[0]), hashed) if row else None

    def review(
        self,
        lineage: Lineage,
        accounts: Collection[str],
        verdict: Verdict,
        *,
        why: str,
        at: datetime,
        journal: Callable[[dict[str, Any]], object],
    ) -> Review:
        """Keep what an analyst says of a lineage; the latest review of a lineage stands.

        Args:
            accounts: the members that were reviewed.
            why: the reason, kept without characters that act or hide.
            journal: takes the entry before the review takes effect; where it raises, there is no review.
        """
        if verdict not in get_args(Verdict):
            raise LineageError("no such review", got=repr(verdict), expected=", ".join(get_args(Verdict)))
        why = plain_text(why.strip())
        if not why or len(why) > MAX_WHY:
            raise LineageError(
                "a review needs a reason", got=f"{len(why)} characters", expected=f"1 to {MAX_WHY}", do="Give --why."
            )
        said = (lineage.lineage_id, lineage.campaign_id, verdict, why, at.isoformat())
        with self._open() as db:
            cursor = db.execute(
                "INSERT INTO reviews (lineage_id, campaign_id, verdict, why, at) VALUES (?,?,?,?,?)", said
            )
            rows = [(cursor.lastrowid, account) for account in sorted(self._hashed(accounts))]
            db.executemany("INSERT INTO reviewed VALUES (?, ?)", rows)
            named = ("lineage_id", "campaign_id", "verdict", "why")
            journal(dict(zip(named, said, strict=False)) | {"n_accounts": len(rows)})
        return Review(verdict, why, at.isoformat(), lineage.campaign_id, holds=True)

    def _hashed(self, accounts: Collection[str]) -> frozenset[bytes]:
        key = self._secret.reveal()
        return frozenset(
            hmac.digest(key, account.encode("utf-8", "surrogatepass"), "sha256")[:16] for account in accounts
        )

    def _record(
        self, db: sqlite3.Connection, hashed: Mapping[str, frozenset[bytes]], findings: str, at: str
    ) -> dict[str, Any]:
        (last,) = db.execute("SELECT coalesce(max(n), 0) FROM scans WHERE key_id = ?", (self.key_id,)).fetchone()
        (newest,) = db.execute("SELECT coalesce(max(n), 0) FROM scans").fetchone()
        scan = newest + 1
        related, missing = relate(hashed, _known(db, self.key_id))
        told = []
        for kin in related:
            accounts = hashed[kin.campaign_id]
            lineage_id = kin.lineage_id or self._name(db, accounts)
            _carry_on(db, lineage_id, self.key_id, scan, kin.campaign_id, accounts)
            for other in kin.absorbed:
                db.execute("UPDATE lineages SET ended_in = ? WHERE lineage_id = ?", (lineage_id, other))
            for other in (*kin.absorbed, *kin.split_from):
                db.execute("INSERT OR REPLACE INTO links VALUES (?, ?, ?)", (lineage_id, other, scan))
            told.append(
                {
                    "campaign_id": kin.campaign_id, "lineage_id": lineage_id, "status": kin.status,
                    "since": _since(db, lineage_id) or at,
                    "absorbed": list(kin.absorbed), "split_from": list(kin.split_from),
                }
            )  # fmt: skip
        said = {"campaigns": told, "gone": _gone(db, missing, last)}
        written = json.dumps(said, sort_keys=True)
        db.execute("INSERT INTO scans VALUES (?, ?, ?, ?, ?)", (scan, self.key_id, findings, at, written))
        return said

    def _name(self, db: sqlite3.Connection, accounts: frozenset[bytes]) -> str:
        """A name from the accounts it begins with; another where a lineage that ended has that one."""
        for n in range(1 << 20):
            named = "l" + hashlib.sha256(b"%d\n" % n + b"".join(sorted(accounts))).hexdigest()[:15]
            if not db.execute("SELECT 1 FROM lineages WHERE lineage_id = ?", (named,)).fetchone():
                return named
        raise AssertionError("more lineages of the same accounts than scans")  # pragma: no cover

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone with the file; undone where anything is raised."""
        try:
            self._check_file()
            db = sqlite3.connect(self.path, timeout=self._wait_s, isolation_level=None)
            try:
                db.execute("BEGIN IMMEDIATE")
                _bring_up_to_date(db, self.path)
                yield db
                db.execute("COMMIT")
            finally:
                # What was not committed is rolled back.
                db.close()
        except sqlite3.Error as error:
            raise self._refused(error) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._damaged(type(error).__name__) from error
        except OSError as error:
            raise LineageError(f"the registry {self.path} cannot be used", got=str(error.strerror)) from error

    def _check_file(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here, since SQLite would make it as open as the mask allows.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise LineageError(f"the registry {self.path} is no file", do="Move it away.")
        if status.st_mode & 0o077:
            raise LineageError(
                f"the registry {self.path} is open to others than its owner",
                got=f"mode {stat.S_IMODE(status.st_mode):04o}", expected="mode 0600",
                do=f"Run: chmod 600 {self.path}, once you know that its reviews are yours.",
            )  # fmt: skip

    def _refused(self, error: sqlite3.Error) -> LineageError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LineageError(
                f"the registry {self.path} is in use by another process", got=f"no turn in {self._wait_s:g} s",
                do="Wait for it to end, and try again.",
            )  # fmt: skip
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return LineageError(
                f"the registry {self.path} cannot be written", got=str(error), do="Free space, or set STILLWATCH_HOME."
            )
        return self._damaged(str(error))

    def _damaged(self, got: str) -> LineageError:
        do = "Move it away: lineages begin anew, and the journal keeps every review."
        return LineageError(f"the registry {self.path} is damaged or no registry", got=got, do=do)


def _bring_up_to_date(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (n_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and (application or version or n_tables):
        raise LineageError(
            f"{path} is a database of something else", do="Move it away, or set STILLWATCH_HOME to another folder."
        )
    if version > len(STEPS):
        raise LineageError(
            f"the registry {path} is of a newer version", got=str(version), expected=f"at most {len(STEPS)}",
            do="Use the version of Stillwatch that wrote it.",
        )  # fmt: skip
    for step in STEPS[version:]:
        for statement in step.split(";"):
            db.execute(statement)
    if version < len(STEPS):
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {len(STEPS)}")


def _identity(hashed: Mapping[str, frozenset[bytes]], logs: Collection[str]) -> str:
    groups = sorted(f"{campaign}:{b''.join(sorted(accounts)).hex()}" for campaign, accounts in hashed.items())
    return hashlib.sha256(json.dumps([groups, sorted(logs)]).encode()).hexdigest()


def _known(db: sqlite3.Connection, key_id: str) -> list[Known]:
    accounts: dict[str, list[bytes]] = {}
    for lineage_id, account in db.execute("SELECT lineage_id, account FROM members"):
        accounts.setdefault(lineage_id, []).append(bytes(account))
    alive = db.execute("SELECT lineage_id, first_scan FROM lineages WHERE key_id = ? AND ended_in IS NULL", (key_id,))
    return [Known(str(lineage_id), int(first), accounts.get(lineage_id, [])) for lineage_id, first in alive]


def _carry_on(
    db: sqlite3.Connection, lineage_id: str, key_id: str, scan: int, campaign_id: str, accounts: frozenset[bytes]
) -> None:
    db.execute(
        "INSERT INTO lineages VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (lineage_id) DO UPDATE "
        "SET last_scan = excluded.last_scan, campaign_id = excluded.campaign_id",
        (lineage_id, key_id, scan, scan, campaign_id),
    )
    db.execute("DELETE FROM members WHERE lineage_id = ?", (lineage_id,))
    db.executemany("INSERT INTO members VALUES (?, ?)", [(lineage_id, account) for account in sorted(accounts)])


def _since(db: sqlite3.Connection, lineage_id: str) -> str | None:
    """When a lineage was first seen; None where that is in the scan being recorded."""
    row = db.execute(
        "SELECT at FROM scans JOIN lineages ON first_scan = n WHERE lineage_id = ?", (lineage_id,)
    ).fetchone()
    return str(row[0]) if row else None


def _gone(db: sqlite3.Connection, missing: Collection[str], last: int) -> list[dict[str, Any]]:
    gone = []
    for lineage_id in missing:
        row = db.execute(
            "SELECT campaign_id, (SELECT count(*) FROM members WHERE members.lineage_id = lineages.lineage_id) "
            "FROM lineages WHERE lineage_id = ? AND last_scan = ?",
            (lineage_id, last),
        ).fetchone()
        if row:
            gone.append({"lineage_id": lineage_id, "campaign_id": str(row[0]), "n_accounts": int(row[1])})
    return gone


def _standing(db: sqlite3.Connection, lineage_id: str, accounts: frozenset[bytes]) -> Review | None:
    """The review that stands for a campaign: of its lineage, else the latest of those it came from or took in."""
    kin = db.execute(
        "WITH RECURSIVE kin (id) AS (SELECT ? UNION SELECT other FROM links JOIN kin ON lineage_id = id) "
        "SELECT max(n), lineage_id, campaign_id, verdict, why, at FROM reviews JOIN kin ON lineage_id = id "
        "GROUP BY lineage_id ORDER BY max(n) DESC",
        (lineage_id,),
    ).fetchall()
    if not kin:
        return None
    n, _, campaign_id, verdict, why, at = next((row for row in kin if row[1] == lineage_id), kin[0])
    if verdict not in get_args(Verdict):
        raise ValueError("no such verdict")
    reviewed = {bytes(row[0]) for row in db.execute("SELECT account FROM reviewed WHERE n = ?", (n,))}
    holds = 2 * len(reviewed & accounts) >= len(accounts)
    if verdict == "dismiss":
        holds = holds and all(row[3] == "dismiss" for row in kin)
    return Review(verdict, str(why), str(at), str(campaign_id), holds)


def _told(db: sqlite3.Connection, said: Mapping[str, Any], hashed: Mapping[str, frozenset[bytes]]) -> Remembered:
    lineages = tuple(
        _lineage(one, _standing(db, one["lineage_id"], hashed[one["campaign_id"]])) for one in said["campaigns"]
    )
    return Remembered(lineages, tuple(Gone(**one) for one in said["gone"]))


def _lineage(said: Mapping[str, Any], review: Review | None) -> Lineage:
    return Lineage(
        str(said["campaign_id"]), str(said["lineage_id"]), str(said["status"]), str(said["since"]),
        tuple(map(str, said["absorbed"])), tuple(map(str, said["split_from"])), review,
    )  # fmt: skip
