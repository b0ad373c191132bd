"""asked: what a call asks for, from its JSON body, and the body as the gate lets it pass.

A body that passes is always written anew, so that what was judged is what the model server reads: no doubled key, no
second spelling. Marks come from the gate alone: `stillwatch_mark` is taken out wherever a client put it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

MARK = "stillwatch_mark"
"""The name of a ticket in `vllm_xargs`, as watermark/vllm.py reads it."""

CHARACTERS_PER_TOKEN = 3
"""Bytes of a body counted as one token: fewer than text has, so that a reservation is seldom too small."""

RESERVED_OUTPUT = 4096
"""Tokens reserved for an answer whose length the caller does not limit."""

MOST_TOKENS = 100_000_000
LONGEST_MODEL = 256
"""A longer name is no model's, and is judged as an unknown one."""

_CAPABILITIES = (
    ("/chat/completions", "chat"), ("/messages", "chat"), ("/responses", "chat"), ("/completions", "completions"),
    ("/embeddings", "embeddings"),
)  # fmt: skip
_KINDS = frozenset(kind for _, kind in _CAPABILITIES)
_LIMITED = (*(end for end, _ in _CAPABILITIES), "/invocations")
"""Interfaces whose limits stand where they are looked for. `/invocations` takes any of vLLM's own bodies."""

_WITHOUT_TEXT = frozenset({"score", "rerank", "pooling", "classify", "moderations", "count_tokens", "render"})
_MOST = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs")
_MANY = ("n", "best_of")
_NUMBER = re.compile(r"\s*\+?\d[\d_]*(\.0*)?\s*", re.ASCII)
_LONGEST_NUMBER = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks for. `n_tokens` is what to reserve: the input and the most that may come out."""

    model: str | None = None
    capability: str = "chat"
    features: frozenset[str] = frozenset()
    n_tokens: int = 0
    max_output_tokens: int | None = None
    n_input_tokens: int = 0
    """Of `n_tokens`, those of the input."""
    n_answers: int = 0
    """Answers that the rest is for, each of which a cap may shorten."""


def read_body(body: bytes) -> dict[str, Any] | None:
    """A body as a JSON object; None where it is none."""
    try:
        read = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def named(path: str, n_tokens: int) -> Asked:
    """What a call without a body asks for: its path may name the kind of call; one that names none counts as chat."""
    wanted = asked(path, {}, 0)
    is_known = wanted.capability in _KINDS or wanted.features
    return Asked(capability=wanted.capability if is_known else "chat", features=wanted.features, n_tokens=n_tokens)


def is_limitable(path: str) -> bool:
    """Whether `allowed_body` can limit an answer: its interface is known, or gives no text."""
    return path.endswith(_LIMITED) or path.rpartition("/")[2] in _WITHOUT_TEXT


def asked(path: str, body: Mapping[str, Any], n_bytes: int) -> Asked:
    """What a call asks for, by its path and body."""
    capability = next((name for end, name in _CAPABILITIES if path.endswith(end)), path.rpartition("/")[2][:64])
    if body.get("tools") and capability == "chat":
        capability = "tools"
    limits = [body.get(name) for name in _MOST]
    most = max(map(_asked_count, limits))
    # Whether a server takes another spelling of a number is its own affair: then it is the larger of both.
    longest = most if most and any(_count(limit) == most for limit in limits) else max(most, RESERVED_OUTPUT)
    answers = max(1, *(_asked_count(body.get(name)) for name in _MANY))
    n_prompts, n_ids = _listed(body.get("input" if capability == "embeddings" else "prompt"))
    model = body.get("model")
    model = model if isinstance(model, str) else ""
    # Some servers ask every model of a list with commas.
    n_models = 1 + model.count(",")
    n_input = n_models * max(n_bytes // CHARACTERS_PER_TOKEN + 1, n_ids)
    n_answers = 0 if capability == "embeddings" else n_models * answers * n_prompts
    return Asked(
        model=model if 0 < len(model) <= LONGEST_MODEL else None,
        capability=capability,
        features=_features(path, body),
        n_tokens=min(MOST_TOKENS, n_input + longest * n_answers),
        max_output_tokens=most or None,
        n_input_tokens=n_input,
        n_answers=n_answers,
    )


def _count(value: object) -> int:
    """A positive whole number, or 0 for whatever else a client writes."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _asked_count(value: object) -> int:
    """A count as model servers read it, which take 8.0 and "8" for 8."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
        value = int(value.replace("_", "").partition(".")[0])
    return _count(value)


def _listed(prompt: object) -> tuple[int, int]:
    """How many prompts a list holds, each of which is answered, and how many tokens written as numbers."""
    if not isinstance(prompt, list) or not prompt:
        return 1, 0
    if isinstance(prompt[0], int):
        return 1, len(prompt)
    return len(prompt), sum(len(one) for one in prompt if isinstance(one, list))


def _features(path: str, body: Mapping[str, Any]) -> frozenset[str]:
    wanted = set()
    # 0 asks for the logprob of the token that was chosen.
    if any(body.get(name) is not None and body[name] is not False for name in _LOGPROBS) or (
        "include" in body and _names_logprobs(body["include"])
    ):
        wanted.add("logprobs")
    if body.get("include_reasoning") or _asks_for_thoughts(body):
        wanted.add("reasoning")
    if path.endswith("/batches"):
        wanted.add("batch")
    return frozenset(wanted)


def _names_logprobs(value: object) -> bool:
    try:
        return "logprobs" in str(value)
    except (RecursionError, ValueError):
        # Lists a thousand deep, numbers of thousands of digits: whoever writes those may mean anything.
        return True


def _asks_for_thoughts(body: Mapping[str, Any]) -> bool:
    effort, reasoning, thinking = body.get("reasoning_effort"), body.get("reasoning"), body.get("thinking")
    return (
        effort not in (None, "none")
        or bool(reasoning)
        or (isinstance(thinking, dict) and thinking.get("type") != "disabled")
    )


def allowed_body(
    path: str,
    body: dict[str, Any],
    *,
    features_off: frozenset[str],
    max_output_tokens: int | None,
    mark: str | None,
    is_vllm: bool = True,
) -> dict[str, Any]:
    """The body as it passes: without what is off, the answer no longer than allowed, with the gate's mark or none.

    The body given is changed. `is_vllm` says that the next to read it is vLLM itself, which takes words of its own.
    """
    strip_marks(body)
    if "logprobs" in features_off:
        for name in _LOGPROBS:
            body.pop(name, None)
        if isinstance(body.get("include"), list):
            body["include"] = [one for one in body["include"] if not _names_logprobs(one)]
        elif "include" in body:
            del body["include"]
    if "reasoning" in features_off:
        # What asks for no thoughts stays.
        for name in ("reasoning", "reasoning_effort", "thinking"):
            if _asks_for_thoughts({name: body.get(name)}):
                del body[name]
        body.pop("include_reasoning", None)
        if is_vllm:
            body["include_reasoning"] = False
    if max_output_tokens is not None and not path.endswith("/embeddings"):
        usual = "max_output_tokens" if path.endswith("/responses") else "max_tokens"
        for name in {usual, *(name for name in _MOST if name in body)}:
            body[name] = min(_asked_count(body.get(name)) or max_output_tokens, max_output_tokens)
    if mark is not None:
        holder = body if is_vllm else body.setdefault("extra_body", {})
        given = holder.get("vllm_xargs")
        holder["vllm_xargs"] = (given if isinstance(given, dict) else {}) | {MARK: mark}
    return body


def strip_marks(body: Any) -> int:
    """Take every `stillwatch_mark` out of a body, however deep, and say how many there were."""
    n, waiting, seen = 0, [body], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict | list) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            if MARK in one:
                del one[MARK]
                n += 1
            waiting += one.values()
        else:
            waiting += one
    return n


def usage_of(answer: Mapping[str, Any]) -> dict[str, int]:
    """The counts of tokens that an answer, or one event of a stream, states; empty where it states none."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        within = answer.get("response") or answer.get("message")
        usage = within.get("usage") if isinstance(within, dict) else None
    return {name: usage[name] for name in _COUNTS if _count(usage.get(name))} if isinstance(usage, dict) else {}


def streamed_usage(line: bytes) -> dict[str, int]:
    """The counts that one line of a stream of events states."""
    if not line.startswith(b"data:") or b'"usage"' not in line:
        return {}
    event = read_body(line[5:].strip())
    return {} if event is None else usage_of(event)


def used_tokens(usage: Mapping[str, int]) -> int | None:
    """Tokens of input and output together; None where nothing was stated."""
    parts = sum(n for name, n in usage.items() if name != "total_tokens")
    return max(parts, usage.get("total_tokens", 0)) if usage else None


_COUNTS = (
    "total_tokens", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens",
)  # fmt: skip
