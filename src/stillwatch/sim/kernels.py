"""kernels: the compiled loops of the simulator: dice, sessions, texts, addresses.

Every random number is a hash of what it is for (an account, an hour, an exchange), never the next of a stream: so any
stretch of the calendar can be played alone, in any order and on any number of threads, and gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Array = np.ndarray[Any, Any]
Word = Any
"""A 64-bit number inside a kernel; numba knows its type."""

Kernel = TypeVar("Kernel", bound=Callable[..., object])

HOUR_US = 3_600_000_000
WEEK_H = 168
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
TOGETHER_US = 1000.0
"""Median gap of exchanges that a program sends at once."""

GUSTS_PER_HOUR = 240
"""Parts of an hour that differ in how many sessions begin in them, where they come in gusts."""

MOST_SESSIONS = 500
"""Sessions an account may begin in one hour."""

_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / (1 << 53)
_DEEP = 48
_C3 = 0xC3


def jit(function: Kernel) -> Kernel:
    """Compile on the first call, without the GIL; keep the machine code where that can be written."""
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(function, nogil=True, error_model="numpy")  # type: ignore[no-any-return]


@jit
def mix(word: Word) -> Word:
    """Scatter 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    word = (word ^ (word >> _S30)) * _A
    word = (word ^ (word >> _S27)) * _B
    return word ^ (word >> _S31)


@jit
def unit(word: Word) -> float:
    """53 of the bits as a number in [0, 1)."""
    return float(word >> _S11) * _UNIT


@jit
def scatter(words: Array, salt: Word) -> Array:
    """Hash each word with a salt."""
    out = np.empty(words.size, np.uint64)
    for at in range(words.size):
        out[at] = mix(words[at] * GOLDEN + salt)
    return out


@jit
def units(words: Array, salt: Word) -> Array:
    """A number in [0, 1) for each word and a salt."""
    out = np.empty(words.size, np.float64)
    for at in range(words.size):
        out[at] = unit(mix(words[at] * GOLDEN + salt))
    return out


@jit
def normals(words: Array, salt: Word) -> Array:
    """A standard normal number for each word and a salt (Box and Muller 1958)."""
    out = np.empty(words.size, np.float64)
    for at in range(words.size):
        out[at] = _normal(mix(words[at] * GOLDEN + salt))
    return out


@jit
def _normal(word: Word) -> float:
    first, second = 1.0 - unit(word), unit(mix(word + GOLDEN))
    drawn: float = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return drawn


@jit
def _poisson(mean: float, luck: float) -> int:
    """The Poisson number at a quantile, by inversion."""
    if luck < 1.0 - mean:
        return 0
    term = np.exp(-mean)
    level, n = term, 0
    while luck > level and n < MOST_SESSIONS:
        n += 1
        term *= mean / n
        level += term
    return n


@jit
def _grown(columns: Any, needed: int) -> Any:
    account, ts, session, turn = columns
    if needed <= account.size:
        return columns
    size = 2 * needed
    wider = (np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint64), np.empty(size, np.int64))
    for column in range(account.size):
        wider[0][column] = account[column]
        wider[1][column] = ts[column]
        wider[2][column] = session[column]
        wider[3][column] = turn[column]
    return wider


@jit
def _sit(columns: Any, n: int, who: int, key: Word, start: int, n_turns: int, pace: Any, within: Any) -> Any:
    """Write the exchanges of a session from `start`, moved back where it would run on; the columns and their length."""
    columns = _grown(columns, n + n_turns)
    at, state, (gap_us, burst), (begin, last) = start, key, pace, within
    for turn in range(n_turns):
        columns[0][n + turn], columns[1][n + turn], columns[2][n + turn], columns[3][n + turn] = who, at, key, turn
        state = mix(state + GOLDEN)
        together = burst > 0.0 and unit(mix(state ^ GOLDEN)) < burst
        at += 1 + int((TOGETHER_US if together else gap_us) * np.exp(0.9 * _normal(state)))
    late = columns[1][n + n_turns - 1] - (last - 1)
    if late > 0:
        for turn in range(n_turns):
            columns[1][n + turn] = max(columns[1][n + turn] - late, begin)
    return columns, n + n_turns


@jit
def _gusty(luck: float, gust: float, word: Word) -> float:
    """A moment of an hour, as a share of it, drawn by how busy each of its parts is: Pareto, of tail index 1 / gust."""
    total = 0.0
    for part in range(GUSTS_PER_HOUR):
        total += (1.0 - unit(mix(word + np.uint64(part) * GOLDEN))) ** -gust
    level, wanted = 0.0, luck * total
    for part in range(GUSTS_PER_HOUR):
        weight = (1.0 - unit(mix(word + np.uint64(part) * GOLDEN))) ** -gust
        if wanted < level + weight or part == GUSTS_PER_HOUR - 1:
            moment: float = (part + min((wanted - level) / weight, 1.0 - 1e-9)) / GUSTS_PER_HOUR
            return moment
        level += weight
    return luck


@jit
def sessions(people: Any, weights: Array, low_h: int, high_h: int, last_us: int) -> tuple[Array, Array, Array, Array]:
    """The exchanges of all sessions that begin in a stretch of hours since 1970: (account, ts in us, session, turn).

    `people`, of each account: key, rate (sessions an hour at weight 1), rhythm, zone (h), share of days with any,
    begin, end, first (us), first_turns, mean turns, median gap (us), share of turns sent at once with the next, how
    gusty, and whose gusts.
    `weights[rhythm, hour of week]`.
    Sessions are a Poisson process in the hours an account is there; its first one is given. A session that would run
    past the account's end or `last_us` is moved back. Costs some 6 ns an account and hour and 60 ns an exchange.
    """
    key, rate, rhythm, zone, days, begin, end, first, first_turns, turns, gap_us, burst, gust, winds = people
    columns = (np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.uint64), np.empty(1024, np.int64))
    n = 0
    for who in range(key.size):
        last = min(end[who], last_us)
        within, pace = (begin[who], last), (gap_us[who], burst[who])
        if begin[who] >= high_h * HOUR_US or last <= low_h * HOUR_US:
            continue
        if low_h * HOUR_US <= first[who] < high_h * HOUR_US:
            columns, n = _sit(columns, n, who, mix(key[who]), first[who], first_turns[who], pace, within)
        if rate[who] <= 0.0:
            continue
        for hour in range(low_h, high_h):
            local = hour + zone[who]
            mean = rate[who] * weights[rhythm[who], local % WEEK_H] / days[who]
            if mean <= 0.0 or unit(mix(key[who] ^ mix(np.uint64(local // 24)))) >= days[who]:
                continue
            state = mix(key[who] + np.uint64(hour) * GOLDEN)
            for _ in range(_poisson(mean, unit(state))):
                state = mix(state + GOLDEN)
                share = unit(state)
                if gust[who] > 0.0:
                    share = _gusty(share, gust[who], mix(winds[who] ^ np.uint64(hour)))
                start = hour * HOUR_US + int(share * HOUR_US)
                length = np.log(1.0 - unit(mix(state ^ GOLDEN))) / np.log(1.0 - 1.0 / max(turns[who], 1.000001))
                if begin[who] <= start < last:
                    columns, n = _sit(columns, n, who, state, start, 1 + int(length), pace, within)
    return columns[0][:n].copy(), columns[1][:n].copy(), columns[2][:n].copy(), columns[3][:n].copy()


@jit
def choose_exits(start: Array, level: Array, owner: Array, luck: Array) -> Array:
    """The exit of each row: of those of its owner (from `start[owner]`), the first whose cumulative odds pass luck."""
    out = np.empty(owner.size, np.int64)
    for row in range(owner.size):
        at, stop = start[owner[row]], start[owner[row] + 1] - 1
        while at < stop and level[at] <= luck[row]:
            at += 1
        out[row] = at
    return out


@jit
def _room(data: Array, needed: int) -> Array:
    if needed <= data.size:
        return data
    wider = np.empty(2 * needed, np.uint8)
    wider[: data.size] = data
    return wider


@jit
def _pick(rules: Any, symbol: int, word: Word) -> int:
    """An alternative of a symbol; of a list of words, those further up come more often."""
    _, _, alternatives, skewed, _, _, _, _ = rules
    luck = unit(word)
    if skewed[symbol]:
        luck *= np.sqrt(luck)
    chosen: int = alternatives[symbol] + int(luck * (alternatives[symbol + 1] - alternatives[symbol]))
    return chosen


@jit
def write_texts(
    rules: Any, symbols: Array, seeds: Array, manners: Array, capitals: Array, between: Array
) -> tuple[Array, Array]:
    """Write one text a row out of the parts that are there, with `between` between them: (offsets, bytes).

    Args:
        rules: as `grammar.Rules.tables`. symbols: (rows, parts), -1 for none. seeds: (rows, parts), each fixes its
            part but for the symbols of manner, which `manners` (rows, parts) fixes. capitals: (rows, parts) whether a
            part begins with a capital letter.

    Costs about 15 ns a symbol.
    """
    pool, pieces, _, _, manner, spans, symbol_of, capital_of = rules
    n_rows, n_parts = symbols.shape
    offsets, data = np.zeros(n_rows + 1, np.int32), np.empty(256 * n_rows + 4096, np.uint8)
    at_piece, end_piece = np.empty(_DEEP, np.int64), np.empty(_DEEP, np.int64)
    n = 0
    for row in range(n_rows):
        begun = False
        for part in range(n_parts):
            if symbols[row, part] < 0:
                continue
            if begun:
                data = _room(data, n + between.size)
                data[n : n + between.size] = between
                n += between.size
            begun, capital = True, capitals[row, part]
            content, style = seeds[row, part], mix(manners[row, part])
            depth, symbol = 0, symbols[row, part]
            while True:
                if symbol >= 0:
                    if manner[symbol]:
                        style += GOLDEN
                        chosen = _pick(rules, symbol, mix(style))
                    else:
                        content += GOLDEN
                        chosen = _pick(rules, symbol, mix(content))
                    at_piece[depth], end_piece[depth] = pieces[chosen], pieces[chosen + 1]
                    depth += 1
                while depth > 0 and at_piece[depth - 1] == end_piece[depth - 1]:
                    depth -= 1
                if depth == 0:
                    break
                piece = at_piece[depth - 1]
                at_piece[depth - 1] += 1
                symbol = symbol_of[piece]
                capital = capital or capital_of[piece]
                if symbol >= 0:
                    continue
                low, high = spans[piece], spans[piece + 1]
                data = _room(data, n + high - low)
                for byte in range(low, high):
                    data[n + byte - low] = pool[byte]
                if capital and high > low:
                    _raise(data, n, high - low)
                    capital = False
                n += high - low
        offsets[row + 1] = n
    return offsets, data[:n].copy()


@jit
def _raise(data: Array, at: int, n: int) -> None:
    """Make the letter at a place a capital, in ASCII and Latin-1."""
    if ord("a") <= data[at] <= ord("z"):
        data[at] -= 32
    elif n > 1 and data[at] == _C3 and 0xA0 <= data[at + 1] <= 0xBE:
        data[at + 1] -= 32


@jit
def _digits(data: Array, at: int, number: int) -> int:
    if number >= 100:
        data[at] = 48 + number // 100
        at += 1
    if number >= 10:
        data[at] = 48 + number // 10 % 10
        at += 1
    data[at] = 48 + number % 10
    return at + 1


@jit
def _hex(data: Array, at: int, word: Word, n_digits: int) -> int:
    for digit in range(n_digits):
        nibble = int(word >> np.uint64(60 - 4 * digit)) & 15
        data[at + digit] = nibble + (48 if nibble < 10 else 87)
    return at + n_digits


@jit
def write_addresses(network: Array, host: Array, documentation: Array) -> tuple[Array, Array]:
    """IPv4 in 240.0.0.0/5, which no one owns, and documentation IPv6 for every eighth network: (offsets, bytes)."""
    offsets, data, n = np.zeros(network.size + 1, np.int32), np.empty(26 * network.size + 32, np.uint8), 0
    for row in range(network.size):
        number = network[row]
        if number % 8:
            for part in range(4):
                value = (240 + (number >> 16), number >> 8 & 255, number & 255, host[row])[part]
                n = _digits(data, n, value)
                if part < 3:
                    data[n] = ord(".")
                    n += 1
        else:
            data[n : n + documentation.size] = documentation
            n = _hex(data, n + documentation.size, np.uint64(number // 8) << np.uint64(48), 4)
            data[n] = data[n + 1] = ord(":")
            n = _digits(data, n + 2, host[row])
        offsets[row + 1] = n
    return offsets, data[:n].copy()


@jit
def write_hex(words: Array, prefix: Array, n_digits: int) -> tuple[Array, Array]:
    """A prefix and the first hex digits of each word: (offsets, bytes)."""
    size = prefix.size + n_digits
    data = np.empty(words.size * size, np.uint8)
    for row in range(words.size):
        data[row * size : row * size + prefix.size] = prefix
        _hex(data, row * size + prefix.size, words[row], n_digits)
    return (np.arange(words.size + 1) * size).astype(np.int32), data
