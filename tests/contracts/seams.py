"""The three seams, and everything in the package that stands in one, found by looking."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

from stillwatch import engine, evidence, ingest
from stillwatch.engine.engine import Engine
from stillwatch.evidence.signal import Signal
from stillwatch.ingest.source import Source

SEAMS: dict[type, ModuleType] = {Source: ingest, Engine: engine, Signal: evidence}
"""Each Protocol with the room its implementations live in."""


def members(seam: type) -> list[str]:
    """The methods and attributes that a seam asks for."""
    asked = (name for name, value in vars(seam).items() if callable(value) or isinstance(value, property))
    named = {*inspect.get_annotations(seam), *asked}
    return sorted(name for name in named if not name.startswith("_"))


def implementations(seam: type) -> list[type]:
    """The classes of the seam's room that have everything it asks for."""
    found = []
    for module in modules(SEAMS[seam]):
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == module.__name__ and value is not seam:
                offered = {*dir(value), *(name for base in value.__mro__ for name in inspect.get_annotations(base))}
                if set(members(seam)) <= offered:
                    found.append(value)
    return found


class Said(NamedTuple):
    """What a Signal says of itself."""

    name: str
    family: str
    question: str
    needs: tuple[str, ...]


def signals() -> list[Said]:
    """What every Signal says: those that stand ready in a module, and the classes made when they are needed."""
    classes = implementations(Signal)
    ready = [value for module in modules(evidence) for value in vars(module).values() if type(value) in classes]
    made_later = [
        SimpleNamespace(**{field.name: field.default for field in fields(made)})
        for made in classes
        if made not in {type(value) for value in ready}
    ]
    said = {Said(*(getattr(signal, name) for name in Said._fields)) for signal in [*ready, *made_later]}
    return sorted(said)


def modules(room: ModuleType) -> Iterator[ModuleType]:
    """A folder's modules."""
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        yield import_module(found.name)
