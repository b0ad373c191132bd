"""screening: names of organisations held against lists of restricted parties, and queued for a person.

A likeness is a reason to look, never a decision: nothing here denies, limits or delays anybody. Names are compared
after Unicode folding (NFKD, case, marks, punctuation) and without words that only name a legal form. Likeness is
the larger of Dice's coefficient on letter 3-grams of the whole names, their words sorted, and, where the listed name
has two words or more, the mean over its words of the best Dice with a word of the name at hand. Look-alike letters of
other scripts and translations are not seen through.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stillwatch.errors import InputError
from stillwatch.journal import Journal

MAX_NAME = 256
"""Letters of a name that are compared; what is longer is cut, which can only lower a likeness."""

MAX_LISTED = 1_000_000

LEGAL_FORMS = frozenset(
    "ab ag as bv co company corp corporation gmbh holding holdings inc incorporated kg limited llc llp ltd nv oy plc "
    "pte pty sa sarl sas spa srl the".split()
)


@dataclass(frozen=True, slots=True)
class Likeness:
    """An organisation's name that resembles a listed one."""

    org_id: str
    listed: str
    """The listed name, as written in the list."""
    source: str
    """The list."""
    similarity: float


@dataclass(slots=True)
class Listed:
    """Names of restricted parties, indexed by their letter 3-grams."""

    names: list[tuple[str, str]] = field(default_factory=list)
    """(name, list), as written."""
    _folded: list[tuple[list[str], frozenset[str]]] = field(default_factory=list)
    _holding: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, names: Iterable[str], source: str) -> None:
        """Take in a list: one name each; empty ones and lines that start with `#` are skipped.

        Raises:
            InputError: there are more than a million names.
        """
        for line in names:
            name = line.strip()[:MAX_NAME]
            words = fold(name)
            if not words or name.startswith("#"):
                continue
            if len(self.names) >= MAX_LISTED:
                raise InputError(f"the list {source} is too long", expected=f"at most {MAX_LISTED:,} names in all")
            grams = _grams(" ".join(words))
            for gram in grams:
                self._holding[gram].append(len(self.names))
            self.names.append((name, source))
            self._folded.append((words, grams))

    def like(self, org_id: str, name: str, *, at_least: float) -> list[Likeness]:
        """The listed names that a name resembles, the most alike first.

        Cost: linear in the listed names that share a 3-gram with it.
        """
        words = fold(name)
        grams = _grams(" ".join(words))
        shared: Counter[int] = Counter()
        for gram in grams:
            shared.update(self._holding.get(gram, ()))
        found = []
        for at, n_shared in shared.items():
            listed, theirs = self._folded[at]
            whole = 2 * n_shared / (len(grams) + len(theirs))
            score = max(whole, _by_word(words, listed)) if len(listed) > 1 else whole
            if score >= at_least:
                found.append(Likeness(org_id, *self.names[at], score))
        return sorted(found, key=lambda one: (-one.similarity, one.listed, one.source))


def fold(name: str) -> list[str]:
    """The words of a name, folded and sorted, without legal forms; all words where there are only such.

    >>> fold("Exämple Research, LTD.")
    ['example', 'research']
    """
    spread = unicodedata.normalize("NFKD", name[:MAX_NAME])[: 4 * MAX_NAME].casefold()
    letters = (letter if letter.isalnum() else " " for letter in spread if not unicodedata.combining(letter))
    words = "".join(letters).split()
    return sorted([word for word in words if word not in LEGAL_FORMS] or words)


def _grams(text: str) -> frozenset[str]:
    padded = f"  {text} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2)) if text else frozenset()


def _by_word(words: list[str], listed: list[str]) -> float:
    mine = [_grams(word) for word in words[:32]]
    best = []
    for word in listed[:32]:
        grams = _grams(word)
        best.append(max((2 * len(grams & one) / (len(grams) + len(one)) for one in mine), default=0.0))
    return sum(best) / len(best)


def screen(
    organisations: Mapping[str, str], listed: Listed, journal: Journal, *, at_least: float, now: datetime
) -> list[Likeness]:
    """Queue the organisations (id to name) that resemble a listed name, and return what was queued.

    A pair that is queued or that a person cleared is not queued again. The journal holds the organisation's id and
    the listed name, not the organisation's own name.

    Raises:
        JournalError: the journal is broken or cannot be written.
    """
    known = {pair for pair, _ in _pairs(journal)}
    new = []
    for org_id, name in sorted(organisations.items()):
        for one in listed.like(org_id, name, at_least=at_least):
            if (one.org_id, one.listed) in known:
                continue
            body = {"org_id": one.org_id, "listed": one.listed, "source": one.source}
            journal.append("screening", body | {"similarity": round(one.similarity, 4)}, now)
            known.add((one.org_id, one.listed))
            new.append(one)
    return new


def queue(journal: Journal) -> list[dict[str, Any]]:
    """What waits for a person, oldest first.

    Raises:
        JournalError: the journal is broken.
    """
    return [body for _, body in _pairs(journal) if body is not None]


def review(journal: Journal, org_id: str, outcome: str, *, why: str, now: datetime) -> int:
    """Write down what a person found of an organisation; returns how many likenesses that answers.

    Raises:
        InputError: nothing waits for it, the outcome is no outcome, or nothing is said.
    """
    if outcome not in ("cleared", "confirmed") or not why.strip() or len(why) > 2000:
        raise InputError("a review needs an outcome and a reason", expected="cleared or confirmed, and why")
    open_ = [body for body in queue(journal) if body["org_id"] == org_id]
    if not open_:
        raise InputError("nothing waits for this organisation", got=repr(org_id[:80]))
    for body in open_:
        said = {"org_id": org_id, "listed": body["listed"], "outcome": outcome, "why": why.strip()}
        journal.append("screening_review", said, now)
    return len(open_)


def _pairs(journal: Journal) -> list[tuple[tuple[str, str], dict[str, Any] | None]]:
    """Every pair that was ever queued, with its body while it is open."""
    pairs: dict[tuple[str, str], dict[str, Any] | None] = {}
    if journal.is_absent:
        return []
    for entry in journal.entries(kinds=("screening", "screening_review")):
        pair = (str(entry.body.get("org_id")), str(entry.body.get("listed")))
        pairs[pair] = entry.body if entry.kind == "screening" else None
    return list(pairs.items())
