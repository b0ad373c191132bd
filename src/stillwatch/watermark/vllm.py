"""vllm: marks in vLLM, as a custom logits processor of Model Runner V2 (loads torch and vllm).

    STILLWATCH_SEAL=seal.key vllm serve MODEL --logits-processors stillwatch.watermark.vllm:MarkProcessor

Each request carries its own mark: a sealed ticket in `vllm_xargs` (`SamplingParams.extra_args`) under
`stillwatch_mark`, which the gate puts there and strips from what clients send. The interface is that of vLLM 0.32:
processors see logits before temperature, min-p, top-k and top-p, rows are not requests, and request slots are reused.
So `gumbel` applies the request's own sampling parameters to the candidates and leaves one token possible; biases are
scaled so that they are what they say after the temperature. A greedy request is not marked by `gumbel`. A step that
marks anything copies rows times candidates to the host once, and waits for the device to do so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillwatch.errors import KeyFileError
from stillwatch.extras import require
from stillwatch.kernels.columns import I64
from stillwatch.kernels.prf import Floats
from stillwatch.keys import RootKey, Secret
from stillwatch.watermark.marker import N_CANDIDATES, Flags, Marker
from stillwatch.watermark.schemes import Mark, Scheme
from stillwatch.watermark.tickets import open_ticket

torch = require("torch", "marks")
LogitsProcessor: Any = require("vllm.v1.worker.gpu.sample.logits_processor", "vllm").LogitsProcessor

ARGUMENT = "stillwatch_mark"
SEAL_VARIABLE = "STILLWATCH_SEAL"


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters of a request that decide which tokens can be drawn."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float

    def law(self, values: Floats, log_total: float) -> Floats:
        """Candidates (k,), the largest first, as logits over temperature; -inf where they cannot be drawn.

        In vLLM's order: temperature, min-p, top-k, top-p. `log_total` is the log of the sum of exp(logit / temperature)
        over all that min-p and top-k leave of the whole vocabulary (`_log_total`): top-p is a share of that.
        """
        scaled = np.asarray(values / self.temperature)
        kept = scaled >= scaled[0] + np.log(self.min_p) if self.min_p > 0 else np.ones(len(scaled), bool)
        if self.top_k > 0:
            kept &= np.arange(len(scaled)) < self.top_k
        if self.top_p < 1:
            before = np.concatenate([[0.0], np.cumsum(np.exp(scaled - log_total) * kept)[:-1]])
            kept &= (before < self.top_p) | (np.arange(len(scaled)) == 0)
        return np.where(kept, scaled, -np.inf)


class MarkProcessor(LogitsProcessor):  # type: ignore[misc]
    """Marks those requests of a batch whose ticket says so, each with its own key."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        """Take what vLLM gives: its configuration, and the token history of the requests, which is only read."""
        self._states = req_states
        self._seal = _seal()
        self._marks: dict[int, tuple[Mark, Sampling]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse, as a ValueError before the request runs, a ticket that does not open."""
        try:
            _mark(sampling_params, _seal())
        except KeyFileError as error:
            raise ValueError(str(error)) from error

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Take over a slot: forget whoever had it, and remember the mark of the request, if it has one."""
        self._marks.pop(req_idx, None)
        mark = _mark(sampling_params, self._seal)
        if mark is None or (mark.scheme.name == "gumbel" and sampling_params.temperature == 0):
            return False
        given = sampling_params
        self._marks[req_idx] = mark, Sampling(given.temperature, given.top_k, given.top_p, given.min_p)
        return True

    def apply(self, logits: Any, ctx: Any) -> Any:
        """Mark the rows (r, v) of one step in place; rows of requests without a mark are left as they are."""
        if not any(int(slot) in self._marks for slot in ctx.idx_mapping_np):
            return logits
        slots: I64 = ctx.expanded_idx_mapping.cpu().numpy().astype(np.int64)
        schemes = {self._marks[slot][0].scheme for slot in slots.tolist() if slot in self._marks}
        for scheme in sorted(schemes, key=repr):
            rows = np.array([at for at, slot in enumerate(slots.tolist()) if self._carries(slot, scheme)])
            self._mark_rows(logits, ctx, scheme, rows, slots[rows])
        return logits

    def _carries(self, slot: int, scheme: Scheme) -> bool:
        return slot in self._marks and self._marks[slot][0].scheme == scheme

    def _mark_rows(self, logits: Any, ctx: Any, scheme: Scheme, rows: I64, slots: I64) -> None:
        windows, active = self._windows(ctx, scheme, rows, slots)
        rows, slots, windows = rows[active], slots[active], windows[active]
        if not len(rows):
            return
        given = [self._marks[slot] for slot in slots.tolist()]
        marker = Marker([mark for mark, _ in given])
        seeds = marker.seeds(windows, np.arange(len(rows)))
        at = torch.from_numpy(rows).to(logits.device)
        mine = logits[at]
        top = mine.topk(min(N_CANDIDATES, logits.shape[1]))
        values, ids = top.values.double().cpu().numpy(), top.indices.cpu().numpy()
        sampling = [one for _, one in given]
        if scheme.name == "gumbel":
            token = marker.choose(_laws(mine, values, sampling), ids, seeds)
            logits[at] = -torch.inf
            logits[at, torch.from_numpy(token).to(logits.device)] = 0.0
        else:
            heat = np.array([one.temperature or 1.0 for one in sampling])[:, None]
            bias = torch.from_numpy(marker.bias(values, ids, seeds, values / heat) * heat)
            where = (at[:, None], top.indices)
            logits.index_put_(where, bias.to(logits), accumulate=True)

    def _windows(self, ctx: Any, scheme: Scheme, rows: I64, slots: I64) -> tuple[I64, Flags]:
        """The window of each row, and whether it may be marked: inside the answer, and new to it under `gumbel`.

        The last token of a row is what was fed to the model there; those before it are the row's own drafts, else the
        request's history. All of it is compared on the device; only windows and flags come to the host.
        """
        device, width = ctx.input_ids.device, scheme.width
        at, slot = torch.from_numpy(rows).to(device), torch.from_numpy(slots).to(device)
        end, start = ctx.pos[at].long(), self._states.prompt_len.gpu[slot].long()
        history = self._states.all_token_ids.gpu[slot, : max(int(end.max()) + 1, width)]
        # Draft tokens stand in no history yet: write this request's drafts of the step over it.
        local, fed = ctx.expanded_local_pos[at].long(), ctx.input_ids.to(history.dtype)
        for back in range(int(local.max()) + 1):
            drawn = local >= back
            history[drawn, end[drawn] - back] = fed[at[drawn] - back]
        first = end - width + 1
        offsets = torch.arange(width, device=device)
        windows = history.gather(1, (first[:, None] + offsets).clamp(min=0))
        active = first >= start
        if scheme.name == "gumbel":
            begins = torch.arange(history.shape[1] - width + 1, device=device)
            same = (begins >= start[:, None]) & (begins < first[:, None])
            for offset in range(width):
                same &= history[:, offset : offset + len(begins)] == windows[:, offset : offset + 1]
            active &= ~same.any(dim=1)
        return windows.long().cpu().numpy(), active.cpu().numpy()


def _laws(logits: Any, values: Floats, sampling: Sequence[Sampling]) -> Floats:
    totals = np.zeros(len(sampling))
    # Only top-p needs the whole vocabulary.
    if any(one.top_p < 1 for one in sampling):
        masses = [_log_total(row, one) for row, one in zip(logits, sampling, strict=True)]
        totals = torch.stack(masses).cpu().numpy()
    return np.stack([one.law(row, float(total)) for one, row, total in zip(sampling, values, totals, strict=True)])


def _log_total(logits: Any, one: Sampling) -> Any:
    """The log mass of what min-p and top-k leave of a row (v,), on its device."""
    scaled = logits.double() / one.temperature
    if one.min_p > 0:
        scaled = scaled.masked_fill(scaled < scaled.max() + float(np.log(one.min_p)), -torch.inf)
    if 0 < one.top_k < len(scaled):
        scaled = scaled.topk(one.top_k).values
    return torch.logsumexp(scaled, dim=0)


def _mark(sampling_params: Any, seal: Secret) -> Mark | None:
    ticket = (sampling_params.extra_args or {}).get(ARGUMENT)
    return None if ticket is None else open_ticket(ticket, seal)


def _seal() -> Secret:
    path = os.environ.get(SEAL_VARIABLE)
    if not path:
        raise KeyFileError(
            f"{SEAL_VARIABLE} names no seal key", do="Run: stillwatch mark keys --seal seal.key, and name that file."
        )
    return RootKey.load(Path(path), key_file=Path(path)).secret
