"""convert: logs of any format once, to canonical Parquet: part by part, whole or not at all, resumed where it stopped.

A folder of an import holds `exchanges/part-*.parquet`, `accounts.parquet` where the source knows accounts, and
`_import.json`, written last. Until then everything lies in a hidden folder beside it, which a second run of the same
import goes on with.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.errors import InputError
from stillwatch.records import EXCHANGES, SCHEMA_VERSION

EXCHANGES_FOLDER, ACCOUNTS_FILE, MANIFEST = "exchanges", "accounts.parquet", "_import.json"

_STATE = "state.json"
_GROUP_ROWS = 100_000


class Conversion:
    """One import on its way to `out`, which nobody else writes within the `with` block.

    `asked` is whatever tells this import from another; it is what resumes.
    """

    def __init__(self, out: Path, *, asked: Mapping[str, Any]) -> None:
        self.out = out.absolute()
        check_target(self.out)
        told = json.dumps(asked, sort_keys=True, default=str).encode()
        self.folder = self.out.parent / f".{self.out.name}.import-{hashlib.sha256(told).hexdigest()[:16]}"
        try:
            for folder in (self.folder, self.folder / EXCHANGES_FOLDER):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"cannot write {out}", got=error.strerror, do="Name another --out") from error
        if not _is_free(self._held):
            os.close(self._held)
            raise InputError(f"another import to {out} is at work", do="Wait for it, or end it")
        self.parts: dict[str, dict[str, Any]] = self._resumed()
        self.n_resumed = len(self.parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._held)

    def write(self, name: str, batches: Iterable[pa.RecordBatch], facts: Mapping[str, Any] | None = None) -> int:
        """Write one part, unless it was written before, and return its rows; it is on disk when the call returns.

        `facts` is read when the rows are, so that it may be filled by reading them.
        """
        number = len(self.parts)
        path = self.folder / EXCHANGES_FOLDER / f"part-{number:05d}.parquet"
        draft = path.with_suffix(".draft")
        n_rows = 0
        with pq.ParquetWriter(draft, EXCHANGES, compression="zstd", version="2.6") as writer:
            held: list[pa.RecordBatch] = []
            for batch in batches:
                held.append(batch)
                n_rows += batch.num_rows
                if sum(one.num_rows for one in held) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(held))
                    held = []
            if held:
                writer.write_table(pa.Table.from_batches(held))
        if n_rows:
            _settle(draft, path)
        else:
            draft.unlink()
        self.parts[name] = {"n_rows": n_rows, **(facts or {})}
        _write(self.folder / _STATE, self.parts)
        return n_rows

    def write_accounts(self, accounts: pa.Table) -> None:
        """Write what the source knows of accounts."""
        draft = self.folder / f"{ACCOUNTS_FILE}.draft"
        pq.write_table(accounts, draft, compression="zstd", version="2.6")
        _settle(draft, self.folder / ACCOUNTS_FILE)

    def finish(self, manifest: Mapping[str, Any]) -> Path:
        """Put the folder in its place; an earlier import there is replaced."""
        _write(self.folder / MANIFEST, {"complete": True, "schema_version": SCHEMA_VERSION, **manifest})
        (self.folder / _STATE).unlink(missing_ok=True)
        old = self.folder.with_name(f"{self.folder.name}.replaced")
        if self.out.exists():
            self.out.rename(old)
        self.folder.rename(self.out)
        shutil.rmtree(old, ignore_errors=True)
        self._clear()
        return self.out

    def _clear(self) -> None:
        """Remove what other imports to the same place left half done: nobody would look for prompts there."""
        for left in self.out.parent.glob(f".{glob.escape(self.out.name)}.import-*"):
            with suppress(OSError):
                held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if _is_free(held):
                        shutil.rmtree(left, ignore_errors=True)
                finally:
                    os.close(held)

    def _resumed(self) -> dict[str, dict[str, Any]]:
        try:
            parts = json.loads((self.folder / _STATE).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return parts if isinstance(parts, dict) else {}


def check_target(out: Path) -> None:
    """Raise InputError where something else than an import lies at `out`."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is not a folder", do="Name another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise InputError(
            f"{out} is not empty and holds no import", expected="a new folder, or one that an import wrote",
            do="Name another --out; nothing was changed",
        )  # fmt: skip


def _is_free(folder: int) -> bool:
    """Whether no other program works in an open folder; from now on this one does."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _write(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n", "utf-8")
    _settle(draft, path)


def _settle(draft: Path, path: Path) -> None:
    """Put a written file in its place for good."""
    draft.chmod(0o600)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(path)
