"""networks: addresses as numbers, the shared prefix that is counted together, and the first rule that matches."""

from __future__ import annotations

import ipaddress
import socket
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

UNKNOWN_COUNTRY = "unknown"
"""What a rule writes among its countries for calls whose country is not known."""

Address = tuple[int, int]
"""Its bits (32 or 128) and its number."""

_MAPPED = bytes(10) + b"\xff\xff"


def parse_address(text: str | None) -> Address | None:
    """An address as bits and number; an IPv4 address inside IPv6 is IPv4; None where it is none.

    >>> parse_address("::ffff:192.0.2.1") == parse_address("192.0.2.1") == (32, 3221225985)
    True
    """
    if not text or len(text) > 45:
        return None
    try:
        if ":" not in text:
            return 32, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None
    if packed.startswith(_MAPPED):
        return 32, int.from_bytes(packed[12:], "big")
    return 128, int.from_bytes(packed, "big")


@dataclass(frozen=True, slots=True)
class NetworkTable:
    """The operator's networks, flattened into disjoint ranges so that one binary search answers a call."""

    v4_prefix: int = 24
    v6_prefix: int = 48
    cidrs: tuple[tuple[str, ...], ...] = ()
    """Of each rule, in order."""
    countries: tuple[tuple[str, ...], ...] = ()
    _ranges: Mapping[int, tuple[list[int], list[int]]] = field(init=False, repr=False, compare=False)
    _by_country: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ranges", {bits: _flattened(self.cidrs, bits) for bits in (32, 128)})
        first: dict[str, int] = {}
        for rule, names in enumerate(self.countries):
            for name in names:
                first.setdefault(name, rule)
        object.__setattr__(self, "_by_country", first)

    def first_rule(self, address: Address | None, country: str | None) -> int:
        """The index of the first rule that matches, or -1."""
        found = self._by_country.get(country or UNKNOWN_COUNTRY, -1) if self._by_country else -1
        if address is None:
            return found
        starts, rules = self._ranges[address[0]]
        at = bisect_right(starts, address[1]) - 1
        by_range = rules[at] if at >= 0 else -1
        return by_range if found < 0 or 0 <= by_range < found else found

    def subject(self, address: Address) -> str:
        """The name of the network an address is counted with.

        >>> NetworkTable().subject((32, 3221225985))
        '4:c00002/24'
        """
        bits, number = address
        prefix = self.v4_prefix if bits == 32 else self.v6_prefix
        return f"{'4' if bits == 32 else '6'}:{number >> (bits - prefix):x}/{prefix}"


def _flattened(cidrs: Sequence[Sequence[str]], bits: int) -> tuple[list[int], list[int]]:
    """Starts of disjoint ranges, ascending, and the smallest rule that covers each (-1 for none)."""
    spans = []
    for rule, texts in enumerate(cidrs):
        for text in texts:
            network = ipaddress.ip_network(text)
            if network.max_prefixlen == bits:
                spans.append((int(network.network_address), int(network.broadcast_address) + 1, rule))
    spans.sort()
    starts, rules = [0], [-1]
    active: list[tuple[int, int]] = []
    edges = sorted({edge for start, end, _ in spans for edge in (start, end)})
    coming = iter(spans)
    span = next(coming, None)
    for edge in edges:
        while span is not None and span[0] == edge:
            heappush(active, (span[2], span[1]))
            span = next(coming, None)
        while active and active[0][1] <= edge:
            heappop(active)
        rule = active[0][0] if active else -1
        if rule != rules[-1]:
            starts.append(edge)
            rules.append(rule)
    return starts, rules
