"""registry: which answers were given, kept so that a copy is recognised and no answer can be read back.

Of each answer the keyed prints (`kernels/winnow.py`) go into one blocked Bloom filter whose size is fixed when the
registry is made: memory does not grow with the answers, the rate of false hits does, and is stated. What an answer
repeats of its own prompt is left out. Two registries of one size and key merge by union (Law 1), so parts can be built
anywhere and in any order; without the key nobody can ask one a question.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.audit.openings import ends_of
from stillwatch.audit.shapes import TEXT
from stillwatch.errors import InputError
from stillwatch.kernels.bloom import BLOCK_BYTES, BlockedBloom
from stillwatch.kernels.hashing import KEY_BYTES, HashKey
from stillwatch.kernels.winnow import BAND_ROWS, N_BANDS, SHINGLE_WORDS, SPAN_WORDS, WINDOW, Prints, fingerprint
from stillwatch.keys import RootKey

Bools = npt.NDArray[np.bool_]

MAGIC = b"stillwatch registry 1\n"
_LONGEST_HEADER = 1 << 16

MIN_WORDS = 8
"""A text of fewer words is never judged."""

RECIPE = {
    "span_words": SPAN_WORDS,
    "window": WINDOW,
    "shingle_words": SHINGLE_WORDS,
    "bands": N_BANDS,
    "band_rows": BAND_ROWS,
}
"""How prints are made; registries of another recipe do not merge."""


@dataclass(frozen=True, slots=True)
class About:
    """What a registry says of itself: whose answers, under which key, how many answers and bytes were offered."""

    name: str
    key_id: str
    n_answers: int = 0
    n_bytes: int = 0


class Registry:
    """The prints of answers in a filter of fixed size."""

    def __init__(self, about: About, held: BlockedBloom) -> None:
        self.about, self.held = about, held

    @classmethod
    def empty(cls, name: str, *, key: RootKey, memory_bytes: int) -> Registry:
        """A registry that will never take more than about `memory_bytes`, at least one block."""
        return cls(About(name, key.key_id("match")), BlockedBloom(max(1, memory_bytes // BLOCK_BYTES)))

    def add(self, prints: Prints, *, n_bytes: int = 0) -> None:
        """Put in the prints of some answers. Bands and spans may be found later, prompts only say what was asked."""
        for keys in (prints.spans, prints.bands.reshape(-1), prints.prompts):
            self.held.extend(keys)
        about = self.about
        n_answers = about.n_answers + int(np.count_nonzero(prints.n_words))
        self.about = replace(about, n_answers=n_answers, n_bytes=about.n_bytes + n_bytes)

    def merge(self, other: Registry) -> Registry:
        """The registry of both inputs together; raises InputError where key or size differ."""
        if self.about.key_id != other.about.key_id:
            raise InputError(
                f"{other.about.name} was built under another key", got=other.about.key_id, expected=self.about.key_id,
                do="Build both with the same --key-file",
            )  # fmt: skip
        about = replace(
            self.about,
            name=min(self.about.name, other.about.name),
            n_answers=self.about.n_answers + other.about.n_answers,
            n_bytes=self.about.n_bytes + other.about.n_bytes,
        )
        return Registry(about, self.held.merge(other.held))

    def to_bytes(self) -> bytes:
        """The file as bytes, the same for the same contents."""
        file = io.BytesIO()
        self._write(file)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Registry:
        """Read what `to_bytes` wrote; raises InputError for anything else."""
        return cls._read(io.BytesIO(data), where="these bytes")

    def save(self, path: Path) -> None:
        """Write the file (mode 0600) whole or not at all."""
        path = path.absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> Registry:
        """Read a file; raises InputError where it is absent, damaged or of another recipe."""
        try:
            with path.open("rb") as file:
                return cls._read(file, where=str(path))
        except OSError as error:
            raise InputError(f"cannot read the registry {path}", got=error.strerror or "an error") from error

    def describe(self) -> dict[str, Any]:
        """Size, contents and the stated rate at which a print that was never added is found."""
        return {
            **asdict(self.about),
            "filter_bytes": self.held.size * BLOCK_BYTES,
            "false_positive_rate": self.held.false_positive_rate(),
            "recipe": RECIPE,
        }

    def _header(self) -> bytes:
        return json.dumps(asdict(self.about) | {"recipe": RECIPE}, sort_keys=True).encode() + b"\n"

    def _write(self, file: BinaryIO) -> None:
        file.write(MAGIC + self._header())
        self.held.write(file)

    @classmethod
    def _read(cls, file: BinaryIO, *, where: str) -> Registry:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{where}: not a registry", do="Make one with: stillwatch registry build LOGS --out FILE")
        return cls(_about(file.readline(_LONGEST_HEADER), where), BlockedBloom.read(file))


def _about(head: bytes, where: str) -> About:
    try:
        said = json.loads(head)
        recipe = said.pop("recipe")
        about = About(**said)
        sound = all(isinstance(value, str) for value in (about.name, about.key_id)) and all(
            type(value) is int and value >= 0 for value in (about.n_answers, about.n_bytes)
        )
        if not sound:
            raise TypeError("a header of other types")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{where}: a damaged registry", do="Copy it again, or build it anew") from error
    if recipe != RECIPE:
        raise InputError(f"{where}: a registry of another recipe", got=str(recipe), do="Build it anew")
    return about


def match_key(key: RootKey) -> HashKey:
    """The key of all prints, cut from the installation's own."""
    digest = hashlib.blake2b(b"registry prints", key=key.subkey("match").reveal(), digest_size=KEY_BYTES).digest()
    return HashKey.from_bytes(digest)


def printed(rows: pa.RecordBatch, key: HashKey, *, whole: bool = False, masked: bool = True) -> Prints:
    """The prints of the answers of a batch of `shapes.ROWS`, in order.

    `whole`: an answer of fewer than `MIN_WORDS` words is taken together with its prompt, and a prompt alone where its
    row has no answer. So data sets are compared, where a row is a prompt and an answer; not a provider's answers, where
    a prompt is its user's. `masked`: what an answer repeats of its own prompt is left out.
    """
    prompt, answer = rows.column("prompt"), rows.column("answer")
    prints = fingerprint(answer, key, prompt=prompt if masked else None)
    if not whole:
        return prints
    short = (prints.n_words < MIN_WORDS) & pc.is_valid(prompt).to_numpy(zero_copy_only=False) & _answered(rows)
    asked, said = (pc.fill_null(part.filter(pa.array(short)), "") for part in (prompt, answer))
    return _with(prints, short, fingerprint(pc.binary_join_element_wise(asked, said, pa.scalar("\n", TEXT)), key))


def _with(prints: Prints, at: Bools, others: Prints) -> Prints:
    """The prints with others in the place of those where `at` (n,) holds, which have no spans."""
    counts = np.diff(prints.offsets)
    counts[at] = np.diff(others.offsets)
    new = np.repeat(at, counts)
    spans = np.empty(len(new), np.uint64)
    spans[new], spans[~new] = others.spans, prints.spans
    bands, n_words, prompts = prints.bands.copy(), prints.n_words.copy(), prints.prompts.copy()
    bands[at], n_words[at], prompts[at] = others.bands, others.n_words, others.prompts
    return Prints(np.concatenate([[0], np.cumsum(counts)]), spans, bands, n_words, prompts)


def _answered(rows: pa.RecordBatch) -> Bools:
    """What is an answer, or stands in a row that has none."""
    valid: Bools = pc.is_valid(rows.column("answer")).to_numpy(zero_copy_only=False)
    begins = np.flatnonzero(rows.column("first").to_numpy(zero_copy_only=False))
    if not len(begins):
        return valid
    none = ~np.logical_or.reduceat(valid, begins)
    return np.asarray(valid | np.repeat(none, np.diff([*begins, len(valid)])))


def fill(registry: Registry, batches: Iterable[pa.RecordBatch], key: HashKey, *, whole: bool = False) -> Registry:
    """Put the answers of all rows into a registry, and return it; `whole` as in `printed`.

    So registered sets are held: also as they are, prompt and all, for copies of them may have lost their prompts.
    """
    for rows in batches:
        prints = printed(rows, key, whole=whole)
        registry.add(prints, n_bytes=int(rows.column("answer").nbytes))
        registry.held.extend(ends_of(prints, pc.is_null(rows.column("prompt")).to_numpy(zero_copy_only=False)))
        if whole:
            bare = printed(rows, key, whole=True, masked=False)
            for keys in (bare.spans, bare.bands.reshape(-1)):
                registry.held.extend(keys)
    return registry
