"""contract: what the service takes and gives, as types and as its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stillwatch.policy.model import FEATURES

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Short = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=100_000_000)]


class Admit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One call to be judged. Whoever may ask vouches for what it says."""

    account_id: Name
    n_tokens: Count
    org_id: Name | None = None
    payment_fingerprint: Name | None = None
    ip: Annotated[str, Meta(max_length=45)] | None = None
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None
    identity_level: Literal["none", "email", "phone", "payment", "organisation"] = "none"
    model: Short | None = None
    capability: Annotated[str, Meta(min_length=1, max_length=64)] = "chat"
    features: Annotated[list[Literal["reasoning", "logprobs", "batch"]], Meta(max_length=3)] = []
    max_output_tokens: Count | None = None


class Settle(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How many tokens the call of a decision used."""

    decision_id: Name
    used: Count


class Guarded(msgspec.Struct, kw_only=True):
    """What LiteLLM's generic guardrail sends, as far as it matters here; its other fields come and go."""

    input_type: Literal["request", "response"] = "request"
    texts: list[str] | None = None
    model: str | None = None
    tools: list[dict[str, Any]] | None = None
    request_data: dict[str, Any] | None = None
    request_headers: dict[str, Any] | None = None


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the service."""
    (admit, settle, guarded), schemas = msgspec.json.schema_components(
        [Admit, Settle, Guarded], ref_template="#/components/schemas/{name}"
    )
    schemas |= {
        "Error": _ERROR,
        "Admitted": _ADMITTED,
        "Settled": _object(settled={"type": "boolean"}),
        "Guard": _GUARD,
    }
    path = {
        "name": "path",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[a-z0-9/]{1,64}$"},
    }
    check = {
        "operationId": "check", "summary": "Judge a call by its headers.", "parameters": [path], "security": [],
        "responses": {
            "200": {"description": "It passes.", "headers": {"x-stillwatch-decision": {"schema": {"type": "string"}}}},
            **{code: _says("Error", text) for code, text in _REFUSALS.items()},
        },
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stillwatch gate", "version": "1"},
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{"bearer": []}],
        "paths": {
            "/check/{path}": {"get": check, "post": {**check, "operationId": "checkPost"}},
            "/v1/admit": {"post": _post("admit", "Judge a call.", admit, "Admitted")},
            "/v1/settle": {"post": _post("settle", "Say what a call used.", settle, "Settled")},
            "/beta/litellm_basic_guardrail_api": {"post": _post("guard", "LiteLLM's guardrail.", guarded, "Guard")},
            "/healthz": _HEALTH,
            "/openapi.json": {
                "get": {
                    "operationId": "document", "security": [],
                    "responses": {
                        "200": {"description": "This.", "content": {"application/json": {"schema": {"type": "object"}}}}
                    },
                }
            },
        },
    }  # fmt: skip


_REFUSALS = {
    "400": "It cannot be judged.", "403": "Refused.", "413": "Too large.", "429": "Later.", "503": "The gate failed.",
}  # fmt: skip


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


_ERROR = _object(error={"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]})
_GUARD = _object(
    action={"enum": ["NONE", "BLOCKED"]}, blocked_reason=_or_null("string"), texts={"type": ["array", "null"]}
)
_ADMITTED = _object(
    passes={"type": "boolean"}, action={"type": "string"}, decision_id={"type": "string"},
    features_off={"type": "array", "items": {"enum": list(FEATURES)}}, max_output_tokens=_or_null("integer"),
    mark=_or_null("string"), error=_or_null("object"),
)  # fmt: skip


def _says(schema: str, text: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": text, "content": content}


def _post(name: str, summary: str, body: dict[str, Any], gives: str) -> dict[str, Any]:
    return {
        "operationId": name, "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": _says(gives, "Judged."), "400": _says("Error", "Not what this address takes."),
            "401": _says("Error", "Without the token."), "413": _says("Error", "Too large."),
        },
    }  # fmt: skip


_STATE = _object(
    status={"enum": ["ok", "failing"]}, decisions_lost={"type": "integer", "minimum": 0},
    requests_unread={"type": "integer", "minimum": 0}, journal={"enum": ["unchecked", "checking", "whole", "broken"]},
)  # fmt: skip
_HEALTH = {
    "get": {
        "operationId": "health", "security": [],
        "responses": {
            code: {"description": text, "content": {"application/json": {"schema": _STATE}}}
            for code, text in (("200", "Decisions are written down."), ("503", "They are not."))
        },
    }
}  # fmt: skip
