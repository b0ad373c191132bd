"""replies: reasoning in answers of model servers, whole or event by event: chat, completions, Messages, Responses.

Reasoning stands in fields and blocks of its own, or in a block such as `<think>` that a text opens with. Those are
filtered; texts of answers, calls of tools, usage and all else stay. Log-probabilities and token ids of an answer are
left out, since they spell the reasoning. An answer is a dictionary, or an object of LiteLLM's with such attributes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Mapping
from typing import Any

from stillwatch.policy.showing import Shows
from stillwatch.reasoning.filters import OPEN, TAGS, filtered
from stillwatch.reasoning.streamed import Held, Streamed, shown

FIELDS = ("reasoning_content", "reasoning")
"""Fields of a message whose text is all reasoning."""

DOUBLES = ("reasoning_details", "thinking_blocks", "provider_specific_fields")
"""What repeats it in another form; left out."""

RAW = "output_messages"
"""What vLLM adds to a response that was asked for with `enable_response_messages`: all that the model said, raw."""

SPELLING = ("logprobs", "token_ids")
"""What spells a text token by token."""

_BLOCKS = {"thinking": "thinking", "reasoning_text": "text", "summary_text": "text"}
_TEXTS = frozenset({"text", "output_text"})
_OTHERS = ("content", "tool_calls", "function_call", "role", *FIELDS, *DOUBLES)
_TAG = re.compile(rf"<(/?)(?:{'|'.join(TAGS)})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)


def begins_inside(body: Mapping[str, Any]) -> bool:
    """Whether a request opens a block that it does not close, so that its reply begins inside the reasoning."""
    messages, prompt = body.get("messages") or body.get("input"), body.get("prompt")
    texts = prompt if isinstance(prompt, list) else [prompt]
    if isinstance(messages, list) and messages and _get(messages[-1], "role") == "assistant":
        content = _get(messages[-1], "content")
        blocks = content if isinstance(content, list) else [content]
        texts = [*texts, *(_get(one, "text") if isinstance(one, dict) else one for one in blocks)]
    tags = ([found[1] for found in _TAG.finditer(text)] for text in texts if isinstance(text, str))
    return any(one[-1:] == [""] for one in tags)


def _get(node: Any, key: str) -> Any:
    return node.get(key) if isinstance(node, Mapping) else getattr(node, key, None)


def _list(node: Any, key: str) -> list[Any]:
    found = _get(node, key)
    return found if isinstance(found, list) else []


def _kind(node: Any) -> str:
    kind = _get(node, "type")
    return str(getattr(kind, "value", kind) or "")


def _was_cut(choice: Any) -> bool:
    """Whether a limit or a stop text ended a reply, which a client may set so that a block is never closed."""
    return bool(_get(choice, "finish_reason") in ("length", "abort") or isinstance(_get(choice, "stop_reason"), str))


def _was_message_cut(answer: Any) -> bool:
    """The same of an answer of the Messages interface, which always states a reason, or of Responses."""
    return _get(answer, "stop_reason") in ("max_tokens", "stop_sequence") or _get(answer, "status") == "incomplete"


def hide_no_reasoning(path: str, body: dict[str, Any]) -> None:
    """Take out of a request what would bring its reasoning past the filter: behind the prompt, or from a store.

    A text that repeats its prompt does not open with its block; a stored response is read later, by a GET.
    """
    for holder in (body, body.get("extra_body")):
        if isinstance(holder, dict):
            holder.pop("echo", None)
            if path.endswith("/responses"):
                holder.pop("background", None)
                holder.pop("store", None)
    if path.endswith("/responses"):
        body["store"] = False


class Replies:
    """The answer to one call: whole by `whole`, or a stream by `event` and, behind its last, `end`.

    Args:
        shows: what is done. opens: the request opened the block that the reply begins in.
    """

    def __init__(self, shows: Shows, *, opens: bool = False) -> None:
        self._how, self._opens = shows.how, opens or shows.opens
        self._held: dict[tuple[Hashable, str], Held] = {}
        self._texts: dict[Hashable, Streamed] = {}
        self._parsed: set[Hashable] = set()
        """Choices whose reasoning has a field of its own, so that their text does not begin inside it."""
        self._first: dict[str, Hashable] = {}
        """The first text or reasoning of an answer in blocks or parts: a text that is not the first begins outside."""
        self._last: Any = None
        self.is_changed = False
        self.n_in = self.n_out = 0
        """Characters of text, reasoning and answer, that came and that left."""

    def _put(self, node: Any, key: str, value: Any) -> None:
        self.is_changed = True
        if isinstance(node, dict):
            node[key] = value
        else:
            setattr(node, key, value)

    def _drop(self, node: Any, *keys: str) -> None:
        for key in keys:
            if _get(node, key) is not None:
                if isinstance(node, dict):
                    del node[key]
                    self.is_changed = True
                else:
                    self._put(node, key, None)

    def _told(self, node: Any, key: str, before: str, after: str) -> None:
        self.n_in, self.n_out = self.n_in + len(before), self.n_out + len(after)
        if before != after:
            self._put(node, key, after)

    def whole(self, answer: Any) -> None:
        """Filter a whole answer where it stands."""
        for choice in _list(answer, "choices"):
            was_cut = _was_cut(choice)
            self._message(_get(choice, "message"), was_cut=was_cut)
            self._text(choice, "text", opens=self._opens, was_cut=was_cut)
            self._drop(choice, *SPELLING)
        was_cut = _was_message_cut(answer)
        self._blocks(_list(answer, "content"), opens=self._opens, was_cut=was_cut)
        self._blocks(_list(answer, "output"), opens=self._opens, was_cut=was_cut)
        self._drop(answer, RAW)
        for key in ("response", "message"):
            inner = _get(answer, key)
            if inner is not None and not isinstance(inner, str):
                self.whole(inner)

    def _message(self, message: Any, *, was_cut: bool) -> None:
        if message is None or isinstance(message, str):
            return
        has_own = False
        for name in FIELDS:
            text = _get(message, name)
            if isinstance(text, str) and text:
                has_own = True
                self._told(message, name, text, shown(text, self._how))
            elif text and self._how != "keep":
                self._drop(message, name)
        self._drop(message, *DOUBLES)
        opens = self._opens and not has_own
        self._text(message, "content", opens=opens, was_cut=was_cut)
        self._blocks(_list(message, "content"), opens=opens, was_cut=was_cut)

    def _text(self, node: Any, key: str, *, opens: bool, was_cut: bool = False) -> None:
        text = _get(node, key)
        if isinstance(text, str) and text:
            one = Streamed(self._how, opens=opens)
            in_pieces = opens or (was_cut and OPEN.match(text))
            after = one.feed(text) + one.end(was_cut=was_cut) if in_pieces else filtered(text, self._how)
            self._told(node, key, text, after)

    def _blocks(self, blocks: list[Any], *, opens: bool = False, was_cut: bool = False) -> bool:
        """Filter blocks; whether a text behind them would still begin inside the reasoning."""
        for block in blocks:
            kind = _kind(block)
            if kind in _BLOCKS:
                text, opens = _get(block, _BLOCKS[kind]), False
                if isinstance(text, str):
                    self._told(block, _BLOCKS[kind], text, shown(text, self._how))
                elif text and self._how != "keep":
                    self._put(block, _BLOCKS[kind], [])
            elif kind in _TEXTS:
                self._text(block, "text", opens=opens, was_cut=was_cut)
                self._drop(block, *SPELLING)
                opens = False
            elif kind in ("reasoning", "message"):
                opens = self._blocks(_list(block, "content"), opens=opens and kind == "message", was_cut=was_cut)
                self._blocks(_list(block, "summary"))
        return opens

    def _begins(self, kind: str, index: Hashable) -> bool:
        """Whether a text of a stream of blocks or parts is the first, and begins inside the reasoning."""
        return self._opens and self._first.setdefault(kind, index) == index

    def event(self, event: Any) -> list[Any]:
        """Filter one event of a stream where it stands: what leaves instead of it, itself last."""
        kind = _kind(event)
        if isinstance(_get(event, "choices"), list):
            self._last = event
            return [*(extra for one in _list(event, "choices") for extra in self._choice(event, one)), event]
        if kind.startswith("content_block_"):
            return [*self._block(kind, event), event]
        if kind.startswith("response."):
            return [*self._part(kind, event), event]
        self.whole(event)
        return [event]

    def end(self) -> list[Any]:
        """The stream is over: events with what still waited."""
        out: list[Any] = []
        for (index, name), held in self._held.items():
            out += self._extra(self._last, index, name, held.end())
        for index, text in self._texts.items():
            out += self._extra(self._last, index, "content", text.end(was_cut=True))
        self._held.clear()
        self._texts.clear()
        return out

    def _choice(self, event: Any, choice: Any) -> list[Any]:
        """One choice of an event: its reasoning waits for the answer to begin, its answer leaves."""
        index, finish = _get(choice, "index") or 0, _get(choice, "finish_reason")
        self._drop(choice, *SPELLING)
        delta, key = _get(choice, "delta"), "content"
        if delta is None:
            delta, key = choice, "text"
        for name in FIELDS:
            text = _get(delta, name)
            if isinstance(text, str) and text:
                self._parsed.add(index)
                self._told(delta, name, text, self._waits(index, name).feed(text))
            elif text and self._how != "keep":
                self._drop(delta, name)
        self._drop(delta, *DOUBLES)
        self._message(_get(choice, "message"), was_cut=_was_cut(choice))
        self._blocks(_list(delta, "content"))
        said = _get(delta, key)
        out: list[Any] = []
        if said or finish or _get(delta, "tool_calls") or _get(delta, "function_call"):
            for name in FIELDS:
                held = self._held.pop((index, name), None)
                out += self._extra(event, index, name, held.end() if held is not None else "")
        if isinstance(said, str) and said:
            self._told(delta, key, said, self._stream(index, opens=index not in self._parsed).feed(said))
        if finish and (rest := self._rest(index, was_cut=_was_cut(choice))):
            self._put(delta, key, (_get(delta, key) or "") + rest)
        return out

    def _rest(self, index: Hashable, *, was_cut: bool = False) -> str:
        text = self._texts.pop(index, None)
        rest = text.end(was_cut=was_cut) if text is not None else ""
        self.n_out += len(rest)
        return rest

    def _waits(self, index: Hashable, name: str) -> Held:
        return self._held.setdefault((index, name), Held(self._how))

    def _stream(self, index: Hashable, *, opens: bool = False) -> Streamed:
        return self._texts.setdefault(index, Streamed(self._how, opens=opens and self._opens))

    def _streamed(self, kind: str, index: Hashable) -> Streamed:
        return self._stream(index, opens=self._begins(kind, index))

    def _extra(self, event: Any, index: Hashable, name: str, text: str) -> list[Any]:
        """An event like another, whose one choice says this text and nothing else."""
        if not text or event is None:
            return []
        self.n_out += len(text)
        one = copy.deepcopy(event)
        of_index = [choice for choice in _list(one, "choices") if (_get(choice, "index") or 0) == index]
        of_index = of_index or _list(one, "choices")[:1]
        if not of_index:
            return [] if not isinstance(one, dict) else [{**one, "choices": [_said(index, name, text)]}]
        self._put(one, "choices", of_index[:1])
        self._put(of_index[0], "index", index)
        self._drop(one, "usage")
        delta = _get(of_index[0], "delta")
        if delta is None:
            self._put(of_index[0], "text" if name == "content" else name, text)
        else:
            self._drop(delta, *_OTHERS)
            self._put(delta, name, text)
        self._put(of_index[0], "finish_reason", None)
        return [one]

    def _block(self, kind: str, event: Any) -> list[Any]:
        """An event of the Messages interface."""
        index = ("block", _get(event, "index"))
        node = _get(event, "content_block") if kind.endswith("start") else _get(event, "delta")
        if "thinking" in _kind(node):
            self._first.setdefault("block", "reasoning")
        for name in ("thinking", "text"):
            text = _get(node, name)
            if isinstance(text, str) and text:
                told = self._waits(index, name) if name == "thinking" else self._streamed("block", index)
                self._told(node, name, text, told.feed(text))
        if not kind.endswith("stop"):
            return []
        held = self._held.pop((index, "thinking"), None)
        rests = {"thinking": held.end() if held is not None else "", "text": self._rest(index)}
        self.n_out += len(rests["thinking"])
        return [
            {
                "type": "content_block_delta", "index": _get(event, "index"),
                "delta": {"type": f"{name}_delta", name: text},
            }
            for name, text in rests.items() if text
        ]  # fmt: skip

    def _part(self, kind: str, event: Any) -> list[Any]:
        """An event of the Responses interface; its reasoning is shown once it is done."""
        index = ("part", _get(event, "item_id"), _get(event, "content_index"))
        text = _get(event, "delta")
        self._drop(event, *SPELLING)
        item = _get(event, "item")
        if "reasoning" in kind or _kind(item) == "reasoning":
            self._first.setdefault("part", "reasoning")
        if "reasoning" in kind and isinstance(text, str):
            self._told(event, "delta", text, "")
        elif kind == "response.output_text.delta" and isinstance(text, str):
            self._told(event, "delta", text, self._streamed("part", index).feed(text))
        rest = ""
        if kind.endswith("_text.done") and isinstance(text := _get(event, "text"), str):
            if "reasoning" in kind:
                self._put(event, "text", shown(text, self._how))
            else:
                n_in, n_out = self.n_in, self.n_out
                self._text(event, "text", opens=self._begins("part", index))
                self.n_in, self.n_out = n_in, n_out
            rest = _get(event, "text") if "reasoning" in kind else self._rest(index)
        if (part := _get(event, "part")) is not None:
            self._blocks([part], opens=kind.endswith(".done") and _kind(part) in _TEXTS and self._begins("part", index))
        if item is not None:
            first = self._first.get("part")
            opens = first is None or (isinstance(first, tuple) and _get(item, "id") in (None, first[1]))
            self._blocks([item], opens=self._opens and opens, was_cut=_was_message_cut(item))
        self.whole({"response": _get(event, "response")})
        if not rest or not isinstance(event, dict):
            return []
        known = {name: value for name, value in event.items() if name != "text"}
        return [{**known, "type": kind.removesuffix("done") + "delta", "delta": rest}]


def _said(index: Hashable, name: str, text: str) -> dict[str, Any]:
    return {"index": index, "delta": {name: text}, "finish_reason": None}
