"""simulating: a log replayed through a policy by the time of its events: who would be hit, before it is switched on.

What a log does not say is not guessed: a call without token counts costs no tokens, one without a model is judged as
such, and logprobs and batches, which no log names, are not asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from stillwatch.policy.budgets_memory import MemoryBudgets
from stillwatch.policy.charging import charges_of
from stillwatch.policy.deciding import decide
from stillwatch.policy.model import Policy
from stillwatch.policy.ruling import REFUSING, Request
from stillwatch.policy.snapshot import Snapshot
from stillwatch.records import instant

COLUMNS = (
    *("account_id", "ts", "model", "ip", "input_tokens", "output_tokens"),
    *("reasoning_tokens", "max_tokens", "tool_calls"),
)
"""What is read of a log."""

N_SHOWN = 20
_TEXTS = ("account_id", "model", "ip")
_PROGRESS_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """What an accounts file says of one account."""

    org_id: str | None = None
    payment_fingerprint: str | None = None
    identity_level: str = "none"


def known_of(accounts: pa.Table) -> dict[str, Known]:
    """What an accounts table (records.ACCOUNTS) says of each account.

    Where it holds no identity level, the account has the highest one that its columns prove: a payment instrument, a
    telephone, an e-mail address. An organisation's name alone proves nothing.
    """
    proofs = (
        ("payment", ("payment_fingerprint",)),
        ("phone", ("phone_hash",)),
        ("email", ("email_hash", "email_domain")),
    )
    names = [name for name in accounts.schema.names if accounts.schema.field(name).type == pa.string()]
    found = {}
    for row in accounts.select(names).to_pylist():
        proven = next((level for level, columns in proofs if any(row.get(one) for one in columns)), "none")
        level = row.get("identity_level") or proven
        found[row["account_id"]] = Known(row.get("org_id"), row.get("payment_fingerprint"), level)
    return found


GROUPS = ("licensed", "verified", "unnamed", "named")
"""Whom a call is from: a licensed account, one of verified organisation, one in no finding, or one a finding names."""


@dataclass(slots=True)
class Hits:
    """What befell the accounts of one group."""

    n_accounts: int = 0
    n_calls: int = 0
    n_accounts_hit: int = 0
    """Accounts with any call that was not simply allowed or marked."""
    n_accounts_refused: int = 0
    n_calls_refused: int = 0
    """Calls that would not have been made at that moment: denied, asked to step up, or over a budget."""


@dataclass(slots=True)
class Simulation:
    """What a policy would have done to a log."""

    policy_version: str
    n_calls: int = 0
    first_us: int = 0
    last_us: int = 0
    by_rule: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by (action, rule)."""
    accounts_by_rule: Counter[tuple[str, str]] = field(default_factory=Counter)
    groups: dict[str, Hits] = field(default_factory=lambda: {name: Hits() for name in GROUPS})
    worst: list[tuple[str, str, int, int, str]] = field(default_factory=list)
    """Accounts in no finding, verified or licensed that lose most: id, group, calls refused, calls, and by which rule
    most of them."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "policy_version": self.policy_version,
            "n_calls": self.n_calls,
            "first": instant(self.first_us).isoformat() if self.n_calls else None,
            "last": instant(self.last_us).isoformat() if self.n_calls else None,
            "rules": [
                {"action": action, "rule": rule, "n_calls": n, "n_accounts": self.accounts_by_rule[action, rule]}
                for (action, rule), n in sorted(self.by_rule.items())
            ],
            "groups": {name: {key: getattr(hits, key) for key in Hits.__slots__} for name, hits in self.groups.items()},
            "worst": [
                dict(zip(("account_id", "group", "n_calls_refused", "n_calls", "rule"), row, strict=True))
                for row in self.worst
            ],
        }


@dataclass(slots=True)
class _Account:
    group: str
    n_calls: int = 0
    n_hit: int = 0
    n_refused: int = 0
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusing: Counter[str] = field(default_factory=Counter)
    """Calls refused, by the rule that refused them."""


def in_order(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """The calls of a log by time, of equal times by account, whatever order and pieces they came in.

    Cost: all calls are held, about 60 bytes each where names repeat.
    """
    encoded = []
    for batch in batches:
        columns = [
            batch[name].dictionary_encode() if name in _TEXTS else batch[name]
            for name in COLUMNS
            if name in batch.schema.names
        ]
        encoded.append(pa.Table.from_arrays(columns, [name for name in COLUMNS if name in batch.schema.names]))
    if not encoded:
        return pa.table({"account_id": pa.array([], pa.string()), "ts": pa.array([], pa.timestamp("us", tz="UTC"))})
    table = pa.concat_tables(encoded).unify_dictionaries().combine_chunks()
    names = table["account_id"].cast(pa.string())
    keyed = table.append_column("_name", names)
    return keyed.sort_by([("ts", "ascending"), ("_name", "ascending")]).drop_columns(["_name"])


def simulate_policy(
    calls: pa.Table,
    policy: Policy,
    snapshot: Snapshot,
    *,
    accounts: Mapping[str, Known] | None = None,
    country_of: Callable[[str | None], str | None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Simulation:
    """Replay calls (`in_order`) through a policy as though it were enforced, and its budgets through one process.

    Budgets are full at the first call. A call that is refused is not made, spends nothing, and is not tried again.
    The snapshot acts on the whole log, whenever it was made and when it expires: the question is what it would do.

    Cost: some 20 microseconds a call; memory for each account and each budget's key.
    """
    policy = replace(policy, mode="enforce")
    snapshot = replace(snapshot, expires_us=2**62)
    found, seen = Simulation(policy.version, n_calls=calls.num_rows), dict[str, _Account]()
    clock = [0]
    budgets: MemoryBudgets | None = None
    for n, (request, us) in enumerate(_requests(calls, accounts or {}, country_of)):
        clock[0] = us // 1000
        if budgets is None:
            budgets, found.first_us = MemoryBudgets(lambda: clock[0], is_new=True), us
        found.last_us = us
        _count(seen, found, request, *_outcome(request, policy, snapshot, budgets, str(n)))
        if on_progress and n % _PROGRESS_EVERY == 0:
            on_progress(n, calls.num_rows)
    _conclude(seen, found)
    return found


def _requests(
    calls: pa.Table, accounts: Mapping[str, Known], country_of: Callable[[str | None], str | None] | None
) -> Iterator[tuple[Request, int]]:
    unknown = Known()
    for batch in calls.to_batches(max_chunksize=_PROGRESS_EVERY):
        us = batch["ts"].cast(pa.int64()).to_pylist()
        for at, row in zip(us, batch.drop_columns(["ts"]).to_pylist(), strict=True):
            known = accounts.get(row["account_id"], unknown)
            spent = (row.get("input_tokens") or 0) + (row.get("output_tokens") or 0)
            ip = row.get("ip")
            yield (
                Request(
                    account_id=row["account_id"],
                    now=instant(at),
                    org_id=known.org_id,
                    payment_fingerprint=known.payment_fingerprint,
                    identity_level=known.identity_level,
                    ip=ip,
                    country=country_of(ip) if country_of else None,
                    model=row.get("model"),
                    capability="tools" if (row.get("tool_calls") or 0) > 0 else "chat",
                    features=_REASONING if (row.get("reasoning_tokens") or 0) > 0 else frozenset(),
                    n_tokens=max(0, spent),
                    max_output_tokens=row.get("max_tokens"),
                ),
                at,
            )


_REASONING = frozenset({"reasoning"})


def _outcome(
    request: Request, policy: Policy, snapshot: Snapshot, budgets: MemoryBudgets, lease: str
) -> tuple[str, str, bool, str]:
    """The action, the rule behind it, whether the call is refused, and the caller's group."""
    ruling = decide(request, policy, snapshot)
    verified = request.identity_level == "organisation"
    named = ruling.lineage_id is not None
    group = "licensed" if ruling.licensed else "verified" if verified else "named" if named else "unnamed"
    if ruling.action in REFUSING:
        return ruling.action, ruling.rule, True, group
    outcome = budgets.reserve(lease, charges_of(request, ruling))
    budgets.settle(lease, request.n_tokens)
    if outcome.admitted:
        return ruling.action, ruling.rule, False, group
    name = outcome.refused_by.name if outcome.refused_by else ""
    return "slow" if outcome.retry_after_ms is not None else "deny", f"budget:{name.strip(chr(0x1F))}", True, group


def _count(
    seen: dict[str, _Account], found: Simulation, request: Request, action: str, rule: str, refused: bool, group: str
) -> None:
    account = seen.get(request.account_id)
    if account is None:
        account = seen[request.account_id] = _Account(group)
    # Budgets and licences can change over a log; the better standing is the one a mistake would hurt.
    account.group = min(account.group, group, key=GROUPS.index)
    account.n_calls += 1
    account.n_refused += refused
    account.n_hit += refused or action not in ("allow", "mark")
    account.rules[action, rule] += 1
    account.refusing[rule] += refused
    found.by_rule[action, rule] += 1


def _conclude(seen: dict[str, _Account], found: Simulation) -> None:
    for account in seen.values():
        found.accounts_by_rule.update(account.rules.keys())
        hits = found.groups[account.group]
        hits.n_accounts += 1
        hits.n_calls += account.n_calls
        hits.n_accounts_hit += account.n_hit > 0
        hits.n_accounts_refused += account.n_refused > 0
        hits.n_calls_refused += account.n_refused
    losing = [(name, one) for name, one in seen.items() if one.n_refused and one.group != "named"]
    losing.sort(key=lambda pair: (-pair[1].n_refused, pair[0]))
    for name, one in losing[:N_SHOWN]:
        ((rule, _),) = one.refusing.most_common(1)
        found.worst.append((name, one.group, one.n_refused, one.n_calls, rule))
