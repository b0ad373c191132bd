"""traffic: a stretch of the calendar played: who sends when, what, from where; as canonical columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.records import EXCHANGES, TIMESTAMP
from stillwatch.sim.clock import SHAPES, draw_tokens, weekly_weights
from stillwatch.sim.company import Company
from stillwatch.sim.dice import Dice, Flags, Ints, Words
from stillwatch.sim.grammar import strings
from stillwatch.sim.kernels import HOUR_US, choose_exits, sessions, write_addresses
from stillwatch.sim.places import MODELS, hexes
from stillwatch.sim.speech import N_PARTS, SYSTEM, Lines, Speakers, speak, work
from stillwatch.sim.tongues import grammar

COLUMNS: Final = tuple(
    "account_id ts exchange_id api_key_id end_user session_id model access_path system_prompt prompt input_tokens "
    "output_tokens max_tokens temperature ip user_agent tls_fingerprint".split()
)
REPEATED: Final = tuple("model access_path system_prompt user_agent tls_fingerprint".split())
"""Columns whose values repeat; they are handed over as dictionaries."""

SCHEMA: Final = pa.schema(
    [
        pa.field(name, pa.dictionary(pa.int32(), pa.string()) if name in REPEATED else EXCHANGES.field(name).type)
        for name in COLUMNS
    ]
)
BYTES_PER_TOKEN = 3.9
NAMES_SESSIONS: Final = 0.35
"""Share of accounts whose API client sends a session id."""

N_TURNS: Final = 12
"""Turns a client sends along; older ones fall away."""

DOCUMENTATION: Final = np.frombuffer(b"2001:db8:", np.uint8)
WEIGHTS: Final = weekly_weights()


@dataclass(frozen=True, slots=True)
class Rows:
    """Exchanges by time: whose they are, whose conversation they are in, and which turn of it."""

    account: Ints
    origin: Ints
    """The account that began the conversation; the same, but where it was handed over."""
    ts: Ints
    session: Words
    turn: Ints

    def __len__(self) -> int:
        return len(self.ts)

    def dice(self, turn: Ints | None = None) -> Dice:
        """Dice for a turn of each row's conversation, its own if none is given."""
        return Dice(Dice(self.session).word("turn", self.turn if turn is None else turn))


def play_hours(company: Company, low_h: int, high_h: int) -> pa.Table:
    """The exchanges of sessions that begin in a stretch of hours since 1970, by time, as `SCHEMA`.

    Depends on nothing but the company and the hours; memory is linear in its rows, some 1.5 kB each.
    """
    rows = send(company, low_h, high_h)
    dice = rows.dice()
    lines = say_lines(company, rows)
    system = _system_prompts(lines)
    prompt = write_prompts(lines)
    tokens_in, tokens_out = _tokens(company, rows, dice, prompt, system)
    network, host = _leave(company, rows)
    client, cap, heat = pa.array(company.client[rows.account]), company.cap[rows.account], company.heat[rows.account]
    columns = {
        "account_id": company.ids.take(pa.array(rows.account)),
        "ts": pa.array(rows.ts, pa.int64()).cast(TIMESTAMP),
        "exchange_id": hexes(dice.word("id"), prefix="req_", digits=16),
        "api_key_id": _api_keys(company, rows),
        "end_user": _end_users(company, rows),
        "session_id": _session_ids(company, rows),
        "model": pa.DictionaryArray.from_arrays(_models(company, rows, dice), pa.array(MODELS)),
        "access_path": company.clients["access_path"].take(client),
        "system_prompt": system,
        "prompt": prompt,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "max_tokens": pa.array(cap, mask=cap < 0),
        "temperature": pa.array(heat, mask=np.isnan(heat)),
        "ip": strings(*write_addresses(network, host, DOCUMENTATION)),
        "user_agent": company.clients["user_agent"].take(client),
        "tls_fingerprint": company.clients["tls_fingerprint"].take(client),
    }
    if company.stage.messages:
        columns["messages"] = conversations(company, rows)
    return pa.table(columns, schema=schema_of(company))


def schema_of(company: Company) -> pa.Schema:
    """`SCHEMA`, and the conversations where they are written out."""
    return SCHEMA.append(EXCHANGES.field("messages")) if company.stage.messages else SCHEMA


def send(company: Company, low_h: int, high_h: int) -> Rows:
    """Who sends when: the sessions that begin in these hours, some of them handed over, by time."""
    account, ts, session, turn = sessions(company.sessions, WEIGHTS, low_h, high_h, company.stage.end_us)
    order = np.argsort(ts, kind="stable")
    origin, ts, session, turn = account[order], ts[order], session[order], turn[order]
    account = origin.copy()
    conversations = Dice(session)
    for number, part in enumerate(company.parts):
        if part.campaign and part.campaign.handover:
            mine = conversations.flag("handover", part.campaign.handover) & (company.part[origin] == number)
            mine &= turn > conversations.below("until turn", 4)
            other = company.first[number] + conversations.below("to", len(part.cast))
            mine &= (company.begin_us[other] <= ts) & (ts < company.end_us[other])
            account[mine] = other[mine]
    return Rows(account, origin, ts, session, turn)


def say_lines(company: Company, rows: Rows) -> Lines:
    """What is said in each row. What a row repeats, the row before it said."""
    lines = Lines.empty(len(rows))
    part = company.part[rows.origin]
    again = rows.dice().flag("retry", company.of_parts("retry")[part]) & (rows.turn > 0)
    text, session = rows.dice(rows.turn - again), Dice(rows.session)
    order = np.argsort(part, kind="stable")
    edges = np.searchsorted(part[order], np.arange(len(company.parts) + 1))
    for number, each in enumerate(company.parts):
        at = order[edges[number] : edges[number + 1]]
        if not len(at):
            continue
        speakers = Speakers(at, rows.origin[at] - company.first[number], text[at], session[at])
        if each.campaign:
            work(each.cast, speakers, lines, each.campaign, each.victim)
        else:
            speak(each.cast, speakers, lines)
    return lines


def conversations(company: Company, rows: Rows) -> pa.Array:
    """The last `N_TURNS` turns up to each row as lists of role and content; memory is linear in turns.

    A turn of a conversation says the same in every row, whichever account sends it: the rows share their beginnings.
    """
    n_turns = np.minimum(rows.turn + 1, N_TURNS)
    owner, ends = np.repeat(np.arange(len(rows)), n_turns), np.cumsum(n_turns)
    before_last = ends[owner] - 1 - np.arange(len(owner))
    turn = rows.turn[owner] - before_last.astype(np.int64)
    asked = Rows(rows.account[owner], rows.origin[owner], rows.ts[owner], rows.session[owner], turn)
    answers = grammar().write("en_answer", asked.dice().word("answer"))
    order = np.stack([np.arange(len(owner)), len(owner) + np.arange(len(owner))], axis=1).ravel()
    order = np.delete(order, 2 * ends - 1)
    said = pa.concat_arrays([write_prompts(say_lines(company, asked)), answers]).take(pa.array(order))
    roles = pa.array(["user", "assistant"]).take(pa.array((order >= len(owner)).astype(np.int8)))
    message = EXCHANGES.field("messages").type.value_type
    turns = pa.StructArray.from_arrays([roles, said], fields=list(message))
    offsets = np.concatenate([[0], 2 * ends - np.arange(1, len(rows) + 1)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), turns).cast(EXCHANGES.field("messages").type)


def write_prompts(lines: Lines) -> pa.Array:
    """The prompts, without the system prompts."""
    kept: list[Any] = [
        np.ascontiguousarray(each[:, :N_PARTS]) for each in (lines.symbols, lines.seeds, lines.manners, lines.capitals)
    ]
    return grammar().join(*kept)


def _system_prompts(lines: Lines) -> pa.Array:
    """The system prompts as a dictionary; each different one is written once."""
    symbol, seed = lines.symbols[:, SYSTEM], lines.seeds[:, SYSTEM]
    said = symbol >= 0
    _, first, place = np.unique(seed[said], return_index=True, return_inverse=True)
    chosen = np.flatnonzero(said)[first][:, None]
    texts = grammar().join(symbol[chosen], seed[chosen], seed[chosen], np.zeros(chosen.shape, bool))
    indices = np.zeros(len(symbol), np.int64)
    indices[said] = place
    # Encoded again, since two seeds may happen to say the same.
    return texts.dictionary_encode().take(pa.array(indices, mask=~said))


def _models(company: Company, rows: Rows, dice: Dice) -> pa.Array:
    """The model of each row: a preference by account; some move to the newest once it is out."""
    large = company.large[rows.account]
    newest = large & (rows.ts > company.moves_us[rows.account])
    wanders = dice.flag("model", company.of_parts("wander")[company.part[rows.account]])
    return pa.array(np.where(newest & ~wanders, 2, large ^ wanders).astype(np.int32))


def _tokens(company: Company, rows: Rows, dice: Dice, prompt: pa.Array, system: pa.Array) -> tuple[Ints, Ints]:
    """Input and output tokens: of their population's shape; no fewer than are said, no more than the cap."""
    part, cap = company.part[rows.account], company.cap[rows.account]
    habit_in, habit_out = (habit[rows.account] for habit in company.habits)
    said = pc.binary_length(prompt).to_numpy().astype(float)
    lengths = pc.binary_length(system.dictionary).to_numpy(zero_copy_only=False)
    if len(lengths):
        told = system.indices.is_valid().to_numpy(zero_copy_only=False)
        said += np.where(told, lengths[system.indices.fill_null(0).to_numpy()], 0)
    before, answer = np.empty(len(rows)), np.empty(len(rows))
    shape = np.array([list(SHAPES).index(each.cast.population.shape) for each in company.parts], np.int64)[part]
    luck_in, luck_out = dice.uniform("input"), dice.uniform("output")
    for number, (of_input, of_output) in enumerate(SHAPES.values()):
        here = shape == number
        before[here] = draw_tokens(of_input, 1.0, luck_in[here])
        answer[here] = draw_tokens(of_output, 1.0, luck_out[here])
    before *= company.of_parts("context")[part] * habit_in
    answer *= company.of_parts("output")[part] * habit_out
    answer = np.where(cap > 0, np.minimum(answer, cap), answer)
    tokens_in: Ints = np.maximum(said / BYTES_PER_TOKEN, before).astype(np.int64) + 3
    return tokens_in, np.maximum(1, np.rint(answer)).astype(np.int64)


def _leave(company: Company, rows: Rows) -> tuple[Ints, Ints]:
    """The network and the host of each row: an account stays on one exit for a while."""
    stay_us = (company.of_parts("stay_h") * HOUR_US).astype(np.int64)[company.part[rows.account]]
    account = Dice(company.words[rows.account])
    luck = Dice(account.word("spell", (rows.ts - company.stage.start_us) // stay_us)).uniform("exit")
    at = choose_exits(company.exit_start, company.exit_level, company.owner[rows.account], luck)
    network = company.exit_network[at]
    host = Dice(account.word("host", network)).below("host", company.exit_hosts[at]) + 1
    return network, host


def _through_app(company: Company, rows: Rows) -> Flags:
    """Which rows came through the provider's own application, and not through its API."""
    app = np.array([path == "app" for path in company.clients["access_path"].to_pylist()], bool)
    out: Flags = app[company.client[rows.account]]
    return out


def _where(chosen: Flags, texts: pa.Array) -> pa.Array:
    """A text for each chosen row, null elsewhere."""
    place = np.zeros(len(chosen), np.int64)
    place[chosen] = np.arange(len(texts))
    return texts.take(pa.array(place, mask=~chosen)) if len(texts) else pa.nulls(len(chosen), pa.string())


def _api_keys(company: Company, rows: Rows) -> pa.Array:
    """The key of each API row, one of up to three of its account's, the first used most; null for applications."""
    named = ~_through_app(company, rows)
    account = Dice(company.words[rows.account[named]])
    which = (Dice(rows.session[named]).uniform("which key") ** 3 * (1 + account.below("keys", 3))).astype(np.int64)
    return _where(named, hexes(account.word("api key", which), prefix="key_", digits=10))


def _session_ids(company: Company, rows: Rows) -> pa.Array:
    """The conversation as the account's client names it: all applications do, and some API clients.

    A conversation that was handed over has another name in each account.
    """
    account = Dice(company.words[rows.account])
    named = _through_app(company, rows) | account.flag("names sessions", NAMES_SESSIONS)
    words = Dice(rows.session[named] ^ account.words[named]).word("conversation")
    return _where(named, hexes(words, prefix="sess_", digits=12))


def _end_users(company: Company, rows: Rows) -> pa.Array:
    """The customer a declared reseller names, null elsewhere."""
    population = [part.cast.population for part in company.parts]
    names = np.array([each.reseller for each in population], bool)[company.part[rows.account]]
    out = np.zeros(len(rows), np.int64)
    if not names.any():
        return pa.nulls(len(rows), pa.string())
    behind = company.of_parts("behind")[company.part[rows.account]]
    person = Dice(rows.session).below("person", behind.astype(np.int64))
    words = Dice(company.words[rows.account]).word("person", person)
    out[names] = np.arange(int(names.sum()))
    return hexes(words[names], prefix="user_", digits=10).take(pa.array(out, mask=~names))
