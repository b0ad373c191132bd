"""raw: what every reader yields before the canonical schema is imposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillwatch.ingest.cast import Cells

BATCH_ROWS = 65_536
BATCH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Columns:
    """A file's columns by dotted name; `chats` hold conversations; `n_rows` where the file itself says it."""

    names: tuple[str, ...]
    chats: frozenset[str] = frozenset()
    n_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Some rows of a file: canonical name -> values of any type, and what did not become a row, by name.

    `done_bytes` is how far into the stored file, or its own part of it, the reader has come; `n_joined` rows completed
    rows of other files.
    """

    cells: Mapping[str, Cells] = field(default_factory=dict)
    n_rows: int = 0
    n_outside: int = 0
    n_joined: int = 0
    done_bytes: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
