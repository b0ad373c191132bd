"""listener: a receiver on a port: connections that say nothing are ended, so that no stranger uses up their number.

uvicorn waits for ever for a request that was begun and not ended. Here a connection has a time in which to send a
whole request head, also after each answer; and where too many are open, the one that has waited longest goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stillwatch.extras import require

HEAD_S = 10.0
"""How long a connection may take to send the head of a request."""

MOST_CONNECTIONS = 512
"""Open at one time; a process may open 1024 files unless it is told otherwise."""

GRACE_S = 5
"""How long requests on their way are waited for when the program is ended; none that is cut off was acknowledged."""


@dataclass(slots=True)
class Patience:
    """What the connections of one server share. `waiting`: those with no request on its way, the longest first."""

    head_s: float = HEAD_S
    most: int = MOST_CONNECTIONS
    n_open: int = 0
    waiting: dict[Connection, asyncio.TimerHandle] = field(default_factory=dict)

    def wait(self, connection: Connection) -> None:
        """Give a connection time to send a head, unless that time runs already."""
        if connection not in self.waiting:
            loop = asyncio.get_running_loop()
            self.waiting[connection] = loop.call_later(self.head_s, connection.give_up)

    def go_on(self, connection: Connection) -> None:
        """Let a connection take its time."""
        timer = self.waiting.pop(connection, None)
        if timer is not None:
            timer.cancel()


class Connection(asyncio.Protocol):
    """One connection: uvicorn's own protocol, `inner`, watched."""

    def __init__(self, inner: Any, patience: Patience) -> None:
        self._inner, self._patience = inner, patience
        self._transport: Any = None
        self._complete: Callable[[], None] = inner.on_response_complete
        inner.on_response_complete = self._answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait; where too many are open, end the one that waits longest."""
        self._transport = transport
        self._inner.connection_made(transport)
        self._patience.n_open += 1
        self._patience.wait(self)
        if self._patience.n_open > self._patience.most:
            next(iter(self._patience.waiting)).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._patience.n_open -= 1
        self._patience.go_on(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait no longer once a request is on its way; bytes that complete no head do not prolong it."""
        self._inner.data_received(data)
        cycle = self._inner.cycle
        if cycle is not None and not cycle.response_complete:
            self._patience.go_on(self)
        elif not self._transport.is_closing():
            self._patience.wait(self)

    def eof_received(self) -> bool | None:
        """Hand it on."""
        told: bool | None = self._inner.eof_received()
        return told

    def pause_writing(self) -> None:
        """Hand it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._inner.resume_writing()

    def give_up(self) -> None:
        """End the connection."""
        self._patience.go_on(self)
        self._transport.abort()

    def _answered(self) -> None:
        self._complete()
        if not self._transport.is_closing():
            self._patience.wait(self)


def server(app: Any, patience: Patience | None = None) -> Any:
    """A server of `app`, not yet running; `run([socket])` ends by SIGINT or SIGTERM once what was on its way is done.

    It then raises the signal again, as uvicorn does. Raises ExtraMissing without the extra `receive`.
    """
    uvicorn = require("uvicorn", "receive")
    protocol = require("uvicorn.protocols.http.h11_impl", "receive").H11Protocol
    shared = patience or Patience()
    config = uvicorn.Config(
        app, http=lambda **given: Connection(protocol(**given), shared), ws="none", log_level="warning",
        access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return uvicorn.Server(config)
