"""profiles: Law 1 for Profiles, and which rows are one exchange."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect.profiles import SAMPLED, deduplicate, merge_profiles, profile
from stillwatch.records import FACTS, HOURS_PER_WEEK, LOG_BINS, PROFILES, PROMPTS_PER_PROFILE, ROWS_PER_PROFILE
from tests.detect.making import facts, keys


def some_facts(seed: int, n: int, n_accounts: int) -> pa.Table:
    """Facts of a few accounts: values that repeat, unknown counts, and instants of several years and before 1970."""
    rng = np.random.default_rng(seed)
    return facts(
        rng.integers(0, n_accounts, n),
        row_id=keys(2, rng.permutation(n)),
        ts=rng.integers(-(10**15), 2 * 10**15, n),
        input_tokens=rng.integers(-1, 5000, n),
        output_tokens=2 ** rng.integers(0, 40, n) - 1,
        script=rng.integers(0, 4, n).astype(np.uint8),
        prompt=keys(3, rng.integers(-1, max(n // 3, 2), n)),
        conversation=keys(5, rng.integers(-1, max(n // 2, 2), n)),
        **{name: keys(4, rng.integers(-1, 6, n)) for name in SAMPLED if name != "script"},
    )


FACT_TABLES = st.builds(
    some_facts,
    seed=st.integers(0, 2**32 - 1),
    n=st.sampled_from([0, 1, 2, 5, 30, 500]),
    n_accounts=st.integers(1, 4),
)
"""Tables small enough to be fast and large enough to overflow both samples of a Profile."""


def parts_of(table: pa.Table, n: int, seed: int) -> list[pa.Table]:
    """The rows dealt into parts, each a Profile table; some parts may be empty."""
    part = np.random.default_rng(seed).integers(0, n, table.num_rows)
    return [profile(table.filter(pa.array(part == number))) for number in range(n)]


def by_hand(table: pa.Table) -> list[dict[str, Any]]:
    """Profiles in plain Python, one row an account, by the words of records.py."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["account"], []).append(row)
    return [one_by_hand(account, mine) for account, mine in sorted(rows.items())]


def one_by_hand(account: int, mine: list[dict[str, Any]]) -> dict[str, Any]:
    """The Profile of one account in plain Python."""
    hours, bins = [0] * HOURS_PER_WEEK, {"input": [0] * LOG_BINS, "output": [0] * LOG_BINS}
    for row in mine:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["ts"])
        hours[at.weekday() * 24 + at.hour] += 1
        for name, counts in bins.items():
            if row[f"{name}_tokens"] >= 0:
                counts[min(row[f"{name}_tokens"].bit_length(), LOG_BINS - 1)] += 1
    sampled = sorted(mine, key=lambda row: row["row_id"])[:ROWS_PER_PROFILE]
    prompts = Counter(row["prompt"] for row in mine if row["prompt"])
    kept = sorted(prompts)[:PROMPTS_PER_PROFILE]
    return {
        "account": account,
        "account_id": mine[0]["account_id"],
        "n_exchanges": len(mine),
        "input_tokens": sum(max(row["input_tokens"], 0) for row in mine),
        "output_tokens": sum(max(row["output_tokens"], 0) for row in mine),
        "first_ts": min(row["ts"] for row in mine),
        "last_ts": max(row["ts"] for row in mine),
        "rhythm": hours,
        "input_log2": bins["input"],
        "output_log2": bins["output"],
        "rows": [row["row_id"] for row in sampled],
        **{f"rows_{name}": [row[name] for row in sampled] for name in SAMPLED},
        "prompts": kept,
        "prompt_counts": [prompts[prompt] for prompt in kept],
        "conversations": sorted({row["conversation"] for row in mine if row["conversation"]})[:PROMPTS_PER_PROFILE],
    }


@given(table=FACT_TABLES)
def test_a_profile_is_what_the_records_say(table: pa.Table) -> None:
    """Counters, histograms and both samples are those of a plain count."""
    made = profile(table)
    assert made.schema.equals(PROFILES)
    assert sorted(made.to_pylist(), key=lambda row: row["account"]) == by_hand(table)


@given(table=FACT_TABLES, n=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_merged_parts_equal_the_whole(table: pa.Table, n: int, seed: int) -> None:
    """However exchanges are dealt into parts, the parts merge into the Profiles of all of them."""
    assert merge_profiles(parts_of(table, n, seed)).equals(merge_profiles([profile(table)]))
    assert merge_profiles([profile(table)]).equals(profile(table))


@given(table=FACT_TABLES, seed=st.integers(0, 2**32 - 1))
def test_merging_is_commutative_and_associative(table: pa.Table, seed: int) -> None:
    """Neither the order nor the grouping of parts matters."""
    one, two, three = parts_of(table, 3, seed)
    assert merge_profiles([one, two]).equals(merge_profiles([two, one]))
    left = merge_profiles([merge_profiles([one, two]), three])
    right = merge_profiles([one, merge_profiles([two, three])])
    assert left.equals(right)
    assert left.equals(merge_profiles([three, one, two]))


@given(table=FACT_TABLES)
def test_nothing_is_neutral(table: pa.Table) -> None:
    """Merging an empty table changes nothing, from either side; no parts at all are no accounts."""
    whole, empty = profile(table), PROFILES.empty_table()
    assert merge_profiles([whole, empty]).equals(whole)
    assert merge_profiles([empty, whole]).equals(whole)
    assert merge_profiles([]).equals(empty)
    assert profile(FACTS.empty_table()).equals(empty)


@given(table=FACT_TABLES)
def test_profiles_survive_storage(table: pa.Table) -> None:
    """Written as Arrow bytes and read again, a Profile merges as before."""
    whole = profile(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    again = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert again.equals(whole)
    assert merge_profiles([again]).equals(whole)


def test_a_profile_is_bounded_and_whole_numbers() -> None:
    """No column is a float, and ten thousand exchanges weigh what the bounds allow."""
    kinds = [field.type for field in PROFILES]
    kinds += [kind.value_type for kind in kinds if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)]
    assert not any(pa.types.is_floating(kind) for kind in kinds)
    table = some_facts(1, 10_000, 1)
    made = profile(table)
    assert len(made["rows"][0]) == ROWS_PER_PROFILE and len(made["prompts"][0]) == PROMPTS_PER_PROFILE
    assert made.nbytes < 16_384


# --- which rows are one exchange --------------------------------------------------------------------------


def names(table: pa.Table) -> list[tuple[int, int, int]]:
    """(account, row id, exchange) of each row, sorted."""
    columns = (table[name].to_pylist() for name in ("account", "row_id", "exchange"))
    return sorted(zip(*columns, strict=True))


def test_equal_content_at_one_instant_is_one_exchange() -> None:
    """Rows of one account with one row id are one."""
    table = facts([0, 0, 0, 1], row_id=keys(2, [5, 5, 6, 7]))
    assert len(names(deduplicate(table))) == 3


def test_one_exchange_id_is_one_exchange_and_the_smallest_row_stays() -> None:
    """Of rows of one account with one exchange id, the one with the smallest row id is kept."""
    rows = keys(2, [1, 2, 3, 4])
    table = facts([0, 0, 0, 0], row_id=rows, exchange=keys(3, [9, 9, 9, -1]))
    kept = names(deduplicate(table))
    assert [row for _, row, _ in kept] == sorted([int(rows[:3].min()), int(rows[3])])


def test_ids_that_collide_across_accounts_are_kept() -> None:
    """Two accounts may use the same exchange id, or send the same content: both rows stay."""
    table = facts([0, 1, 2], row_id=keys(2, [1, 2, 2]), exchange=keys(3, [9, 9, -1]))
    assert names(deduplicate(table)) == names(table)


def test_rows_without_an_id_are_never_one_by_their_lack() -> None:
    """An unknown exchange id, 0, is no id that rows could share."""
    table = facts([0] * 5, row_id=keys(2, range(5)))
    assert deduplicate(table).num_rows == 5


def test_nothing_deduplicates_to_nothing() -> None:
    """No facts are no exchanges."""
    assert deduplicate(FACTS.empty_table()).num_rows == 0


def colliding(seed: int, n: int, *, one_id: bool) -> pa.Table:
    """Facts full of copies; with `one_id`, equal content always bears the same exchange id, as a re-sent file would."""
    rng = np.random.default_rng(seed)
    row = rng.integers(0, max(n // 2, 1), n)
    exchange = (row * 7919) % 11 - 2 if one_id else rng.integers(-2, 9, n)
    # A row id covers the instant, so equal ones have the same.
    return facts(rng.integers(0, 3, n), row_id=keys(2, row), exchange=keys(3, np.maximum(exchange, -1)), ts=row)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60))
def test_what_stays_is_one_of_each(seed: int, n: int) -> None:
    """The rows kept are those of a plain pass over the rows by row id, and are sorted by account and row id."""
    table = colliding(seed, n, one_id=True)
    kept: list[tuple[int, int, int]] = []
    seen: set[tuple[int, str, int]] = set()
    for account, row, exchange in names(table):
        marks = {(account, "row", row)} | ({(account, "exchange", exchange)} if exchange else set())
        if not marks & seen:
            kept.append((account, row, exchange))
        seen |= marks
    left = deduplicate(table)
    assert names(left) == kept
    assert list(zip(left["account"].to_pylist(), left["row_id"].to_pylist(), strict=True)) == [
        (account, row) for account, row, _ in kept
    ]


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60))
def test_deduplicating_twice_is_deduplicating_once(seed: int, n: int) -> None:
    """What stays holds no copies."""
    once = deduplicate(colliding(seed, n, one_id=False))
    assert deduplicate(once).equals(once)


def test_every_id_of_a_copy_counts() -> None:
    """Of one content under the ids 0, 5 and 6, one row stays, and it is the copy of what else bears 5 or 6."""
    table = facts([0] * 5, row_id=[1, 1, 1, 2, 3], exchange=[0, 6, 5, 6, 7], ts=[1, 1, 1, 2, 3])
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 3, 0, 4, 2]):
        left = deduplicate(table.take(pa.array(order)))
        assert list(zip(left["row_id"].to_pylist(), left["exchange"].to_pylist(), strict=True)) == [(1, 5), (3, 7)]


def test_an_id_that_a_client_repeats_hides_nothing() -> None:
    """Different prompts under one id are different exchanges; a row without its prompt is a copy of one with it."""
    table = facts([0] * 6 + [1], row_id=[1, 2, 3, 4, 5, 6, 7], exchange=[9, 9, 9, 9, 8, 8, 9],
                  prompt=keys(3, np.array([-1, 4, 5, 4, -1, -1, -1])))  # fmt: skip
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 0, 5, 6, 1, 4, 2]):
        assert sorted(deduplicate(table.take(pa.array(order)))["row_id"].to_pylist()) == [2, 3, 5, 7]


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), shuffle=st.integers(0, 2**32 - 1))
def test_copies_are_those_of_one_prompt(seed: int, n: int, shuffle: int) -> None:
    """Against the words of the rule, row by row, in any order of rows; a second time changes nothing."""
    rng = np.random.default_rng(seed)
    table = colliding(seed, n, one_id=False)
    # A row id covers the prompt, so equal ones have the same.
    prompt = keys(4, rng.integers(-1, 3, max(n // 2, 1)))[table["row_id"].to_numpy() % max(n // 2, 1)]
    table = table.set_column(table.schema.get_field_index("prompt"), "prompt", pa.array(prompt, pa.uint64()))
    rows = sorted(
        table.to_pylist(), key=lambda row: (row["account"], row["row_id"], row["exchange"] == 0, row["exchange"])
    )
    named = [(row["account"], row["exchange"], row["prompt"]) for row in rows]
    kept = [
        row for at, row in enumerate(rows)
        if (row["account"], row["row_id"]) not in [(other["account"], other["row_id"]) for other in rows[:at]]
        and not (row["exchange"] and named[at] in named[:at])
        and not (
            row["exchange"] and not row["prompt"]
            and any(other[:2] == named[at][:2] and other[2] for other in named)
        )
    ]  # fmt: skip
    left = deduplicate(table.take(pa.array(np.random.default_rng(shuffle).permutation(n))))
    assert left.to_pylist() == kept and deduplicate(left).equals(left)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40), shuffle=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_decide_what_stays(seed: int, n: int, shuffle: int) -> None:
    """The same facts in any order leave the same facts."""
    table = colliding(seed, n, one_id=False)
    order = np.random.default_rng(shuffle).permutation(n)
    assert deduplicate(table.take(pa.array(order))).equals(deduplicate(table))
