"""What is shown of reasoning in answers that pass the middleware: JSON, streams of events, hostile ones."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.gate.events import Events
from stillwatch.gate.middleware import GateMiddleware
from stillwatch.gate.replies import Replies, begins_inside, hide_no_reasoning
from stillwatch.gate.showing import LARGEST_ANSWER_BYTES
from stillwatch.gate.streaming import Shown, show_stream
from stillwatch.policy.showing import Shows
from stillwatch.reasoning.filters import Filter, filtered
from stillwatch.reasoning.streamed import shown
from tests.gate.asking import ask
from tests.gate.making import PLAIN, Made, made
from tests.needs import needs_module

THOUGHT = "Let us begin here now. We look at the first\nof the two cases here. Then 3 + 4 = 7.\n\nSo that is all of it."
ANSWER = "It is 7.50 [12], see (Lee, 2019):\n```python\nx =  1  # <think>\n```\n\u00e9\U0001f600 $a_1$ `</think>`"
TOOLS = [
    {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": "<think>x</think>"}'}}
]
FILTERS: list[Filter] = ["merge", "summarise", "withhold"]


def reasoning(how: str) -> str:
    return f'\n[reasoning]\nlevels = {{ none = "{how}" }}\nopened_by_prompt = ["inside-*"]\n'


def replies(how: Filter = "withhold", *, opens: bool = False) -> Replies:
    return Replies(Shows(how, "level:none", opens, False, "deny"))


def events(*given: Any, end: str = "\n\n") -> bytes:
    said = [one if isinstance(one, str) else json.dumps(one) for one in given]
    return "".join(f"data: {one}{end}" for one in said).encode()


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def joined(stream: bytes, index: int = 0) -> dict[str, Any]:
    """What a client puts together of one choice of a stream."""
    texts: dict[str, Any] = {}
    for event in stream.decode().split("\n\n"):
        data = event.removeprefix("data: ")
        if not data.startswith("{"):
            continue
        for choice in json.loads(data).get("choices", []):
            if choice["index"] == index:
                for name, text in choice["delta"].items():
                    texts[name] = texts.get(name, "") + text if isinstance(text, str) else text
    return texts


def cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(min(at, len(whole)) for at in cuts), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(ends)]


def through(stream: bytes, cuts: list[int], how: Filter = "withhold", *, opens: bool = False) -> bytes:
    one = Events(replies(how, opens=opens), passes=False)
    return b"".join([*map(one.feed, cut(stream, cuts)), one.end()])


STREAM = events(
    chunk(role="assistant", content=""), chunk(reasoning_content=THOUGHT[:30]), chunk(1, content="<thi"),
    chunk(reasoning_content=THOUGHT[30:]), chunk(1, content=f"nk>{THOUGHT}</th"), chunk(content=ANSWER[:9]),
    chunk(1, content=f"ink>{ANSWER[:20]}"), chunk(content=ANSWER[9:]), chunk(1, content=ANSWER[20:]),
    chunk(1, tool_calls=TOOLS), chunk(0, "stop"), chunk(1, "tool_calls"),
    {"id": "c", "choices": [], "usage": {"total_tokens": 9}}, "[DONE]",
)  # fmt: skip


@given(st.lists(st.integers(0, len(STREAM)), max_size=30), st.sampled_from(FILTERS))
def test_answers_stream_byte_by_byte_however_the_bytes_are_cut(cuts: list[int], how: Filter) -> None:
    """Two choices, one whose reasoning has its own field, one with a block: answers and calls of tools stay."""
    got = through(STREAM, cuts, how)
    first, second = joined(got), joined(got, 1)
    assert first["content"] == ANSWER and first.get("reasoning_content", "") == shown(THOUGHT, how)
    assert second["content"] == filtered(f"<think>{THOUGHT}</think>{ANSWER}", how)
    assert second["content"].endswith(ANSWER) and second["tool_calls"] == TOOLS
    assert got.endswith(b'"usage": {"total_tokens": 9}}\n\ndata: [DONE]\n\n')


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.integers(0, 500), max_size=9), st.sampled_from(FILTERS))
def test_any_answer_leaves_as_it_came(thought: str, answer: str, cuts: list[int], how: Filter) -> None:
    """Whatever a field of reasoning holds, the text beside it is its own."""
    stream = events(chunk(reasoning=thought), chunk(content="A" + answer), chunk(0, "stop"), "[DONE]", end="\r\n\r\n")
    assert joined(through(stream, cuts, how).replace(b"\r\n", b"\n"))["content"] == "A" + answer
    whole = {"choices": [{"index": 0, "message": {"reasoning_content": thought, "content": "A" + answer}}]}
    replies(how).whole(whole)
    assert whole["choices"][0]["message"] == {"reasoning_content": shown(thought, how), "content": "A" + answer}


def test_a_stream_stays_one() -> None:
    """What an event says of the answer leaves with that event; a summary leaves when the answer begins."""
    one = Events(replies("summarise"), passes=False)
    assert joined(one.feed(events(chunk(reasoning_content=THOUGHT)))) == {"reasoning_content": ""}
    assert joined(one.feed(events(chunk(content="It")))) == {
        "reasoning_content": shown(THOUGHT, "summarise"), "content": "It"
    }  # fmt: skip
    untouched = events(chunk(content=" is  7.50"))
    assert one.feed(untouched) == untouched and one.feed(b": ping\n\n") == b": ping\n\n"
    one = Events(replies("withhold"), passes=False)
    said = ["<think>so", "</think>The", " answer", "\n<thi", "s>"]
    left = [joined(one.feed(events(chunk(content=text))))["content"] for text in said]
    assert left == ["", "The", " answer", "\n", "<this>"]


def test_a_whole_answer_of_each_interface() -> None:
    """Fields and blocks of Chat, completions, Messages and Responses; usage, tools and texts stay."""
    answer: dict[str, Any] = {
        "choices": [
            {"message": {"content": ANSWER, "reasoning": THOUGHT, "tool_calls": TOOLS}, "logprobs": {"content": [1]}},
            {"text": f"<think>{THOUGHT}</think>{ANSWER}", "token_ids": [1]},
        ],
        "content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}],
        "output": [
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": THOUGHT}],
             "summary": [{"type": "summary_text", "text": THOUGHT}]},
            {"type": "message", "content": [{"type": "output_text", "text": ANSWER}]},
            {"type": "function_call", "arguments": "<think>x</think>"},
        ],
        "usage": {"total_tokens": 9},
    }  # fmt: skip
    replies().whole(answer)
    assert json.dumps(answer).count(json.dumps(ANSWER)) == 4 and "Let us begin" not in json.dumps(answer)
    assert answer["choices"][0]["message"]["tool_calls"] == TOOLS and answer["usage"] == {"total_tokens": 9}
    assert answer["output"][2]["arguments"] == "<think>x</think>"
    assert "logprobs" not in answer["choices"][0] and "token_ids" not in answer["choices"][1]


@pytest.mark.parametrize("how", FILTERS)
def test_events_of_messages_and_responses(how: Filter) -> None:
    """Their reasoning is filtered like that of Chat; blocks keep their numbers, and texts are whole."""
    given: list[dict[str, Any]] = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": part}}
          for part in (THOUGHT[:9], THOUGHT[9:])),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": ANSWER}},
        {"type": "content_block_stop", "index": 1},
        {"type": "response.reasoning_text.delta", "item_id": "r", "content_index": 0, "delta": THOUGHT},
        {"type": "response.reasoning_text.done", "item_id": "r", "content_index": 0, "text": THOUGHT},
        {"type": "response.output_text.delta", "item_id": "m", "content_index": 0, "delta": ANSWER},
        {"type": "response.output_text.done", "item_id": "m", "content_index": 0, "text": ANSWER},
        {"type": "response.output_item.done", "item": {"type": "reasoning", "content": [
            {"type": "reasoning_text", "text": THOUGHT}]}},
        {"type": "response.completed", "response": {"output": [
            {"type": "message", "content": [{"type": "output_text", "text": ANSWER}]}]}},
    ]  # fmt: skip
    stream = b"".join(f"event: {one['type']}\n".encode() + events(one) for one in given)
    got = [json.loads(line[6:]) for line in through(stream, [], how).decode().split("\n") if line.startswith("data:")]
    thinking = "".join(one["delta"]["thinking"] for one in got if "thinking" in str(one.get("delta")))
    assert thinking == shown(THOUGHT, how)
    assert "".join(one["delta"] for one in got if one["type"] == "response.reasoning_text.delta") == thinking
    assert [one["text"] for one in got if one["type"] == "response.reasoning_text.done"] == [thinking]
    assert [one["delta"]["text"] for one in got if "text_delta" in str(one)] == [ANSWER]
    assert json.dumps(got).count(json.dumps(ANSWER)) == 4


def test_a_prompt_that_opens_the_block_is_seen() -> None:
    """A client that begins the reply itself, in a prompt or an assistant's message, gets no more than others."""
    assert begins_inside({"prompt": "Q\n<think>\n"}) and begins_inside({"prompt": ["a", "<think>a</think><think>"]})
    said = {"role": "assistant", "content": [{"type": "text", "text": "<THINK> so"}]}
    assert begins_inside({"messages": [{"role": "user", "content": "q"}, said]})
    assert not begins_inside({"messages": [{"role": "user", "content": "what is <think>?"}]})
    assert not begins_inside({"prompt": "<think>a</think>b"}) and not begins_inside({"messages": "x", "prompt": [1]})
    stream = events(chunk(content="secret</thi"), chunk(content=f"nk>{ANSWER}"), chunk(0, "stop"))
    assert joined(through(stream, [], opens=True))["content"] == ANSWER
    parsed = events(chunk(reasoning="secret"), chunk(content=ANSWER), chunk(0, "stop"))
    assert joined(through(parsed, [], opens=True))["content"] == ANSWER


@pytest.mark.parametrize("how", FILTERS)
def test_hostile_streams(how: Filter) -> None:
    """Blocks without an end, nested tags, bytes that are no text, ten megabytes, shapes nobody knows: no leak."""
    cut_off = events(chunk(content="<think>\nsecret"), chunk(content=" and <think> more"))
    got = joined(through(cut_off, [], "withhold")).get("content", "")
    assert got == ""
    nested = events(chunk(content="<think>a<think>b</think>c</think>d"), chunk(0, "stop"))
    assert joined(through(nested, [], how))["content"] == filtered("<think>a<think>b</think>c</think>d", how)
    long = events(*[chunk(reasoning_content="We think on. " * 8_000)] * 100, chunk(content=ANSWER), chunk(0, "stop"))
    assert joined(through(long, list(range(0, len(long), 65_536)), how))["content"] == ANSWER
    one = Events(replies(how), passes=False)
    assert one.feed(b'data: {"choices": [{"delta": {"reasoning": "\xff"}}]}\n\n') == b"" and one.n_unread == 1
    shapes: list[Any] = [
        {"choices": [1, None, {"delta": 3}]},
        {"choices": [{"delta": {"content": {}}}]},
        {"choices": {}},
    ]
    for strange in shapes:
        one.feed(events(strange))
    assert one.feed(events(chunk(content="x"))) == events(chunk(content="x"))


def test_a_limit_set_by_the_client_shows_no_reasoning() -> None:
    """A block that a limit or a failure cut off is reasoning, though its beginning reads like talk of a tag."""
    text = "<think> so we have secret"
    assert joined(through(events(chunk(content=text), chunk(0, "length")), []))["content"] == ""
    assert joined(through(events(chunk(content=text)), []))["content"] == ""
    assert joined(through(events(chunk(content=text), chunk(0, "stop")), []))["content"] == text
    for finish, left in (("length", ""), ("stop", text)):
        whole: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": finish}]}
        replies().whole(whole)
        assert whole["choices"][0]["message"]["content"] == left


SAYS_SECRET = json.dumps(chunk(reasoning="secret")).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + SAYS_SECRET, b"\xef\xbb\xbfdata: " + SAYS_SECRET + b"\n\n", SAYS_SECRET + b"\n\n",
        b": hi\r\rdata: " + SAYS_SECRET + b"\r\r", b"event: x\rdata: " + SAYS_SECRET + b"\n\n",
        b"id: 1\ndata: {}\rdata: " + SAYS_SECRET + b"\n\n",
    ],
)  # fmt: skip
def test_lines_that_only_a_client_would_read_do_not_pass(stream: bytes, size: int) -> None:
    """No newline at the end, a byte order mark, lone carriage returns, JSON that is no event: nothing leaks."""
    assert b"secret" not in through(stream, list(range(0, len(stream), size)))
    assert through(b": ping\n\nid: 1\nretry: 5\ndata\n\n", [3, 9]) == b": ping\n\nid: 1\nretry: 5\ndata\n\n"


@pytest.mark.parametrize("how", FILTERS)
@pytest.mark.parametrize("end", ["</think>" + ANSWER, ""])
def test_blocks_and_parts_begin_inside_what_the_request_opened(how: Filter, end: str) -> None:
    """The first text of Messages and Responses, whole and streamed, is reasoning up to its closing tag, or all."""
    text, later = THOUGHT + end, {"type": "text", "text": "B"}
    left = ("" if how == "withhold" else shown(THOUGHT, how) + end[:8]) + end[8:]
    whole: dict[str, Any] = {"content": [{"type": "text", "text": text}, later]}
    replies(how, opens=True).whole(whole)
    assert [one["text"] for one in whole["content"]] == [left, "B"]
    said = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": text}]}
    place = {"item_id": "m", "content_index": 0}
    given: list[dict[str, Any]] = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}} for one in text),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "B"}},
        *({"type": "response.output_text.delta", **place, "delta": one} for one in text),
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.content_part.done", **place, "part": {"type": "output_text", "text": text}},
        {"type": "response.output_item.done", "item": said},
        {"type": "response.completed", "response": {"output": [said], "output_messages": [{"message": text}]}},
    ]  # fmt: skip
    stream = b"".join(f"event: {one['type']}\n".encode() + events(one) for one in given)
    out = through(stream, [], how, opens=True).decode().split("\n")
    got = [json.loads(line[6:]) for line in out if line.startswith("data:")]
    blocks = [(one["index"], one["delta"]["text"]) for one in got if one["type"] == "content_block_delta"]
    assert "".join(piece for index, piece in blocks if index == 0) == left and blocks[-1] == (1, "B")
    assert "".join(one["delta"] for one in got if one["type"] == "response.output_text.delta") == left
    assert [one["text"] for one in got if one["type"] == "response.output_text.done"] == [left]
    assert got[-3]["part"]["text"] == left and got[-2]["item"]["content"][0]["text"] == left
    assert got[-1]["response"] == {"output": [got[-2]["item"]]}


def test_a_block_of_its_own_means_that_no_text_begins_inside() -> None:
    """A parser split the reply already: the texts behind are answers."""
    whole: dict[str, Any] = {"content": [{"type": "thinking", "thinking": "s"}, {"type": "text", "text": ANSWER}]}
    replies(opens=True).whole(whole)
    assert [one.get("text") for one in whole["content"]] == [None, ANSWER]
    one = replies(opens=True)
    one.event({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}})
    one.event({"type": "response.output_item.added", "item": {"type": "reasoning", "id": "r"}})
    block = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "A"}}
    part = {"type": "response.output_text.delta", "item_id": "m", "content_index": 0, "delta": "A"}
    assert one.event(block)[-1]["delta"]["text"] == "A" and one.event(part)[-1]["delta"] == "A"


@pytest.mark.parametrize("how", ["summarise", "withhold"])
def test_shapes_of_reasoning_that_are_no_text(how: Filter) -> None:
    """Left out, or emptied: lists, objects, a whole message inside a stream."""
    odd: list[Any] = [
        {"choices": [{"message": {"reasoning": {"a": "secret"}, "content": "x"}}]},
        {"choices": [{"delta": {"reasoning_content": ["secret"], "content": "x"}}]},
        {"choices": [{"message": {"content": [{"type": "thinking", "thinking": [{"text": "secret"}]}]}}]},
        {"choices": [{"index": 0, "message": {"content": "<think>7 secret</think>x"}}]},
    ]
    for one in odd:
        assert b"secret" not in through(events(one), [], how)
        replies(how).whole(one)
        assert "delta" in str(one) or "secret" not in str(one)


def test_a_stop_text_set_by_the_client_shows_no_reasoning() -> None:
    """Like a limit: the block is not closed, since the client had the reply ended there."""
    text = "<think> so we have secret"
    whole: dict[str, Any] = {"choices": [{"text": text, "finish_reason": "stop", "stop_reason": "</think>"}]}
    message: dict[str, Any] = {"content": [{"type": "text", "text": text}], "stop_reason": "stop_sequence"}
    response: dict[str, Any] = {"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}
    replies().whole(response)
    assert "secret" in str(response)
    for one in (whole, message, response | {"status": "incomplete"}):
        replies().whole(one)
        assert "secret" not in str(one)


def test_a_request_loses_what_would_pass_the_filter_by(tmp_path: Path) -> None:
    """`echo`, and what a server stores for a later GET; not in shadow mode, nor where nothing is filtered."""
    body: dict[str, Any] = {"echo": True, "store": True, "background": True, "extra_body": {"echo": 1, "store": 1}}
    hide_no_reasoning("/v1/responses", body)
    assert body == {"store": False, "extra_body": {}}
    asked: list[Any] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        asked.append(json.loads((await receive())["body"]))
        await Says(WHOLE)(scope, receive, send)

    shadow = PLAIN.replace('"enforce"', '"shadow"')
    for nth, text in enumerate((PLAIN + reasoning("withhold"), shadow + reasoning("withhold"), PLAIN)):
        passed(tmp_path / str(nth), server, text, body=b'{"model": "m", "echo": true}')
    assert ["echo" in one for one in asked] == [False, True, True]


def test_a_stream_of_texts_ends_in_texts() -> None:
    """What LiteLLM hands over as texts leaves as texts, the event without a blank line behind it too."""

    async def given() -> AsyncIterator[str]:
        yield "data: " + SAYS_SECRET.decode()[:9]
        yield SAYS_SECRET.decode()[9:]

    async def read() -> list[Any]:
        told = Shown("d", "a", False, Shows("withhold", "level:none", False, False, "deny"))
        return [one async for one in show_stream(told, given(), {})]

    got = asyncio.run(read())
    assert all(isinstance(one, str) for one in got) and joined("".join(got).encode()) == {"reasoning": ""}


def test_an_event_that_is_too_large() -> None:
    """It is left out, or passes, as the policy says, and what follows it is read again."""
    stream = events(chunk(content="a")) + b"data: " + b"x" * 3000 + b"\n\n" + events(chunk(content="b"))
    for passes in (False, True):
        one = Events(replies(), passes=passes, most=1000)
        got = b"".join([*map(one.feed, cut(stream, list(range(0, 5000, 100)))), one.end()])
        assert (got == stream) is passes and one.n_unread == 1
        assert got.endswith(events(chunk(content="b")))


class Says:
    """A model server that answers with given bytes."""

    def __init__(self, *parts: bytes, kind: str = "application/json", status: int = 200, **headers: str) -> None:
        self.parts, self.status = parts, status
        self.asked: dict[bytes, bytes] = {}
        named = {"content-type": kind, "content-length": str(sum(map(len, parts))), **headers}
        self.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked = dict(scope["headers"])
        await receive()
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def passed(
    tmp_path: Path, server: Any, text: str, *, breaks: bool = False, body: bytes = b'{"model": "m"}'
) -> tuple[int, dict[bytes, bytes], list[bytes], list[dict[str, Any]]]:
    """One call through the middleware: status, headers, messages of the body, and what was journaled of reasoning."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    def run(one: Made) -> None:
        app = GateMiddleware(server, gate=one.gate, callers=one.callers, clock=one.clock)
        headers = [(b"accept-encoding", b"gzip"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers,
                 "client": ("127.0.0.1", 1)}  # fmt: skip
        with pytest.raises(ConnectionError) if breaks else nullcontext():
            asyncio.run(app(scope, receive, send))

    with made(tmp_path, text) as one:
        run(one)
        one.gate.ledger.close()
        rows = [entry.body for entry in one.journal.entries() if entry.kind == "reasoning"]
    return sent[0]["status"], dict(sent[0]["headers"]), [message.get("body", b"") for message in sent[1:]], rows


WHOLE = json.dumps({"choices": [{"message": {"reasoning_content": THOUGHT, "content": ANSWER}}]}).encode()


def test_a_json_answer_has_its_length_and_is_journaled(tmp_path: Path) -> None:
    """The body is written anew with its length; the journal holds counts and the rule, and no text."""
    server = Says(WHOLE[:50], WHOLE[50:], etag="x")
    status, headers, parts, (row,) = passed(tmp_path, server, PLAIN + reasoning("withhold"))
    body = b"".join(parts)
    assert (status, int(headers[b"content-length"]), b"etag" in headers) == (200, len(body), False)
    assert json.loads(body)["choices"][0]["message"] == {"reasoning_content": "", "content": ANSWER}
    assert b"accept-encoding" not in server.asked
    assert (row["reasoning"], row["rule"], row["face"], row["failure"]) == (
        "withhold",
        "level:none",
        "middleware",
        None,
    )
    assert (row["n_characters_in"], row["n_characters_out"]) == (len(THOUGHT + ANSWER), len(ANSWER))
    assert "begin" not in json.dumps(row) and row["account_id"] == "anonymous"


def test_shadow_mode_changes_nothing_and_says_what_it_would(tmp_path: Path) -> None:
    """The answer leaves byte by byte, length and all; the journal says what would have been left out."""
    text = PLAIN.replace('"enforce"', '"shadow"') + reasoning("withhold")
    _, headers, parts, (row,) = passed(tmp_path / "a", Says(WHOLE), text)
    assert b"".join(parts) == WHOLE and headers[b"content-length"] == str(len(WHOLE)).encode()
    assert row["shadow"] and row["n_characters_out"] == len(ANSWER)
    _, _, parts, (row,) = passed(tmp_path / "b", Says(STREAM, kind="text/event-stream"), text)
    assert b"".join(parts) == STREAM and row["n_characters_out"] < row["n_characters_in"]


def test_without_the_table_an_answer_is_not_looked_at(tmp_path: Path) -> None:
    """It leaves message by message, and nothing is journaled of it."""
    server = Says(WHOLE[:50], WHOLE[50:], etag="x")
    _, headers, parts, rows = passed(tmp_path, server, PLAIN)
    assert parts == [WHOLE[:50], WHOLE[50:], b""] and not rows and headers[b"etag"] == b"x"
    assert server.asked[b"accept-encoding"] == b"gzip"


UNREADABLE: list[Callable[[], Says]] = [
    lambda: Says(b"not json"), lambda: Says(gzip.compress(WHOLE, mtime=0), content_encoding="gzip"),
    lambda: Says(b"[1]"), lambda: Says(b'{"a": "\xff"}'), lambda: Says(*[b" " * (1 << 20)] * 17, WHOLE),
    lambda: Says(b"<think>secret</think>4", kind="text/plain"),
]  # fmt: skip


@pytest.mark.parametrize("server", UNREADABLE, ids=range(len(UNREADABLE)))
@pytest.mark.parametrize("mode", ["deny", "allow_limited", "allow"])
def test_what_cannot_be_read_is_a_failure(tmp_path: Path, server: Callable[[], Says], mode: str) -> None:
    """It passes as it came where the policy's on-failure mode is to allow, and else an error stands for it."""
    text = (PLAIN + reasoning("withhold")).replace('on_failure = "deny"', f'on_failure = "{mode}"')
    one = server()
    status, _, parts, (row,) = passed(tmp_path, one, text)
    assert row["failure"]
    if mode == "allow":
        assert status == 200 and b"".join(parts) == b"".join(one.parts)
    else:
        assert status == 503 and json.loads(b"".join(parts))["error"]["code"] == "unavailable"
    assert LARGEST_ANSWER_BYTES == 16 << 20


@pytest.mark.parametrize("server", [Says(b"no", kind="text/plain", status=500), Says(b"RIFF", kind="audio/wav")])
def test_errors_and_sounds_pass(tmp_path: Path, server: Says) -> None:
    """They hold no reasoning."""
    assert b"".join(passed(tmp_path, server, PLAIN + reasoning("withhold"))[2]) == server.parts[0]


def test_an_answer_that_breaks_off_shows_nothing_that_waited(tmp_path: Path) -> None:
    """A server that fails in the middle of reasoning: the client has what had left before, and it is journaled."""

    class Breaks(Says):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": self.parts[0], "more_body": True})
            raise ConnectionError("gone")

    server = Breaks(events(chunk(content="<think>secret")), kind="text/event-stream")
    _, _, parts, (row,) = passed(tmp_path, server, PLAIN + reasoning("summarise"), breaks=True)
    assert joined(b"".join(parts)) == {"content": ""} and b"secret" not in b"".join(parts)
    assert (row["reasoning"], row["n_characters_in"], row["n_characters_out"]) == ("summarise", 13, 0)
    assert row["failure"] == "broke off"


@pytest.mark.services
def test_a_real_server_streams_what_is_shown(tmp_path: Path) -> None:
    """Through uvicorn on loopback: a JSON answer and a stream, whose answer arrives before the server has ended it."""
    uvicorn: Any = needs_module("receive", "uvicorn")
    freed = threading.Event()

    async def server(scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        head = [(b"content-type", kind), *([] if body.get("stream") else [(b"content-length", b"%d" % len(WHOLE))])]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        if not body.get("stream"):
            await send({"type": "http.response.body", "body": WHOLE})
            return
        early = events(chunk(content="<think>secret</think>The"), chunk(content=" answer"))
        await send({"type": "http.response.body", "body": early, "more_body": True})
        await asyncio.to_thread(freed.wait, 30)
        await send({"type": "http.response.body", "body": events(chunk(0, "stop"), "[DONE]"), "more_body": False})

    with made(tmp_path, PLAIN + reasoning("withhold")) as one, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        app = GateMiddleware(server, gate=one.gate, callers=one.callers, clock=one.clock)
        served = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            at = listening.getsockname()
            whole = ask(f"http://127.0.0.1:{at[1]}/v1/chat/completions", {"model": "m"}, {})
            assert whole.status == 200
            assert whole.said["choices"][0]["message"] == {"reasoning_content": "", "content": ANSWER}
            with socket.create_connection(at, timeout=30) as asking:
                body = b'{"model": "m", "stream": true}'
                head = (
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                )
                asking.sendall(head % len(body) + body)
                got = b""
                while b" answer" not in got:
                    got += asking.recv(4096)
                assert b"[DONE]" not in got
                freed.set()
                while part := asking.recv(4096):
                    got += part
            assert b"secret" not in got and b'"The"' in got and b"[DONE]" in got
        finally:
            freed.set()
            served.should_exit = True
            thread.join(30)
