"""litellm: the payload of LiteLLM's callbacks, and the rows of its SpendLogs table and ClickHouse logger.

The account is whoever holds the key: the key's user, else its team, else its organisation, else the key itself. The
user that LiteLLM puts where nobody was named is nobody.
"""

from __future__ import annotations

from typing import Any

from stillwatch.ingest.chat import (
    CHAT_OF_ANY_SHAPE,
    TOOLS,
    TURNS,
    answer,
    any_address,
    conversation,
    n_items,
    n_tool_calls,
    none_called,
    operation,
    outer_address,
    prose,
    status,
    tool_names,
)
from stillwatch.ingest.importer import REQUEST, Importer, at

_NOBODY = frozenset({"", "default_user_id", "litellm-proxy-budget", "None"})
_HEADERS = "metadata.requester_metadata.headers"
_MESSAGE = "response.choices.0.message"
_OWN_HEADERS = "metadata.requester_custom_headers"


def somebody(value: Any) -> Any:
    """The value, unless it is what LiteLLM writes for nobody."""
    return None if isinstance(value, str) and value in _NOBODY else value


def failure(value: Any) -> Any:
    """The status of a failed call; an error without a code says nothing."""
    return None if value in ("", "None", None) else status(value)


LITELLM = Importer(
    name="litellm",
    title="LiteLLM callbacks (StandardLoggingPayload)",
    marks=(
        ("litellm_call_id", "startTime", "metadata.user_api_key_hash"),
        ("call_type", "startTime", "metadata.user_api_key_hash", "model_parameters"),
    ),
    fields={
        "account_id": at(
            "metadata.user_api_key_user_id", "metadata.user_api_key_team_id", "metadata.user_api_key_org_id",
            "metadata.user_api_key_hash", read=somebody,
        ),
        "ts": at("startTime"),
        "exchange_id": at("litellm_call_id", "id"),
        "api_key_id": at("metadata.user_api_key_hash"),
        "end_user": at("end_user", "metadata.user_api_key_end_user_id"),
        "session_id": at("session_id", f"{_OWN_HEADERS}.x-litellm-session-id"),
        "model": at("model_group", "model"),
        "access_path": at("metadata.user_api_key_request_route", "call_type", read=operation),
        "status": (*at("error_information.error_code", read=failure), *at("status", read=status)),
        "messages": at("messages", read=conversation, kind=TURNS),
        "completion": (
            *at(f"{_MESSAGE}.content", "response.choices.0.text", read=prose),
            *at("response.output", "response.content", read=answer),
        ),
        "input_tokens": at("prompt_tokens"),
        "output_tokens": at("completion_tokens"),
        "reasoning_tokens": at("metadata.usage_object.completion_tokens_details.reasoning_tokens"),
        "max_tokens": at(
            "model_parameters.max_completion_tokens", "model_parameters.max_tokens",
            "model_parameters.max_output_tokens",
        ),
        "temperature": at("model_parameters.temperature"),
        "tool_names": at("model_parameters.tools", read=tool_names, kind=TOOLS),
        "tool_calls": (
            *at(f"{_MESSAGE}.tool_calls", read=n_items), *at(f"{_MESSAGE}.content", read=none_called),
            *at("response.output", "response.content", read=n_tool_calls),
        ),
        "stop_reason": at("response.choices.0.finish_reason", "response.stop_reason"),
        "ip": (
            *at("requester_ip_address", "metadata.requester_ip_address", read=outer_address),
            *at("requester_ip_address", read=any_address),
        ),
        "user_agent": at("user_agent", "metadata.user_agent", f"{_HEADERS}.user-agent"),
        "tls_fingerprint": at(f"{_OWN_HEADERS}.x-ja4", f"{_OWN_HEADERS}.x-ja4-fingerprint"),
        REQUEST: at(f"{_OWN_HEADERS}.x-request-id", f"{_HEADERS}.x-request-id"),
    },
    switches={
        "account_id": "give every customer a virtual key with a user_id of its own",
        "ip": "general_settings: use_x_forwarded_for: true, behind a proxy you trust",
        "prompt": "litellm_settings: turn_off_message_logging: false",
        "completion": "litellm_settings: turn_off_message_logging: false",
        "end_user": "have clients send `user` or `safety_identifier`",
        "session_id": "have clients send litellm_session_id or the header x-litellm-session-id",
        "user_agent": "add the access log of the proxy in front, joined by x-request-id",
        "tls_fingerprint": "let the proxy in front add the header x-ja4; LiteLLM logs headers that start with x-",
    },
)  # fmt: skip

SPENDLOGS = Importer(
    name="spendlogs",
    title="LiteLLM SpendLogs (PostgreSQL, ClickHouse)",
    marks=(
        ("request_id", "api_key", "startTime", "call_type", "spend"),
        ("request_id", "api_key", "start_time", "call_type", "spend"),
    ),
    fields={
        "account_id": at(
            "user", "team_id", "organization_id", "metadata.user_api_key_user_id", "api_key", read=somebody
        ),
        "ts": at("startTime", "start_time"),
        "exchange_id": at("litellm_call_id", "request_id"),
        "api_key_id": at("api_key"),
        "end_user": at("end_user"),
        "session_id": at("session_id"),
        "model": at("model_group", "model"),
        "access_path": at("metadata.user_api_key_request_route", "call_type", read=operation),
        "status": (
            *at("metadata.error_information.error_code", read=failure), *at("status", "metadata.status", read=status),
        ),
        "messages": at(
            "messages", *(f"proxy_server_request.{name}" for name in ("messages", "input", "prompt")),
            read=conversation, kind=CHAT_OF_ANY_SHAPE,
        ),
        "completion": (
            *at(f"{_MESSAGE}.content", "response.choices.0.text", read=prose),
            *at("response.output", "response.content", read=answer),
        ),
        "input_tokens": at("prompt_tokens"),
        "output_tokens": at("completion_tokens"),
        "reasoning_tokens": at(
            "metadata.usage_object.completion_tokens_details.reasoning_tokens",
            "metadata.additional_usage_values.completion_tokens_details.reasoning_tokens",
        ),
        "max_tokens": at("proxy_server_request.max_completion_tokens", "proxy_server_request.max_tokens"),
        "temperature": at("proxy_server_request.temperature"),
        "tool_names": at("proxy_server_request.tools", read=tool_names, kind=TOOLS),
        "tool_calls": (
            *at(f"{_MESSAGE}.tool_calls", read=n_items),
            *at(f"{_MESSAGE}.content", read=none_called),
            *at("response.output", "response.content", read=n_tool_calls),
        ),
        "stop_reason": at("response.choices.0.finish_reason", "response.stop_reason"),
        "ip": (
            *at("requester_ip_address", "metadata.requester_ip_address", read=outer_address),
            *at("requester_ip_address", "metadata.requester_ip_address", read=any_address),
        ),
        "user_agent": at("metadata.user_agent"),
    },
    switches={
        "account_id": "give every customer a virtual key with a user_id of its own",
        "prompt": "general_settings: store_prompts_in_spend_logs: true, and MAX_STRING_LENGTH_PROMPT_IN_DB above 2048",
        "completion": "general_settings: store_prompts_in_spend_logs: true",
        "temperature": "general_settings: store_prompts_in_spend_logs: true",
        "ip": "general_settings: use_x_forwarded_for: true, behind a proxy you trust",
        "user_agent": "update LiteLLM: newer versions write it into metadata",
        "end_user": "have clients send `user` or `safety_identifier`",
        "session_id": "have clients send litellm_session_id or the header x-litellm-session-id",
        "tls_fingerprint": "not in SpendLogs, which name no x-request-id: use the log of LiteLLM's callback instead",
    },
)  # fmt: skip
