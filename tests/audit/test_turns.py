from __future__ import annotations

import re
import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.audit.turns import in_lists, in_text, may_be_marked

ASKED, SAID, MORE, THEN = "Name three primes.\nShortly.", "Two, three\nand five.", "Two more?", "Seven and eleven."
TEMPLATES = {
    "alpaca": "### Instruction:\n{}\n\n### Response:\n{}\n\n### Instruction:\n{}\n\n### Response:\n{}",
    "hashes alone": "### User\n{}\n\n### Assistant\n{}\n\n### User\n{}\n\n### Assistant\n{}",
    "one line": "### Human: {}### Assistant: {}### Human: {}### Assistant: {}",
    "capitals": "USER: {} ASSISTANT: {}</s>USER: {} ASSISTANT: {}</s>",
    "speakers": "\n\nHuman: {}\n\nAssistant: {}\n\nHuman: {}\n\nAssistant: {}",
    "bold": "**User:** {}\n\n**Bot:** {}\n\n**User:** {}\n\n**Bot:** {}",
    "letters": "Q: {}\nA: {}\n\nQ: {}\nA: {}",
    "words": "Question: {}\nAnswer: {}\nQuestion: {}\nAnswer: {}",
    "inst": "<s>[INST] {} [/INST] {} </s><s>[INST] {} [/INST] {} </s>",
    "chatml": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n",
    "headers": "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant"
    "<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
    "tokens": "<|user|>\n{}</s>\n<|assistant|>\n{}</s>\n<|user|>\n{}</s>\n<|assistant|>\n{}</s>\n",
    "gemma": "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n{}<end_of_turn>\n"
    "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n{}<end_of_turn>\n",
    "harmony": "<|start|>user<|message|>{}<|end|><|start|>assistant<|message|>{}<|end|>"
    "<|start|>user<|message|>{}<|end|><|start|>assistant<|message|>{}<|return|>",
}


@pytest.mark.parametrize("preface", ["", "Below stands a conversation. "])
@pytest.mark.parametrize("name", list(TEMPLATES))
def test_marked_turns_are_read_in_every_common_way(name: str, preface: str) -> None:
    """A rendered conversation gives back its questions and answers, and nothing of its marks."""
    text = f"{preface}\n{TEMPLATES[name].format(ASKED, SAID, MORE, THEN)}"
    found = in_text(text)
    said = [(re.sub(r"^</?s>|\s*<s>$", "", asked or "").strip(), answer) for asked, answer in found if answer]
    assert said == [(ASKED, SAID), (MORE, THEN)]
    assert may_be_marked(pa.array([text], pa.large_string())).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        "The user: a short history. An answer: none.",
        "User: I asked, and nobody replied.",
        "Assistant: hello\nUser: bye",
        "x" * 500 + "\nQuestion: late?\nAnswer: yes, but this is a document of its own",
        "Question: \nAnswer: ",
        "",
    ],
)
def test_other_texts_are_left_whole(text: str) -> None:
    """Without a question's mark near the beginning and an answer after it there is nothing to take apart."""
    assert in_text(text) == []


@given(st.text(st.sampled_from(list("User:Assistant\n#[]/INST<|>QA ")), max_size=200))
def test_nothing_is_lost_and_the_quick_look_misses_nothing(text: str) -> None:
    """Whatever stands in a text: what `in_text` finds `may_be_marked` saw coming, and every part stands in the text."""
    found = in_text(text)
    assert not found or may_be_marked(pa.array([text], pa.large_string())).to_pylist() == [True]
    assert all(answer is None or answer in text for _, answer in found)


def test_odd_turns_are_told_and_the_rest_is_kept() -> None:
    """What is no turn is counted; blank turns are nothing; answers without a question keep none."""
    odd: list[int] = []
    turns: list[Any] = [
        7, {"role": "user"}, {"content": "no role"}, {"role": "user", "content": "  "},
        {"role": "assistant", "content": "first"}, {"role": "user", "content": "a"}, {"role": "USER", "content": "b"},
        {"role": "Assistant", "content": "c"}, {"from": "gpt", "value": "d"}, {"role": "system", "content": "s"},
    ]  # fmt: skip
    found = in_lists(turns, lambda value: value if isinstance(value, str) else None, lambda: odd.append(1))
    assert found == [(None, "first"), ("a\nb", "c"), (None, "d")]
    assert len(odd) == 3


def test_endless_turns_are_bounded_and_nothing_is_dropped() -> None:
    """A text of very many turns gives so many exchanges, the last of which holds all that follows."""
    found = in_text("Q: a\nA: b\n" * 100_000)
    assert len(found) == 10_000
    assert sum((answer or "").count("b") for _, answer in found) == 100_000


@pytest.mark.parametrize(
    "piece", [" ", "\t", "\n", "#", "**", "<|", "## a ", "A: ", "Q:", "</s>", "[/INST]", "\n## Q \n"]
)
def test_hostile_repetition_is_looked_through_in_one_pass(piece: str) -> None:
    """A megabyte of anything repeated takes far less than what a pass for each of its pieces would (hours)."""
    started = time.process_time()
    for start in ("Q: x\n", "### User\n", "<|user|>", "[INST]", "USER: x "):
        in_text(start + piece * (1_000_000 // len(piece)) + "\nA: y")
    assert time.process_time() - started < 20
