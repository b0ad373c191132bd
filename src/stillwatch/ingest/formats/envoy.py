"""envoy: JSON access logs of Envoy, Envoy Gateway, Istio and Envoy AI Gateway.

They know best who connected from where, and nothing of what was said. Their rows complete the exchanges that other
logs hold under the same x-request-id; what no other log holds stays an exchange of its own.
"""

from __future__ import annotations

from typing import Any

from stillwatch.ingest.chat import any_address, operation, outer_address, status
from stillwatch.ingest.importer import ASIDE, REQUEST, Importer, at

_ADDRESSES = ("downstream_remote_address", "x-forwarded-for", "x_forwarded_for", "downstream_direct_remote_address")
_ACCOUNTS = ("x-account-id", "x_account_id", "x-user-id", "x_user_id", "x-consumer-username", "x-ai-eg-user", "user_id")


def told(value: Any) -> Any:
    """The value; a lone dash is how Envoy writes that there is none."""
    return None if value == "-" else value


ENVOY = Importer(
    name="envoy",
    title="Envoy and Envoy AI Gateway access logs",
    marks=(
        ("start_time", "response_code", "x-request-id"),
        ("start_time", "response_code", "request_id"),
        ("start_time", "method", "response_code", "duration"),
    ),
    # Envoy writes the names of dynamic metadata as the operator spells them, dots and all.
    whole_keys=(
        "session.id", "gen_ai.request.model", "gen_ai.model", "gen_ai.response.model", "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    ),
    asides=("start_time",),
    fields={
        "account_id": at(*_ACCOUNTS, read=told),
        "ts": at("start_time"),
        "exchange_id": at("x-litellm-call-id", "x-request-id", "request_id", read=told),
        "session_id": at("session.id", "x-session-id", read=told),
        "model": at(
            "gen_ai.request.model", "request_model", "gen_ai.model", "model", "gen_ai.response.model", read=told
        ),
        "access_path": at("x-envoy-origin-path", "x-envoy-original-path", "path", ":path", read=operation),
        "status": at("response_code", read=status),
        "input_tokens": at("gen_ai.usage.input_tokens", "llm_input_token", "input_tokens", read=told),
        "output_tokens": at("gen_ai.usage.output_tokens", "llm_output_token", "output_tokens", read=told),
        "ip": (
            *at("downstream_remote_address", *_ADDRESSES[1:], read=outer_address),
            *at(*_ADDRESSES, read=any_address),
        ),
        "user_agent": at("user-agent", "user_agent", read=told),
        "tls_fingerprint": at("ja4", "tls_ja4", "tls_ja4_fingerprint", "x-ja4", "ja3", "tls_ja3", read=told),
        REQUEST: at("x-request-id", "request_id", read=told),
        ASIDE: at("start_time", read=lambda _: True),
    },
    switches={
        "account_id": 'json_format: x-account-id: "%REQ(X-ACCOUNT-ID)%", with whatever header names your accounts',
        "ip": 'json_format: downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%"',
        "user_agent": 'json_format: user-agent: "%REQ(USER-AGENT)%"',
        "tls_fingerprint": 'the tls_inspector with enable_ja4_fingerprinting, and json_format: ja4: '
        '"%TLS_JA4_FINGERPRINT%"',
        "prompt": "never in an access log: scan the gateway's own log together with this one, joined by x-request-id",
        "completion": "never in an access log: scan the gateway's own log together with this one",
        "model": "scan the gateway's own log together with this one, or name a header that holds it in json_format",
        "end_user": "scan the gateway's own log together with this one",
        "session_id": 'json_format: session.id: "%REQ(X-SESSION-ID)%", with whatever header your clients send',
        "input_tokens": 'with Envoy AI Gateway, json_format: gen_ai.usage.input_tokens: '
        '"%DYNAMIC_METADATA(io.envoy.ai_gateway:llm_input_token)%"',
    },
)  # fmt: skip
