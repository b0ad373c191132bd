from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import SettingsError
from stillwatch.reasoning.filters import LONGEST_SENTENCE, Filter, filtered, merged, read_reply, summarised

WAYS: list[Filter] = list(get_args(Filter))

HELD = [
    "\n```python\nx =  1\n\n# 2. two\nprint( x )\n```\n", "\n~~~\na\n  b\n~~~\n", "\n$$\nx^2 +  y\n= 3\n$$\n",
    "\\[ a\n\nb \\]", "\n\\begin{align}\n a &= 4\\\\\n b &= 5\n\\end{align}\n",
]  # fmt: skip
SPANS = ["`a  b`", "`x. Y`", "$a_1. B$", "(Smith et al. Nature 2020)", "[12]", "[Lee,\n2019. Science]", "\\(z  . Q\\)"]
NUMBERS = ["3.14", "-2", "1,000", "- 5", "10^-6", "2/3", "7.", "1e-9"]
WORDS = [
    "so",
    "Then",
    "we get",
    "x",
    "Wait.",
    "Yes!",
    "Hm?",
    "e.g.",
    "それは。",
    "- item",
    "* item",
    "1. Step",
    "| a | b |",
    "> said",
]
JOINTS = [" ", "\n", "\n\n", "\n  ", "\n    ", "\t", ". ", "\n\n\n"]
REASONING = st.lists(
    st.tuples(st.sampled_from([*HELD, *SPANS, *NUMBERS, *WORDS]), st.sampled_from(JOINTS)), max_size=25
).map(lambda parts: "".join(part + joint for part, joint in parts))
ANSWERS = st.one_of(
    REASONING, st.text(max_size=60), st.sampled_from(["</think>", "so <think>no</think>", "    code", "\n\n", ""])
)


@given(REASONING, ANSWERS, st.sampled_from(WAYS), st.sampled_from(["think", "thinking", "reasoning"]))
def test_the_answer_is_never_touched(reasoning: str, answer: str, how: Filter, tag: str) -> None:
    """Whatever the filter and the reasoning, all that follows the closing tag leaves byte by byte."""
    got = filtered(f"<{tag}>{reasoning}</{tag}>{answer}", how)
    assert got.endswith(answer)
    if how == "withhold":
        assert got == answer
    else:
        assert got.startswith(f"<{tag}>") and got[: len(got) - len(answer)].endswith(f"</{tag}>")


@given(st.text(max_size=200).filter(lambda text: not text.lstrip().startswith("<")), st.sampled_from(WAYS))
def test_a_reply_without_reasoning_is_all_answer(text: str, how: Filter) -> None:
    """Nothing is guessed: without the opening tag at its start a reply leaves as it came, tags further on included."""
    assert filtered(text, how) == text
    assert filtered(f"Sure. <think>{text}</think>", how) == f"Sure. <think>{text}</think>"


@given(REASONING)
def test_merging_changes_blank_space_only(reasoning: str) -> None:
    """Words, numbers and citations stay in their order, and code, formulas and brackets stay byte by byte."""
    got = merged(reasoning)
    assert got.split() == reasoning.split()
    for held in (*HELD, *SPANS):
        assert got.count(held.strip("\n")) == reasoning.count(held.strip("\n"))
    assert re.findall(r"[-\d.,/^e]*\d", got) == re.findall(r"[-\d.,/^e]*\d", reasoning)


@given(REASONING)
def test_a_summary_is_made_of_whole_sentences(reasoning: str) -> None:
    """Every line of a summary stands verbatim and in order in the reasoning, and cuts through no code or citation."""
    summary, at = summarised(reasoning).strip("\n"), 0
    for line in summary.splitlines():
        at = reasoning.find(line, at)
        assert at >= 0
    for held in HELD:
        assert held.strip("\n") not in summary
    for span in SPANS:
        summary = summary.replace(span, "")
    assert not set("[](`$") & set(summary)


def test_a_summary_says_where_it_began_and_got_to() -> None:
    """The first sentence, and the last of each plain paragraph; code, and what stands between, is left out."""
    reasoning = (
        "\nLet us begin. First we try it. That cannot be right. It fails\n\n```\ncode 12\n```\n\n"
        "Then 3.5 kg. It works with `a. B`.\n\nSo be it."
    )
    assert summarised(reasoning) == "\nLet us begin.\nIt fails\nSo be it.\n"
    assert summarised("") == summarised("\n```\nonly code\n```") == ""


def test_merged_steps_read_as_one() -> None:
    """Lines of plain prose are joined where a sentence plainly goes on; all else keeps its lines."""
    prose = "We look at the first\nof the two cases here.\nThen we are done"
    assert merged(prose) == "We look at the first of the two cases here.\nThen we are done"
    program = "import one as a of b\nimport two as c of d"
    assert merged(program) == program
    assert summarised("So be it.\n\n    code it is\n    and more") == "\nSo be it.\n"
    kept = "1. Take 10\n\n2. Then\n- 3\n= 7\n| a |\n| b |\n> said\n```\nx\n\ny\n```\nDone\nnow"
    assert merged(kept) == kept


@pytest.mark.parametrize(
    "block",
    [
        "for i in range(3):\n  print(i)\n  j += 1", "x = 1\ny = 2", "12\n345", "a | b\n--|--\nc | d",
        "\\(f(x). H(x)\\)", "$x. Y\n+ z$ and so on $a. B$",
        "See Smith, J. A. (2020)", "Dr. Brown 2020 p. 4.", "    indented code here now\n    goes on as it was",
        "We have then\n$$x\n= y$$\nwhich is all there is\nto say about it now",
    ],
)  # fmt: skip
def test_code_numbers_and_citations_are_whole_or_absent(block: str) -> None:
    """Merging leaves them byte by byte; a summary has nothing of them."""
    assert merged(block) == block
    assert summarised(block) == ""


@pytest.mark.parametrize(
    "reply",
    [
        "long reasoning\n</think>\nanswer", "<Think>a</think>\nanswer", '<think effort="high">a</think>\nanswer',
        "\ufeff<think>a</think>\nanswer", "so it is</think>\nanswer", "x\n\nso 'it' is.  </thinking>\nanswer",
        "first </think>\nanswer", "```\ncode\n```\nhence</think>\nanswer",
        "<think>a</think><think>b</think>\nanswer", "<think>a</think><thought>b</thought><think>c</think>\nanswer",
        "a</think><think>b</think>\nanswer",
    ],
)  # fmt: skip
def test_reasoning_is_withheld_however_it_is_opened(reply: str) -> None:
    """In the prompt, in other letters, with attributes, after a byte order mark: only the answer is shown."""
    assert filtered(reply, "withhold") == "\nanswer"


def test_a_second_block_is_reasoning_too() -> None:
    """Blocks between parts of an answer are filtered; the parts leave byte by byte, tags that are spoken of in them."""
    reply = (
        "<think>a</think>one\n<think>b\nc</think> two\n  <think>d</think>three <think>no</think>\n```\n<think>x\n```"
    )
    assert filtered(reply, "withhold") == "one\n two\n  three <think>no</think>\n```\n<think>x\n```"
    assert filtered(reply, "keep") == reply
    assert filtered("<think>a</think> \n <thought>b</thought>\nanswer", "withhold") == " \n \nanswer"
    assert filtered("<think>a</think>one\n<think>cut off", "withhold") == "one\n"
    assert filtered("<think>a</think>one\n<think> is a tag", "withhold") == "one\n<think> is a tag"


def test_an_answer_on_the_line_of_the_closing_tag_is_all_that_is_shown() -> None:
    """`reasoning</think> answer`: nothing before the tag is shown, whatever stands behind it."""
    assert filtered("secret reasoning</think> the answer", "withhold") == " the answer"
    assert filtered("secret `</think>` more secret</think> answer", "withhold") == " answer"


@pytest.mark.parametrize(
    "reply",
    [
        "<thought> is a tag you asked about. 42", "The tag `</think>` ends it.\n42", 'It is called "</think>". 42',
        "```\n</think>\n```\n42",
    ],
)  # fmt: skip
def test_an_answer_about_tags_is_an_answer(reply: str) -> None:
    """A tag that is spoken of opens and closes nothing."""
    assert filtered(reply, "withhold") == reply


def test_a_block_that_is_never_closed_is_reasoning() -> None:
    """A reply cut off while reasoning has no answer, so nothing of it is shown where reasoning is withheld."""
    assert filtered("<think>so far", "withhold") == ""
    assert filtered("<think>so\nfar", "keep") == "<think>so\nfar"


def test_the_parts_of_a_reply_are_the_reply() -> None:
    """Reading a reply loses nothing, and the first closing tag ends the reasoning, even inside code."""
    text = " \n<thought>a ```\n</thought>\n``` b</thought> c"
    reply = read_reply(text)
    assert reply.opening + reply.reasoning + reply.closing + reply.answer == text
    assert reply.answer == "\n``` b</thought> c"


@pytest.mark.parametrize(
    "part", ["\\[", "$$", "```\n", "`", "\\begin{a}", "[", "(", "$", ". ", "\n", " ", "<think>", ".\n A", " \n", "a"]
)
def test_hostile_reasoning_takes_linear_time(part: str) -> None:
    """A hundred thousand openings that never close are read in one go; a quadratic reading would not end in time."""
    for text in ("<think>" + part * 100_000, "<think>x" + part * 100_000, "x" + part * 100_000):
        for how in WAYS:
            assert isinstance(filtered(text, how), str)


@pytest.mark.parametrize(
    "text",
    [
        "'</think>" * 50_000, "```</think>" * 50_001, "</think>" + "\n<think> a" * 50_000, "<think></think>" * 50_000,
        "</think>" + "```\n<think>" * 50_000, "</think>" + " " * 200_000 + "<", "</think>" + "\n<think \n" * 50_000,
        "</think>" + "\n" * 200_000,
    ],
    ids=range(8),
)  # fmt: skip
def test_hostile_tags_take_linear_time(text: str) -> None:
    """Tags that are quoted, fenced, never closed, empty or never ended are read in one go."""
    for how in WAYS:
        assert isinstance(filtered(text, how), str)


def test_unknown_filters_are_refused() -> None:
    """A filter of another name is an error that lists those there are."""
    with pytest.raises(SettingsError, match="withhold"):
        filtered("<think>a</think>b", "poison")  # type: ignore[arg-type]


def test_a_thought_without_full_stops_is_no_summary() -> None:
    """One endless sentence would be the whole thought: it is left out, and its short neighbours stay."""
    endless = "we go on and on, " * 60
    assert summarised(endless) == "" and summarised(endless.replace(", ", "\n")) == ""
    assert (
        summarised(f"We look here. {endless.capitalize()}\n\nSo it ends here.") == "\nWe look here.\nSo it ends here.\n"
    )
    short = "we " + "a" * (LONGEST_SENTENCE - 3)
    assert summarised(short) == f"\n{short}\n" and summarised(short + "a") == ""
