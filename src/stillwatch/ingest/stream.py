"""stream: the bytes of a plain, gzip or zstd file, as far as they can be had.

A packed file that was cut short or damaged gives everything before the cut; `cut` then says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import zstandard

from stillwatch.errors import InputError
from stillwatch.ingest.discover import LogFile

_PIECE_BYTES = 4096
"""Packed bytes fed at a time: bounds both what a cut can cost and what a malicious file can blow up to."""
_PLAIN_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20
LONGEST_LINE_BYTES = 64 << 20
_UTF8_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
"""Byte order marks and what they mark; those of UTF-32 first, as one of them begins with one of UTF-16."""

_WIDE: dict[tuple[bool, ...], str] = {
    (False, True, False, True): "UTF-16",
    (True, False, True, False): "UTF-16",
    (False, True, True, True): "UTF-32",
    (True, True, True, False): "UTF-32",
}
"""Which of the first four bytes are zero where a text without a mark begins with two ASCII characters (RFC 4627, 3)."""

_UNPACKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


class Stream:
    """Reads a file front to back. `n_read`: stored bytes consumed; `cut`: it ended before its end."""

    def __init__(self, file: LogFile) -> None:
        self.n_read, self.cut = 0, False
        self._file = file
        try:
            self._raw = file.path.open("rb")
        except OSError as error:
            raise unopened(file, error) from error
        self._pieces = self._marked()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._raw.close()

    def pieces(self) -> Iterator[bytes]:
        """The bytes as they come."""
        return self._pieces

    def _marked(self) -> Iterator[bytes]:
        """The unpacked pieces without a byte order mark; raises InputError for UTF-16 and UTF-32, marked or not."""
        pieces = self._unpacked() if self._file.packing else self._plain(_PLAIN_BYTES)
        start = b""
        for piece in pieces:
            start += piece
            if len(start) >= 4:
                break
        wide = marked(start)[:6].upper() or _unmarked(start)
        if wide:
            raise InputError(f"{self._file.name} is {wide} text", expected="UTF-8", do="Convert it with iconv")
        start = start.removeprefix(_UTF8_BOM)
        if start:
            yield start
        yield from pieces

    def _plain(self, n: int) -> Iterator[bytes]:
        try:
            while piece := self._raw.read(n):
                self.n_read += len(piece)
                yield piece
        except OSError as error:
            raise unopened(self._file, error) from error

    def _unpacked(self) -> Iterator[bytes]:
        engine: Any = None
        try:
            for piece in self._plain(_PIECE_BYTES):
                rest = piece
                while rest:
                    if engine is None:
                        # Padding after the last member is legal in gzip, and tape-like writers leave it.
                        rest = rest.lstrip(b"\0") if self._file.packing == "gzip" else rest
                        engine = _UNPACKERS[self._file.packing]() if rest else None
                        continue
                    text = engine.decompress(rest)
                    rest, engine = (engine.unused_data, None) if engine.eof else (b"", engine)
                    if text:
                        yield text
        except (zlib.error, zstandard.ZstdError):
            self.cut = True
        if engine is not None:
            self.cut = True


def marked(start: bytes) -> str:
    """The encoding, other than UTF-8, that a byte order mark names; empty without such a mark."""
    return next((encoding for mark, encoding in _WIDE_BOMS.items() if start.startswith(mark)), "")


def _unmarked(start: bytes) -> str:
    """UTF-16 or UTF-32 where the zeros among the first four bytes say so; empty elsewhere."""
    return _WIDE.get(tuple(byte == 0 for byte in start[:4]), "")


def blocks(stream: Stream, n_bytes: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Whole lines, about `n_bytes` at a time (BLOCK_BYTES where None), with how many were too long to hold.

    The last line of a cut file is left out.
    """
    held: list[bytes] = []
    size = n_long = 0
    skipping = False
    enough = BLOCK_BYTES if n_bytes is None else n_bytes
    for piece in stream.pieces():
        lines = piece
        if skipping:
            lines = piece[piece.find(b"\n") + 1 :] if b"\n" in piece else b""
            skipping = not lines and b"\n" not in piece
        held.append(lines)
        size += len(lines)
        end = lines.rfind(b"\n") + 1
        if end and size >= enough:
            held[-1] = lines[:end]
            yield b"".join(held), n_long
            held, size, n_long = [lines[end:]], len(lines) - end, 0
        elif size > LONGEST_LINE_BYTES:
            text = b"".join(held)
            keep = text.rfind(b"\n") + 1
            held, size, n_long, skipping = [text[:keep]], keep, n_long + 1, True
    text = b"".join(held)
    if stream.cut:
        text = text[: text.rfind(b"\n") + 1]
    if text or n_long:
        yield text, n_long


def first_block(file: LogFile) -> bytes:
    """The first whole lines of a file; empty where it holds none. Raises InputError where they were cut off."""
    with Stream(file) as stream:
        n_long = 0
        for block, n in blocks(stream):
            n_long += n
            if block.strip():
                return block
        if stream.cut or n_long:
            got = "a cut or damaged file" if stream.cut else f"a line above {LONGEST_LINE_BYTES >> 20} MiB"
            raise InputError(f"{file.name} holds no whole line", got=got, do="Copy it again, or leave it out")
    return b""


def unopened(file: LogFile, error: OSError) -> InputError:
    """The InputError for a file the system does not let us read."""
    return InputError(
        f"cannot read {file.name}", got=error.strerror or "an error", do="Check that the file is there and readable"
    )
