"""A stub of an OpenAI-compatible server on loopback: real HTTP, scripted failures, and a record of what was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stub:
    """What the server does and saw. `script` holds statuses to answer before the first proper reply."""

    reply: Callable[[str], str | None] = lambda prompt: f"You asked: {prompt}"
    script: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    address: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        stub = self.stub
        stub.seen.append({"path": self.path, "headers": dict(self.headers), "body": body})
        status = stub.script.pop(0) if stub.script else 200
        if status == 0:
            self.close_connection = True
            return
        content = (
            self.reply(body) if status == 200 else json.dumps({"error": self.headers.get("Authorization")}).encode()
        )
        self.send_response(status)
        for name, value in (stub.headers if status != 200 else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def reply(self, body: dict[str, Any]) -> bytes:
        if self.stub.raw is not None:
            return self.stub.raw
        message = {"role": "assistant", "content": self.stub.reply(body["messages"][-1]["content"])}
        return json.dumps({"model": body["model"], "choices": [{"index": 0, "message": message}]}).encode()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    """Run the stub on a free port of loopback."""
    handler = type("Handler", (_Handler,), {"stub": stub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stub.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.slept.append(seconds)
        self.seconds += seconds

    def now(self) -> datetime:
        """A made-up time."""
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.seconds)
