"""The real programs: LiteLLM, Envoy, an OpenTelemetry exporter and PostgreSQL log one conversation, and it scans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stillwatch.ingest.source import open_logs
from stillwatch.ingest.spendlogs import SpendLogs
from stillwatch.receive.middleware import ExchangeLog
from stillwatch.records import EXCHANGES
from tests import conversation as one
from tests.conftest import ROOT
from tests.receive import programs
from tests.receive.asgi import call
from tests.receive.database import ALWAYS, Database

pytestmark = pytest.mark.services

HEADERS = {
    "Authorization": "Bearer sk-customer", "User-Agent": one.USER_AGENT, "x-account-id": one.ACCOUNT,
    "x-forwarded-for": one.IP, "x-litellm-session-id": one.SESSION,
}  # fmt: skip

N_MORE, N_FAILED = 20, 4

ROUTES = (
    "LiteLLM file", "LiteLLM push", "LiteLLM SpendLogs", "LiteLLM OTLP", "Envoy", "LiteLLM + Envoy", "middleware",
    "OpenTelemetry SDK",
)  # fmt: skip


class Logged(NamedTuple):
    """The folder every route wrote to, and when that began."""

    folder: Path
    since: datetime

    @property
    def payloads(self) -> Path:
        return self.folder / "payloads.jsonl"

    @property
    def access(self) -> Path:
        return self.folder / "access.jsonl"

    @property
    def pushed(self) -> Path:
        return self.folder / "received" / "litellm"

    @property
    def spans(self) -> Path:
        return self.folder / "received" / "otlp"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """Traffic through a real Envoy and a real LiteLLM, which log by every route they have."""
    programs.needed("envoy", "envoy")
    logs = Logged(tmp_path_factory.mktemp("real"), datetime.now(UTC))
    with (
        programs.receiver(logs.folder) as push_to,
        programs.litellm(logs.folder, push_to) as proxy,
        programs.envoy(logs.folder, proxy) as (address, _),
    ):
        url = f"{address}/v1/chat/completions"
        status, said = programs.post(url, one.REQUEST, HEADERS)
        assert status == 200, said
        programs.wait_for(lambda: _n_lines(logs.pushed), what="the push of the conversation")
        for n in range(N_MORE):
            model = "nosuch" if n < N_FAILED else "orion"
            more = {"model": model, "messages": [{"role": "user", "content": f"Question {n}"}]}
            programs.post(url, more, HEADERS | {"x-account-id": f"acct-{100 + n}"})
        for path in (logs.payloads, logs.access, logs.spans):
            programs.wait_for(partial(_has_lines, path), what=f"every line of {path.name}")
    yield logs


def _n_lines(path: Path) -> int:
    files = path.glob("*.jsonl") if path.is_dir() else [path] if path.is_file() else []
    return sum(file.read_bytes().count(b"\n") for file in files)


def _has_lines(path: Path) -> bool:
    return _n_lines(path) > N_MORE


def read(*paths: Path) -> list[dict[str, Any]]:
    """All rows, of which none may be rejected but for being no call."""
    source = open_logs(paths, now=datetime.now(UTC) + timedelta(hours=1))
    rows = [row for batch in source.batches() for row in batch.to_pylist()]
    assert set(source.rejects()) <= {"not_an_exchange", "account_id_missing"}, source.rejects()
    return rows


def the_one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the conversation among others."""
    found = [row for row in rows if row["account_id"] == one.ACCOUNT]
    assert len(found) == 1, rows
    return found[0]


def scanned(logs: Path, out: Path) -> dict[str, Any]:
    """What `stillwatch scan` says of some logs."""
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "stillwatch", "scan", str(logs), "--out", str(out), "--json"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_litellm_logs_scan(logged: Logged, tmp_path: Path) -> None:
    """Payloads that a real proxy's callback wrote are all read, failures among them, and they scan."""
    rows = read(logged.payloads)
    assert len(rows) == N_MORE + 1
    assert [row["status"] for row in rows].count("400") == N_FAILED
    assert scanned(logged.payloads, tmp_path / "out")["counts"]["rows_kept"] == N_MORE + 1


def test_pushed_rows_are_those_of_the_files(logged: Logged, tmp_path: Path) -> None:
    """What LiteLLM pushed to the receiver is, row for row, what its callback wrote into a file, and it scans.

    LiteLLM's generic logger forgets what it is given while it sends a batch, so not every row need be there.
    """
    pushed, files = ({str(row["exchange_id"]): row for row in read(path)} for path in (logged.pushed, logged.payloads))
    assert pushed and pushed == {name: files[name] for name in pushed}
    assert scanned(logged.pushed, tmp_path / "out")["counts"]["rows_kept"] == len(pushed)


def test_spans_of_a_real_exporter_scan(logged: Logged, tmp_path: Path) -> None:
    """LiteLLM's own spans, sent by OpenTelemetry's exporter as protobuf, name the same exchanges, and they scan."""
    told = {row["exchange_id"] for row in read(logged.spans)}
    assert told >= {row["exchange_id"] for row in read(logged.payloads)}
    assert scanned(logged.spans, tmp_path / "out")["counts"]["rows_kept"] >= N_MORE + 1


def test_a_real_envoy_log_scans_and_joins(logged: Logged, tmp_path: Path) -> None:
    """The access log scans alone; with LiteLLM's log every request is one exchange, not two."""
    assert scanned(logged.access, tmp_path / "out")["counts"]["rows_kept"] >= N_MORE + 1
    calls = [row for row in read(logged.payloads, logged.access) if row["access_path"] == "chat"]
    assert len(calls) == N_MORE + 1


@pytest.fixture(scope="module")
def database(logged: Logged, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with LiteLLM's own tables, and the rows its own code made for them."""
    rows = [json.loads(line) for line in (logged.folder / "spend.jsonl").read_text("utf-8").splitlines()]
    with Database.made(programs.needed("litellm", "litellm")) as made:
        for row in rows:
            made.insert("LiteLLM_SpendLogs", row)
        yield made


def spent(database: Database) -> list[dict[str, Any]]:
    """All rows of the spend logs."""
    logs = SpendLogs(database.url)
    return [row for batches, _ in logs.pages(ALWAYS) for batch in batches for row in batch.to_pylist()]


def test_spend_logs_of_a_real_database_scan(logged: Logged, database: Database, tmp_path: Path) -> None:
    """SpendLogs in tables of LiteLLM's schema give the exchanges of the payloads, and what is imported scans."""
    answered = {row["exchange_id"] for row in read(logged.payloads) if row["status"] == "200"}
    assert {row["exchange_id"] for row in spent(database)} == answered
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "stillwatch", "import", database.url, "--out", str(tmp_path / "logs")]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert scanned(tmp_path / "logs" / "exchanges", tmp_path / "out")["counts"]["rows_kept"] == len(answered)


SDK = """
import json, sys
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

endpoint, token, attributes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
provider = TracerProvider(resource=Resource.create({"service.name": "gateway"}))
exporter = OTLPSpanExporter(endpoint=endpoint, headers={"Authorization": f"Bearer {token}"})
provider.add_span_processor(SimpleSpanProcessor(exporter))
with provider.get_tracer("gateway").start_as_current_span("chat orion", attributes=attributes):
    pass
provider.shutdown()
"""


@pytest.fixture(scope="module")
def from_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the receiver wrote of a span by the real SDK and exporter."""
    python = str(Path(programs.needed("otel", "opentelemetry-instrument")).with_name("python"))
    folder = tmp_path_factory.mktemp("sdk")
    with programs.receiver(folder) as address:
        words = [python, "-c", SDK, f"{address}/v1/traces", programs.TOKEN, json.dumps(one.NEW_NAMES)]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
    return folder / "received" / "otlp"


def test_a_real_exporter_tells_all(from_sdk: Path) -> None:
    """A span that the real SDK exports as protobuf arrives as the whole row."""
    told = the_one(read(from_sdk))
    lacking = ("ts", "tls_fingerprint", "exchange_id")
    assert {k: v for k, v in told.items() if k not in lacking} == {k: v for k, v in one.ROW.items() if k not in lacking}


def middleware_row(folder: Path) -> dict[str, Any]:
    """The row that our middleware writes of the conversation, before a server that answers as LiteLLM's mock does."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(one.RESPONSE).encode()})

    app = ExchangeLog(server, folder=folder, keep_text=True, account_header="x-account-id", key=bytes(range(32)))
    call(app, "/v1/chat/completions", json.dumps(one.REQUEST).encode(), HEADERS, client=one.IP)
    (row,) = read(folder)
    return row


def _cell(name: str, told: Any, gateways: Any) -> str:
    """Whether a route says what the others say; ids are the gateway's, or the route's own."""
    if told is None:
        return ""
    return "own" if name in ("exchange_id", "api_key_id") and told != gateways else "same"


def test_one_conversation_over_every_route(logged: Logged, database: Database, from_sdk: Path, tmp_path: Path) -> None:
    """Every route gives the row of the conversation, apart from what it lacks: the table in docs/import.md."""
    rows = dict(
        zip(
            ROUTES,
            [
                the_one(read(logged.payloads)), the_one(read(logged.pushed)), the_one(spent(database)),
                the_one(read(logged.spans)), the_one(read(logged.access)),
                the_one(read(logged.payloads, logged.access)),
                middleware_row(tmp_path / "middleware"), the_one(read(from_sdk)),
            ],
            strict=True,
        )
    )  # fmt: skip
    # The mock upstream counts one token each way.
    mocked = {"input_tokens": {1, 11}, "output_tokens": {1, 3}}
    for route, row in rows.items():
        for name in EXCHANGES.names:
            if row[name] is not None and name not in ("ts", "exchange_id", "api_key_id"):
                assert row[name] in mocked.get(name, [one.ROW[name]]), (route, name, row[name])
        assert abs(row["ts"] - logged.since) < timedelta(minutes=10)
    lines = ["| column | " + " | ".join(rows) + " |", "| --- |" + " --- |" * len(rows)]
    for name in EXCHANGES.names:
        cells = [_cell(name, row[name], rows[ROUTES[0]][name]) for row in rows.values()]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    written = (ROOT / "docs" / "import.md").read_text("utf-8").partition("<!-- routes -->\n")[2].partition("\n\n")[0]
    assert written == "\n".join(lines), "\n" + "\n".join(lines)
