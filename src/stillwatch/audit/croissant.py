"""croissant: what an audit found, as a patch for the data set's Croissant metadata (RFC 7396 merge patch).

Croissant 1.1 describes a data set in schema.org terms; its RAI 1.0 vocabulary has room for how the data came about. The
patch adds sources with their licences and what was and was not found. It never changes a declared licence: that is for
whoever may grant one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillwatch.audit.licences import UNSTATED

RAI = "http://mlcommons.org/croissant/RAI/"
CONFORMS_TO = f"{RAI}1.0"


def croissant_patch(
    existing: Mapping[str, Any] | None,
    *,
    sources: Sequence[tuple[str, str]],
    limits: Sequence[str],
    collection: Sequence[str],
    version: str,
) -> dict[str, Any]:
    """The patch: `sources` are (name, licence) of sets whose rows are in the data, the rest sentences.

    What the metadata already say stays: lists are written out whole with their old entries, as a merge patch needs.
    """
    old = dict(existing or {})
    based_on = _listed(old.get("isBasedOn"))
    known = [entry.get("name") for entry in based_on if isinstance(entry, dict)]
    for name, licence in sources:
        if name not in known:
            entry = {"@type": "Dataset", "name": name}
            based_on.append(entry if licence == UNSTATED else entry | {"license": licence})
    conforms = _listed(old.get("conformsTo"))
    patch: dict[str, Any] = {
        "conformsTo": [*conforms, *([] if CONFORMS_TO in conforms else [CONFORMS_TO])],
        "rai:dataLimitations": [*_listed(old.get("rai:dataLimitations")), *limits],
        "rai:dataCollection": [*_listed(old.get("rai:dataCollection")), *collection],
        "rai:dataManipulationProtocol": [
            *_listed(old.get("rai:dataManipulationProtocol")),
            f"Audited with Stillwatch {version}.",
        ],
    }  # fmt: skip
    context = old.get("@context")
    if not any(isinstance(part, Mapping) and "rai" in part for part in _listed(context)):
        patch["@context"] = {"rai": RAI} if isinstance(context, Mapping | None) else [*_listed(context), {"rai": RAI}]
    if based_on:
        patch["isBasedOn"] = based_on
    return {name: list(dict.fromkeys(value)) if _all_text(value) else value for name, value in patch.items()}


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7396, section 2).

    >>> merge_patch({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}})
    {'b': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _all_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
