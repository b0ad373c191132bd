"""texts: which prompts are read again, that they are bounded, and that the order of the logs does not choose."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.detect.digest import RowKeys, digest
from stillwatch.detect.groups import Candidate
from stillwatch.detect.population import Population, build_population
from stillwatch.detect.profiles import deduplicate, profile
from stillwatch.detect.texts import PROMPTS_READ, Texts, choose_texts, collect_texts, pick_texts
from stillwatch.records import EXCHANGES
from tests.detect.making import KEY, START_US

KEYS = RowKeys(KEY, KEY)
N = 50


def log(seed: int = 1) -> pa.Table:
    """Fifty accounts that say up to sixty things, some of them the same, some nothing."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(N), rng.integers(1, 60, N))
    said = [None if draw == 0 else f"question number {draw}" for draw in rng.integers(0, 400, len(who)).tolist()]
    return pa.table(
        {
            "account_id": pa.array([f"a{number:02d}" for number in who.tolist()]),
            "ts": pa.array(START_US + rng.permutation(len(who)), pa.int64()).cast(EXCHANGES.field("ts").type),
            "prompt": pa.array(said, pa.string()),
        }
    )


def candidate(n: int, members: list[int], bits: dict[int, float] | None = None) -> Candidate:
    """A group of accounts that belong for certain; odds of others as given, none for the rest."""
    odds = np.full(n, -np.inf)
    odds[members] = 30.0
    for account, some in (bits or {}).items():
        odds[account] = some
    return Candidate(np.array(members), 1 / (1 + np.exp2(-odds)), odds, ())


def people_of(table: pa.Table) -> Population:
    """The population of a log."""
    facts = [digest(batch, keys=KEYS) for batch in table.combine_chunks().to_batches()]
    return build_population(profile(deduplicate(pa.Table.from_batches(facts))), None)


def read_again(table: pa.Table, groups: list[list[int]], *, size: int = 97) -> Texts | None:
    """The prompts of groups and their peers, read again in batches of a size."""
    people = people_of(table)
    wanted = choose_texts(
        people, [candidate(len(people), group) for group in groups], np.zeros(len(people), np.int64), key=KEY
    )
    batches = table.select(["account_id", "prompt"]).combine_chunks().to_batches(max_chunksize=size)
    return collect_texts([pick_texts(batch, wanted, key=KEY) for batch in batches], wanted)


def test_prompts_are_those_of_their_senders() -> None:
    """Each prompt was sent by the account it stands beside, once a prompt, and no account gives more than its bound."""
    table = log()
    sent = set(zip(table["account_id"].to_pylist(), table["prompt"].to_pylist(), strict=True))
    texts = read_again(table, [[3, 4, 5]])
    assert texts is not None
    told = [(f"a{owner:02d}", prompt) for owner, prompt in zip(texts.owner, texts.prompts.to_pylist(), strict=True)]
    assert set(told) <= sent and len(set(told)) == len(told) == len(texts)
    counts = np.bincount(texts.owner, minlength=N)
    distinct = [len({prompt for name, prompt in sent if name == f"a{at:02d}" and prompt}) for at in range(N)]
    assert counts.tolist() == [min(n, PROMPTS_READ) for n in distinct]


@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_the_order_of_rows_does_not_choose(size: int) -> None:
    """Rows in another order and batches of another size give the same prompts in the same order."""
    table = log()
    order = np.random.default_rng(9).permutation(table.num_rows)
    one, other = read_again(table, [[1, 2]]), read_again(table.take(pa.array(order)), [[1, 2]], size=size)
    assert one is not None and other is not None
    assert np.array_equal(one.owner, other.owner) and one.prompts.equals(other.prompts)


def test_without_text_there_is_nothing_to_read() -> None:
    """A log whose prompts are all null gives none."""
    table = log()
    silent = table.set_column(2, "prompt", pa.nulls(table.num_rows, pa.string()))
    assert read_again(silent, [[1, 2]]) is None


def test_those_who_come_near_are_read_but_nobodys_peers() -> None:
    """Accounts near a candidate are read where they would not have been chosen, and are named; the far ones are not."""
    table = log()
    people = people_of(table)
    apart = np.arange(len(people))
    near = candidate(len(people), [3, 4], {7: -2.0, 8: -9.0, 9: -11.0})
    wanted = choose_texts(people, [near], apart, key=KEY)
    assert wanted.near.tolist() == [7, 8]
    assert sorted(wanted.positions.tolist()) == [3, 4, 7, 8]
    together = choose_texts(people, [near], np.zeros(len(people), np.int64), key=KEY)
    assert not len(together.near)
    both = choose_texts(people, [near, candidate(len(people), [8, 9])], apart, key=KEY)
    assert both.near.tolist() == [7]
