"""OTLP in protobuf, as the protocol's own library writes it, says what OTLP in JSON says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.ingest.formats import protobuf
from tests import conversation as one
from tests.needs import needs_module

Reader = Callable[..., Any]
TRACES = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
LOGS = "opentelemetry.proto.collector.logs.v1.logs_service_pb2"


def encoded(record: Any) -> bytes:
    """An export in JSON as the protocol's library writes it; ids are base64 there, hexadecimal in OTLP."""
    parse = needs_module("otel", "google.protobuf.json_format").ParseDict

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        ids = {key: base64.b64encode(bytes.fromhex(value[key])).decode() for key in value if key in one.SPAN}
        return {key: named(inner) for key, inner in value.items()} | ids

    kind = "Trace" if "resourceSpans" in record else "Logs"
    module = needs_module("otel", TRACES if kind == "Trace" else LOGS)
    return bytes(parse(named(record), getattr(module, f"Export{kind}ServiceRequest")()).SerializeToString())


def framed(*exports: bytes) -> bytes:
    return b"".join(len(data).to_bytes(4, "big") + data for data in exports)


value = st.recursive(
    st.one_of(
        st.builds(lambda text: {"stringValue": text}, st.text(max_size=5)),
        st.builds(lambda number: {"intValue": str(number)}, st.integers(-(2**63), 2**63 - 1)),
        st.builds(lambda number: {"doubleValue": number}, st.floats(allow_nan=False, allow_infinity=False)),
        st.builds(lambda flag: {"boolValue": flag}, st.booleans()),
        st.just({}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda values: {"arrayValue": {"values": values}}, st.lists(inner, max_size=3)),
        st.builds(
            lambda pairs: {"kvlistValue": {"values": [{"key": key, "value": one_} for key, one_ in pairs.items()]}},
            st.dictionaries(st.sampled_from(["role", "content", "message", "finish_reason"]), inner, max_size=3),
        ),
    ),
    max_leaves=5,
)
names = st.sampled_from([*one.NEW_NAMES, *one.OLD_NAMES, "http.route", "tls.client.ja4"])
pairs = st.lists(st.builds(lambda key, told: {"key": key, "value": told}, names, value), max_size=4)
events = st.sampled_from(["gen_ai.user.message", "gen_ai.choice", "gen_ai.client.inference.operation.details", "other"])


spans = st.tuples(st.booleans(), pairs, st.lists(st.tuples(events, pairs), max_size=2))


@given(found=st.lists(spans, min_size=1, max_size=3))
def test_any_span_is_told_alike(found: list[Any], tmp_path: Path, reading: Reader) -> None:
    """Whatever spans and their events say, both encodings give the same rows, rejects and notes."""
    made = one.spans(one.NEW_NAMES)
    base = made["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    told = [
        base
        | {"attributes": [*base["attributes"], *more] if is_usual else more, "status": {"code": 2 * is_usual}}
        | {"events": [{"name": name, "attributes": inner} for name, inner in happened]}
        for is_usual, more, happened in found
    ]
    made["resourceSpans"][0]["scopeSpans"][0]["spans"] = [base, *told]
    same(made, tmp_path, reading)


@given(records=st.lists(st.tuples(events, pairs, value), min_size=1, max_size=3))
def test_any_log_record_is_told_alike(records: list[Any], tmp_path: Path, reading: Reader) -> None:
    """Whatever log records say, both encodings give the same rows, rejects and notes."""
    told = [{"eventName": name, "attributes": more, "body": body} for name, more, body in records]
    by_attribute = [{"attributes": [{"key": "event.name", "value": {"stringValue": records[0][0]}}]}]
    same(one.log_records(told + by_attribute), tmp_path, reading)


def same(record: Any, folder: Path, reading: Reader) -> None:
    (folder / "log.jsonl").write_text(json.dumps(record), "utf-8")
    (folder / "log.binpb").write_bytes(encoded(record))
    in_json, in_protobuf = reading(f"otlp:{folder / 'log.jsonl'}"), reading(folder / "log.binpb")
    assert in_protobuf.rows == in_json.rows
    assert (in_protobuf.rejects, in_protobuf.notes) == (in_json.rejects, in_json.notes)


def test_a_damaged_export_costs_only_itself(tmp_path: Path, reading: Reader) -> None:
    """Of many exports those that are none are counted, wherever the damage lies, and the others are read."""
    good = encoded(one.spans(one.NEW_NAMES))
    bad = [b"\xff" * 9, good[:-1], good.replace(one.ACCOUNT.encode(), one.ACCOUNT.encode() + b"x")]
    (tmp_path / "log.binpb").write_bytes(framed(good, *bad, good, b"", good))
    read = reading(tmp_path / "log.binpb")
    assert read.column("account_id") == [one.ACCOUNT] * 3
    assert read.rejects == {"record_of_another_shape": 3}


@pytest.mark.parametrize("n_lost", [1, 3, 100])
def test_a_file_that_was_cut(n_lost: int, tmp_path: Path, reading: Reader) -> None:
    """A collector that died while it wrote leaves all exports but the last."""
    good = encoded(one.spans(one.NEW_NAMES))
    (tmp_path / "log.binpb").write_bytes(framed(good, good, good)[:-n_lost])
    read = reading(tmp_path / "log.binpb")
    assert (read.n_rows, read.rejects) == (2, {"truncated_file": 1})


def test_bytes_that_are_no_text(tmp_path: Path, reading: Reader) -> None:
    """A name in bytes that are not UTF-8 is spelt out, and costs no span that was sent along with it."""
    good = encoded(one.spans(one.NEW_NAMES))
    (tmp_path / "log.binpb").write_bytes(framed(good.replace(b"acct-7", b"acct\xff7"), good))
    assert reading(tmp_path / "log.binpb").column("account_id") == ["acct\\xff7", "acct-7"]


def test_nesting_without_end(tmp_path: Path, reading: Reader) -> None:
    """A value nested deeper than any message is none, in either encoding, and costs nothing beside it."""
    deep: Any = {"stringValue": "x"}
    for _ in range(30):
        deep = {"arrayValue": {"values": [deep]}}
    record = one.spans(one.NEW_NAMES)
    span = record["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["attributes"].append({"key": "tls.client.ja4", "value": deep})
    same(record, tmp_path, reading)
    assert reading(tmp_path / "log.binpb").column("account_id") == [one.ACCOUNT]


@given(st.integers(0, 2**40), st.text(max_size=200))
def test_a_partial_success_is_the_protocols(n_rejected: int, why: str) -> None:
    """What the receiver answers is, byte for byte, what the protocol's library writes."""
    answer = needs_module("otel", TRACES).ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = n_rejected, why
    read = type(answer).FromString(protobuf.partial_success(n_rejected, why))
    assert read == answer
