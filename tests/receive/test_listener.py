"""The receiver on a port: nobody uses it up by saying nothing, and whoever ends it loses nothing it acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from stillwatch.ingest.source import open_logs
from stillwatch.ingest.times import as_us
from stillwatch.keys import Secret
from stillwatch.receive import receiver
from stillwatch.receive.listener import Connection, Patience, server
from stillwatch.receive.receiver import Receiver
from stillwatch.receive.spool import Spool
from tests import conversation as one
from tests.conftest import ROOT
from tests.needs import needs_module
from tests.receive import programs

PUSH = "/v1/logs/litellm"
GIVEN = {"Authorization": f"Bearer {programs.TOKEN}"}
HALF = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {programs.TOKEN}\r\nContent-Length: 100\r\n\r\n{{"


class Inner:
    """A protocol that answers nothing: what it was given, and whether a request is on its way."""

    def __init__(self) -> None:
        self.cycle: Any = None
        self.given: list[bytes] = []
        self.on_response_complete: Callable[[], None] = lambda: None

    def connection_made(self, _transport: Any) -> None: ...

    def connection_lost(self, _exc: Exception | None) -> None: ...

    def data_received(self, data: bytes) -> None:
        self.given.append(data)


class Cycle:
    """A request on its way, or answered."""

    def __init__(self, *, response_complete: bool) -> None:
        self.response_complete = response_complete


class Transport(asyncio.Transport):
    """A transport that only notes its end."""

    is_over = False

    def abort(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return self.is_over


def test_bytes_without_a_request_gain_no_time() -> None:
    """The time for a head runs from the opening, and after an answer; not from the last byte, not during a request."""

    async def lived() -> None:
        patience, inner = Patience(head_s=1000), Inner()
        connection = Connection(inner, patience)
        connection.connection_made(Transport())
        first = patience.waiting[connection]
        connection.data_received(b"POST")
        assert patience.waiting[connection] is first and inner.given == [b"POST"]
        inner.cycle = Cycle(response_complete=False)
        connection.data_received(b" / HTTP/1.1")
        assert not patience.waiting and first.cancelled()
        inner.cycle = Cycle(response_complete=True)
        inner.on_response_complete()
        second = patience.waiting[connection]
        connection.data_received(b"rest of a refused body")
        assert patience.waiting[connection] is second
        connection.connection_lost(None)
        assert not patience.waiting and patience.n_open == 0

    asyncio.run(lived())


@contextmanager
def listening(folder: Path, patience: Patience, patience_s: float = 0.05) -> Iterator[int]:
    """A receiver on a port of its own, in a thread."""
    needs_module("receive", "uvicorn")
    spools = {"litellm": Spool(folder, key=None, name="part")}
    latest = as_us(datetime(2026, 11, 22, tzinfo=UTC))
    app = Receiver(spools, token=Secret(programs.TOKEN.encode()), latest=lambda: latest, patience_s=patience_s)
    running = server(app, patience)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(60)
            spools["litellm"].close()
    assert not thread.is_alive()


def pushed(connection: HTTPConnection, call_id: str) -> int:
    """The answer to one payload."""
    connection.request("POST", PUSH, json.dumps(one.litellm() | {"litellm_call_id": call_id}), GIVEN)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def ended(connection: socket.socket) -> bytes:
    """What the server said before it ended a connection; fails where it does not."""
    connection.settimeout(60)
    said = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(4096):
            said += piece
    return said


def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """Connections that say nothing, or half a head, are ended; one that asks is answered, more than once."""
    with listening(tmp_path, Patience(head_s=0.05)) as port:
        for says in (b"", b"POST /v1/lo", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: "):
            with socket.create_connection(("127.0.0.1", port)) as silent:
                silent.sendall(says)
                assert ended(silent) == b""
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            assert [pushed(client, f"c{n}") for n in range(3)] == [200, 200, 200]


def test_a_body_half_sent_ends(tmp_path: Path) -> None:
    """A body that stops half way is answered with 408 and its connection closed."""
    with listening(tmp_path, Patience()) as port, socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(HALF.encode())
        assert ended(half).startswith(b"HTTP/1.1 408 ")


def test_a_flood_of_connections_shuts_nobody_out(tmp_path: Path) -> None:
    """Beyond the number allowed the longest silent one is ended, so that whoever speaks is heard."""
    with listening(tmp_path, Patience(most=4, head_s=1000)) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            assert pushed(client, "c") == 200
        assert [ended(one) for one in silent[:8]] == [b""] * 8
        for one_ in silent:
            one_.close()


@pytest.mark.services
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_end_loses_nothing_acknowledged(how: signal.Signals, tmp_path: Path) -> None:
    """Ended amid pushes from four senders, one of them half way, it ends well, and every acknowledged row is there."""
    needs_module("receive", "uvicorn")
    port = programs.free_port()
    environ = os.environ | {
        "PYTHONPATH": str(ROOT / "src"), "STILLWATCH_HOME": str(tmp_path / "home"),
        "STILLWATCH_RECEIVE_TOKEN": programs.TOKEN,
    }  # fmt: skip
    words = [sys.executable, "-m", "stillwatch", "receive", "--out", str(tmp_path / "received"), "--port", str(port)]
    program = subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        assert "Listening" in program.stdout.readline()
        known: list[str] = []
        enough = threading.Event()

        def push(sender: int) -> None:
            with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
                for n in range(100_000):
                    if pushed(client, f"s{sender}-{n}") != 200:
                        return
                    known.append(f"s{sender}-{n}")
                    if len(known) >= 40:
                        enough.set()

        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(HALF.encode())
            senders = [threading.Thread(target=push, args=(sender,)) for sender in range(4)]
            for sender in senders:
                sender.start()
            assert enough.wait(60)
            program.send_signal(how)
            _, said = program.communicate(timeout=60)
            for sender in senders:
                sender.join(60)
    finally:
        program.kill()
        program.wait()
    assert program.returncode == 0 and "every row that was acknowledged is on disk" in said, said
    assert "Traceback" not in said
    source = open_logs([tmp_path / "received" / "litellm"], now=datetime.now(UTC) + timedelta(days=1000))
    found = {name for batch in source.batches(columns=["exchange_id"]) for name in batch.column(0).to_pylist()}
    assert set(known) <= found and not source.rejects()


def test_a_client_hears_that_its_body_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends far more than is taken is not cut off before it can read why; the connection then ends."""
    monkeypatch.setattr(receiver, "LARGEST_BODY_BYTES", 1 << 20)
    with listening(tmp_path, Patience(), patience_s=60) as port:
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            client.request("POST", PUSH, b"x" * (24 << 20), GIVEN)
            answer = client.getresponse()
            assert (answer.status, answer.getheader("connection")) == (413, "close")
            assert b"smaller" in answer.read()
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            assert pushed(client, "next") == 200
