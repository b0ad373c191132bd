"""service: the gate over HTTP: for gateways that ask before they pass a call on, and for LiteLLM's generic guardrail.

    ANY  /check/...                             Envoy ext_authz, Traefik, nginx, Caddy, APISIX: 200 passes, else refuse
    POST /v1/admit                              the same as JSON, for programs
    POST /v1/settle                             how many tokens a call used
    POST /beta/litellm_basic_guardrail_api      LiteLLM's generic guardrail
    GET  /healthz, /openapi.json

Where a token is set, all but the last line want it: as a bearer token and, on `/check/`, whose authorization is the
client's own, in the header x-stillwatch-token.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from stillwatch.extras import require
from stillwatch.gate.admission import Gate
from stillwatch.gate.answers import Pairs, body_of, error_of, headers_of, status_of, upstream_headers
from stillwatch.gate.asked import asked, named, read_body
from stillwatch.gate.callers import ANONYMOUS, Callers, Refused, receive_body
from stillwatch.gate.contract import Admit, Guarded, Settle, document
from stillwatch.gate.litellm_hook import NOBODY
from stillwatch.keys import Secret
from stillwatch.policy.ruling import Request

LARGEST_BODY_BYTES = 4 << 20

_JSON = "application/json"
TOKEN_HEADER = b"x-stillwatch-token"
"""Where a gateway shows the token on `/check/`, whose authorization is the client's."""


class Service:
    """The service as an ASGI application.

    Args:
        gate, callers, clock: what judges, who asks, the time with a zone.
        token: what every request must bear; None where only this machine can ask.
        reserve: tokens reserved for a check whose gateway sends neither body nor number. at_end: what to do when the
            server stops, in its event loop.
    """

    def __init__(
        self,
        gate: Gate,
        callers: Callers,
        *,
        clock: Callable[[], datetime],
        token: Secret | None,
        reserve: int = 2048,
        at_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._gate, self._callers, self._clock, self._token, self._reserve = gate, callers, clock, token, reserve
        starlette = require("starlette.applications", "serve")
        routing = require("starlette.routing", "serve")
        self._response: Callable[..., Any] = require("starlette.responses", "serve").Response

        @asynccontextmanager
        async def lifespan(_app: Any) -> AsyncIterator[None]:
            yield
            if at_end is not None:
                await at_end()

        self._app = starlette.Starlette(
            lifespan=lifespan,
            routes=[
                routing.Route("/v1/admit", self._checked(self._admit, bears=True), methods=["POST"]),
                routing.Route("/v1/settle", self._checked(self._settle, bears=True), methods=["POST"]),
                routing.Route(
                    "/beta/litellm_basic_guardrail_api", self._checked(self._guard, bears=True), methods=["POST"]
                ),
                routing.Route("/healthz", self._checked(self._health), methods=["GET"]),
                routing.Route("/openapi.json", self._checked(self._document), methods=["GET"]),
            ],
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith("/check/"):
            await self._check(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _checked(
        self, answer: Callable[[Any], Awaitable[Any]], *, bears: bool = False
    ) -> Callable[[Any], Awaitable[Any]]:
        async def answered(http: Any) -> Any:
            try:
                if bears and not self._bears(http):
                    return self._error(
                        401, "send the header Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
                    )
                return await answer(http)
            except Refused as error:
                self._gate.n_unread += 1
                return self._error(error.status, error.says)

        return answered

    def _bears(self, http: Any) -> bool:
        if self._token is None:
            return True
        scheme, _, token = http.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._shows(token.encode("latin-1", "replace"))

    def _shows(self, token: bytes) -> bool:
        assert self._token is not None
        return hmac.compare_digest(token.strip(), self._token.reveal())

    async def _check(self, scope: Any, receive: Any, send: Any) -> None:
        """One call, as a gateway tells it by headers; the body counts where it is sent along.

        It is answered without Starlette, which costs as much as the decision.
        """
        try:
            status, body, headers = await self._checked_call(scope, receive)
        except Refused as error:
            self._gate.n_unread += 1
            status, body, headers = error.status, _problem(error.says), []
        head = [(b"content-length", str(len(body)).encode()), *headers]
        if status != 200:
            head.append((b"content-type", _JSON.encode()))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    async def _checked_call(self, scope: Any, receive: Any) -> tuple[int, bytes, Pairs]:
        headers = scope["headers"]
        if scope["method"] == "CONNECT":
            # A yes to it would open a tunnel to the gate itself.
            raise Refused(400, "this is no call of a model")
        if self._token is not None:
            shown = [value for name, value in headers if name == TOKEN_HEADER]
            if len(shown) != 1 or not self._shows(shown[0]):
                raise Refused(401, f"the gateway must send the header {TOKEN_HEADER.decode()}")
        has_body = any(name in (b"content-length", b"transfer-encoding") and value != b"0" for name, value in headers)
        content = await receive_body(receive, at_most=LARGEST_BODY_BYTES) if has_body else b""
        body = read_body(content) if content else None
        if content and body is None:
            # What is behind might read it all the same, and do what nobody judged.
            raise Refused(400, "the body is not one JSON object")
        path = scope["path"].removeprefix("/check")
        wanted = asked(path, body, len(content)) if body is not None else named(path, self._reserve)
        # What stands behind is told a cap, and may keep to it or not: as much is reserved as without one.
        wanted = replace(wanted, n_answers=0)
        client = scope.get("client")
        request = self._callers.request(client[0] if client else None, headers, wanted, self._clock())
        admission = await self._gate.admit_soon(request)
        if admission.passes:
            return 200, b"", upstream_headers(admission)
        return status_of(admission), body_of(admission), headers_of(admission)

    async def _admit(self, http: Any) -> Any:
        given = await self._read(http, Admit)
        request = Request(
            account_id=given.account_id, now=self._clock(), org_id=given.org_id, ip=given.ip, country=given.country,
            payment_fingerprint=given.payment_fingerprint, identity_level=given.identity_level, model=given.model,
            capability=given.capability, features=frozenset(given.features), n_tokens=given.n_tokens,
            max_output_tokens=given.max_output_tokens,
        )  # fmt: skip
        admission = await self._gate.admit_soon(request)
        said: dict[str, object] = {
            "passes": admission.passes, "action": admission.action, "decision_id": admission.decision_id,
            "features_off": sorted(admission.features_off), "max_output_tokens": admission.max_output_tokens,
            "mark": admission.mark, "error": None if admission.passes else error_of(admission),
        }  # fmt: skip
        return self._raw(200, msgspec.json.encode(said), [(b"content-type", _JSON.encode())])

    async def _settle(self, http: Any) -> Any:
        given = await self._read(http, Settle)
        settled = await self._gate.settle_soon(given.decision_id, given.used)
        return self._raw(200, msgspec.json.encode({"settled": settled}), [(b"content-type", _JSON.encode())])

    async def _guard(self, http: Any) -> Any:
        """LiteLLM's generic guardrail: a request is judged, a response passes, whatever fields come with them."""
        given = await self._read(http, Guarded)
        if given.input_type == "response":
            return self._guarded("NONE", None)
        data = {name: value for name, value in (given.request_data or {}).items() if isinstance(value, str) and value}
        known = (data.get(f"user_api_key_{name}", "") for name in ("user_id", "team_id", "org_id", "hash"))
        account = next((name for name in known if name not in NOBODY), ANONYMOUS)
        n_bytes = sum(len(text.encode("utf-8", "replace")) for text in given.texts or ())
        wanted = replace(asked("/chat/completions", {"model": given.model, "tools": given.tools}, n_bytes), n_answers=0)
        forwarded = [(b"x-forwarded-for", _header(given.request_headers or {}, "x-forwarded-for"))]
        peer = http.client.host if http.client else None
        caller = self._callers.request(peer, forwarded, wanted, self._clock())
        # Whoever asks is LiteLLM itself; unless it passes the header on, nobody knows the client's address.
        ip = caller.ip if forwarded[0][1] else None
        request = replace(caller, account_id=account[:256], org_id=data.get("user_api_key_org_id"), ip=ip)
        admission = await self._gate.admit_soon(request)
        if admission.passes:
            return self._guarded("NONE", None)
        return self._guarded("BLOCKED", str(error_of(admission)["message"]) + f" ({admission.appeal_id})")

    def _guarded(self, action: str, why: str | None) -> Any:
        said = msgspec.json.encode({"action": action, "blocked_reason": why, "texts": None})
        return self._raw(200, said, [(b"content-type", _JSON.encode())])

    async def _health(self, _http: Any) -> Any:
        ledger = self._gate.ledger
        status, word = (200, "ok") if ledger.failure is None else (503, "failing")
        said = {"status": word, "decisions_lost": ledger.n_lost, "journal": ledger.journal,
                "requests_unread": self._gate.n_unread}  # fmt: skip
        return self._raw(status, msgspec.json.encode(said), [(b"content-type", _JSON.encode())])

    async def _document(self, _http: Any) -> Any:
        return self._raw(200, msgspec.json.encode(document()), [(b"content-type", _JSON.encode())])

    async def _read(self, http: Any, kind: type[Any]) -> Any:
        try:
            read = msgspec.json.decode(await receive_body(http.receive, at_most=LARGEST_BODY_BYTES))
            if isinstance(read, dict):
                # To JSON, 1.0 is a whole number too.
                read |= {name: int(n) for name, n in read.items() if isinstance(n, float) and n.is_integer()}
            return msgspec.convert(read, kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refused(400, f"the body is not what this address takes: {error}") from error

    def _error(self, status: int, says: str, headers: Mapping[str, str] | None = None) -> Any:
        return self._response(_problem(says), status, headers=headers, media_type=_JSON)

    def _raw(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> Any:
        answer = self._response(body, status)
        answer.raw_headers += headers if status == 200 else [(b"content-type", _JSON.encode()), *headers]
        return answer


def _header(headers: Mapping[str, Any], name: str) -> bytes:
    # LiteLLM shows [present] instead of what it was not told to pass on.
    value = next((str(value) for key, value in headers.items() if key.lower() == name), "")
    return b"" if value == "[present]" else value.encode("latin-1", "replace")


def _problem(says: str) -> bytes:
    return msgspec.json.encode({"error": {"type": "stillwatch", "code": "bad_request", "message": says}})
