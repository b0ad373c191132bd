"""openings: how a conversation began, as one keyed hash, so that whoever carries it on can be told.

Clients resend the whole conversation with each request, so all requests of one conversation hold its opening.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.kernels.columns import I64, U64, WORD, list_spans
from stillwatch.kernels.hashing import HashKey, combine, hash_strings


def opening_keys(messages: pa.Array, key: HashKey) -> U64:
    """Keyed hash of the first question, the first answer and the second question of each conversation, shape (n,).

    Args:
        messages: lists of (role, content); turns that are neither `user` nor `assistant` are passed over.

    Returns:
        0 for null, and where there is no second question after an answer: a question many ask is no conversation, and
        an answer that a model gives every time is not one until somebody went on from it in the same words.

    Cost: two passes over the roles, and one over three texts of each row.
    """
    turns, spans = list_spans(messages)
    start, end = spans.offsets[:-1] // WORD, spans.offsets[1:] // WORD
    asked, answered = (_places(turns, role) for role in ("user", "assistant"))
    first = _from(asked, start)
    answer = _from(answered, first)
    second = _from(asked, answer)
    whole = second < end
    if len(spans.valid):
        whole &= spans.valid != 0
    rows = np.flatnonzero(whole)
    result = np.zeros(len(messages), np.uint64)
    if len(rows):
        content = pc.struct_field(turns, "content")
        texts = [hash_strings(content.take(pa.array(at[rows])), key) for at in (first, answer, second)]
        told = np.logical_and.reduce([text != 0 for text in texts])
        result[rows] = np.where(told, combine(texts, key), np.uint64(0))
    return result


def _places(turns: pa.Array, role: str) -> npt.NDArray[np.int64]:
    """Which turns are of a role, and beyond the last of them a place that no conversation reaches."""
    of_role = pc.fill_null(pc.equal(pc.struct_field(turns, "role"), role), False)
    return np.append(np.flatnonzero(of_role.to_numpy(zero_copy_only=False)), np.iinfo(np.int64).max)


def _from(places: npt.NDArray[np.int64], start: I64) -> I64:
    """The first of the places that is not before each start."""
    return np.asarray(places[np.searchsorted(places, start)])
