"""Requests that cannot be read: refused with 400 and counted, in every face that runs in the server's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stillwatch.gate.litellm_hook import Calls
from stillwatch.gate.middleware import GateMiddleware
from tests.gate.making import Made, made
from tests.receive.asgi import call

CHAT = "/v1/chat/completions"


class Said(Exception):
    """A refusal of the hook."""

    def __init__(self, status: int, error: dict[str, object], headers: dict[str, str]) -> None:
        super().__init__(status, error, headers)
        self.status, self.error = status, error


def hooked(one: Made, data: dict[str, Any], **who: Any) -> Any:
    known = {"user_id": "ann", "team_id": None, "org_id": None, "api_key": None, "metadata": {}} | who
    calls = Calls(one.gate, one.callers, one.clock, Said)
    return asyncio.run(calls.before(SimpleNamespace(**known), data, "acompletion"))


def deep(n: int) -> Any:
    made_of: Any = 1
    for _ in range(n):
        made_of = [made_of]
    return made_of


UNREADABLE: list[Callable[[], dict[str, Any]]] = [
    lambda: {"messages": [{"role": "user", "content": "a\ud800b"}]},
    lambda: {"prompt": "\udfff"},
    lambda: {"messages": [{"\ud800": "a"}]},
    lambda: {"messages": deep(5_000)},
]


@pytest.mark.parametrize("data", UNREADABLE)
def test_the_hook_refuses_what_it_cannot_read(tmp_path: Path, data: Callable[[], dict[str, Any]]) -> None:
    """LiteLLM answers 400, nothing is decided, and it is counted."""
    with made(tmp_path) as one:
        with pytest.raises(Said) as refused:
            hooked(one, {"model": "m", **data()})
        assert (refused.value.status, refused.value.error["code"]) == (400, "bad_request")
        assert one.gate.n_unread == 1
        assert hooked(one, {"model": "m", "messages": []})["max_tokens"] == 500
        assert len(one.decisions()) == 1 and one.gate.n_unread == 1


@pytest.mark.parametrize(
    "who",
    [{"user_id": "ann\ud800"}, {"org_id": "\ud800"}, {"metadata": {"stillwatch_level": "\ud800"}},
     {"metadata": {"stillwatch_payment": "\udfff"}}, {"metadata": {"stillwatch_payment": 7}}],
)  # fmt: skip
def test_names_that_are_no_text_are_somebody_all_the_same(tmp_path: Path, who: dict[str, Any]) -> None:
    """What LiteLLM's own tables hold of an account never ends a call without an answer, and the journal holds it."""
    with made(tmp_path) as one:
        assert hooked(one, {"model": "m\ud800", "messages": []}, **who)["max_tokens"] == 500
        assert len(one.decisions()) == 1


@pytest.mark.parametrize(
    "body", [rb'{"messages": [{"content": "\ud800 and more"}]}', rb'{"a": "\udfff and more"}', b'{"a": "\xed\xa0\x80"}']
)
def test_the_middleware_refuses_what_it_cannot_read(tmp_path: Path, body: bytes) -> None:
    """The server behind it is not asked."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("asked")

    with made(tmp_path) as one:
        app = GateMiddleware(server, gate=one.gate, callers=one.callers, clock=one.clock)
        assert call(app, CHAT, body, {"x-stillwatch-account": "ann"}).status == 400
        assert one.gate.n_unread == 1
