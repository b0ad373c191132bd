from __future__ import annotations

import pickle
import re

import pytest

from stillwatch import errors
from stillwatch.errors import StillwatchError

LEAVES = [value for value in vars(errors).values() if isinstance(value, type) and value is not StillwatchError]


def test_there_is_one_family() -> None:
    """Every error of the module is a direct leaf of the one base."""
    assert LEAVES
    assert all(leaf.__bases__ == (StillwatchError,) for leaf in LEAVES)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The picture at the top of the module names just the leaves there are."""
    drawn = re.findall(r"[|`]-- (\w+)", errors.__doc__ or "")
    assert drawn == [leaf.__name__ for leaf in LEAVES]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "it is wrong"),
        ({"got": "1"}, "it is wrong; got 1"),
        ({"expected": "2"}, "it is wrong; expected 2"),
        ({"do": "Do this."}, "it is wrong. Do this."),
        ({"got": "1", "expected": "2", "do": "Do this."}, "it is wrong; got 1; expected 2. Do this."),
    ],
)
def test_an_error_reads_as_one_line(parts: dict[str, str], text: str) -> None:
    """What is wrong comes first, then got and expected, then the next step; each part can be read on its own."""
    for leaf in LEAVES:
        error = leaf("it is wrong", **parts)
        assert str(error) == text
        assert (error.wrong, error.got, error.do) == ("it is wrong", parts.get("got"), parts.get("do"))


def test_an_error_crosses_processes_whole() -> None:
    """A worker's error arrives with its type, its line and its parts."""
    for leaf in LEAVES:
        error = leaf("it is wrong", got="1", expected="2", do="Do this.")
        again: StillwatchError = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert again.__class__ is leaf
        assert (str(again), again.wrong, again.expected) == (str(error), "it is wrong", "2")
