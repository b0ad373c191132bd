"""One conversation, and the log row that each format would hold of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

ACCOUNT, END_USER, SESSION = "acct-7", "end-1", "session-9"
IP, USER_AGENT, REQUEST_ID, CALL_ID = "198.51.100.23", "client/1.0", "4e542747-bf3e-45e4-8761-9621ded9817c", "call-1"
SYSTEM, PROMPT, ANSWER = "Be terse.", "How far is it from Köln to Bonn?\nIn km.", "Mock response"
TOOL = {"type": "function", "function": {"name": "map", "parameters": {"type": "object", "properties": {}}}}
WHEN = datetime(2026, 11, 20, 10, 30, 5, 250_000, tzinfo=UTC)
KEY_HASH = "1460db1b6902f8b1fc2a40d9381a24d0fd22c3bc1b2c6f999c521da73776fbe0"

REQUEST: dict[str, Any] = {
    "model": "orion",
    "max_tokens": 64,
    "temperature": 0.25,
    "user": END_USER,
    "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}],
    "tools": [TOOL],
}

RESPONSE: dict[str, Any] = {
    "id": "chatcmpl-mock-1",
    "created": int(WHEN.timestamp()),
    "model": "orion",
    "object": "chat.completion",
    "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": ANSWER}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
}

ROW: dict[str, Any] = {
    "account_id": ACCOUNT,
    "ts": WHEN,
    "exchange_id": CALL_ID,
    "api_key_id": KEY_HASH,
    "end_user": END_USER,
    "session_id": SESSION,
    "model": "orion",
    "access_path": "chat",
    "status": "200",
    "system_prompt": SYSTEM,
    "prompt": PROMPT,
    "messages": REQUEST["messages"],
    "completion": ANSWER,
    "input_tokens": 11,
    "output_tokens": 3,
    "reasoning_tokens": None,
    "max_tokens": 64,
    "temperature": 0.25,
    "tool_names": ["map"],
    "tool_calls": 0,
    "stop_reason": "stop",
    "ip": IP,
    "user_agent": USER_AGENT,
    "tls_fingerprint": "t13d1516h2_8daaf6152771_b0da82dd1658",
}
"""What every route says of it, as far as it says anything."""

PRICES = {f"input_cost_per_token_above_{n}k_tokens{kind}": None for n in (128, 200, 272, 512) for kind in
          ("", "_flex", "_priority", "_batches", "_ultrafast")}  # fmt: skip


def litellm() -> dict[str, Any]:
    """A StandardLoggingPayload."""
    headers = {"host": "gateway", "user-agent": USER_AGENT, "x-request-id": REQUEST_ID}
    return {
        "id": RESPONSE["id"], "litellm_call_id": CALL_ID, "trace_id": "3a2c3b6aecfa39cc0d29e18daabe2a84",
        "session_id": SESSION, "call_type": "acompletion", "cache_hit": None, "stream": None, "status": "success",
        "custom_llm_provider": "openai", "startTime": WHEN.timestamp(), "endTime": WHEN.timestamp() + 0.7,
        "completionStartTime": WHEN.timestamp() + 0.7, "response_time": 0.7, "model": "openai/gpt-4o",
        "metadata": {
            "user_api_key_hash": KEY_HASH, "user_api_key_alias": "k", "user_api_key_team_id": "team-1",
            "user_api_key_org_id": "org-1", "user_api_key_user_id": ACCOUNT, "user_api_key_user_email": None,
            "user_api_key_end_user_id": END_USER, "user_api_key_request_route": "/v1/chat/completions",
            "requester_ip_address": IP, "user_agent": USER_AGENT,
            "requester_metadata": {"headers": headers},
            "requester_custom_headers": {"x-request-id": REQUEST_ID, "x-ja4": ROW["tls_fingerprint"]},
            "usage_object": RESPONSE["usage"] | {"completion_tokens_details": None},
        },
        "response_cost": 1.25e-05, "total_tokens": 14, "prompt_tokens": 11, "completion_tokens": 3,
        "request_tags": ["User-Agent: client"], "end_user": END_USER, "api_base": "gateway/v1",
        "model_group": "orion", "model_id": "e2c8737e0e940a814d85d5a22ab516f4", "requester_ip_address": IP,
        "user_agent": USER_AGENT, "messages": REQUEST["messages"], "response": RESPONSE,
        "model_parameters": {"temperature": 0.25, "stream": False, "max_tokens": 64, "tools": [TOOL]},
        "model_map_information": {"model_map_key": "openai/gpt-4o", "model_map_value": {"key": "gpt-4o"} | PRICES},
        "error_information": {"error_code": "", "error_class": "", "error_message": ""},
    }  # fmt: skip


def spend_log() -> dict[str, Any]:
    """A row of SpendLogs, as JSON carries it."""
    return {
        "request_id": RESPONSE["id"], "call_type": "acompletion", "api_key": KEY_HASH, "spend": 1.25e-05,
        "total_tokens": 14, "prompt_tokens": 11, "completion_tokens": 3, "startTime": WHEN.isoformat(),
        "endTime": WHEN.isoformat(), "model": "openai/gpt-4o", "model_group": "orion", "user": ACCOUNT,
        "metadata": json.dumps({"user_agent": USER_AGENT, "status": "success"}), "team_id": "team-1",
        "end_user": END_USER, "requester_ip_address": IP, "messages": {}, "response": RESPONSE,
        "session_id": SESSION, "status": "success", "proxy_server_request": REQUEST, "litellm_call_id": CALL_ID,
    }  # fmt: skip


def batch_line() -> dict[str, Any]:
    """A line of a request log with request and answer."""
    return {
        "request_id": CALL_ID, "timestamp": WHEN.isoformat(), "account_id": ACCOUNT, "url": "/v1/chat/completions",
        "session_id": SESSION, "ip": IP, "user_agent": USER_AGENT, "api_key_hash": KEY_HASH,
        "ja4": ROW["tls_fingerprint"], "request": REQUEST, "response": {"status_code": 200, "body": RESPONSE},
    }  # fmt: skip


def langfuse() -> dict[str, Any]:
    """A generation of Langfuse's export."""
    return {
        "id": CALL_ID, "trace_id": "trace-1", "project_id": "p", "environment": "default", "type": "GENERATION",
        "parent_observation_id": None, "start_time": WHEN.isoformat(), "end_time": WHEN.isoformat(), "name": "chat",
        "metadata": json.dumps({"requester_ip_address": IP, "user_agent": USER_AGENT, "end_user": END_USER}),
        "input": json.dumps(REQUEST["messages"]),
        "output": json.dumps({"role": "assistant", "content": ANSWER}), "provided_model_name": "orion",
        "model_parameters": json.dumps({"max_tokens": 64, "temperature": 0.25}),
        "usage_details": {"input": 11, "output": 3, "total": 14}, "latency": 0.7, "level": "DEFAULT",
        "user_id": ACCOUNT, "session_id": SESSION,
    }  # fmt: skip


def helicone() -> dict[str, Any]:
    """A row of Helicone's table."""
    return {
        "response_id": "r-1", "request_id": CALL_ID, "request_created_at": WHEN.isoformat(),
        "response_created_at": WHEN.isoformat(), "latency": 700, "status": 200, "prompt_tokens": 11,
        "completion_tokens": 3, "model": "gpt-4o", "provider": "OPENAI", "user_id": ACCOUNT,
        "organization_id": "org", "proxy_key_id": KEY_HASH, "country_code": "ZZ",
        "properties": {"Helicone-Session-Id": SESSION}, "request_path": "/v1/chat/completions",
        "request_body": json.dumps(REQUEST), "response_body": json.dumps(RESPONSE),
    }  # fmt: skip


def access_log() -> dict[str, Any]:
    """A line of Envoy's access log."""
    return {
        "start_time": WHEN.isoformat().replace("+00:00", "Z"), "method": "POST", "response_code": 200, "duration": 835,
        "x-envoy-origin-path": "/v1/chat/completions", "x-forwarded-for": IP, "user-agent": USER_AGENT,
        "x-request-id": REQUEST_ID, "downstream_remote_address": f"{IP}:41678", "x-account-id": ACCOUNT,
        "ja4": ROW["tls_fingerprint"], "x-litellm-call-id": CALL_ID,
    }  # fmt: skip


def _attribute(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [{"stringValue": one} for one in value]}}}
    return {"key": key, "value": {"stringValue": value}}


NEW_NAMES: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "orion",
    "gen_ai.request.max_tokens": 64, "gen_ai.request.temperature": 0.25, "gen_ai.response.id": CALL_ID,
    "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 3,
    "gen_ai.conversation.id": SESSION, "user.id": ACCOUNT, "enduser.id": END_USER, "client.address": IP,
    "user_agent.original": USER_AGENT, "metadata.user_api_key_hash": KEY_HASH,
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": SYSTEM}]),
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}]),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}]
    ),
    "gen_ai.tool.definitions": json.dumps([TOOL]),
}  # fmt: skip

OLD_NAMES: dict[str, Any] = {
    "gen_ai.system": "openai", "gen_ai.request.model": "orion", "llm.request.type": "chat",
    "gen_ai.request.max_tokens": 64, "gen_ai.request.temperature": 0.25, "gen_ai.response.id": CALL_ID,
    "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.prompt_tokens": 11,
    "gen_ai.usage.completion_tokens": 3, "session.id": SESSION, "user.id": ACCOUNT, "enduser.id": END_USER,
    "client.address": IP, "user_agent.original": USER_AGENT, "metadata.user_api_key_hash": KEY_HASH,
    "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": SYSTEM, "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": PROMPT, "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": ANSWER,
    "gen_ai.completion.0.finish_reason": "stop", "llm.request.functions.0.name": "map",
}  # fmt: skip

SPAN = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}
NANOSECONDS = str(int(WHEN.timestamp() * 1_000_000) * 1000)


def spans(attributes: dict[str, Any]) -> dict[str, Any]:
    """An export of one span."""
    pairs = [_attribute(key, value) for key, value in attributes.items()]
    span = SPAN | {"name": "chat orion", "startTimeUnixNano": NANOSECONDS, "attributes": pairs, "status": {}}
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [span]}]}]}


def log_records(records: list[dict[str, Any]]) -> dict[str, Any]:
    """An export of log records of that span."""
    logs = [SPAN | {"timeUnixNano": NANOSECONDS} | record for record in records]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}


def details(attributes: dict[str, Any]) -> dict[str, Any]:
    """The event that carries the content of a call."""
    pairs = [_attribute(key, value) for key, value in attributes.items()]
    return log_records([{"eventName": "gen_ai.client.inference.operation.details", "attributes": pairs}])


def turns() -> dict[str, Any]:
    """The events of versions 1.28 to 1.36: one for each message, one for the answer."""

    def body(**fields: Any) -> dict[str, Any]:
        pairs = [
            {"key": key, "value": value if isinstance(value, dict) else {"stringValue": value}}
            for key, value in fields.items()
        ]
        return {"kvlistValue": {"values": pairs}}

    said = body(role="assistant", content=ANSWER)
    return log_records(
        [
            {"eventName": "gen_ai.system.message", "body": body(content=SYSTEM)},
            {"eventName": "gen_ai.user.message", "body": body(content=PROMPT)},
            {"eventName": "gen_ai.choice", "body": body(finish_reason="stop", message=said)},
        ]
    )
