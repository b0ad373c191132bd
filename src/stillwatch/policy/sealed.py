"""sealed: a snapshot as one file that only this installation can write and that is refused where a bit of it changed.

The file: `SWGATE1\\n`; the header's length (4 bytes, little-endian) and the header, canonical JSON; n account hashes of
8 bytes, n lineage numbers of 4, n memberships of 2; HMAC-SHA-256 over all before it. Whoever holds the root key can
write snapshots, so a gate that must not is given its own machine, not its own format.
"""

from __future__ import annotations

import hmac
import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from stillwatch.checked import CheckedJournal
from stillwatch.errors import PolicyError
from stillwatch.keys import RootKey, Secret
from stillwatch.policy.model import micros
from stillwatch.policy.snapshot import Lineage, Snapshot
from stillwatch.records import VERDICTS, instant

MAGIC = b"SWGATE1\n"
MAX_BYTES = 4 << 30
MAX_HEADER = 64 << 20
_SEAL = 32
_PER_ACCOUNT = 8 + 4 + 2
_TYPES = {"expires_us": int, "key_id": str, "lineages": list, "made_us": int, "n": int, "source": str, "v": int}


def gate_key(root: RootKey, use: str) -> Secret:
    """A key of the gate for one use, such as `accounts` or `seal`, cut from the subkey `gate`."""
    return Secret(hmac.digest(root.subkey("gate").reveal(), f"stillwatch/1/gate/{use}".encode(), "sha256"))


def gate_journal(home: Path, root: RootKey) -> CheckedJournal:
    """The journal of a state folder, in which a gate writes every decision, with the memory of its check."""
    return CheckedJournal(home / "journal", gate_key(root, "journal"))


def write_snapshot(snapshot: Snapshot, path: Path, root: RootKey) -> None:
    """Write the file (mode 0600), whole or not at all, over an earlier one.

    Raises:
        PolicyError: it cannot be written.
    """
    body = _encode(snapshot, root)
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(descriptor)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PolicyError(f"cannot write the snapshot {path}", got=error.strerror, do="Name another --out.") from error


def load_snapshot(path: Path, root: RootKey, now: datetime) -> Snapshot:
    """Read a snapshot, every byte checked before any is believed.

    Raises:
        PolicyError: it cannot be read, is cut short or changed, was written under another root key, or has expired.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise PolicyError(f"the snapshot {path} is too large", expected=f"at most {MAX_BYTES:,} bytes")
            content = file.read()
    except OSError as error:
        raise PolicyError(f"the snapshot {path} cannot be read", got=error.strerror) from error
    snapshot = _decode(content, root, where=f"the snapshot {path}")
    if micros(now) >= snapshot.expires_us:
        raise PolicyError(
            f"the snapshot {path} has expired",
            got=instant(snapshot.expires_us).isoformat(),
            do="Scan again, and compile: stillwatch policy compile FINDINGS",
        )
    return snapshot


def _encode(snapshot: Snapshot, root: RootKey) -> bytes:
    lineages = [[one.lineage_id, one.campaign_id, one.verdict, one.mark_key_id] for one in snapshot.lineages]
    header: dict[str, Any] = {
        "v": 1,
        "made_us": snapshot.made_us,
        "expires_us": snapshot.expires_us,
        "key_id": root.key_id("gate"),
        "policy_version": snapshot.policy_version,
        "source": snapshot.source,
        "lineages": lineages,
        "n": len(snapshot.accounts),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    columns = (
        snapshot.accounts.astype("<u8").tobytes(),
        snapshot.lineage_of.astype("<u4").tobytes(),
        snapshot.membership.astype("<u2").tobytes(),
    )
    body = b"".join((MAGIC, len(text).to_bytes(4, "little"), text, *columns))
    return body + _seal(body, root)


def _seal(body: bytes | memoryview, root: RootKey) -> bytes:
    return hmac.digest(gate_key(root, "seal").reveal(), body, "sha256")


def _decode(content: bytes, root: RootKey, *, where: str) -> Snapshot:
    if not content.startswith(MAGIC):
        raise PolicyError(f"{where} is not a gate snapshot", expected="a file that stillwatch policy compile wrote")
    start = len(MAGIC) + 4
    n_header = int.from_bytes(content[len(MAGIC) : start], "little")
    whole = memoryview(content)
    if not hmac.compare_digest(_seal(whole[:-_SEAL], root), content[-_SEAL:]):
        _unsealed(content[start : start + min(n_header, MAX_HEADER)], root, where)
    try:
        header = json.loads(content[start : start + n_header])
        if {name: type(header[name]) for name in _TYPES} != _TYPES or header["v"] != 1:
            raise ValueError(header["v"])
        lineages = tuple(Lineage(*(entry[:4])) for entry in header["lineages"])
        n, at = header["n"], start + n_header
        if len(content) != at + n * _PER_ACCOUNT + _SEAL:
            raise ValueError(n)
        # Copied, since a search in numbers that are not aligned would copy all of them each time.
        accounts = np.frombuffer(content, "<u8", n, at).astype(np.uint64, copy=True)
        lineage_of = np.frombuffer(content, "<u4", n, at + 8 * n).astype(np.uint32, copy=True)
        membership = np.frombuffer(content, "<u2", n, at + 12 * n).astype(np.uint16, copy=True)
        if n and (int(lineage_of.max()) >= len(lineages) or not bool(np.all(accounts[1:] > accounts[:-1]))):
            raise ValueError(n)
        if any(one.verdict not in VERDICTS for one in lineages):
            raise ValueError("verdict")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PolicyError(f"{where} is of another version", do="Compile it again with this version.") from error
    return Snapshot(
        made_us=header["made_us"],
        expires_us=header["expires_us"],
        key=gate_key(root, "accounts"),
        lineages=lineages,
        accounts=accounts,
        lineage_of=lineage_of,
        membership=membership,
        policy_version=header.get("policy_version"),
        source=header["source"],
    )


def _unsealed(header: bytes, root: RootKey, where: str) -> NoReturn:
    """Say why a seal does not fit. The header is not believed: it only makes the message better."""
    try:
        key_id = json.loads(header)["key_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        key_id = None
    ours = root.key_id("gate")
    if isinstance(key_id, str) and len(key_id) == len(ours) and key_id != ours:
        raise PolicyError(
            f"{where} was written under another root key",
            got=f"key {key_id}",
            expected=f"key {ours}",
            do="Compile it with this installation's key, or name its key with --key-file.",
        )
    raise PolicyError(f"{where} is damaged or was changed", do="Compile it again; until then nothing of it is used.")
