from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PINS = ("requirements-dev.txt", "pyproject.toml", "do")


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, at home in an empty clone."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("do", str(ROOT / "do"))
    spec = importlib.util.spec_from_loader("do", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    for name in PINS:
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "made-for")
    return module


class Calls(list[list[str]]):
    """Stands in for subprocess.call: notes each call, makes `.venv` where it is asked to, fails where told."""

    def __init__(self, fails: Callable[[list[str]], bool] = lambda command: False) -> None:
        super().__init__()
        self.fails = fails

    def __call__(self, command: list[str], cwd: str) -> int:
        self.append(command)
        if "venv" in command:
            bin_folder = Path(cwd, ".venv", "bin")
            bin_folder.mkdir(parents=True, exist_ok=True)
            (bin_folder / "python").touch()
            (bin_folder.parent / "made-for").unlink(missing_ok=True)
        return int(self.fails(command))


def test_an_old_python_can_read_the_script() -> None:
    """Python 3.7 parses it, so that it can say which Python is needed."""
    ast.parse((ROOT / "do").read_text(encoding="utf-8"), feature_version=(3, 7))
    assert os.access(ROOT / "do", os.X_OK)


def test_make_and_do_offer_the_same() -> None:
    """Every chore is a make target that calls it, and both print their list when called bare."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    bare = subprocess.run([sys.executable, ROOT / "do"], capture_output=True, text=True, check=True).stdout
    chores = set(re.findall(r"^  ([a-z]+) ", bare, re.MULTILINE))
    assert targets - {"help", "lock"} == chores - {"setup"}
    assert chores - {"setup"} == set(re.findall(r"\$\(PYTHON\) do ([a-z]+)", makefile))
    if shutil.which("make"):
        listed = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
        assert targets == set(re.findall(r"^  make ([a-z]+) ", listed, re.MULTILINE))


def test_an_unknown_chore_is_an_error(do: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt chore prints the list and fails, without setting anything up."""
    assert do.main(["dmeo"]) == 2
    assert do.main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


def test_set_up_happens_once(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first chore makes `.venv` with hashes required, the second finds it ready."""
    calls = Calls()
    monkeypatch.setattr(subprocess, "call", calls)
    assert do.main(["test", "-k", "keys"]) == 0
    assert len(calls) == 4
    assert "--clear" in calls[0]
    assert "--require-hashes" in calls[1]
    assert {"--no-deps", "--no-build-isolation", "-e"} <= set(calls[2])
    assert calls[3][-2:] == ["-k", "keys"]
    assert do.main(["test"]) == 0
    assert len(calls) == 5


@pytest.mark.parametrize("name", PINS)
def test_a_changed_pin_makes_it_anew(do: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """When what `.venv` was made from changes, it is made again from nothing."""
    calls = Calls()
    monkeypatch.setattr(subprocess, "call", calls)
    do.prepare()
    (do.ROOT / name).write_text("changed")
    do.prepare()
    assert len(calls) == 6
    assert "--clear" in calls[3]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_half_made_environment_is_repaired(do: ModuleType, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Whichever step failed, the error names it, and the next chore starts anew."""
    calls = Calls(fails=lambda command: len(calls) == step + 1)
    monkeypatch.setattr(subprocess, "call", calls)
    with pytest.raises(SystemExit, match=r"Setting up \.venv failed at: .*(venv|requirements|-e)"):
        do.prepare()
    monkeypatch.setattr(subprocess, "call", again := Calls())
    do.prepare()
    assert len(again) == 3


def test_an_environment_without_its_python_is_repaired(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the Python it was made from has gone, `.venv` is made again."""
    monkeypatch.setattr(subprocess, "call", calls := Calls())
    do.prepare()
    (do.VENV / "bin" / "python").unlink()
    do.prepare()
    assert len(calls) == 6


def test_a_python_without_venv_is_told_what_to_install(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian splits it off; the message names the package."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        do.prepare()


def test_a_failing_command_ends_the_chore_with_its_status(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` stops at the first thing that is wrong."""
    monkeypatch.setattr(subprocess, "call", calls := Calls(fails=lambda command: "--check" in command))
    assert do.main(["check"]) == 1
    assert [Path(command[0]).name for command in calls[3:]] == ["ruff", "ruff"]


def test_an_old_python_goes_on_under_a_newer_one(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a newer Python is installed it takes over; where none is, the message says which is needed."""
    taken: list[tuple[str, list[str]]] = []

    def take(path: str, arguments: list[str]) -> None:
        taken.append((path, arguments))
        raise SystemExit

    monkeypatch.setattr(os, "execv", take)
    do.find_python()
    monkeypatch.setattr(do, "OLDEST", (sys.version_info[0], sys.version_info[1] + 1))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Python 3\.\d+ or newer; this is 3"):
        do.find_python()
    newer = f"python3.{sys.version_info[1] + 2}"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == newer else None)
    with pytest.raises(SystemExit):
        do.find_python()
    assert taken == [(f"/usr/bin/{newer}", [f"/usr/bin/{newer}", *sys.argv])]
