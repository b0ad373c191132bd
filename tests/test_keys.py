from __future__ import annotations

import copy
import hashlib
import hmac
import json
import logging
import os
import pickle
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest

from stillwatch.errors import KeyFileError
from stillwatch.keys import Purpose, RootKey, Secret

KEY = bytes(range(1, 33))


def write_key(path: Path, content: bytes = KEY, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def show_with_variables(error: BaseException, *, skip: int) -> str:
    """The traceback with each frame's variables, without the test's own frames."""
    frames = error.__traceback__
    for _ in range(skip):
        assert frames is not None
        frames = frames.tb_next
    return "".join(traceback.TracebackException(type(error), error, frames, capture_locals=True).format())


def hkdf_sha256(key: bytes, info: bytes) -> bytes:
    """RFC 5869 with no salt and one block, written out."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_the_first_run_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    """Whatever the umask, the file is 0600 in a folder of 0700, holds 32 bytes, and the next run reads it."""
    before = os.umask(0)
    try:
        first = RootKey.load(tmp_path / "deep" / "home")
    finally:
        os.umask(before)
    path = tmp_path / "deep" / "home" / "keys" / "root"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == first.secret.reveal()
    assert len(path.read_bytes()) == 32
    assert RootKey.load(tmp_path / "deep" / "home").secret == first.secret
    assert [item.name for item in path.parent.iterdir()] == ["root"]


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    """A key is never derived from anything a stranger could repeat."""
    assert RootKey.load(tmp_path / "a").secret != RootKey.load(tmp_path / "b").secret


def test_first_runs_at_once_agree_on_one_key(tmp_path: Path) -> None:
    """Of several processes that start together, all use the key of whoever was first."""
    code = (
        "import sys; from pathlib import Path; from stillwatch.keys import RootKey; sys.stdin.read();"
        "print(RootKey.load(Path(sys.argv[1])).key_id('rows'))"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdin is not None
        run.stdin.close()
    answers = set()
    for run in runs:
        assert run.stdout is not None
        with run.stdout:
            answers.add(run.stdout.read())
        assert run.wait() == 0
    assert answers == {RootKey.load(tmp_path).key_id("rows") + "\n"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or others is too much, and the error says how to take it away."""
    path = write_key(tmp_path / "key", mode=mode)
    with pytest.raises(KeyFileError, match=rf"got mode {mode:04o}; expected mode 0600\. Run: chmod 600"):
        RootKey.load(tmp_path, key_file=path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
@pytest.mark.parametrize(
    "content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\r\n", b" " + KEY.hex().encode()]
)
def test_a_key_file_is_raw_or_hex(tmp_path: Path, content: bytes, mode: int) -> None:
    """32 bytes, or 64 hex digits with white space around them, are the same key."""
    assert RootKey.load(tmp_path, key_file=write_key(tmp_path / "key", content, mode)).secret.reveal() == KEY


@pytest.mark.parametrize("content", [b"", b"\n", KEY[:31], KEY + b"x", KEY.hex()[:-1].encode(), b"zz" * 32, KEY * 40])
def test_a_malformed_key_file_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    """The error gives the length only; even a traceback that shows variables does not show the key."""
    path = write_key(tmp_path / "key", content)
    with pytest.raises(KeyFileError, match="does not hold a key") as caught:
        RootKey.load(tmp_path, key_file=path)
    shown = show_with_variables(caught.value, skip=1)
    assert "where = " in shown
    assert KEY.hex()[:20] not in shown
    assert repr(KEY[:8])[2:-1] not in shown


def test_a_key_of_zeros_is_refused(tmp_path: Path) -> None:
    """A file left empty by a crash, which some systems fill with zeros, is no key."""
    with pytest.raises(KeyFileError, match="not usable"):
        RootKey.load(tmp_path, key_file=write_key(tmp_path / "key", bytes(32)))


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """An absent file, a folder and a named pipe are errors; the pipe does not hang the program."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("absent", "folder", "pipe"):
        with pytest.raises(KeyFileError, match=name):
            RootKey.load(tmp_path, key_file=tmp_path / name)


def test_a_home_that_cannot_hold_a_key_is_named(tmp_path: Path) -> None:
    """Where no key can be made the error says what to set instead, and a dangling link is not followed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match=r"no key can be made.*Set STILLWATCH_HOME"):
        RootKey.load(tmp_path / "file")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "root").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="cannot be read"):
        RootKey.load(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_the_variable_stands_in_for_the_file(tmp_path: Path) -> None:
    """`STILLWATCH_KEY` is used where it is set, makes no file, and yields to a file named on the command line."""
    environ = {"STILLWATCH_KEY": f"{KEY.hex()}\n"}
    assert RootKey.load(tmp_path, environ=environ).secret.reveal() == KEY
    assert not list(tmp_path.iterdir())
    other = write_key(tmp_path / "key", KEY[::-1])
    assert RootKey.load(tmp_path, key_file=other, environ=environ).secret.reveal() == KEY[::-1]


@pytest.mark.parametrize("text", ["", "abc", KEY.hex() + "0", "é" * 64, "\udcff"])
def test_a_malformed_variable_is_refused(tmp_path: Path, text: str) -> None:
    """A variable that is set but holds no key never falls back to a file, and is not quoted."""
    with pytest.raises(KeyFileError, match="STILLWATCH_KEY does not hold a key") as caught:
        RootKey.load(tmp_path, environ={"STILLWATCH_KEY": text})
    assert KEY.hex()[:20] not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    assert not list(tmp_path.iterdir())


def test_subkeys_are_hkdf_of_the_purpose() -> None:
    """Each purpose has its own subkey, equal to RFC 5869 written out with the standard library."""
    root = RootKey(Secret(KEY))
    for purpose in get_args(Purpose):
        assert root.subkey(purpose).reveal() == hkdf_sha256(KEY, f"stillwatch/1/{purpose}".encode())
    assert len({root.subkey(purpose).reveal() for purpose in get_args(Purpose)}) == 6


def test_a_key_id_names_a_subkey_and_gives_none_of_it() -> None:
    """An id is 16 hex digits of a hash of the subkey, the same on every machine."""
    root = RootKey(Secret(KEY))
    expected = hashlib.sha256(b"stillwatch/1/key id" + hkdf_sha256(KEY, b"stillwatch/1/rows")).hexdigest()[:16]
    assert root.key_id("rows") == expected
    assert len({root.key_id(purpose) for purpose in get_args(Purpose)}) == 6


def test_an_unknown_purpose_has_no_subkey() -> None:
    """A misspelt purpose is an error, not a seventh key."""
    with pytest.raises(KeyFileError, match=r"'row'.*rows, export, marks, match"):
        RootKey(Secret(KEY)).subkey("row")  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_root_key_has_one_length(length: int) -> None:
    """Neither a short nor a long root key is taken."""
    with pytest.raises(KeyFileError, match=f"got {length} bytes"):
        RootKey(Secret(b"k" * length))


def test_a_secret_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """No way of turning an object to text shows the bytes."""
    secret = Secret(b"hunter2hunter2")
    root = RootKey(Secret(b"hunter2hunter2hunter2hunter2xxxx"))
    logging.getLogger("test").warning("loaded %s and %r", secret, root)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!a:>40}", "%s" % (secret,), repr([secret]), repr(root)]  # noqa: UP031
    assert not any("hunter2" in text for text in [*shown, caplog.text])
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_carried_off_by_accident() -> None:
    """Pickling, copying, JSON, bytes() and a dataclass turned to a dict all fail."""
    secret = Secret(KEY)
    ways: tuple[Callable[[Any], object], ...] = (
        pickle.dumps, copy.copy, copy.deepcopy, json.dumps, bytes, list, hash,
    )  # fmt: skip
    for carry in ways:
        with pytest.raises(TypeError):
            carry(secret)
    with pytest.raises(TypeError):
        asdict(RootKey(secret))


def test_a_secret_in_a_failing_call_is_not_in_the_traceback() -> None:
    """A traceback that shows variables shows the wrapper only."""

    def fail(secret: Secret) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        fail(Secret(b"hunter2hunter2"))
    shown = show_with_variables(caught.value, skip=1)
    assert "secret = <Secret of 14 bytes>" in shown
    assert "hunter2" not in shown


def test_secrets_compare_by_value() -> None:
    """Equal bytes are equal secrets; bytes themselves are not a secret."""
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
