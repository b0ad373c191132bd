"""redis_line: an event loop's one connection to Redis: what is asked while answers are awaited goes out together, next.

A command costs two system calls and several timers when it is sent alone. Here all that wait share them, so the cost
of one falls as more are asked at once. Commands are answered in the order in which they were asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

Waiting = tuple[bytes, "asyncio.Future[Any]"]


def packed(words: Sequence[bytes]) -> bytes:
    r"""A command as Redis reads it (RESP).

    >>> packed([b"GET", b"a"])
    b'*2\r\n$3\r\nGET\r\n$1\r\na\r\n'
    """
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


class Line:
    """The connection. It belongs to the event loop that runs when it is first asked.

    Args:
        connection: of redis.asyncio, without timeouts of its own; it connects by itself, also after it was lost.
        timeout_s: how long Redis may take for all that was sent together.
        refusal: the exception of redis-py that answers one command; any other ends the connection, and with it every
            command that waits.
    """

    def __init__(self, connection: Any, *, timeout_s: float, refusal: type[Exception]) -> None:
        self._connection, self._timeout_s, self._refusal = connection, timeout_s, refusal
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._sending: asyncio.Task[None] | None = None

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the event loop that runs."""
        return self._loop is asyncio.get_running_loop()

    async def ask(self, command: bytes) -> Any:
        """The answer to one packed command.

        Raises:
            Exception: what redis-py raises; TimeoutError where Redis takes too long. What Redis did is then not known.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((command, future))
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())
        return await future

    async def close(self) -> None:
        """Wait for what is under way, and let go of the connection."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await self._connection.disconnect()

    async def _send(self) -> None:
        try:
            while self._waiting:
                sent, self._waiting = self._waiting, []
                try:
                    await self._turn(sent)
                except BaseException as error:
                    await self._lost(error, [*sent, *self._waiting])
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._sending = None

    async def _turn(self, sent: Iterable[Waiting]) -> None:
        """Send commands and hand their answers out. A caller that went away is no reason to stop."""
        connection = self._connection
        async with asyncio.timeout(self._timeout_s):
            await connection.send_packed_command(b"".join([command for command, _ in sent]), check_health=False)
            for _, future in sent:
                try:
                    answer = await connection.read_response(disable_decoding=True)
                except self._refusal as error:
                    if not future.done():
                        future.set_exception(error)
                else:
                    if not future.done():
                        future.set_result(answer)

    async def _lost(self, error: BaseException, left: Iterable[Waiting]) -> None:
        """No answer can be told from another's any more: all that wait are told, and the connection goes."""
        self._waiting = []
        for _, future in left:
            if not future.done():
                future.set_exception(error if isinstance(error, Exception) else ConnectionError("the connection ended"))
        with suppress(Exception):
            await self._connection.disconnect(nowait=True)
