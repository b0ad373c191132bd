"""Who may import whom: the floors and walls of the house."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Collection, Iterator

import pytest

from tests.floors.source import MODULES, PACKAGE, ROOT, Module, complain

FLOORS = {
    **dict.fromkeys(
        "records errors settings keys journal home checked redact allowlist extras kinship lineages reasoning".split(),
        0,
    ),
    "kernels": 1,
    **dict.fromkeys("ingest engine suspects".split(), 2),
    **dict.fromkeys("detect watermark receive".split(), 3),
    **dict.fromkeys("evidence audit compare".split(), 4),
    "policy": 5,
    **dict.fromkeys("dossier sharing".split(), 6),
    **dict.fromkeys("pipeline gate console".split(), 7),
    "cli": 8,
    **dict.fromkeys("__init__ __main__".split(), 9),
}
"""A room imports lower floors only; the single modules of floor 0 may import each other."""

GROUND = {room for room, floor in FLOORS.items() if floor == 0}

WALLS = {"gate": GROUND | {"kernels", "policy"}, "sim": GROUND, "console": GROUND | {"policy", "dossier"}}
"""Rooms that may import even less than their floor allows: the gate is a hot path, the console computes nothing, and
the simulator, which stands beside the floors, shares nothing with what it tests."""

VISITORS = {"sim": {"cli"}}
"""Rooms that only these may import: detection never sees the simulator's truth."""

OUTSIDE = {
    "duckdb": {"ingest", "engine"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "jinja2": {"dossier", "console", "cli"},
    "markupsafe": {"dossier", "console"},
    "cryptography": {"keys", "dossier", "sharing", "policy", "gate", "watermark"},
    "pyspark": {"engine"},
    "polars": set(),
    "pandas": set(),
    "igraph": set(),
    "leidenalg": set(),
}
"""Packages that only these rooms may import: engines stay in their files, the terminal in cli, the GPL outside."""

GATE_FORBIDS = {"duckdb", "torch", "scipy", "sknetwork", "networkit", "networkx", "pyspark"}
"""What must not be loaded, even through a third module, in the hot path."""


HOSTS = {"gate/litellm_hook.py": {"litellm", "fastapi"}}
"""Modules that only ever run inside another program, and the packages that are there because it is."""


def inside(module: Module) -> Iterator[tuple[str, int]]:
    """The rooms of our own a module imports, with the line."""
    for name, line in module.imports:
        if name.split(".")[0] == "stillwatch":
            yield [*name.split("."), "__init__"][1], line


def outside(module: Module) -> Iterator[tuple[str, int]]:
    """The packages of others a module imports, with the line."""
    for name, line in module.imports:
        if name.split(".")[0] not in {"stillwatch", *sys.stdlib_module_names}:
            yield name.split(".")[0], line


def allowed(room: str) -> set[str]:
    """The rooms that a room may import."""
    if room in WALLS:
        return WALLS[room]
    lower = {other for other, floor in FLOORS.items() if floor < FLOORS[room]}
    guests = {closed for closed, visitors in VISITORS.items() if room in visitors}
    return lower | guests | (GROUND if room in GROUND else set())


def test_every_room_has_a_floor() -> None:
    """A new folder or top module is given its floor before anything is built in it."""
    assert {module.room for module in MODULES} <= FLOORS.keys() | WALLS.keys()


def test_every_folder_is_a_package() -> None:
    """Each folder with modules has its `__init__` with a caption."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    complain(str(folder) for folder in folders if not (folder / "__init__.py").is_file())


def test_modules_import_lower_floors_only() -> None:
    """No import goes up, sideways into a sibling's room, or through a wall."""
    wrong = [
        f"{module.place}:{line} imports {room}"
        for module in MODULES
        for room, line in inside(module)
        if room != module.room and room not in allowed(module.room)
    ]
    complain(wrong)


def test_packages_are_imported_where_they_belong() -> None:
    """Engines, terminal and templates stay in the rooms that are for them."""
    wrong = [
        f"{module.place}:{line} imports {package}"
        for module in MODULES
        for package, line in outside(module)
        if package in OUTSIDE and module.room not in OUTSIDE[package]
    ]
    complain(wrong)


def test_an_engine_stays_in_its_own_file() -> None:
    """Within engine/, each engine's package is imported by one module."""
    for package in ("duckdb", "pyspark"):
        homes = {m.place for m in MODULES if m.room == "engine" for name, _ in outside(m) if name == package}
        assert len(homes) <= 1, (package, homes)


def test_torch_is_announced() -> None:
    """A module that loads torch says so in its first line."""
    for module in MODULES:
        if any(package == "torch" for package, _ in outside(module)):
            assert "torch" in module.text.splitlines()[0], module.place


def test_the_hot_path_is_light() -> None:
    """Nothing that the gate loads, however indirectly, brings an engine, torch or a graph library with it."""
    by_name = {module.dotted: module for module in MODULES}
    waiting = [module for module in MODULES if module.room == "gate"]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module.dotted in seen:
            continue
        seen.add(module.dotted)
        heavy = {package for package, _ in outside(module)} & GATE_FORBIDS
        assert not heavy, f"{module.place} brings {heavy} into the gate"
        waiting += [by_name[name] for name, _ in module.imports if name in by_name]


def test_imports_are_declared() -> None:
    """The core imports declared core dependencies only; anything else goes through `extras.require`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = names(project["dependencies"]) | {"markupsafe"}  # jinja2's own escaping type
    extras = names([line for lines in project.get("optional-dependencies", {}).values() for line in lines])
    wrong = [
        f"{module.place}:{line} imports {package}"
        for module in MODULES
        for package, line in outside(module)
        if package not in declared | extras | HOSTS.get(module.place, set())
    ]
    complain(wrong)


def names(requirements: Collection[str]) -> set[str]:
    """The import names of requirements; all but a few distributions are called alike."""
    called = {"scikit-network": "sknetwork"}
    plain = [requirement.split(">")[0].split("[")[0].strip() for requirement in requirements]
    return {called.get(name, name) for name in plain}


@pytest.mark.parametrize(
    ("room", "other", "fine"),
    [
        ("settings", "errors", True),
        ("kernels", "records", True),
        ("ingest", "engine", False),
        ("kernels", "detect", False),
        ("gate", "kernels", True),
        ("gate", "detect", False),
        ("console", "pipeline", False),
        ("pipeline", "gate", False),
        ("sim", "kernels", False),
        ("detect", "sim", False),
        ("cli", "sim", True),
        ("cli", "__init__", False),
    ],
)
def test_the_rules_say_what_the_design_says(room: str, other: str, fine: bool) -> None:
    """The tables above, read by hand in a few places."""
    assert (other in allowed(room)) is fine
