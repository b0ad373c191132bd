"""compiling: a findings folder to the snapshot a gate reads: whom a rule may touch, as which lineage, until when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import FindingsError
from stillwatch.keys import RootKey
from stillwatch.policy.model import Policy, micros
from stillwatch.policy.sealed import gate_key
from stillwatch.policy.snapshot import Lineage, Snapshot, gather
from stillwatch.records import SCHEMA_VERSION
from stillwatch.watermark.keys import KeyRing, Label
from stillwatch.watermark.keys import Policy as Reason

KEPT_FOR = timedelta(days=30)


def compile_snapshot(
    findings: Path,
    *,
    policy: Policy | None,
    root: RootKey,
    ring: KeyRing,
    now: datetime,
    kept_for: timedelta = KEPT_FOR,
    lineages: Mapping[str, str] | None = None,
    overturned: Collection[str] = (),
    dismissed: Collection[str] = (),
) -> Snapshot:
    """Make the snapshot of a findings folder.

    Args:
        policy: members whom none of its rules can touch are left out; None keeps every member. Mark keys are cut,
            and journaled by the ring, where one of its verdicts is answered with `mark`.
        lineages: campaign id to lineage id, where campaigns are followed over time; a campaign that is not in it is
            its own lineage.
        overturned: accounts whose appeal was granted; they are not in the snapshot.
        dismissed: campaigns that an analyst dismissed; they are not in it either, nor whoever is in no other.
        now: when it is made; it expires `kept_for` later.

    Raises:
        FindingsError: the folder is not one that a scan finished, or is damaged.
        KeyFileError, JournalError: a mark key cannot be cut or journaled.

    Cost: linear in members; some 200 bytes each while it runs.
    """
    campaigns, members, source = _read(findings)
    verdicts = dict(zip(campaigns["campaign_id"].to_pylist(), campaigns["verdict"].to_pylist(), strict=True))
    left = sorted(set(verdicts).difference(dismissed))
    named = {campaign: (lineages or {}).get(campaign, campaign) for campaign in left}
    whole = tuple(
        Lineage(lineage, campaign, verdicts[campaign], _mark(policy, ring, lineage, verdicts[campaign], now))
        for campaign, lineage in named.items()
    )
    at = {one.campaign_id: n for n, one in enumerate(whole)}
    out = frozenset(overturned)
    least = {campaign: 0.0 if policy is None else _least(policy, verdict) for campaign, verdict in verdicts.items()}
    rows = zip(*(members[name].to_pylist() for name in ("account_id", "campaign_id", "membership")), strict=True)
    kept = [
        (account, at[campaign], share)
        for account, campaign, share in rows
        if campaign in at and account not in out and share >= least[campaign]
    ]
    key = gate_key(root, "accounts")
    accounts, lineage_of, membership = gather(kept, whole, key=key)
    return Snapshot(
        made_us=micros(now),
        expires_us=micros(now + kept_for),
        key=key,
        lineages=whole,
        accounts=accounts,
        lineage_of=lineage_of,
        membership=membership,
        policy_version=policy.version if policy else None,
        source=source,
    )


def _least(policy: Policy, verdict: str) -> float:
    rule = policy.verdicts.get(verdict)
    return 2.0 if rule is None else rule.min_membership


def _mark(policy: Policy | None, ring: KeyRing, lineage: str, verdict: str, now: datetime) -> str | None:
    if policy is None or policy.mark_epoch is None:
        return None
    rule = policy.verdicts.get(verdict)
    if rule is None or rule.step.action != "mark":
        return None
    label = Label(policy.mark_epoch, campaign=lineage)
    return ring.for_embedding(label, because=Reason(policy.version, policy.sha256), now=now).key_id


def _read(folder: Path) -> tuple[pa.Table, pa.Table, str]:
    """The campaigns, the members and a hash of both files."""
    try:
        run = json.loads((folder / "run.json").read_text("utf-8"))
        if not isinstance(run, dict) or run.get("complete") is not True:
            raise FindingsError(f"{folder} is unfinished", do="Scan again.")
        if run.get("schema_version") != SCHEMA_VERSION:
            raise FindingsError(
                f"{folder} is from another version", got=str(run.get("schema_version")), expected=str(SCHEMA_VERSION)
            )
        content = [(folder / f"{name}.parquet").read_bytes() for name in ("campaigns", "members")]
        columns = (["campaign_id", "verdict"], ["campaign_id", "account_id", "membership"])
        campaigns, members = (
            pq.read_table(pa.BufferReader(one), columns=wanted) for one, wanted in zip(content, columns, strict=True)
        )
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        got = getattr(error, "strerror", None) or type(error).__name__
        raise FindingsError(f"{folder} is not a findings folder", got=got, do="Name a folder scan wrote.") from error
    share = members["membership"]
    sound = pc.and_kleene(pc.is_valid(share), pc.and_kleene(pc.greater_equal(share, 0), pc.less_equal(share, 1)))
    members = members.filter(pc.and_kleene(sound, pc.is_valid(members["account_id"])))
    hashed = hashlib.sha256()
    for one in content:
        hashed.update(hashlib.sha256(one).digest())
    return campaigns, members, hashed.hexdigest()
