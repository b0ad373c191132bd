"""join: one request told by two logs: an access log completes the exchange that a gateway logged, by their shared id.

What is told aside (who connected, from where; or, in OpenTelemetry, what was said) fills the columns that the exchange
lacks and overwrites none. An id that stands for several different connections joins nothing, since a client may choose
its own. Rows that completed an exchange are no exchanges; the rest are delivered as what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.ingest import imported
from stillwatch.ingest.cast import cast
from stillwatch.ingest.conform import Window
from stillwatch.ingest.discover import LogFile
from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, Importer
from stillwatch.ingest.raw import Raw
from stillwatch.kernels.hashing import HashKey, hash_strings
from stillwatch.records import EXCHANGES

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_ALL = Window(since=None, until=None, latest=0)
_FACTS = ("account_id", "ip", "user_agent", "tls_fingerprint")
_OWN = frozenset({"ts", "exchange_id"})
_KEY = HashKey(0, 0)
"""Any key does: what it finds is compared."""


class Join:
    """The rows of some files that are told aside, held in memory (about 200 bytes each, without text)."""

    def __init__(self, files: Sequence[tuple[LogFile, Importer]]) -> None:
        self._files = tuple(files)
        self._table: pa.Table | None = None
        self._hashes: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._sure: Bools = np.zeros(0, np.bool_)
        self._used: Bools = np.zeros(0, np.bool_)

    def complete(self, raws: Iterable[Raw], *, are_exchanges: bool = True) -> Iterator[Raw]:
        """The raw batches, each row completed; rows that completed another are left out and counted.

        So are rows told aside that completed none, where these are no exchanges themselves.
        """
        if self._table is None:
            self._gather()
        for raw in raws:
            yield self._completed(raw, are_exchanges) if raw.n_rows and _ids(raw) else raw

    def _completed(self, raw: Raw, are_exchanges: bool) -> Raw:
        aside = np.array([bool(value) for value in raw.cells.get(ASIDE, [False] * raw.n_rows)])
        cells = dict(raw.cells)
        for ids in _ids(raw):
            at = self._find(ids)
            own = np.flatnonzero((at >= 0) & ~aside)
            self._used[at[own]] = True
            if len(own):
                self._fill(cells, own, at[own], raw.n_rows)
        at = self._find(_key(raw))
        gone = aside & (at >= 0) & self._used[np.maximum(at, 0)] if len(self._used) else np.zeros(len(aside), np.bool_)
        n_gone = int(np.count_nonzero(gone))
        none = np.zeros(len(aside), np.bool_) if are_exchanges else aside & ~gone
        n_none = int(np.count_nonzero(none))
        if not n_gone and not n_none:
            return replace(raw, cells=cells)
        kept = np.flatnonzero(~(gone | none))
        cells = {name: _taken(values, kept) for name, values in cells.items()}
        return replace(
            raw, cells=cells, n_rows=len(kept), n_joined=n_gone,
            notes=Counter(raw.notes) + Counter(joined_by_request_id=n_gone),
            rejects=Counter(raw.rejects) + Counter(not_an_exchange=n_none),
        )  # fmt: skip

    def _fill(self, cells: dict[str, list[Any]], own: Ints, at: Ints, n_rows: int) -> None:
        assert self._table is not None
        for name in self._table.column_names:
            if name not in (REQUEST, *_OWN):
                values = self._table.column(name).take(pa.array(at)).to_pylist()
                column = _values(cells.get(name), n_rows)
                cells[name] = column
                for row, value in zip(own.tolist(), values, strict=True):
                    if column[row] is None:
                        column[row] = value

    def _find(self, ids: pa.Array) -> Ints:
        """For each id the row of the table that tells of it alone; -1 where there is none."""
        assert self._table is not None
        if not len(self._hashes):
            return np.full(len(ids), -1, np.int64)
        hashes = hash_strings(ids, _KEY)
        at = np.searchsorted(self._hashes, hashes).astype(np.int64)
        inside = np.minimum(at, len(self._hashes) - 1)
        same = pc.equal(self._table.column(REQUEST).take(pa.array(inside)).combine_chunks(), ids).fill_null(False)
        return np.where(np.asarray(same) & self._sure[inside], inside, -1)

    def _gather(self) -> None:
        parts, own = [], []
        for file, importer in self._files:
            for raw in imported.read(file, importer, EXCHANGES.names, window=_ALL, threads=1):
                if _ids(raw):
                    flags = raw.cells.get(ASIDE, [False] * raw.n_rows)
                    keys = _key(raw).to_pylist()
                    rows = [n for n, flag in enumerate(flags) if flag and keys[n] is not None]
                    own += [ids.filter(pa.array([not flag for flag in flags], pa.bool_())) for ids in _ids(raw)]
                    if rows:
                        parts.append(_canonical({**raw.cells, REQUEST: keys}, rows))
        if not parts:
            self._table = pa.table({REQUEST: pa.array([], pa.string())})
            return
        table = pa.concat_tables(parts, promote_options="default").combine_chunks()
        hashes = hash_strings(table.column(REQUEST).combine_chunks(), _KEY)
        ts = table.column("ts").cast(pa.int64()).fill_null(0).to_numpy()
        order = np.lexsort((ts, hashes))
        self._table = table.take(pa.array(order)).combine_chunks()
        self._hashes = hashes[order]
        self._sure = self._unanimous()
        self._used = np.zeros(len(order), np.bool_)
        # Within a file what is told aside may stand before its exchange.
        for ids in own:
            at = self._find(ids)
            self._used[at[at >= 0]] = True

    def _unanimous(self) -> Bools:
        """Of each row whether all rows of its id tell of the same connection."""
        assert self._table is not None
        first = np.searchsorted(self._hashes, self._hashes).astype(np.int64)
        differs = np.zeros(len(first), np.bool_)
        for name in (REQUEST, *_FACTS):
            if name in self._table.column_names:
                column = self._table.column(name).combine_chunks().fill_null("")
                differs |= ~np.asarray(pc.equal(column, column.take(pa.array(first))))
        return ~np.isin(first, first[differs])


def _canonical(cells: Mapping[str, Any], rows: Sequence[int]) -> pa.Table:
    """Some rows as a table of canonical columns, those without any value left out."""
    columns = {REQUEST: _texts([cells[REQUEST][row] for row in rows])}
    for field in EXCHANGES:
        values = _taken(cells[field.name], rows) if field.name in cells else []
        n_told = len(values) - (values.null_count if isinstance(values, pa.Array) else values.count(None))
        if field.name == "ts" or n_told:
            columns[field.name] = cast(values, field.type, field.name, Counter())[0]
    return pa.table(columns)


def _ids(raw: Raw) -> list[pa.Array]:
    """The ids by which exchanges are told aside: that of the request, then that of the span."""
    return [_texts(raw.cells[name]) for name in (REQUEST, SPAN) if name in raw.cells]


def _key(raw: Raw) -> pa.Array:
    """The one id by which each row that is told aside goes."""
    return pc.coalesce(*reversed(_ids(raw)))


def _values(cells: Any, n_rows: int) -> list[Any]:
    if cells is None:
        return [None] * n_rows
    return cells.to_pylist() if isinstance(cells, pa.Array) else list(cells)


def _taken(cells: Any, rows: Ints | Sequence[int]) -> Any:
    return cells.take(pa.array(rows)) if isinstance(cells, pa.Array) else [cells[row] for row in rows]


def _texts(values: Sequence[Any]) -> pa.Array:
    return pa.array([value if isinstance(value, str) else None for value in values], pa.string())
