"""A real LiteLLM proxy with our hook, and one with its generic guardrail: what passes and what is settled."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.gate import real
from tests.gate.asking import Answer, ask
from tests.receive.programs import wait_for

pytestmark = pytest.mark.services

_ACCOUNTS = count()


@dataclass
class Proxy:
    """A proxy under test, the model server behind it and the gate's journal."""

    address: str
    behind: real.Upstream
    journal: Path

    def chat(self, account: str, said: str, path: str = "/v1/chat/completions", **more: Any) -> Answer:
        """One call of an account."""
        words = {"input": said} if path.endswith("responses") else {"messages": [{"role": "user", "content": said}]}
        headers = {"authorization": "Bearer sk-customer", "x-account-id": account, **more.pop("headers", {})}
        return ask(self.address + path, {"model": "orion", **words, **more}, headers)

    def decisions(self, account: str, n: int) -> list[dict[str, Any]]:
        """What the journal holds of an account, once it is that many."""
        return real.journaled(self.journal, account, n)


def account() -> str:
    """An account nobody used before, whose budget is full."""
    return f"acc-{next(_ACCOUNTS)}"


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """LiteLLM with the hook in its own process."""
    folder = tmp_path_factory.mktemp("hooked")
    closed = '[[networks.rules]]\nname = "closed"\ncidrs = ["192.0.2.0/24"]\naction = "deny"\n'
    environ = real.gate_environ(folder, real.POLICY + closed)
    with real.upstream() as behind, real.litellm(folder, behind.address, environ) as address:
        yield Proxy(address, behind, folder / "home" / "journal")


def settled(proxy: Proxy) -> None:
    """Wait until LiteLLM told of everything that ended before: it tells in order."""
    name = account()
    assert proxy.chat(name, "used=10", max_tokens=9_000).status == 200
    wait_for(lambda: proxy.chat(name, "used=10", max_tokens=9_000).status == 200, what="the settlement of a call")


def test_the_hook_lets_pass_and_journals(hooked: Proxy) -> None:
    """A call that may be made is made, and LiteLLM's user is the account in the journal."""
    name = account()
    answer = hooked.chat(name, "used=12")
    assert (answer.status, answer.said["usage"]["total_tokens"]) == (200, 12)
    (body,) = hooked.decisions(name, 1)
    assert (body["action"], body["model"], body["policy_version"]) == ("allow", "orion", "real")
    asked = hooked.behind.asked[-1]
    assert asked["max_tokens"] == 9_000 and "stillwatch" not in json.dumps(asked)


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"metadata": {"endpoint": "/", "stillwatch_decision": "x"}},
                                  {"litellm_metadata": {"endpoint": "/", "stillwatch_decision": "x"}}])  # fmt: skip
def test_the_queue_that_no_hook_is_asked_about_is_closed(hooked: Proxy, more: dict[str, Any]) -> None:
    """LiteLLM would answer there whatever model and length a client asks for."""
    n_asked = len(hooked.behind.asked)
    answer = hooked.chat(account(), "used=10", path="/queue/chat/completions", priority=0, max_tokens=99_999, **more)
    assert (answer.status >= 400, len(hooked.behind.asked) - n_asked) == (True, 0)
    assert hooked.chat(account(), "used=10").status == 200


@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_client_writes_no_address_of_its_own(hooked: Proxy, path: str, place: str) -> None:
    """Nor who it is: LiteLLM's own word counts, wherever a client writes another."""
    name = account()
    forged = {"requester_ip_address": "192.0.2.9", "user_api_key_user_id": "victim"}
    assert hooked.chat(name, "used=12", path=path, **{place: forged}).status == 200
    (body,) = hooked.decisions(name, 1)
    assert body["rule"] == ""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_the_hook_refuses_half_a_character(hooked: Proxy, path: str) -> None:
    """A lone surrogate is the client's own fault, whoever notices it, and reaches no model server."""
    n_asked = len(hooked.behind.asked)
    answer = hooked.chat(account(), "a\ud800b used=1", path=path)
    assert 400 <= answer.status < 500 and len(hooked.behind.asked) == n_asked, answer.text


def test_the_hook_denies(hooked: Proxy) -> None:
    """A model that no level opens does not reach the model server; the client hears a coarse word and an appeal id."""
    name, n_asked = account(), len(hooked.behind.asked)
    answer = hooked.chat(name, "used=12", model="closed")
    (body,) = hooked.decisions(name, 1)
    assert answer.status == 403 and len(hooked.behind.asked) == n_asked
    assert body["appeal_id"] in answer.text and "not_available" in answer.text and "no level" not in answer.text


@pytest.mark.parametrize("models", ["orion,closed", "orion,orion,orion"])
def test_one_call_asks_for_one_model(hooked: Proxy, models: str) -> None:
    """LiteLLM asks every model of a list: what names several is refused, since it is judged and settled as one."""
    n_asked = len(hooked.behind.asked)
    answer = hooked.chat(account(), "used=5", model=models)
    assert answer.status in (400, 403) and len(hooked.behind.asked) == n_asked, answer.text


@pytest.mark.parametrize("name", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
def test_a_client_names_no_second_model(hooked: Proxy, name: str) -> None:
    """Where the model that was judged fails, LiteLLM does not go on to one of the client's choice."""
    n_asked = len(hooked.behind.asked)
    known: Any = ["closed"] if name == "fallbacks" else [{"orion": ["closed"]}]
    answer = hooked.chat(account(), f"fail=3 used=5 n={n_asked}", **{name: known})
    assert answer.status == 500 and len(hooked.behind.asked) - n_asked <= 3, answer.text


@pytest.mark.parametrize(
    "more",
    [
        {"extra_body": {"max_tokens": 99_999, "n": 50, "logprobs": True, "model": "gpt-9", "include_reasoning": True}},
        {"additional_drop_params": ["max_tokens"]}, {"extra_body": {"extra_body": {"max_tokens": 99_999}}},
        {"drop_params": True, "additional_drop_params": ["max_tokens", "max_completion_tokens"]},
    ],
)  # fmt: skip
def test_no_back_door_of_litellm_lifts_a_limit(hooked: Proxy, more: dict[str, Any]) -> None:
    """What reaches the model server is what was judged, whatever LiteLLM would add or leave out for a client."""
    name = account()
    assert hooked.chat(name, "used=5", **more).status == 200
    asked = hooked.behind.asked[-1]
    assert (asked["max_tokens"], asked["model"], asked.get("n", 1)) == (9_000, "gpt-4o", 1), asked
    assert not asked.get("logprobs") and "99999" not in json.dumps(asked)


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"path": "/v1/responses"}])
def test_the_hook_limits_and_settles(hooked: Proxy, more: dict[str, Any]) -> None:
    """What a call used stays spent, what it reserved beyond comes back, however it is answered."""
    name = account()
    most: dict[str, Any] = {"max_output_tokens" if "path" in more else "max_tokens": 6_000}
    assert hooked.chat(name, "used=10", **most, **more).status == 200
    wait_for(lambda: hooked.chat(name, "used=5000", **most, **more).status == 200, what="the settlement")
    settled(hooked)
    refused = hooked.chat(name, "used=10", **most, **more)
    assert refused.status == 429 and int(refused.headers["retry-after"]) >= 60 and "try_later" in refused.text


def test_an_attempt_that_failed_gives_nothing_back(hooked: Proxy) -> None:
    """LiteLLM tries again after a failure, and tells of it; the tokens of the attempt that succeeded are counted."""
    name = account()
    assert hooked.chat(name, "fail=1 used=6000", max_tokens=6_000).status == 200
    settled(hooked)
    assert hooked.chat(name, "used=10", max_tokens=4_500).status == 429


def test_a_call_that_failed_for_good_is_given_back(hooked: Proxy) -> None:
    """A client that got nothing owes nothing."""
    name = account()
    assert hooked.chat(name, "fail=99 used=1", max_tokens=9_000).status == 500
    wait_for(lambda: hooked.chat(name, "used=10", max_tokens=9_000).status == 200, what="the tokens coming back")


def test_one_call_id_for_two_calls_gains_nothing(hooked: Proxy) -> None:
    """A client names its calls as it likes; each is settled by its own tokens all the same."""
    name = account()
    one_id: dict[str, Any] = {"headers": {"x-litellm-call-id": "chosen by the client"}}
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(hooked.chat, name, f"used={n}", max_tokens=4_500, **one_id) for n in (10, 4_400)]
        assert [call.result().status for call in calls] == [200, 200]
    settled(hooked)
    assert hooked.chat(name, "used=10", max_tokens=6_000).status == 429
    assert hooked.chat(name, "used=10", max_tokens=5_000).status == 200


def test_a_stream_that_its_client_leaves_is_not_free(hooked: Proxy) -> None:
    """Whoever hangs up in the middle of a stream has what came so far counted, and at most what was reserved."""
    name = account()
    asked = {
        "model": "orion",
        "stream": True,
        "max_tokens": 9_000,
        "messages": [{"role": "user", "content": "stuck=1"}],
    }
    body = json.dumps(asked).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1", "host: x", "authorization: Bearer sk-customer", f"x-account-id: {name}",
        "content-type: application/json", f"content-length: {len(body)}", "", "",
    ]  # fmt: skip
    where = urlsplit(hooked.address)
    with closing(socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=60)) as client:
        client.sendall("\r\n".join(head).encode() + body)
        held = b""
        while b"word" not in held:
            held += client.recv(4096)
        assert hooked.chat(name, "used=10", max_tokens=9_000).status == 429
    settled(hooked)
    # A call of 9,998 tokens fits into the whole of the budget, and into no less.
    words = json.dumps({"messages": [{"role": "user", "content": "used=10"}]}, separators=(",", ":"))
    padded = "used=10" + " " * (3 * 997 - len(words))
    assert hooked.chat(name, padded, max_tokens=9_000).status == 429
    assert hooked.chat(account(), padded, max_tokens=9_000).status == 200


def test_many_at_once_get_no_more_than_there_is(hooked: Proxy) -> None:
    """Forty calls at once, of which the budget holds sixteen and a bit: no more pass, and nobody else is refused."""
    name = account()
    others = [account() for _ in range(10)]
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(hooked.chat, name, "used=620", max_tokens=600) for _ in range(40)]
        beside = [pool.submit(hooked.chat, other, "used=10", max_tokens=600) for other in others]
        passed = [call.result().status for call in calls].count(200)
        assert [call.result().status for call in beside] == [200] * len(others)
    assert 12 <= passed <= 16
    bodies = hooked.decisions(name, 40)
    assert sum(body["passes"] for body in bodies) == passed
    assert {body["refused_by"] for body in bodies} == {None, "account:account"}


def test_a_proxy_that_is_ended_has_written_every_decision(tmp_path: Path) -> None:
    """SIGTERM the moment a call was answered: its decision is in the journal."""
    environ = real.gate_environ(tmp_path)
    journal = tmp_path / "home" / "journal"
    with real.upstream() as behind, real.litellm(tmp_path, behind.address, environ) as address:
        proxy, name = Proxy(address, behind, journal), account()
        assert [proxy.chat(name, "used=10").status for _ in range(5)] == [200] * 5
    assert len(real.journaled(journal, name, 5)) == 5


GUARD = real.POLICY.replace("burst = 10_000", "burst = 9_000")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """LiteLLM with its generic guardrail, which asks our service, which wants a token."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(real.TOKEN, "utf-8")
    with (
        real.upstream() as behind,
        real.serving(folder, "--token-file", str(folder / "token"), text=GUARD) as gate,
        real.litellm(folder, behind.address, {}, guarded_by=gate) as address,
    ):
        yield Proxy(address, behind, folder / "home" / "journal")


def test_the_guardrail_lets_pass_and_denies(guarded: Proxy) -> None:
    """LiteLLM's user is the account; a refusal does not reach the model server and names the appeal."""
    name = account()
    assert guarded.chat(name, "used=12").status == 200
    n_asked = len(guarded.behind.asked)
    refused = guarded.chat(name, "used=12", model="closed")
    first, second = guarded.decisions(name, 2)
    assert 400 <= refused.status < 500 and len(guarded.behind.asked) == n_asked
    assert (first["action"], second["action"]) == ("allow", "deny")
    assert second["appeal_id"] in refused.text and "no level" not in refused.text


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_the_guardrail_limits_and_settles_nothing(guarded: Proxy, more: dict[str, Any]) -> None:
    """LiteLLM states no usage to a guardrail: every call costs all it reserved, and its answer is not judged again."""
    name = account()
    statuses = [guarded.chat(name, f"used={n + 10}", **more).status for n in range(3)]
    assert statuses[:2] == [200, 200] and 400 <= statuses[2] < 500
    bodies = guarded.decisions(name, 3)
    assert [body["passes"] for body in bodies] == [True, True, False]


@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_the_guardrail_knows_a_client_by_no_word_of_its_own(guarded: Proxy, path: str, place: str) -> None:
    """What a client writes under LiteLLM's own names makes it nobody else."""
    name = account()
    forged = {
        "user_api_key_user_id": "victim",
        "user_api_key_hash": "victim",
        "headers": {"x-forwarded-for": "1.1.1.1"},
    }
    assert guarded.chat(name, "used=1", path=path, **{place: forged}).status == 200
    (body,) = guarded.decisions(name, 1)
    assert body["passes"]


def test_without_its_gate_the_guardrail_is_closed(tmp_path: Path) -> None:
    """A proxy whose gate is gone makes no call."""
    with (
        real.upstream() as behind,
        real.litellm(tmp_path, behind.address, {}, guarded_by="http://127.0.0.1:1") as address,
    ):
        proxy = Proxy(address, behind, tmp_path / "journal")
        assert proxy.chat(account(), "used=10").status >= 400
        assert not behind.asked
