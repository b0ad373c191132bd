from __future__ import annotations

import dataclasses
import types
from datetime import UTC, datetime
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pytest

from stillwatch import records
from stillwatch.records import CAMPAIGNS, EVIDENCE, FINDINGS, LEADS, NOUNS, Evidence, Exchange

SCHEMAS = {name: value for name, value in vars(records).items() if isinstance(value, pa.Schema)}

PYTHON_OF_ARROW = {
    pa.string(): str,
    pa.int64(): int,
    pa.uint64(): int,
    pa.float64(): float,
    records.TIMESTAMP: datetime,
}


def test_the_nouns_are_the_seven_of_the_design() -> None:
    """In the order data flows; nothing else is a noun."""
    names = [noun.__name__ for noun in NOUNS]
    assert names == ["Exchange", "Profile", "Trait", "Campaign", "Evidence", "Decision", "Dossier"]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_a_noun_agrees_with_its_schema(noun: Any) -> None:
    """Every field of the dataclass is a column, in the schema's order and of its type; the dataclass is frozen."""
    schema = NOUNS[noun]
    columns = [field.name for field in dataclasses.fields(noun)]
    assert columns == [name for name in schema.names if name in columns]
    assert noun.__dataclass_params__.frozen
    for name, hint in get_type_hints(noun).items():
        plain = get_args(hint)[0] if get_origin(hint) is types.UnionType else hint
        expected = PYTHON_OF_ARROW.get(schema.field(name).type, get_origin(plain))
        assert (get_origin(plain) or plain) is expected, name


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_carries_its_name_and_version(name: str) -> None:
    """A Parquet file says which schema it has and in which version; no column stands twice."""
    schema = SCHEMAS[name]
    assert schema.metadata == {b"stillwatch": name.lower().encode(), b"version": b"1"}
    assert len(set(schema.names)) == len(schema.names)


def test_times_are_instants() -> None:
    """Every timestamp is in microseconds and in UTC."""
    for schema in SCHEMAS.values():
        for field in schema:
            assert not pa.types.is_timestamp(field.type) or field.type == pa.timestamp("us", tz="UTC")


def test_the_findings_folder_holds_the_published_files() -> None:
    """Names and columns are a contract: others read these files."""
    assert list(FINDINGS) == [
        "campaigns",
        "leads",
        "members",
        "evidence",
        "evidence_rows",
        "traits",
        "member_traits",
        "explanations",
    ]
    assert (
        CAMPAIGNS.names
        == (
            "campaign_id verdict n_accounts n_exchanges input_tokens output_tokens first_seen last_seen operator_bits "
            "harvest_bits e_log2 q_value best_innocent innocent_margin_bits capabilities not_examined"
        ).split()
    )
    assert LEADS.names[: len(CAMPAIGNS)] == CAMPAIGNS.names
    assert FINDINGS["members"].names == "campaign_id account_id membership n_exchanges bits".split()
    assert (
        EVIDENCE.names
        == (
            "evidence_id subject_kind subject_id signal family statistic n effect lo hi null_id p_log10 e_log2 h1 h0 "
            "settings_hash detail"
        ).split()
    )
    assert FINDINGS["evidence_rows"].names[:4] == "evidence_id account_id row_id role".split()
    assert FINDINGS["traits"].names == "campaign_id trait_key kind origin n_inside n_outside expected".split()
    assert FINDINGS["explanations"].names == "campaign_id hypothesis bits would_change".split()


def test_only_logs_hold_text() -> None:
    """No schema but that of the logs has a column for prompts or answers."""
    text = {"system_prompt", "prompt", "messages", "completion"}
    assert text <= set(records.EXCHANGES.names)
    for name, schema in SCHEMAS.items():
        if name != "EXCHANGES":
            assert not text & {field.name for field in schema if pa.types.is_string(field.type)}


def test_a_row_is_read_into_its_noun() -> None:
    """A row of a table becomes the dataclass; columns it does not have are left out, absent ones keep their default."""
    ts = datetime(2026, 11, 21, tzinfo=UTC)
    table = pa.table({"account_id": ["a"], "ts": pa.array([ts], records.TIMESTAMP), "extra": [1]})
    assert Exchange.from_row(table.to_pylist()[0]) == Exchange(account_id="a", ts=ts)


def test_a_row_without_a_required_column_is_no_noun() -> None:
    """What has no default must be there."""
    with pytest.raises(TypeError, match="account_id"):
        Exchange.from_row({"ts": datetime(2026, 1, 1, tzinfo=UTC)})


def test_evidence_survives_arrow() -> None:
    """A piece of Evidence written to a table and read back is equal, nulls included."""
    values: dict[str, Any] = {
        field.name: 1 if field.type == pa.int64() else 0.5 if field.type == pa.float64() else field.name
        for field in EVIDENCE
    }
    evidence = Evidence.from_row(values | {"p_log10": None})
    table = pa.Table.from_pylist([dataclasses.asdict(evidence)], schema=EVIDENCE)
    assert Evidence.from_row(table.to_pylist()[0]) == evidence
