"""fairness: country, language, script and the hour of the day name nobody and clear nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stillwatch.dossier.findings import Findings
from stillwatch.sim.world import Played
from tests.worlds import crew_of, scanned, written

Change = Callable[[Played], tuple[pa.Table, pa.Table]]

CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшзыю")
HOUR_US = 3_600_000_000


def found_in(exchanges: pa.Table, accounts: pa.Table, folder: Path) -> Findings:
    """What a scan of two tables finds."""
    return scanned(written(exchanges, folder / "logs.parquet"), accounts=written(accounts, folder / "accounts.parquet"))


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with one column replaced."""
    at = table.column_names.index(name)
    return table.set_column(at, table.field(name), values.cast(table.field(name).type))


def later(table: pa.Table, name: str, hours: int, who: pa.Array | None = None) -> pa.Table:
    """The table with a time moved by some hours, for everybody or some accounts."""
    at = table[name].combine_chunks()
    moved = pc.add(at.cast(pa.int64()), hours * HOUR_US).cast(at.type)
    if who is not None:
        moved = pc.if_else(pc.is_in(table["account_id"].combine_chunks(), who), moved, at)
    return put(table, name, moved)


def rows_of(findings: Findings) -> list[dict[str, object]]:
    """Who is named, how surely, and in which campaign."""
    rows: list[dict[str, object]] = findings.members.to_pylist()
    return rows


def test_countries_are_names(loud: Played, loud_findings: Findings, tmp_path: Path) -> None:
    """Every country called by another's name: the same campaigns, members and bits."""
    country = loud.accounts["country"].combine_chunks()
    names = sorted(set(country.to_pylist()) - {None})
    called = dict(zip(names, names[1:] + names[:1], strict=True))
    renamed = pa.array([called.get(each) for each in country.to_pylist()])
    found = found_in(loud.exchanges, put(loud.accounts, "country", renamed), tmp_path)
    assert rows_of(found) == rows_of(loud_findings) and len(rows_of(found)) > 0
    assert found.evidence["e_log2"].to_pylist() == loud_findings.evidence["e_log2"].to_pylist()


@pytest.mark.parametrize("hours", [7, -11])
def test_everybody_may_live_elsewhere(hours: int, loud: Played, loud_findings: Findings, tmp_path: Path) -> None:
    """All clocks moved alike: the same accounts are named."""
    exchanges, accounts = later(loud.exchanges, "ts", hours), later(loud.accounts, "created_at", hours)
    found = found_in(exchanges, accounts, tmp_path)
    assert {row["account_id"] for row in rows_of(found)} == {row["account_id"] for row in rows_of(loud_findings)}


@pytest.mark.parametrize("one_of_the_crew", [True, False])
def test_nobodys_clock_tells_on_them(
    one_of_the_crew: bool, loud: Played, loud_findings: Findings, tmp_path: Path
) -> None:
    """One account's hours moved: nobody's membership moves, and no evidence."""
    crew = crew_of(loud)
    name = min(crew if one_of_the_crew else set(loud.truth["account_id"].to_pylist()) - crew)
    found = found_in(later(loud.exchanges, "ts", 5, pa.array([name])), loud.accounts, tmp_path)
    assert rows_of(found) == rows_of(loud_findings)
    assert found.evidence["e_log2"].to_pylist() == loud_findings.evidence["e_log2"].to_pylist()


def half_of(played: Played, *, seed: int) -> pa.Array:
    """Half of the ordinary accounts, drawn by lot."""
    ordinary = sorted(set(played.truth["account_id"].to_pylist()) - crew_of(played))
    return pa.array(np.random.default_rng(seed).permutation(ordinary)[: len(ordinary) // 2].tolist())


def another_script(played: Played) -> tuple[pa.Table, pa.Table]:
    """Half of them write in other letters."""
    rows = played.exchanges
    half = pc.is_in(rows["account_id"].combine_chunks(), half_of(played, seed=1))
    for name in ("prompt", "system_prompt"):
        said = [None if each is None else each.lower().translate(CYRILLIC) for each in rows[name].to_pylist()]
        rows = put(rows, name, pc.if_else(half, pa.array(said, rows.field(name).type), rows[name].combine_chunks()))
    return rows, played.accounts


def another_zone(played: Played) -> tuple[pa.Table, pa.Table]:
    """Half of them live nine hours further on."""
    half = half_of(played, seed=2)
    return later(played.exchanges, "ts", 9, half), later(played.accounts, "created_at", 9, half)


def another_country(played: Played) -> tuple[pa.Table, pa.Table]:
    """Half of them have cards of a country nobody else has."""
    accounts = played.accounts
    half = pc.is_in(accounts["account_id"].combine_chunks(), half_of(played, seed=3))
    known = pc.and_(half, accounts["country"].combine_chunks().is_valid())
    return played.exchanges, put(accounts, "country", pc.if_else(known, "ZZ", accounts["country"].combine_chunks()))


@pytest.mark.parametrize("change", [another_script, another_zone, another_country], ids=lambda change: change.__name__)
def test_those_who_differ_are_named_no_more_often(change: Change, loud: Played, tmp_path: Path) -> None:
    """Of either half of the ordinary accounts nobody is named, and the campaign beside them still is."""
    found = found_in(*change(loud), tmp_path)
    named = {str(row["account_id"]) for row in rows_of(found)}
    assert named <= crew_of(loud) and len(named) >= 0.9 * len(crew_of(loud))


@pytest.mark.parametrize("change", [another_script, another_zone, another_country], ids=lambda change: change.__name__)
def test_being_different_makes_no_group(change: Change, quiet: Played, tmp_path: Path) -> None:
    """Without a campaign, half a population that differs in one thing is not found to act as one."""
    assert found_in(*change(quiet), tmp_path).campaigns.num_rows == 0
