"""A real LiteLLM proxy with our hook, whose policy withholds or summarises reasoning: what its clients get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillwatch.journal import Journal
from tests.gate import real
from tests.gate.asking import Answer, ask
from tests.receive.programs import wait_for

pytestmark = pytest.mark.services

SECRET = "secret thought about the matter"
REPLY = f"\n<think>{SECRET}</think>The word is  7.5 [12]. "
POLICY = (
    real.POLICY
    + """
[reasoning]
levels = { none = "withhold" }
[[reasoning.accounts]]
account_id = "partner"
show = "keep"
"""
)


def _completed(used: int) -> dict[str, Any]:
    made = COMPLETED(used)
    made["choices"][0]["message"] |= {"content": REPLY, "reasoning_content": SECRET}
    return made


def _chunk(text: str | None, used: int | None = None) -> dict[str, Any]:
    return CHUNK(text if text is None else REPLY, used)


COMPLETED, CHUNK = real.completed, real.chunk


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """LiteLLM with the hook, before a model that thinks aloud: its address, and the gate's journal."""
    folder = tmp_path_factory.mktemp("hooked")
    environ = real.gate_environ(folder, POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real, "completed", _completed)
        patch.setattr(real, "chunk", _chunk)
        with real.upstream() as behind, real.litellm(folder, behind.address, environ) as address:
            yield address, folder / "home" / "journal"


def chat(address: str, account: str, **more: Any) -> Answer:
    headers = {"authorization": "Bearer sk-customer", "x-account-id": account}
    asked = {"model": "orion", "max_tokens": 50, "messages": [{"role": "user", "content": "used=10"}]}
    return ask(address + "/v1/chat/completions", asked | more, headers)


def journaled(journal: Path, account: str) -> dict[str, Any]:
    """What the journal holds of the reasoning of an account's one reply."""

    def read() -> list[dict[str, Any]]:
        entries = Journal(journal).entries() if journal.exists() else iter(())
        return [one.body for one in entries if one.kind == "reasoning" and one.body["account_id"] == account]

    (body,) = wait_for(read, what=f"the journal of {account}")
    return dict(body)


def streamed(answer: Answer) -> str:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_whole_answer_is_shown_without_its_reasoning(proxy: tuple[str, Path]) -> None:
    """Field and block are gone, the answer is there byte by byte, and the journal counts without text."""
    address, journal = proxy
    answer = chat(address, "ann")
    assert answer.status == 200 and SECRET not in answer.text
    assert answer.said["choices"][0]["message"]["content"] == "The word is  7.5 [12]. "
    body = journaled(journal, "ann")
    assert (body["face"], body["reasoning"], body["failure"]) == ("litellm", "withhold", None)
    assert body["n_characters_in"] > body["n_characters_out"] and SECRET not in json.dumps(body)


def test_a_stream_is_shown_without_its_reasoning(proxy: tuple[str, Path]) -> None:
    """Every block of a streamed reply is gone, and its answer is there byte by byte."""
    address, journal = proxy
    answer = chat(address, "bob", stream=True)
    assert answer.status == 200 and SECRET not in answer.text
    assert streamed(answer) == "The word is  7.5 [12]. \n" * 2 + "The word is  7.5 [12]. "
    assert journaled(journal, "bob")["n_events_unread"] == 0


def test_an_account_that_keeps_its_reasoning_gets_all_of_it(proxy: tuple[str, Path]) -> None:
    """What the policy names is not looked at."""
    address, _ = proxy
    answer = chat(address, "partner", stream=True)
    assert streamed(answer).count(SECRET) == 3
