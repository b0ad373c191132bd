"""keys: one root key per installation, and the subkeys cut from it by purpose.

Outputs name a `key_id`, never a key. A `Secret` shows its length and nothing else: it cannot be printed, formatted,
pickled or written to JSON by accident; `reveal()` is the one way to its bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, Self, get_args

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stillwatch.errors import KeyFileError

Purpose = Literal["rows", "export", "marks", "match", "lineages", "gate"]
"""What a subkey is for: hashes inside findings, what leaves the machine, watermarks, matching with partners, the
members that lineages remember, and the gate's snapshots."""

N_KEY_BYTES = 32
KEY_VARIABLE = "STILLWATCH_KEY"

_HEX_KEY = re.compile(rb"\s*[0-9a-fA-F]{64}\s*")


class Secret:
    """Bytes that are not shown. Compared in constant time; neither hashable nor picklable."""

    __slots__ = ("__value",)

    def __init__(self, value: bytes) -> None:
        self.__value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves; keep them out of variables that outlive the call that needs them."""
        return self.__value

    def __len__(self) -> int:
        return len(self.__value)

    def __repr__(self) -> str:
        return f"<Secret of {len(self)} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; pass the key through its own channel")


@dataclass(frozen=True, slots=True, eq=False)
class RootKey:
    """The 32-byte key from which every other is cut."""

    secret: Secret

    def __post_init__(self) -> None:
        if len(self.secret) != N_KEY_BYTES or not any(self.secret.reveal()):
            raise KeyFileError(
                "the root key is not usable", got=f"{len(self.secret)} bytes", expected=f"{N_KEY_BYTES}, not all zero"
            )

    @classmethod
    def load(cls, home: Path, *, key_file: Path | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """Read the root key, making one on the first run.

        Args:
            home: the state folder; its key is `keys/root`, made with mode 0600 where it is absent.
            key_file: read this file instead; it must exist.
            environ: the environment; `STILLWATCH_KEY`, 64 hex digits, stands in for the file in `home`.

        Raises:
            KeyFileError: the key is absent, of the wrong length, or open to others than its owner.
        """
        if key_file is not None:
            return cls(_read(key_file))
        if KEY_VARIABLE in (environ or {}):
            return cls(_from_text(Secret(os.fsencode((environ or {})[KEY_VARIABLE])), where=KEY_VARIABLE))
        path = home / "keys" / "root"
        if not path.exists():
            _create(path)
        return cls(_read(path))

    def subkey(self, purpose: Purpose) -> Secret:
        """Cut the 32-byte key of one purpose: HKDF-SHA-256 (RFC 5869), the purpose as its info."""
        if purpose not in get_args(Purpose):
            raise KeyFileError(
                "no subkey has this purpose", got=repr(purpose), expected=f"one of {', '.join(get_args(Purpose))}"
            )
        info = f"stillwatch/1/{purpose}".encode()
        return Secret(HKDF(SHA256(), N_KEY_BYTES, salt=None, info=info).derive(self.secret.reveal()))

    def key_id(self, purpose: Purpose) -> str:
        """The public name of a subkey: 16 hex digits of its hash, safe to write into outputs."""
        return hashlib.sha256(b"stillwatch/1/key id" + self.subkey(purpose).reveal()).hexdigest()[:16]


def _read(path: Path) -> Secret:
    """Read a key file after checking who else can: the check and the reading are of the same open file."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            content = Secret(file.read(4 * N_KEY_BYTES) if stat.S_ISREG(status.st_mode) else b"")
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be read", got=error.strerror) from error
    if status.st_mode & 0o077:
        raise KeyFileError(
            f"the key file {path} is open to others than its owner",
            got=f"mode {stat.S_IMODE(status.st_mode):04o}",
            expected="mode 0600",
            do=f"Run: chmod 600 {path}, and make a new key if others may have read it.",
        )
    return content if len(content) == N_KEY_BYTES else _from_text(content, where=f"the key file {path}")


def _open_at_once(path: str, flags: int) -> int:
    # A named pipe must not hang the program.
    return os.open(path, flags | os.O_NONBLOCK)


def _from_text(text: Secret, *, where: str) -> Secret:
    """Read 64 hex digits. What was read stays wrapped, so that no error, cause or shown variable quotes it."""
    if _HEX_KEY.fullmatch(text.reveal()):
        return Secret(bytes.fromhex(text.reveal().decode()))
    raise KeyFileError(
        f"{where} does not hold a key", got=f"{len(text)} bytes", expected=f"{N_KEY_BYTES} bytes, or 64 hex digits"
    )


def _create(path: Path) -> None:
    """Write a new key so that no reader sees half of it and, of two first runs, one key wins."""
    draft = path.with_name(f".root.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(N_KEY_BYTES))
                file.flush()
                os.fsync(descriptor)
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise KeyFileError(
            f"no key can be made at {path}",
            got=error.strerror,
            do="Set STILLWATCH_HOME to a folder you may write to, or pass --key-file.",
        ) from error
