"""litellm_hook: the gate inside LiteLLM's proxy, as a callback: `callbacks: ["stillwatch.gate.litellm_hook.instance"]`.

The instance is made on first use, from the environment (`stillwatch.gate.opening`). A call is judged before it is made;
what it reserved is settled by the success event, or given back by the event of a failure that streamed nothing. A
stream that is abandoned brings no success event, so it stays spent.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Any

import msgspec

from stillwatch.gate.admission import Admission, Gate
from stillwatch.gate.answers import error_of, headers_of, status_of
from stillwatch.gate.asked import allowed_body, asked, used_tokens
from stillwatch.gate.callers import MOST_CHARACTERS, Callers
from stillwatch.policy.ruling import Request

MOST_CALLS = 100_000
"""Calls under way that are remembered; of those beyond, the oldest stay spent."""

_PATHS = {
    "responses": "/responses", "aresponses": "/responses", "embeddings": "/embeddings", "embedding": "/embeddings",
    "aembedding": "/embeddings", "text_completion": "/completions", "atext_completion": "/completions",
    "completion": "/chat/completions", "acompletion": "/chat/completions", "anthropic_messages": "/messages",
}  # fmt: skip
_TEXTS = ("messages", "prompt", "input", "tools", "functions", "system")
_KNOWN = ("user_id", "team_id", "org_id", "api_key")
"""Who an account is, in the order in which the importer of LiteLLM's logs looks."""

NOBODY = frozenset({"", "default_user_id", "litellm-proxy-budget", "None"})
"""What LiteLLM writes for nobody."""


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
        self._open: OrderedDict[str, str] = OrderedDict()

    async def before(self, who: Any, data: dict[str, Any], call_type: str) -> dict[str, Any]:
        """The call as it may be made. Raises what `refuse` makes where it may not."""
        path = _PATHS.get(str(call_type), f"/{call_type}")
        admission = await self._gate.admit_soon(self._request(who, data, path))
        if not admission.passes:
            raise self._refusal(admission)
        call_id = data.get("litellm_call_id")
        if isinstance(call_id, str):
            self._open[call_id] = admission.decision_id
            if len(self._open) > MOST_CALLS:
                self._open.popitem(last=False)
        return allowed_body(
            path, data, features_off=admission.features_off, max_output_tokens=admission.max_output_tokens,
            mark=admission.mark, is_vllm=False,
        )  # fmt: skip

    async def after(self, kwargs: Mapping[str, Any], answer: Any, *, went_well: bool) -> None:
        """Settle a call that ended."""
        call_id = kwargs.get("litellm_call_id")
        used = self._used(kwargs, answer) if went_well else None if kwargs.get("stream") else 0
        decision_id = self._open.pop(call_id, None) if isinstance(call_id, str) else None
        if decision_id is not None and used is not None:
            await self._gate.settle_soon(decision_id, used)

    def _refusal(self, admission: Admission) -> Exception:
        headers = {name.decode(): value.decode() for name, value in headers_of(admission)}
        return self._refuse(status_of(admission), error_of(admission), headers)

    def _request(self, who: Any, data: Mapping[str, Any], path: str) -> Request:
        texts = {name: data[name] for name in _TEXTS if data.get(name) is not None}
        n_bytes = len(msgspec.json.encode(texts, enc_hook=str))
        metadata = data.get("metadata") or data.get("litellm_metadata") or {}
        peer = metadata.get("requester_ip_address") if isinstance(metadata, Mapping) else None
        request = self._callers.request(peer, (), asked(path, data, n_bytes), self._clock())
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

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_more: Any
        ) -> None:
            await mine().after(kwargs, response_obj, went_well=True)

        async def async_log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_more: Any
        ) -> None:
            await mine().after(kwargs, response_obj, went_well=False)

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
