from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from stillwatch.errors import SettingsError
from stillwatch.kernels.prf import seeds, uniforms, window_word
from stillwatch.watermark.detector import Suspect, detect
from stillwatch.watermark.grams import Document, grams_of
from stillwatch.watermark.keys import KeyRing, key_words
from stillwatch.watermark.schemes import Scheme
from tests.needs import needs_module
from tests.watermark import making

torch = needs_module("torch", "torch")
transformers = needs_module("transformers", "transformers")
pytestmark = pytest.mark.ml

SCHEMES = [
    Scheme(name="gumbel", width=1), Scheme(name="gumbel", width=2), Scheme(name="kgw", width=1, delta=4.0),
    Scheme(name="adfp", width=2, delta=60.0), Scheme(split=(("provider", 0.5), ("account", 0.5))),
]  # fmt: skip


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return making.ring(tmp_path)


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """A GPT-2 of two layers, its weights random: no text to read, but every step of `generate` is the real one."""
    torch.manual_seed(0)
    # Two threads on a busy machine spend their time waiting for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shape = {
        "vocab_size": 800,
        "n_positions": 256,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "tie_word_embeddings": False,
    }
    made = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=None)).eval()
    made.lm_head.weight.data.mul_(40)
    yield made
    torch.set_num_threads(threads)


def test_a_processor_used_again_marks_as_a_new_one(ring: KeyRing) -> None:
    """A second prompt, longer, shorter or the first conversation gone on, is never taken for an answer."""
    from stillwatch.watermark.huggingface import MarkProcessor

    mark = making.mark(ring, Scheme(name="kgw", width=1))
    used = MarkProcessor(mark)
    torch.manual_seed(0)
    ids = torch.randint(0, 800, (2, 40))
    scores = torch.randn(2, 800)
    for n_prompt, n_rows in ((10, 2), (20, 2), (5, 2), (5, 1), (16, 1)):
        new = MarkProcessor(mark)
        for n in range(n_prompt, n_prompt + 5):
            assert torch.equal(used(ids[:n_rows, :n], scores[:n_rows]), new(ids[:n_rows, :n], scores[:n_rows]))
            assert torch.equal(used(ids[:n_rows, :n], scores[:n_rows]), scores[:n_rows]) == (n == n_prompt)


@pytest.fixture
def processor() -> Callable[..., Any]:
    """A processor that has seen its prompt, of no tokens, and so takes all that follows as answers."""
    from stillwatch.watermark.huggingface import MarkProcessor

    def made(marks: Any, n_rows: int, **options: Any) -> Any:
        one = MarkProcessor(marks, **options)
        one(torch.zeros((n_rows, 0), dtype=torch.long), torch.zeros((n_rows, 3)))
        return one

    return made


def generated(model: Any, marks: Any, *, n_rows: int = 12, n_tokens: int = 120, **options: Any) -> list[Document]:
    from stillwatch.watermark.huggingface import MarkConfig

    torch.manual_seed(1)
    prompt = torch.randint(1, 800, (n_rows, 5))
    config = {"watermarking_config": MarkConfig(marks)} if marks is not None else {}
    settings = {"do_sample": True, "max_new_tokens": n_tokens, "top_k": 50, "pad_token_id": 0} | options
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings, **config)
    return [Document(row[5:].numpy(), row[:5].numpy()) for row in out]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda one: f"{one.name}-{one.width}-{len(one.split)}")
def test_what_generate_marks_the_detector_finds(ring: KeyRing, model: Any, scheme: Scheme) -> None:
    """Answers of a real `generate` carry the key at every level of the split, and unmarked ones do not."""
    mark = making.mark(ring, scheme)
    decoys = ring.decoys(100, epoch="1", **making.ASKED)
    keys = [making.key(ring, "ann" if level == "account" else None) for level in scheme.levels()]
    for marks, verdict in ((mark, "found"), (None, "not found")):
        grams = grams_of(generated(model, marks), width=scheme.width)
        suspects = [Suspect(name="x", tokenizer="ids", grams=grams)]
        found = detect(suspects, keys, scheme=scheme, routing=mark.routing, decoys=decoys)
        assert {one.verdict for one in found} == {verdict}


def test_rows_carry_marks_of_their_own(ring: KeyRing, model: Any) -> None:
    """In one batch each row carries its own account's key, and a row without a mark carries none."""
    scheme = Scheme(width=1, split=(("account", 1.0),))
    names = ["ann", "bob", None] * 4
    marks = [making.mark(ring, scheme, account=name) if name else None for name in names]
    texts = generated(model, marks)
    keys = [making.key(ring, name) for name in ("ann", "bob", "carl")]
    for row, carried in (("ann", ["ann"]), ("bob", ["bob"]), (None, [])):
        grams = grams_of([text for text, name in zip(texts, names, strict=True) if name == row], width=1)
        suspects = [Suspect(name="x", tokenizer="ids", grams=grams)]
        decoys = ring.decoys(100, epoch="1", **making.ASKED)
        found = detect(
            suspects,
            keys,
            scheme=scheme,
            routing=ring.routing(epoch="1", **making.ASKED),
            decoys=decoys,
        )
        assert [one.key.label.account for one in found if one.verdict == "found"] == carried


def test_only_tokens_that_could_be_drawn_are_drawn(ring: KeyRing, model: Any) -> None:
    """The mark comes after top-k and temperature: with top_k=1 a marked answer is the greedy one."""
    mark = making.mark(ring, Scheme(width=1))
    plain = generated(model, None, top_k=1, n_rows=3)
    marked = generated(model, mark, top_k=1, n_rows=3)
    assert [one.tokens.tolist() for one in plain] == [one.tokens.tolist() for one in marked]


def test_the_law_is_unchanged_under_gumbel(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Over 40,000 windows of one key the tokens drawn have the law of the softmax (chi-square)."""
    mark = making.mark(ring, Scheme(width=2))
    rng = np.random.default_rng(2)
    logits = torch.tensor(rng.normal(0, 2, 30), dtype=torch.float32)
    law = torch.softmax(logits.double(), 0).numpy()
    step = processor(mark, 400)
    counts = np.zeros(30)
    for _ in range(100):
        ids = torch.from_numpy(rng.integers(0, 2**20, (400, 2)))
        counts += np.bincount(step(ids, logits.expand(400, 30)).argmax(1).numpy(), minlength=30)
    assert chisquare(counts, law * 40_000).pvalue > 1e-3


def test_gumbel_chooses_as_the_paper_says(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """The token is the largest of logit - log(-log u), by plain NumPy, among the most likely ones."""
    mark = making.mark(ring, Scheme(width=2))
    rng = np.random.default_rng(3)
    ids, logits = rng.integers(0, 1000, (20, 6)), rng.normal(0, 2, (20, 1000)).astype(np.float32)
    got = processor(mark, 20)(torch.from_numpy(ids), torch.from_numpy(logits))
    word = window_word(ids[:, -2:])
    for row in range(20):
        top = np.argsort(-logits[row])[:64]
        seed = np.repeat(seeds(word[row : row + 1], key_words([mark.keys["provider"]])[0]), 64)
        noisy = logits[row][top] - np.log(-np.log(uniforms(seed, top)))
        assert int(got[row].argmax()) == top[noisy.argmax()]
        assert int(torch.isfinite(got[row]).sum()) == 1


def test_a_window_is_marked_once_in_an_answer(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Under gumbel a window that came before leaves the scores alone; green lists mark it every time."""
    scores = torch.zeros((2, 50))
    ids = torch.tensor([[7, 8, 9, 7, 8], [7, 8, 9, 8, 7]])
    got = processor(making.mark(ring, Scheme(width=2)), 2)(ids, scores)
    assert torch.equal(got[0], scores[0]) and not torch.equal(got[1], scores[1])
    got = processor(making.mark(ring, Scheme(name="kgw", width=2)), 2)(ids, scores)
    assert not torch.equal(got[0], scores[0]) and not torch.equal(got[1], scores[1])
    assert torch.equal(scores, torch.zeros((2, 50)))


def test_a_window_never_reaches_into_the_prompt(ring: KeyRing) -> None:
    """The first tokens of an answer, whose window would hold the prompt's last, are not marked."""
    from stillwatch.watermark.huggingface import MarkProcessor

    step, scores = MarkProcessor(making.mark(ring, Scheme(width=2))), torch.zeros((1, 50))
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    assert [torch.equal(step(ids[:, :n], scores), scores) for n in (3, 4, 5)] == [True, True, False]


def test_biases_are_those_of_the_papers(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Green tokens get delta; under adfp each gets delta q (1[green] - L) of the student given, by plain NumPy."""
    rng = np.random.default_rng(4)
    logits, student = rng.normal(0, 2, (1, 300)), rng.normal(0, 2, (1, 300))
    ids = torch.tensor([[5]])
    top = np.argsort(-logits[0])[:64]
    for name in ("kgw", "adfp"):
        mark = making.mark(ring, Scheme(name=name, width=1, delta=3.0))
        step = processor(mark, 1, student=lambda _: torch.from_numpy(student))
        moved = step(ids, torch.from_numpy(logits)).numpy()[0] - logits[0]
        seed = np.repeat(seeds(window_word(ids.numpy()), key_words([mark.keys["provider"]])[0]), 64)
        green = uniforms(seed, top) < 0.25
        q = np.exp(student[0, top]) / np.exp(student[0, top]).sum()
        expected = 3.0 * (green if name == "kgw" else q * (green - q[green].sum()))
        assert moved[top] == pytest.approx(expected, abs=1e-9)
        assert np.count_nonzero(np.delete(moved, top)) == 0


def test_rows_with_few_tokens_left_stay_lawful(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Where processors before left one token, or fewer than the candidates, none of the others appears."""
    scores = torch.full((2, 100), -torch.inf)
    scores[0, 42] = 0.0
    scores[1, :3] = 1.0
    ids = torch.tensor([[1], [2]])
    for name in ("gumbel", "kgw", "adfp"):
        got = processor(making.mark(ring, Scheme(name=name, width=1)), 2)(ids, scores)
        assert torch.isfinite(got[0]).nonzero().flatten().tolist() == [42]
        assert set(torch.isfinite(got[1]).nonzero().flatten().tolist()) <= {0, 1, 2}


def test_half_precision_takes_the_other_road(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Scores of another type go through torch's own top-k and give the same token."""
    rng = np.random.default_rng(5)
    scores = torch.from_numpy(rng.permutation(500).astype(np.float32)[None] / 8)
    ids, mark = torch.tensor([[1, 2]]), making.mark(ring, Scheme())
    step = processor(mark, 1)
    assert int(step(ids, scores).argmax()) == int(step(ids, scores.to(torch.float64)).argmax())
    assert step(ids, scores.to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_config_shows_no_key(ring: KeyRing, model: Any) -> None:
    """Printing, saving or copying the configuration of a generation gives no key away."""
    from stillwatch.watermark.huggingface import MarkConfig

    mark = making.mark(ring, Scheme())
    config = transformers.GenerationConfig(watermarking_config=MarkConfig(mark))
    hidden = mark.keys["provider"].reveal().hex()
    assert hidden not in repr(config) + config.to_json_string() + repr(MarkConfig(mark))


def test_marks_that_do_not_fit_are_refused(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Too few marks for the rows, two schemes in a batch, and what is no mark are errors."""
    from stillwatch.watermark.huggingface import MarkConfig

    one, other = making.mark(ring, Scheme(width=1)), making.mark(ring, Scheme(width=2))
    for marks in ([one], [one, other, one], [None, None, None]):
        with pytest.raises(SettingsError):
            processor(marks, 3)
    with pytest.raises(SettingsError):
        MarkConfig(["key"]).validate()  # type: ignore[list-item]


def test_the_sampler_draws_marked_tokens(ring: KeyRing, processor: Callable[..., Any]) -> None:
    """Used as a sampler, it gives the marked token, and draws at random where nothing is marked."""
    scores, mark = torch.zeros((200, 10)), making.mark(ring, Scheme(width=1, split=(("provider", 1.0),)))
    step = processor([mark if at % 2 else None for at in range(200)], 200)
    ids = torch.arange(200)[:, None] // 2
    torch.manual_seed(6)
    first, second = step.pick(ids, scores), step.pick(ids, scores)
    assert torch.equal(first[1::2], second[1::2]) and not torch.equal(first[::2], second[::2])
