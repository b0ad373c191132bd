"""openings: the question that two plain texts share, told from an answer copied from one into the other.

Where nothing marks the end of a question, a text begins with it and goes on with the answer. Two answers to one
question then agree word for word from the first word on, and part before either of them ends; a copy goes on to the
end of one of the two at least, however little of the other it is. So of texts without a prompt the first and the last
span are kept once more, each under a key of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from stillwatch.kernels.bloom import BlockedBloom
from stillwatch.kernels.columns import I64, U64
from stillwatch.kernels.winnow import BAND_ROWS, SPAN_WORDS, Prints

Bools = npt.NDArray[np.bool_]

_FIRST, _LAST = np.uint64(0x6F70656E73206173), np.uint64(0x656E647320617420)


def ends_of(prints: Prints, at: Bools) -> U64:
    """Keys of the first and the last span of the texts where `at` (n,) holds, those that have any."""
    at = at & (np.diff(prints.offsets) > 0)
    first, last = prints.offsets[:-1][at], prints.offsets[1:][at] - 1
    return np.concatenate([prints.spans[first] ^ _FIRST, prints.spans[last] ^ _LAST])


def begin_alike(prints: Prints, held: BlockedBloom) -> Bools:
    """Which texts, shape (n,), have no prompt and begin as one held does; one look a text."""
    begun: Bools = (prints.prompts == 0) & (np.diff(prints.offsets) > 0)
    begun[begun] = held.holds(prints.spans[prints.offsets[:-1][begun]] ^ _FIRST)
    return begun


def shared_openings(prints: Prints, held: BlockedBloom, hits: Bools, begun: Bools) -> I64:
    """Of each text, shape (n,), how many of its spans, from the first on, are a question shared with a text held.

    `hits` says which spans are held, `begun` which texts `begin_alike`. None where a text does not, is held to its end,
    or where the stretch holds the end of a text held. Cost: one look a span where any text begins alike.
    """
    starts, stops = prints.offsets[:-1], prints.offsets[1:]
    n = np.zeros(len(starts), np.int64)
    may = np.flatnonzero(begun)
    if not len(may):
        return n
    missed = np.append(np.flatnonzero(~hits), len(hits))
    until = np.minimum(missed[np.searchsorted(missed, starts[may])], stops[may])
    ended = np.concatenate([[0], np.cumsum(held.holds(prints.spans ^ _LAST))])
    parts = ~hits[stops[may] - 1] & (ended[until] == ended[starts[may]])
    n[may[parts]] = (until - starts[may])[parts]
    return n


def bands_beyond(prints: Prints, n_shared: I64, p: float) -> I64:
    """Of each text, shape (n,), the most bands that its shared opening alone gives but with probability p; else 0.

    Where the opening is a share s of the text, each band has all of its minima there with s^BAND_ROWS, however many
    texts are held that begin alike.
    """
    most = np.zeros(len(n_shared), np.int64)
    at = np.flatnonzero(n_shared)
    n_spans, n_words = np.diff(prints.offsets)[at], prints.n_words[at]
    apart = (1 - n_shared[at] / n_spans) * (n_words - SPAN_WORDS + 1) / n_words
    most[at] = stats.binom.isf(p, prints.bands.shape[1], (1 - apart) ** BAND_ROWS)
    return most
