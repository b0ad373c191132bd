"""runs: trials played over processes, each result kept in a folder so that a run can be stopped and gone on with."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import stillwatch
from benchmarks.yardstick.trial import Trial, examine

SOURCE = Path(stillwatch.__file__).parent


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of results by the hash of world, seed, how it was looked at, and the source."""

    folder: Path

    def path(self, trial: Trial) -> Path:
        """Where the result of a trial lies, or will."""
        return self.folder / source_hash()[:12] / f"{sha256(trial.name().encode()).hexdigest()[:32]}.json"

    def get(self, trial: Trial) -> dict[str, Any] | None:
        """The result of a trial, if it has been run with this source."""
        path = self.path(trial)
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def put(self, trial: Trial, result: dict[str, Any]) -> None:
        """Keep a result: written beside its place and renamed."""
        path = self.path(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(result), "utf-8")
        beside.replace(path)


@cache
def source_hash() -> str:
    """SHA-256 of every file of the package but the terminal's and the report's, and of what scores them."""
    said = sha256()
    passed = {"cli", "dossier", "audit", "compare", "watermark", "receive", "suspects"}
    files = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".toml", ".txt")]
    files = [path for path in files if path.relative_to(SOURCE).parts[0] not in passed]
    files = [path for path in files if path.stem not in ("mix", "planting")]
    files += [SOURCE / "dossier" / "assemble.py", *(Path(__file__).parent / f"{n}.py" for n in ("trial", "innocents"))]
    for path in sorted(files):
        said.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return said.hexdigest()


def play_all(
    trials: Iterable[Trial], *, kept: Kept, processes: int, label: str, run: bool = True
) -> list[dict[str, Any] | None]:
    """The result of every trial, in their order; those kept are read, the rest run side by side, or are None."""
    wanted = list(trials)
    missing = list({trial.name(): trial for trial in wanted if run and kept.get(trial) is None}.values())
    columns = (
        TextColumn(f"{label:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(label, total=len(missing))
        for trial, result in _played(missing, processes):
            kept.put(trial, result)
            bar.advance(task)
    return [kept.get(trial) for trial in wanted]


def _played(trials: Sequence[Trial], processes: int) -> Iterable[tuple[Trial, dict[str, Any]]]:
    if processes < 2 or len(trials) < 2:
        yield from ((trial, examine(trial)) for trial in trials)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting = {pool.submit(examine, trial): trial for trial in trials}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
