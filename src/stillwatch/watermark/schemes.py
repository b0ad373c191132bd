"""schemes: what a mark is: how it is chosen at a token, how wide its window, and which key rules which window.

| scheme   | what it does at a token                                               | law of the text | score    |
| -------- | --------------------------------------------------------------------- | --------------- | -------- |
| `gumbel` | takes the largest logit plus keyed Gumbel noise                       | unchanged       | Gamma    |
| `kgw`    | adds `delta` to the logits of green tokens, a keyed share `gamma`     | biased          | binomial |
| `adfp`   | adds `delta` q (1[green] - L): most where a student would learn it    | biased          | binomial |

Aaronson and Kirchner (2022); Kirchenbauer et al. (2023); antidistillation fingerprinting (2026, arXiv 2602.03812),
where q is a student's next-token law and L the mass of green tokens under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from stillwatch.errors import SettingsError
from stillwatch.kernels.columns import U64
from stillwatch.kernels.prf import MAX_WIDTH, seeds, uniforms
from stillwatch.keys import Secret

Name = Literal["gumbel", "kgw", "adfp"]
LEVELS = ("provider", "campaign", "account")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """The public part of a mark: who embeds and who detects must agree on it."""

    name: Name = "gumbel"
    width: int = 2
    """Tokens of a window: 1 is inherited best, 2 repeats less; wider ones are not inherited at all."""
    gamma: float = 0.25
    """Share of green tokens (`kgw`, `adfp`)."""
    delta: float = 2.0
    """Bias in logits (`kgw`), or its factor (`adfp`)."""
    split: tuple[tuple[str, float], ...] = (("provider", 1.0),)
    """Share of the windows that each level's key rules; they add up to 1."""

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise SettingsError("no scheme has this name", got=repr(self.name), expected=", ".join(get_args(Name)))
        if not 1 <= self.width <= MAX_WIDTH:
            raise SettingsError("a mark has no such window", got=f"width {self.width}", expected=f"1 to {MAX_WIDTH}")
        if not (0 < self.gamma < 1 and 0 < self.delta < 100):
            raise SettingsError(
                "a mark has no such bias", got=f"gamma {self.gamma}, delta {self.delta}", expected="0 < gamma < 1"
            )
        levels, shares = zip(*self.split, strict=True) if self.split else ((), ())
        if not set(levels) <= set(LEVELS) or len(set(levels)) < len(levels):
            raise SettingsError("a split names levels once", got=", ".join(levels), expected=", ".join(LEVELS))
        if not (all(share > 0 for share in shares) and abs(sum(shares) - 1) < 1e-9):
            raise SettingsError("the shares of a split add up to 1", got=", ".join(map(str, shares)))

    def levels(self) -> list[str]:
        """The levels that mark, in the order of the split."""
        return [level for level, _ in self.split]

    def level_of(self, words: U64, routing: U64) -> npt.NDArray[np.int64]:
        """For each window word (n,), the place in `split` of the level that rules it; routing keys (2,) or (n, 2)."""
        if len(self.split) == 1:
            return np.zeros(len(words), np.int64)
        drawn = uniforms(seeds(words, routing), np.zeros(len(words), np.int64))
        return np.searchsorted(np.cumsum([share for _, share in self.split])[:-1], drawn, side="right")


def parse_split(text: str) -> tuple[tuple[str, float], ...]:
    """Read `provider=0.5,account=0.5`; one level alone needs no share.

    >>> parse_split("provider=0.75,account=0.25")
    (('provider', 0.75), ('account', 0.25))
    """
    parts = []
    for part in text.split(","):
        level, _, share = part.strip().partition("=")
        try:
            parts.append((level, float(share) if share else 1.0))
        except ValueError:
            raise SettingsError(
                "a split is not understood", got=repr(text), expected="provider=0.5,account=0.5"
            ) from None
    return tuple(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """All an embedder needs for one answer, and nothing of whose it is: the scheme, each level's key, the routing."""

    scheme: Scheme
    keys: Mapping[str, Secret]
    routing: Secret

    def __post_init__(self) -> None:
        if set(self.keys) != set(self.scheme.levels()):
            raise SettingsError(
                "a mark has one key for each level of its split",
                got=", ".join(sorted(self.keys)) or "none",
                expected=", ".join(self.scheme.levels()),
            )
