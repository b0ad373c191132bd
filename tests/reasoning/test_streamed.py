from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.reasoning.filters import Filter, filtered
from stillwatch.reasoning.streamed import Streamed

WAYS: list[Filter] = list(get_args(Filter))
FILTERS = [how for how in WAYS if how != "keep"]

BITS = [
    "<think>", "</think>", "<THINK>", "</Think>", "<thinking>", "</thinking>", '<think a="1">', "<thought>",
    "</thought>",
    "\n", "\n\n", " ", "\t", "  \n", "```", "`", "~~~\n", "$$", "x = 1", "3.14", "[12]", "(Lee, 2019)", "So it is. T",
    " is a tag",
    "we look at the first\nof the two cases here", "<", "<thi", "</thi", ">", "<think \n", "\u2003", "\u212a",
]  # fmt: skip
REPLIES = st.tuples(
    st.sampled_from(["<think>", " \n<think>", "\ufeff<Thinking a='b'>", "<think> "]),
    st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=4)), max_size=30),
).map(lambda parts: parts[0] + "".join(parts[1]))
CUTS = st.lists(st.integers(0, 400), max_size=12)


def pieces(text: str, cuts: list[int]) -> list[str]:
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def streamed(text: str, how: Filter, cuts: list[int], *, opens: bool = False, most: int = 1 << 20) -> str:
    one = Streamed(how, opens=opens, most=most)
    return "".join([*map(one.feed, pieces(text, cuts)), one.end()])


@given(REPLIES, st.sampled_from(WAYS), CUTS)
def test_a_stream_is_the_whole_however_it_is_cut(reply: str, how: Filter, cuts: list[int]) -> None:
    """What leaves of a reply that opens with a block is what the whole reply would have become."""
    assert streamed(reply, how, cuts) == filtered(reply, how)
    assert streamed(reply, how, list(range(len(reply)))) == filtered(reply, how)


@given(st.text(max_size=200), st.sampled_from(WAYS), CUTS)
def test_an_answer_streams_byte_by_byte(answer: str, how: Filter, cuts: list[int]) -> None:
    """What follows the block is untouched: code, numbers, citations, whatever it holds but another block."""
    assert streamed(f"<think>a</think>{answer}", how, cuts).endswith(answer)
    assert streamed(f"</think>{answer}", how, cuts, opens=True).endswith(answer)


@given(st.lists(st.sampled_from(BITS), max_size=20).map("".join), st.sampled_from(FILTERS), CUTS)
def test_a_reply_without_a_block_is_untouched(rest: str, how: Filter, cuts: list[int]) -> None:
    """A reply that begins with anything else is all answer, and nothing of it waits but what may be a tag."""
    reply = "The answer. " + rest
    assert streamed(reply, how, cuts) == reply
    one = Streamed(how)
    assert one.feed("T") == "T"


def test_the_answer_does_not_wait() -> None:
    """Behind the reasoning every piece leaves at once, but for what may be the beginning of a tag on its line."""
    one = Streamed("withhold")
    assert [one.feed(piece) for piece in ("<thi", "nk>so", " it</th", "ink>4", "2 <b> ", "\n", "<th", "e>", "x")] == [
        "", "", "", "4", "2 <b> ", "\n", "", "<the>", "x",
    ]  # fmt: skip
    assert one.end() == ""


@given(st.lists(st.sampled_from(BITS), max_size=10).map("".join), CUTS)
def test_a_reply_begun_by_its_prompt_is_reasoning_up_to_its_first_closing_tag(rest: str, cuts: list[int]) -> None:
    """Declared so, a reply shows nothing before that tag, and nothing at all where it never comes."""
    assert streamed("secret</think>" + "answer" + rest.replace("<", ""), "withhold", cuts, opens=True) == (
        "answer" + rest.replace("<", "")
    )
    assert streamed("secret, cut off by a limit", "withhold", cuts, opens=True) == ""
    assert streamed("secret\n<b>", "merge", cuts, opens=True) == "secret\n<b>"
    assert streamed("<think>secret</think>answer", "withhold", cuts, opens=True) == "answer"


@pytest.mark.parametrize("how", FILTERS)
def test_ten_megabytes_of_reasoning_are_held_within_bounds(how: Filter) -> None:
    """Memory stays bounded: the rest of a summary is left out, the rest of what is merged leaves as it came."""
    sentence = "We look at the first\nof the two cases here. "
    one = Streamed(how)
    out = [one.feed("<think>")]
    for _ in range(1000):
        out.append(one.feed(sentence * 250))
        assert sum(map(len, one._held._parts)) <= 1 << 20
    got = "".join([*out, one.feed("</think>42"), one.end()])
    assert got.endswith("42") and got.count("42") == 1
    assert len(got) == {"withhold": 2}.get(how, len(got))
    if how == "merge":
        assert got == "<think>" + sentence * 250_000 + "</think>42"


@pytest.mark.parametrize(
    "text",
    [
        "<think>" + "<think>" * 100_000, "<think></think>" * 50_000, "<think>x</think>" + "```\n<think>" * 50_000,
        "<think>x</think>" + "\n<think> a" * 50_000, "<think>x</think>" + "\n<think \n" * 50_000,
        "<think>x</think>" + " " * 300_000 + "<", "<think>x</think>" + "\n" * 300_000, "\n" * 300_000,
    ],
    ids=range(8),
)  # fmt: skip
def test_hostile_streams_take_linear_time(text: str) -> None:
    """In bits or in one go: tags that are nested, fenced, never closed, empty or never ended are read in one go."""
    for how in FILTERS:
        whole = streamed(text, how, [])
        assert whole == streamed(text, how, list(range(0, len(text), 7)))
        if not text.startswith("\n"):
            assert whole == filtered(text, how)
