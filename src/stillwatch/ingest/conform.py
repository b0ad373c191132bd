"""conform: raw columns in, canonical batches out; a row without account or instant is rejected by name.

One function serves every format, so that the same rows give the same batches whatever file they lay in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.ingest.cast import CHAT, Cells, cast, cast_times
from stillwatch.ingest.times import EARLIEST_US, Bools, Ints
from stillwatch.ingest.values import MOST_TOKENS
from stillwatch.records import EXCHANGES, TIMESTAMP

DERIVED = ("prompt", "system_prompt")
"""Columns that a conversation gives where the log has none of their own."""

_TOKENS = ("input_tokens", "output_tokens")
_TEXTS = frozenset({"prompt", "system_prompt", "completion"})
_STAND_IN = pa.scalar("redacted-by-litellm")
"""What LiteLLM logs for a text that it was told not to log: as a prompt it would be one that whole teams share."""

_SYSTEM_ROLES = pa.array(["system", "developer"])
_USER, _NOTHING = pa.scalar("user", pa.string()), pa.scalar(0, pa.int32())


@dataclass(frozen=True, slots=True)
class Window:
    """Instants in microseconds: wanted are since <= ts < until; what lies after `latest` is not believed."""

    since: int | None
    until: int | None
    latest: int

    @property
    def is_open(self) -> bool:
        """Whether every instant is wanted."""
        return self.since is None and self.until is None

    def outside(self, us: Ints) -> Bools:
        """Which instants the caller did not ask for."""
        out = np.zeros(len(us), np.bool_)
        if self.since is not None:
            out |= us < self.since
        if self.until is not None:
            out |= us >= self.until
        return out


@dataclass(slots=True)
class Tally:
    """What became of the rows: each is delivered, outside the window, or rejected for one reason."""

    n_rows: int = 0
    n_outside: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    filled: set[str] = field(default_factory=set)

    def add(self, other: Tally) -> None:
        """Count the rows of another tally in."""
        self.n_rows += other.n_rows
        self.n_outside += other.n_outside
        self.rejects += other.rejects
        self.notes += other.notes
        self.filled |= other.filled


@dataclass(slots=True)
class Fates:
    """Rows still kept, and how many each reason took; a row is taken once, by the first reason that fits."""

    kept: Bools
    counts: Counter[str] = field(default_factory=Counter)

    def claim(self, reason: str, rows: Bools) -> None:
        """Take the rows still kept among `rows`."""
        self.counts[reason] += int(np.count_nonzero(self.kept & rows))
        self.kept = self.kept & ~rows


def conform(cells: Mapping[str, Cells], *, columns: Sequence[str], window: Window, tally: Tally) -> pa.RecordBatch:
    """The canonical batch of raw columns, which hold `account_id` and `ts`; columns they lack are null.

    A dictionary of sound texts stays one, so that each is checked, hashed and shingled once. Adds to `tally`:
    delivered, outside and rejected rows sum to the rows given. Cost: linear.
    """
    times = cast_times(cells["ts"], "ts", tally.notes)
    account, unreadable = _cast(cells["account_id"], "account_id", tally.notes)
    fates = Fates(np.ones(len(account), np.bool_))
    fates.claim("ts_missing", times.missing)
    fates.claim("ts_not_a_time", ~times.valid)
    fates.claim("outside", window.outside(times.us))
    fates.claim("ts_before_2000", times.us < EARLIEST_US)
    fates.claim("ts_in_the_future", times.us > window.latest)
    fates.claim("account_id_not_text", unreadable)
    fates.claim("account_id_missing", blank(account))
    tally.n_outside += fates.counts.pop("outside")
    tally.rejects += fates.counts

    out = {"account_id": account, "ts": pa.array(times.us).cast(TIMESTAMP)}
    for name in columns:
        if name in cells and name not in out:
            out[name], spoilt = _cast(cells[name], name, tally.notes)
            if name in _TOKENS and (pc.max(out[name]).as_py() or 0) > MOST_TOKENS:
                # Not null: an absurd count shall not keep an account below a cap.
                spoilt = spoilt | np.asarray(pc.greater(out[name], MOST_TOKENS).fill_null(False))
                out[name] = pc.min_element_wise(out[name], pa.scalar(MOST_TOKENS, pa.int64()), skip_nulls=False)
            tally.notes[f"{name}_unreadable"] += int(np.count_nonzero(spoilt))
    if "messages" in cells:
        _derive(out, cells["messages"], columns)
    for name in _TEXTS & out.keys():
        out[name] = _without_stand_ins(out[name], name, tally.notes)
    nothing = {name: pa.nulls(len(account), EXCHANGES.field(name).type) for name in columns if name not in out}
    arrays = [(out | nothing)[name] for name in columns]
    fields = [EXCHANGES.field(name).with_type(array.type) for name, array in zip(columns, arrays, strict=True)]
    batch = pa.record_batch(arrays, schema=pa.schema(fields))
    if not fates.kept.all():
        batch = batch.filter(pa.array(fates.kept))
    tally.n_rows += batch.num_rows
    tally.filled.update(name for name in columns if batch[name].null_count < batch.num_rows)
    return batch


def _cast(cells: Cells, name: str, notes: Counter[str]) -> tuple[pa.Array, Bools]:
    kind = EXCHANGES.field(name).type
    if kind == pa.string() and isinstance(cells, pa.DictionaryArray):
        entries, spoilt = cast(cells.dictionary, kind, name, Counter())
        # A spoilt entry counts once per row that shows it.
        if not spoilt.any() and entries.null_count == 0 and entries.equals(cells.dictionary):
            return cells, np.zeros(len(cells), np.bool_)
    return cast(cells, kind, name, notes)


def _without_stand_ins(text: pa.Array, name: str, notes: Counter[str]) -> pa.Array:
    """The texts, those that only stand for one missing."""
    said = text.dictionary if isinstance(text, pa.DictionaryArray) else text
    if not pc.any(pc.equal(said, _STAND_IN)).as_py():
        return text
    text = text.cast(pa.string())
    is_one = pc.equal(text, _STAND_IN)
    notes[f"{name}_redacted"] += pc.sum(is_one).as_py()
    return pc.if_else(is_one, pa.scalar(None, pa.string()), text)


def blank(text: pa.Array) -> Bools:
    """Rows that are null, empty or nothing but white space."""
    if isinstance(text, pa.DictionaryArray):
        return np.asarray(pa.array(blank(text.dictionary)).take(text.indices).fill_null(True))
    empty = pc.or_(pc.equal(pc.binary_length(text), _NOTHING), pc.utf8_is_space(text))
    return np.asarray(empty.fill_null(True))


def _derive(out: dict[str, pa.Array], messages: Cells, columns: Sequence[str]) -> None:
    """Fill what `prompt` and `system_prompt` lack from the conversation."""
    chat = out["messages"] if "messages" in out else cast(messages, CHAT, "messages", Counter())[0]
    for name, turn in zip(DERIVED, (last_user_turn, first_system_turn), strict=True):
        if name in columns:
            out[name] = pc.coalesce(out[name].cast(pa.string()), turn(chat)) if name in out else turn(chat)


def last_user_turn(chat: pa.Array) -> pa.Array:
    """The content of the last message of the user in each conversation; null where there is none."""
    turns, ends = _turns(chat)
    spoken = np.flatnonzero(np.asarray(pc.equal(pc.struct_field(turns, "role"), _USER).fill_null(False)))
    return _contents(turns, ends, spoken, np.searchsorted(spoken, ends[1:]) - 1)


def first_system_turn(chat: pa.Array) -> pa.Array:
    """The content of the first system or developer message in each conversation; null where there is none."""
    turns, ends = _turns(chat)
    spoken = np.flatnonzero(np.asarray(pc.is_in(pc.struct_field(turns, "role"), _SYSTEM_ROLES)))
    return _contents(turns, ends, spoken, np.searchsorted(spoken, ends[:-1]))


def _turns(chat: pa.Array) -> tuple[pa.Array, Ints]:
    """All messages in a row, and where each conversation ends among them, with a zero before."""
    lengths = pc.list_value_length(chat).fill_null(0).to_numpy()
    return chat.flatten(), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _contents(turns: pa.Array, ends: Ints, spoken: Ints, choice: npt.NDArray[Any]) -> pa.Array:
    """The content of message spoken[choice] of each conversation; null where that lies in another conversation."""
    if not len(spoken):
        return pa.nulls(len(choice), pa.string())
    at = spoken[np.clip(choice, 0, len(spoken) - 1)]
    own = (at >= ends[:-1]) & (at < ends[1:])
    return pc.struct_field(turns, "content").take(pa.array(at, mask=~own))
