"""channels: what a log may carry, what each channel is worth to a scan, and what turns it on.

The worth was measured: the campaigns of five small worlds were looked for with one channel taken away
(`benchmarks/channels.py`; the table is `benchmarks/channels.md`). It says what a channel was worth there, where the
campaign shares its payment, its networks and its wording; another campaign may hang on another channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

N_PLANTED, N_NAMED = 600, 599
"""Accounts planted in the worlds of the benchmark, all together, and those named with every channel there."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: the columns any of which bring it, what a scan reads in it, and its measured worth.

    `n_named` of `N_PLANTED` accounts were named without it; None where that was not measured.
    """

    name: str
    columns: tuple[str, ...]
    tells: str
    in_logs: bool = True
    n_named: int | None = None


CHANNELS = (
    Channel("account", ("account_id",), "whose request it is; nothing can be scanned without"),
    Channel("time", ("ts",), "when it came; nothing can be scanned without"),
    Channel("prompts", ("prompt",), "templates, work lists: the harvest itself", n_named=0),
    Channel("system prompts", ("system_prompt",), "the program behind the accounts", n_named=597),
    Channel("networks", ("ip",), "shared exits", n_named=599),
    Channel("clients", ("user_agent", "tls_fingerprint"), "shared software", n_named=599),
    Channel("tokens", ("input_tokens", "output_tokens"), "how much was taken", n_named=600),
    Channel("models", ("model",), "what was taken from", n_named=600),
    Channel("exchange ids", ("exchange_id",), "copies of a row count once"),
    Channel("answers", ("completion",), "what was given away; not weighed by this version"),
    Channel("end users", ("end_user",), "customers behind a reseller; not weighed by this version"),
    Channel("sessions", ("session_id",), "which requests belong together; not weighed by this version"),
    Channel("accounts file", ("payment_fingerprint", "phone_hash", "email_hash", "org_id", "created_at"),
            "who pays, who signed up and when; clients cannot choose these", in_logs=False, n_named=600),
)  # fmt: skip


@dataclass(slots=True)
class Coverage:
    """How many rows of a log hold a value in each canonical column."""

    n_rows: int = 0
    filled: Counter[str] = field(default_factory=Counter)

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Count the rows of some batches."""
        for batch in batches:
            self.n_rows += batch.num_rows
            for name in batch.schema.names:
                self.filled[name] += batch.num_rows - batch.column(name).null_count

    def share(self, channel: Channel) -> float:
        """The share of rows with a value in the fullest of the channel's columns, from 0 to 1."""
        return max(self.filled[name] for name in channel.columns) / self.n_rows if self.n_rows else 0.0
