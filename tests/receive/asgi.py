"""Calling an ASGI application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Answered(NamedTuple):
    """What an application answered."""

    status: int
    body: bytes
    headers: dict[bytes, bytes]


def call(
    app: Any, path: str, body: bytes | Sequence[bytes], headers: Mapping[str, str] | None = None, method: str = "POST",
    client: str = "127.0.0.1",
) -> Answered:  # fmt: skip
    """Send one request to an application, its body in pieces where it is several."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    waiting = [
        {"type": "http.request", "body": piece, "more_body": n + 1 < len(pieces)} for n, piece in enumerate(pieces)
    ]
    sent: list[Any] = []
    scope = {
        "type": "http", "method": method, "path": path, "client": (client, 4000),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }  # fmt: skip

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start = next(message for message in sent if message["type"] == "http.response.start")
    said = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Answered(start["status"], said, dict(start.get("headers", [])))
