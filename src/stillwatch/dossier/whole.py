"""whole: a folder that is written whole or not at all, over an earlier one.

Everything is written into a hidden folder beside the target, flushed, and renamed into place.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stillwatch.errors import FindingsError


def write_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into a folder (mode 0700, files 0600) that takes the place of `folder` once it is done.

    Interrupted at any point, the target is either the old folder or the new one, or absent after a kill; never a
    mixture. The caller has made sure that what stands there may be replaced.

    Raises:
        FindingsError: it cannot be written.
    """
    target = folder.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        try:
            claim = _claim(partial)
            try:
                fill(partial)
                _flush(partial)
                _swap(partial, target)
            finally:
                os.close(claim)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise FindingsError(f"cannot write {folder}", got=str(error.strerror), do="Name another --out.") from error


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o600)
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _swap(partial: Path, folder: Path) -> None:
    if folder.exists():
        old = partial.with_name(partial.name.replace(".partial-", ".replaced-"))
        try:
            folder.rename(old)
            partial.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(folder)


def _sweep(folder: Path) -> None:
    """Mend what a killed scan of the same target left behind: put back what it had moved away, drop the rest.

    A partial folder that another scan holds is left to it.
    """
    name = glob.escape(folder.name)
    for old in sorted(folder.parent.glob(f".{name}.replaced-*")):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)
    for left in folder.parent.glob(f".{name}.partial-*"):
        with suppress(OSError):
            claim = _claim(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(claim)


def _claim(folder: Path) -> int:
    """Lock a folder until the descriptor is closed or the process ends; OSError where another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
