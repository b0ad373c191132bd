"""importers: rows a second that one core reads from each format, against decoding the same records and no more.

    python benchmarks/importers.py [--rows 20000] [--runs 5] [--write benchmarks/importers.md]

Every row is a conversation of its own: a system prompt, a prompt and an answer of some hundred characters, in records
as large as the programs write them (LiteLLM's with its price table). Reading is `open_logs(...).batches()`: recognise,
decode, map, conform, with all canonical columns. Time is that of the reading thread; the files' fingerprints, which
another thread works out beside it, are not in it. The peer is `msgspec.json.decode` of each line into plain objects,
and for OTLP in protobuf `ParseFromString` of each export by opentelemetry-proto, where that is installed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stillwatch.ingest.formats import protobuf
from stillwatch.ingest.source import open_logs
from tests import conversation as one

try:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Export
except ImportError:
    Export = None

BAR_ROWS = 50_000
SEED = 1
WORDS = "the how many river of answer with stone to measure a long while and kilometre then write each step".split()


def records(n: int) -> dict[str, Callable[[int, str, str], Any]]:
    """A maker of the nth record of each format, given a prompt and an answer."""
    turns = one.REQUEST["messages"][:1]

    def request(prompt: str) -> Any:
        return one.REQUEST | {"messages": [*turns, {"role": "user", "content": prompt}]}

    def response(n: int, answer: str) -> Any:
        choice = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": answer}}
        return one.RESPONSE | {"id": f"chatcmpl-{n}", "choices": [choice]}

    def litellm(n: int, prompt: str, answer: str) -> Any:
        record = one.litellm() | {"litellm_call_id": f"call-{n}", "startTime": one.WHEN.timestamp() + n}
        record["metadata"] = record["metadata"] | {"user_api_key_user_id": f"acct-{n % 997}"}
        return record | {"messages": request(prompt)["messages"], "response": response(n, answer)}

    def spend(n: int, prompt: str, answer: str) -> Any:
        record = one.spend_log() | {"litellm_call_id": f"call-{n}", "user": f"acct-{n % 997}"}
        return record | {"proxy_server_request": request(prompt), "response": response(n, answer)}

    def openai(n: int, prompt: str, answer: str) -> Any:
        record = one.batch_line() | {"request_id": f"call-{n}", "account_id": f"acct-{n % 997}"}
        return record | {"request": request(prompt), "response": {"status_code": 200, "body": response(n, answer)}}

    def otlp(n: int, prompt: str, answer: str) -> Any:
        asked = [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
        said = [{"role": "assistant", "parts": [{"type": "text", "content": answer}], "finish_reason": "stop"}]
        told = {"user.id": f"acct-{n % 997}", "gen_ai.response.id": f"call-{n}"}
        content = {"gen_ai.input.messages": json.dumps(asked), "gen_ai.output.messages": json.dumps(said)}
        return one.spans(one.NEW_NAMES | told | content)

    def envoy(n: int, prompt: str, answer: str) -> Any:
        return one.access_log() | {"x-request-id": f"request-{n}", "x-account-id": f"acct-{n % 997}"}

    def langfuse(n: int, prompt: str, answer: str) -> Any:
        said = {"role": "assistant", "content": answer}
        record = one.langfuse() | {"id": f"call-{n}", "user_id": f"acct-{n % 997}"}
        return record | {"input": json.dumps(request(prompt)["messages"]), "output": json.dumps(said)}

    def helicone(n: int, prompt: str, answer: str) -> Any:
        record = one.helicone() | {"request_id": f"call-{n}", "user_id": f"acct-{n % 997}"}
        bodies = {"request_body": json.dumps(request(prompt)), "response_body": json.dumps(response(n, answer))}
        return record | bodies

    def own(n: int, prompt: str, answer: str) -> Any:
        row = one.ROW | {"ts": one.WHEN.isoformat(), "exchange_id": f"call-{n}", "account_id": f"acct-{n % 997}"}
        return (
            {"stillwatch": 1} | row | {"messages": request(prompt)["messages"], "prompt": prompt, "completion": answer}
        )

    return {
        "litellm": litellm, "spendlogs": spend, "openai": openai, "otlp": otlp, "envoy": envoy, "langfuse": langfuse,
        "helicone": helicone, "exchangelog": own,
    }  # fmt: skip


def write(path: Path, make: Callable[[int, str, str], Any], n_rows: int) -> None:
    """Write a log of `n_rows` records."""
    chance = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for n in range(n_rows):
            prompt, answer = (" ".join(chance.choices(WORDS, k=k)) for k in (40, 80))
            file.write(json.dumps(make(n, prompt, answer)) + "\n")


def field(number: int, value: bytes | int | float) -> bytes:
    """A field of a protobuf message: bytes behind their length, a number as a varint, a fraction as eight bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """A number, seven bits to a byte."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def any_value(value: Any) -> bytes:
    """A value of OTLP/JSON as protobuf."""
    ((name, told),) = value.items()
    if name == "arrayValue":
        return field(5, b"".join(field(1, any_value(one)) for one in told["values"]))
    if name == "stringValue":
        return field(1, told.encode())
    return field(3, int(told)) if name == "intValue" else field(4, float(told))


def encoded(export: Any) -> bytes:
    """An export of one span as protobuf."""
    span = export["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    pairs = [field(1, pair["key"].encode()) + field(2, any_value(pair["value"])) for pair in span["attributes"]]
    ids = field(1, bytes.fromhex(span["traceId"])) + field(2, bytes.fromhex(span["spanId"]))
    start = varint(7 << 3 | 1) + struct.pack("<Q", int(span["startTimeUnixNano"]))
    inside = ids + field(5, span["name"].encode()) + start + b"".join(field(9, pair) for pair in pairs)
    return field(1, field(2, field(2, inside)))


def write_protobuf(path: Path, make: Callable[[int, str, str], Any], n_rows: int) -> None:
    """Write the same exports in protobuf, each behind its length."""
    written = path.with_suffix(".jsonl")
    write(written, make, n_rows)
    with path.open("wb") as file, written.open("rb") as lines:
        for line in lines:
            export = encoded(json.loads(line))
            file.write(len(export).to_bytes(4, "big") + export)
    written.unlink()


def read(path: Path, n_rows: int) -> float:
    """Seconds of the reading thread for all rows."""
    source = open_logs([path], now=datetime(2026, 11, 21, tzinfo=UTC))
    source.describe()
    started = time.thread_time()
    n = sum(batch.num_rows for batch in source.batches())
    seconds = time.thread_time() - started
    assert n == n_rows and not source.rejects(), source.rejects()
    return seconds


def decode(path: Path) -> float:
    """Seconds to decode each record of a log, and no more; not a number where what decodes it is not installed."""
    if path.suffix == ".jsonl":
        records, decoded = path.read_bytes().splitlines(), msgspec.json.Decoder().decode
    elif Export is None:
        return math.nan
    else:
        records, decoded = protobuf.exports(path.read_bytes())[0], Export.FromString
    started = time.thread_time()
    for record in records:
        decoded(record)
    return time.thread_time() - started


def main() -> None:
    """Measure and print a table; `--write` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="one format")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        f"# Importers: {options.rows:,} rows of each format on one core",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"msgspec {msgspec.__version__}, seed {SEED}. Load average when it began: {os.getloadavg()[0]:.1f}.",
        f"Command: `python benchmarks/importers.py --write benchmarks/importers.md`; bar: {BAR_ROWS:,} rows a second.",
        "",
        "| format | bytes a row | rows a second, median | best of the runs | MB a second | time, of plain decoding |",
        "|---|---|---|---|---|---|",
    ]
    below: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        makers = records(options.rows)
        makers["otlp, protobuf"] = makers["otlp"]
        for name, make in makers.items():
            if options.only in (None, name):
                is_json = not name.endswith("protobuf")
                path = Path(folder) / f"{name}.{'jsonl' if is_json else 'binpb'}"
                (write if is_json else write_protobuf)(path, make, options.rows)
                read(path, options.rows)
                pairs = [(read(path, options.rows), decode(path)) for _ in range(options.runs)]
                middle, best = statistics.median(a for a, _ in pairs), min(a for a, _ in pairs)
                ratio = statistics.median(a / b for a, b in pairs)
                size = path.stat().st_size
                rates = f"{options.rows / middle:,.0f} | {options.rows / best:,.0f} | {size / middle / 1e6:,.0f}"
                lines.append(f"| {name} | {size // options.rows:,} | {rates} | {ratio:.2f} |".replace("nan", "-"))
                below += [name] if options.rows / middle < BAR_ROWS else []
                print(lines[-1], flush=True)
                path.unlink()
    lines += ["", f"Below the bar in this run: {', '.join(below) or 'none'}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
