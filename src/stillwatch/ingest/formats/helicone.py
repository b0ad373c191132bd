"""helicone: rows of Helicone's table request_response_rmt, exported as JSON, CSV or Parquet."""

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
from stillwatch.ingest.importer import REQUEST, Importer, at

_MESSAGE = "response_body.choices.0.message"

HELICONE = Importer(
    name="helicone",
    title="Helicone (request_response_rmt)",
    marks=(
        ("request_id", "request_created_at", "response_created_at", "organization_id"),
        ("request_id", "request_created_at", "proxy_key_id"),
        ("request_id", "request_created_at", "request_body", "response_body"),
    ),
    fields={
        "account_id": at("properties.account_id", "properties.Account", "user_id", "proxy_key_id"),
        "ts": at("request_created_at"),
        "exchange_id": at("properties.litellm_call_id", "request_id"),
        "api_key_id": at("proxy_key_id"),
        "end_user": at("request_body.safety_identifier", "request_body.user"),
        "session_id": at("properties.Helicone-Session-Id"),
        "model": at("request_body.model", "request_model", "model"),
        "access_path": at("request_path", "path", "target_url", read=operation),
        "status": at("status", read=status),
        "messages": at(
            "request_body.messages", "request_body.input", "request_body.prompt", read=conversation, kind=TURNS
        ),
        "system_prompt": at("request_body.system", "request_body.instructions", read=prose),
        "completion": (
            *at(f"{_MESSAGE}.content", "response_body.choices.0.text", read=prose),
            *at("response_body.output", "response_body.content", read=answer),
        ),
        "input_tokens": at("prompt_tokens"),
        "output_tokens": at("completion_tokens"),
        "reasoning_tokens": at("reasoning_tokens", "response_body.usage.completion_tokens_details.reasoning_tokens"),
        "max_tokens": at("request_body.max_completion_tokens", "request_body.max_tokens"),
        "temperature": at("request_body.temperature"),
        "tool_names": at("request_body.tools", read=tool_names, kind=TOOLS),
        "tool_calls": (
            *at(f"{_MESSAGE}.tool_calls", read=n_items),
            *at(f"{_MESSAGE}.content", read=none_called),
            *at("response_body.output", "response_body.content", read=n_tool_calls),
        ),
        "stop_reason": at("response_body.choices.0.finish_reason", "response_body.stop_reason"),
        "ip": at("properties.ip", "request_ip"),
        "user_agent": at("properties.user_agent"),
        REQUEST: at("properties.x-request-id"),
    },
    switches={
        "account_id": "send the header Helicone-User-Id, or Helicone-Property-account_id",
        "prompt": "do not send Helicone-Omit-Request; export within the three months that bodies are kept",
        "completion": "do not send Helicone-Omit-Response; export within the three months that bodies are kept",
        "ip": "Helicone keeps the country only: send Helicone-Property-ip, or add the access log of the proxy in front",
        "user_agent": "send Helicone-Property-user_agent, or add the access log of the proxy in front",
        "end_user": "have clients send `user` or `safety_identifier`",
        "session_id": "send the header Helicone-Session-Id",
    },
)
