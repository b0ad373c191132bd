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
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of every schema in this file; written into the metadata of each Parquet file."""

TIMESTAMP = pa.timestamp("us", tz="UTC")


def instant(us: int) -> datetime:
    """The instant so many microseconds after 1970 in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


MESSAGE = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])

ROWS_PER_PROFILE = 128
"""Exchanges a Profile keeps as a uniform sample (bottom-k by keyed row id)."""

PROMPTS_PER_PROFILE = 64
"""Distinct prompts a Profile keeps as a coordinated sample (bottom-k by keyed prompt hash)."""

HOURS_PER_WEEK = 168
LOG_BINS = 32


TEXT, WHOLE, REAL, KEY, FLAG = pa.string(), pa.int64(), pa.float64(), pa.uint64(), pa.bool_()


def _schema(name: str, *columns: tuple[pa.DataType, str]) -> pa.Schema:
    metadata = {b"stillwatch": name.encode(), b"version": str(SCHEMA_VERSION).encode()}
    named = [pa.field(column, kind) for kind, names in columns for column in names.split()]
    return pa.schema(named, metadata=metadata)


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
    (TEXT, "account_id"),
    (TIMESTAMP, "ts"),
    (TEXT, "exchange_id api_key_id end_user session_id model access_path status system_prompt prompt"),
    (pa.list_(MESSAGE), "messages"),
    (TEXT, "completion"),
    (WHOLE, "input_tokens output_tokens reasoning_tokens max_tokens"),
    (REAL, "temperature"),
    (pa.list_(pa.string()), "tool_names"),
    (WHOLE, "tool_calls"),
    (TEXT, "stop_reason ip user_agent tls_fingerprint"),
)
"""The canonical columns of a log. Only `account_id` and `ts` are required; the rest may be absent or null."""

REQUIRED_EXCHANGE_COLUMNS = ("account_id", "ts")

ACCOUNTS = _schema(
    "accounts",
    (TEXT, "account_id"),
    (TIMESTAMP, "created_at"),
    (TEXT, "org_id email_domain email_hash phone_hash payment_fingerprint payment_bin country plan identity_level"),
    (FLAG, "is_reseller"),
)
"""The canonical columns of an accounts file. Only `account_id` is required."""

FACTS = _schema(
    "facts",
    (KEY, "account"),
    (TEXT, "account_id"),
    (KEY, "row_id exchange"),
    (WHOLE, "ts input_tokens output_tokens"),
    (KEY, "model network client system head tail prompt conversation"),
    (pa.uint8(), "script"),
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
    (KEY, "account"),
    (TEXT, "account_id"),
    (WHOLE, "n_exchanges input_tokens output_tokens first_ts last_ts"),
    (pa.list_(pa.uint32(), HOURS_PER_WEEK), "rhythm"),
    (pa.list_(pa.uint32(), LOG_BINS), "input_log2 output_log2"),
    (pa.list_(pa.uint64()), "rows rows_model rows_network rows_client rows_system rows_head rows_tail"),
    (pa.list_(pa.uint8()), "rows_script"),
    (pa.list_(pa.uint64()), "prompts"),
    (pa.list_(pa.uint32()), "prompt_counts"),
    (pa.list_(pa.uint64()), "conversations"),
)
"""One account's mergeable sketch (Law 1). `rows*` are parallel lists: the exchanges with the `ROWS_PER_PROFILE`
smallest row ids, ascending, with their keys; `prompts` are the `PROMPTS_PER_PROFILE` smallest prompt keys, ascending,
with exact counts; `conversations` are the smallest keys of openings, as many, ascending. Token sums leave unknown
counts out."""


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
    conversations: list[int]


# --- Trait ------------------------------------------------------------------------------------------------

TRAITS = _schema(
    "traits",
    (TEXT, "campaign_id trait_key kind origin"),
    (WHOLE, "n_inside n_outside"),
    (REAL, "expected"),
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
    (TEXT, "campaign_id verdict"),
    (WHOLE, "n_accounts n_exchanges input_tokens output_tokens"),
    (TIMESTAMP, "first_seen last_seen"),
    (REAL, "operator_bits harvest_bits e_log2 q_value"),
    (TEXT, "best_innocent"),
    (REAL, "innocent_margin_bits"),
    (pa.map_(pa.string(), pa.float64()), "capabilities"),
    (pa.list_(pa.string()), "not_examined"),
)

CAMPAIGNS = _schema("campaigns", *_GROUP)

LEADS = _schema("leads", *_GROUP, (TEXT, "failed_bar"), (REAL, "shortfall"))
"""Groups not reported, with the bar each missed by most and by how much (in that bar's own unit)."""

MEMBERS = _schema(
    "members",
    (TEXT, "campaign_id account_id"),
    (REAL, "membership"),
    (WHOLE, "n_exchanges"),
    (REAL, "bits"),
)

MEMBER_TRAITS = _schema("member_traits", (TEXT, "campaign_id account_id trait_key kind"), (REAL, "share"))
"""Which of the group's traits a member carries: those that show most in its exchanges."""

EXPLANATIONS = _schema(
    "explanations",
    (TEXT, "campaign_id hypothesis"),
    (REAL, "bits"),
    (TEXT, "would_change"),
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
    (TEXT, "evidence_id subject_kind subject_id signal family"),
    (REAL, "statistic"),
    (WHOLE, "n"),
    (REAL, "effect lo hi"),
    (TEXT, "null_id"),
    (REAL, "p_log10 e_log2"),
    (TEXT, "h1 h0 settings_hash detail"),
)
"""One schema for detection, marks, audit, compare; `p_log10` and `e_log2` may be null, `detail` is versioned JSON."""

EVIDENCE_ROWS = _schema(
    "evidence_rows",
    (TEXT, "evidence_id account_id row_id role"),
    (WHOLE, "n_total"),
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
    (TEXT, "decision_id"),
    (TIMESTAMP, "ts"),
    (TEXT, "account_id action reason"),
    (WHOLE, "retry_after_ms"),
    (TEXT, "appeal_id policy_version"),
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
    (TEXT, "dossier_id campaign_id"),
    (TIMESTAMP, "created_at"),
    (TEXT, "run_sha256 format sha256"),
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
    "member_traits": MEMBER_TRAITS,
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
