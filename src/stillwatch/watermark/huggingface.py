"""huggingface: marks in `generate` of Hugging Face transformers (loads torch and transformers).

    model.generate(ids, do_sample=True, watermarking_config=MarkConfig(mark))

A mark must come after temperature, top-k and top-p, and a processor handed to `generate` comes before them; its
`watermarking_config` comes last, so this is one. Greedy decoding has no law to keep: `gumbel` would sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from stillwatch.errors import SettingsError
from stillwatch.extras import require
from stillwatch.kernels.candidates import top_candidates
from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.prf import Floats
from stillwatch.watermark.marker import N_CANDIDATES, Flags, Marker, had_before
from stillwatch.watermark.schemes import Mark

torch = require("torch", "marks")
BaseConfig: Any = require("transformers.generation.configuration_utils", "marks").BaseWatermarkingConfig
LogitsProcessor: Any = require("transformers", "marks").LogitsProcessor

Student = Callable[[Any], Any]
"""Token ids (b, t) to a student's logits (b, v) of the next token, in the same vocabulary."""


class MarkConfig(BaseConfig):  # type: ignore[misc]
    """What `generate` takes as its watermarking_config; it never shows or copies a key."""

    def __init__(
        self, marks: Mark | Sequence[Mark | None], *, n_candidates: int = N_CANDIDATES, student: Student | None = None
    ) -> None:
        """Take one mark for all rows, or one for each; `student` is for `adfp`, else the model stands in for it."""
        self._options: dict[str, Any] = {"marks": marks, "n_candidates": n_candidates, "student": student}

    def validate(self) -> None:
        """Refuse what is no mark."""
        marks = self._options["marks"]
        if not all(isinstance(mark, Mark | None) for mark in ([marks] if isinstance(marks, Mark) else marks)):
            raise SettingsError("a MarkConfig holds marks")

    def construct_processor(self, vocab_size: int, device: Any) -> MarkProcessor:
        """A processor for one call of `generate`."""
        return MarkProcessor(**self._options)

    def to_dict(self) -> dict[str, Any]:
        """What may be printed or saved: nothing."""
        return {}

    def to_json_string(self) -> str:
        """As `to_dict`."""
        return "{}"

    def __repr__(self) -> str:
        return "MarkConfig()"

    def __iter__(self) -> Any:
        return iter(())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class MarkProcessor(LogitsProcessor):  # type: ignore[misc]
    """Marks the answers of a call of `generate`; the ids of its first step are the prompt.

    Ids that do not go on from the step before begin another call, so a processor may be used again.

    Under `gumbel` the scores of a marked row leave one token possible, so that any sampler draws it; rows that are not
    marked at a step keep their scores and are drawn by the engine's own chance. Cost for 50,000 tokens: benchmarks.
    """

    def __init__(
        self, marks: Mark | Sequence[Mark | None], *, n_candidates: int = N_CANDIDATES, student: Student | None = None
    ) -> None:
        """Take what `MarkConfig` takes, and `n_candidates` as the number of tokens a mark chooses among."""
        self._marks = marks
        self._marker: Marker | None = None
        self._prompt: Any = None
        self._n_prompt = self._n_seen = -1
        self._n_candidates = n_candidates
        self._student = student

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Mark one step: ids (b, t) so far, scores (b, v) of the next token; returns new scores."""
        if self._marker is None or self._is_another_call(input_ids):
            self.reset()
            self._marker = self._begin(len(input_ids))
            self._prompt, self._n_prompt = input_ids.clone(), input_ids.shape[1]
        self._n_seen = input_ids.shape[1]
        rows, seed = self._seeds(self._marker, input_ids)
        if not len(rows):
            return scores
        whole = len(rows) == len(input_ids)
        at = torch.from_numpy(rows)
        mine = scores if whole else scores[at.to(scores.device)]
        values, ids = self._candidates(mine)
        if self._marker.scheme.name == "gumbel":
            token = torch.from_numpy(self._marker.choose(values, ids, seed)).to(scores.device)
            out = torch.full_like(scores, -torch.inf) if whole else scores.clone()
            if not whole:
                out[at.to(scores.device)] = -torch.inf
            out[at.to(scores.device), token] = 0.0
            return out
        bias = torch.from_numpy(self._marker.bias(values, ids, seed, self._learned(input_ids, rows, values, ids)))
        out = scores.clone()
        where = (at[:, None].to(scores.device), torch.from_numpy(ids).to(scores.device))
        return out.index_put_(where, bias.to(scores), accumulate=True)

    def pick(self, input_ids: Any, scores: Any) -> Any:
        """A sampler of its own: the next token of each row (b,), where unmarked rows are drawn by torch's chance."""
        marked = self(input_ids, scores)
        return torch.multinomial(torch.softmax(marked, dim=-1), 1).squeeze(1)

    def reset(self) -> None:
        """Forget the call of `generate` this was used in: the next ids are a prompt again.

        Needed by hand only after a prompt of no tokens, which no later call can be told from.
        """
        self._marker = self._prompt = None
        self._n_prompt = self._n_seen = -1

    def _is_another_call(self, input_ids: Any) -> bool:
        """Whether these ids do not go on, by at most one token, from those of the step before."""
        if self._n_prompt == 0:
            return False
        n = input_ids.shape[1]
        return (
            len(input_ids) != len(self._prompt)
            or not self._n_seen <= n <= self._n_seen + 1
            or not torch.equal(input_ids[:, : self._n_prompt], self._prompt)
        )

    def _begin(self, n_rows: int) -> Marker:
        marks = [self._marks] * n_rows if isinstance(self._marks, Mark) else list(self._marks)
        if len(marks) != n_rows:
            raise SettingsError("a batch has one mark for each row", got=f"{len(marks)} for {n_rows} rows")
        return Marker(marks)

    def _seeds(self, marker: Marker, input_ids: Any) -> tuple[I64, U64]:
        """The rows that are marked at this step, and their seeds."""
        width = marker.scheme.width
        answers: I64 = input_ids[:, self._n_prompt :].cpu().numpy()
        if answers.shape[1] < width:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        active: Flags = marker.marked
        if marker.scheme.name == "gumbel":
            active = active & ~had_before(answers, width)
        rows = np.flatnonzero(active)
        return rows, marker.seeds(answers[rows, answers.shape[1] - width :], rows)

    def _candidates(self, scores: Any) -> tuple[Floats, I64]:
        if scores.device.type == "cpu" and scores.dtype == torch.float32:
            return top_candidates(scores.detach().contiguous().numpy(), self._n_candidates)
        values, ids = scores.double().topk(min(self._n_candidates, scores.shape[1]))
        return values.cpu().numpy(), ids.cpu().numpy()

    def _learned(self, input_ids: Any, rows: I64, values: Floats, ids: I64) -> Floats:
        if self._student is None or self._marker is None or self._marker.scheme.name != "adfp":
            return values
        logits = self._student(input_ids[torch.from_numpy(rows).to(input_ids.device)])
        learned: Floats = logits.double().cpu().gather(1, torch.from_numpy(ids)).numpy()
        return learned
