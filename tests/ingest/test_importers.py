"""Importers: foreign logs arrive as the canonical rows they tell of, and every odd record is counted by name."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.ingest import importer
from stillwatch.ingest.chat import any_address, outer_address, status
from stillwatch.ingest.extract import row
from stillwatch.ingest.importer import Importer, at, importers
from stillwatch.records import EXCHANGES
from tests import conversation as one
from tests.needs import needs_module

Reader = Callable[..., Any]
Record = dict[str, Any]

MADE: dict[str, tuple[str, Record]] = {
    "litellm": ("litellm", one.litellm()),
    "spendlogs": ("spendlogs", one.spend_log()),
    "openai": ("openai", one.batch_line()),
    "langfuse": ("langfuse", one.langfuse()),
    "helicone": ("helicone", one.helicone()),
    "envoy": ("envoy", one.access_log()),
    "otlp, new names": ("otlp", one.spans(one.NEW_NAMES)),
    "otlp, old names": ("otlp", one.spans(one.OLD_NAMES)),
    "exchange log": ("exchangelog", {"stillwatch": 1} | one.ROW | {"ts": one.WHEN.isoformat()}),
}
LACKING = {
    "litellm": set(),
    "spendlogs": {"tls_fingerprint"},
    "openai": set(),
    "langfuse": {"api_key_id", "access_path", "tool_names", "stop_reason", "tls_fingerprint"},
    "helicone": {"ip", "user_agent", "tls_fingerprint"},
    "envoy": set("api_key_id end_user session_id model system_prompt prompt messages completion input_tokens".split())
    | set("output_tokens max_tokens temperature tool_names tool_calls stop_reason".split()),
    "otlp, new names": {"tls_fingerprint"},
    "otlp, old names": {"tls_fingerprint"},
    "exchange log": set(),
}
"""The columns that each format says nothing of; the rest must be as in `conversation.ROW`."""


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
    return path


def expected(name: str) -> Record:
    return {column: None if column in LACKING[name] else value for column, value in one.ROW.items()}


@pytest.mark.parametrize("name", MADE)
def test_the_same_conversation_in_any_format(name: str, tmp_path: Path, reading: Reader) -> None:
    """One conversation gives the same canonical row whatever logged it, apart from what that log lacks."""
    read = reading(write(tmp_path / "log.jsonl", MADE[name][1]))
    assert read.rows == [expected(name)]
    assert not read.rejects and not read.notes


@pytest.mark.parametrize("name", MADE)
def test_a_format_is_recognised_or_named(name: str, tmp_path: Path, reading: Reader) -> None:
    """A log is recognised by its keys, and read alike where its importer is named before its path."""
    path = write(tmp_path / "log.jsonl", MADE[name][1])
    asked, found = reading(f"{MADE[name][0]}:{path}"), reading(path)
    assert list(found.source.importers()) == [MADE[name][0]]
    assert asked.rows == found.rows


@pytest.mark.parametrize("name", [name for name in MADE if not name.startswith("otlp")])
def test_the_row_function_is_what_batches_use(name: str) -> None:
    """The pure function over one record gives the values of the batch, also for records decoded by somebody else."""
    form, record = MADE[name]
    (found,) = row(importers()[form], record)
    assert found["account_id"] == one.ACCOUNT
    assert found.get("messages") in (None, one.REQUEST["messages"])


@pytest.mark.parametrize("name", [name for name in MADE if not name.startswith("otlp")])
def test_tables_are_read_like_lines(name: str, tmp_path: Path, reading: Reader) -> None:
    """The same records as CSV, nested values as JSON text, give the same row."""
    record = MADE[name][1]
    flat = {key: json.dumps(value) if isinstance(value, (dict, list)) else value for key, value in record.items()}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat))
    writer.writeheader()
    writer.writerow(flat)
    (tmp_path / "log.csv").write_text(text.getvalue(), "utf-8")
    (found,) = reading(f"{MADE[name][0]}:{tmp_path / 'log.csv'}").rows
    assert found == expected(name)


def test_langfuse_in_parquet(tmp_path: Path, reading: Reader) -> None:
    """Langfuse's Parquet export, whose details are maps, gives the same row; spans are no exchanges."""
    records = [one.langfuse(), one.langfuse() | {"type": "SPAN", "id": "s"}]
    table = pa.table(
        {
            name: pa.array(
                [list(record[name].items()) if name == "usage_details" else record[name] for record in records],
                pa.map_(pa.string(), pa.int64()) if name == "usage_details" else None,
            )
            for name in records[0]
        }
    )
    pq.write_table(table, tmp_path / "langfuse.parquet")
    read = reading(tmp_path / "langfuse.parquet")
    assert read.rows == [expected("langfuse")]
    assert read.rejects == {"not_an_exchange": 1}


@pytest.mark.parametrize(
    "layout",
    [
        json.dumps,
        lambda records: json.dumps(records, indent=2),
        lambda records: "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n",
        lambda records: "\n".join(json.dumps([record]) for record in records),
        lambda records: json.dumps(records[0], indent=2),
    ],
    ids=["list on a line", "pretty list", "record per line in a list", "list per line", "one pretty record"],
)
def test_json_in_any_layout(layout: Callable[[list[Record]], str], tmp_path: Path, reading: Reader) -> None:
    """Lists of records and documents over many lines are read, not only one record per line."""
    (tmp_path / "log.json").write_text(layout([one.litellm(), one.litellm()]), "utf-8")
    rows = reading(tmp_path / "log.json").rows
    assert len(rows) in (1, 2) and all(found == expected("litellm") for found in rows)


def test_a_mapping_wins(tmp_path: Path, reading: Reader) -> None:
    """What the user maps is read from there, in foreign formats too."""
    path = write(tmp_path / "log.jsonl", one.litellm())
    read = reading(path, mapping={"metadata.user_api_key_alias": "account_id"})
    assert read.column("account_id") == ["k"]
    spans = write(tmp_path / "spans.jsonl", one.spans(one.NEW_NAMES))
    # In OTLP the names of attributes are the columns.
    assert reading(spans, mapping={"enduser.id": "account_id"}).column("account_id") == [one.END_USER]
    with pytest.raises(InputError, match="no file has a column nothing"):
        reading(spans, mapping={"nothing": "model"})


def test_a_mapping_holds_in_every_file_of_a_format(tmp_path: Path, reading: Reader) -> None:
    """A file that shows the mapped key nowhere in its sample names no other account than the rest would."""
    write(tmp_path / "a.jsonl", *[one.litellm() | {"litellm_call_id": f"a{n}"} for n in range(3)])
    without = one.litellm()
    without["metadata"].pop("user_api_key_alias")
    write(tmp_path / "b.jsonl", *[without | {"litellm_call_id": f"b{n}"} for n in range(2)])
    found = reading(tmp_path, mapping={"metadata.user_api_key_alias": "account_id"})
    assert found.column("account_id") == ["k"] * 3 and found.rejects == {"account_id_missing": 2}


def test_records_without_a_span_are_counted(tmp_path: Path, reading: Reader) -> None:
    """What is no export leaves a trace, whether the format was named or other lines gave it away."""
    named = write(tmp_path / "log.jsonl", one.litellm(), one.litellm())
    assert reading(f"otlp:{named}").rejects == {"record_of_another_shape": 2}
    mixed = write(tmp_path / "mixed.jsonl", one.spans(one.NEW_NAMES), {"resourceMetrics": []}, {"a": 1})
    found = reading(mixed)
    assert found.n_rows == 1 and found.rejects == {"record_of_another_shape": 2}


def test_an_unknown_format_is_an_error(tmp_path: Path) -> None:
    """A format that no importer reads is refused with the names of those that are there."""
    with pytest.raises(InputError, match=r"no importer has this name; got 'kong'; expected envoy, exchangelog"):
        importer.named("kong")


def test_a_record_without_account_falls_back_and_then_is_rejected(tmp_path: Path, reading: Reader) -> None:
    """Without a user the team is the account, then the key; the proxy's placeholder is nobody."""
    bare = one.litellm()
    names = ["default_user_id", "team-1", "org-1", one.KEY_HASH]
    keys = ["user_api_key_user_id", "user_api_key_team_id", "user_api_key_org_id", "user_api_key_hash"]
    records = []
    for n in range(5):
        metadata = bare["metadata"] | dict.fromkeys(keys[:n]) | ({} if n else {keys[0]: names[0]})
        records.append(bare | {"metadata": metadata})
    read = reading(write(tmp_path / "log.jsonl", *records))
    assert read.column("account_id") == ["team-1", "team-1", "org-1", one.KEY_HASH]
    assert read.rejects == {"account_id_missing": 1}


def test_a_text_that_was_not_logged_is_none(tmp_path: Path, reading: Reader) -> None:
    """What LiteLLM writes in the place of texts is no prompt that a team's accounts share."""
    stand_in = "redacted-by-litellm"
    answer = {"choices": [{"message": {"role": "assistant", "content": stand_in}}]}
    hidden = {"litellm_call_id": "2", "messages": [{"role": "user", "content": stand_in}], "response": answer}
    found = reading(write(tmp_path / "log.jsonl", one.litellm(), one.litellm() | hidden))
    assert found.column("prompt") == [one.PROMPT, None] and found.column("completion") == [one.ANSWER, None]
    assert found.notes == {"prompt_redacted": 1, "completion_redacted": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}], "Yes."),
        ([{"type": "text", "text": "Yes."}, {"type": "text", "text": "No."}], "Yes.\nNo."),
        ([{"type": "text", "text": "Yes."}, {"type": "tool_use", "id": "1", "name": "map", "input": {}}], "Yes."),
        ([{"type": "thinking", "thinking": "Hm."}], None),
        ("Yes.", "Yes."),
    ],
)
def test_an_answer_of_many_parts(content: Any, said: str | None, tmp_path: Path, reading: Reader) -> None:
    """Of an answer as Anthropic writes it all text is read, whatever part comes first."""
    answer = {"id": "m", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}
    path = write(tmp_path / "a.jsonl", one.batch_line() | {"response": {"status_code": 200, "body": answer}})
    (row,) = reading(path).rows
    assert (row["completion"], row["stop_reason"]) == (said, "end_turn")
    (row,) = reading(write(tmp_path / "b.jsonl", one.litellm() | {"response": answer})).rows
    assert (row["completion"], row["stop_reason"]) == (said, "end_turn")
    (row,) = reading(write(tmp_path / "c.jsonl", one.langfuse() | {"output": json.dumps(answer)})).rows
    assert row["completion"] == said


@pytest.mark.parametrize("said", ["user", "safety_identifier"])
def test_a_body_names_no_account(said: str, tmp_path: Path, reading: Reader) -> None:
    """Whom a client names in its request is no account, or it could lay its calls at anybody's door."""
    whole = one.batch_line()
    lacking = {name: value for name, value in whole.items() if name not in ("account_id", "api_key_hash")}
    record = lacking | {"request_id": "2", "request": {**one.REQUEST, "user": None, said: one.ACCOUNT}}
    log = write(tmp_path / "log.jsonl", whole, record)
    found = reading(log)
    assert len(found.rows) == 1 and found.rejects == {"account_id_missing": 1}
    mapped = reading(log, mapping={f"request.{said}": "account_id"})
    assert [row["account_id"] for row in mapped.rows if row["exchange_id"] == "2"] == [one.ACCOUNT]


def test_failed_calls_are_exchanges(tmp_path: Path, reading: Reader) -> None:
    """A refused call is a row with its status; it has no answer."""
    failed = one.litellm() | {"status": "failure", "error_information": {"error_code": "429"}, "response": {}}
    (found,) = reading(write(tmp_path / "log.jsonl", failed)).rows
    assert found == expected("litellm") | {
        "status": "429", "completion": None, "tool_calls": None, "stop_reason": None
    }  # fmt: skip


def test_spans_of_agents_tools_and_http_are_not_exchanges(tmp_path: Path, reading: Reader) -> None:
    """Only spans of model calls are exchanges; the rest is counted."""
    records = [
        one.spans(one.NEW_NAMES | {"gen_ai.operation.name": name}) for name in ("invoke_agent", "execute_tool", "chat")
    ]
    read = reading(write(tmp_path / "log.jsonl", *records, one.spans({"http.route": "/health"})))
    assert read.n_rows == 1
    assert read.rejects == {"not_an_exchange": 3}


CONTENT = ("gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions")


@pytest.mark.parametrize("events", ["details", "turns"])
@pytest.mark.parametrize("order", ["spans first", "events first"])
def test_events_complete_their_span(events: str, order: str, tmp_path: Path, reading: Reader) -> None:
    """Content told in log records, whole or turn by turn, completes the span of the same call, whatever comes first."""
    bare = {name: value for name, value in one.NEW_NAMES.items() if name not in CONTENT}
    told = one.details({name: one.NEW_NAMES[name] for name in CONTENT} | {"gen_ai.request.model": "orion"})
    files = {"spans": one.spans(bare), "events": told if events == "details" else one.turns()}
    names = ["a.jsonl", "b.jsonl"] if order == "spans first" else ["b.jsonl", "a.jsonl"]
    for name, record in zip(names, files.values(), strict=True):
        write(tmp_path / name, record)
    read = reading(tmp_path)
    without = {"tool_names": None} if events == "turns" else {}
    assert read.rows == [expected("otlp, new names") | without]
    assert read.notes == {"joined_by_request_id": 1}


def test_an_access_log_completes_the_gateways_log(tmp_path: Path, reading: Reader) -> None:
    """Rows of one request id are one exchange; what the gateway did not log comes from the access log."""
    bare = one.litellm() | {"requester_ip_address": None, "user_agent": ""}
    headers = {"x-request-id": one.REQUEST_ID}
    bare["metadata"] = bare["metadata"] | {
        "requester_ip_address": None, "user_agent": None, "requester_metadata": None,
        "requester_custom_headers": headers,
    }  # fmt: skip
    write(tmp_path / "gateway.jsonl", bare)
    blocked = one.access_log() | {"x-request-id": "other", "response_code": 403, "x-litellm-call-id": None}
    write(tmp_path / "access.jsonl", one.access_log(), blocked)
    read = reading(tmp_path)
    whole, alone = read.rows
    assert whole == expected("litellm")
    assert (alone["exchange_id"], alone["status"], alone["prompt"]) == ("other", "403", None)
    assert read.notes == {"joined_by_request_id": 1}
    assert sum(file.n_rows for file in read.source.describe().files) == 3


@pytest.mark.parametrize("told", ["header", "headers"])
@pytest.mark.parametrize("events", ["details", "turns"])
def test_a_span_is_completed_by_its_events_and_by_its_request(
    told: str, events: str, tmp_path: Path, reading: Reader
) -> None:
    """A span that names its request keeps its events; what looks like an id inside another header's value is none."""
    network = ("client.address", "user_agent.original")
    bare = {name: value for name, value in one.NEW_NAMES.items() if name not in (*CONTENT, *network)}
    spelt = {"x-a": "'x-request-id': 'another'", "x-b": 'say "x-request-id"', "x-request-id": one.REQUEST_ID}
    said: Record = {"http.request.header.x-request-id": [one.REQUEST_ID]}
    if told == "headers":
        said = {"metadata.requester_custom_headers": str(spelt)}
    content = {name: one.NEW_NAMES[name] for name in CONTENT} | {"gen_ai.request.model": "orion"}
    said_aside = one.details(content) if events == "details" else one.turns()
    write(tmp_path / "spans.jsonl", one.spans(bare | said), said_aside)
    write(tmp_path / "access.jsonl", one.access_log())
    found = reading(tmp_path)
    assert (found.n_rows, found.rejects, found.notes) == (1, {}, {"joined_by_request_id": 2})
    (row,) = found.rows
    told_by_all = ("account_id", "prompt", "system_prompt", "completion", "ip", "user_agent", "tls_fingerprint")
    assert {name: row[name] for name in told_by_all} == {name: one.ROW[name] for name in told_by_all}


def _trace(**changes: Any) -> Record:
    """A row of Langfuse's legacy traces, which says whose the observations inside are."""
    return {
        "id": "trace-1", "timestamp": one.WHEN.isoformat(), "name": "chat", "user_id": one.ACCOUNT, "release": None,
        "session_id": one.SESSION, "version": None, "project_id": "p", "environment": "default", "public": False,
        "bookmarked": False, "tags": [], "metadata": {}, "input": "not a prompt", "output": "not an answer",
    } | changes  # fmt: skip


@pytest.mark.parametrize("names", [("a.jsonl", "b.jsonl"), ("b.jsonl", "a.jsonl")])
def test_a_legacy_trace_says_whose_its_observations_are(
    names: tuple[str, str], tmp_path: Path, reading: Reader
) -> None:
    """Generations without a user are of their trace's user, whatever file comes first; a trace is no exchange."""
    bare = {name: value for name, value in one.langfuse().items() if name not in ("user_id", "session_id")}
    write(tmp_path / names[0], bare, bare | {"id": "call-2"}, bare | {"id": "call-3", "trace_id": "trace-9"})
    write(tmp_path / names[1], _trace(), _trace(id="trace-2"))
    read = reading(tmp_path)
    assert read.rows == [expected("langfuse"), expected("langfuse") | {"exchange_id": "call-2"}]
    assert read.rejects == {"account_id_missing": 1, "not_an_exchange": 1}
    assert read.notes == {"joined_by_request_id": 1}


def test_a_trace_completes_an_observation_that_names_its_request(tmp_path: Path, reading: Reader) -> None:
    """The id of a gateway's request takes nothing from the trace: an access log and a trace both complete it."""
    observation = {name: value for name, value in one.langfuse().items() if name not in ("user_id", "session_id")}
    write(tmp_path / "o.jsonl", observation | {"metadata": {"x-request-id": one.REQUEST_ID}})
    write(tmp_path / "t.jsonl", _trace(id=observation["trace_id"]))
    write(tmp_path / "access.jsonl", {**one.access_log(), "x-account-id": "-"})
    found = reading(tmp_path)
    assert [(row["account_id"], row["ip"]) for row in found.rows] == [(one.ACCOUNT, one.IP)]


def test_legacy_traces_alone_are_no_exchanges(tmp_path: Path, reading: Reader) -> None:
    """What a trace holds is told by its observations; alone it is counted, and two that disagree complete nothing."""
    read = reading(write(tmp_path / "traces.jsonl", _trace(), _trace(id="trace-2")))
    assert (read.n_rows, read.rejects) == (0, {"not_an_exchange": 2})
    write(tmp_path / "traces.jsonl", _trace(), _trace(user_id="somebody-else"))
    write(tmp_path / "calls.jsonl", one.langfuse() | {"user_id": None})
    assert reading(tmp_path).rejects == {"account_id_missing": 1, "not_an_exchange": 2}


def test_an_id_of_two_connections_joins_nothing(tmp_path: Path, reading: Reader) -> None:
    """A request id that an attacker sent again from elsewhere gives nobody somebody else's network."""
    bare = one.litellm() | {"requester_ip_address": None}
    bare["metadata"] = bare["metadata"] | {"requester_ip_address": None}
    write(tmp_path / "gateway.jsonl", bare)
    forged = one.access_log() | {"downstream_remote_address": "203.0.113.66:1", "x-forwarded-for": "203.0.113.66"}
    write(tmp_path / "access.jsonl", one.access_log(), forged)
    read = reading(tmp_path)
    assert read.n_rows == 3
    assert next(found for found in read.rows if found["prompt"])["ip"] is None


def test_an_access_log_overwrites_nothing(tmp_path: Path, reading: Reader) -> None:
    """Where both logs say something, the gateway's stands."""
    write(tmp_path / "gateway.jsonl", one.litellm())
    write(tmp_path / "access.jsonl", one.access_log() | {"downstream_remote_address": "203.0.113.66:1"})
    assert reading(tmp_path).rows == [expected("litellm")]


def test_protobuf_says_what_json_says(tmp_path: Path, reading: Reader) -> None:
    """OTLP in protobuf, one export or many behind their lengths, gives the rows of OTLP in JSON."""
    proto = needs_module("otel", "opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    from google.protobuf.json_format import ParseDict

    record = one.spans(one.NEW_NAMES)
    span = record["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span |= {"traceId": "W47/94gDgQPSabYzgT/GDA==", "spanId": "7uGbfsPBsXQ="}
    data = ParseDict(record, proto.ExportTraceServiceRequest()).SerializeToString()
    (tmp_path / "one.binpb").write_bytes(data)
    (tmp_path / "many.pb").write_bytes((len(data).to_bytes(4, "big") + data) * 3)
    (tmp_path / "junk.pb").write_bytes(b"\xff" * 40)
    assert reading(tmp_path / "one.binpb").rows == [expected("otlp, new names")]
    assert reading(tmp_path / "many.pb").rows == [expected("otlp, new names")] * 3
    assert reading(tmp_path / "junk.pb").rejects == {"record_of_another_shape": 1}


# --- hostile records --------------------------------------------------------------------------------------

json_value = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize("name", MADE)
@given(data=st.data())
def test_any_value_anywhere(name: str, data: st.DataObject, tmp_path: Path, reading: Reader) -> None:
    """Whatever a value is, no record is lost without a name, and a sound record beside it is read as ever."""
    record = json.loads(json.dumps(MADE[name][1], default=str))
    place, keys = record, []
    for _ in range(data.draw(st.integers(1, 6))):
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key]:
            break
        parent, place = place, place[key]
        if data.draw(st.booleans()):
            place = parent
            break
    target = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
    place[target] = data.draw(json_value)
    path = write(tmp_path / "odd.jsonl", json.loads(json.dumps(MADE[name][1], default=str)), record)
    read = reading(f"{MADE[name][0]}:{path}")
    assert read.rows[0] == expected(name)
    # A record of OTLP may now hold no span at all, or several that are none.
    assert 1 <= read.n_accounted <= (20 if name.startswith("otlp") else 2)
    assert all(batch.schema.equals(EXCHANGES) for batch in read.batches)


_ODD_TURNS = {
    "litellm": ("messages",),
    "spendlogs": ("proxy_server_request", "messages"),
    "openai": ("request", "messages"),
    "langfuse": ("input",),
    "helicone": ("request_body",),
}


@pytest.mark.parametrize(
    "odd", [5, True, [5], {"a": 1}, [[1]], [None], [{"role": 5, "content": "x"}], [{"role": "user", "content": {}}]]
)
@pytest.mark.parametrize("name", _ODD_TURNS)
def test_an_odd_conversation_blinds_no_other(name: str, odd: Any, tmp_path: Path, reading: Reader) -> None:
    """One record whose messages are none, or of odd roles, takes the conversation from no record beside it."""
    record = json.loads(json.dumps(MADE[name][1]))
    *above, last = _ODD_TURNS[name]
    place = record
    for key in above:
        place = place[key]
    place[last] = odd
    read = reading(write(tmp_path / "odd.jsonl", MADE[name][1], record, MADE[name][1]))
    assert [read.rows[0], read.rows[2]] == [expected(name)] * 2
    assert read.notes.get("messages_unreadable", 0) <= 1


_DEEP = "[" * 5000 + "]" * 5000
_DEEP_REQUEST = json.dumps(one.REQUEST)[:-1] + f', "deep": {_DEEP}}}'
_DEEP_TURNS = json.dumps(one.REQUEST["messages"])[:-1] + f', {{"role": "tool", "content": {_DEEP}}}]'


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("spendlogs", one.spend_log() | {"proxy_server_request": _DEEP_REQUEST}),
        ("spendlogs", one.spend_log() | {"proxy_server_request": "RAW REQUEST"}),
        ("helicone", one.helicone() | {"request_body": _DEEP_REQUEST}),
        ("langfuse", one.langfuse() | {"input": _DEEP_TURNS}),
        ("litellm", one.litellm() | {"messages": "RAW TURNS"}),
        ("openai", one.batch_line() | {"request": "RAW REQUEST"}),
        ("otlp, new names", one.spans(one.NEW_NAMES | {"gen_ai.input.messages": _DEEP_TURNS})),
    ],
)
def test_nesting_without_end_hides_no_prompt(name: str, record: Record, tmp_path: Path, reading: Reader) -> None:
    """JSON thousands deep beside a prompt, in a text or plain, hides neither the prompt nor the rows beside it."""
    text = json.dumps(record).replace('"RAW REQUEST"', _DEEP_REQUEST).replace('"RAW TURNS"', _DEEP_TURNS)
    good = json.dumps(MADE[name][1])
    (tmp_path / "log.jsonl").write_text("\n".join([good, text, good]), "utf-8")
    read = reading(tmp_path / "log.jsonl")
    assert [read.rows[0], read.rows[2]] == [expected(name)] * 2
    assert read.column("prompt") == [one.PROMPT] * 3 and not read.rejects


@pytest.mark.parametrize("odd", [{"arrayValue": {"values": [{"intValue": "1"}]}}, {"kvlistValue": {"values": []}}])
@pytest.mark.parametrize("key", ["gen_ai.operation.name", "gen_ai.request.model", "gen_ai.input.messages"])
def test_an_attribute_of_another_kind_ends_nothing(key: str, odd: Any, tmp_path: Path, reading: Reader) -> None:
    """A list or a map where an attribute of a span should be text costs no other span."""
    record = one.spans({name: value for name, value in one.NEW_NAMES.items() if name != key})
    record["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].append({"key": key, "value": odd})
    name = "otlp, new names"
    read = reading(write(tmp_path / "odd.jsonl", MADE[name][1], record, MADE[name][1]))
    assert [read.rows[0], read.rows[-1]] == [expected(name)] * 2
    assert read.n_accounted == 3


@pytest.mark.parametrize("odd", [{"attributes": 5}, {"attributes": [{"key": 5}]}, {"traceId": []}, None, 7])
def test_a_malformed_span_costs_no_other(odd: Any, tmp_path: Path, reading: Reader) -> None:
    """Of an export of many spans those that are none are counted one by one, and the others are read."""
    export = one.spans(one.NEW_NAMES)
    spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"]
    bad = spans[0] | odd if isinstance(odd, dict) else odd
    export["resourceSpans"][0]["scopeSpans"][0]["spans"] = [spans[0], bad, spans[0], bad]
    read = reading(f"otlp:{write(tmp_path / 'odd.jsonl', export, {'resourceSpans': 5})}")
    assert read.rows == [expected("otlp, new names")] * 2
    assert read.rejects == {"record_of_another_shape": 3}


@pytest.mark.parametrize("name", MADE)
def test_numbers_that_are_none_anywhere(name: str, tmp_path: Path, reading: Reader) -> None:
    """Infinity, not-a-number and numbers of thousands of digits, in any place, end nothing and hide no other record."""
    form, record = MADE[name]
    good = json.dumps(record, default=str)
    plain = json.loads(good)
    odd = [json.dumps(put(plain, path, "ODD")) for path in places(plain)]
    lines = [text.replace('"ODD"', number) for text in odd for number in ("NaN", "-Infinity", "1e999", "1" * 5000)]
    (tmp_path / "log.jsonl").write_text("\n".join([good, *lines, good]), "utf-8")
    read = reading(f"{form}:{tmp_path / 'log.jsonl'}")
    assert [read.rows[0], read.rows[-1]] == [expected(name)] * 2
    assert read.n_rows + sum(read.rejects.values()) == len(lines) + 2
    assert "line_broken_json" not in read.rejects


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a record, its table of prices left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*above, key) for key, _ in inside if key != "model_map_information"]
    return found + [path for key in found for path in places(value[key[-1]], key)]


def put(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the record with another value at a path."""
    copy = json.loads(json.dumps(record))
    *above, last = path
    place = copy
    for key in above:
        place = place[key]
    place[last] = value
    return copy


def test_an_event_without_a_proper_name(tmp_path: Path, reading: Reader) -> None:
    """A log record whose event.name is a list is no exchange, and ends nothing."""
    record = one.details(one.NEW_NAMES)
    event = record["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    event.pop("eventName", None)
    event["attributes"] = [{"key": "event.name", "value": {"arrayValue": {"values": []}}}]
    read = reading(write(tmp_path / "odd.jsonl", MADE["otlp, new names"][1], record))
    assert read.n_rows == 1
    assert read.rejects == {"not_an_exchange": 1}


def test_parts_are_read_in_every_format(tmp_path: Path, reading: Reader) -> None:
    """A turn whose text stands in parts or in text is read, not only one with content."""
    turns = [{"role": "system", "text": one.SYSTEM}, {"role": "user", "parts": [{"type": "text", "text": one.PROMPT}]}]
    assert reading(write(tmp_path / "log.jsonl", one.litellm() | {"messages": turns})).rows == [expected("litellm")]


def test_tools_that_are_no_text(tmp_path: Path, reading: Reader) -> None:
    """Tools with bytes that are no UTF-8, as text, as null, or none at all leave the row and its neighbours whole."""
    good = json.dumps(one.litellm()).encode()
    tools = json.dumps(one.litellm()["model_parameters"]["tools"]).encode()
    assert tools in good
    odd = [
        tools.replace(b"map", b"m\xffp"),
        json.dumps(tools.decode()).encode(),
        b"null",
        b"[]",
        b"5",
        b"[5]",
        b'"map"',
    ]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([good, *(good.replace(tools, one) for one in odd), good]) + b"\n")
    read = reading(path)
    names = [row["tool_names"] for row in read.rows]
    assert names[:5] == [["map"], ["m\\xffp"], ["map"], None, None]
    assert names[-2:] == [["map"], ["map"]]
    assert [row | {"tool_names": ["map"]} for row in read.rows] == [expected("litellm")] * len(read.rows)


def test_broken_lines_are_counted(tmp_path: Path, reading: Reader) -> None:
    """Truncated, malformed and foreign lines are rejected by name; lenient readings are noted; the rest is read."""
    good = json.dumps(one.litellm()).encode()
    lines = [
        good,
        good[: len(good) // 2],
        b"{}",
        b"[1, 2]",
        b"7",
        b"null",
        b'"text"',
        good.replace(b'"temperature": 0.25', b'"temperature": NaN'),
        good.replace(b"Be terse.", b"Be \xff terse."),
        good.replace(b'"metadata": {', b'"metadata": [1], "other": {'),
        good,
    ]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    read = reading(tmp_path / "log.jsonl")
    assert read.n_rows == 4
    assert read.rejects == {
        "account_id_missing": 1, "line_broken_json": 1, "line_not_an_object": 5, "ts_missing": 1
    }  # fmt: skip
    assert read.notes == {"line_invalid_utf8": 1, "line_read_leniently": 1}


def test_order_and_copies_do_not_matter(tmp_path: Path, reading: Reader) -> None:
    """Records out of order and written twice are all delivered; the scan counts copies once by exchange_id."""
    records = [one.litellm() | {"litellm_call_id": f"c{n % 7}", "startTime": 1_793_527_200 + n} for n in range(20)]
    there = reading(write(tmp_path / "a.jsonl", *records)).rows
    back = reading(write(tmp_path / "b.jsonl", *reversed(records))).rows
    assert there == back[::-1]
    assert {found["exchange_id"] for found in there} == {f"c{n}" for n in range(7)}


def test_a_colliding_response_id_loses_nothing(tmp_path: Path, reading: Reader) -> None:
    """Two calls to which the provider gave one response id stay two exchanges, by LiteLLM's own call id."""
    records = [one.spend_log() | {"litellm_call_id": name} for name in ("x", "y")]
    assert reading(write(tmp_path / "log.jsonl", *records)).column("exchange_id") == ["x", "y"]


def test_canonical_logs_are_left_alone(tmp_path: Path, reading: Reader) -> None:
    """A log that has our columns is read by its columns, whatever else it holds."""
    mixed = {"account_id": "a", "ts": one.WHEN.isoformat(), "prompt": "p"} | one.spend_log()
    read = reading(write(tmp_path / "log.jsonl", mixed))
    assert read.source.importers() == {}
    assert read.column("account_id") == ["a"]


def test_addresses_the_client_could_not_choose() -> None:
    """Of forwarded addresses the last outer one counts; ports and brackets go."""
    assert outer_address("1.2.3.4, 203.0.113.9, 10.0.0.2") == "203.0.113.9"
    assert outer_address("10.0.0.2:81") is None
    assert any_address("10.0.0.2:81") == "10.0.0.2"
    assert outer_address("[2001:db8::1]:443") == "2001:db8::1"
    assert outer_address("::ffff:203.0.113.9") == "203.0.113.9"
    assert outer_address("unknown, <script>") is None
    assert outer_address(["203.0.113.9"]) is None


def test_states() -> None:
    """Success is 200, a code stays itself, failure without a code is an error."""
    assert [status(value) for value in ("success", 201, "429", 500.0, "failure", "Timeout", True, "")] == [
        "200", "200", "429", "500", "error", "timeout", None, None
    ]  # fmt: skip


def test_another_packages_importer(tmp_path: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that names an importer under the entry-point group is found, recognised and used."""
    (tmp_path / "acme_logs.py").write_text(
        "from stillwatch.ingest.importer import Importer, at\n"
        "ACME = Importer(name='acme', title='Acme', marks=(('acme_id', 'when'),),"
        " fields={'account_id': at('acme_id'), 'ts': at('when'), 'prompt': at('q.0.text')})\n"
    )
    info = tmp_path / "acme_logs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-logs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[stillwatch.sources]\nacme = acme_logs:ACME\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importers.cache_clear()
    try:
        path = write(tmp_path / "log.jsonl", {"acme_id": "a", "when": 1_793_527_200, "q": [{"text": "why"}]})
        read = reading(path)
        assert list(read.source.importers()) == ["acme"]
        assert (read.column("account_id"), read.column("prompt")) == (["a"], ["why"])
        (info / "entry_points.txt").write_text("[stillwatch.sources]\nbroken = acme_logs:NOTHING\n")
        importers.cache_clear()
        with pytest.raises(InputError, match="the importer broken does not load"):
            importers()
    finally:
        importers.cache_clear()
        sys.modules.pop("acme_logs", None)


@pytest.mark.parametrize("found", importers().values(), ids=lambda found: found.name)
def test_an_importer_fills_canonical_columns(found: Importer) -> None:
    """Every importer fills account and time, names canonical columns only, and says how to turn channels on."""
    assert {"account_id", "ts"} <= set(found.fields)
    assert set(found.fields) <= {*EXCHANGES.names, importer.REQUEST, importer.SPAN, importer.ASIDE}
    assert set(found.switches) <= set(EXCHANGES.names) and found.switches
    assert found.marks and all(found.marks)


@pytest.mark.parametrize("found", importers().values(), ids=lambda found: found.name)
def test_every_channel_that_a_setting_hides_has_a_switch(found: Importer) -> None:
    """For what a program logs only when it is told to, the importer says how to tell it."""
    hidden = "account_id prompt completion ip user_agent end_user session_id".split()
    if found.is_exchange:
        assert not [name for name in hidden if name not in found.switches]


def test_a_place_is_a_path() -> None:
    """Places are tried in their order; zero is the first of a list."""
    made = Importer(name="x", title="X", marks=(("a",),), fields={"account_id": at("a.0.b", "c"), "ts": at("t")})
    records: list[Record] = [{"a": [{"b": "1"}], "c": "2"}, {"a": [], "c": "2"}, {"a": '[{"b": "3"}]'}, {"a": 7}]
    assert [row(made, record)[0]["account_id"] for record in records] == ["1", "2", "3", None]


def test_times_of_every_importer_are_utc(tmp_path: Path, reading: Reader) -> None:
    """A time without a zone is read as UTC and counted, as in every other log."""
    read = reading(write(tmp_path / "log.jsonl", one.langfuse() | {"start_time": "2026-11-20 10:30:05.250000"}))
    assert read.column("ts") == [datetime(2026, 11, 20, 10, 30, 5, 250_000, tzinfo=UTC)]
    assert read.notes == {"ts_without_zone": 1}


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_packed_log_that_was_cut(packing: str, tmp_path: Path, reading: Reader, packed: Any) -> None:
    """Of a packed log that was cut short the rows before the cut are read, and the cut is counted."""
    chance = random.Random(1)
    records = [
        one.litellm() | {"litellm_call_id": f"c{n}", "request_tags": [f"{chance.getrandbits(256):x}" for _ in range(9)]}
        for n in range(300)
    ]
    whole = write(tmp_path / "log.jsonl", *records).read_bytes()
    path = packed(tmp_path / f"cut.jsonl.{packing}", whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = reading(path)
    assert 0 < read.n_rows < 300
    assert read.rejects == {"truncated_file": 1}
    assert read.column("exchange_id") == [f"c{n}" for n in range(read.n_rows)]


def test_a_batch_of_spans_is_read_as_each_alone(tmp_path: Path, reading: Reader) -> None:
    """Spans of every shape, many at a time, give the rows that each gives in a file of its own."""
    without = {name: value for name, value in one.NEW_NAMES.items() if name not in CONTENT}
    odd = [
        one.spans(one.NEW_NAMES),
        one.spans(one.OLD_NAMES),
        one.spans(without),
        one.spans(one.NEW_NAMES | {"gen_ai.input.messages": "[5]", "gen_ai.output.messages": "bare"}),
        one.spans(one.NEW_NAMES | {"gen_ai.output.messages": "[]"}),
        one.spans({"http.route": "/health", "gen_ai.input.messages": one.NEW_NAMES["gen_ai.input.messages"]}),
        one.spans(one.NEW_NAMES | {"gen_ai.input.messages": "null", "call": "no", "ts": "soon", "turns": "none"}),
    ]
    null = json.loads(json.dumps(one.spans(one.NEW_NAMES)))
    null["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].append({"key": "x", "value": None})
    event = json.loads(json.dumps(one.spans(without)))
    turn = {"key": "content", "value": {"stringValue": one.PROMPT}}
    event["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["events"] = [
        {"name": "gen_ai.user.message", "attributes": [turn]}
    ]
    odd += [null, event]
    alone, n_not = [], 0
    for n, record in enumerate(odd):
        read = reading(f"otlp:{write(tmp_path / f'{n}.jsonl', record)}")
        alone += read.rows
        n_not += read.rejects.pop("not_an_exchange", 0)
        assert not read.rejects
    assert alone[0] == expected("otlp, new names") and n_not == 1
    assert reading(f"otlp:{write(tmp_path / 'all.jsonl', *odd)}").rows == alone


@pytest.mark.parametrize("name", MADE)
def test_parts_of_a_block_are_one_batch(
    name: str, tmp_path: Path, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little is decoded at a time, the rows are the same, though a part may lack what another has."""
    form, record = MADE[name]
    lines = [record, {}, json.loads(json.dumps(record)), {"broken": [1]}, record]
    path = write(tmp_path / "log.jsonl", *lines)
    whole = reading(f"{form}:{path}")
    monkeypatch.setattr("stillwatch.ingest.imported._PART_BYTES", 16)
    parts = reading(f"{form}:{path}")
    assert whole.n_rows == 3 and parts.rows == whole.rows
    assert (parts.rejects, parts.notes) == (whole.rejects, whole.notes)


# --- every format, every trap -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_broken_lines_are_counted_in_every_format(name: str, tmp_path: Path, reading: Reader) -> None:
    """In any format truncated, foreign and spoilt lines are rejected or noted by name, and cost no line beside them."""
    form, record = MADE[name]
    good = json.dumps(record, default=str).encode()
    spoilt = good.replace(one.ACCOUNT.encode(), b"acct-\xff7")
    lines = [good, good[: len(good) // 2], b"[1, 2]", b"7", b"null", b'"text"', b"", b"\x00", spoilt, b"{", good]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    read = reading(f"{form}:{tmp_path / 'log.jsonl'}")
    assert read.column("account_id") == [one.ACCOUNT, "acct-\\xff7", one.ACCOUNT]
    assert [read.rows[0], read.rows[2]] == [expected(name)] * 2
    assert read.rejects == {"line_broken_json": 3, "line_not_an_object": 5}
    assert read.notes == {"line_invalid_utf8": 1}


@pytest.mark.parametrize("name", MADE)
def test_order_and_copies_in_every_format(name: str, tmp_path: Path, reading: Reader) -> None:
    """In any format records out of order and written twice are all delivered, in the order they stand in."""
    form, record = MADE[name]
    text = json.dumps(record, default=str)
    lines = [text.replace(one.ACCOUNT, f"acct-{n % 5}") for n in (4, 2, 0, 2, 3, 1, 0)]
    for order, path in ((lines, tmp_path / "a.jsonl"), (lines[::-1], tmp_path / "b.jsonl")):
        path.write_text("\n".join(order), "utf-8")
    there, back = (reading(f"{form}:{tmp_path / file}").rows for file in ("a.jsonl", "b.jsonl"))
    assert there == back[::-1]
    assert [found["account_id"] for found in there] == [f"acct-{n}" for n in (4, 2, 0, 2, 3, 1, 0)]


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("name", MADE)
def test_a_cut_in_every_format(name: str, packing: str, tmp_path: Path, reading: Reader, packed: Any) -> None:
    """In any format the rows before a cut are read as ever, and the cut is counted."""
    form, record = MADE[name]
    chance = random.Random(2)
    records = [record | {"pad": f"{chance.getrandbits(4096):x}"} for _ in range(200)]
    whole = "".join(f"{json.dumps(one_, default=str)}\n" for one_ in records).encode()
    path = packed(tmp_path / f"cut.jsonl.{packing}", whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = reading(f"{form}:{path}")
    assert 0 < read.n_rows < 200 and read.rejects == {"truncated_file": 1}
    assert read.rows == [expected(name)] * read.n_rows


def _otlp(**attributes: Any) -> Record:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return one.spans({"user.id": one.ACCOUNT, "gen_ai.request.model": "orion"} | named)


_DASHED = one.access_log() | {"x-account-id": "a"}
DOCUMENTED: list[tuple[str, Record, Record]] = [
    ("litellm", one.litellm() | {"user_agent": None}, {"user_agent": one.USER_AGENT}),
    ("litellm", one.litellm() | {"session_id": None, "trace_id": "t"}, {"session_id": None}),
    ("spendlogs", one.spend_log() | {"user": "", "team_id": None, "organization_id": "org"}, {"account_id": "org"}),
    (
        "spendlogs",
        {k: v for k, v in one.spend_log().items() if k != "startTime"}
        | {"start_time": int(one.WHEN.timestamp() * 1000), "metadata": {"requester_ip_address": "203.0.113.5"}}
        | {"requester_ip_address": None, "key_alias": "k", "provider_request_id": "p", "trace_id": "t"},
        {"ts": one.WHEN, "ip": "203.0.113.5", "exchange_id": one.CALL_ID},
    ),
    ("spendlogs", one.spend_log() | {"litellm_call_id": None}, {"exchange_id": one.RESPONSE["id"]}),
    (
        "spendlogs",
        one.spend_log() | {"status": "failure", "response": {}, "proxy_server_request": "{}"},
        {"status": "error", "prompt": None, "completion": None},
    ),
    ("otlp", _otlp(enduser__pseudo__id="e", session__id="s"), {"end_user": "e", "session_id": "s"}),
    ("otlp", _otlp(tls__client__ja3="j", user_agent__original="u"), {"tls_fingerprint": "j", "user_agent": "u"}),
    (
        "otlp",
        _otlp(gen_ai__usage__prompt_tokens=7, gen_ai__usage__completion_tokens=8),
        {"input_tokens": 7, "output_tokens": 8},
    ),
    ("otlp", {**_otlp(**{"gen_ai__usage__reasoning__output_tokens": 9})}, {"reasoning_tokens": 9}),
    ("otlp", _otlp(gen_ai__request__id="r"), {"exchange_id": "r"}),
    ("otlp", _otlp(gen_ai__prompt="why?", gen_ai__completion="so"), {"prompt": "why?", "completion": "so"}),
    (
        "envoy",
        _DASHED | {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5, "session.id": "s"},
        {"model": "m", "input_tokens": 5, "session_id": "s"},
    ),
    ("envoy", _DASHED | {"gen_ai": {"usage": {"output_tokens": "6"}}}, {"output_tokens": 6}),
    (
        "envoy",
        _DASHED | {"model": "m", "llm_input_token": "5", "llm_output_token": "-", "backend": "b"},
        {"model": "m", "input_tokens": 5, "output_tokens": None},
    ),
    (
        "langfuse",
        one.langfuse() | {"output": None, "tool_calls": [{"name": "map"}]},
        {"tool_calls": 1, "completion": None},
    ),
    ("langfuse", one.langfuse() | {"input": '[{"role": "user", "content": "q", "score": NaN}]'}, {"prompt": "q"}),
    (
        "helicone",
        one.helicone() | {"request_path": None, "target_url": "https://h/v1/chat/completions?x=1"},
        {"access_path": "chat"},
    ),
    ("helicone", one.helicone() | {"user_id": "", "country_code": "ZZ"}, {"account_id": one.KEY_HASH, "ip": None}),
]


@pytest.mark.parametrize(
    ("form", "record", "told"), DOCUMENTED, ids=[f"{n}-{row[0]}" for n, row in enumerate(DOCUMENTED)]
)
def test_documented_names_are_read(form: str, record: Record, told: Record, tmp_path: Path, reading: Reader) -> None:
    """Each name that a program's documents give, old or new, flat or nested, is read into its column."""
    (found,) = reading(f"{form}:{write(tmp_path / 'log.jsonl', record)}").rows
    assert {column: found[column] for column in told} == told


def test_a_mapped_key_with_dots_in_its_name(tmp_path: Path, reading: Reader) -> None:
    """A key that has dots in its own name can be mapped, as one that lies inside of others."""
    path = write(
        tmp_path / "log.jsonl", _DASHED | {"acme.customer": "whole"}, _DASHED | {"acme": {"customer": "nested"}}
    )
    assert reading(path, mapping={"acme.customer": "account_id"}).column("account_id") == ["whole", "nested"]
