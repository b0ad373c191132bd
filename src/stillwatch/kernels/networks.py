"""networks: addresses as text to the network they sit in, one word each.

IPv4 becomes its /24 (`4 << 56 | first three bytes`) and IPv6 its /48 (`6 << 56 | first six bytes`): the pieces in which
addresses are handed out, so that one customer's addresses fall together.
"""

from __future__ import annotations

import numpy as np

from stillwatch.kernels.columns import I64, U64, Bytes, Spans, is_null
from stillwatch.kernels.compile import Word, jit

_DOT, _COLON, _PERCENT, _OPEN, _CLOSE, _ZERO = (ord(mark) for mark in ".:%[]0")
_SPACE = ord(" ")
_N_GROUPS = 8
_NOTHING = -1


@jit
def read_networks(spans: Spans) -> U64:
    """The network of each row, shape (n,); 0 where null or no address. Costs about 30 ns a row."""
    data, offsets, valid = spans
    n = offsets.size - 1
    out = np.zeros(n, np.uint64)
    groups = np.zeros(_N_GROUPS, np.int64)
    for row in range(n):
        if not is_null(valid, row):
            out[row] = np.uint64(_network(data, offsets[row], offsets[row + 1], groups))
    return out


@jit
def _network(data: Bytes, start: int, stop: int, groups: I64) -> Word:
    while start < stop and data[start] <= _SPACE:
        start += 1
    while start < stop and data[stop - 1] <= _SPACE:
        stop -= 1
    if start == stop:
        return 0
    if data[start] == _OPEN:
        at = _read_v6(data, start + 1, stop, groups)
        if at in (_NOTHING, stop) or data[at] != _CLOSE or not _is_port(data, at + 1, stop):
            return 0
        return _network_v6(groups)
    address, at = _read_v4(data, start, stop)
    if at != _NOTHING:
        return 4 << 56 | address >> 8 if _is_port(data, at, stop) else 0
    at = _read_v6(data, start, stop, groups)
    return _network_v6(groups) if at == stop else 0


@jit
def _network_v6(groups: I64) -> Word:
    mapped = groups[5] == 0xFFFF
    for i in range(5):
        mapped = mapped and groups[i] == 0
    if mapped:
        return 4 << 56 | groups[6] << 8 | groups[7] >> 8
    return 6 << 56 | groups[0] << 32 | groups[1] << 16 | groups[2]


@jit
def _is_port(data: Bytes, at: int, stop: int) -> bool:
    """Whether the rest is empty or `:` and a port."""
    if at == stop:
        return True
    if data[at] != _COLON or stop - at < 2 or stop - at > 6:
        return False
    port = 0
    for i in range(at + 1, stop):
        digit = data[i] - _ZERO
        if digit < 0 or digit > 9:
            return False
        port = port * 10 + digit
    return port <= 0xFFFF


@jit
def _read_v4(data: Bytes, at: int, stop: int) -> tuple[int, int]:
    """The 32-bit address at `at` and the place after it, or (0, -1); leading zeros are refused, as libc's are octal."""
    address = 0
    for part in range(4):
        if part > 0:
            if at == stop or data[at] != _DOT:
                return 0, _NOTHING
            at += 1
        first, value = at, 0
        while at < stop and at - first < 3 and _ZERO <= data[at] <= _ZERO + 9:
            value = value * 10 + (data[at] - _ZERO)
            at += 1
        if at == first or value > 0xFF or (data[first] == _ZERO and at - first > 1):
            return 0, _NOTHING
        address = address << 8 | value
    return address, at


@jit
def _hexadecimal(byte: int) -> int:
    if _ZERO <= byte <= _ZERO + 9:
        return byte - _ZERO
    lower = byte | 0x20
    return lower - 0x57 if 0x61 <= lower <= 0x66 else _NOTHING


@jit
def _read_group(data: Bytes, at: int, stop: int) -> tuple[int, int]:
    """One to four hexadecimal digits and the place after them."""
    first, value = at, 0
    while at < stop and at - first < 4:
        digit = _hexadecimal(data[at])
        if digit == _NOTHING:
            break
        value = value << 4 | digit
        at += 1
    return value, at


@jit
def _read_v6(data: Bytes, at: int, stop: int, groups: I64) -> int:
    """Fill the eight groups from the address at `at`; the place after it and its zone, or -1."""
    n, gap = 0, _NOTHING
    if stop - at >= 2 and data[at] == _COLON and data[at + 1] == _COLON:
        gap, at = 0, at + 2
    while n < _N_GROUPS:
        value, after = _read_group(data, at, stop)
        if after == at:
            break
        if after < stop and data[after] == _DOT:
            value, at = _read_v4(data, at, stop)
            if at == _NOTHING or n > _N_GROUPS - 2:
                return _NOTHING
            groups[n], groups[n + 1] = value >> 16, value & 0xFFFF
            n += 2
            break
        groups[n] = value
        n, at = n + 1, after
        if at == stop or data[at] != _COLON:
            break
        if at + 1 < stop and data[at + 1] == _COLON:
            if gap != _NOTHING:
                return _NOTHING
            gap, at = n, at + 2
        elif at + 1 < stop and n < _N_GROUPS and _hexadecimal(data[at + 1]) != _NOTHING:
            at += 1
        else:
            return _NOTHING
    return _skip_zone(data, at, stop) if _spread(groups, n, gap) else _NOTHING


@jit
def _spread(groups: I64, n: int, gap: int) -> bool:
    """Put the zeros that `::` stands for in their place; False if the number of groups is wrong."""
    if gap == _NOTHING:
        return n == _N_GROUPS
    if n >= _N_GROUPS:
        return False
    for i in range(n - gap):
        groups[_N_GROUPS - 1 - i] = groups[n - 1 - i]
    for i in range(gap, _N_GROUPS - (n - gap)):
        groups[i] = 0
    return True


@jit
def _skip_zone(data: Bytes, at: int, stop: int) -> int:
    if at == stop or data[at] != _PERCENT:
        return at
    first = at = at + 1
    while at < stop and data[at] != _CLOSE and data[at] != _PERCENT:
        at += 1
    return at if at > first else _NOTHING
