"""marks: does the suspect answer with our own mark? The detector of `stillwatch mark`, run on the suspect's answers.

A key that had no part in a text scores it at random, whatever the text is and whenever one stopped asking, so the
p-value is exact here too and early stopping does not touch it. The answers of the unrelated controls to the same
prompts are the base: what they carry as well is in the prompts or in the world, and not learned from us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stillwatch.kernels.columns import U64
from stillwatch.keys import Secret
from stillwatch.watermark.detector import Finding, Suspect, detect
from stillwatch.watermark.grams import Document, Grams, grams_of
from stillwatch.watermark.keys import MarkKey
from stillwatch.watermark.schemes import Scheme
from stillwatch.watermark.texts import Encode

FOUND = "found"
N_DECOYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What the teacher's answers were marked with, and how to read text: what `stillwatch mark detect` is given too.

    `tokenizers` are by name; `files` are their SHA-256, for the plan.
    """

    scheme: Scheme
    keys: Sequence[MarkKey]
    routing: Secret
    decoys: U64
    tokenizers: Mapping[str, Encode]
    files: Mapping[str, str]

    def plan(self) -> dict[str, Any]:
        """What goes into the pre-registration: no key, only its public id."""
        return {
            "scheme": asdict(self.scheme),
            "key_ids": sorted(key.key_id for key in self.keys),
            "n_decoys": len(self.decoys),
            "tokenizers_sha256": dict(sorted(self.files.items())),
        }


@dataclass(frozen=True, slots=True)
class Marked:
    """One key on the suspect's answers as one tokenizer reads them."""

    finding: Finding
    suspect: Suspect
    scheme: Scheme


def look_for(
    marks: Marks,
    answers: Mapping[str, Sequence[str]],
    controls: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    name: str,
    alpha: float,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Marked, ...]:
    """Test every key on the suspect's raw answers by prompt, with the controls' answers to those prompts as the base.

    Windows that stand in the prompt are left out on both sides: a suspect that repeats the question has learned
    nothing. Cost: as `watermark.detector.detect`.
    """
    suspects = []
    for tokenizer, encode in sorted(marks.tokenizers.items()):
        base = _read(
            [(p, model[p]) for model in controls.values() for p in answers if p in model], encode, marks.scheme
        )
        ours = _read(list(answers.items()), encode, marks.scheme)
        suspects.append(Suspect(name=name, tokenizer=tokenizer, grams=ours, base=base if len(base) else None))
    found = detect(
        suspects, marks.keys, scheme=marks.scheme, routing=marks.routing, decoys=marks.decoys, alpha=alpha, threads=1,
        on_progress=on_progress,
    )  # fmt: skip
    of = {one.tokenizer: one for one in suspects}
    return tuple(Marked(one, of[one.tokenizer], marks.scheme) for one in found)


def _read(answered: Sequence[tuple[str, Sequence[str]]], encode: Encode, scheme: Scheme) -> Grams:
    pairs = [(prompt, text) for prompt, texts in answered for text in texts]
    if not pairs:
        return grams_of([], width=scheme.width)
    prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
    ids = dict(zip(prompts, encode(prompts), strict=True))
    read = encode([text for _, text in pairs])
    nothing = np.zeros(0, np.int64)
    documents = [Document(tokens, ids.get(prompt, nothing)) for (prompt, _), tokens in zip(pairs, read, strict=True)]
    return grams_of(documents, width=scheme.width)
