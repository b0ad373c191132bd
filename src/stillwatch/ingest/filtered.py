"""filtered: the prompts of a few accounts straight out of a Parquet file, through DuckDB's join.

DuckDB passes over the prompts of everybody else without building them. Where it cannot read a file, the caller reads
it whole: these rows are a hint about speed, never about content.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.interrupts import interruptible

_ROWS_AT_ONCE = 16_384

_QUERY = """
select {account} as account_id, {prompt} as prompt from read_parquet(?)
where {account} in (select account_id from wanted) and {prompt} is not null
"""


def can_filter(file: LogFile, sources: Mapping[str, str]) -> bool:
    """Whether both columns stand in the file as plain text of their own, and no conversation fills in for a prompt."""
    if file.format != "parquet" or "messages" in sources or not {"account_id", "prompt"} <= set(sources):
        return False
    try:
        schema = pq.read_schema(file.path)
    except (OSError, pa.ArrowException):
        return False
    text = {field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)}
    return sources["account_id"] in text and sources["prompt"] in text


class FilteredReader:
    """One DuckDB connection that knows the accounts named; one thread, so that others can weigh what it has read."""

    def __init__(self, accounts: pa.Array) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.register("wanted", pa.table({"account_id": accounts}))

    def read(self, file: LogFile, sources: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
        """Batches of `account_id` and `prompt` of the accounts; raises duckdb.Error where DuckDB cannot read them."""
        account, prompt = ('"' + sources[name].replace('"', '""') + '"' for name in ("account_id", "prompt"))
        query = _QUERY.format(account=account, prompt=prompt)
        path = glob.escape(str(file.path.absolute()))
        with interruptible():
            reader = self._connection.sql(query, params=[path]).to_arrow_reader(_ROWS_AT_ONCE)
        while True:
            with interruptible():
                batch = next(reader, None)
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        """Give back the connection."""
        self._connection.close()
