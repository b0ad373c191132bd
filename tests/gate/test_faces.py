"""Who asks and what they ask: headers, bodies, the ASGI middleware and the hook of LiteLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stillwatch.errors import SettingsError
from stillwatch.gate.asked import MARK, Asked, allowed_body, asked, strip_marks, usage_of, used_tokens
from stillwatch.gate.callers import ANONYMOUS, Callers, Refused
from stillwatch.gate.litellm_hook import Calls
from stillwatch.gate.middleware import LARGEST_BODY_BYTES, GateMiddleware
from stillwatch.journal import Journal
from tests.gate.making import KEY, PLAIN, TICKET, Made, made, said
from tests.policy.making import NOW, snapshot
from tests.receive.asgi import call

CHAT = "/v1/chat/completions"
PROXY, STRANGER = "10.0.0.1", "203.0.113.9"


def caller(peer: str | None, **headers: str) -> Any:
    callers = Callers(trusted=["127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32"], secret=KEY)
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return callers.request(peer, pairs, Asked(), NOW)


@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        (PROXY, "198.51.100.7", "198.51.100.7"),
        (PROXY, "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        (PROXY, "198.51.100.7, 10.0.0.9, 127.0.0.1", "198.51.100.7"),
        (PROXY, "10.0.0.9", "10.0.0.9"),
        (PROXY, "198.51.100.7:4711", "198.51.100.7"),
        (PROXY, "[2001:db9::1]:443", "2001:db9::1"),
        (PROXY, "198.51.100.7, garbage", PROXY),
        (PROXY, "", PROXY),
        (PROXY, "198.51.100.7, 10.0.0.9, unknown, 10.0.0.8", "10.0.0.8"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (STRANGER, "198.51.100.7", STRANGER),
        (STRANGER, "127.0.0.1", STRANGER),
        (None, "198.51.100.7", None),
    ],
)
def test_the_address_is_the_right_most_untrusted(peer: str | None, forwarded: str, ip: str | None) -> None:
    """What a client writes into the forwarded header, or left of its own address, is never its address."""
    assert caller(peer, X_Forwarded_For=forwarded).ip == ip


def test_names_count_only_from_a_trusted_proxy() -> None:
    """A stranger who writes the headers of the proxy is still the hash of its own key."""
    said = {"X_Stillwatch_Account": "ann", "X_Stillwatch_Level": "organisation", "Authorization": "Bearer sk-1"}
    assert (caller(PROXY, **said).account_id, caller(PROXY, **said).identity_level) == ("ann", "organisation")
    stranger = caller(STRANGER, **said)
    assert stranger.account_id.startswith("key-") and stranger.identity_level == "none"
    assert caller(STRANGER, X_Api_Key="sk-1").account_id == stranger.account_id
    assert caller(STRANGER, Authorization="bearer  sk-1").account_id == stranger.account_id
    assert caller(STRANGER).account_id == ANONYMOUS


@pytest.mark.parametrize(
    "second", [(b"x-api-key", b"sk-2"), (b"authorization", b"Bearer sk-2"), (b"Authorization", b"sk-2")]
)
def test_a_client_that_shows_two_keys_is_nobody(second: tuple[bytes, bytes]) -> None:
    """Or each key it adds, in whatever order, would be a new account, and not the one of the exchange log."""
    callers, first = Callers(trusted=["10.0.0.0/8"], secret=KEY), (b"authorization", b"Bearer sk-1")
    for headers in ([first, second], [second, first]):
        with pytest.raises(Refused, match="two API keys"):
            callers.request(STRANGER, headers, Asked(), NOW)
        named = [*headers, (b"x-stillwatch-account", b"ann")]
        assert callers.request(PROXY, named, Asked(), NOW).account_id == "ann"
    same = [first, (b"x-api-key", b"sk-1"), (b"x-api-key", b"")]
    assert callers.request(STRANGER, same, Asked(), NOW).account_id == callers.hashed("sk-1")


@pytest.mark.parametrize(
    ("written", "country"),
    [
        ("XX", "XX"),
        ("xx", "XX"),
        ("Xx", "XX"),
        ("T1", None),
        ("XXX", None),
        ("Germany", None),
        ("", None),
        ("x ", None),
    ],
)
def test_a_country_is_its_code_however_it_is_written(written: str, country: str | None) -> None:
    """One that is none is not known: it must not slip between the rules for codes and the one for unknown ones."""
    assert caller(PROXY, X_Stillwatch_Country=written).country == country


@pytest.mark.parametrize("value", ["a\r\nx-admin: 1", "a\x00", "a\x7f", "\x85", "x" * 257])
def test_header_injection_is_refused(value: str) -> None:
    """A name with control characters, or a very long one, is no name."""
    with pytest.raises(Refused):
        caller(PROXY, X_Stillwatch_Account=value)


def test_a_header_that_comes_twice_is_refused() -> None:
    """Two answers to who asks are none."""
    callers = Callers(trusted=["10.0.0.0/8"], secret=KEY)
    with pytest.raises(Refused, match="twice"):
        callers.request(PROXY, [(b"x-stillwatch-account", b"a"), (b"X-Stillwatch-Account", b"b")], Asked(), NOW)


@pytest.mark.parametrize("name", [b"\xff", b"ann\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"jos\xe9", b"a\xc2\x85"])
@pytest.mark.parametrize("header", [b"x-stillwatch-account", b"x-stillwatch-organisation", b"x-stillwatch-model"])
def test_a_name_that_is_no_utf8_is_refused(header: bytes, name: bytes) -> None:
    """Broken, overlong or surrogate bytes, Latin-1 and control characters are no name."""
    with pytest.raises(Refused) as refused:
        Callers(trusted=["10.0.0.0/8"], secret=KEY).request(PROXY, [(header, name)], Asked(), NOW)
    assert refused.value.status == 400


@pytest.mark.parametrize("name", ["josé", "Ärzte", "名前", "ann"])
def test_a_name_beyond_ascii_is_the_one_of_the_logs(name: str, tmp_path: Path) -> None:
    """A member of a campaign is known by its name as the snapshot holds it, in UTF-8."""
    callers = Callers(trusted=["10.0.0.0/8"], secret=KEY)
    asking = callers.request(PROXY, [(b"x-stillwatch-account", name.encode())], Asked(model="m"), NOW)
    with made(tmp_path, known=snapshot((name, 0, 1.0))) as one:
        one.gate.admit(asking)
        assert one.decisions()[0]["lineage_id"] == "lin-0"


@pytest.mark.parametrize("tokens", ["-1", "1e9", "٣", "9" * 10, "1 "[:1] + "x"])
def test_a_number_of_tokens_is_a_number(tokens: str) -> None:
    """What a proxy states as tokens is digits or is refused."""
    with pytest.raises(Refused):
        Callers(trusted=["10.0.0.0/8"], secret=KEY).request(
            PROXY, [(b"x-stillwatch-tokens", tokens.encode())], Asked(), NOW
        )


def test_a_network_of_proxies_is_checked() -> None:
    """A trusted network that is none ends the start."""
    with pytest.raises(SettingsError, match="no network"):
        Callers(trusted=["10.0.0.1/8"], secret=KEY)


def test_what_is_asked_is_read_from_the_body() -> None:
    """Model, kind of call, features and the tokens to reserve."""
    body = {"model": "m", "max_tokens": 50, "n": 3, "logprobs": True, "reasoning_effort": "high", "tools": [{}]}
    found = asked(CHAT, body, 300)
    assert found == Asked("m", "tools", frozenset({"logprobs", "reasoning"}), 101 + 150, 50, 101, 3)
    assert asked("/v1/embeddings", {"model": "m"}, 300).n_tokens == 101
    assert asked(CHAT, {"max_tokens": 10, "max_completion_tokens": 90}, 0).max_output_tokens == 90


@pytest.mark.parametrize("odd", [True, -5, 0, 1.5, "9", None, [], 10**30])
def test_odd_numbers_reserve_something(odd: Any) -> None:
    """No value of a limit reserves fewer tokens than an answer without one, or more than can be counted."""
    found = asked(CHAT, {"max_tokens": odd, "n": odd}, 3)
    assert 2 + 4096 <= found.n_tokens <= 100_000_000


@pytest.mark.parametrize("eight", [8, 8.0, "8", " 8 ", "8.0", "+8"])
def test_a_number_in_another_spelling_is_that_number(eight: Any) -> None:
    """Model servers take 8.0 and "8" for 8: eight answers cost eight, and a limit is capped from what was meant."""
    assert asked(CHAT, {"max_tokens": 100, "n": eight}, 0).n_tokens == 1 + 800
    passed = allowed_body(CHAT, {"max_tokens": eight}, features_off=frozenset(), max_output_tokens=10, mark=None)
    assert passed == {"max_tokens": 8}
    large = asked(CHAT, {"max_tokens": "50_000"}, 0)
    assert (large.n_tokens, large.max_output_tokens) == (1 + 50_000, 50_000)


@pytest.mark.parametrize(
    ("prompt", "n"),
    [("a", 100), (["a"], 100), (["a"] * 50, 5000), ([[1, 2]] * 50, 5000 + 99), ([7] * 500, 100 + 499), ([], 100)],
)
def test_every_prompt_of_a_list_is_reserved_for(prompt: Any, n: int) -> None:
    """A completion answers each prompt of a list, and a token written as a number is one token."""
    assert asked("/v1/completions", {"prompt": prompt, "max_tokens": 100}, 0).n_tokens == n + 1


def test_a_list_of_models_is_every_one_of_them(tmp_path: Path) -> None:
    """LiteLLM would ask all: each has to be open, and costs as much as one; a name that is too long is none."""
    one = asked(CHAT, {"model": "m", "max_tokens": 10}, 30).n_tokens
    assert asked(CHAT, {"model": "m, n,o", "max_tokens": 10}, 30).n_tokens == 3 * one
    assert asked(CHAT, {"model": "m," * 200 + "closed"}, 30).model is None
    with made(tmp_path, PLAIN.replace('models = ["*"]', 'models = ["small-*", "m"]')) as gated:
        for model, passes in {
            "small-1": True, "small-1,small-2": True, "m, small-2": True, "small-1,closed": False, "small-,": False,
            ",": False, "small-1," + "closed" * 50: False, "": False,
        }.items():  # fmt: skip
            model_asked = asked(CHAT, {"model": model, "max_tokens": 1}, 3).model
            assert gated.gate.admit(gated.ask(model=model_asked, n_tokens=1)).passes == passes, model


def test_no_logprobs_but_that_of_the_chosen_token_are_logprobs() -> None:
    """`logprobs: 0` asks for one of each token."""
    assert asked("/v1/completions", {"logprobs": 0}, 0).features == {"logprobs"}
    assert asked(CHAT, {"logprobs": False}, 0).features == set()


def test_what_is_off_is_off_unasked(tmp_path: Path) -> None:
    """vLLM gives reasoning unless it is told not to: a level without it is not given it, asked for or not."""
    server = Server(USED)
    with made(tmp_path, trusted=()) as one:
        assert ask(one, server, b'{"reasoning_effort": "none", "include": ["x", "y.logprobs"]}').status == 200
    passed = json.loads(server.got[0])
    assert (passed["include_reasoning"], passed["reasoning_effort"], passed["include"]) == (False, "none", ["x"])


def test_marks_are_taken_out_however_deep() -> None:
    """A client's ticket is gone from every corner, the gate's own is put in, and a circle ends."""
    body: dict[str, Any] = {"vllm_xargs": {MARK: "theirs", "kept": 1}, "extra_body": [{"a": {MARK: 1}}], MARK: 2}
    body["circle"] = body
    assert strip_marks(body) == 3
    del body["circle"]
    passed = allowed_body(CHAT, body, features_off=frozenset(), max_output_tokens=None, mark="ours")
    assert passed == {"vllm_xargs": {"kept": 1, MARK: "ours"}, "extra_body": [{"a": {}}]}


@pytest.mark.parametrize(("path", "name"), [(CHAT, "max_tokens"), ("/v1/responses", "max_output_tokens")])
def test_an_answer_is_capped_under_every_name(path: str, name: str) -> None:
    """The cap holds whichever name of the limit a client uses, or none."""
    body = {"max_completion_tokens": 900, "logprobs": True, "reasoning": {"effort": "high"}}
    off = frozenset({"logprobs", "reasoning"})
    passed = allowed_body(path, body, features_off=off, max_output_tokens=100, mark=None)
    assert passed == {"max_completion_tokens": 100, name: 100, "include_reasoning": False}


def test_usage_is_read_in_every_dialect() -> None:
    """OpenAI's, Anthropic's and the responses interface's statements of usage; nonsense states nothing."""
    assert used_tokens(usage_of({"usage": {"total_tokens": 9, "prompt_tokens": 4, "completion_tokens": 5}})) == 9
    assert used_tokens(usage_of({"message": {"usage": {"input_tokens": 4, "output_tokens": 1}}})) == 5
    assert used_tokens(usage_of({"response": {"usage": {"input_tokens": 4, "total_tokens": 6}}})) == 6
    for odd in ({}, {"usage": None}, {"usage": {"total_tokens": -4}}, {"usage": {"total_tokens": "9"}}):
        assert used_tokens(usage_of(odd)) is None


# --- the middleware -----------------------------------------------------------------------------------------


class Server:
    """A model server: keeps what reached it, and answers what it was told to."""

    def __init__(self, *pieces: bytes, status: int = 200, kind: str = "application/json", breaks: bool = False) -> None:
        self.got: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces, self.status, self.kind, self.breaks = pieces, status, kind, breaks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.got.append((await receive()).get("body", b""))
            self.headers = scope["headers"]
            head = [(b"content-type", self.kind.encode())]
            await send({"type": "http.response.start", "status": self.status, "headers": head})
            for piece in self.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if self.breaks:
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})


BEARER = {"Authorization": "Bearer sk-1"}


def ask(
    one: Made, server: Server, body: bytes | Sequence[bytes], path: str = CHAT, method: str = "POST", **more: str
) -> Any:
    app = GateMiddleware(server, gate=one.gate, callers=one.callers, clock=one.clock)
    return call(app, path, body, {**BEARER, **more}, method=method)


USED = json.dumps({"usage": {"total_tokens": 100}}).encode()
SMALL = b'{"max_tokens": 6000}'
LONG = PLAIN.replace("max_output_tokens = 500", "max_output_tokens = 9_000")
"""Where so much may be asked for, so much is reserved."""


def n_passed(one: Made, server: Server, n: int = 3) -> int:
    return sum(ask(one, server, SMALL).status == server.status for _ in range(n))


@pytest.mark.parametrize(
    ("server", "n"),
    [
        (Server(USED), 3),
        (Server(USED[:20], USED[20:]), 3),
        (Server(b"{}"), 1),
        (Server(b"not json"), 1),
        (Server(USED, breaks=True), 1),
        (Server(b"oops", status=500), 3),
        (Server(b"data: {}\n\ndata: ", USED, b"\n\ndata: [DONE]\n\n", kind="text/event-stream"), 3),
        (Server(b"data: ", USED, b"\n\n", kind="text/event-stream; charset=utf-8", breaks=True), 1),
        (Server(b"data: {}\n\ndata: [DONE]\n\n", kind="text/event-stream"), 1),
    ],
)
def test_a_call_is_settled_from_the_usage_it_states(tmp_path: Path, server: Server, n: int) -> None:
    """Stated usage gives the rest back; no statement, and an answer that breaks off, stays spent."""
    with made(tmp_path, LONG) as one:
        assert n_passed(one, server) == n


def test_parts_of_a_streamed_usage_are_added(tmp_path: Path) -> None:
    """A stream that states input and output in different events used both."""
    events = (
        b'data: {"type": "message_start", "message": {"usage": {"input_tokens": 3000, "output_tokens": 1}}}\n',
        b'data: {"type": "message_delta", "usage": {"output_tokens": 3000}}\n',
    )
    with made(tmp_path, LONG) as one:
        assert n_passed(one, Server(*events, kind="text/event-stream")) == 1


@pytest.mark.parametrize(
    ("body", "n"),
    [({}, 500), ({"max_tokens": 90_000}, 500), ({"max_tokens": 40}, 40), ({"n": 3}, 1_500),
     ({"prompt": ["a"] * 4}, 2_000), ({"model": "a,b"}, 1_000)],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_no_more_is_reserved_for_an_answer_than_it_may_hold(tmp_path: Path, body: Any, n: int, mode: str) -> None:
    """A level's cap holds for the reservation too, or a budget with a small burst would never fit an ordinary call."""
    text, written = PLAIN.replace('"enforce"', f'"{mode}"'), json.dumps(body).encode()
    with made(tmp_path, text) as one:
        n_models = 2 if "model" in body else 1
        assert ask(one, Server(b"{}"), written).status == 200
        (decision,) = one.decisions()
    assert decision["n_tokens"] == n_models * (len(written) // 3 + 1) + n


@pytest.mark.parametrize(
    ("path", "status"),
    [("/inference/v1/generate", 403), ("/generate", 403), ("/v1/chat/completions/batch", 403), ("/v1/responses/", 403),
     ("/invocations", 200), ("/v1/messages", 200), ("/v1/embeddings", 200), ("/v1/score", 200), ("/rerank", 200),
     ("/v1/messages/count_tokens", 200)],
)  # fmt: skip
def test_an_interface_that_cannot_be_limited_is_not_open_to_a_limited_level(
    tmp_path: Path, path: str, status: int
) -> None:
    """Its limits may stand anywhere in its body; levels without limits may use it."""
    body = b'{"model": "m", "sampling_params": {"max_tokens": 100000, "logprobs": 20}}'
    with made(tmp_path) as one:
        named = {"X-Stillwatch-Level": "none"}
        assert ask(one, Server(b"{}"), body, path=path, **named).status == status
    (tmp_path / "free").mkdir()
    with made(tmp_path / "free", PLAIN.replace("max_output_tokens = 500", "").replace("features = []", FREE)) as one:
        assert ask(one, Server(b"{}"), body, path=path).status == 200


FREE = 'features = ["reasoning", "logprobs"]'


def test_the_server_reads_what_was_judged(tmp_path: Path) -> None:
    """The body that passes is written anew: no doubled key, no mark of the client's, the right length."""
    server = Server(USED)
    body = (
        b'{"model": "a", "model": "b", "vllm_xargs": {"stillwatch_mark": "x"}, "vllm_xargs": {"stillwatch_mark": "y"}}'
    )
    with made(tmp_path) as one:
        assert ask(one, server, [body[:30], body[30:]], **{"Content-Length": "9"}).status == 200
    assert json.loads(server.got[0]) == {
        "model": "b",
        "vllm_xargs": {},
        "max_tokens": 500,
        "include_reasoning": False,
    }
    lengths = [value for name, value in server.headers if name == b"content-length"]
    assert lengths == [str(len(server.got[0])).encode()]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"\xff", b'{"a": NaN}', b"{" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"model=m"],
)
def test_what_is_not_one_object_is_refused(tmp_path: Path, body: bytes) -> None:
    """A body that cannot be judged does not reach the server."""
    server = Server(USED)
    with made(tmp_path) as one:
        assert ask(one, server, body).status == 400
    assert not server.got


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"--form--", b"x" * (LARGEST_BODY_BYTES + 9)])
def test_in_shadow_mode_what_is_not_one_object_passes_as_it_came(tmp_path: Path, body: bytes) -> None:
    """Nothing that is only tried out may break a transcription."""
    reached = bytearray()

    async def server(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            reached.extend(message.get("body", b""))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with made(tmp_path, PLAIN.replace('"enforce"', '"shadow"')) as one:
        app = GateMiddleware(server, gate=one.gate, callers=one.callers, clock=one.clock)
        assert call(app, "/v1/audio/transcriptions", [body[:9], body[9:]], BEARER).status == 200
        assert (bytes(reached), one.gate.n_unread) == (body, 1)


def test_an_oversized_body_is_refused(tmp_path: Path) -> None:
    """The middleware stops reading; the server sees nothing."""
    server = Server(USED)
    with made(tmp_path) as one:
        assert ask(one, server, [b"{" + b" " * LARGEST_BODY_BYTES, b"}"]).status == 413
    assert not server.got


@pytest.mark.parametrize(
    ("method", "path", "reaches"),
    [("GET", "/v1/models", True), ("POST", "/tokenize", True), ("POST", "/pooling", False), ("PUT", CHAT, False),
     ("POST", "/v1/audio/transcriptions", False), ("POST", "/tokenize/", False)],
)  # fmt: skip
def test_what_costs_is_judged_whatever_its_path(tmp_path: Path, method: str, path: str, reaches: bool) -> None:
    """Only a short list is free; a path nobody thought of is judged."""
    server = Server(USED)
    with made(tmp_path, PLAIN.replace('capabilities = ["*"]', 'capabilities = ["chat"]')) as one:
        assert (ask(one, server, b"{}", path=path, method=method).status == 200) is (reaches or path == CHAT)


def test_refusals_tell_little(tmp_path: Path) -> None:
    """A refused client gets a status, a coarse word, a rounded wait and an appeal id, and nothing of the policy."""
    with made(tmp_path, LONG) as one:
        ask(one, Server(b"{}"), SMALL)
        refused = ask(one, Server(b"{}"), SMALL)
        precise = one.decisions()[1]
    assert (refused.status, refused.headers[b"retry-after"]) == (429, b"5")
    error = said(refused.body)["error"]
    assert set(error) == {"type", "code", "message", "appeal_id", "retry_after_s"}
    assert error["appeal_id"] == precise["appeal_id"]
    assert precise["refused_by"] == "account:account-hour"


def test_a_websocket_is_closed(tmp_path: Path) -> None:
    """What the gate cannot judge does not pass it."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with made(tmp_path) as one:
        app = GateMiddleware(Server(), gate=one.gate, callers=one.callers, clock=one.clock)
        asyncio.run(app({"type": "websocket", "path": "/v1/realtime"}, receive, send))
    assert sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize("end", ["complete", "failed"])
def test_no_decision_is_lost_when_the_server_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Before a server says that it has shut down, every decision is in the journal."""
    (tmp_path / "policy.toml").write_text(PLAIN, "utf-8")
    monkeypatch.setenv("STILLWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STILLWATCH_POLICY", str(tmp_path / "policy.toml"))
    server, seen = Server(USED), []

    async def live(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": f"lifespan.shutdown.{end}"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (live if scope["type"] == "lifespan" else server)(scope, receive, send)

    async def heard(message: Any) -> None:
        seen.append((message["type"], len(list(Journal(tmp_path / "home" / "journal").entries()))))

    gated = GateMiddleware(app)
    for _ in range(20):
        call(gated, CHAT, b"{}")
    asyncio.run(gated({"type": "lifespan"}, None, heard))  # type: ignore[arg-type]
    assert seen == [(f"lifespan.shutdown.{end}", 20)]


@pytest.mark.parametrize("allowed", [None, "*", "127.0.0.1"])
def test_a_server_that_reads_forwarded_addresses_itself_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, allowed: str | None
) -> None:
    """Or a client that names a trusted proxy's address would be taken for the proxy."""
    monkeypatch.setenv("STILLWATCH_TRUSTED_PROXIES", "127.0.0.1/32")
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    monkeypatch.delenv("STILLWATCH_POLICY", raising=False)
    if allowed is not None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", allowed)
    with pytest.raises(SettingsError, match="FORWARDED_ALLOW_IPS"):
        GateMiddleware(Server())
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    with pytest.raises(SettingsError, match="no policy"):
        GateMiddleware(Server())


def test_without_a_policy_the_middleware_does_not_start() -> None:
    """A server whose gate is not set up does not run without one."""
    with pytest.raises(SettingsError, match="STILLWATCH_POLICY"):
        GateMiddleware(Server())


# --- LiteLLM's hook -------------------------------------------------------------------------------------------


class Refusal(Exception):
    """What the hook raises here."""


def hooked(one: Made) -> Calls:
    return Calls(one.gate, one.callers, one.clock, Refusal)


def who(user: str = "ann", **more: Any) -> Any:
    return SimpleNamespace(user_id=user, team_id=None, org_id=None, api_key="hash", metadata={}, **more)


def data(call_id: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "litellm_call_id": call_id,
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 6000,
    } | more


def ended(calls: Calls, passed: dict[str, Any], total_tokens: int | None) -> Any:
    """LiteLLM's success event of a call that passed."""
    kwargs = {
        "litellm_call_id": passed["litellm_call_id"], "litellm_params": {"metadata": passed["metadata"]},
        "standard_logging_object": {} if total_tokens is None else {"total_tokens": total_tokens},
    }  # fmt: skip
    return calls.succeeded(kwargs, None)


async def refused(calls: Calls, asked: dict[str, Any]) -> bool:
    """Whether a call is refused, and when to come back is said."""
    try:
        await calls.before(who(), asked, "acompletion")
    except Refusal as error:
        assert error.args[0] == 429 and error.args[2]["retry-after"]
        return True
    return False


@pytest.mark.parametrize(
    ("more", "how", "n"),
    [
        ({}, 10, 3), ({"stream": True}, 10, 3), ({}, 9_000, 1), ({}, None, 1), ({}, "failed", 3),
        ({"stream": True}, "failed", 1), ({}, "lost", 1), ({"metadata": "a text"}, 10, 3), ({"metadata": None}, 10, 3),
    ],
)  # fmt: skip
def test_the_hook_settles_each_call(tmp_path: Path, more: Any, how: Any, n: int) -> None:
    """Success settles by the stated tokens, failure for good gives back; a broken stream and silence stay spent."""

    async def run(one: Made) -> int:
        calls, passed = hooked(one), 0
        for number in range(3):
            asked = data(str(number), **more)
            if await refused(calls, asked):
                continue
            passed += 1
            if how == "failed":
                await calls.failed(asked, ValueError())
            elif how != "lost":
                await ended(calls, asked, how)
        return passed

    with made(tmp_path, LONG) as one:
        assert asyncio.run(run(one)) == n


def test_a_client_that_gives_two_calls_one_id_gains_nothing(tmp_path: Path) -> None:
    """Each call is settled by its own tokens, whatever a client names its calls or writes into its metadata."""

    async def run(one: Made) -> None:
        calls = hooked(one)
        small, large = data("same", max_tokens=100), data("same", max_tokens=6_000)
        for one_of_them in (small, large):
            assert not await refused(calls, one_of_them)
        await ended(calls, small, 10)
        await ended(calls, large, 6_000)
        assert await refused(calls, data(max_tokens=4_500))
        # Another's decision, named by a client that is then refused, is not given back.
        forged = data(max_tokens=9_000, metadata=dict(small["metadata"]), litellm_metadata=dict(large["metadata"]))
        assert await refused(calls, forged)
        await calls.failed(forged, ValueError())
        assert await refused(calls, data(max_tokens=4_500))

    with made(tmp_path, LONG) as one:
        asyncio.run(run(one))


@pytest.mark.parametrize(
    ("told", "ip"),
    [
        ({"metadata": {"requester_ip_address": "198.51.100.7"}}, "198.51.100.7"),
        ({"metadata": {"requester_ip_address": "1.1.1.1"}, "litellm_metadata": {"requester_ip_address": STRANGER}},
         STRANGER),
        ({"metadata": {"requester_ip_address": "1.1.1.1, 198.51.100.7"}}, "198.51.100.7"),
        ({"metadata": {"requester_ip_address": "1.1.1.1,198.51.100.7, 10.0.0.9"}}, "198.51.100.7"),
        ({"metadata": {"requester_ip_address": ""}}, None), ({"metadata": {"requester_ip_address": 7}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_hook_takes_the_address_from_litellm(tmp_path: Path, told: Any, ip: str | None) -> None:
    """What a client writes into its own metadata, or into the forwarded header, is not its address."""
    text = PLAIN + '[[networks.rules]]\nname = "open"\ncidrs = ["198.51.100.7/32", "203.0.113.9/32"]\naction = "deny"\n'
    with made(tmp_path, text) as one:
        try:
            asyncio.run(hooked(one).before(who(), data(**told), "acompletion"))
            passed = True
        except Refusal:
            passed = False
    assert passed is (ip is None)


def test_the_hook_marks_and_strips(tmp_path: Path) -> None:
    """Marks of clients are gone, also under extra_body; the gate's own ticket is put there for vLLM."""
    theirs = data(extra_body={"vllm_xargs": {MARK: "theirs"}}, vllm_xargs={MARK: "theirs"}, odd=object())
    with made(tmp_path) as one:
        passed = asyncio.run(hooked(one).before(who("shared-1"), theirs, "acompletion"))
    assert passed["extra_body"] == {"vllm_xargs": {MARK: TICKET}} and passed["vllm_xargs"] == {}
    assert "include_reasoning" not in passed


def test_the_hook_knows_accounts_as_the_importer_does(tmp_path: Path) -> None:
    """User, team, organisation, key hash; what LiteLLM writes for nobody is nobody."""
    with made(tmp_path) as one:
        for user in ("ann", "default_user_id", None):
            asyncio.run(hooked(one).before(who(user), data(max_tokens=5), "completion"))  # type: ignore[arg-type]
        assert [body["account_id"] for body in one.decisions()] == ["ann", "hash", "hash"]
