from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from stillwatch.policy.networks import NetworkTable, parse_address

NETWORKS = st.tuples(st.integers(0, 255), st.integers(22, 32)).map(
    lambda pair: str(ipaddress.ip_network((0x0A000000 + pair[0], pair[1]), strict=False))
)


@given(st.lists(st.lists(NETWORKS, max_size=4), max_size=6), st.integers(0x09FFFFF0, 0x0A000FFF))
def test_the_search_is_the_standard_librarys(rules: list[list[str]], number: int) -> None:
    """The first rule found in flattened ranges is the first whose network holds the address."""
    address = ipaddress.ip_address(number)
    slow = [at for at, texts in enumerate(rules) if any(address in ipaddress.ip_network(text) for text in texts)]
    table = NetworkTable(cidrs=tuple(map(tuple, rules)), countries=((),) * len(rules))
    assert table.first_rule((32, number), None) == (slow[0] if slow else -1)


@given(st.ip_addresses())
def test_addresses_are_read_as_the_standard_library_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Same number, same family; IPv4 inside IPv6 is IPv4."""
    plain = getattr(address, "ipv4_mapped", None) or address
    assert parse_address(str(address)) == (plain.max_prefixlen, int(plain))


def test_what_is_no_address_is_none() -> None:
    """Ports, zones, short forms, padding and other texts are refused."""
    for text in (
        "",
        None,
        "10.1",
        "010.0.0.1 ",
        "10.0.0.1:80",
        "fe80::1%eth0",
        "1" * 46,
        "10.0.0.1\0",
        "[::1]",
        "१.1.1.1",
    ):
        assert parse_address(text) is None


def test_unknown_countries_match_where_it_is_written() -> None:
    """`unknown` stands for calls without a country; without the word they match nothing."""
    assert NetworkTable(cidrs=((),), countries=(("unknown",),)).first_rule(None, None) == 0
    assert NetworkTable(cidrs=((),), countries=(("XX",),)).first_rule(None, None) == -1


def test_neighbours_are_counted_together() -> None:
    """One /24 and one /48 are one subject each."""
    table = NetworkTable()

    def subject(text: str) -> str:
        address = parse_address(text)
        assert address is not None
        return table.subject(address)

    assert subject("192.0.2.1") == subject("192.0.2.254") != subject("192.0.3.1")
    assert subject("2001:db8:1::1") == subject("2001:db8:1:ffff::2") != subject("2001:db8:2::1")
