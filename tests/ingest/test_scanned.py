"""Plain JSON read without decoding it, against decoding it: the same batches, rejects and notes, whatever the lines."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from stillwatch.ingest.conform import Tally, Window, conform
from stillwatch.ingest.extract import Extractor, row
from stillwatch.ingest.imported import decode, raw
from stillwatch.ingest.importer import importers
from stillwatch.ingest.times import as_us
from stillwatch.records import EXCHANGES
from tests import conversation as one

WINDOW = Window(since=None, until=None, latest=as_us(datetime(2026, 12, 1, tzinfo=UTC)))
PARTS = [{"type": "text", "content": "a"}, {"type": "tool_call", "id": "c", "name": "map", "arguments": {}}]
SAID = [{"role": "assistant", "parts": PARTS, "finish_reason": "tool_call"}]
TURNS: list[Any] = [
    {"role": "user", "content": "ü \"quoted\" \\ \n\t\x00\U0001f600"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "map"}}]},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
]  # fmt: skip
RECORDS: dict[str, list[dict[str, Any]]] = {
    "litellm": [one.litellm(), one.litellm() | {"messages": TURNS}],
    "spendlogs": [
        one.spend_log(),
        one.spend_log() | {"proxy_server_request": json.dumps(one.REQUEST), "response": json.dumps(one.RESPONSE)},
    ],
    "openai": [one.batch_line(), one.batch_line() | {"request": one.REQUEST | {"messages": TURNS}}],
    "langfuse": [one.langfuse(), one.langfuse() | {"input": json.dumps({"messages": TURNS}), "type": "SPAN"}],
    "helicone": [one.helicone(), one.helicone() | {"request_body": json.dumps(one.REQUEST | {"messages": TURNS})}],
    "envoy": [one.access_log(), one.access_log() | {"gen_ai.request.model": "m", "model": "n"}],
    "otlp": [
        one.spans(one.NEW_NAMES),
        one.spans(one.NEW_NAMES | {"gen_ai.output.messages": json.dumps(SAID), "stream": True, "n": 1.5}),
        one.spans(one.NEW_NAMES | {"gen_ai.operation.name": "execute_tool"}),
        one.spans({"http.route": "/x", "gen_ai.input.messages": "what?"}),
        one.spans(one.OLD_NAMES),
        one.details(one.NEW_NAMES),
    ],
    "exchangelog": [{"stillwatch": 1} | one.ROW | {"ts": one.WHEN.isoformat()}],
}
ODD = (
    "null", "true", "false", "0", "-0", "-1", "1.5", "-0.0", "1e5", "1E+05", "1e999", "1e-400", "NaN", "Infinity", "01",
    "1.", "-", "9223372036854775807", "9223372036854775808", "99999999999999999999", "1" * 400, '""', '" "', '"x"',
    '"\\u0000"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u00zz"', '"\\x"', '"ü\u2028"', '"200"',
    '"default_user_id"',
    '"[]"', '"{}"', '"[{}]"', '"{\\"a\\": 1"', '"null"', '"[1, \\"a\\"]"', "[]", "{}", "[[]]",
    "[{}]", "[null]", '[""]', '["a", 5]', '{"a": 1}', '[{"role": "user"}]', '[{"role": 5, "content": "x"}]',
    '[{}, "y"]',
    '[{"role": "user", "content": "x", "content": "y"}]', '[{"role": "user", "content": ["x", {"text": "y"}]}]',
    '"[{\\"role\\": \\"user\\", \\"content\\": \\"x\\"}]"', '{"role": "user", "content": "x"}', "[" * 90 + "]" * 90,
    "[" * 3000 + "]" * 3000, '{"stringValue": "x", "intValue": "5"}', '{"stringValue": "x", "stringValue": null}',
    '{"intValue": "1_0"}', '{"intValue": 1.0}', '{"doubleValue": 3}', '{"doubleValue": "NaN"}', '{"boolValue": true}',
    '{"arrayValue": {"values": [{"stringValue": "a"}, {"kvlistValue": {"values": [{"key": "k", "value": null}]}}]}}',
    '{"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 3}}]}}', '{"arrayValue": {"values": [null]}}',
    "{,}",
)  # fmt: skip


class Decoding(Extractor):
    """An extractor that decodes everything."""

    def scanned(self, lines: bytes) -> None:
        """Nothing."""
        return


def batch(extractor: Extractor, lines: bytes) -> tuple[pa.RecordBatch, dict[str, int], dict[str, int]]:
    """The canonical batch of some lines, with rejects and notes."""
    rejects, notes = Counter[str](), Counter[str]()
    found = extractor.scanned(lines) or extractor.found(decode(lines, extractor, rejects, notes))
    cells = raw(extractor.gathered([found, found]), 0, rejects, notes)
    tally = Tally()
    made = conform(cells.cells, columns=EXCHANGES.names, window=WINDOW, tally=tally)
    beside = {name: cells.cells.get(name) for name in ("request_id", "aside")}
    assert all(value is None or type(value) is list for value in beside.values())
    tally.rejects["beside"] = hash(repr(beside))
    return made, dict(cells.rejects) | tally.rejects, dict(cells.notes) | tally.notes


def mutated(text: str, chance: random.Random) -> bytes:
    """A line with something odd in it: a value, a key, a byte, or a cut."""
    spots = [n for n, char in enumerate(text) if char in ':,{["']
    if len(spots) < 3:
        return text.encode("utf-8", "surrogatepass")
    spot = chance.choice(spots)
    what = chance.randrange(9)
    if what <= 3:
        begin = chance.choice([n for n, char in enumerate(text) if char in ":[,"] or [0]) + 1
        try:
            _, end = json.JSONDecoder().raw_decode(text, begin + text[begin:].startswith(" "))
            text = text[:begin] + chance.choice(ODD) + text[end:]
        except (ValueError, RecursionError):
            text = text[:begin] + text[begin + 1 :]
    elif what == 4:  # a key twice
        begin = chance.choice([n for n, char in enumerate(text) if char == "{"] or [0]) + 1
        end = text.find(":", begin)
        text = text[:begin] + text[begin:end] + ":" + chance.choice(ODD) + "," + text[begin:] if end > 0 else text
    elif what == 5:  # a letter written as an escape, maybe of a key
        letters = [n for n, char in enumerate(text) if char.isalpha() and text[n - 1] != "\\"] or [0]
        at = chance.choice(letters)
        text = f"{text[:at]}\\u{ord(text[at]):04x}{text[at + 1 :]}"
    elif what == 6:
        text = (
            text[:spot] + chance.choice([" ", "\t", "\r", "\x00", "\x0b", "\\", '"', ",", "}", "]", "é"]) + text[spot:]
        )
    elif what == 7:
        text = text[: chance.randrange(len(text))]
    raw_line = text.encode("utf-8", "surrogatepass")
    if what == 8:
        at = chance.randrange(len(raw_line))
        raw_line = raw_line[:at] + bytes([chance.choice([0, 9, 34, 92, 128, 237, 255])]) + raw_line[at + 1 :]
    return raw_line.replace(b"\n", b" ")


def documents(name: str, n: int) -> Iterator[bytes]:
    """Lines of a format: as programs write them, and odd ones."""
    chance = random.Random(f"{name} {n}")
    good = [json.dumps(record, default=str, ensure_ascii=chance.random() < 0.5) for record in RECORDS[name]]
    for _ in range(n):
        lines = []
        for _ in range(chance.randint(1, 3)):
            text = chance.choice(good).encode()
            for _ in range(chance.choice([0, 1, 1, 2])):
                text = mutated(text.decode("utf-8", "replace"), chance)
            lines.append(text)
        yield b"\n".join(lines) + chance.choice([b"", b"\n", b"\n\n", b" \r\n"])


@pytest.mark.parametrize("name", RECORDS)
def test_scanning_finds_what_decoding_finds(name: str) -> None:
    """Lines as programs write them and with anything odd in them give the same batches, rejects and notes."""
    importer = importers()[name]
    scanning, decoding = Extractor(importer, importer.fields), Decoding(importer, importer.fields)
    n_scanned = 0
    for lines in documents(name, 400):
        n_scanned += scanning.scanned(lines) is not None
        got, expected = batch(scanning, lines), batch(decoding, lines)
        assert got[1:] == expected[1:], lines
        assert got[0].equals(expected[0]), lines
    assert n_scanned > 20


@pytest.mark.parametrize("name", RECORDS)
def test_scanning_finds_what_the_pure_function_says(name: str) -> None:
    """A record scanned gives the canonical row that the importer makes of the same record decoded by Python."""
    importer = importers()[name]
    extractor = Extractor(importer, importer.fields)
    for record in RECORDS[name][:2]:
        line = json.dumps(record, default=str).encode()
        assert extractor.scanned(line) is not None
        cells = batch(extractor, line)[0]
        alone = Decoding(importer, importer.fields)
        rows = row(importer, json.loads(line))
        columns = {key: [one[key] for one in rows] * 2 for key in rows[0]} if rows else {}
        if columns:
            made = conform(columns, columns=EXCHANGES.names, window=WINDOW, tally=Tally())
            assert cells.equals(made)
        assert alone.importer is importer
