"""lineages: fifty public models, who is kin to whom by their cards, and how they are put before the battery.

`STILLWATCH_SHARED` names the folder the answers lie in (`data/model_outputs/outputs.parquet`). Lineage is from the
models' public cards.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.stats import beta

from stillwatch.compare.battery import Compared, compare
from stillwatch.compare.panel import Panel, make_panel
from stillwatch.compare.rules import Rules
from stillwatch.suspects.answers import Answers, read_answers

SEED = 20261121
RULES = Rules()
N_FEW, N_ALL = 200, 805

FAMILIES = {
    "claude": "claude claude-instant-1.2",
    "llama-2": "llama-2-7b-chat-hf llama-2-13b-chat-hf",
    "falcon": "falcon-7b-instruct falcon-40b-instruct",
    "mistral": "Mistral-7B-Instruct-v0.2 mistral-large-2402",
    "google": "gemini-pro gemma-7b-it",
    "yi": "Yi-34B-Chat yi-large-preview",
    **{
        name: name
        for name in (
            "cohere jina-chat chatglm2-6b baichuan-13b-chat Qwen-14B-Chat deepseek-llm-67b-chat dbrx-instruct "
            "internlm2-chat-20b-ppo causallm-14b minichat-3b evo-7b ghost-7b-alpha Samba-CoE-v0.1"
        ).split()
    },
}
"""Models with no stated teacher among the fifty, by family: the controls, and the unrelated suspects."""

TEACHERS = (
    "text_davinci_003 gpt-3.5-turbo-1106 gpt4 gpt4_0314 gpt4_1106_preview Meta-Llama-3-8B-Instruct zephyr-7b-beta"
).split()

LINEAGE = (
    ("alpaca-7b", "text_davinci_003", "trained on its answers"),
    ("alpaca-7b-neft", "text_davinci_003", "trained on its answers"),
    ("vicuna-7b", "gpt-3.5-turbo-1106", "trained on answers of an earlier snapshot"),
    ("vicuna-13b", "gpt-3.5-turbo-1106", "trained on answers of an earlier snapshot"),
    ("vicuna-13b-v1.5", "gpt-3.5-turbo-1106", "trained on answers of an earlier snapshot"),
    ("wizardlm-13b", "gpt-3.5-turbo-1106", "trained on answers of an earlier snapshot"),
    ("zephyr-7b-beta", "gpt-3.5-turbo-1106", "trained on answers of an earlier snapshot"),
    ("phi-2", "gpt-3.5-turbo-1106", "trained on synthetic text of an earlier snapshot"),
    ("OpenHermes-2.5-Mistral-7B", "gpt4_0314", "trained on answers, snapshot not known"),
    ("airoboros-33b", "gpt4_0314", "trained on answers, snapshot not known"),
    ("nous-hermes-13b", "gpt4_0314", "trained on answers, snapshot not known"),
    ("SPPO-Llama-3-Instruct-8B-PairRM", "Meta-Llama-3-8B-Instruct", "weights trained on"),
    ("zephyr-7b-beta-ExPO", "zephyr-7b-beta", "weights extrapolated"),
)

ONE_MODEL = (
    ("vicuna-13b-v1.5", "vicuna-13b-v1.5-togetherai", "one model, two hosts"),
    ("gpt4", "gpt4_0314", "alias"),
    ("zephyr-7b-beta", "zephyr-7b-beta-ExPO", "weight edit"),
    ("Meta-Llama-3-8B-Instruct", "SPPO-Llama-3-Instruct-8B-PairRM", "weight edit"),
)

FAMILY = {model: family for family, models in FAMILIES.items() for model in models.split()}


@dataclass(frozen=True)
class Models:
    """The fifty models, with families where they are controls."""

    by_name: dict[str, Answers]

    def panel(self, suspect: str, teachers: Sequence[str], *, n: int) -> Panel:
        """A panel with every unrelated model as a control."""
        one = self.by_name[suspect]
        return make_panel(
            name=one.name,
            family=one.family,
            teachers=[self.by_name[name] for name in teachers],
            controls=[self.by_name[name] for name in FAMILY if name not in (suspect, *teachers)],
            answered=one.outputs,
            n_prompts=n,
            seed=SEED,
        )

    def compare(self, suspect: str, teacher: str, *, n: int, stop_early: bool = False) -> Compared:
        """The whole battery, as the command runs it."""
        outputs = self.by_name[suspect].outputs
        panel = self.panel(suspect, [teacher], n=n)
        return compare(panel, outputs.get, rules=RULES, seed=SEED, stop_early=stop_early)


def load() -> Models:
    """Read the answers."""
    shared = Path(os.environ.get("STILLWATCH_SHARED", "../shared"))
    found = read_answers(shared / "data" / "model_outputs" / "outputs.parquet")
    return Models({one.name: replace(one, family=FAMILY.get(one.name, one.name)) for one in found})


def interval(k: int, n: int) -> str:
    """k of n with its exact 95 % interval (Clopper and Pearson 1934)."""
    lo = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    hi = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{k} of {n} ({100 * lo:.1f} to {100 * hi:.1f} %)"
