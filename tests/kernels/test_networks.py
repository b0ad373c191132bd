"""Networks of addresses, against Python's own ipaddress."""

import ipaddress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.columns import text_spans
from stillwatch.kernels.hashing import HashKey, network_keys
from stillwatch.kernels.networks import read_networks

KEY = HashKey.from_bytes(b"0123456789abcdef")


def networks(*texts: str | bytes | None) -> list[int]:
    """The words the parser gives."""
    return [int(word) for word in read_networks(text_spans(pa.array(list(texts), pa.binary())))]


def expected_network(text: str) -> int:
    """The word ipaddress leads to, 0 where it refuses the address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return 6 << 56 | int(address) >> 80
        address = address.ipv4_mapped
    return 4 << 56 | int(address) >> 8


@given(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6))
def test_addresses_fall_into_the_network_ipaddress_names(v4: str, v6: ipaddress.IPv6Address) -> None:
    """Every spelling of an address gives its /24 or /48: compressed, full, in capitals, mapped, with a port."""
    from_v4, from_v6 = expected_network(v4), expected_network(str(v6))
    assert set(networks(v4, f" {v4}\t", f"{v4}:443", f"::ffff:{v4}", f"::FFFF:{v4}", f"[::ffff:{v4}]:1")) == {from_v4}
    spellings = (str(v6), v6.exploded, str(v6).upper(), f"[{v6}]", f"[{v6}]:65535", f"{v6}%eth0", f"[{v6}%1]:80")
    assert set(networks(*spellings)) == {from_v6}


@given(st.text("0123456789abcdefF:.", max_size=24))
def test_near_addresses_are_read_or_refused_as_ipaddress_does(text: str) -> None:
    """Random strings of address characters agree with ipaddress, unless they end in an IPv4 port."""
    host, colon, port = text.rpartition(":")
    has_port = colon and host.count(".") == 3 and ":" not in host and port.isdigit() and len(port) <= 5
    expected = expected_network(host) if has_port and int(port) <= 65535 else expected_network(text)
    assert networks(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "1:2:3:4:5:6:7:8",
        "::",
        "::1",
        "1::",
        "1::8",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",
        "1::2::3",
        ":::",
        "1:::2",
        ":1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "12345::",
        "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3.4",
        "64:ff9b::1.2.3.4",
        "::ffff:1.2.3",
        "::ffff:1.2.3.256",
        "::ffff:0:1.2.3.4",
        "::1.2.3.4:5",
        "::g",
        "1.2.3",
        "1.2.3.4.5",
        "1..2.3",
        "01.2.3.4",
        "0.0.0.0",  # noqa: S104
        "255.255.255.255",
        "256.1.1.1",
        "1.2.3.4.",
        ".1.2.3.4",
        "1,2,3,4",
        "1.2.3.٤",
        "1.2.3.-4",
        "1.2.3.4/24",
        "localhost",
        "unknown",
        "",
    ],
)
def test_borderline_addresses_agree_with_ipaddress(text: str) -> None:
    """Each borderline spelling is read or refused as ipaddress reads or refuses it."""
    assert networks(text.encode()) == [expected_network(text)]


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:123456",
        "1.2.3.4:8o",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]:",
        "[]",
        "[",
        "[1.2.3.4]",
        "::1%",
        "::1%a%b",
        "%",
        "1.2.3.4, 5.6.7.8",
        b"1.2.3.\xff",
        b"\xff\xff",
        b"1.2.3.4\x001",
        "9" * 10_000,
        ":" * 10_000,
    ],
)
def test_damaged_addresses_are_nothing(text: str | bytes) -> None:
    """Bad ports, brackets, zones, lists of addresses and garbage give no network."""
    assert networks(text) == [0]


def test_keys_are_equal_within_a_network_and_zero_without_one() -> None:
    """Hashed networks keep 0 for null and for the unreadable, and otherwise depend on network and key alone."""
    texts = ["10.1.2.3", "10.1.2.250", "10.1.3.3", "2001:db8:1::1", "2001:db8:1:ffff::9", "2001:db8:2::1", None, "?"]
    keys = network_keys(pa.array(texts), KEY)
    assert keys[0] == keys[1] != keys[2] and keys[3] == keys[4] != keys[5]
    assert keys[6:].tolist() == [0, 0] and len(np.unique(keys[:6])) == 4
    assert network_keys(pa.array(texts).dictionary_encode(), KEY).tolist() == keys.tolist()
    assert not np.intersect1d(keys[:6], network_keys(pa.array(texts), HashKey(1, 2))).size
