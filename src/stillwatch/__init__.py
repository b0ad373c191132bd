"""stillwatch: finds, limits and proves unauthorised distillation of a model API; public names, loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillwatch.dossier.findings import Findings
    from stillwatch.engine.local import LocalEngine
    from stillwatch.errors import StillwatchError
    from stillwatch.keys import RootKey
    from stillwatch.pipeline import ScanRequest, scan
    from stillwatch.settings import Settings, load_settings

__version__ = "0.1.0"

_HOMES = {
    "Findings": "stillwatch.dossier.findings",
    "LocalEngine": "stillwatch.engine.local",
    "RootKey": "stillwatch.keys",
    "ScanRequest": "stillwatch.pipeline",
    "Settings": "stillwatch.settings",
    "StillwatchError": "stillwatch.errors",
    "load_settings": "stillwatch.settings",
    "scan": "stillwatch.pipeline",
}

__all__ = [
    "Findings",
    "LocalEngine",
    "RootKey",
    "ScanRequest",
    "Settings",
    "StillwatchError",
    "load_settings",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stillwatch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
