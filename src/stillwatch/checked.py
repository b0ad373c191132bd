"""checked: a journal whose checked past is remembered, so that a long one need not be read whole each time.

Pieces of 16 MiB whose chain was followed once are remembered by their SHA-256, and in them every line that is not of a
bulky kind by its place and hash, in a file beside the journal that is sealed with HMAC-SHA-256. Reading what happened
then costs those lines and the end of the journal, however many decisions there are; `check` hashes all pieces again. A
memory that was deleted is made anew from the whole chain; one that was changed is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stillwatch.errors import JournalError
from stillwatch.journal import START, Entry, Journal
from stillwatch.keys import Secret

PIECE_BYTES = 16 << 20
BULKY = frozenset({"decision", "reasoning"})
"""Kinds of which a gate writes one or two for each call; they are not remembered line by line."""

FORMAT = 1
_STEP_BYTES = 1 << 20


class Piece(NamedTuple):
    """Whole lines that follow the piece before, up to the byte `end`: `n` lines so far, the last with the hash."""

    end: int
    n: int
    last: str
    sha256: str


class Place(NamedTuple):
    """Where a line stands that is not of a bulky kind."""

    start: int
    length: int
    kind: str
    sha256: str


@dataclass(slots=True)
class _Walk:
    """How far the chain was followed, and what is remembered of it."""

    pieces: list[Piece] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    at: int = 0
    n: int = 0
    prev: str = START
    n_remembered: int = 0
    """Of the places, how many lie within pieces."""
    piece: Any = field(default_factory=hashlib.sha256)

    def take(self, entry: Entry, line: bytes, piece_bytes: int) -> bool:
        """Go on by one line; True where a piece is full."""
        if entry.kind not in BULKY:
            self.places.append(Place(self.at, len(line), entry.kind, entry.sha256))
        self.piece.update(line)
        self.at, self.n, self.prev = self.at + len(line), entry.n, entry.sha256
        if self.at - (self.pieces[-1].end if self.pieces else 0) < piece_bytes:
            return False
        self.pieces.append(Piece(self.at, self.n, self.prev, self.piece.hexdigest()))
        self.piece, self.n_remembered = hashlib.sha256(), len(self.places)
        return True


class CheckedJournal(Journal):
    """A journal with its memory beside it, in `NAME-KEYID.checked`.

    Args:
        key: what the memory is sealed with; under another key there is another memory.
    """

    def __init__(self, path: Path, key: Secret, *, piece_bytes: int = PIECE_BYTES) -> None:
        super().__init__(path)
        self._key, self._piece_bytes = key, piece_bytes
        key_id = hashlib.sha256(b"stillwatch/1/journal" + key.reveal()).hexdigest()[:16]
        self.memory = path.with_name(f"{path.name}-{key_id}.checked")
        self._walk: _Walk | None = None

    @property
    def is_absent(self) -> bool:
        """Whether nothing was ever written, nor anything remembered of it."""
        return super().is_absent and not self.memory.exists()

    def entries(self, *, kinds: Collection[str] | None = None) -> Iterator[Entry]:
        """As a journal's. Of kinds that are not bulky, it reads remembered lines by their places and the end anew."""
        if kinds is None or not BULKY.isdisjoint(kinds):
            yield from super().entries(kinds=kinds)
            return
        walk = self._remembered()
        for place in tuple(walk.places):
            if place.kind in kinds:
                yield self._line(place)
        for entry in self._onward(walk):
            if entry.kind in kinds:
                yield entry

    def look(self, turn: Callable[[], object] = lambda: None) -> int:
        """Follow the chain from where the last look ended, and return the number of lines; `turn` is called often.

        Raises:
            JournalError: a line is torn, changed, moved or missing.
        """
        self._walk = self._walk or self._remembered()
        for n, _ in enumerate(self._onward(self._walk)):
            if n % 4 == 0:
                turn()
        return self._walk.n

    def check(self, turn: Callable[[], object] = lambda: None) -> int:
        """Hash all remembered pieces again, then look. Cost: 0.5 s a GB remembered, 12 us a line that is not."""
        self._walk = walk = self._remembered()
        with self._bytes() as file:
            start = 0
            for before, piece in zip([Piece(0, 0, START, ""), *walk.pieces], walk.pieces, strict=False):
                file.seek(start)
                hashed = hashlib.sha256()
                while start < piece.end and (held := file.read(min(_STEP_BYTES, piece.end - start))):
                    hashed.update(held)
                    start += len(held)
                    turn()
                if hashed.hexdigest() != piece.sha256:
                    raise self._broken(f"lines {before.n + 1} to {piece.n}", "they are not what was checked before")
        return self.look(turn)

    def _onward(self, walk: _Walk) -> Iterator[Entry]:
        n_pieces = len(walk.pieces)
        try:
            for entry, line in self._lines(walk.at, walk.n, walk.prev):
                walk.take(entry, line, self._piece_bytes)
                yield entry
        finally:
            if len(walk.pieces) > n_pieces:
                self._remember(walk)

    def _line(self, place: Place) -> Entry:
        with self._bytes() as file:
            file.seek(place.start)
            line = file.read(place.length)
        if hashlib.sha256(line[:-1]).hexdigest() != place.sha256:
            raise self._broken(f"byte {place.start}", "the line is not what was checked before")
        return self._read(line, where=f"byte {place.start}")

    def _broken(self, where: str, why: str) -> JournalError:
        error = super()._broken(where, why)
        return JournalError(error.wrong, do=f"{error.do} Move {self.memory.name} away with the old one.")

    def _bytes(self) -> Any:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be opened", got=error.strerror) from error

    def _remembered(self) -> _Walk:
        try:
            seal, _, text = self.memory.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return _Walk()
        except OSError as error:
            raise JournalError(f"{self.memory} cannot be read", got=error.strerror) from error
        if not hmac.compare_digest(seal, self._seal(text)):
            raise JournalError(
                f"what is remembered of the journal was changed: {self.memory}",
                do="Look into who wrote it; once it is deleted, the whole journal is checked anew.",
            )
        try:
            said = json.loads(text)
            if said["v"] != FORMAT:
                return _Walk()
            pieces, places = [Piece(*one) for one in said["pieces"]], [Place(*one) for one in said["places"]]
            end, n, last, _ = pieces[-1]
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            # Sealed by us and yet not ours: another version's.
            return _Walk()
        return _Walk(pieces, places, end, n, last, len(places))

    def _remember(self, walk: _Walk) -> None:
        """Keep what was followed. It only saves time, so a disk that takes nothing is no error."""
        said = {"v": FORMAT, "pieces": walk.pieces, "places": walk.places[: walk.n_remembered]}
        text = json.dumps(said, separators=(",", ":")).encode("ascii")
        with suppress(OSError):
            descriptor, draft = tempfile.mkstemp(prefix=f".{self.memory.name}.", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self._seal(text) + b"\n" + text)
                    file.flush()
                    os.fsync(descriptor)
                Path(draft).replace(self.memory)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise

    def _seal(self, text: bytes) -> bytes:
        return hmac.digest(self._key.reveal(), b"stillwatch/1/journal checked\0" + text, "sha256").hex().encode()
