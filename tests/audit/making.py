"""Texts, registries and files that the tests of the audit share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillwatch.audit.registry import Registry, match_key
from stillwatch.kernels.winnow import fingerprint
from stillwatch.keys import RootKey, Secret

ROOT = RootKey(Secret(bytes(range(32))))
KEY = match_key(ROOT)
_PARTS = np.random.default_rng(0).choice(["ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu"], (3000, 3))
VOCABULARY = np.array(["".join(parts) for parts in _PARTS])


def answers(n: int, *, seed: int, n_words: int = 80) -> list[str]:
    """n texts of made-up words, common ones often, as in speech."""
    rng = np.random.default_rng(seed)
    drawn = rng.zipf(1.3, (n, n_words)) % len(VOCABULARY)
    return [" ".join(VOCABULARY[row]) for row in drawn]


def registry_of(texts: Iterable[str], *, mb: int = 1, prompts: Iterable[str] | None = None) -> Registry:
    """A registry of some answers."""
    registry = Registry.empty("registry", key=ROOT, memory_bytes=mb << 20)
    asked = None if prompts is None else pa.array(list(prompts), pa.large_string())
    registry.add(fingerprint(pa.array(list(texts), pa.large_string()), KEY, prompt=asked))
    return registry


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def pairs(texts: Iterable[str], *, start: int = 0) -> list[dict[str, str]]:
    """Each text as the answer to a prompt of its own."""
    return [{"prompt": f"Question number {start + at}?", "completion": text} for at, text in enumerate(texts)]
