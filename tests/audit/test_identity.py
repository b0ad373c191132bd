from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from scipy import stats

from stillwatch.audit.identity import PEOPLE, leaks, names_in, weigh_identity


@pytest.mark.parametrize(
    ("text", "spoken", "claimed"),
    [
        ("As an AI language model, I cannot do that.", True, False),
        ("As an AI developed by OpenAI, I have no opinions.", True, True),
        ("I'm just an AI assistant.", True, False),
        ("I was created by Anthropic to be helpful.", True, True),
        ("My name is Claude.", True, True),
        ("I am ChatGPT.", True, True),
        ("As a language teacher I can help.", False, False),
        ("Claude is a common first name.", False, False),
        ("The model was built by engineers.", False, False),
        ("I am a model in Milan.", False, False),
        (None, False, False),
    ],
)
def test_sentences_that_say_who_speaks(text: str | None, spoken: bool, claimed: bool) -> None:
    """First-person sentences of models are found, ordinary sentences with the same words are not."""
    found = leaks(pa.array([text], pa.large_string()))
    assert [one.to_pylist() for one in found] == [[spoken], [claimed]]


def test_whom_they_name_is_counted_once_an_answer() -> None:
    """Makers and names are counted by answer, and only inside the claim."""
    texts = ["As an AI created by OpenAI, I am ChatGPT. OpenAI!", "I was made by Google. Anthropic is another maker."]
    assert names_in(texts) == Counter({"OpenAI": 1, "ChatGPT": 1, "Google": 1})


def test_a_lead_needs_far_more_than_people_write() -> None:
    """The p is Fisher's against people's rate; their own rate is no lead, that of models is."""
    weighed = weigh_identity(10, 1, 1000, Counter())
    table = [[10, 990], [PEOPLE.n, PEOPLE.total - PEOPLE.n]]
    assert 10**weighed.p_log10 == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    assert weighed.is_lead
    assert not weigh_identity(1, 0, 1500, Counter()).is_lead
    assert not weigh_identity(0, 0, 0, Counter()).is_lead
