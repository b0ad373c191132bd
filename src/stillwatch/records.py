"""records: the seven nouns and their Arrow schemas, versioned.

Each noun is a frozen dataclass beside the Arrow schema it has in bulk. In bulk it is always Arrow; the
dataclass reads one row. Text never enters a schema below except in `EXCHANGES`, which is what logs hold.

| noun     | one row is                                                       | schema                         |
| -------- | ---------------------------------------------------------------- | ------------------------------ |
| Exchange | one request and its answer                                       | `EXCHANGES`, reduced: `FACTS`  |
| Profile  | what is remembered of one account, bounded, without text         | `PROFILES`                     |
| Trait    | something an account shows that others may share                 | `TRAITS`                       |
| Campaign | accounts acting as one                                           | `CAMPAIGNS`, `LEADS`, `MEMBERS` |
| Evidence | one finding about a campaign, an account, a data set or a model  | `EVIDENCE`, `EVIDENCE_ROWS`    |
| Decision | what the gate does with one request                              | `DECISIONS`                    |
| Dossier  | what a court, a colleague or a partner reads                     | `DOSSIERS`                     |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self

import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of every schema in this file; written into the metadata of each Parquet file."""

TIMESTAMP = pa.timestamp("us", tz="UTC")

MESSAGE = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])

ROWS_PER_PROFILE = 128
"""Exchanges a Profile keeps as a uniform sample (bottom-k by keyed row id)."""

PROMPTS_PER_PROFILE = 64
"""Distinct prompts a Profile keeps as a coordinated sample (bottom-k by keyed prompt hash)."""

HOURS_PER_WEEK = 168
LOG_BINS = 32


def _schema(name: str, *columns: tuple[str, pa.DataType]) -> pa.Schema:
    metadata = {b"stillwatch": name.encode(), b"version": str(SCHEMA_VERSION).encode()}
    return pa.schema([pa.field(column, kind) for column, kind in columns], metadata=metadata)


class _Row:
    """A noun that can be read from one row of its schema."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read one row; keys the noun does not have are ignored."""
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in row.items() if name in names})


# --- Exchange ---------------------------------------------------------------------------------------------

EXCHANGES = _schema(
    "exchanges",
    ("account_id", pa.string()),
    ("ts", TIMESTAMP),
    ("exchange_id", pa.string()),
    ("api_key_id", pa.string()),
    ("end_user", pa.string()),
    ("session_id", pa.string()),
    ("model", pa.string()),
    ("access_path", pa.string()),
    ("status", pa.string()),
    ("system_prompt", pa.string()),
    ("prompt", pa.string()),
    ("messages", pa.list_(MESSAGE)),
    ("completion", pa.string()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("reasoning_tokens", pa.int64()),
    ("max_tokens", pa.int64()),
    ("temperature", pa.float64()),
    ("tool_names", pa.list_(pa.string())),
    ("tool_calls", pa.int64()),
    ("stop_reason", pa.string()),
    ("ip", pa.string()),
    ("user_agent", pa.string()),
    ("tls_fingerprint", pa.string()),
)
"""The canonical columns of a log. Only `account_id` and `ts` are required; the rest may be absent or null."""

REQUIRED_EXCHANGE_COLUMNS = ("account_id", "ts")

ACCOUNTS = _schema(
    "accounts",
    ("account_id", pa.string()),
    ("created_at", TIMESTAMP),
    ("org_id", pa.string()),
    ("email_domain", pa.string()),
    ("email_hash", pa.string()),
    ("phone_hash", pa.string()),
    ("payment_fingerprint", pa.string()),
    ("payment_bin", pa.string()),
    ("country", pa.string()),
    ("plan", pa.string()),
    ("identity_level", pa.string()),
    ("is_reseller", pa.bool_()),
)
"""The canonical columns of an accounts file. Only `account_id` is required."""

FACTS = _schema(
    "facts",
    ("account", pa.uint64()),
    ("account_id", pa.string()),
    ("row_id", pa.uint64()),
    ("exchange", pa.uint64()),
    ("ts", pa.int64()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("model", pa.uint64()),
    ("network", pa.uint64()),
    ("client", pa.uint64()),
    ("system", pa.uint64()),
    ("head", pa.uint64()),
    ("tail", pa.uint64()),
    ("prompt", pa.uint64()),
    ("script", pa.uint8()),
)
"""An Exchange without its text: every identifier but the account's a keyed hash, 0 where the log said nothing.

`ts` is microseconds since 1970 in UTC; token counts are -1 where unknown; `script` is the prompt's writing system, used
only to compare an account with those who share it."""


@dataclass(frozen=True, slots=True)
class Exchange(_Row):
    """One request and its answer, as a log gives it."""

    account_id: str
    ts: datetime
    exchange_id: str | None = None
    api_key_id: str | None = None
    end_user: str | None = None
    session_id: str | None = None
    model: str | None = None
    access_path: str | None = None
    status: str | None = None
    system_prompt: str | None = None
    prompt: str | None = None
    messages: list[dict[str, str]] | None = None
    completion: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    tool_names: list[str] | None = None
    tool_calls: int | None = None
    stop_reason: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    tls_fingerprint: str | None = None


# --- Profile ----------------------------------------------------------------------------------------------

PROFILES = _schema(
    "profiles",
    ("account", pa.uint64()),
    ("account_id", pa.string()),
    ("n_exchanges", pa.int64()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("first_ts", pa.int64()),
    ("last_ts", pa.int64()),
    ("rhythm", pa.list_(pa.uint32(), HOURS_PER_WEEK)),
    ("input_log2", pa.list_(pa.uint32(), LOG_BINS)),
    ("output_log2", pa.list_(pa.uint32(), LOG_BINS)),
    ("rows", pa.list_(pa.uint64())),
    ("rows_model", pa.list_(pa.uint64())),
    ("rows_network", pa.list_(pa.uint64())),
    ("rows_client", pa.list_(pa.uint64())),
    ("rows_system", pa.list_(pa.uint64())),
    ("rows_head", pa.list_(pa.uint64())),
    ("rows_tail", pa.list_(pa.uint64())),
    ("rows_script", pa.list_(pa.uint8())),
    ("prompts", pa.list_(pa.uint64())),
    ("prompt_counts", pa.list_(pa.uint32())),
)
"""One account's mergeable sketch (Law 1). `rows*` are parallel lists: the exchanges with the `ROWS_PER_PROFILE`
smallest row ids, ascending, with their keys; `prompts` are the `PROMPTS_PER_PROFILE` smallest prompt keys, ascending,
with exact counts. Token sums leave unknown counts out."""


@dataclass(frozen=True, slots=True)
class Profile(_Row):
    """What is remembered of one account: counters, histograms and two bounded samples; no text."""

    account: int
    account_id: str
    n_exchanges: int
    input_tokens: int
    output_tokens: int
    first_ts: int
    last_ts: int
    rhythm: list[int]
    input_log2: list[int]
    output_log2: list[int]
    rows: list[int]
    prompts: list[int]
    prompt_counts: list[int]


# --- Trait ------------------------------------------------------------------------------------------------

TRAITS = _schema(
    "traits",
    ("campaign_id", pa.string()),
    ("trait_key", pa.string()),
    ("kind", pa.string()),
    ("origin", pa.string()),
    ("n_inside", pa.int64()),
    ("n_outside", pa.int64()),
    ("expected", pa.float64()),
)


@dataclass(frozen=True, slots=True)
class Trait(_Row):
    """Something an account shows that others may share; a hub where accounts meet.

    `origin` is `provider` where the provider observed it (payment, sign-up, time) and `client` where the other
    side chose it (prompts, user agents, proxies): a client can copy a victim's traits, so they never suffice alone.
    """

    campaign_id: str
    trait_key: str
    kind: str
    origin: str
    n_inside: int
    n_outside: int
    expected: float


# --- Campaign ---------------------------------------------------------------------------------------------

_GROUP = (
    ("campaign_id", pa.string()),
    ("verdict", pa.string()),
    ("n_accounts", pa.int64()),
    ("n_exchanges", pa.int64()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("first_seen", TIMESTAMP),
    ("last_seen", TIMESTAMP),
    ("operator_bits", pa.float64()),
    ("harvest_bits", pa.float64()),
    ("e_log2", pa.float64()),
    ("q_value", pa.float64()),
    ("best_innocent", pa.string()),
    ("innocent_margin_bits", pa.float64()),
    ("capabilities", pa.map_(pa.string(), pa.float64())),
    ("not_examined", pa.list_(pa.string())),
)

CAMPAIGNS = _schema("campaigns", *_GROUP)

LEADS = _schema("leads", *_GROUP, ("failed_bar", pa.string()), ("shortfall", pa.float64()))
"""Groups not reported, with the bar each missed by most and by how much (in that bar's own unit)."""

MEMBERS = _schema(
    "members",
    ("campaign_id", pa.string()),
    ("account_id", pa.string()),
    ("membership", pa.float64()),
    ("n_exchanges", pa.int64()),
    ("bits", pa.float64()),
)

EXPLANATIONS = _schema(
    "explanations",
    ("campaign_id", pa.string()),
    ("hypothesis", pa.string()),
    ("bits", pa.float64()),
    ("would_change", pa.string()),
)
"""`bits`: by how much the evidence that this innocent hypothesis cannot account for still speaks for a campaign."""

VERDICTS = ("campaign", "lead", "shared_access", "declared", "single_account", "cannot_tell")


@dataclass(frozen=True, slots=True)
class Campaign(_Row):
    """Accounts acting as one, or a group that was weighed and not reported."""

    campaign_id: str
    verdict: str
    n_accounts: int
    n_exchanges: int
    input_tokens: int
    output_tokens: int
    first_seen: datetime
    last_seen: datetime
    operator_bits: float
    harvest_bits: float
    e_log2: float
    q_value: float
    best_innocent: str
    innocent_margin_bits: float
    capabilities: dict[str, float]
    not_examined: list[str]


# --- Evidence ---------------------------------------------------------------------------------------------

EVIDENCE = _schema(
    "evidence",
    ("evidence_id", pa.string()),
    ("subject_kind", pa.string()),
    ("subject_id", pa.string()),
    ("signal", pa.string()),
    ("family", pa.string()),
    ("statistic", pa.float64()),
    ("n", pa.int64()),
    ("effect", pa.float64()),
    ("lo", pa.float64()),
    ("hi", pa.float64()),
    ("null_id", pa.string()),
    ("p_log10", pa.float64()),
    ("e_log2", pa.float64()),
    ("h1", pa.string()),
    ("h0", pa.string()),
    ("settings_hash", pa.string()),
    ("detail", pa.string()),
)
"""One schema for detection, marks, audit and compare. `p_log10` and `e_log2` may be null; `detail` is versioned JSON."""

EVIDENCE_ROWS = _schema(
    "evidence_rows",
    ("evidence_id", pa.string()),
    ("account_id", pa.string()),
    ("row_id", pa.string()),
    ("role", pa.string()),
    ("n_total", pa.int64()),
)
"""The rows a piece of Evidence rests on: a bottom-k sample, with the total it was drawn from."""


@dataclass(frozen=True, slots=True)
class Evidence(_Row):
    """One finding about a campaign, an account, a data set or a model, with its null named."""

    evidence_id: str
    subject_kind: str
    subject_id: str
    signal: str
    family: str
    statistic: float
    n: int
    effect: float
    lo: float
    hi: float
    null_id: str
    p_log10: float | None
    e_log2: float | None
    h1: str
    h0: str
    settings_hash: str
    detail: str


# --- Decision and Dossier ---------------------------------------------------------------------------------

DECISIONS = _schema(
    "decisions",
    ("decision_id", pa.string()),
    ("ts", TIMESTAMP),
    ("account_id", pa.string()),
    ("action", pa.string()),
    ("reason", pa.string()),
    ("retry_after_ms", pa.int64()),
    ("appeal_id", pa.string()),
    ("policy_version", pa.string()),
)

ACTIONS = ("allow", "allow_limited", "slow", "step_up", "deny", "mark")


@dataclass(frozen=True, slots=True)
class Decision(_Row):
    """What the gate does with one request, and why."""

    decision_id: str
    ts: datetime
    account_id: str
    action: str
    reason: str
    retry_after_ms: int | None = None
    appeal_id: str | None = None
    policy_version: str | None = None


DOSSIERS = _schema(
    "dossiers",
    ("dossier_id", pa.string()),
    ("campaign_id", pa.string()),
    ("created_at", TIMESTAMP),
    ("run_sha256", pa.string()),
    ("format", pa.string()),
    ("sha256", pa.string()),
)


@dataclass(frozen=True, slots=True)
class Dossier(_Row):
    """What a court, a colleague or a partner reads: a rendered account of one campaign, bound to its run."""

    dossier_id: str
    campaign_id: str
    created_at: datetime
    run_sha256: str
    format: str
    sha256: str


FINDINGS = {
    "campaigns": CAMPAIGNS,
    "leads": LEADS,
    "members": MEMBERS,
    "evidence": EVIDENCE,
    "evidence_rows": EVIDENCE_ROWS,
    "traits": TRAITS,
    "explanations": EXPLANATIONS,
}
"""The Parquet files of a findings folder, by stem."""

NOUNS: dict[type[_Row], pa.Schema] = {
    Exchange: EXCHANGES,
    Profile: PROFILES,
    Trait: TRAITS,
    Campaign: CAMPAIGNS,
    Evidence: EVIDENCE,
    Decision: DECISIONS,
    Dossier: DOSSIERS,
}
