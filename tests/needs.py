"""What a test needs that not every machine has: skipped with a reason, a failure where STILLWATCH_REQUIRE names it."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

import pytest


def needs(module: str) -> ModuleType:
    """Import an optional package, or skip the tests that need it.

    `STILLWATCH_REQUIRE` is a list, parted by commas, of packages whose absence is a failure instead.
    """
    required = module.partition(".")[0] in os.environ.get("STILLWATCH_REQUIRE", "").split(",")
    try:
        return import_module(module)
    except ImportError as error:
        if required:
            raise
        pytest.skip(f"{module} is not installed: {error}", allow_module_level=True)
