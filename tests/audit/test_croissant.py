from __future__ import annotations

from typing import Any

from stillwatch.audit.croissant import CONFORMS_TO, croissant_patch, merge_patch


def patched(existing: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    patch = croissant_patch(
        existing, sources=[("a/set", "MIT"), ("old", "not stated")], limits=["l"], collection=["c"], version="1"
    )
    return patch, merge_patch(existing or {}, patch)


def test_the_patch_adds_and_takes_nothing_away() -> None:
    """Applied to the metadata, every old statement stands as it was, the licence above all."""
    existing = {
        "@context": {"sc": "https://schema.org/"},
        "license": "mit",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "isBasedOn": [{"@type": "Dataset", "name": "old", "license": "x"}],
        "rai:dataLimitations": "few rows",
    }
    patch, after = patched(existing)
    assert "license" not in patch and after["license"] == "mit"
    assert after["conformsTo"] == ["http://mlcommons.org/croissant/1.1", CONFORMS_TO]
    assert after["isBasedOn"] == [*existing["isBasedOn"], {"@type": "Dataset", "name": "a/set", "license": "MIT"}]
    assert after["rai:dataLimitations"] == ["few rows", "l"]
    assert after["@context"] == {"sc": "https://schema.org/", "rai": "http://mlcommons.org/croissant/RAI/"}


def test_patching_twice_changes_nothing_more() -> None:
    """The patch made from patched metadata leaves them as they are."""
    for existing in (None, {"@context": ["https://schema.org/"], "name": "s"}):
        _, once = patched(existing)
        _, twice = patched(once)
        assert once == twice


def test_metadata_of_other_types_are_kept_as_they_are() -> None:
    """Names that are lists and entries that are numbers, as strangers write them, stop nothing."""
    existing: dict[str, Any] = {
        "isBasedOn": [{"name": ["x"]}, 7, {"name": "old"}],
        "conformsTo": 5,
        "rai:dataLimitations": {"a": [1]},
    }
    _, after = patched(existing)
    assert after["isBasedOn"] == [*existing["isBasedOn"], {"@type": "Dataset", "name": "a/set", "license": "MIT"}]
    assert after["conformsTo"] == [5, CONFORMS_TO] and after["rai:dataLimitations"] == [{"a": [1]}, "l"]
