"""Law 1: every sketch is a commutative monoid whose merged parts equal the whole and whose bytes round-trip."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.kernels.bloom import BlockedBloom
from stillwatch.kernels.sketches import BottomK, LogHistogram, Rhythm, Sketch

MAKERS: dict[type[Sketch], Callable[[], Sketch]] = {
    BlockedBloom: lambda: BlockedBloom(3),
    BottomK: lambda: BottomK(5),
    LogHistogram: lambda: LogHistogram(6),
    Rhythm: Rhythm,
}
"""An empty sketch of each kind, small enough to overflow in a test."""

VALUES = st.lists(st.integers(0, 40) | st.integers(0, 2**62), max_size=40)


def kinds(base: type[Any]) -> set[type[Any]]:
    """Every sketch that can be made, found by introspection."""
    below: list[type[Any]] = base.__subclasses__()
    concrete = {kind for kind in below if not kind.__abstractmethods__}
    return concrete.union(*(kinds(kind) for kind in below))


def filled(kind: type[Sketch], values: list[int]) -> Sketch:
    """A sketch of some values."""
    empty = MAKERS[kind]()
    dtype = np.uint64 if kind in (BlockedBloom, BottomK) else np.int64
    return empty.add_many(np.array(values, dtype))  # type: ignore[attr-defined, no-any-return]


every_kind = pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)


def test_no_sketch_is_left_out() -> None:
    """The contract below runs over every kind of sketch there is."""
    assert kinds(Sketch) == set(MAKERS)


@every_kind
@given(one=VALUES, other=VALUES)
def test_merging_is_commutative(kind: type[Sketch], one: list[int], other: list[int]) -> None:
    """The order of two parts does not matter."""
    a, b = filled(kind, one), filled(kind, other)
    assert a.merge(b).to_bytes() == b.merge(a).to_bytes()


@every_kind
@given(one=VALUES, two=VALUES, three=VALUES)
def test_merging_is_associative(kind: type[Sketch], one: list[int], two: list[int], three: list[int]) -> None:
    """The grouping of three parts does not matter."""
    a, b, c = (filled(kind, values) for values in (one, two, three))
    assert a.merge(b).merge(c).to_bytes() == a.merge(b.merge(c)).to_bytes()


@every_kind
@given(values=VALUES)
def test_the_empty_sketch_is_neutral(kind: type[Sketch], values: list[int]) -> None:
    """Merging nothing changes nothing, from either side."""
    sketch, empty = filled(kind, values), MAKERS[kind]()
    assert sketch.merge(empty) == sketch == empty.merge(sketch)


@every_kind
@given(values=VALUES, cuts=st.lists(st.integers(0, 40), max_size=4), data=st.data())
def test_merged_parts_equal_the_whole(
    kind: type[Sketch], values: list[int], cuts: list[int], data: st.DataObject
) -> None:
    """However the rows are shuffled and cut, the merged parts have the bytes of the whole."""
    shuffled = data.draw(st.permutations(values))
    edges = [0, *sorted(cuts), len(values)]
    merged = MAKERS[kind]()
    for start, stop in pairwise(edges):
        merged = merged.merge(filled(kind, shuffled[start:stop]))
    assert merged.to_bytes() == filled(kind, values).to_bytes()


@every_kind
@given(values=VALUES)
def test_bytes_round_trip(kind: type[Sketch], values: list[int]) -> None:
    """A sketch read from its bytes is equal and goes on like the one written."""
    sketch = filled(kind, values)
    again = kind.from_bytes(sketch.to_bytes())
    assert again == sketch and again.to_bytes() == sketch.to_bytes()
    assert again.merge(sketch) == sketch.merge(sketch)
