"""What a test needs beyond the package: it is skipped with a reason where that is absent, unless it is required."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

REQUIRED = frozenset(filter(None, os.environ.get("STILLWATCH_REQUIRE", "").split(",")))


def needs(name: str, *, is_there: bool, how: str) -> None:
    """Skip where `name` is absent; fail where STILLWATCH_REQUIRE names it. `how` says what would bring it."""
    if not is_there:
        if name in REQUIRED:
            pytest.fail(f"{name} is required and absent: {how}")
        pytest.skip(f"{name} is absent: {how}", allow_module_level=True)


def needs_module(name: str, module: str) -> Any:
    """A module that `name` brings; the test is skipped, or fails, where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        needs(name, is_there=False, how=f"no module {module}")
        raise
