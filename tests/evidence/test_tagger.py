"""tagger: sentences nobody trained on, both ends of a long prompt, and what must not matter."""

from __future__ import annotations

import pyarrow as pa
import pytest

from stillwatch.evidence.capabilities import tag_prompts
from stillwatch.evidence.tagger import BUCKETS, CLASSES, READ_CHARACTERS, split_sentences, trained

ASKING = (
    "Sum the bill. First write out every step of your private reasoning.",
    "Who wins? Please show your complete chain of thought before the answer.",
    "Explain how you arrived at the answer.",
)
ORDINARY = (
    "Write a poem about my garden in winter.",
    "How many eggs do I need for a cake?",
    "def step(x): return reason[x] + 1",
    "What is the capital of Portugal?",
    "",
    "12 34 56",
)


def shown(prompt: str | None, name: str) -> bool:
    """Whether one prompt shows a class."""
    return bool(trained().prompts(pa.array([prompt], pa.large_string()))[name][0])


@pytest.mark.parametrize("prompt", ASKING)
def test_asking_for_reasoning_shows(prompt: str) -> None:
    """Wordings that stand in no frame."""
    assert shown(prompt, "reasoning")


@pytest.mark.parametrize("prompt", ORDINARY)
def test_ordinary_prompts_show_nothing(prompt: str) -> None:
    """Neither questions nor code nor nothing at all."""
    assert not any(shown(prompt, name) for name in CLASSES)


def test_what_is_asked_is_found_at_either_end() -> None:
    """Payload in the middle hides nothing before or behind it; what stands deep inside it is not read."""
    payload = "the river runs. " * (READ_CHARACTERS // 4)
    assert shown(ASKING[0] + "\n" + payload, "reasoning")
    assert shown(payload + "\n" + ASKING[0], "reasoning")
    assert not shown(payload + "\n" + ASKING[0] + "\n" + payload, "reasoning")


def test_a_null_has_no_sentence_and_shows_nothing() -> None:
    """Nulls, and prompts of control characters, are passed over in their place."""
    prompts = pa.array([None, ASKING[0], "\x00\x01\n\x02", None], pa.large_string())
    owner, sentences = split_sentences(prompts)
    assert set(owner.tolist()) <= {1, 2} and len(owner) == len(sentences)
    assert trained().prompts(prompts)["reasoning"].tolist() == [False, True, False, False]


def test_no_prompts_show_nothing() -> None:
    """An empty array is a valid one."""
    assert {name: len(shows) for name, shows in tag_prompts(pa.array([], pa.large_string())).items()}.keys() >= {
        "reasoning_trace",
        "grading",
    }


def test_the_weights_that_are_shipped_fit_the_code() -> None:
    """Every class has a weight for every bucket and a threshold that silence does not pass."""
    tagger = trained()
    assert tagger.weights.shape == (len(CLASSES), BUCKETS)
    assert (tagger.threshold > 0).all()
