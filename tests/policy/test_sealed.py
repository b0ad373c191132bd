from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import PolicyError
from stillwatch.keys import RootKey, Secret
from stillwatch.policy.live import Live
from stillwatch.policy.sealed import MAGIC, gate_key, load_snapshot, write_snapshot
from stillwatch.policy.snapshot import Lineage, Snapshot, empty_snapshot, gather
from tests.policy.making import NOW, snapshot

ROOT = RootKey(Secret(b"r" * 32))
OTHER = RootKey(Secret(b"s" * 32))


def made(n: int = 50) -> Snapshot:
    whole = snapshot()
    rows = [(f"acct_{at}", at % 2, 0.5 + at / (2 * n)) for at in range(n)]
    key = gate_key(ROOT, "accounts")
    accounts, lineage_of, membership = gather(rows, whole.lineages, key=key)
    return Snapshot(
        made_us=whole.made_us, expires_us=whole.expires_us, key=key, lineages=whole.lineages, accounts=accounts,
        lineage_of=lineage_of, membership=membership, policy_version="v1", source="ab",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_snapshot(made(), tmp_path / "gate.snapshot", ROOT)
    return tmp_path / "gate.snapshot"


def refused(content: bytes, path: Path, root: RootKey = ROOT) -> str:
    path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        load_snapshot(path, root, NOW)
    return str(caught.value)


def test_what_is_written_is_read(path: Path) -> None:
    """Every account has the standing it was written with; others have none."""
    read = load_snapshot(path, ROOT, NOW)
    assert read.lineages == made().lineages
    assert (read.policy_version, read.source) == ("v1", "ab")
    for at in range(50):
        standing = read.standing(f"acct_{at}")
        assert standing is not None
        assert standing.lineage.lineage_id == f"lin-{at % 2}"
        assert standing.membership == pytest.approx(0.5 + at / 100, abs=1e-5)
    assert read.standing("acct_50") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_loaded_is_aligned(path: Path) -> None:
    """A search in unaligned numbers would copy all of them at every call, however long the header before them is."""
    read = load_snapshot(path, ROOT, NOW)
    for column in (read.accounts, read.lineage_of, read.membership):
        assert column.flags.aligned
        assert column.dtype.isnative


def test_no_id_of_an_account_is_in_the_file(path: Path) -> None:
    """Whoever steals the file cannot read whom it names."""
    assert b"acct_" not in path.read_bytes()


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    """One bit anywhere, and nothing of the file is used."""
    content = path.read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << (at % 8)
        refused(bytes(changed), path)


def test_every_truncation_is_noticed(path: Path) -> None:
    """A file cut anywhere, or with something behind it, is refused."""
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        refused(content[:end], path)
    assert "damaged" in refused(content + b"\0", path)


def test_a_foreign_key_is_named(path: Path) -> None:
    """A snapshot of another installation is told from a damaged one."""
    assert f"got key {ROOT.key_id('gate')}; expected key {OTHER.key_id('gate')}" in refused(
        path.read_bytes(), path, OTHER
    )


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    """Any bytes behind the magic, sealed or not, are a PolicyError."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        refused(MAGIC + content, Path(folder) / "gate.snapshot")


def test_a_sealed_file_of_another_version_is_refused(path: Path) -> None:
    """What the key vouches for but this version does not know is not guessed at."""
    import hmac

    content = path.read_bytes()
    n_header = int.from_bytes(content[8:12], "little")
    header = json.loads(content[12 : 12 + n_header])
    bad = [header | {"v": 2}, header | {"n": 10**9}, header | {"lineages": [["a"]]}, header | {"lineages": []}, [], {}]
    for changed in [*bad, header | {"made_us": "soon"}, header | {"lineages": [["a", "b", "guilty", None]] * 2}]:
        text = json.dumps(changed).encode()
        body = MAGIC + len(text).to_bytes(4, "little") + text + content[12 + n_header : -32]
        sealed = body + hmac.digest(gate_key(ROOT, "seal").reveal(), body, "sha256")
        assert "another version" in refused(sealed, path)


def test_an_expired_snapshot_is_refused(path: Path) -> None:
    """After its day it is not loaded; a clock that went back loads it."""
    with pytest.raises(PolicyError, match="has expired"):
        load_snapshot(path, ROOT, NOW + timedelta(days=30))
    assert load_snapshot(path, ROOT, NOW - timedelta(days=3000)).lineages


def test_a_bad_new_snapshot_keeps_the_old(path: Path) -> None:
    """Snapshots are swapped live as policies are."""
    live = Live(path, lambda file: load_snapshot(file, ROOT, NOW))
    draft = path.with_suffix(".new")
    draft.write_bytes(path.read_bytes()[:-1])
    draft.replace(path)
    assert "damaged" in (live.look().error or "")
    assert live.current.standing("acct_1") is not None
    write_snapshot(made(51), path, ROOT)
    assert live.look().changed
    assert live.current.standing("acct_50") is not None


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """Absent files, folders and other files have their own words."""
    with pytest.raises(PolicyError, match="cannot be read"):
        load_snapshot(tmp_path / "none", ROOT, NOW)
    assert "not a gate snapshot" in refused(b"PK\x03\x04", tmp_path / "zip")


def test_an_account_named_twice_keeps_its_highest_membership() -> None:
    """Of equal ones the first lineage; the order of rows does not matter."""
    lineages = (Lineage("a", "a", "campaign"), Lineage("b", "b", "campaign"))
    rows = [("x", 1, 0.95), ("y", 0, 0.9), ("x", 0, 0.91), ("y", 1, 0.9)]
    one, two = gather(rows, lineages, key=ROOT.secret), gather(rows[::-1], lineages, key=ROOT.secret)
    assert [column.tolist() for column in one] == [column.tolist() for column in two]
    assert sorted(one[1].tolist()) == [0, 1]


def test_an_empty_snapshot_names_nobody(tmp_path: Path) -> None:
    """No findings are a snapshot too."""
    assert empty_snapshot().standing("") is None
    write_snapshot(snapshot(), tmp_path / "gate.snapshot", ROOT)
    assert load_snapshot(tmp_path / "gate.snapshot", ROOT, NOW).standing("ann") is None
