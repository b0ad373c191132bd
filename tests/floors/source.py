"""The source of the package, parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "stillwatch"


@dataclass(frozen=True)
class Module:
    """One module: its path, the package's folder, its text and its syntax tree."""

    path: Path
    root: Path = PACKAGE

    @property
    def place(self) -> str:
        """Its path below the package, such as `engine/local.py`."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def dotted(self) -> str:
        """Its name as imported, such as `stillwatch.engine.local`."""
        parts = self.path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)

    @property
    def room(self) -> str:
        """The folder or the top module it belongs to, such as `engine`, `keys` or `__init__`."""
        return self.path.relative_to(self.root).with_suffix("").parts[0]

    @cached_property
    def text(self) -> str:
        """Its source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, filename=self.place)

    @cached_property
    def imports(self) -> list[tuple[str, int]]:
        """The modules it imports anywhere in it, lazily or for types only included, with the line."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.place}:{node.lineno}: imports name the whole path"
                assert node.module
                # The version stands in the package itself, which is loaded before any of its modules.
                aliases = [alias.name for alias in node.names if alias.name != "__version__"]
                names = [f"{node.module}.{alias}" for alias in aliases]
                found += [(name if is_module(name) else node.module, node.lineno) for name in names]
            elif isinstance(node, ast.Call) and called(node) in ("import_module", "importlib.import_module", "require"):
                target = node.args[0] if node.args else None
                if isinstance(target, ast.Constant) and isinstance(target.value, str):
                    found.append((target.value, node.lineno))
        return found


def is_module(dotted: str) -> bool:
    """Whether a dotted name is a module or a folder of this package."""
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def called(node: ast.AST) -> str:
    """The dotted name of what a call calls or an attribute reaches, `` where it is no plain name."""
    if isinstance(node, ast.Call):
        return called(node.func)
    if isinstance(node, ast.Attribute):
        inner = called(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def complain(wrong: Iterable[str]) -> None:
    """Fail with one line per offender."""
    lines = sorted(wrong)
    assert not lines, "\n".join(["", *lines])


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
"""Every module of the package."""
