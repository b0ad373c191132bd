"""engine: the seam between kernels and the machinery that runs them.

An Engine maps a kernel over the batches of a source, shuffles the results by account, and reduces each share of the
accounts with a second kernel. It holds no opinion about what the kernels compute; any Engine gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import pyarrow as pa

Map = Callable[[pa.RecordBatch], pa.RecordBatch]
"""A kernel over one batch; must not depend on where a batch begins or ends."""

Reduce = Callable[[pa.Table], pa.Table]
"""A kernel over all rows of some accounts; never sees part of an account."""


class Shards(Protocol):
    """Mapped rows, each account in one shard only."""

    @property
    def n_rows(self) -> int:
        """Rows held."""
        ...

    def reduce(self, kernel: Reduce) -> pa.Table:
        """Run a kernel over every shard and return all results, in no particular order."""
        ...

    def close(self) -> None:
        """Give back memory and disk."""
        ...


class Engine(Protocol):
    """Runs kernels over Arrow batches."""

    def shuffle(self, batches: Iterable[pa.RecordBatch], kernel: Map, *, by: str) -> Shards:
        """Map `kernel` over `batches` and gather rows whose uint64 column `by` is equal into one shard."""
        ...

    def map(self, batches: Iterable[pa.RecordBatch], kernel: Callable[[pa.RecordBatch], pa.Table]) -> list[pa.Table]:
        """Map a kernel whose results are few over `batches`; results in no particular order."""
        ...
