"""world: a scenario played out and written: exchanges, accounts and, apart, the truth."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import InputError, SettingsError
from stillwatch.records import EXCHANGES
from stillwatch.sim.accounts import account_rows
from stillwatch.sim.company import Company, gather
from stillwatch.sim.kernels import HOUR_US
from stillwatch.sim.places import Stage
from stillwatch.sim.scenarios import Scenario
from stillwatch.sim.traffic import REPEATED, play_hours, schema_of

ROWS_PER_STRETCH: Final = 120_000
"""Exchanges played at once by each thread, about; a stretch is a whole number of hours, and a row group."""

STRETCHES_PER_FILE: Final = 8
N_MAX_ACCOUNTS: Final = 20_000_000
BYTES_PER_ROW: Final = 135
"""More than an exchange takes on disk."""

N_MIN_FILES: Final = 4
TRUTH: Final = pa.schema([("account_id", pa.string()), ("population", pa.string()), ("campaign", pa.string())])
CONTENTS: Final = {"exchanges", "accounts.parquet", "truth.parquet", "allowlist.txt", "world.json"}

OnProgress = Callable[[int, int], None]
"""Called with the stretches written and their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What `write_world` wrote, and where. `truth` is for scoring only and lies outside the logs."""

    exchanges: Path
    accounts: Path
    truth: Path
    allowlist: Path
    n_exchanges: int
    n_accounts: int


@dataclass(frozen=True, slots=True)
class Played:
    """The three tables of a world in memory: canonical columns, and the truth."""

    exchanges: pa.Table
    accounts: pa.Table
    truth: pa.Table


def play(scenario: Scenario, *, seed: int, scale: float = 1.0) -> Played:
    """Play a scenario in memory, which is linear in exchanges: the same rows that `write_world` writes, by time."""
    company = cast(scenario, seed=seed, scale=scale)
    stretches = (stretch for hours in _files(company) for stretch in hours)
    rows = pa.concat_tables(play_hours(company, low, high) for low, high in stretches)
    rows = rows.cast(pa.schema([EXCHANGES.field(name) for name in rows.column_names]))
    rows = rows.take(pc.sort_indices(rows["ts"])).combine_chunks()
    accounts, truth, _ = everybody(company)
    return Played(rows, accounts, truth)


def cast(scenario: Scenario, *, seed: int, scale: float = 1.0) -> Company:
    """Draw the accounts of a scenario; at another scale all of them are others."""
    if not 0 < scale < np.inf or seed < 0:
        raise SettingsError("impossible scale or seed", got=f"{scale}, {seed}", expected="above 0, and 0 or more")
    stage = Stage(
        seed=seed,
        start=scenario.start,
        n_days=scenario.n_days,
        release=scenario.release,
        scale=scale,
        pools=scenario.all_pools(),
        messages=scenario.messages,
        least_ordinary=scenario.least_ordinary,
    )
    n = sum(each.n_accounts for each in (*scenario.populations, *(one.crew for one in scenario.campaigns)))
    if not 0 < n * scale <= N_MAX_ACCOUNTS:
        raise SettingsError("an impossible number of accounts", got=f"{n * scale:,.0f}", expected="1 to 20 million")
    return gather(stage, scenario.populations, scenario.campaigns)


def everybody(company: Company) -> tuple[pa.Table, pa.Table, list[str]]:
    """Accounts and truth, in the order of account ids, and who is licensed."""
    accounts, truth = [], []
    licensed: list[str] = []
    for part, first in zip(company.parts, company.first.tolist(), strict=True):
        ids = company.ids.slice(first, len(part.cast))
        accounts.append(account_rows(part.cast, ids))
        population, campaign = part.cast.population, part.campaign.name if part.campaign else None
        names = [pa.repeat(population.name, len(ids)), pa.repeat(pa.scalar(campaign, pa.string()), len(ids))]
        truth.append(pa.Table.from_arrays([ids, *names], schema=TRUTH))
        licensed += ids.to_pylist() if population.licensed else []
    table = pa.concat_tables(accounts)
    order = pc.sort_indices(table["account_id"])
    return table.take(order), pa.concat_tables(truth).take(order), sorted(licensed)


def write_world(
    scenario: Scenario,
    folder: Path,
    *,
    seed: int,
    scale: float = 1.0,
    threads: int = 2,
    on_progress: OnProgress = lambda done, total: None,
) -> World:
    """Play a scenario and write folder/{exchanges/*.parquet, accounts.parquet, truth.parquet, allowlist.txt, ...}.

    Same scenario, seed and scale give the same bytes on any number of threads. Rows of a file are sorted by time; a
    session that runs past its file's last hour stays in that file. The folder is made beside its place and renamed: an
    interrupted run leaves the earlier world or none. Memory is some 200 MB a thread beside the accounts.

    Raises:
        InputError: the folder holds something that is no earlier world. SettingsError: the scenario makes no sense.
    """
    folder, place = Path(folder), Path(folder).resolve()
    _check_target(place)
    company = cast(scenario, seed=seed, scale=scale)
    place.parent.mkdir(parents=True, exist_ok=True)
    _check_room(place.parent, company.expected)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary:
        made, logs = Path(temporary) / "world", Path(temporary) / "world" / "exchanges"
        logs.mkdir(parents=True)
        n_rows = _write_exchanges(company, logs, threads, on_progress)
        accounts, truth, licensed = everybody(company)
        pq.write_table(accounts, made / "accounts.parquet", compression="zstd")
        pq.write_table(truth, made / "truth.parquet", compression="zstd")
        (made / "allowlist.txt").write_text("".join(f"{each}\n" for each in licensed), "utf-8")
        said = {"title": scenario.title, "follows": scenario.follows, "seed": seed, "scale": scale}
        (made / "world.json").write_text(json.dumps(said | {"n_exchanges": n_rows}, indent=1) + "\n", "utf-8")
        _put_in_place(made, place, Path(temporary) / "old")
    return World(
        exchanges=folder / "exchanges",
        accounts=folder / "accounts.parquet",
        truth=folder / "truth.parquet",
        allowlist=folder / "allowlist.txt",
        n_exchanges=n_rows,
        n_accounts=len(company),
    )


def _check_target(folder: Path) -> None:
    """Refuse to replace anything but an empty folder or a world: real logs have no `world.json` beside them."""
    try:
        str(folder).encode()  # Arrow takes no other names
    except UnicodeEncodeError:
        raise InputError("the name of a folder is not UTF-8", got=ascii(str(folder)), do="Choose another.") from None
    there = {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.is_dir() else set()
    ours = CONTENTS | {name for name in there if re.fullmatch(r"exchanges/part-\d+\.parquet", name)}
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder", do="Choose an empty folder.")
    if there and (strange := sorted(there - ours) or ("world.json" not in there and sorted(there))):
        raise InputError(f"{folder} holds other files", got=strange[0], do="Choose an empty folder.")


def _check_room(folder: Path, n_rows: float) -> None:
    free, needed = shutil.disk_usage(folder).free, n_rows * BYTES_PER_ROW
    if needed > free:
        said = f"{free / 1e6:,.0f} MB free", f"about {needed / 1e6:,.0f} MB"
        raise InputError(
            f"{folder} has too little room", got=said[0], expected=said[1], do="Lower --scale, or free some."
        )


def _put_in_place(made: Path, folder: Path, old: Path) -> None:
    made.chmod(0o755)
    if folder.exists():
        folder.replace(old)
    made.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _files(company: Company) -> list[list[tuple[int, int]]]:
    """The hours of each file, in stretches of about `ROWS_PER_STRETCH` exchanges; a matter of the company alone."""
    first, n_hours = company.stage.start_us // HOUR_US, company.stage.n_days * 24
    length = max(1, min(int(ROWS_PER_STRETCH * n_hours / max(company.expected, 1.0)), n_hours // N_MIN_FILES))
    stretches = [(first + at, first + min(at + length, n_hours)) for at in range(0, n_hours, length)]
    per_file = max(1, min(STRETCHES_PER_FILE, len(stretches) // N_MIN_FILES))
    return [stretches[at : at + per_file] for at in range(0, len(stretches), per_file)]


def _write_exchanges(company: Company, logs: Path, threads: int, on_progress: OnProgress) -> int:
    """Write every file, some at a time; how many exchanges. A thread plays and writes whole files."""
    work = _files(company)
    total, done, stop = sum(map(len, work)), count(1), Event()

    def write(number: int) -> int:
        n_rows = 0
        with _writer(logs / f"part-{number:04d}.parquet", schema_of(company)) as writer:
            for low, high in work[number]:
                if stop.is_set():
                    break
                rows = play_hours(company, low, high)
                writer.write_table(rows)
                n_rows += rows.num_rows
                on_progress(next(done), total)
        return n_rows

    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            return sum(pool.map(write, range(len(work))))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[*REPEATED, "max_tokens", "temperature"],
        write_statistics=["ts", "account_id"],
        store_schema=False,
    )
