"""A writer of small .mmdb files (MaxMind DB format 2.0, IPv4, 24-bit records), from its published specification."""

from __future__ import annotations

import ipaddress
from pathlib import Path


def _text(value: str) -> bytes:
    raw = value.encode()
    assert len(raw) < 29
    return bytes([0b010_00000 | len(raw)]) + raw


def _number(value: int, kind: int) -> bytes:
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([kind << 5 | len(raw)]) + raw


def _map(pairs: dict[str, bytes]) -> bytes:
    return bytes([0b111_00000 | len(pairs)]) + b"".join(_text(name) + value for name, value in pairs.items())


def write_mmdb(path: Path, countries: dict[str, str]) -> None:
    """Write a database of IPv4 networks (disjoint) and their country codes."""
    nodes: list[list[int | None]] = [[None, None]]
    leaves: dict[tuple[int, int], int] = {}
    data = b""
    for text, code in countries.items():
        network = ipaddress.IPv4Network(text)
        bits = f"{int(network.network_address):032b}"[: network.prefixlen]
        at = 0
        for bit in bits[:-1]:
            below = nodes[at][int(bit)]
            if below is None:
                below = len(nodes)
                nodes.append([None, None])
                nodes[at][int(bit)] = below
            at = below
        leaves[at, int(bits[-1])] = len(data)
        data += _map({"country": _map({"iso_code": _text(code)})})
    tree = b""
    for at, pair in enumerate(nodes):
        for side in (0, 1):
            below, leaf = pair[side], leaves.get((at, side))
            value = len(nodes) if below is None else below
            tree += (len(nodes) + 16 + leaf if leaf is not None else value).to_bytes(3, "big")
    about = {
        "node_count": _number(len(nodes), 6),
        "record_size": _number(24, 5),
        "ip_version": _number(4, 5),
        "database_type": _text("test"),
        "languages": bytes([0, 4]),
        "binary_format_major_version": _number(2, 5),
        "binary_format_minor_version": _number(0, 5),
        "build_epoch": bytes([1, 2]) + b"\x01",
        "description": _map({}),
    }
    path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _map(about))
