from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from stillwatch.errors import KeyFileError
from stillwatch.watermark.detector import Suspect, detect
from stillwatch.watermark.grams import Document, grams_of
from stillwatch.watermark.keys import KeyRing
from stillwatch.watermark.schemes import Scheme
from stillwatch.watermark.tickets import seal_ticket
from tests.needs import needs_module
from tests.watermark import making

torch = needs_module("torch", "torch")
pytestmark = pytest.mark.ml

from tests.watermark.engine import Engine, SamplingParams, install, language  # noqa: E402

SCHEMES = [
    Scheme(width=1), Scheme(width=2), Scheme(name="kgw", width=1, delta=4.0), Scheme(name="adfp", delta=40.0),
]  # fmt: skip


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return making.ring(tmp_path)


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ring: KeyRing) -> Iterator[Any]:
    """The processor's class, loaded against the stand-in, its seal key in a file."""
    install(monkeypatch)
    seal = tmp_path / "seal.key"
    seal.write_text(ring.seal(**making.ASKED).reveal().hex())
    seal.chmod(0o600)
    monkeypatch.setenv("STILLWATCH_SEAL", str(seal))
    yield import_module("stillwatch.watermark.vllm")
    del sys.modules["stillwatch.watermark.vllm"]


@pytest.fixture
def engine(adapter: Any) -> Engine:
    made = Engine()
    made.processor = adapter.MarkProcessor(None, made.state())
    return made


def params(ring: KeyRing, scheme: Scheme | None, account: str = "ann", **given: Any) -> SamplingParams:
    ticket = seal_ticket(making.mark(ring, scheme, account), ring.seal(**making.ASKED)) if scheme else None
    return SamplingParams(**given, extra_args={"stillwatch_mark": ticket} if ticket else None)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda one: f"{one.name}-{one.width}")
def test_requests_of_a_batch_carry_their_own_keys(engine: Engine, ring: KeyRing, scheme: Scheme) -> None:
    """With rows shuffled at every step, each answer carries its account's key, and one without a ticket none."""
    mine = Scheme(name=scheme.name, width=scheme.width, delta=scheme.delta, split=(("account", 1.0),))
    owners: list[str | None] = ["ann", "bob", None, "ann", "bob", None]
    for slot, owner in enumerate(owners):
        assert engine.admit(slot, [slot, 5], params(ring, mine if owner else None, owner or "")) is bool(owner)
    for _ in range(200):
        engine.step()
    for owner in ("ann", "bob", None):
        texts = [engine.answer(slot) for slot, name in enumerate(owners) if name == owner]
        grams = grams_of([Document(np.array(text), making.NONE) for text in texts], width=mine.width)
        keys = [making.key(ring, name) for name in ("ann", "bob", "carl")]
        found = detect(
            [Suspect(name="x", tokenizer="ids", grams=grams)], keys, scheme=mine,
            routing=ring.routing(epoch="1", **making.ASKED), decoys=ring.decoys(100, epoch="1", **making.ASKED),
        )  # fmt: skip
        assert [one.key.label.account for one in found if one.verdict == "found"] == ([owner] if owner else [])


def test_rows_without_a_mark_are_not_touched(engine: Engine, ring: KeyRing) -> None:
    """Logits of requests without a ticket stay bit for bit, and nothing is copied where no request has one."""
    engine.admit(0, [1], params(ring, None))
    engine.admit(1, [2], params(ring, Scheme(width=1)))
    for _ in range(3):
        engine.step()
    logits, context, where = engine.rows({})
    before = logits.clone()
    got = engine.processor.apply(logits, context)
    for row, (slot, _) in enumerate(where):
        assert torch.equal(got[row], before[row]) is (slot == 0)
    del engine.params[1]
    logits, context, _ = engine.rows({})
    assert engine.processor.apply(logits, context) is logits


def test_a_reused_slot_forgets(engine: Engine, ring: KeyRing) -> None:
    """A request without a ticket in a slot that had one is not marked, and the other way round."""
    assert engine.admit(0, [1], params(ring, Scheme(width=1)))
    assert not engine.admit(0, [1], params(ring, None))
    for _ in range(3):
        engine.step()
    logits, context, _ = engine.rows({})
    assert torch.equal(engine.processor.apply(logits.clone(), context), logits)
    assert engine.admit(0, [1], params(ring, Scheme(width=1)))


def test_drafts_are_marked_as_their_tokens_will_be(engine: Engine, ring: KeyRing) -> None:
    """Under speculation, the row after each draft token is marked as if that token had already been there."""
    for scheme in SCHEMES:
        engine.admit(0, [1, 2], params(ring, scheme))
        engine.admit(1, [4], params(ring, None))
        for _ in range(4):
            engine.step()
        drafts = [11, 12, 11, 12]
        logits, context, where = engine.rows({0: drafts, 1: [9]})
        got = engine.processor.apply(logits, context)
        at_once = {at: got[row] for row, (slot, at) in enumerate(where) if slot == 0}
        for at in range(len(drafts) + 1):
            logits, context, where = engine.rows({})
            alone = engine.processor.apply(logits, context)[[slot for slot, _ in where].index(0)]
            assert torch.equal(alone, at_once[at])
            if at < len(drafts):
                engine.tokens[0, int(engine.total_len[0])] = drafts[at]
                engine.total_len[0] += 1


def test_greedy_requests_are_left_alone_by_gumbel(engine: Engine, ring: KeyRing) -> None:
    """At temperature 0 there is no law to draw from, so the answer is the greedy one; green lists still mark it."""
    assert not engine.admit(0, [1], params(ring, Scheme(width=1), temperature=0.0))
    assert engine.admit(1, [1], params(ring, Scheme(name="kgw", width=1), temperature=0.0))
    for _ in range(10):
        engine.step()
    expected = [1]
    for _ in range(10):
        expected.append(int(np.argmax(language(expected))))
    assert engine.answer(0) == expected[1:] != engine.answer(1)


@pytest.mark.parametrize(
    "given", [{}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.6, "temperature": 2.0}, {"top_k": 20, "top_p": 0.8}]
)
def test_sampling_parameters_keep_their_law(adapter: Any, given: dict[str, Any]) -> None:
    """Over 20,000 seeds, tokens follow the request's own truncated law (chi-square), and no other token appears."""
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | given
    logits = np.sort(np.random.default_rng(1).normal(0, 2, 60))[::-1].astype(np.float64)
    heat = options["temperature"]
    law = adapter._laws(torch.from_numpy(logits[None].copy()), logits[None], [adapter.Sampling(**options)])[0]
    plain = np.exp(logits / heat)
    if options["top_k"]:
        plain[options["top_k"] :] = 0
    plain /= plain.sum()
    plain[np.cumsum(plain) - plain >= options["top_p"]] = 0
    plain /= plain.sum()
    seeds = np.random.default_rng(2).integers(0, 2**64, 20_000, dtype=np.uint64)
    from stillwatch.kernels.candidates import gumbel_choice

    ids = np.broadcast_to(np.arange(60), (20_000, 60)).copy()
    drawn = np.bincount(gumbel_choice(np.tile(law, (20_000, 1)), ids, seeds), minlength=60)
    assert drawn[plain == 0].sum() == 0
    assert chisquare(drawn[plain > 0], plain[plain > 0] * 20_000).pvalue > 1e-3


@pytest.mark.parametrize("top_k", [0, 31, 63, 64, 65, 200])
@pytest.mark.parametrize("min_p", [0.0, 0.001, 0.4])
@pytest.mark.parametrize("top_p", [0.5, 0.95, 1.0])
def test_truncation_of_a_large_vocabulary(adapter: Any, top_k: int, min_p: float, top_p: float) -> None:
    """Of 5,000 tokens, those the request allows among the top 64 can be drawn, by a plain reading of its parameters."""
    logits = np.sort(np.random.default_rng(4).normal(0, 1, 5000))[::-1].copy()
    allowed = np.exp(logits)
    allowed[allowed < min_p * allowed[0]] = 0
    if top_k:
        allowed[top_k:] = 0
    allowed /= allowed.sum()
    expected = (allowed > 0) & (np.cumsum(allowed) - allowed < top_p)
    sampling = adapter.Sampling(1.0, top_k, top_p, min_p)
    law = adapter._laws(torch.from_numpy(logits[None]), logits[None, :64], [sampling])[0]
    assert np.isfinite(law).tolist() == expected[:64].tolist()


def test_min_p_is_measured_against_the_likeliest(adapter: Any) -> None:
    """Tokens below min-p times the largest probability cannot be drawn."""
    law = adapter.Sampling(1.0, 0, 1.0, 0.1).law(np.log(np.array([0.5, 0.3, 0.06, 0.04])), 0.0)
    assert np.isfinite(law).tolist() == [True, True, True, False]


def test_a_bias_is_what_it_says_after_the_temperature(engine: Engine, ring: KeyRing) -> None:
    """Green tokens are delta ahead once the engine has divided by the temperature."""
    engine.admit(0, [1], params(ring, Scheme(name="kgw", width=1, delta=3.0), temperature=0.5))
    engine.step()
    logits, context, _ = engine.rows({})
    moved = engine.processor.apply(logits.clone(), context) - logits
    assert set(np.unique((moved / 0.5).numpy().round(4)).tolist()) == {0.0, 3.0}


def test_a_ticket_that_does_not_open_fails_the_request(adapter: Any, ring: KeyRing) -> None:
    """Forged, foreign and malformed tickets are ValueErrors at admission; none at all is fine."""
    check = adapter.MarkProcessor.validate_params
    check(SamplingParams())
    check(SamplingParams(extra_args={"other": 1}))
    check(params(ring, Scheme()))
    for forged in ("abc", 7, "", ["x"], params(ring, Scheme()).extra_args["stillwatch_mark"][:-8]):  # type: ignore[index]
        with pytest.raises(ValueError, match="ticket"):
            check(SamplingParams(extra_args={"stillwatch_mark": forged}))


def test_an_engine_without_a_seal_does_not_start(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seal key the processor refuses to be made, instead of serving answers that nobody marked."""
    monkeypatch.delenv("STILLWATCH_SEAL")
    with pytest.raises(KeyFileError, match="STILLWATCH_SEAL"):
        adapter.MarkProcessor(None, Engine().state())


def test_a_window_is_marked_once_in_an_answer(engine: Engine, ring: KeyRing) -> None:
    """Under gumbel a window the answer had before is left alone, one that only the prompt had is not."""
    for slot, tokens in enumerate(([7, 8, 9, 7, 8], [7, 8, 9, 8, 7], [3, 4, 7, 5, 8])):
        engine.admit(slot, [7, 8, 5, 8], params(ring, Scheme(width=2)))
        engine.tokens[slot, 4:9] = torch.tensor(tokens)
        engine.total_len[slot] = 9
    logits, context, where = engine.rows({})
    before = logits.clone()
    got = engine.processor.apply(logits, context)
    touched = {slot: not torch.equal(got[row], before[row]) for row, (slot, _) in enumerate(where)}
    assert touched == {0: False, 1: True, 2: True}


def test_the_prompt_carries_no_mark(engine: Engine, ring: KeyRing) -> None:
    """The first tokens of an answer, whose window would reach into the prompt, are drawn as they come."""
    engine.admit(0, [1, 2, 3, 4], params(ring, Scheme(width=2)))
    touched = []
    for _ in range(4):
        logits, context, _ = engine.rows({})
        touched.append(not torch.equal(engine.processor.apply(logits.clone(), context), logits))
        engine.tokens[0, int(engine.total_len[0])] = 50 + len(touched)
        engine.total_len[0] += 1
    assert touched == [False, False, True, True]
