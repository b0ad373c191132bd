"""canary: texts nobody else can have written, committed to before they are let out, and looked for afterwards.

A batch holds canaries, which are put among answers or published data, and decoys made by the same rule, which never
leave. Which is which was drawn by the key. Whoever did not copy has seen neither, so among the texts found in a data
set canaries and decoys are then equally likely: the p of finding f canaries and d decoys is exact (hypergeometric),
and at best 1 / C(n_canaries + n_decoys, f). The batch's hash is committed to a journal before the first canary
leaves: what is found later was fixed before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from stillwatch.audit.matching import log10
from stillwatch.errors import InputError
from stillwatch.journal import Journal
from stillwatch.kernels.columns import U64
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.winnow import span_keys
from stillwatch.keys import RootKey

KIND = "canaries"
"""The kind of the journal's line that commits to a batch."""

FORMAT = 1
FIND_WORDS = 6
"""A run of so many words of a canary is enough to find it, whatever was changed around it."""

_WORDS = 8
_ONSETS = "b br d dr f g gr h k kl l m n p pr r s st t tr v z".split()
_VOWELS = "a e i o u ai ei ou".split()
_CODAS = ("", "", "l", "m", "n", "r", "s", "t")
_FRAMES = (
    "The field notes list {} as the order in which the samples were taken.",
    "Locals remember the eight villages as {} from north to south.",
    "The crew named the moorings {} after the first season.",
    "In the old ledger the barges appear as {} on the first page.",
)
_FRAME_WORDS = {word for frame in _FRAMES for word in re.findall(r"[A-Za-z]+", frame)}
_FEWEST, _MOST = 1, 100_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Canaries to let out and decoys to keep, with the label they were made under."""

    label: str
    key_id: str
    canaries: tuple[str, ...]
    decoys: tuple[str, ...]

    def commitment(self) -> str:
        """SHA-256 of the batch in canonical JSON, in hex: it fixes every text and tells none."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The batch as canonical JSON. Secret until it has done its work: whoever reads it can avoid the canaries."""
        fixed = {"format": FORMAT, "label": self.label, "key_id": self.key_id}
        texts = {"canaries": self.canaries, "decoys": self.decoys}
        return json.dumps(fixed | texts, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Found:
    """What of a batch stands in a data set: canaries and decoys found, of how many, and the exact p."""

    label: str
    commitment: str
    committed_at: datetime | None
    canaries: int
    n_canaries: int
    decoys: int
    n_decoys: int
    p_log10: float
    places: tuple[tuple[int, int], ...] = field(default=())
    """(file, row) of the rows that hold canaries, the first hundred."""


def issue(label: str, *, n: int, n_decoys: int, key: RootKey) -> Batch:
    """Make a batch: the same label and key give the same batch. Raises InputError for impossible numbers."""
    for count, name in ((n, "canaries"), (n_decoys, "decoys")):
        if not _FEWEST <= count <= _MOST:
            raise InputError(f"impossible number of {name}", got=str(count), expected=f"{_FEWEST} to {_MOST}")
    texts = [_text(key, label, at) for at in range(n + n_decoys)]
    if len(set(texts)) != len(texts):
        raise InputError("two texts of the batch are alike", do="Choose another label")
    order = sorted(range(n + n_decoys), key=lambda at: _draw(key, label, f"side {at}"))
    chosen = set(order[:n])
    return Batch(
        label,
        key.key_id("marks"),
        tuple(text for at, text in enumerate(texts) if at in chosen),
        tuple(text for at, text in enumerate(texts) if at not in chosen),
    )


def commit(batch: Batch, journal: Journal, *, ts: datetime) -> str:
    """Write the batch's hash into the journal and return the line's receipt, to be kept elsewhere too."""
    counts = {"n_canaries": len(batch.canaries), "n_decoys": len(batch.decoys)}
    return journal.append(KIND, {"label": batch.label, "commitment": batch.commitment()} | counts, ts)


def read_batch(path: Path) -> Batch:
    """Read what `to_json` wrote; raises InputError for anything else."""
    try:
        said = json.loads(path.read_text("utf-8"))
        if said["format"] != FORMAT:
            raise ValueError("another format")
        batch = Batch(said["label"], said["key_id"], tuple(said["canaries"]), tuple(said["decoys"]))
        texts = [batch.label, batch.key_id, *batch.canaries, *batch.decoys]
        if not all(isinstance(text, str) for text in texts) or not (batch.canaries and batch.decoys):
            raise TypeError("other types")
        told_by = {" ".join(_made_up(text)) for text in texts[2:]}
        if len(told_by) < len(texts) - 2 or any(one.count(" ") < FIND_WORDS - 1 for one in told_by):
            raise ValueError("texts that cannot be told apart")
    except OSError as error:
        raise InputError(f"cannot read the canaries {path}", got=error.strerror or "an error") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} holds no canaries", do="Make some with: stillwatch canary issue LABEL") from error
    return batch


def committed(batch: Batch, journal: Journal) -> datetime | None:
    """When the journal's chain was given the hash of exactly this batch; None where it never was."""
    if not journal.path.exists():
        return None
    for entry in journal.entries():
        if entry.kind == KIND and entry.body.get("commitment") == batch.commitment():
            return entry.ts
    return None


class Finder:
    """Looks for the texts of one batch in rows as they come."""

    def __init__(self, batch: Batch, key: HashKey) -> None:
        self._key = key
        self._runs, self._owner = _runs([*batch.canaries, *batch.decoys], key)
        self._batch = batch
        self._seen: set[int] = set()
        self._places: list[tuple[int, int]] = []

    def look(self, rows: pa.RecordBatch) -> None:
        """Look through the prompts and answers of some rows with `file` and `row`; about 100 MB/s."""
        if not len(self._runs):
            return
        for name in ("prompt", "answer"):
            offsets, runs = span_keys(rows.column(name), self._key, n_words=FIND_WORDS)
            at = np.minimum(np.searchsorted(self._runs, runs), len(self._runs) - 1)
            hits = np.flatnonzero(self._runs[at] == runs)
            for hit in hits.tolist():
                owner = int(self._owner[at[hit]])
                self._seen.add(owner)
                if owner < len(self._batch.canaries) and len(self._places) < 100:
                    row = int(np.searchsorted(offsets, hit, side="right")) - 1
                    self._places.append((rows.column("file")[row].as_py(), rows.column("row")[row].as_py()))

    def found(self, committed_at: datetime | None) -> Found:
        """What was found so far, with its exact p."""
        n, n_decoys = len(self._batch.canaries), len(self._batch.decoys)
        canaries = sum(owner < n for owner in self._seen)
        decoys = len(self._seen) - canaries
        return Found(
            self._batch.label, self._batch.commitment(), committed_at, canaries, n, decoys, n_decoys,
            log10(canary_p(canaries, decoys, n=n, n_decoys=n_decoys)), tuple(dict.fromkeys(self._places)),
        )  # fmt: skip


def canary_p(canaries: int, decoys: int, *, n: int, n_decoys: int) -> float:
    """P(at least so many canaries among the texts found), every text of the batch equally likely; 1 where none is."""
    if not canaries:
        return 1.0
    return float(stats.hypergeom.sf(canaries - 1, n + n_decoys, n, canaries + decoys))


def _runs(texts: Iterable[str], key: HashKey) -> tuple[U64, U64]:
    """The keys of the runs of made-up words of each text, ascending, and whose they are."""
    made_up = pa.array([" ".join(_made_up(text)) for text in texts], pa.large_string())
    offsets, runs = span_keys(made_up, key, n_words=FIND_WORDS)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    # A run that two texts share tells neither.
    distinct, first, count = np.unique(runs, return_index=True, return_counts=True)
    return distinct[count == 1], owner[first[count == 1]].astype(np.uint64)


def _made_up(text: str) -> list[str]:
    """The words of a canary or decoy that stand in no frame."""
    return [word for word in re.findall(r"[a-z]+", text) if word not in _FRAME_WORDS]


def _draw(key: RootKey, label: str, what: str) -> bytes:
    return hmac.digest(key.subkey("marks").reveal(), f"canary\0{label}\0{what}".encode(), "sha256")


def _text(key: RootKey, label: str, at: int) -> str:
    """A sentence around eight made-up words, about 80 bits of chance."""
    words = []
    for place in range(_WORDS):
        bits = int.from_bytes(_draw(key, label, f"{at} {place}")[:8], "little")
        parts = []
        for choices in (_ONSETS, _VOWELS, _CODAS, _ONSETS, _VOWELS, _CODAS):
            bits, pick = divmod(bits, len(choices))
            parts.append(choices[pick])
        words.append("".join(parts))
    frame = _FRAMES[_draw(key, label, f"{at} frame")[0] % len(_FRAMES)]
    return frame.format(", ".join(words))


def plain_found(found: Found) -> dict[str, Any]:
    """Plain values, fit for JSON; no text of a canary."""
    return {
        "label": found.label, "commitment": found.commitment,
        "committed_at": None if found.committed_at is None else found.committed_at.isoformat(),
        "canaries_found": found.canaries, "n_canaries": found.n_canaries,
        "decoys_found": found.decoys, "n_decoys": found.n_decoys, "p_log10": found.p_log10,
        "places": [list(place) for place in found.places],
    }  # fmt: skip
