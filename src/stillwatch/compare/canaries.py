"""canaries: strings planted in the teacher's answers on purpose, looked for in the suspect's.

Planted ground truth beats likeness by orders of magnitude. Decoys, made like the canaries and never released, are the
null: with p planted and d decoys, all equally likely to come up by chance, the number of planted among those that
came up is hypergeometric (Fisher's exact test). Without decoys a hit is a lead, ranked among the control families
only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from scipy.stats import hypergeom

from stillwatch.compare.canonical import respelled
from stillwatch.errors import InputError

N_SHORTEST = 8
"""Characters a canary must have: anything shorter comes up by itself."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One planted string, or a decoy; with a prompt it counts only in the answer to that prompt."""

    text: str
    planted: bool = True
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Canaries:
    """A file of canaries and the SHA-256 of its bytes."""

    listed: tuple[Canary, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Recall:
    """How many canaries the suspect's answers hold.

    `p_value` is exact where there are decoys and null otherwise; `rank_p` is at least 1 / (1 + control families);
    `n_by_controls` counts canaries that a control's answers hold too, which are thus no secret.
    """

    n_planted: int
    n_recalled: int
    n_decoys: int
    n_decoys_recalled: int
    n_by_controls: int
    p_value: float | None
    rank_p: float


def read_canaries(path: Path) -> Canaries:
    """Read canaries: one a line, or JSONL with `text` and perhaps `planted` (false for a decoy) and `prompt`.

    Raises:
        InputError: the file cannot be read, holds none, or one is too short to be told from chance. It is not quoted.
    """
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text") from error
    listed = tuple(_read(path, lines))
    if not any(one.planted for one in listed):
        raise InputError(f"{path} holds no planted canary", expected="one a line, or JSON lines with text and planted")
    return Canaries(listed, hashlib.sha256(content).hexdigest())


def _read(path: Path, lines: Sequence[str]) -> Iterator[Canary]:
    as_json = path.name.endswith((".jsonl", ".ndjson"))
    seen: set[str] = set()
    for n, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row: Any = {"text": line.strip()}
        if as_json:
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError):
                raise InputError(f"{path} line {n} is not JSON") from None
        text = row.get("text") if isinstance(row, dict) else None
        planted, prompt = (row.get("planted", True), row.get("prompt")) if isinstance(row, dict) else (True, None)
        if not isinstance(text, str) or not isinstance(planted, bool) or not isinstance(prompt, str | None):
            raise InputError(f"{path} line {n} is no canary", expected="text, planted (true or false), prompt")
        shown = _folded(text)
        if len(shown) < N_SHORTEST:
            raise InputError(f"{path} line {n} is too short", expected=f"{N_SHORTEST} characters or more")
        if shown in seen:
            raise InputError(f"{path} line {n} repeats an earlier canary", do="Take it out.")
        seen.add(shown)
        yield Canary(text, planted, prompt)


def recall(
    canaries: Canaries,
    suspect: Mapping[str, Sequence[str]],
    controls: Mapping[str, Mapping[str, Sequence[str]]],
    families: Mapping[str, str],
) -> Recall:
    """Look for canaries in answers by prompt. A canary that a control holds is left out of the suspect's count."""
    held = _held(canaries, suspect)
    by_control = {model: _held(canaries, outputs) for model, outputs in controls.items() if model in families}
    known = [any(hits[at] for hits in by_control.values()) for at in range(len(canaries.listed))]
    planted = [at for at, one in enumerate(canaries.listed) if one.planted and not known[at]]
    decoys = [at for at, one in enumerate(canaries.listed) if not one.planted and not known[at]]
    n_recalled, n_decoys_recalled = sum(held[at] for at in planted), sum(held[at] for at in decoys)
    hits = dict.fromkeys(families.values(), 0)
    for model, found in by_control.items():
        family = families[model]
        hits[family] = max(hits[family], sum(f and one.planted for f, one in zip(found, canaries.listed, strict=True)))
    n_reaching = sum(count >= n_recalled for count in hits.values())
    exact = None
    if decoys and planted:
        total = n_recalled + n_decoys_recalled
        exact = float(hypergeom.sf(n_recalled - 1, len(planted) + len(decoys), len(planted), total))
    return Recall(
        n_planted=len(planted),
        n_recalled=n_recalled,
        n_decoys=len(decoys),
        n_decoys_recalled=n_decoys_recalled,
        n_by_controls=sum(known),
        p_value=exact,
        rank_p=(1 + n_reaching) / (1 + len(hits)),
    )


def _held(canaries: Canaries, outputs: Mapping[str, Sequence[str]]) -> list[bool]:
    """Which canaries the answers hold; an answer that repeats its own prompt has learned nothing."""
    answers = {prompt: "\n".join(map(_folded, texts)) for prompt, texts in outputs.items()}
    everything = "\n".join(answers.values())

    def held(one: Canary) -> bool:
        text = _folded(one.text)
        where = answers if one.prompt is None else answers.keys() & {one.prompt}
        return text in everything and any(text in answers[at] and text not in _folded(at) for at in where)

    return [held(one) for one in canaries.listed]


def _folded(text: str) -> str:
    return " ".join(respelled(text).casefold().split())
