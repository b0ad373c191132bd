"""litellm_hook: the gate inside LiteLLM's proxy, as a callback: `callbacks: ["stillwatch.gate.litellm_hook.instance"]`.

The instance is made on first use, from the environment (`stillwatch.gate.opening`). A call is judged before it is
made, and its decision travels in LiteLLM's own metadata: a client chooses the call id, and may give one to several
calls. What was reserved is settled by the success event; a stream that a client leaves is settled by what LiteLLM
counted of it. A call that failed for good and streamed nothing is given back; an attempt that failed is not, since
another may follow.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import msgspec

from stillwatch.gate.admission import Admission, Gate
from stillwatch.gate.answers import MESSAGES, UNREAD, error_of, headers_of, status_of
from stillwatch.gate.asked import allowed_body, asked, is_limitable, used_tokens
from stillwatch.gate.callers import MOST_CHARACTERS, Callers, Refused
from stillwatch.gate.litellm_body import only_what_is_judged
from stillwatch.gate.replies import begins_inside, hide_no_reasoning
from stillwatch.gate.streaming import Shown, show_stream, show_whole
from stillwatch.policy.ruling import Request

DECISION = "stillwatch_decision"
"""Under which the id of a decision travels through LiteLLM."""

SHOWN = "stillwatch_reasoning"
"""Under which travels what is done with the reasoning of its reply, where that is anything."""

_PATHS = {
    "responses": "/responses", "aresponses": "/responses", "embeddings": "/embeddings", "embedding": "/embeddings",
    "aembedding": "/embeddings", "text_completion": "/completions", "atext_completion": "/completions",
    "completion": "/chat/completions", "acompletion": "/chat/completions", "anthropic_messages": "/messages",
    "create_batch": "/batches", "acreate_batch": "/batches",
}  # fmt: skip
_TEXTS = ("messages", "prompt", "input", "tools", "functions", "system")
_KNOWN = ("user_id", "team_id", "org_id", "api_key")
"""Who an account is, in the order in which the importer of LiteLLM's logs looks."""

NOBODY = frozenset({"", "default_user_id", "litellm-proxy-budget", "None"})
"""What LiteLLM writes for nobody."""

_WITHOUT_TEXT = frozenset(
    "moderation amoderation rerank arerank image_generation aimage_generation image_edit aimage_edit image_variation "
    "aimage_variation transcription atranscription speech aspeech ocr aocr".split()
)
"""Interfaces whose answers are no text that a level limits; what is neither here nor known by its path cannot be."""

_UNASKED = "/queue/chat/completions"
"""Where LiteLLM takes chats in and shows them to no hook before the one that is about to reach a model."""

_WAITED_TOO_SHORT = (408, 504)


class Calls:
    """What the hook does, without LiteLLM's class around it.

    Args:
        gate, callers, clock: what judges, who asks, the time with a zone. refuse: makes the exception of a refusal
            from its status, its details and its headers.
    """

    def __init__(
        self, gate: Gate, callers: Callers, clock: Callable[[], datetime],
        refuse: Callable[[int, dict[str, object], dict[str, str]], Exception],
    ) -> None:  # fmt: skip
        self._gate, self._callers, self._clock, self._refuse = gate, callers, clock, refuse

    async def before(self, who: Any, data: dict[str, Any], call_type: str) -> dict[str, Any]:
        """The call as it may be made. Raises what `refuse` makes where it may not, or cannot be read."""
        path = _PATHS.get(str(call_type), f"/{call_type}")
        metadata = _metadata(data)
        for theirs in _both(data):
            theirs.pop(DECISION, None)
            theirs.pop(SHOWN, None)
        try:
            only_what_is_judged(data)
            request = self._request(who, data, path)
            if not is_limitable(path) and call_type not in _WITHOUT_TEXT:
                request = replace(request, is_limitable=False)
        except (Refused, TypeError, ValueError, OverflowError, RecursionError):
            # Such as half a character, or lists a thousand deep.
            self._gate.n_unread += 1
            raise self._refuse(400, dict(UNREAD), {}) from None
        admission = await self._gate.admit_soon(request)
        if not admission.passes:
            raise self._refusal(admission)
        metadata[DECISION] = admission.decision_id
        if admission.shows is not None:
            given = Shown(admission.decision_id, request.account_id, begins_inside(data), admission.shows)
            metadata[SHOWN] = given.written()
            if not admission.shows.shadow:
                hide_no_reasoning(path, data)
        return allowed_body(
            path, data, features_off=admission.features_off, max_output_tokens=admission.max_output_tokens,
            mark=admission.mark, is_vllm=False,
        )  # fmt: skip

    def unjudged(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse a call, about to reach a model, that LiteLLM took in where it asks no hook. Raises as `before`."""
        came = (str(metadata.get("endpoint") or "") for metadata in _both(kwargs))
        # Anywhere in it, since a client's Host header may hold what ends a path.
        if any(_UNASKED in unquote(url) for url in came) and self._gate.rules.policy.mode != "shadow":
            self._gate.n_unread += 1
            error: dict[str, object] = {"type": "stillwatch", "code": "not_available"}
            raise self._refuse(403, error | {"message": MESSAGES["not_available"]}, {})

    async def succeeded(self, kwargs: Mapping[str, Any], answer: Any) -> None:
        """Settle a call that was answered, by the tokens that are stated; where none are, all stays spent."""
        params = kwargs.get("litellm_params")
        decision_id = _decision(params if isinstance(params, Mapping) else {})
        used = self._used(kwargs, answer)
        if decision_id is not None and used is not None:
            await self._gate.settle_soon(decision_id, used)

    async def failed(self, data: Mapping[str, Any], error: Exception) -> None:
        """Give back what a call reserved that failed for good, unless its answer may have begun.

        A client chooses how long LiteLLM waits: where that was too short, the model server worked all the same.
        """
        decision_id, status = _decision(data), getattr(error, "status_code", None)
        if decision_id is not None and not data.get("stream") and status not in _WAITED_TOO_SHORT:
            await self._gate.settle_soon(decision_id, 0)

    async def whole(self, data: Mapping[str, Any], answer: Any) -> Any:
        """A whole answer as the policy shows it. Raises what `refuse` makes where it cannot be read, and has to be."""
        given = _shown(data)
        if given is None:
            return answer
        shown, seen = show_whole(given, answer)
        self._gate.showed(given.decision_id, given.account_id, given.shows, seen, self._clock())
        if shown is None:
            raise self._refuse(503, {"type": "stillwatch", "code": "unavailable"}, {})
        return shown

    async def streamed(self, data: Mapping[str, Any], answer: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """A streamed answer as the policy shows it, event by event."""
        given = _shown(data)
        if given is None:
            async for item in answer:
                yield item
            return
        seen: dict[str, object] = {}
        try:
            async for item in show_stream(given, answer, seen):
                yield item
        finally:
            self._gate.showed(given.decision_id, given.account_id, given.shows, seen, self._clock())

    def _refusal(self, admission: Admission) -> Exception:
        headers = {name.decode(): value.decode() for name, value in headers_of(admission)}
        return self._refuse(status_of(admission), error_of(admission), headers)

    def _request(self, who: Any, data: dict[str, Any], path: str) -> Request:
        texts = {name: data[name] for name in _TEXTS if data.get(name) is not None}
        n_bytes = len(msgspec.json.encode(texts, enc_hook=str))
        # Told to believe the header of forwarded addresses, LiteLLM hands over all of it.
        *forwarded, peer = str(_metadata(data).get("requester_ip_address") or "").split(",")
        hops = ((b"x-forwarded-for", ",".join(forwarded).encode("latin-1", "replace")),)
        request = self._callers.request(peer.strip() or None, hops, asked(path, data, n_bytes), self._clock())
        known = [str(getattr(who, name, None) or "") for name in _KNOWN]
        account = next((text for text in known if text not in NOBODY), "anonymous")
        told = getattr(who, "metadata", None)
        told = told if isinstance(told, Mapping) else {}
        return replace(
            request, account_id=account[:MOST_CHARACTERS], org_id=getattr(who, "org_id", None),
            identity_level=str(told.get("stillwatch_level") or "none"),
            payment_fingerprint=told.get("stillwatch_payment"),
        )  # fmt: skip

    def _used(self, kwargs: Mapping[str, Any], answer: Any) -> int | None:
        payload = kwargs.get("standard_logging_object")
        usage = payload if isinstance(payload, Mapping) else {}
        if not usage.get("total_tokens"):
            stated = getattr(answer, "usage", None)
            usage = {
                name: getattr(stated, name, None) for name in ("total_tokens", "prompt_tokens", "completion_tokens")
            }
        names = ("total_tokens", "prompt_tokens", "completion_tokens")
        return used_tokens({name: n for name in names if isinstance(n := usage.get(name), int) and n > 0})


def _both(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """LiteLLM's metadata of a call, its own first: where that has a name of its own, `metadata` is the client's."""
    found = (data.get(name) for name in ("litellm_metadata", "metadata"))
    return [metadata for metadata in found if isinstance(metadata, dict)]


def _metadata(data: dict[str, Any]) -> dict[str, Any]:
    found = _both(data)
    if not found:
        data["metadata"] = {}
    return found[0] if found else data["metadata"]


def _decision(data: Mapping[str, Any]) -> str | None:
    ids = (metadata.get(DECISION) for metadata in _both(data))
    return next((one for one in ids if isinstance(one, str)), None)


def _shown(data: Mapping[str, Any]) -> Shown | None:
    written = (metadata.get(SHOWN) for metadata in _both(data))
    return next((Shown.read(one) for one in written if isinstance(one, str)), None)


def hook(calls: Callable[[], Calls]) -> Any:
    """An instance of LiteLLM's `CustomLogger`. `calls` is made at the first call, so that starting stays quick.

    Raises:
        ImportError: this is not LiteLLM's own process.
    """
    logger: Any = import_module("litellm.integrations.custom_logger").CustomLogger
    made: list[Calls] = []

    def mine() -> Calls:
        if not made:
            made.append(calls())
        return made[0]

    class GateHook(logger):  # type: ignore[misc]
        async def async_pre_call_hook(
            self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any, **_more: Any
        ) -> dict[str, Any]:
            return await mine().before(user_api_key_dict, data, getattr(call_type, "value", call_type))

        async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
            mine().unjudged(kwargs)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_more: Any
        ) -> None:
            await mine().succeeded(kwargs, response_obj)

        async def async_post_call_success_hook(
            self, data: dict[str, Any], user_api_key_dict: Any, response: Any, **_more: Any
        ) -> Any:
            return await mine().whole(data, response)

        async def async_post_call_streaming_iterator_hook(
            self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any], **_more: Any
        ) -> AsyncIterator[Any]:
            async for item in mine().streamed(request_data, response):
                yield item

        async def async_post_call_failure_hook(
            self, request_data: dict[str, Any], original_exception: Exception, user_api_key_dict: Any, *_more: Any,
            **_also: Any,
        ) -> None:  # fmt: skip
            await mine().failed(request_data, original_exception)

    return GateHook()


def _refuse(status: int, error: dict[str, object], headers: dict[str, str]) -> Exception:
    exception: Exception = import_module("fastapi").HTTPException(status, detail=error, headers=headers)
    return exception


def _opened() -> Calls:
    from stillwatch.gate.opening import Opened

    opened = Opened.from_environment(os.environ)
    return Calls(opened.gate, opened.callers, opened.clock, _refuse)


_INSTANCE: list[Any] = []


def __getattr__(name: str) -> Any:
    if name != "instance":
        raise AttributeError(name)
    if not _INSTANCE:
        # The gate is opened now: a proxy whose gate cannot be set up does not start.
        calls = _opened()
        _INSTANCE.append(hook(lambda: calls))
    return _INSTANCE[0]
