#!/usr/bin/env python3
"""do: every chore of this project, for a fresh clone and a bare Python; `make` calls it, and it needs no make.

It keeps `.venv` in step with the pinned requirements and pyproject.toml: made on first use, made anew when they
change or when an earlier attempt was cut short. Nothing outside the clone is touched.
"""

# Old Pythons must get as far as the message that says which one is needed: no newer syntax above `main`.
from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "made-for"
OLDEST = (3, 11)

PYTEST = ["python", "-m", "pytest"]
CHORES = {
    "demo": ("make a small log with planted campaigns, scan it, show what was found", [["stillwatch", "demo"]]),
    "test": ("run the quick tests", [[*PYTEST, "-q", "-m", "not slow"]]),
    "check": (
        "run what CI runs: lint, format, types, every test and doctest",
        [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], [*PYTEST, "-q"]],
    ),
    "bench": ("measure speed and detection quality", [["python", "-m", "benchmarks"]]),
    "setup": ("only make .venv", []),
}


def main(arguments: list[str]) -> int:
    """Run one chore; anything after its name goes to its last command."""
    if not arguments or arguments[0] not in CHORES:
        print("usage: ./do CHORE\n" + "".join(f"\n  {name:8}{what}" for name, (what, _) in CHORES.items()))
        return 0 if arguments[:1] in ([], ["help"], ["--help"], ["-h"]) else 2
    commands = [list(command) for command in CHORES[arguments[0]][1]]
    if commands:
        commands[-1] += arguments[1:]
    prepare()
    for command in commands:
        print("$", *command, file=sys.stderr, flush=True)
        status = subprocess.call([str(VENV / "bin" / command[0]), *command[1:]], cwd=str(ROOT))
        if status:
            return status
    return 0


def prepare() -> None:
    """Make `.venv`, unless the one that stands was finished for just these pins, this place and this Python."""
    pins = [ROOT / name for name in ("requirements-dev.txt", "pyproject.toml", "do")]
    place = f"{ROOT}\n{sys.version_info[:2]}\n".encode()
    wanted = hashlib.sha256(place + b"".join(path.read_bytes() for path in pins)).hexdigest()
    if (VENV / "bin" / "python").exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        sys.exit("This Python cannot make environments. On Debian and Ubuntu: apt install python3-venv")
    print("Setting up .venv (once; a minute or two) ...", file=sys.stderr, flush=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [*pip, "--require-hashes", "-r", "requirements-dev.txt"],
        [*pip, "--no-deps", "--no-build-isolation", "-e", "."],
    ):
        if subprocess.call(command, cwd=str(ROOT)):
            sys.exit(f"Setting up .venv failed at: {' '.join(command)}\nRun the same chore again to start anew.")
    STAMP.write_text(wanted)


def find_python() -> None:
    """Go on under a Python that is new enough, if this one is not and another is installed."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(19, OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other:
            os.execv(other, [other, *sys.argv])
    sys.exit(f"Stillwatch needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is {sys.version.split()[0]}.")


if __name__ == "__main__":
    find_python()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
