"""The middleware: the exchange log of a server that writes none, and never a request the worse for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stillwatch.gate.asked import Asked
from stillwatch.gate.callers import Callers
from stillwatch.ingest.source import open_logs
from stillwatch.keys import Secret
from stillwatch.receive.middleware import ExchangeLog, Seen
from tests import conversation as one
from tests.receive.asgi import call

KEY = bytes(range(32))
HEADERS = {"Authorization": "Bearer sk-customer", "User-Agent": one.USER_AGENT, "x-account-id": one.ACCOUNT}
PATH = "/v1/chat/completions"


def server(*pieces: bytes, status: int = 200) -> Callable[..., Any]:
    """An application that answers in these pieces."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": status, "headers": []})
        for n, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": n + 1 < len(pieces)})

    return app


def logged(folder: Path) -> list[dict[str, Any]]:
    source = open_logs([folder], now=datetime.now(UTC))
    return [row for batch in source.batches() for row in batch.to_pylist()]


def asked(app: Any, request: Any = one.REQUEST, path: str = PATH) -> Any:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return call(app, path, [body[:50], body[50:]], HEADERS, client=one.IP)


def test_an_exchange_is_logged(tmp_path: Path) -> None:
    """Request and answer pass untouched, and the log has the row of the conversation."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path, keep_text=True, key=KEY,
                      account_header="x-account-id", clock=one.WHEN.timestamp)  # fmt: skip
    assert json.loads(asked(app).body) == one.RESPONSE
    (row,) = logged(tmp_path)
    own = {"exchange_id": one.RESPONSE["id"], "session_id": None, "tls_fingerprint": None}
    assert {k: v for k, v in row.items() if k != "api_key_id"} == {
        k: v for k, v in (one.ROW | own).items() if k != "api_key_id"
    }


def test_a_stream_adds_up(tmp_path: Path) -> None:
    """Server-sent events are passed on piece by piece and logged as the answer they add up to."""
    deltas = [{"role": "assistant", "content": ""}, {"content": "Mock "}, {"content": "response"}, {}]
    events = [
        {"id": "chatcmpl-1", "choices": [{"delta": delta, "finish_reason": "stop" if not delta else None}]}
        for delta in deltas
    ]
    usage = {"id": "chatcmpl-1", "choices": [], "usage": one.RESPONSE["usage"]}
    pieces = [f"data: {json.dumps(event)}\n\n".encode() for event in [*events, usage]] + [b"data: [DONE]\n\n"]
    app = ExchangeLog(server(*pieces), folder=tmp_path, keep_text=True, key=KEY, account_header="x-account-id")
    assert asked(app, one.REQUEST | {"stream": True}).body == b"".join(pieces)
    (row,) = logged(tmp_path)
    told = ("completion", "stop_reason", "input_tokens", "output_tokens", "tool_calls", "prompt")
    assert {name: row[name] for name in told} == {name: one.ROW[name] for name in told}


@pytest.mark.parametrize("spelt", ["Bearer sk-\u00e9", "bearer sk-\u00e9", "BEARER  sk-\u00e9 ", "sk-\u00e9"])
def test_an_account_is_the_gates_however_its_key_is_spelt(tmp_path: Path, spelt: str) -> None:
    """A client that spells the scheme otherwise is no other account, and the gate knows it by the same name."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path, key=KEY)
    call(app, PATH, json.dumps(one.REQUEST).encode(), {"authorization": spelt})
    (row,) = logged(tmp_path)
    headers = [(b"authorization", spelt.encode())]
    asking = Callers(trusted=(), secret=Secret(KEY)).request("192.0.2.1", headers, Asked(), datetime.now(UTC))
    plain = Callers(trusted=(), secret=Secret(KEY)).hashed("sk-\u00e9".encode().decode("latin-1"))
    assert row["account_id"] == asking.account_id == plain


@pytest.mark.parametrize(("name", "account"), [("josé".encode(), "josé"), (b"jos\xe9", None)])
def test_a_named_account_is_in_utf8(tmp_path: Path, name: bytes, account: str | None) -> None:
    """A name beyond ASCII is logged as the accounts file writes it; bytes that are none name nobody."""
    app = ExchangeLog(server(b"{}"), folder=tmp_path, key=KEY, account_header="x-account-id")
    record = app._record({"headers": [(b"x-account-id", name)], "path": PATH}, Seen(0.0))
    assert record["account_id"] == account


def test_texts_only_on_request(tmp_path: Path) -> None:
    """By default the log holds sketches; the account is a keyed hash of the API key, never the key."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path, key=KEY)
    asked(app)
    text = next(tmp_path.iterdir()).read_text("utf-8").lower()
    assert "sk-customer" not in text and "bonn" not in text and "mock response" not in text
    (row,) = logged(tmp_path)
    assert row["account_id"].startswith("key-") and len(row["account_id"]) == 36
    assert row["output_tokens"] == 3


@pytest.mark.parametrize("header", [None, "x-account-id"])
@pytest.mark.parametrize("said", [{"user": "victim"}, {"safety_identifier": "victim"}, {"metadata": {"user_id": "v"}}])
def test_no_body_says_who_asks(header: str | None, said: Any, tmp_path: Path) -> None:
    """A call without a key or a name is nobody's, whomever its body names: else it could be laid at their door."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path, key=KEY, account_header=header)
    call(app, PATH, json.dumps({**one.REQUEST, "user": None, **said}).encode(), {})
    (line,) = [json.loads(text) for text in next(tmp_path.iterdir()).read_text("utf-8").splitlines()]
    assert "account_id" not in line and line["model"] == "orion"
    source = open_logs([tmp_path], now=datetime.now(UTC) + timedelta(hours=1))
    assert list(source.batches()) == [] and source.rejects() == {"account_id_missing": 1}


def test_a_name_told_twice_is_none(tmp_path: Path) -> None:
    """Where a proxy adds the account behind what the client sent, neither is believed; a key is read as servers do."""
    app = ExchangeLog(server(b"{}"), folder=tmp_path, key=KEY, account_header="x-account-id")
    told = [(b"x-account-id", b"victim"), (b"x-account-id", b"acct-7")]
    assert app._record({"headers": told, "path": PATH}, Seen(0.0))["account_id"] is None
    by_key = ExchangeLog(server(b"{}"), folder=tmp_path, key=KEY)
    keys = [(b"authorization", b"Bearer first"), (b"authorization", b"Bearer second")]
    found = [by_key._record({"headers": some, "path": PATH}, Seen(0.0))["account_id"] for some in (keys, keys[:1])]
    assert found[0] == found[1]


SECRET = "Xyzzyplugh"


@pytest.mark.parametrize(
    "changes",
    [
        {"system": [{"type": "text", "text": SECRET}]}, {"system": {"text": SECRET}}, {"instructions": [SECRET]},
        {"messages": [{"role": SECRET, "content": SECRET}]}, {"messages": {"content": SECRET}}, {"messages": SECRET},
        {"messages": [[SECRET], {"role": "user", "content": [{"type": "text", "text": SECRET}]}]},
        {"tools": SECRET + " is a prompt"}, {"tools": {"a": SECRET}}, {"tools": [{"function": {"name": SECRET + " "}}]},
        {"model": {"content": SECRET}}, {"user": [SECRET]}, {"metadata": {"session_id": {"text": SECRET}}},
        {"max_tokens": SECRET}, {"temperature": [SECRET]}, {"input": SECRET, "prompt": [SECRET]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_no_shape_of_a_request_gets_a_text_into_the_log(path: str, changes: Any, tmp_path: Path) -> None:
    """Unless texts are kept, no word of a prompt is in the log, wherever and however it was written."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path, key=KEY)
    asked(app, {**one.REQUEST, **changes}, path)
    text = next(tmp_path.iterdir()).read_text("utf-8")
    assert text.count("\n") == 1 and SECRET.lower() not in text.lower()


ANTHROPIC = [
    {"type": "message_start", "message": {"id": "msg-1", "model": "orion", "usage": {"input_tokens": 11}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Mock "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "response"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "map"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]
RESPONSES = [
    {"type": "response.created", "response": {"id": "resp-1", "model": "orion", "output": [], "usage": None}},
    {"type": "response.output_text.delta", "item_id": "i", "delta": "Mock "},
    {"type": "response.output_text.delta", "item_id": "i", "delta": "response"},
]
COMPLETED = {
    "type": "response.completed",
    "response": {
        "id": "resp-1", "model": "orion", "usage": {"input_tokens": 11, "output_tokens": 3},
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Mock response"}]},
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "events", "told"),
    [
        ("/v1/messages", ANTHROPIC, ("msg-1", "Mock response", 11, 3, 1, "tool_use")),
        ("/v1/responses", [*RESPONSES, COMPLETED], ("resp-1", "Mock response", 11, 3, 0, None)),
        ("/v1/responses", RESPONSES, ("resp-1", "Mock response", None, None, 0, None)),
    ],
    ids=["messages", "responses", "responses cut short"],
)
def test_streams_of_other_interfaces_add_up(path: str, events: Any, told: Any, tmp_path: Path) -> None:
    """What the interfaces of messages and responses stream is logged as what they answer whole."""
    pieces = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    app = ExchangeLog(server(*pieces), folder=tmp_path, keep_text=True, key=KEY, account_header="x-account-id")
    asked(app, one.REQUEST | {"stream": True}, path)
    (row,) = logged(tmp_path)
    names = ("exchange_id", "completion", "input_tokens", "output_tokens", "tool_calls", "stop_reason")
    assert tuple(row[name] for name in names) == told


@pytest.mark.parametrize(
    ("request_body", "answer", "status"),
    [(b"{broken", b"{}", 400), (b"", b"\xff\xfe", 500), (b"[1,2]", b"[1]", 200), (b"null", b"data: {\n\n", 200)],
)
def test_odd_bodies_pass_and_leave_a_row(request_body: bytes, answer: bytes, status: int, tmp_path: Path) -> None:
    """Bodies that are no JSON pass as they are; the exchange is logged without what it does not say."""
    app = ExchangeLog(server(answer, status=status), folder=tmp_path, keep_text=True, key=KEY)
    answered = asked(app, request_body)
    assert (answered.status, answered.body) == (status, answer)
    (row,) = logged(tmp_path)
    assert (row["status"], row["prompt"]) == (str(status), None)


def test_a_body_nested_without_end_is_logged_with_its_prompt(tmp_path: Path) -> None:
    """Nobody hides a prompt behind nesting that a decoder gives up on, or behind a number that is none."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path, keep_text=True, key=KEY)
    deep = json.dumps(one.REQUEST)[:-1] + ', "seed": NaN, "deep": ' + "[" * 5000 + "]" * 5000 + "}"
    asked(app, deep.encode())
    assert [row["prompt"] for row in logged(tmp_path)] == [one.PROMPT]


@pytest.mark.parametrize(
    "choices", ['["x"]', "5", '[{"delta": 5}]', '[{"delta": {"content": 5, "tool_calls": [7]}}]', "{}"]
)
def test_an_odd_stream_is_answered(choices: str, tmp_path: Path) -> None:
    """Whatever events a server sends, they pass, and the exchange is logged without what they do not say."""
    events = f'data: {{"id": "x", "choices": {choices}}}\n\ndata: [DONE]\n\n'.encode()
    app = ExchangeLog(server(events), folder=tmp_path, keep_text=True, key=KEY)
    assert asked(app).body == events
    assert [row["prompt"] for row in logged(tmp_path)] == [one.PROMPT]


def test_other_paths_are_not_logged(tmp_path: Path) -> None:
    """Health checks and the like pass without a trace."""
    app = ExchangeLog(server(b"ok"), folder=tmp_path, key=KEY)
    assert asked(app, path="/health").body == b"ok"
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the disk takes nothing the request is answered, and the loss is said without its content."""
    app = ExchangeLog(server(json.dumps(one.RESPONSE).encode()), folder=tmp_path / "log", keep_text=True, key=KEY)
    (tmp_path / "log").rmdir()
    assert asked(app).status == 200
    assert "an exchange was not logged" in caplog.text and "Bonn" not in caplog.text


def test_it_is_configured_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM makes it, with the application alone, it logs where the environment says, or not at all."""
    answer = json.dumps(one.RESPONSE).encode()
    assert asked(ExchangeLog(server(answer))).body == answer
    monkeypatch.setenv("STILLWATCH_EXCHANGE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("STILLWATCH_ACCOUNT_HEADER", "X-Account-Id")
    monkeypatch.setenv("STILLWATCH_KEEP_TEXT", "1")
    asked(ExchangeLog(server(answer)))
    (row,) = logged(tmp_path / "log")
    assert (row["account_id"], row["prompt"]) == (one.ACCOUNT, one.PROMPT)
