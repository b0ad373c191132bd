"""digest: an Arrow batch of exchanges in, fixed-width facts out; the only step that reads text.

The kernel every engine maps over every batch. A fact holds keyed hashes, never text, and is the same however
the log was split, ordered or stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillwatch.kernels.hashing import HashKey, combine, hash_lists, hash_numbers, hash_strings, network_keys
from stillwatch.kernels.shingles import prompt_keys, skeleton_keys
from stillwatch.kernels.writing import text_scripts
from stillwatch.records import EXCHANGES, FACTS

UInt64s = npt.NDArray[np.uint64]

TEMPLATE_WORDS = 4
"""Tokens that make a prompt's head or tail: short enough to survive a paraphrased payload."""

SYSTEM_WORDS = 8
"""Tokens that make a system prompt's key: long enough to part `You are a helpful assistant` from its neighbours."""

CLIENT_WORDS = 4
"""Tokens of a user agent that make a client's key; versions are masked as digits."""


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
    column = {name: batch.column(name) for name in batch.schema.names}
    n = batch.num_rows
    nothing = np.zeros(n, np.uint64)

    def keyed(name: str, kernel: Callable[[pa.Array], UInt64s]) -> UInt64s:
        return kernel(column[name]) if name in column else nothing

    def template(name: str, n_words: int) -> tuple[UInt64s, UInt64s]:
        if name not in column:
            return nothing, nothing
        return skeleton_keys(column[name], keys.value, n_words=n_words)

    head, tail = template("prompt", TEMPLATE_WORDS)
    system, _ = template("system_prompt", SYSTEM_WORDS)
    agent, _ = template("user_agent", CLIENT_WORDS)
    tls = keyed("tls_fingerprint", lambda values: hash_strings(values, keys.value))
    client = np.where((agent | tls) != 0, combine([agent, tls], keys.value), nothing)
    whole = [_hash_column(column.get(name), n, keys.row) for name in EXCHANGES.names if name != "exchange_id"]
    facts: dict[str, pa.Array | npt.NDArray[np.generic]] = {
        "account": keyed("account_id", lambda values: hash_strings(values, keys.value)),
        "account_id": column["account_id"].cast(pa.string()),
        "row_id": combine(whole, keys.row),
        "exchange": keyed("exchange_id", lambda values: hash_strings(values, keys.value)),
        "ts": column["ts"].cast(pa.int64()).to_numpy(zero_copy_only=False),
        "input_tokens": _integers(column.get("input_tokens"), n),
        "output_tokens": _integers(column.get("output_tokens"), n),
        "model": keyed("model", lambda values: hash_strings(values, keys.value)),
        "network": keyed("ip", lambda values: network_keys(values, keys.value)),
        "client": client,
        "system": system,
        "head": head,
        "tail": tail,
        "prompt": keyed("prompt", lambda values: prompt_keys(values, keys.value)),
        "script": text_scripts(column["prompt"]) if "prompt" in column else np.zeros(n, np.uint8),
    }
    return pa.RecordBatch.from_arrays([_arrow(facts[name]) for name in FACTS.names], schema=FACTS)


def _arrow(values: pa.Array | npt.NDArray[np.generic]) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values)


def _hash_column(values: pa.Array | None, n: int, key: HashKey) -> UInt64s:
    if values is None:
        return np.zeros(n, np.uint64)
    if pa.types.is_nested(values.type) and not pa.types.is_dictionary(values.type):
        return hash_lists(values, key)
    if pa.types.is_primitive(values.type):
        return hash_numbers(values, key)
    return hash_strings(values, key)


def _integers(values: pa.Array | None, n: int) -> npt.NDArray[np.int64]:
    if values is None:
        return np.full(n, -1, np.int64)
    filled: npt.NDArray[np.int64] = values.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.maximum(filled, -1)
