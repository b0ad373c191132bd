"""A stand-in for vLLM 0.32's Model Runner V2: the documented interface of its logits processors, and a tiny engine.

Written from the interface's documentation. State and context have the documented fields and no others, so that a
processor which reads anything else fails here. The engine keeps requests in slots that are reused, shuffles the rows of
every step, feeds draft tokens where asked, and samples after temperature, top-k and top-p as vLLM does.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.needs import needs_module

torch = needs_module("torch", "torch")

INTERFACE = "vllm.v1.worker.gpu.sample.logits_processor"
N_VOCABULARY = 200


class LogitsProcessor(ABC):
    """The documented base class."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:  # noqa: B027
        pass

    @classmethod  # noqa: B027
    def validate_params(cls, sampling_params: Any) -> None:
        pass

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        return True

    def apply_staged_writes(self) -> None:  # noqa: B027
        pass

    @abstractmethod
    def apply(self, logits: Any, ctx: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class RequestState:
    """LogitsProcRequestState."""

    device: Any
    max_num_reqs: int
    vocab_size: int
    all_token_ids: Any
    prompt_len: Any
    prefill_len: Any
    total_len: Any


@dataclass(frozen=True, slots=True)
class LogitsContext:
    """LogitsContext."""

    expanded_idx_mapping: Any
    idx_mapping: Any
    idx_mapping_np: Any
    expanded_local_pos: Any
    input_ids: Any
    pos: Any
    seq_lens_upper_bound_np: Any


@dataclass
class SamplingParams:
    """What a processor may read of a request's parameters."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    extra_args: dict[str, Any] | None = None


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import vllm...` find the stand-in, for one test."""
    path = ""
    for part in INTERFACE.split("."):
        path = f"{path}.{part}".lstrip(".")
        monkeypatch.setitem(sys.modules, path, ModuleType(path))
    monkeypatch.setattr(sys.modules[INTERFACE], "LogitsProcessor", LogitsProcessor, raising=False)
    monkeypatch.delitem(sys.modules, "stillwatch.watermark.vllm", raising=False)


def language(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The logits of the next token: they depend on the last one only."""
    return np.random.default_rng(tokens[-1] if tokens else 0).normal(0, 2, N_VOCABULARY).astype(np.float32)


@dataclass
class Engine:
    """Requests in slots; each `step` gives every running request one token."""

    processor: Any = None
    n_slots: int = 8
    seed: int = 0
    max_len: int = 512
    params: dict[int, SamplingParams] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.tokens = torch.full((self.n_slots, self.max_len), -7, dtype=torch.int32)
        self.prompt_len, self.total_len = (torch.zeros(self.n_slots, dtype=torch.int32) for _ in range(2))

    def state(self) -> RequestState:
        """What processors are given once."""
        prompt, total = SimpleNamespace(gpu=self.prompt_len), SimpleNamespace(gpu=self.total_len)
        history = SimpleNamespace(gpu=self.tokens)
        return RequestState("cpu", self.n_slots, N_VOCABULARY, history, prompt, prompt, total)

    def admit(self, slot: int, prompt: list[int], params: SamplingParams) -> bool:
        """Put a request into a slot, over whatever stands there."""
        self.tokens[slot, : len(prompt)] = torch.tensor(prompt, dtype=torch.int32)
        self.prompt_len[slot] = self.total_len[slot] = len(prompt)
        self.params[slot] = params
        return bool(self.processor.add_request(slot, params))

    def answer(self, slot: int) -> list[int]:
        """The tokens a request has been given."""
        return [int(token) for token in self.tokens[slot, int(self.prompt_len[slot]) : int(self.total_len[slot])]]

    def rows(self, drafts: dict[int, list[int]]) -> tuple[Any, LogitsContext, list[tuple[int, int]]]:
        """Logits and context of a step: requests shuffled, one row for each plus one for each of its drafts."""
        slots = self.rng.permutation(sorted(self.params)).tolist()
        logits, where, fed, pos = [], [], [], []
        for slot in slots:
            history = self.tokens[slot, : int(self.total_len[slot])].tolist()
            for at in range(len(drafts.get(slot, [])) + 1):
                seen = history + drafts.get(slot, [])[:at]
                logits.append(language(seen))
                where.append((slot, at))
                fed.append(seen[-1])
                pos.append(len(seen) - 1)
        expanded = torch.tensor([slot for slot, _ in where], dtype=torch.int32)
        upper = np.array([int(self.total_len[slot]) + len(drafts.get(slot, [])) for slot in slots])
        context = LogitsContext(
            expanded, torch.tensor(slots, dtype=torch.int32), np.array(slots), torch.tensor([at for _, at in where]),
            torch.tensor(fed, dtype=torch.int32), torch.tensor(pos), upper,
        )  # fmt: skip
        return torch.from_numpy(np.stack(logits)), context, where

    def step(self) -> None:
        """One token for every request."""
        logits, context, where = self.rows({})
        self.processor.apply_staged_writes()
        logits = self.processor.apply(logits, context)
        for row, (slot, _) in enumerate(where):
            self.tokens[slot, int(self.total_len[slot])] = self._sample(logits[row].double(), self.params[slot])
            self.total_len[slot] += 1

    def _sample(self, logits: Any, params: SamplingParams) -> int:
        if params.temperature == 0:
            return int(logits.argmax())
        law = torch.softmax(logits / params.temperature, 0)
        if params.top_k:
            law[law < law.sort(descending=True).values[params.top_k - 1]] = 0
        law = law / law.sum()
        ordered = law.sort(descending=True)
        law[ordered.indices[ordered.values.cumsum(0) - ordered.values >= params.top_p]] = 0
        return int(self.rng.choice(N_VOCABULARY, p=(law / law.sum()).numpy()))
