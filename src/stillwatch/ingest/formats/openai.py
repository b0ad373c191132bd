"""openai: logs that keep the request and the answer as the OpenAI interface has them; batch files among them."""

from __future__ import annotations

from stillwatch.ingest.chat import (
    TOOLS,
    TURNS,
    answer,
    conversation,
    n_items,
    n_tool_calls,
    none_called,
    operation,
    prose,
    status,
    tool_names,
)
from stillwatch.ingest.importer import REQUEST, Importer, Place, at


def _places(*paths: str) -> tuple[str, ...]:
    return tuple(f"{body}.{path}" for path in paths for body in ("request.body", "request", "body"))


def _answers(*paths: str) -> tuple[str, ...]:
    return tuple(f"{body}.{path}" for path in paths for body in ("response.body", "response")) + paths


_MESSAGE = "choices.0.message"
_WHOLE = _answers("output", "content")


def _usage(*names: str) -> tuple[Place, ...]:
    return at(*(path for name in names for path in _answers(f"usage.{name}")))


OPENAI = Importer(
    name="openai",
    title="OpenAI-style request logs and batch files",
    marks=(
        ("request.messages", "response"),
        ("request.input", "response"),
        ("request.prompt", "response"),
        ("request.body.messages", "response.body.choices"),
        ("custom_id", "method", "url", "body"),
        ("custom_id", "response.status_code", "response.body"),
        ("body.messages", "response.choices"),
        ("body.messages", "response.body.choices"),
        ("messages", "model", "choices", "created"),
    ),
    fields={
        "account_id": at(
            "account_id", "account", "user_id", "customer_id", "customer", "organization", "organization_id",
            "project_id", "api_key_hash", "api_key_id", "api_key", "user",
        ),
        "ts": at(
            "ts", "timestamp", "time", "request_time", "created_at", "start_time", "created",
            *_answers("created", "created_at"),
        ),
        "exchange_id": at("request_id", "response.request_id", *_answers("id"), "custom_id"),
        "api_key_id": at("api_key_hash", "api_key_id", "key_id"),
        "end_user": at(*_places("safety_identifier", "user", "metadata.user_id")),
        "session_id": at("session_id", "conversation_id", *_places("metadata.session_id")),
        "model": at(*_places("model"), "model", *_answers("model")),
        "access_path": at("url", "path", "endpoint", "route", read=operation),
        "status": at("status_code", "response.status_code", "status", "error.code", read=status),
        "messages": (
            *at(*_places("messages", "input", "prompt"), "messages", read=conversation, kind=TURNS),
        ),
        "system_prompt": at(*_places("instructions", "system")),
        "completion": (
            *at(*_answers(f"{_MESSAGE}.content", "choices.0.text"), read=prose),
            *at(*_WHOLE, read=answer),
        ),
        "input_tokens": _usage("prompt_tokens", "input_tokens"),
        "output_tokens": _usage("completion_tokens", "output_tokens"),
        "reasoning_tokens": _usage(
            "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"
        ),
        "max_tokens": at(*_places("max_completion_tokens", "max_tokens", "max_output_tokens")),
        "temperature": at(*_places("temperature")),
        "tool_names": at(*_places("tools"), read=tool_names, kind=TOOLS),
        "tool_calls": (
            *at(*_answers(f"{_MESSAGE}.tool_calls"), read=n_items),
            *at(*_answers(f"{_MESSAGE}.content"), read=none_called),
            *at(*_WHOLE, read=n_tool_calls),
        ),
        "stop_reason": at(*_answers("choices.0.finish_reason", "stop_reason")),
        "ip": at("ip", "client_ip", "remote_addr", "ip_address"),
        "user_agent": at("user_agent", "headers.user-agent", "request.headers.user-agent"),
        "tls_fingerprint": at("ja4", "tls_fingerprint"),
        REQUEST: at("x-request-id", "x_request_id", "headers.x-request-id", "request.headers.x-request-id"),
    },
    switches={
        "account_id": "write who pays beside the request, under account_id",
        "ts": "write when the request came beside it, under timestamp",
        "prompt": "write the body of the request beside the answer, under request",
        "completion": "write the body of the answer beside the request, under response",
        "input_tokens": "keep usage in the answer; of streams, have clients ask for it (stream_options.include_usage)",
        "end_user": "have clients send `safety_identifier` or `user`",
        "session_id": "write which conversation it belongs to beside the request, under session_id",
        "ip": "write the client's address beside the request, under ip",
        "user_agent": "write the client's user agent beside the request, under user_agent",
        "tls_fingerprint": "add the access log of the proxy in front",
    },
)  # fmt: skip
