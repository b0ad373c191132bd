"""Habits a reader relies on: captions, sizes, docstrings, and a library that is quiet and repeatable."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import stillwatch
from tests.floors.source import MODULES, ROOT, Module, called, complain

N_MAX_LINES = 400
N_MAX_FUNCTION_LINES = 50

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> Iterator[Function]:
    """Every function of a module, methods and inner ones included."""
    return (node for node in ast.walk(module.tree) if isinstance(node, Function))


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """The public functions and classes of a body and, of the classes, their public methods; setters need no words."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if not any(called(mark).endswith((".setter", "overload")) for mark in node.decorator_list):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_a_module_opens_with_its_caption() -> None:
    """The docstring's first line is the module's name, a colon and what it is, on one line."""
    wrong = []
    for module in MODULES:
        name = module.path.parent.name if module.path.name == "__init__.py" else module.path.stem
        first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
        if not re.fullmatch(rf"{re.escape(name)}: \S.*", first):
            wrong.append(f"{module.place}: {first!r}")
    complain(wrong)


def test_a_module_is_one_room() -> None:
    """No module is longer than 400 lines, and half of them are under about 150."""
    lengths = {module.place: module.text.count("\n") for module in MODULES}
    complain(f"{place}: {n} lines" for place, n in lengths.items() if n > N_MAX_LINES)
    assert sorted(lengths.values())[len(lengths) // 2] <= 180


def test_a_function_fits_a_page() -> None:
    """No function has more than 50 lines, its docstring not counted."""
    wrong = []
    for module in MODULES:
        for node in functions(module):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                length -= (first.end_lineno or first.lineno) - first.lineno + 1
            if length > N_MAX_FUNCTION_LINES:
                wrong.append(f"{module.place}:{node.lineno} {node.name}: {length} lines")
    complain(wrong)


def test_everything_public_is_described() -> None:
    """Every public function, class and method has a docstring."""
    wrong = [
        f"{module.place}:{node.lineno} {node.name}"
        for module in MODULES
        for node in public(module.tree.body)
        if ast.get_docstring(node) is None
    ]
    complain(wrong)


def test_every_test_says_what_it_holds() -> None:
    """Every test has a docstring of one sentence."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function) and node.name.startswith("test_") and not ast.get_docstring(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    complain(wrong)


def test_no_room_is_called_misc() -> None:
    """A module is named for what it holds."""
    vague = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "base", "core"}
    complain(module.place for module in MODULES if {module.path.stem, module.path.parent.name} & vague)


SPEAKING = {"print", "input", "breakpoint", "exit", "quit", "sys.exit", "os._exit", "os.abort"}
CLOCKS = {
    *(f"{name}.{call}" for name in ("datetime", "datetime.datetime", "dt.datetime") for call in ("now", "utcnow")),
    *(f"{name}.today" for name in ("datetime", "datetime.datetime", "date", "datetime.date")),
    *(f"time.{call}" for call in ("time", "time_ns", "localtime", "gmtime", "ctime")),
}
CHANCE = {"uuid.uuid1", "uuid.uuid4", "os.urandom", "uuid1", "uuid4", "urandom", "getrandbits", "randbytes"}
SEEDED = {"Generator", "SeedSequence", "BitGenerator", "PCG64", "PCG64DXSM", "Philox", "default_rng"}


def leaps(module: Module) -> Iterator[tuple[str, int]]:
    """What in a module depends on the process, the clock or chance, or speaks past its caller."""
    at_the_door = module.room in ("cli", "__main__")
    for node in ast.walk(module.tree):
        name = called(node) if isinstance(node, ast.Call | ast.Attribute) else ""
        if isinstance(node, ast.Call):
            if name == "hash":
                yield "built-in hash(), which differs from process to process", node.lineno
            if not at_the_door and name in SPEAKING | CLOCKS:
                yield name, node.lineno
            if name in CHANCE:
                yield name, node.lineno
            if name.rpartition(".")[2] == "default_rng" and not (node.args or node.keywords):
                yield "a generator without a seed", node.lineno
        elif isinstance(node, ast.Attribute):
            if re.match(r"(np|numpy)\.random\.", name) and node.attr not in SEEDED:
                yield f"{name}, global random state", node.lineno
            if not at_the_door and name in ("sys.stdout", "sys.stderr"):
                yield name, node.lineno
        elif isinstance(node, ast.Raise) and not at_the_door and "SystemExit" in ast.unparse(node):
            yield "SystemExit", node.lineno
    for name, line in module.imports:
        if name.split(".")[0] == "random":
            yield "random", line
        # Keys are the one thing that must not repeat.
        if name.split(".")[0] == "secrets" and module.place != "keys.py":
            yield "secrets", line


def test_the_library_is_quiet_and_repeatable() -> None:
    """Outside the command line nothing prints or exits; nowhere is there a hidden clock, salt or dice."""
    complain(f"{module.place}:{line} uses {what}" for module in MODULES for what, line in leaps(module))


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "import sys; sys.exit(1)",
        "import sys; sys.stderr.write('x')",
        "raise SystemExit(2)",
        "datetime.now(UTC)",
        "x = time.time()",
        "hash('x')",
        "import random",
        "from random import choice",
        "np.random.shuffle(x)",
        "np.random.default_rng()",
        "import secrets",
        "uuid.uuid4()",
    ],
)
def test_what_is_forbidden_is_noticed(tmp_path: Path, source: str) -> None:
    """The check above finds each of the things it is for."""
    path = tmp_path / "detect" / "sample.py"
    path.parent.mkdir()
    path.write_text(source)
    assert list(leaps(Module(path, root=tmp_path)))


def tracked() -> list[Path]:
    """The files that git keeps or would keep."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("this is not a git checkout, so there is no list of its files")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_package_index() -> None:
    """Pins name versions and hashes; where packages come from is the installer's own business."""
    # In pieces, so that this file does not find itself.
    address = re.compile(
        "|".join(
            (
                r"\b" + "pypi" + r"\.(?:org|python)",
                "python" + "hosted",
                "--(?:extra-)?" + "index-url",
                "--find" + "-links",
                r"https?://[^\s\"'<>]+\." + r"(?:whl|tar\.gz|zip)\b",
                r"^\S+ @ " + r"(?:https?|file):",
            )
        ),
        re.MULTILINE,
    )
    wrong = []
    for path in tracked():
        for found in address.finditer(path.read_bytes().decode("utf-8", errors="ignore")):
            wrong.append(f"{path.relative_to(ROOT)}: {found.group()}")
    complain(wrong)


def test_the_pins_are_hashed_and_cover_the_project() -> None:
    """Every line is a pin with hashes, the development set holds the run set, and no dependency is missing."""
    sets = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        assert all(
            re.fullmatch(r"[a-z0-9.-]+==[^ ]+ +(;.*?)?( *--hash=sha256:[0-9a-f]{64})+ *", line) for line in lines
        )
        sets[name] = dict(line.split("==", 1) for line in lines)
    assert sets["requirements.txt"].items() <= sets["requirements-dev.txt"].items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {line.split(">=")[0] for line in project["project"]["dependencies"]} <= sets["requirements.txt"].keys()
    assert set(project["dependency-groups"]["dev"]) <= sets["requirements-dev.txt"].keys()


def test_the_version_is_one() -> None:
    """The package and its metadata name the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == stillwatch.__version__


def test_extras_that_are_asked_for_are_declared() -> None:
    """An error never sends a user to install an extra that does not exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {
        node.args[1].value
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and called(node).endswith("require") and len(node.args) > 1
        if isinstance(node.args[1], ast.Constant)
    }
    assert asked <= project.get("optional-dependencies", {}).keys()
