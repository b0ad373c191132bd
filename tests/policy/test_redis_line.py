"""An event loop's line to Redis: answers go to who asked, whoever leaves meanwhile and whenever the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import BudgetsError
from stillwatch.policy.budgets import Charge, Limit
from stillwatch.policy.budgets_redis import RedisBudgets
from stillwatch.policy.redis_line import Line, packed
from tests.needs import needs_module
from tests.policy.stores import SECRET, URL, own_redis, server
from tests.receive.programs import free_port

pytestmark = pytest.mark.services


@asynccontextmanager
async def line(url: str = URL, timeout_s: float = 10) -> AsyncIterator[Line]:
    """A line to the real Redis, or to whatever listens there."""
    redis = needs_module("redis.asyncio", "redis.asyncio")
    refusal = needs_module("redis", "redis").ResponseError
    made = Line(redis.ConnectionPool.from_url(url).make_connection(), timeout_s=timeout_s, refusal=refusal)
    try:
        yield made
    finally:
        await made.close()


async def both(asked: Sequence[Any]) -> list[Any]:
    """What each came to, its exception where it was one."""
    return await asyncio.gather(*asked, return_exceptions=True)


def echo(text: str) -> bytes:
    return packed([b"ECHO", text.encode()])


def test_everyone_gets_their_own_answer() -> None:
    """Many asked at once, in several turns, of which some are refused: each gets what it asked for."""
    server()

    async def run() -> None:
        async with line() as one:
            asked = [one.ask(echo(f"\r\n$5\r\n{n}") if n % 3 else packed([b"NOSUCH"])) for n in range(300)]
            first = asyncio.gather(*asked[:100], return_exceptions=True)
            await one.ask(packed([b"PING"]))
            said = await first + await both(asked[100:])
        for n, answer in enumerate(said):
            if n % 3:
                assert answer == f"\r\n$5\r\n{n}".encode()
            else:
                assert "unknown command" in str(answer)

    asyncio.run(run())


def test_who_leaves_takes_no_answer_of_others() -> None:
    """A caller that is cancelled while its command is under way shifts nobody's answer."""
    server()

    async def run() -> None:
        async with line() as one:
            await one.ask(echo("connected"))
            tasks = [asyncio.create_task(one.ask(echo(str(n)))) for n in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            said = await both(tasks)
            assert await one.ask(echo("after")) == b"after"
        assert said[1::2] == [str(n).encode() for n in range(1, 50, 2)]
        assert all(isinstance(answer, asyncio.CancelledError) for answer in said[::2])

    asyncio.run(run())


Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Any]


@asynccontextmanager
async def listening(answers: Answers) -> AsyncIterator[int]:
    """A server of the test's own; `answers` is called with the number of the connection."""
    n = 0

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n
        n += 1
        try:
            await answers(reader, writer, n)
        finally:
            writer.close()

    port = free_port()
    listener = await asyncio.start_server(met, "127.0.0.1", port)
    try:
        yield port
    finally:
        listener.close()


async def _shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
    """Answer a client's greetings as an old Redis would, up to its first command, whose words it returns."""
    while True:
        n = int((await reader.readline())[1:])
        words = []
        for _ in range(n):
            length = int((await reader.readline())[1:])
            words.append((await reader.readexactly(length + 2))[:-2])
        if words[0].upper() not in (b"HELLO", b"CLIENT", b"SELECT"):
            return words
        writer.write(b"-ERR unknown command\r\n" if words[0].upper() == b"HELLO" else b"+OK\r\n")


def test_a_server_that_hangs_up_in_the_middle_is_an_error_for_all_that_wait() -> None:
    """Half of the answers came: the others get an error, none gets a neighbour's; the next call connects anew."""
    needs_module("redis", "redis")

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        await _shake_hands(reader, writer)
        writer.write(b":1\r\n:2\r\n:" if n == 1 else b":7\r\n")
        await writer.drain()
        if n > 1:
            await reader.read()

    async def run() -> None:
        async with listening(answers) as port, line(f"redis://127.0.0.1:{port}/?protocol=2") as one:
            said = await both([one.ask(echo(str(n))) for n in range(5)])
            assert said[:2] == [1, 2]
            assert [isinstance(answer, Exception) for answer in said] == [False, False, True, True, True]
            assert await one.ask(echo("again")) == 7

    asyncio.run(run())


def test_a_server_that_says_nothing_is_an_error_in_time() -> None:
    """Those under way and those who wait behind them are told after one timeout, and the connection is not used on."""
    needs_module("redis", "redis")

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> None:
        await _shake_hands(reader, writer)
        if n > 1:
            writer.write(b":7\r\n")
            await writer.drain()
        await reader.read()

    async def run() -> None:
        url = "redis://127.0.0.1:{}/?protocol=2"
        async with listening(answers) as port, line(url.format(port), timeout_s=0.3) as one:
            first = asyncio.create_task(one.ask(echo("1")))
            await asyncio.sleep(0)
            said = await both([first, one.ask(echo("2")), one.ask(echo("3"))])
            assert [type(answer) for answer in said] == [TimeoutError] * 3
            assert await one.ask(echo("late")) == 7

    asyncio.run(run())


def test_a_stale_connection_takes_nothing_twice(tmp_path: Path) -> None:
    """A connection that Redis closed meanwhile is made anew; what is asked again under its lease costs once."""
    server()
    limit, port = Limit(1, 3_600_000, 10), free_port()

    async def run() -> None:
        budgets = RedisBudgets(f"redis://127.0.0.1:{port}/0", secret=SECRET, timeout_s=10)
        budgets.begin_new()
        assert (await budgets.reserve_soon("1", [Charge("account", "a", limit, 4)])).admitted
        redis = needs_module("redis", "redis").Redis(port=port)
        redis.client_kill_filter(_type="normal", skipme=True)
        redis.close()
        again = [budgets.reserve_soon(lease, [Charge("account", "a", limit, 3)]) for lease in ("2", "3", "3", "4")]
        assert sorted(outcome.admitted for outcome in await asyncio.gather(*again)) == [False, True, True, True]
        await budgets.close_soon()
        budgets.close()

    with own_redis(tmp_path, port):
        asyncio.run(run())


def test_each_event_loop_has_a_line_of_its_own() -> None:
    """Budgets that are asked in one event loop after another answer in each."""
    server()
    budgets = RedisBudgets(URL, secret=SECRET, prefix=f"test-line-{free_port()}", timeout_s=10)

    async def settle() -> bool:
        settled = await budgets.settle_soon("unknown", 0)
        await budgets.close_soon()
        return settled

    assert [asyncio.run(settle()) for _ in range(3)] == [False] * 3
    budgets.close()


def test_many_at_once_get_no_more_than_there_is() -> None:
    """Calls that travel together are still judged one by one."""
    server()

    async def run() -> int:
        budgets = RedisBudgets(URL, secret=SECRET, prefix=f"test-line-{free_port()}", timeout_s=30)
        budgets.begin_new()
        asked = [
            budgets.reserve_soon(str(n), [Charge("account", "a", Limit(1, 86_400_000, 100), 7)]) for n in range(500)
        ]
        admitted = sum(outcome.admitted for outcome in await asyncio.gather(*asked))
        await budgets.close_soon()
        budgets.close()
        return admitted

    assert asyncio.run(run()) == 100 // 7


def test_nobody_there_is_an_error() -> None:
    """A port where nobody listens is said to be one."""
    needs_module("redis", "redis")

    async def run() -> None:
        budgets = RedisBudgets(f"redis://127.0.0.1:{free_port()}/0", secret=SECRET)
        charge = Charge("account", "a", Limit(1, 1000, 10), 1)
        said = await both([budgets.reserve_soon(str(n), [charge]) for n in range(3)])
        assert [type(answer) for answer in said] == [BudgetsError] * 3
        await budgets.close_soon()
        budgets.close()

    asyncio.run(run())
