"""marker: one step of generation: the seeds of the rows, and the token or the bias that a mark gives. No torch.

Windows lie wholly inside the answer, so a prompt neither carries nor spoils a mark. Under `gumbel` a window that the
answer has had before is not marked again: the same noise twice would make text repeat itself, and with each window used
once the tokens of an answer have exactly the law the model gave them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stillwatch.errors import SettingsError
from stillwatch.kernels.candidates import fingerprint_bias, green_bias, gumbel_choice
from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.prf import Floats, seeds, window_word
from stillwatch.watermark.keys import key_words
from stillwatch.watermark.schemes import Mark

Flags = npt.NDArray[np.bool_]

N_CANDIDATES = 64
"""Tokens of a row that a mark chooses among; the law that `gumbel` leaves unchanged is that of these."""


class Marker:
    """The marks of a batch, one for each row, all of one scheme; None for a row that is not marked."""

    def __init__(self, marks: Sequence[Mark | None]) -> None:
        given = [mark for mark in marks if mark is not None]
        if not given or any(mark.scheme != given[0].scheme for mark in given):
            raise SettingsError("the marks of a batch have one scheme", got=f"{len({m.scheme for m in given})} schemes")
        self.scheme = given[0].scheme
        self.marked: Flags = np.array([mark is not None for mark in marks])
        some = [mark or given[0] for mark in marks]
        self._routing = key_words([mark.routing for mark in some])
        self._keys = np.stack([key_words([mark.keys[level] for mark in some]) for level in self.scheme.levels()])

    def seeds(self, windows: I64, rows: I64) -> U64:
        """The seed of each window (n, width) under the key that rules it in its row (n,)."""
        words = window_word(windows)
        level = self.scheme.level_of(words, self._routing[rows])
        return seeds(words, self._keys[level, rows])

    def choose(self, values: Floats, ids: I64, seed: U64) -> I64:
        """Under `gumbel`, the token of each row of candidates (n, k): values are logits over temperature."""
        return gumbel_choice(values, ids, seed)

    def bias(self, values: Floats, ids: I64, seed: U64, student: Floats) -> Floats:
        """Under `kgw` and `adfp`, what is added to each candidate (n, k); `student` are a student's logits of them."""
        scheme = self.scheme
        if scheme.name == "kgw":
            return green_bias(values, ids, seed, scheme.gamma, scheme.delta)
        return fingerprint_bias(values, ids, seed, student, scheme.gamma, scheme.delta)


def had_before(answers: I64, width: int) -> Flags:
    """For each answer so far (b, t), whether its last window stands in it before: O(t)."""
    n_windows = answers.shape[1] - width
    if n_windows < 1:
        return np.zeros(len(answers), bool)
    same = np.ones((len(answers), n_windows), bool)
    for offset in range(width):
        last = answers[:, answers.shape[1] - width + offset]
        same &= answers[:, offset : offset + n_windows] == last[:, None]
    return np.asarray(same.any(axis=1))
