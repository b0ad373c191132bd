"""digest: an Arrow batch of exchanges in, fixed-width facts out; the only step that reads text.

The kernel every engine maps over every batch. A fact holds keyed hashes, never text, and is the same however
the log was split, ordered or stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.kernels.hashing import HashKey, combine, hash_lists, hash_numbers, hash_strings, network_keys
from stillwatch.kernels.openings import opening_keys
from stillwatch.kernels.shingles import skeleton_keys
from stillwatch.kernels.writing import text_scripts
from stillwatch.records import EXCHANGES, FACTS

UInt64s = npt.NDArray[np.uint64]

TEMPLATE_WORDS = 4
"""Tokens that make a prompt's head or tail: short enough to survive a paraphrased payload."""

SYSTEM_WORDS = 8
"""Tokens that make a system prompt's key: long enough to part `You are a helpful assistant` from its neighbours."""

CLIENT_WORDS = 4
"""Tokens of a user agent that make a client's key; versions are masked as digits."""

UPPER = np.uint64(0xFFFFFFFF00000000)
"""The half of a client's key that its user agent makes; its TLS fingerprint makes the other."""


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The two hash keys of the row kernels, cut from the `rows` subkey."""

    value: HashKey
    row: HashKey

    @classmethod
    def from_subkey(cls, subkey: bytes) -> RowKeys:
        """Cut a 32-byte subkey into the two keys."""
        return cls(HashKey.from_bytes(subkey[:16]), HashKey.from_bytes(subkey[16:32]))


def digest(batch: pa.RecordBatch, *, keys: RowKeys) -> pa.RecordBatch:
    """Reduce exchanges to facts.

    Args:
        batch: canonical columns of `records.EXCHANGES`; all but `account_id` and `ts` may be missing.
        keys: the row keys.

    Returns:
        One row of `records.FACTS` per exchange, in the order of the batch.

    Cost: one pass over the bytes of the batch; no Python object per row.
    """
    column = {name: values for name, values in zip(batch.schema.names, batch.columns, strict=True) if _told(values)}
    n = batch.num_rows
    nothing = np.zeros(n, np.uint64)
    hashed = {name: _hash_column(values, keys.value) for name, values in column.items()}

    def template(name: str, n_words: int) -> tuple[UInt64s, UInt64s]:
        if name not in column:
            return nothing, nothing
        values = column[name]
        # Agents and system prompts repeat within a batch; prompts do not.
        if name != "prompt" and not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        return skeleton_keys(values, keys.value, n_words=n_words)

    head, tail = template("prompt", TEMPLATE_WORDS)
    agent, tls = template("user_agent", CLIENT_WORDS)[0], hashed.get("tls_fingerprint", nothing)
    content = [hashed.get(name) for name in EXCHANGES.names if name != "exchange_id"]
    facts: dict[str, pa.Array | npt.NDArray[np.generic]] = {
        "account": hashed["account_id"],
        "account_id": column["account_id"].cast(pa.string()),
        "row_id": combine(content, keys.row),
        "exchange": hashed.get("exchange_id", nothing),
        "ts": column["ts"].cast(pa.int64()).to_numpy(zero_copy_only=False),
        "input_tokens": _integers(column.get("input_tokens"), n),
        "output_tokens": _integers(column.get("output_tokens"), n),
        "model": hashed.get("model", nothing),
        "network": network_keys(column["ip"], keys.value) if "ip" in column else nothing,
        "client": (agent & UPPER) | (tls >> np.uint64(32)),
        "system": template("system_prompt", SYSTEM_WORDS)[0],
        "head": head,
        "tail": tail,
        "prompt": hashed.get("prompt", nothing),
        "conversation": opening_keys(column["messages"], keys.value) if "messages" in column else nothing,
        "script": text_scripts(column["prompt"]) if "prompt" in column else np.zeros(n, np.uint8),
    }
    return pa.RecordBatch.from_arrays([_arrow(facts[name]) for name in FACTS.names], schema=FACTS)


def client_parts(client: UInt64s) -> tuple[UInt64s, UInt64s]:
    """The halves of clients' keys that are the user agent's and the TLS fingerprint's, 0 where it was not told."""
    return client & UPPER, client & ~UPPER


def _arrow(values: pa.Array | npt.NDArray[np.generic]) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values)


def _told(values: pa.Array) -> bool:
    return bool(values.null_count < len(values))


def _hash_column(values: pa.Array, key: HashKey) -> UInt64s:
    if pa.types.is_nested(values.type):
        return hash_lists(values, key)
    if pa.types.is_primitive(values.type):
        return hash_numbers(values, key)
    return hash_strings(values, key)


def _integers(values: pa.Array | None, n: int) -> npt.NDArray[np.int64]:
    if values is None:
        return np.full(n, -1, np.int64)
    filled: npt.NDArray[np.int64] = values.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.maximum(filled, -1)
