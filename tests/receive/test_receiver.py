"""The receiver: what is pushed by those who have the token is on disk before the answer, and nothing else is."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import InputError
from stillwatch.ingest.source import open_logs
from stillwatch.ingest.times import as_us
from stillwatch.keys import Secret
from stillwatch.receive import receiver
from stillwatch.receive.receiver import Receiver
from stillwatch.receive.spool import Spool
from tests import conversation as one
from tests.needs import needs_module
from tests.receive.asgi import call

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TOKEN = "a-token-of-the-tests-only"
GIVEN = {"authorization": f"Bearer {TOKEN}"}
PUSH = "/v1/logs/litellm"


@pytest.fixture
def app(tmp_path: Path) -> Receiver:
    """A receiver that keeps texts."""
    return made(tmp_path, key=None)


def made(folder: Path, key: bytes | None) -> Receiver:
    spools = {name: Spool(folder / name, key=key, name="part") for name in ("litellm", "otlp")}
    return Receiver(spools, token=Secret(TOKEN.encode()), latest=lambda: as_us(NOW))


def rows(folder: Path) -> list[dict[str, Any]]:
    source = open_logs([folder], now=NOW)
    found = [row for batch in source.batches() for row in batch.to_pylist()]
    assert not source.rejects()
    return found


@pytest.mark.parametrize(
    "form",
    [
        json.dumps,
        lambda payloads: "\n".join(map(json.dumps, payloads)),
        lambda payloads: json.dumps(payloads[0]),
        lambda payloads: json.dumps(payloads, indent=1),
    ],
    ids=["json_array", "ndjson", "single", "pretty"],
)
def test_every_log_format_of_litellm(form: Callable[[Any], str], app: Receiver, tmp_path: Path) -> None:
    """json_array, ndjson and single give the rows that a file of the payloads gives."""
    payloads = [one.litellm(), one.litellm() | {"litellm_call_id": "call-2"}]
    answered = call(app, PUSH, form(payloads).encode(), GIVEN)
    assert answered.status == 200
    n_rows = json.loads(answered.body)["accepted"]
    assert rows(tmp_path / "litellm") == [one.ROW, one.ROW | {"exchange_id": "call-2"}][:n_rows]


def test_otlp_in_json_and_its_events(app: Receiver, tmp_path: Path) -> None:
    """Spans and events, posted apart, are one exchange once they are read."""
    bare = {name: value for name, value in one.NEW_NAMES.items() if not name.endswith((".messages", "_instructions"))}
    said = {name: one.NEW_NAMES[name] for name in one.NEW_NAMES if name not in bare}
    events = one.details(said | {"gen_ai.request.model": "orion"})
    assert call(app, "/v1/logs", json.dumps(events).encode(), GIVEN).body == b"{}"
    assert call(app, "/v1/traces", gzip.compress(json.dumps(one.spans(bare)).encode()), GIVEN | GZIP).status == 200
    assert rows(tmp_path / "otlp") == [one.ROW | {"tls_fingerprint": None}]


GZIP = {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("headers", "path", "method", "status"),
    [
        ({}, PUSH, "POST", 401),
        ({"authorization": "Bearer wrong"}, PUSH, "POST", 401),
        ({"authorization": f"Basic {TOKEN}"}, PUSH, "POST", 401),
        ({"authorization": TOKEN}, PUSH, "POST", 401),
        (GIVEN, "/", "POST", 404),
        (GIVEN, PUSH, "GET", 405),
        (GIVEN | {"content-encoding": "br"}, PUSH, "POST", 415),
        (GIVEN | GZIP, PUSH, "POST", 400),
        ({}, "/", "GET", 401),
    ],
)
def test_strangers_are_refused(
    headers: dict[str, str], path: str, method: str, status: int, app: Receiver, tmp_path: Path
) -> None:
    """Without the token nothing is written, and a stranger does not learn which addresses there are."""
    answered = call(app, path, json.dumps(one.litellm()).encode(), headers, method)
    assert answered.status == status
    assert TOKEN.encode() not in answered.body
    assert not list(tmp_path.rglob("*.jsonl"))


def test_bodies_that_are_too_large(app: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body, or what it unpacks to, beyond the limit is refused without being held."""
    monkeypatch.setattr(receiver, "LARGEST_BODY_BYTES", 1000)
    assert call(app, PUSH, [b"x" * 600] * 3, GIVEN).status == 413
    assert call(app, PUSH, gzip.compress(b"x" * 100_000), GIVEN | GZIP).status == 413


def test_packed_bodies(app: Receiver, tmp_path: Path) -> None:
    """Several packed parts are one body; one that was cut short is refused whole, so that it is sent again."""
    lines = [json.dumps(one.litellm() | {"litellm_call_id": f"call-{n}"}).encode() + b"\n" for n in range(2)]
    packed = gzip.compress(lines[0]) + gzip.compress(lines[1])
    assert json.loads(call(app, PUSH, packed, GIVEN | GZIP).body)["accepted"] == 2
    assert call(app, PUSH, packed[:-20], GIVEN | GZIP).status == 400
    assert len(rows(tmp_path / "litellm")) == 2


@pytest.mark.parametrize("coding", ["gzip", "GZIP", " x-gzip"])
def test_codings_have_no_case(coding: str, app: Receiver, tmp_path: Path) -> None:
    """The name of the coding is read as HTTP has it (RFC 9110, 8.4.1)."""
    body = gzip.compress(json.dumps(one.litellm()).encode())
    assert call(app, "/v1/logs/litellm", body, GIVEN | {"content-encoding": coding}).status == 200
    assert len(rows(tmp_path / "litellm")) == 1


def test_packed_parts_without_end(app: Receiver) -> None:
    """A body of very many empty parts is refused, since each costs a copy of the rest."""
    body = gzip.compress(b"") * 5000
    assert call(app, "/v1/logs/litellm", body, GIVEN | {"content-encoding": "gzip"}).status == 413


def test_a_malformed_span_costs_no_other(app: Receiver, tmp_path: Path) -> None:
    """Of an export with a span that is none the others are taken, and the answer is a partial success."""
    export = one.spans(one.NEW_NAMES)
    export["resourceSpans"][0]["scopeSpans"][0]["spans"].insert(0, {"attributes": 5})
    answered = call(app, "/v1/traces", json.dumps(export).encode(), GIVEN | {"content-type": "application/json"})
    assert answered.status == 200
    assert json.loads(answered.body)["partialSuccess"] == {
        "rejectedSpans": "1", "errorMessage": "record_of_another_shape: 1"
    }  # fmt: skip
    assert len(rows(tmp_path / "otlp")) == 1


def test_otlp_says_what_it_did_not_take(app: Receiver) -> None:
    """Rejected spans and records are named in the answer that the protocol has for it; foreign spans are no loss."""
    users = ("user.id", "enduser.", "metadata.user_api")
    nameless = {name: value for name, value in one.NEW_NAMES.items() if not name.startswith(users)}
    answer = json.loads(call(app, "/v1/traces", json.dumps(one.spans(nameless)).encode(), GIVEN).body)
    assert answer == {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "account_id_missing: 1"}}
    foreign = json.dumps(one.spans({"http.request.method": "GET"})).encode()
    assert call(app, "/v1/traces", foreign, GIVEN).body == b"{}"


def test_not_a_number_in_a_list_loses_nothing(app: Receiver, tmp_path: Path) -> None:
    """A list of payloads, one of which holds NaN as Python writes it, is taken whole."""
    body = json.dumps([one.litellm(), one.litellm() | {"litellm_call_id": "call-2", "response_cost": float("nan")}])
    answer = json.loads(call(app, PUSH, body.encode(), GIVEN).body)
    assert answer == {"accepted": 2, "notes": {"line_read_leniently": 1}, "rejects": {}}


@pytest.mark.parametrize("odd", [10**30, 1.5, [1], {"a": 1}, True, "\x00", "a" * 100_000])
def test_odd_accounts_are_answered(odd: Any, app: Receiver, tmp_path: Path) -> None:
    """Whatever stands where the account belongs, the push is answered, and what was written can be read."""
    bad = one.litellm()
    bad = bad | {"metadata": bad["metadata"] | {"user_api_key_user_id": odd, "user_api_key_hash": odd}}
    answered = call(app, PUSH, json.dumps([one.litellm(), bad]).encode(), GIVEN)
    assert answered.status == 200
    answer = json.loads(answered.body)
    assert answer["accepted"] + sum(answer["rejects"].values()) == 2
    assert len(rows(tmp_path / "litellm")) == answer["accepted"]


def test_rejects_are_in_the_answer(app: Receiver, tmp_path: Path) -> None:
    """Broken and impossible records are counted by name in the answer; the sound ones are kept."""
    late = one.litellm() | {"startTime": NOW.timestamp() + 10}
    body = "\n".join([json.dumps(one.litellm()), "{broken", "[7]", json.dumps(late)])
    answer = json.loads(call(app, PUSH, body.encode(), GIVEN).body)
    assert answer == {
        "accepted": 1, "notes": {}, "rejects": {"line_broken_json": 1, "line_not_an_object": 1, "ts_in_the_future": 1}
    }  # fmt: skip
    assert len(rows(tmp_path / "litellm")) == 1


def test_protobuf_by_an_address(app: Receiver, tmp_path: Path) -> None:
    """Protobuf is taken at the addresses of OTLP and answered in kind; junk is refused."""
    proto = needs_module("otel", "opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    from google.protobuf.json_format import ParseDict

    record = one.spans(one.NEW_NAMES)
    record["resourceSpans"][0]["scopeSpans"][0]["spans"][0] |= {
        "traceId": "W47/94gDgQPSabYzgT/GDA==",
        "spanId": "7uGbfsPBsXQ=",
    }
    body = ParseDict(record, proto.ExportTraceServiceRequest()).SerializeToString()
    headers = GIVEN | {"content-type": "application/x-protobuf"}
    answered = call(app, "/v1/traces", body, headers)
    assert (answered.status, answered.body, answered.headers[b"content-type"]) == (200, b"", b"application/x-protobuf")
    assert call(app, "/v1/traces", b"\xff" * 30, headers).status == 400
    assert rows(tmp_path / "otlp") == [one.ROW | {"tls_fingerprint": None}]


def test_texts_are_sketched_unless_kept(tmp_path: Path) -> None:
    """By default no word of a prompt or an answer is on disk, and the folder is the owner's alone."""
    app = made(tmp_path, key=bytes(range(32)))
    assert call(app, PUSH, json.dumps(one.litellm()).encode(), GIVEN).status == 200
    (path,) = (tmp_path / "litellm").glob("*.jsonl")
    text = path.read_text("utf-8").lower()
    assert not any(word in text for word in ("terse", "köln", "bonn", "mock"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (row,) = rows(tmp_path / "litellm")
    kept = ("account_id", "ts", "exchange_id", "model", "input_tokens", "ip", "user_agent")
    assert {name: row[name] for name in kept} == {name: one.ROW[name] for name in kept}
    assert [turn["role"] for turn in row["messages"]] == ["system", "user"]


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    """A token that could be guessed is an error before anything listens."""
    with pytest.raises(InputError, match="too short; got 5 characters"):
        Receiver({}, token=Secret(b"token"), latest=lambda: 0)


def test_a_disk_that_takes_nothing(app: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that could not be written are not acknowledged, so that the gateway may send them again."""
    monkeypatch.setattr(
        "stillwatch.receive.spool.os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "no space left on device"))
    )
    answered = call(app, PUSH, json.dumps(one.litellm()).encode(), GIVEN)
    assert answered.status == 503 and b"no space left" in answered.body


def test_files_are_bounded(tmp_path: Path) -> None:
    """A file that is full is closed and the next begun; a second writer of the same name takes a file of its own."""
    first = Spool(tmp_path, key=None, name="part", largest_bytes=200)
    second = Spool(tmp_path, key=None, name="part", largest_bytes=200)
    for n in range(6):
        (first, second)[n % 2].append([{"account_id": "a", "ts": one.WHEN, "prompt": "x" * 60}])
    first.close()
    second.close()
    assert len(list(tmp_path.iterdir())) >= 3
    assert len(rows(tmp_path)) == 6


@pytest.mark.parametrize(
    "body",
    [
        b"{broken", b"", b"[7]", b"7", b'"text"', b"\xff\xfe", b'{"resourceSpans": 7}', b"{}\n{broken",
        b'{"resourceMetrics": []}', b'{"litellm_call_id": "1", "startTime": 1}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
def test_a_body_that_is_no_otlp_is_refused(path: str, body: bytes, app: Receiver, tmp_path: Path) -> None:
    """What cannot be decoded is answered with 400 and a Status that says why; nothing of it is written."""
    answered = call(app, path, body, GIVEN | {"content-type": "application/json"})
    assert (answered.status, answered.headers[b"content-type"]) == (400, b"application/json")
    told = json.loads(answered.body)
    assert told["code"] == 3 and "no OTLP export" in told["message"]
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("headers", "status", "code"), [({}, 401, 16), (GIVEN | GZIP, 400, 3), (GIVEN | {"content-encoding": "br"}, 415, 3)]
)
def test_errors_of_otlp_are_told_in_its_encoding(
    headers: dict[str, str], status: int, code: int, app: Receiver
) -> None:
    """An exporter that speaks protobuf gets the Status in protobuf: code in field 1, message in field 2."""
    answered = call(app, "/v1/traces", b"junk", headers | {"content-type": "Application/X-Protobuf; v=1"})
    assert (answered.status, answered.headers[b"content-type"]) == (status, b"application/x-protobuf")
    assert answered.body[:3] == bytes([0x08, code, 0x12])
    assert answered.body[3] == len(answered.body[4:]) > 0


def test_what_is_not_taken_is_told_here_too(app: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Few senders read the answer that names rejects: each reason is told once on this side, and all are counted."""
    nameless = {**one.litellm(), "metadata": {}}
    for body in (nameless, nameless, [one.litellm(), nameless]):
        call(app, "/v1/logs/litellm", json.dumps(body).encode(), GIVEN)
    call(app, "/v1/logs/litellm", b"{broken " + one.ANSWER.encode(), GIVEN)
    assert app.rejects == {("litellm", "account_id_missing"): 3, ("litellm", "line_broken_json"): 1}
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "litellm: rows are not taken: account_id_missing", "litellm: rows are not taken: line_broken_json",
    ]  # fmt: skip


def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    """A body half sent is waited for no longer than it may take, and whoever sent it is told so."""
    app = Receiver({"litellm": Spool(tmp_path, key=None, name="part")}, token=Secret(TOKEN.encode()),
                   latest=lambda: as_us(NOW), patience_s=0.01)  # fmt: skip
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def answered() -> None:
        pieces = [{"type": "http.request", "body": b"{", "more_body": True}]

        async def receive() -> Any:
            return pieces.pop() if pieces else await asyncio.Event().wait()

        headers = [(name.encode(), value.encode()) for name, value in GIVEN.items()]
        await app({"type": "http", "method": "POST", "path": PUSH, "headers": headers}, receive, send)

    asyncio.run(answered())
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]


def test_many_bodies_at_once_are_bounded(app: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held of all requests together is bounded; a sender is told to come again, and the count comes down."""
    monkeypatch.setattr(receiver, "HELD_BYTES", 1000)
    assert call(app, PUSH, [b" " * 600] * 3, GIVEN).status == 503
    assert call(app, PUSH, [b" " * 300] * 3, GIVEN).status == 200


def test_no_error_quotes_a_prompt(
    app: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw is answered, and neither the answer nor the log quotes what was sent."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("could not convert 'How far is it?'")

    monkeypatch.setattr(receiver, "conform", fails)
    answered = call(app, PUSH, json.dumps(one.litellm()).encode(), GIVEN)
    assert answered.status == 500
    assert b"How far" not in answered.body and "How far" not in caplog.text and "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    "path", ["/v1/logs/litellm/../../../x", "/v1/logs/..", "//v1/traces", "/v1/traces/", "/v1/traces\x00", "/V1/TRACES"]
)
def test_no_address_names_a_file(path: str, app: Receiver, tmp_path: Path) -> None:
    """Only the three addresses are answered, and files are named by the receiver alone."""
    assert call(app, path, json.dumps(one.litellm()).encode(), GIVEN).status == 404
    odd = one.litellm() | {"litellm_call_id": "../../escape", "id": "/etc/x", "session_id": "..\\..\\x\x00"}
    assert call(app, PUSH, json.dumps(odd).encode(), GIVEN).status == 200
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.jsonl")] == [
        "litellm/part-000000.jsonl"
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["litellm", "otlp"]


def test_a_link_where_a_file_would_be(tmp_path: Path) -> None:
    """A link laid where the next file would be named is not followed."""
    aim = tmp_path / "aim"
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "part-000000.jsonl").symlink_to(aim)
    Spool(folder, key=None, name="part").append([{"account_id": "a", "ts": one.WHEN}])
    assert not aim.exists() and (folder / "part-000001.jsonl").is_file()


def test_half_a_write_spoils_no_later_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk took half of a row and cannot give it back, the next row begins a file of its own."""
    spool = Spool(tmp_path, key=None, name="part")
    row = {"account_id": "a", "ts": one.WHEN}
    spool.append([row])
    whole = os.write

    def half(file: int, text: bytes) -> int:
        return whole(file, text[: len(text) // 2])

    def refused(*_: Any) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("stillwatch.receive.spool.os.write", half)
        patch.setattr("stillwatch.receive.spool.os.ftruncate", refused)
        with pytest.raises(InputError, match="input/output error"):
            spool.append([row])
    spool.append([row])
    source = open_logs([tmp_path], now=NOW)
    assert sum(batch.num_rows for batch in source.batches()) == 2
    assert source.rejects() == {"line_broken_json": 1}
