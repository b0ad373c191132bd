"""extras: the one door to optional packages, which names what to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from stillwatch.errors import ExtraMissing


def require(module: str, extra: str) -> ModuleType:
    """Import a module that only some installations have.

    Args:
        module: its dotted name, such as `pyspark.sql`.
        extra: the extra of this package that brings it, such as `spark`.

    Raises:
        ExtraMissing: the module is not installed, or is and cannot be loaded; the error says which.
    """
    try:
        return import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        raise ExtraMissing(
            f"{module} is not installed" if absent else f"{module} is installed but does not load",
            got=None if absent else str(error),
            do=f"Run: pip install 'stillwatch[{extra}]'",
        ) from error
