"""grams: token ids to the distinct (window, token) pairs of a whole corpus, prompts left out.

A pair is counted once, however often it stands in however many texts: repeated text says nothing new about a key, and
counting it twice makes wrong keys look right (Kirchenbauer et al. 2024; Fernandez et al. 2023). A pair whose window
stands in its own text's prompt is left out too, for there the model may only have copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillwatch.errors import InputError
from stillwatch.kernels.columns import U64
from stillwatch.kernels.prf import MAX_WIDTH, TOKEN_BITS
from stillwatch.kernels.windows import pack_pairs

Tokens = npt.NDArray[np.int64]

_BITS = np.uint64(TOKEN_BITS)


@dataclass(frozen=True, slots=True)
class Document:
    """One text as token ids, and the prompt it answers, empty where it is not known."""

    tokens: Tokens
    prompt: Tokens


@dataclass(frozen=True, slots=True)
class Grams:
    """Distinct pairs, packed and ascending, and what was left out to get them."""

    packed: U64
    width: int
    n_tokens: int
    n_repeated: int
    n_in_prompt: int

    def __len__(self) -> int:
        return len(self.packed)

    def windows(self) -> U64:
        """The window word of each pair."""
        return self.packed >> _BITS | np.uint64(self.width) << np.uint64(62)

    def where(self, kept: npt.NDArray[np.bool_]) -> Grams:
        """The pairs for which `kept` (n,) holds."""
        return Grams(self.packed[kept], self.width, self.n_tokens, self.n_repeated, self.n_in_prompt)


def grams_of(documents: Sequence[Document], *, width: int, deduplicate: bool = True) -> Grams:
    """The (window, token) pairs of a corpus, each once.

    Args:
        width: tokens of a window, 1 or 2. A window lies wholly inside its text.
        deduplicate: False keeps every occurrence. It invalidates every p-value and is here to show that.

    Raises:
        InputError: a width that is not offered, or a token id that is negative or too large.

    Cost: one pass over texts and prompts and one sort, about 50 ns a token; 24 bytes a token.
    """
    if not 1 <= width <= MAX_WIDTH:
        raise InputError("a mark has no such window", got=f"width {width}", expected=f"1 to {MAX_WIDTH}")
    tokens, starts = _joined([document.tokens for document in documents])
    prompts, prompt_starts = _joined([document.prompt for document in documents])
    packed, n_in_prompt = pack_pairs(tokens, starts, prompts, prompt_starts, width)
    every = np.sort(packed)
    distinct = every[np.insert(every[1:] != every[:-1], 0, True)] if len(every) and deduplicate else every
    return Grams(distinct, width, len(tokens), len(every) - len(distinct), n_in_prompt)


def _joined(parts: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Token ids of many texts, one after another, and where each begins; refused where an id is out of range."""
    starts = np.cumsum([0, *map(len, parts)])
    tokens = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    if len(tokens) and not (tokens.min() >= 0 and tokens.max() < 1 << TOKEN_BITS):
        wrong = int(tokens.min()) if tokens.min() < 0 else int(tokens.max())
        raise InputError("a token id is out of range", got=str(wrong), expected=f"0 to {(1 << TOKEN_BITS) - 1}")
    return tokens, starts
