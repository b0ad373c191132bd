"""rules: the bars of both questions. They stand nowhere else, and every plan is registered with their fingerprint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

Word = str
SAME, DIFFERENT, CANNOT_TELL = "same", "different", "cannot tell"
DERIVED, NOT_DERIVED = "derived", "not derived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What must hold before a word is said; whatever misses a bar is "cannot tell"."""

    alpha_different: float = 0.002
    """Largest p of the equality test at which two models are called different. Strict, because two hosts of one model
    do differ a little: one public pair reached p = .009 at 805 prompts."""

    power_same_min: float = 0.8
    """Share of control families that the same test must tell from the teacher before "same" means anything."""

    margin_same_min: float = 1.0
    """By how much the suspect must be nearer to the teacher than any control is, in spreads over control families."""

    n_same_min: int = 100
    """Fewest prompts for "same"."""

    alpha_derived: float = 0.001
    """Largest permutation p, after Holm over teachers, for "derived"."""

    margin_derived_min: float = 4.0
    """Smallest margin, in both views. Not fitted: where likeness among strangers falls off no slower than
    exponentially, a stranger is this far beyond the best of F families with probability e**-4 / (F + 1), under .002
    for ten. Bars fitted to some families failed on others; this one did not (benchmarks/compare.md)."""

    n_families_min: int = 10
    """Fewest unrelated control families: with fewer the spread among them is a guess."""

    n_derived_min: int = 50
    """Fewest prompts for "derived"."""

    n_students_min: int = 3
    """Fewest known students of the teacher, all of them found, before "not derived" can be said."""

    alpha_not_derived: float = 0.01
    """Largest p of "the suspect is one more student like the known ones" at which it is said not to be."""

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the rules as canonical JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
