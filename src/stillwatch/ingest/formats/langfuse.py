"""langfuse: rows of Langfuse's observations export (observations_v2), of which generations are model calls.

In the legacy export an observation does not say whose it is: its trace does, in files of their own. A trace completes
the generations inside it and is no model call itself.
"""

from __future__ import annotations

from typing import Any

from stillwatch.ingest.chat import answer, conversation, n_items, n_tool_calls, stop_reason, tool_names
from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, Importer, at


def level(value: Any) -> str | None:
    """The status of a level: an error, or done."""
    return {"ERROR": "error", "DEFAULT": "200", "DEBUG": "200", "WARNING": "200"}.get(str(value))


LANGFUSE = Importer(
    name="langfuse",
    title="Langfuse (observations_v2)",
    marks=(
        ("trace_id", "start_time", "type", "provided_model_name"),
        ("trace_id", "start_time", "type", "usage_details"),
        ("traceId", "startTime", "type", "usageDetails"),
        ("trace_id", "start_time", "type", "parent_observation_id"),
    ),
    only={"type": ("GENERATION", "generation")},
    fields={
        "account_id": at("user_id", "userId", "metadata.user_id", "metadata.user_api_key_user_id"),
        "ts": at("start_time", "startTime"),
        "exchange_id": at("metadata.litellm_call_id", "id"),
        "api_key_id": at("metadata.user_api_key_hash"),
        "end_user": at("metadata.end_user", "metadata.user_api_key_end_user_id"),
        "session_id": at("session_id", "sessionId"),
        "model": at("metadata.model_group", "provided_model_name", "model"),
        "access_path": at("metadata.access_path"),
        "status": at("level", read=level),
        "messages": at("input", read=conversation),
        "completion": at("output", read=answer),
        "input_tokens": at("usage_details.input", "usageDetails.input"),
        "output_tokens": at("usage_details.output", "usageDetails.output"),
        "reasoning_tokens": at("usage_details.output_reasoning_tokens", "usage_details.reasoning_tokens"),
        "max_tokens": at("model_parameters.max_tokens", "modelParameters.max_tokens"),
        "temperature": at("model_parameters.temperature", "modelParameters.temperature"),
        "tool_names": at("input.tools", "tool_definitions", read=tool_names),
        "tool_calls": (*at("tool_calls", "toolCalls", read=n_items), *at("output", read=n_tool_calls)),
        "stop_reason": at("metadata.finish_reason", "output", read=stop_reason),
        "ip": at("metadata.requester_ip_address", "metadata.ip"),
        "user_agent": at("metadata.user_agent"),
        REQUEST: at("metadata.x-request-id"),
        SPAN: at("trace_id", "traceId"),
    },
    switches={
        "account_id": "set user_id on the trace (langfuse.update_current_trace(user_id=...)); of a legacy export, give "
        "traces/ together with observations/",
        "prompt": "export the field group io; do not mask input",
        "completion": "export the field group io; do not mask output",
        "ip": "not in Langfuse: add the access log of the proxy in front",
        "user_agent": "not in Langfuse: add the access log of the proxy in front",
        "input_tokens": "export the field group usage",
        "end_user": "put it into the metadata of the generation, under end_user",
        "session_id": "set session_id on the trace",
    },
)

LANGFUSE_TRACES = Importer(
    name="langfuse_traces",
    title="Langfuse (legacy traces)",
    marks=(
        ("timestamp", "user_id", "session_id", "release", "bookmarked"),
        ("timestamp", "userId", "sessionId", "release", "bookmarked"),
    ),
    asides=("timestamp",),
    is_exchange=False,
    fields={
        "account_id": at("user_id", "userId", "metadata.user_id"),
        "ts": at("timestamp"),
        "session_id": at("session_id", "sessionId"),
        "ip": at("metadata.requester_ip_address", "metadata.ip"),
        "user_agent": at("metadata.user_agent"),
        SPAN: at("id"),
        ASIDE: at("id", read=lambda _: True),
    },
    switches={"account_id": "set user_id on the trace (langfuse.update_current_trace(user_id=...))"},
)
