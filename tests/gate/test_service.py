"""The gate over HTTP: the check of gateways, the JSON interface, LiteLLM's guardrail, the token and the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from stillwatch.gate.contract import document
from stillwatch.gate.service import LARGEST_BODY_BYTES, Service
from stillwatch.keys import Secret
from tests.gate.making import PLAIN, TICKET, Gone, Made, made, said
from tests.needs import needs_module
from tests.receive.asgi import call

pytestmark = pytest.mark.services

TOKEN = "a-token-of-sixteen-or-more"
CHECK = "/check/v1/chat/completions"
GUARD = "/beta/litellm_basic_guardrail_api"


@pytest.fixture(autouse=True, scope="module")
def starlette() -> None:
    """The service stands on Starlette."""
    needs_module("starlette", "starlette")


def service(one: Made, token: str | None = None) -> Service:
    secret = None if token is None else Secret(token.encode())
    return Service(one.gate, one.callers, clock=one.clock, token=secret)


def check(one: Made, account: str = "ann", body: bytes = b"", **headers: str) -> Any:
    named = {
        "x-stillwatch-account": account,
        "content-length": str(len(body)),
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    return call(service(one), CHECK, body, named)


def test_a_check_passes_with_headers_for_what_is_behind(tmp_path: Path) -> None:
    """A call that passes is answered 200, with every header set, so that none of the client's survives."""
    with made(tmp_path) as one:
        answer = check(one, "shared-1", x_stillwatch_level="email")
        plain = check(one)
    assert answer.status == plain.status == 200
    assert answer.headers[b"x-stillwatch-mark"] == TICKET.encode()
    assert plain.headers[b"x-stillwatch-mark"] == b""
    assert plain.headers[b"x-stillwatch-action"] == b"allow"
    assert len(plain.headers[b"x-stillwatch-decision"]) == 32


def test_a_check_refuses_with_little(tmp_path: Path) -> None:
    """A call that does not pass is answered 429, 403 or 413, the body coarse."""
    with made(tmp_path) as one:
        assert check(one, x_stillwatch_tokens="10000").status == 200
        slow = check(one, x_stillwatch_tokens="3000")
        large = check(one, x_stillwatch_tokens="20000")
    assert (slow.status, slow.headers[b"retry-after"], large.status) == (429, b"5", 413)
    assert said(slow.body)["error"]["code"] == "try_later"


def test_a_check_with_a_body_reserves_what_the_body_asks(tmp_path: Path) -> None:
    """Where the gateway sends the body along, its limit counts."""
    with made(tmp_path) as one:
        assert check(one, body=json.dumps({"max_tokens": 9_000}).encode()).status == 200
        assert check(one, body=json.dumps({"max_tokens": 9_000}).encode()).status == 429


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("v1/chat/completions", b"", 200), ("", b"", 200), ("v1/models", b"", 200), ("v1/messages", b"", 200),
     ("v1/embeddings", b"", 403), ("v1/embeddings", b"{}", 403), ("v1/completions", b"", 403),
     ("v1/batches", b"", 403)],
)  # fmt: skip
def test_a_path_says_the_kind_of_call_without_a_body(tmp_path: Path, path: str, body: bytes, status: int) -> None:
    """A gateway that sends no body along opens no kind of call that the level lacks."""
    with made(tmp_path, PLAIN.replace('capabilities = ["*"]', 'capabilities = ["chat"]')) as one:
        named = {"x-stillwatch-account": "ann"} | ({"content-length": str(len(body))} if body else {})
        assert call(service(one), f"/check/{path}", body, named).status == status


def test_a_check_reserves_as_much_as_without_a_cap(tmp_path: Path) -> None:
    """Whoever stands behind the gateway may keep to the cap or not."""
    with made(tmp_path) as one:
        check(one, body=b'{"max_tokens": 6000}', x_stillwatch_level="none")
        assert [body["n_tokens"] for body in one.decisions()] == [6000 + 7]


def test_a_strangers_headers_are_not_believed(tmp_path: Path) -> None:
    """A connection from elsewhere is judged by its key, whatever it says it is."""
    with made(tmp_path) as one:
        headers = {"x-stillwatch-account": "ann", "x-forwarded-for": "198.51.100.1", "authorization": "Bearer k"}
        call(service(one), CHECK, b"", headers, client="203.0.113.5")
        (body,) = one.decisions()
    assert body["account_id"].startswith("key-")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_check_is_answered_for_every_method(tmp_path: Path, method: str) -> None:
    """A gateway passes the client's method on."""
    with made(tmp_path) as one:
        assert call(service(one), CHECK, b"", {"x-stillwatch-account": "a"}, method=method).status == 200


def test_a_tunnel_is_refused(tmp_path: Path) -> None:
    """A gateway that passes CONNECT on gets no 200, which would mean something else."""
    with made(tmp_path) as one:
        assert call(service(one), CHECK, b"", {"x-stillwatch-account": "a"}, method="CONNECT").status == 400


def test_a_failing_gate_is_503(tmp_path: Path) -> None:
    """Without budgets, the mode that refuses is a 503 for gateways."""
    with made(tmp_path, budgets=Gone()) as one:
        assert check(one).status == 503


def test_programs_admit_and_settle(tmp_path: Path) -> None:
    """The JSON interface decides and settles by the decision's id."""
    with made(tmp_path) as one:
        asked = json.dumps({"account_id": "ann", "n_tokens": 10_000}).encode()
        first = said(call(service(one), "/v1/admit", asked).body)
        assert (first["passes"], first["error"]) == (True, None)
        second = said(call(service(one), "/v1/admit", asked).body)
        assert (second["passes"], second["error"]["code"]) == (False, "try_later")
        settle = json.dumps({"decision_id": first["decision_id"], "used": 0}).encode()
        assert said(call(service(one), "/v1/settle", settle).body) == {"settled": True}
        assert said(call(service(one), "/v1/settle", settle).body) == {"settled": False}
        assert said(call(service(one), "/v1/admit", asked).body)["passes"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"account_id": ""}', b'{"account_id": "a", "n_tokens": -1}', b"\xff",
     b'{"account_id": "a", "n_tokens": 1, "admin": true}', b'{"account_id": "a", "n_tokens": 1e99}',
     b'{"account_id": "a", "n_tokens": 1, "identity_level": "root"}', b"[" * 100_000],
)  # fmt: skip
def test_a_malformed_body_is_refused(tmp_path: Path, body: bytes) -> None:
    """What is not of the contract is a 400 and no decision."""
    with made(tmp_path) as one:
        assert call(service(one), "/v1/admit", body).status == 400
        assert not one.journal.path.exists() or not one.decisions()


UNREADABLE = [
    rb'{"messages": [{"content": "a\ud800b and more"}]}', rb'{"model": "m\udfff and more"}', rb'{"\ud800 and more": 1}',
    b'{"messages": [{"content": "\xed\xa0\x80"}]}', b"[1]", b"a=1&b=2", b"[" * 5_000,
    '{"max_tokens": 9}'.encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("path", [CHECK, "/v1/admit", "/v1/settle", GUARD])
@pytest.mark.parametrize("body", UNREADABLE)
def test_what_cannot_be_read_is_refused_and_counted(tmp_path: Path, path: str, body: bytes) -> None:
    """A body that another server might read all the same is not judged by what little is known of it; see /healthz."""
    with made(tmp_path) as one:
        app = service(one)
        headers = {"x-stillwatch-account": "ann", "content-length": str(len(body))}
        assert call(app, path, body, headers).status == 400
        assert said(call(app, "/healthz", b"", method="GET").body)["requests_unread"] == 1
        assert not one.decisions() if one.journal.path.exists() else True


@pytest.mark.parametrize("depth", [300, 490, 495, 500, 700, 900])
def test_a_body_of_any_depth_is_answered(tmp_path: Path, depth: int) -> None:
    """It is judged, or refused with 400; what is asked of logprobs is never missed for it."""
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    with made(tmp_path) as one:
        for key in (b"include", b"messages", b"prompt", b"tools"):
            assert check(one, body=b'{"max_tokens": 9, "%b": %b}' % (key, deep)).status in (200, 400)


@pytest.mark.parametrize("path", [CHECK, "/v1/admit", "/v1/settle", GUARD])
def test_an_oversized_body_is_refused(tmp_path: Path, path: str) -> None:
    """No address reads more than it takes."""
    with made(tmp_path) as one:
        assert (
            call(service(one), path, [b" " * LARGEST_BODY_BYTES, b"  "], {"transfer-encoding": "chunked"}).status == 413
        )


def test_the_guardrail_judges_requests(tmp_path: Path) -> None:
    """LiteLLM's guardrail: a request passes or is blocked with an appeal id, a response passes, the rest is ignored."""
    asked = {
        "input_type": "request", "texts": ["x"], "model": "m", "unknown": 1, "images": None,
        "request_data": {"user_api_key_user_id": "default_user_id", "user_api_key_team_id": "team"},
        "request_headers": {"X-Forwarded-For": "[present]"},
    }  # fmt: skip
    with made(tmp_path) as one:
        answers = [said(call(service(one), GUARD, json.dumps(asked).encode()).body) for _ in range(4)]
        passed = said(call(service(one), GUARD, json.dumps(asked | {"input_type": "response"}).encode()).body)
        bodies = one.decisions()
    assert [answer["action"] for answer in answers] == ["NONE", "NONE", "BLOCKED", "BLOCKED"]
    assert passed["action"] == "NONE" and len(bodies) == 4
    assert {body["account_id"] for body in bodies} == {"team"}
    assert bodies[3]["appeal_id"] in answers[3]["blocked_reason"]


@pytest.mark.parametrize(
    ("headers", "action"),
    [
        ({}, "NONE"), (None, "NONE"), ({"x-forwarded-for": "[present]"}, "NONE"),
        ({"X-Forwarded-For": "198.51.100.9"}, "BLOCKED"), ({"x-forwarded-for": "8.8.8.8, 198.51.100.9"}, "BLOCKED"),
        ({"x-forwarded-for": "198.51.100.9, 8.8.8.8"}, "NONE"),
    ],
)  # fmt: skip
def test_the_guardrail_never_takes_litellm_for_the_client(tmp_path: Path, headers: Any, action: str) -> None:
    """The address is what LiteLLM passes on of the forwarded header; otherwise nobody knows it."""
    closed = '[[networks.rules]]\nname = "closed"\ncidrs = ["127.0.0.1/32", "198.51.100.9/32"]\naction = "deny"\n'
    asked = {"texts": ["x"], "request_data": {"user_api_key_user_id": "ann"}, "request_headers": headers}
    with made(tmp_path, PLAIN + closed) as one:
        assert said(call(service(one), GUARD, json.dumps(asked).encode()).body)["action"] == action


@pytest.mark.parametrize("path", ["/v1/admit", "/v1/settle", GUARD, CHECK])
def test_with_a_token_every_address_wants_it(tmp_path: Path, path: str) -> None:
    """Without the token nothing is judged; a check shows it in a header of its own."""
    body = b'{"account_id": "a", "n_tokens": 1, "decision_id": "x", "used": 1}'
    name, scheme = ("x-stillwatch-token", "") if path == CHECK else ("authorization", "Bearer ")
    with made(tmp_path) as one:
        app = service(one, TOKEN)
        for wrong in (
            {},
            {name: scheme},
            {name: scheme + "wrong"},
            {name: scheme + TOKEN + "é"},
            {name: "Basic " + TOKEN},
        ):
            assert call(app, path, body, wrong).status == 401
        assert call(app, path, body, {name: scheme + TOKEN}).status != 401


def test_health_says_whether_decisions_are_written(tmp_path: Path) -> None:
    """A gate whose journal fails is not healthy."""
    with made(tmp_path) as one:
        answer = call(service(one), "/healthz", b"", method="GET")
    assert (answer.status, said(answer.body)) == (
        200,
        {"status": "ok", "decisions_lost": 0, "journal": "unchecked", "requests_unread": 0},
    )


@pytest.mark.slow
def test_the_contract_holds(tmp_path: Path) -> None:
    """Schemathesis finds no answer that the OpenAPI document does not describe."""
    schemathesis = needs_module("schemathesis", "schemathesis")
    with made(tmp_path) as one:
        app = service(one, TOKEN)
        schema = schemathesis.openapi.from_dict(document())
        schema.app = app
        bearer = {"Authorization": f"Bearer {TOKEN}", "x-stillwatch-token": TOKEN, "x-stillwatch-account": "a"}
        tried = 0
        for found in schema.get_all_operations():
            operation = found.ok()

            def holds(case: Any) -> None:
                nonlocal tried
                tried += 1
                case.call_and_validate(headers=bearer, app=app)

            given(case=operation.as_strategy())(settings(max_examples=40)(holds))()
        assert tried > 100
