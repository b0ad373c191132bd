"""discover: the files a list of paths, folders and globs stands for.

A folder is searched to its depths for names that end in `.parquet`, `.jsonl`, `.csv` and the like, in any case; hidden
names and names that start with `_` (the marks of Spark and Delta) are not logs, and neither is what is no plain file
(a pipe, a socket, a device): a folder's are named among what was skipped. A file given twice is read once.
`litellm:logs/` stands for the files at `logs/` and says which importer reads them.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillwatch.errors import InputError
from stillwatch.ingest.importer import importers

FORMATS = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".binpb": "protobuf",
    ".pb": "protobuf",
}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
EXPECTED = "Parquet, JSON lines, CSV or OTLP (.parquet, .jsonl, .csv, .binpb; all but Parquet also .gz or .zst)"

_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file to read: `format` is parquet, jsonl, csv or protobuf; `packing` is gzip, zstd or empty; `n_bytes` as
    stored; `importer` names the one the caller asked for."""

    path: Path
    format: str
    packing: str
    n_bytes: int
    importer: str = ""

    @property
    def name(self) -> str:
        """The path as text that any encoding can carry."""
        return printable(self.path)


def printable(path: str | Path) -> str:
    """A path as text; bytes of its name that are not UTF-8 are spelt out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def find_files(paths: Sequence[str | Path], *, patient: bool = False) -> tuple[list[LogFile], list[str]]:
    """The files that `paths` stand for, sorted by path, and the names a folder held that are not logs.

    Where `patient`, what a folder holds and nobody can open (a link to nothing, packed Parquet) is named there too,
    with the reason. Raises InputError for a path, folder or pattern without any log file, for a file of unknown
    format, and for any file that was named itself and cannot be read.
    """
    if not paths:
        raise InputError("no logs were named", expected="files, folders or patterns")
    found: dict[str, LogFile] = {}
    skipped: list[str] = []
    for given in paths:
        importer, path = _split(given)
        before = len(found) + len(skipped)
        matches = list(_matches(path))
        files = 0
        for match, named in matches:
            try:
                file = _log_file(match, named=named, importer=importer)
            except InputError as error:
                if named or not patient:
                    raise
                skipped.append(f"{printable(match)} ({error.got or error.wrong})")
                continue
            if isinstance(file, str):
                skipped.append(f"{printable(match)} ({file})" if file else printable(match))
            else:
                found.setdefault(os.path.realpath(match), file)
                files += 1
        if not files:
            raise InputError(
                f"no log file in {printable(path)}",
                got="an empty folder" if len(found) + len(skipped) == before else "only files that are not logs",
                expected=EXPECTED,
                do="Check the path, or name the files themselves",
            )
    return sorted(found.values(), key=lambda file: os.fsencode(file.path)), sorted(skipped)


def _split(given: str | Path) -> tuple[str, str | Path]:
    """The importer that a path begins with, and the path; a file of just that name is a file."""
    text = os.fspath(given)
    name, colon, rest = text.partition(":")
    if not colon or os.path.lexists(text):
        return "", given
    if rest.startswith("//"):
        raise InputError(
            f"{name}:// is no file",
            expected=EXPECTED,
            do="For a database: stillwatch import URL --out logs/, then logs/",
        )
    return (name, rest) if rest and name in importers() else ("", given)


def _matches(path: str | Path) -> Iterator[tuple[Path, bool]]:
    """Every file under `path`, with whether the caller named it (rather than the folder it lies in)."""
    text = os.fspath(path)
    if os.path.lexists(text):
        roots = [text]
    elif glob.has_magic(text):
        roots = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    else:
        roots = []
    if not roots:
        raise InputError(f"nothing at {printable(text)}", expected="a file, a folder or a pattern", do="Check the path")
    for root in roots:
        if Path(root).is_dir():
            yield from ((found, False) for found in _walk(root))
        else:
            yield Path(root), True


def _walk(root: str) -> Iterator[Path]:
    """Files below `root` in sorted order; links are followed, once each, so that a loop of links ends."""
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise InputError(
            f"cannot open the folder {printable(error.filename)}", got=error.strerror or "an error"
        ) from error

    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith((".", "_")))


def _log_file(path: Path, *, named: bool, importer: str) -> LogFile | str:
    """The file as a LogFile; where it is not a log and only its folder was named, why, empty for its name alone."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packing = PACKINGS.get(suffixes[-1], "") if suffixes else ""
    if packing:
        suffixes.pop()
    kind = FORMATS.get(suffixes[-1], "") if suffixes else ""
    if not kind and not named:
        return ""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            what = _SPECIAL.get(stat.S_IFMT(facts.st_mode), "no file")
            if not named:
                return f"{what}, not a plain file"
            raise InputError(f"{printable(path)} is not a plain file", got=what, expected=EXPECTED)
        kind = kind or _sniff(path)
    except OSError as error:
        dangling = path.is_symlink() and not path.exists()
        raise InputError(
            f"cannot open {printable(path)}",
            got="a link to nothing" if dangling else error.strerror or "an error",
            do="Remove the link, or mend it" if dangling else "Check that it is there and readable",
        ) from error
    if packing and kind == "parquet":
        raise InputError(f"{printable(path)} is a packed Parquet file", expected=EXPECTED, do="Unpack it first")
    return LogFile(path=path, format=kind, packing=packing, n_bytes=facts.st_size, importer=importer)


def _sniff(path: Path) -> str:
    """The format of a file whose name does not tell it, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"{", b"[")):
        return "jsonl"
    raise InputError(f"{printable(path)} is of no known format", expected=EXPECTED, do="Rename it to say what it is")
