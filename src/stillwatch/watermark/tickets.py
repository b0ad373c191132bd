"""tickets: a mark, sealed: how a gate tells an engine what to mark an answer with, without saying for whom.

A ticket is AES-SIV (RFC 5297) of the scheme and its keys under the seal key, which the gate and the engine share. It
names no account; without the seal key it can be neither read nor made, so nobody can have an answer marked as somebody
else's. Whoever holds a ticket can use it: a gate drops any that a client sends and puts in its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import asdict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from stillwatch.errors import KeyFileError
from stillwatch.keys import Secret
from stillwatch.watermark.schemes import Mark, Scheme

MAX_TICKET_CHARACTERS = 4096
_ABOUT = [b"stillwatch/1/mark ticket"]


def seal_ticket(mark: Mark, seal: Secret) -> str:
    """The ticket of a mark, URL-safe text of about 400 characters. The same mark gives the same ticket."""
    keys = {level: key.reveal().hex() for level, key in mark.keys.items()}
    record = {"v": 1, "scheme": asdict(mark.scheme), "keys": keys, "routing": mark.routing.reveal().hex()}
    sealed = _cipher(seal).encrypt(json.dumps(record, sort_keys=True).encode(), _ABOUT)
    return base64.urlsafe_b64encode(sealed).decode()


def open_ticket(ticket: object, seal: Secret) -> Mark:
    """The mark in a ticket.

    Raises:
        KeyFileError: it is not a ticket, or was not sealed under this key; what it holds is never shown.
    """
    if not isinstance(ticket, str) or len(ticket) > MAX_TICKET_CHARACTERS:
        raise KeyFileError("this is not a mark ticket", got=type(ticket).__name__, expected="text from a gate")
    try:
        opened = _cipher(seal).decrypt(base64.b64decode(ticket, altchars=b"-_", validate=True), _ABOUT)
    except (InvalidTag, ValueError, binascii.Error) as error:
        raise KeyFileError(
            "this mark ticket does not open", do="Seal and open with the same key: stillwatch mark keys --seal FILE"
        ) from error
    record = json.loads(opened)
    split = tuple((level, share) for level, share in record["scheme"].pop("split"))
    return Mark(
        scheme=Scheme(**record["scheme"], split=split),
        keys={level: Secret(bytes.fromhex(key)) for level, key in record["keys"].items()},
        routing=Secret(bytes.fromhex(record["routing"])),
    )


def _cipher(seal: Secret) -> AESSIV:
    return AESSIV(hmac.new(seal.reveal(), b"stillwatch/1/mark ticket key", hashlib.sha512).digest())
