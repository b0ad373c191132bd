"""footer: what the footer of a Parquet file says of its row groups, as DuckDB reads it.

Not as Arrow reads it: asked for the statistics of a damaged footer, Arrow's reader ends the process. What stands here
is advice: which row groups to read, and how. Without it a file is read whole and all the same.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.interrupts import interruptible
from stillwatch.ingest.times import read_times

_WORTH_BYTES = 1 << 20
"""A smaller file is read sooner than its footer is asked."""

_QUERY = """
    select row_group_id, row_group_num_rows, path_in_schema, total_uncompressed_size,
        dictionary_page_offset is not null, stats_min_value, stats_max_value, stats_null_count, num_values
    from parquet_metadata(?) order by row_group_id, column_id
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group: bytes once unpacked, and the range of its values as text where it is known.

    `n_values` are those of all lists together where the column lies inside of lists.
    """

    n_bytes: int
    has_dictionary: bool
    first: str | None
    last: str | None
    n_null: int | None
    n_values: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Some rows of a file that are stored together; `chunks` by dotted name of the leaf column."""

    n_rows: int
    chunks: dict[str, Chunk]

    def n_bytes(self, names: Sequence[str]) -> int:
        """Bytes of these columns, with all that is nested in them, once unpacked."""
        roots = tuple(f"{name}." for name in names)
        return sum(chunk.n_bytes for path, chunk in self.chunks.items() if f"{path}.".startswith(roots))

    def is_outside(self, window: Window, ts: str) -> bool:
        """Whether no row can lie in the window; where an instant may be null it can, so that such rows are counted."""
        chunk = self.chunks.get(ts)
        if chunk is None or chunk.first is None or chunk.last is None or chunk.n_null != 0:
            return False
        times = read_times(pa.array([chunk.first, chunk.last]))
        first, last = times.us.tolist()
        late = window.until is not None and first >= window.until
        return bool(times.valid.all()) and (late or (window.since is not None and last < window.since))


def read_footer(file: LogFile, *, n_rows: int, is_nested: bool) -> list[RowGroup]:
    """The row groups of a file; none where the file is small, or its footer does not speak of `n_rows` rows.

    A small file may stand for gigabytes where its texts are nested: `is_nested` reads the footer all the same.
    """
    if file.n_bytes < _WORTH_BYTES and not is_nested:
        return []
    try:
        with interruptible(), duckdb.connect(config={"threads": 1}) as connection:
            rows = connection.execute(_QUERY, [glob.escape(str(file.path.absolute()))]).fetchall()
    except (duckdb.Error, UnicodeError):
        return []
    groups: dict[int, RowGroup] = {}
    for at, n, path, *chunk in rows:
        groups.setdefault(at, RowGroup(n, {})).chunks[path.replace(", ", ".")] = Chunk(*chunk)
    found = [groups[at] for at in sorted(groups)]
    return found if sum(group.n_rows for group in found) == n_rows else []
