"""identity: answers in which a model says who made it. A lead, never proof.

Such sentences cross vendors through the web: people write them too, students of a model often do not. So a rate is
shown beside what people and models were measured at, and only a rate far above people's is a lead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from stillwatch.audit.matching import Share, log10

MAKERS = (
    "OpenAI", "Anthropic", "Google", "DeepMind", "Meta", "Microsoft", "Mistral", "Cohere", "DeepSeek", "Alibaba",
    "Moonshot", "MiniMax", "xAI", "Baidu", "Zhipu", "LMSYS",
)  # fmt: skip
NAMES = (
    "ChatGPT", "GPT-4", "GPT-3", "Claude", "Gemini", "Bard", "PaLM", "Llama", "Mistral", "Copilot", "Qwen", "DeepSeek",
    "Kimi", "Grok", "ERNIE", "Vicuna", "Alpaca",
)  # fmt: skip

_NEXT = "language|chat|model|assistant|bot|system|developed|trained|created|made|built"
_AI = rf"(?:AI|artificial intelligence)(?:[ -](?:{_NEXT})|[,.;])"
_KIND = rf"(?:large )?(?:{_AI}|(?:language|chat) ?(?:model|assistant|bot)\b)"
_MADE = "developed|trained|created|made|built|designed"
_MAKER, _NAME = "|".join(MAKERS), "|".join(NAMES)
AS_MODEL = rf"(?i)\b(?:as|i am|i'm|being) (?:just |only |simply )?an? {_KIND}"
"""Speaks of itself as a model, without a name."""

CLAIMS = (
    rf"(?i)\b(?:as an?|i was|i am|i'm|i've been)\b[^.!?\n]{{0,60}}\b(?:{_MADE}) by (?:{_MAKER})\b",
    rf"\b(?:[Ii] am|[Ii]'m|[Mm]y name is) (?:an? )?(?:{_NAME})\b",
)
"""Says who it is, or who made it."""

PEOPLE = Share(7, 13_873)
"""Measured in answers people wrote: 7 of 6,400 (Dolly) and 0 of 7,473 (GSM8K)."""

MODELS = 0.0118
"""Measured in answers of 50 models to one set of prompts: the median share (`benchmarks/audit.md`)."""

P_LEAD = 1e-3


@dataclass(frozen=True, slots=True)
class Identity:
    """Answers that speak as a model, of which some name it; `named` counts makers and names as they stand there."""

    leaks: Share
    claims: Share
    named: dict[str, int]
    p_log10: float
    """Of as many leaks, were people's rate the true one (Fisher's exact test)."""

    @property
    def is_lead(self) -> bool:
        """Whether there are far more than people write."""
        return self.leaks.n > 0 and 10**self.p_log10 <= P_LEAD


def leaks(answers: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Of each answer (null counts as none) whether it speaks as a model, and whether it says which; about 100 MB/s."""
    claimed = None
    for pattern in CLAIMS:
        found = pc.fill_null(pc.match_substring_regex(answers, pattern), False)
        claimed = found if claimed is None else pc.or_(claimed, found)
    spoken = pc.fill_null(pc.match_substring_regex(answers, AS_MODEL), False)
    return pc.or_(spoken, claimed), claimed


def names_in(answers: Iterable[str]) -> Counter[str]:
    """Which makers and names the claims in these answers name, once an answer."""
    found: Counter[str] = Counter()
    for answer in answers:
        said = " ".join(match.group() for pattern in CLAIMS for match in re.finditer(pattern, answer))
        found.update({name for name in (*MAKERS, *NAMES) if re.search(rf"(?i)\b{re.escape(name)}\b", said)})
    return found


def weigh_identity(n_leaks: int, n_claims: int, total: int, named: Counter[str]) -> Identity:
    """The leaks among `total` answers beside people's rate."""
    p = stats.hypergeom.sf(n_leaks - 1, total + PEOPLE.total, n_leaks + PEOPLE.n, total) if n_leaks else 1.0
    return Identity(Share(n_leaks, total), Share(n_claims, total), dict(sorted(named.items())), log10(float(p)))
