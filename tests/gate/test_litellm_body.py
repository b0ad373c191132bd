"""What LiteLLM would do for a client beside the call that is judged: taken out, or refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stillwatch.gate.callers import Refused
from stillwatch.gate.litellm_body import JUDGED, only_what_is_judged
from stillwatch.gate.litellm_hook import Calls
from tests.gate.making import PLAIN, TICKET, made


def left(**data: Any) -> dict[str, Any]:
    only_what_is_judged(data)
    return data


def test_several_models_are_refused() -> None:
    """Each would be asked; one was judged."""
    for models in ("a,b", "a,a", ",", "a,"):
        with pytest.raises(Refused):
            left(model=models)
    assert left(model="a") == {"model": "a"} and left(model=None) == {"model": None} and left() == {}


def test_second_models_are_taken_out() -> None:
    """Of the client's own; what LiteLLM puts in of a key's settings stays, where the client wrote nothing there."""
    fields = {"fallbacks": ["b"], "context_window_fallbacks": [{"a": ["b"]}], "content_policy_fallbacks": "x"}
    assert left(model="a", **fields, additional_drop_params=["max_tokens"]) == {"model": "a"}
    ours = {"router_settings_override": {"fallbacks": [{"a": ["b"]}]}}
    for arrived in (None, {}, {"body": None}, {"body": {"model": "a"}}, "text"):
        assert left(**ours, proxy_server_request=arrived)["router_settings_override"]
    theirs = {"body": {"router_settings_override": {"num_retries": 1}}}
    assert "router_settings_override" not in left(**ours, proxy_server_request=theirs)


@pytest.mark.parametrize("extra", ["text", ["max_tokens"], 7, True])
def test_an_extra_body_that_is_none_is_taken_out(extra: Any) -> None:
    """Whatever LiteLLM would make of it."""
    assert left(model="a", extra_body=extra) == {"model": "a"}


def test_an_extra_body_keeps_what_is_not_judged() -> None:
    """Options of a model server that the gate does not look at are the client's to choose."""
    extra = dict.fromkeys(JUDGED, 1) | {"guided_json": {"type": "object"}, "vllm_xargs": {"a": 1}}
    kept = left(extra_body=extra)["extra_body"]
    assert kept == {"guided_json": {"type": "object"}, "vllm_xargs": {"a": 1}} and len(extra) > 20


class Said(Exception):
    """A refusal of the hook."""


def test_the_gates_own_mark_travels_in_the_extra_body(tmp_path: Path) -> None:
    """What was cleaned is where the ticket goes."""
    who = SimpleNamespace(user_id="shared-1", team_id=None, org_id=None, api_key=None, metadata={})
    with made(tmp_path) as one:
        calls = Calls(one.gate, one.callers, one.clock, Said)
        data = {"model": "m", "messages": [], "extra_body": {"max_tokens": 9, "vllm_xargs": {"stillwatch_mark": "x"}}}
        passed = asyncio.run(calls.before(who, data, "acompletion"))
    assert passed["extra_body"] == {"vllm_xargs": {"stillwatch_mark": TICKET}}


@pytest.mark.parametrize(
    ("call_type", "level", "passes"),
    [
        ("agenerate_content", "none", False),
        ("agenerate_content_stream", "none", False),
        ("agenerate_content", "email", True),
        ("pass_through_endpoint", "none", False),
        ("acreate_interaction", "none", False),
        ("tomorrows_interface", "none", False),
        ("acompletion", "none", True),
        ("anthropic_messages", "none", True),
        ("arerank", "none", True),
        ("aimage_generation", "none", True),
    ],
)
def test_an_interface_that_cannot_be_limited_is_for_whom_nothing_is(
    tmp_path: Path, call_type: str, level: str, passes: bool
) -> None:
    """Where the hook does not know how length and features are said, a level that limits them may not call."""
    who = SimpleNamespace(user_id="ann", team_id=None, org_id=None, api_key=None, metadata={"stillwatch_level": level})
    with made(tmp_path) as one:
        calls = Calls(one.gate, one.callers, one.clock, Said)
        asked = {"model": "m", "contents": [], "generationConfig": {"maxOutputTokens": 9_999}}
        try:
            asyncio.run(calls.before(who, asked, call_type))
            passed = True
        except Said as error:
            assert error.args[0] == 403 and error.args[1]["identity_level"] == "email"
            passed = False
        (body,) = one.decisions()
    assert passed == passes == body["passes"] and (body["rule"] == "interface") == (not passes)


@pytest.mark.parametrize(("batch", "passes"), [(', "batch"', True), ("", False)])
@pytest.mark.parametrize("call_type", ["acreate_batch", "create_batch"])
def test_a_batch_is_for_levels_that_have_it(tmp_path: Path, call_type: str, batch: str, passes: bool) -> None:
    """And for those that nothing limits, since its calls lie in a file."""
    text = PLAIN.replace('"logprobs", "batch"', '"logprobs"' + batch)
    who = SimpleNamespace(
        user_id="ann", team_id=None, org_id=None, api_key=None, metadata={"stillwatch_level": "email"}
    )
    with made(tmp_path, text) as one:
        calls = Calls(one.gate, one.callers, one.clock, Said)
        try:
            asyncio.run(calls.before(who, {"model": "m", "input_file_id": "f"}, call_type))
            passed = True
        except Said as error:
            assert error.args[0] == 403
            passed = False
        limited = SimpleNamespace(**{**vars(who), "metadata": {}})
        with pytest.raises(Said):
            asyncio.run(calls.before(limited, {"model": "m"}, call_type))
    assert passed == passes


@pytest.mark.parametrize(
    ("endpoint", "mode", "passes"),
    [("http://x/queue/chat/completions", "enforce", False), ("http://x/a/queue/chat%2fcompletions", "enforce", False),
     ("http://x?y/queue/chat/completions", "enforce", False), ("http://x/queue/chat/completions/?a", "enforce", False),
     ("http://x/queue/chat/completions", "shadow", True), ("http://x/v1/chat/completions", "enforce", True),
     ("http://[", "enforce", True)],
)  # fmt: skip
def test_what_no_hook_was_asked_about_reaches_no_model(tmp_path: Path, endpoint: str, mode: str, passes: bool) -> None:
    """Wherever a client writes another address; a try out refuses nothing."""
    with made(tmp_path, PLAIN.replace('"enforce"', f'"{mode}"')) as one:
        calls = Calls(one.gate, one.callers, one.clock, Said)
        given = {"metadata": {"endpoint": endpoint}, "litellm_metadata": {"endpoint": "/", "stillwatch_decision": "x"}}
        try:
            calls.unjudged(given)
            passed = True
        except Said as error:
            assert error.args[0] == 403
            passed = False
    assert (passed, one.gate.n_unread) == (passes, 0 if passes else 1)


class TimedOut(Exception):
    """As LiteLLM's own."""

    status_code = 408


@pytest.mark.parametrize(("error", "comes_back"), [(TimedOut(), False), (ValueError(), True)])
def test_a_wait_that_was_too_short_is_paid(tmp_path: Path, error: Exception, comes_back: bool) -> None:
    """A client that sets LiteLLM's timeout has the model server work for nothing no more often than it may."""
    who = SimpleNamespace(user_id="ann", team_id=None, org_id=None, api_key=None, metadata={})
    with made(tmp_path) as one:
        calls = Calls(one.gate, one.callers, one.clock, Said)

        async def tries() -> list[bool]:
            passed = []
            for _ in range(3):
                data: dict[str, Any] = {"model": "m", "messages": [], "prompt": "x" * 12_000, "max_tokens": 500}
                try:
                    await calls.failed(await calls.before(who, data, "acompletion"), error)
                    passed.append(True)
                except Said:
                    passed.append(False)
            return passed

        assert asyncio.run(tries()) == [True, True, comes_back]
