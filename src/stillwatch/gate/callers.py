"""callers: who asks: headers are believed only where a trusted proxy sent them.

The client's address is the right-most of X-Forwarded-For that no trusted proxy wrote; everything left of it was
written by the client. Headers that say who somebody is count only on connections from a trusted proxy. Without one, an
account is the keyed hash of the API key, as the exchange log writes it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stillwatch.errors import SettingsError
from stillwatch.gate.asked import Asked
from stillwatch.keys import Secret
from stillwatch.policy.networks import Address, parse_address
from stillwatch.policy.ruling import Request

Headers = Iterable[tuple[bytes, bytes]]

MOST_HOPS = 32
MOST_CHARACTERS = 256
"""Of a name in a header."""

ANONYMOUS = "anonymous"
"""The one account of all who show neither a key nor a name."""


class Refused(Exception):
    """A request that cannot be judged, and is answered with an error."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status, self.says = status, says


@dataclass(frozen=True, slots=True)
class Named:
    """Which headers a trusted proxy sets; empty for none. Lower case."""

    account: str = "x-stillwatch-account"
    organisation: str = "x-stillwatch-organisation"
    payment: str = "x-stillwatch-payment"
    level: str = "x-stillwatch-level"
    country: str = "x-stillwatch-country"
    tokens: str = "x-stillwatch-tokens"
    model: str = "x-stillwatch-model"


class Callers:
    """Tells who asks, from a connection and its headers.

    Args:
        trusted: networks of the proxies whose headers are believed, such as `127.0.0.1/32`.
        secret: the key of account hashes: the subkey `rows`, so that the scan's accounts are the gate's.
        named: the headers.

    Raises:
        SettingsError: a trusted network is none.
    """

    def __init__(self, *, trusted: Sequence[str], secret: Secret, named: Named | None = None) -> None:
        self._trusted = [_network(text) for text in trusted]
        self._secret = secret
        named = named or Named()
        self._fields = {
            name.lower().encode("latin-1"): field
            for field in Named.__dataclass_fields__
            if (name := getattr(named, field))
        }

    def request(self, peer: str | None, headers: Headers, asked: Asked, now: datetime) -> Request:
        """The request a policy judges. `peer` is the other end of the connection.

        Raises:
            Refused: a header is no UTF-8, holds control characters, is too long, or says twice who asks; without a
                name, there are two keys.
        """
        found, forwarded, tokens = self._read(headers)
        is_trusted = self._trusts(parse_address(peer))
        said = found if is_trusted else {}
        account = said.get("account") or self._of_key(tokens)
        reserve = said.get("tokens", "")
        if reserve and not (reserve.isascii() and reserve.isdigit() and len(reserve) < 10):
            raise Refused(400, "the header of the number of tokens holds no number")
        return Request(
            account_id=account,
            now=now,
            org_id=said.get("organisation") or None,
            payment_fingerprint=said.get("payment") or None,
            ip=self._client(peer, forwarded) if is_trusted else peer,
            country=_country(said.get("country", "")),
            identity_level=said.get("level") or "none",
            model=asked.model if asked.model is not None else said.get("model"),
            capability=asked.capability,
            features=asked.features,
            n_tokens=int(reserve) if reserve else asked.n_tokens,
            n_input_tokens=asked.n_input_tokens,
            n_answers=0 if reserve else asked.n_answers,
            max_output_tokens=asked.max_output_tokens,
        )

    def hashed(self, token: str) -> str:
        """The account of an API key."""
        digest = hmac.new(self._secret.reveal(), b"api key\0" + token.encode("latin-1", "replace"), hashlib.sha256)
        return f"key-{digest.hexdigest()[:32]}"

    def _of_key(self, tokens: set[str]) -> str:
        # Which of two a server believes is its own affair; a client that adds keys would be a new account each time.
        if len(tokens) > 1:
            raise Refused(400, "the call shows two API keys")
        return self.hashed(*tokens) if tokens else ANONYMOUS

    def _read(self, headers: Headers) -> tuple[dict[str, str], list[str], set[str]]:
        found: dict[str, str] = {}
        forwarded: list[str] = []
        tokens: set[str] = set()
        for name, value in headers:
            low = name.lower()
            field = self._fields.get(low)
            if field is not None:
                if field in found:
                    raise Refused(400, "a header that says who asks came twice")
                found[field] = _plain(value)
            elif low == b"x-forwarded-for":
                forwarded += value.decode("latin-1").split(",")
            elif low in (b"authorization", b"x-api-key"):
                text = value.decode("latin-1").strip()
                scheme, _, rest = text.partition(" ")
                tokens.add(rest.strip() if scheme.lower() == "bearer" else text)
        return found, forwarded, tokens - {""}

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(
            bits == address[0] and (address[1] ^ number) >> shift == 0 for bits, number, shift in self._trusted
        )

    def _client(self, peer: str | None, forwarded: list[str]) -> str | None:
        """The right-most address no trusted proxy wrote; where the chain ends or breaks, the last that was good."""
        client = peer
        for hop in forwarded[: -MOST_HOPS - 1 : -1]:
            text = _without_port(hop.strip())
            address = parse_address(text)
            if address is None:
                return client
            client = text
            if not self._trusts(address):
                return client
        return client


def _plain(value: bytes) -> str:
    # Logs and snapshots name accounts in UTF-8: read otherwise, a name beyond ASCII would be somebody else's.
    try:
        text = value.decode("utf-8").strip(" \t")
    except UnicodeDecodeError:
        raise Refused(400, "a header that says who asks is not in UTF-8") from None
    if len(text) > MOST_CHARACTERS or any(character < " " or "\x7f" <= character < "\xa0" for character in text):
        raise Refused(400, "a header that says who asks is too long or holds control characters")
    return text


def _country(text: str) -> str | None:
    # Written small, or as no code, it would match no rule, not even the one for countries that are not known.
    return text.upper() if len(text) == 2 and text.isascii() and text.isalpha() else None


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _network(text: str) -> tuple[int, int, int]:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise SettingsError("a trusted proxy is no network", got=repr(text), expected="such as 10.0.0.0/8") from error
    bits = network.max_prefixlen
    return bits, int(network.network_address), bits - network.prefixlen


async def receive_body(receive: Callable[[], Awaitable[MutableMapping[str, Any]]], *, at_most: int) -> bytes:
    """The body of a request, as ASGI hands it over.

    Raises:
        Refused: the request ended early, or its body is longer than `at_most` bytes.
    """
    held = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request ended early")
        held += message.get("body", b"")
        if len(held) > at_most:
            raise Refused(413, "the body is too large")
        if not message.get("more_body", False):
            return bytes(held)
