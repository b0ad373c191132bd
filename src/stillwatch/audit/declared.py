"""declared: what a data set says of itself: name, licence and source, from the metadata files beside its rows.

Read are Croissant (JSON-LD), the YAML head of a README (a data set card), `dataset_info.json` and a LICENSE file. What
they say is a claim by whoever wrote them, and is reported as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatch.audit.licences import UNSTATED, spdx

_MAX_BYTES = 4 << 20
_CROISSANT = ("croissant.json", "metadata.json")
_INFO = ("dataset_info.json", "dataset_infos.json")
_CARDS = ("README.md", "readme.md", "DATASET_CARD.md")
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


@dataclass(frozen=True, slots=True)
class Declared:
    """What was claimed, and where; `croissant` is the metadata file itself, to be patched."""

    name: str | None = None
    licence: str = UNSTATED
    said_in: str | None = None
    others: tuple[str, ...] = ()
    """Other licences that other files of the same data set claim."""

    croissant: dict[str, Any] | None = None


def read_declared(paths: Sequence[Path]) -> Declared:
    """What the metadata beside these files or folders say; unreadable files are passed over."""
    folders = list(dict.fromkeys(path if path.is_dir() else path.parent for path in paths))
    name, croissant = None, None
    claims: list[tuple[str, str]] = []
    for folder in folders:
        for path in (folder / name for name in (*_CROISSANT, *_INFO)):
            tree = _json(path)
            if tree is None:
                continue
            if path.name in _CROISSANT and "@context" in tree:
                croissant = croissant or tree
            name = name or _string(tree.get("name")) or _string(tree.get("dataset_name"))
            claims += [(licence, path.name) for licence in _licences(tree)]
        for path in (folder / card for card in _CARDS):
            head = re.match(r"---\s*\n(.*?)\n---", _text(path), re.DOTALL)
            claims += [(spdx(found.strip(" '\"-")), path.name) for found in _yaml(head[1] if head else "", "license")]
            titles = _yaml(head[1] if head else "", "pretty_name")
            name = name or (titles[0].strip(" '\"") if titles else None)
        for path in (folder / licence for licence in _LICENCES):
            claims.append((_named(_text(path)), path.name))
    stated = [(licence, where) for licence, where in claims if licence != UNSTATED]
    if not stated:
        return Declared(name=name, croissant=croissant)
    licence, where = stated[0]
    others = tuple(dict.fromkeys(f"{other} ({place})" for other, place in stated if other != licence))
    return Declared(name=name, licence=licence, said_in=where, others=others, croissant=croissant)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            return ""  # opening a named pipe would wait for ever
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(_text(path) or "null")
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _licences(tree: dict[str, Any]) -> list[str]:
    """Every licence that is claimed: one, or a list of them."""
    value = tree.get("license") or tree.get("licence")
    each = value if isinstance(value, list) else [value]
    named = [one.get("name") or one.get("url") if isinstance(one, dict) else one for one in each]
    return [spdx(_string(one)) for one in named]


def _yaml(head: str, key: str) -> list[str]:
    """The value of a top-level key, the parts of a list in brackets, or the entries of the list below it."""
    found = re.search(rf"^{key}:[ \t]*(.*)((?:\n[ \t]*- .*)*)", head, re.MULTILINE)
    if not found:
        return []
    here = found[1].strip()
    if here.startswith("[") and here.endswith("]"):
        return here[1:-1].split(",")
    return [here] if here else re.findall(r"- *(.+)", found[2])


def _named(text: str) -> str:
    """The licence whose text this is, by its first lines."""
    found = spdx(" ".join(text[:600].split()))
    known = found != UNSTATED and len(found) < 40
    return found if known else UNSTATED
