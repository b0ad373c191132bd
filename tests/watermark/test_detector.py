from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from stillwatch.errors import InputError, SettingsError
from stillwatch.watermark import detector
from stillwatch.watermark.detector import Finding, Suspect, detect, least_effect, p_log10, scores, uniform_p
from stillwatch.watermark.grams import Document, grams_of
from stillwatch.watermark.keys import KeyRing, key_words
from stillwatch.watermark.schemes import Mark, Name, Scheme, parse_split
from tests.watermark import making

SPLIT = (("provider", 0.5), ("account", 0.5))
SCHEMES = [
    Scheme(name="gumbel", width=2), Scheme(name="gumbel", width=1), Scheme(name="kgw", width=1, delta=3.0),
    Scheme(name="kgw", width=2, gamma=0.5), Scheme(name="adfp", width=2, delta=20.0),
]  # fmt: skip


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return making.ring(tmp_path)


def suspect(texts: list[Document], scheme: Scheme, *, base: list[Document] | None = None, name: str = "x") -> Suspect:
    control = grams_of(base, width=scheme.width) if base is not None else None
    return Suspect(name=name, tokenizer="ids", grams=grams_of(texts, width=scheme.width), base=control)


def judged(
    ring: KeyRing, mark: Mark, *suspects: Suspect, accounts: tuple[str, ...] = (), n: int = 200
) -> list[Finding]:
    keys = [making.key(ring)] if "provider" in mark.scheme.levels() else []
    keys += [making.key(ring, account) for account in accounts]
    decoys = ring.decoys(n, epoch="1", **making.ASKED)
    return detect(suspects, keys, scheme=mark.scheme, routing=mark.routing, decoys=decoys)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: f"{scheme.name}-{scheme.width}")
def test_a_marked_text_is_found_and_an_unmarked_one_is_not(ring: KeyRing, scheme: Scheme) -> None:
    """The key is found in the text that carries it, with every decoy below it, and in no other."""
    mark = making.mark(ring, scheme)
    marked, plain = making.written(mark, seed=1), making.written(None, seed=2)
    yes, no = judged(ring, mark, suspect(marked, scheme), suspect(plain, scheme, name="y"))
    assert (yes.verdict, no.verdict) == ("found", "not found")
    assert yes.p_log10 < -6 and no.p_log10 > -3 and yes.n_decoys_as_high == 0
    assert yes.lo > (1 if scheme.name == "gumbel" else scheme.gamma)
    assert no.lo < (1 if scheme.name == "gumbel" else scheme.gamma) < no.hi


def test_an_account_is_told_from_others(ring: KeyRing) -> None:
    """With half of the windows under the account's key, the provider and that account are found, and no other."""
    mark = making.mark(ring, Scheme(split=SPLIT))
    accounts = ("ann", *(f"other{at}" for at in range(100)))
    found = judged(ring, mark, suspect(making.written(mark, seed=3), mark.scheme), accounts=accounts)
    assert [one.key.label.account for one in found if one.verdict == "found"] == [None, "ann"]
    assert abs(found[0].n - found[1].n) < 6 * np.sqrt(found[0].n)


def test_wrong_keys_are_uniform_with_deduplication_and_not_without(ring: KeyRing) -> None:
    """The p-values of a thousand decoys are uniform on a text full of repeats, but only where pairs count once."""
    texts = making.written(making.mark(ring, Scheme(width=1)), seed=4, n_contexts=12)
    decoys = ring.decoys(1000, epoch="1", **making.ASKED)
    for name in ("gumbel", "kgw"):
        scheme = Scheme(name=name, width=1)
        p = {}
        for once in (True, False):
            grams = grams_of(texts, width=1, deduplicate=once)
            scored = scores(grams, decoys, scheme=scheme)
            p[once] = kstest(uniform_p(scored, len(grams), scheme=scheme, seed=5), "uniform").pvalue
        assert p[True] > 1e-3
        assert p[False] < 1e-6


def test_a_broken_null_is_no_finding(ring: KeyRing) -> None:
    """Where decoys are not uniform on a text, as without deduplication, the answer is that it cannot be told."""
    mark = making.mark(ring, Scheme(width=1))
    texts = making.written(mark, seed=6, n_contexts=12)
    repeated = replace(suspect(texts, mark.scheme), grams=grams_of(texts, width=1, deduplicate=False))
    (one,) = judged(ring, mark, repeated, n=1000)
    assert one.verdict == "cannot tell" and one.null_ks_p is not None and one.null_ks_p < 1e-4


def test_the_base_model_decides(ring: KeyRing) -> None:
    """A mark that the model carried before is not laid at the door of what it learned later; no control clears none."""
    mark = making.mark(ring, Scheme())
    marked, plain = making.written(mark, seed=7), making.written(None, seed=8)
    clean = judged(ring, mark, suspect(marked, mark.scheme, base=plain))[0]
    carried = judged(ring, mark, suspect(marked, mark.scheme, base=making.written(mark, seed=9)))[0]
    assert clean.verdict == "found" and clean.base_p_log10 is not None and clean.base_p_log10 > -3
    assert carried.verdict == "cannot tell" and carried.base_p_log10 is not None and carried.base_p_log10 < -6
    assert judged(ring, mark, suspect(marked, mark.scheme, base=[]))[0].verdict == "cannot tell"


def test_the_family_is_all_that_was_tested(ring: KeyRing) -> None:
    """Every key on every text counts in the correction, and Benjamini-Hochberg is never harsher than Holm."""
    mark = making.mark(ring, Scheme(split=SPLIT))
    plain = [suspect(making.written(None, seed=at), mark.scheme, name=f"t{at}") for at in (10, 11)]
    found = judged(ring, mark, *plain, accounts=tuple(f"a{at}" for at in range(30)))
    assert len(found) == 2 * 31
    least = min(found, key=lambda one: one.p_log10)
    assert least.holm_log10 == pytest.approx(min(least.p_log10 + np.log10(62), 0.0))
    assert all(one.p_log10 <= one.bh_log10 <= one.holm_log10 for one in found)


@pytest.mark.parametrize("name", ["gumbel", "kgw"])
def test_what_a_silence_is_worth_is_said(ring: KeyRing, name: Name) -> None:
    """The least effect found has a p below the bar, one score less has not, and too few pairs could show nothing."""
    scheme = Scheme(name=name)
    for n in (20, 500, 100_000):
        least = least_effect(n, scheme=scheme, bar_log10=-6.0)
        assert least is not None
        assert p_log10(round(least * n), n, scheme=scheme) <= -6 < p_log10(round(least * n) - 1, n, scheme=scheme)
    assert least_effect(0, scheme=scheme, bar_log10=-6.0) is None
    assert (least_effect(5, scheme=scheme, bar_log10=-6.0) is None) is (name == "kgw")
    mark = making.mark(ring, scheme)
    (one,) = judged(ring, mark, suspect(making.written(None, seed=13), scheme))
    assert one.least_effect is not None and one.effect < one.least_effect


def test_threads_change_nothing(ring: KeyRing) -> None:
    """Scores are the same whatever the number of threads, and progress ends where it should."""
    grams = grams_of(making.written(None, seed=12), width=2)
    decoys = ring.decoys(300, epoch="1", **making.ASKED)
    assert np.array_equal(scores(grams, decoys, scheme=Scheme()), scores(grams, decoys, scheme=Scheme(), threads=4))
    seen: list[tuple[int, int]] = []
    mark = making.mark(ring, Scheme(split=SPLIT))
    keys = [making.key(ring), making.key(ring, "ann")]
    detect(
        [suspect(making.written(None, seed=12, n_texts=2), mark.scheme)], keys, scheme=mark.scheme,
        routing=mark.routing, decoys=decoys, on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (602, 602)


def test_many_pairs_are_scored_by_few_keys_at_once(monkeypatch: pytest.MonkeyPatch, ring: KeyRing) -> None:
    """An interrupt waits for few scores, however long the text is, and the scores are the same."""
    grams = grams_of(making.written(None, seed=12), width=2)
    decoys = ring.decoys(100, epoch="1", **making.ASKED)
    whole = scores(grams, decoys, scheme=Scheme())
    for room, most in ((0, 1), (5 * len(grams), 5), (10**9, 64)):
        seen: list[int] = []
        monkeypatch.setattr(detector, "PAIRS_AT_ONCE", room)
        assert np.array_equal(scores(grams, decoys, scheme=Scheme(), threads=2, step=seen.append), whole)
        assert max(seen) == most and sum(seen) == 100


def test_a_text_too_short_says_nothing(ring: KeyRing) -> None:
    """A text of no pair is not evidence of anything, and no error."""
    mark = making.mark(ring, Scheme())
    (one,) = judged(ring, mark, suspect([Document(np.array([1]), making.NONE)], mark.scheme))
    assert (one.n, one.p_log10, one.verdict, one.null_ks_p) == (0, 0.0, "cannot tell", None)


def test_without_decoys_nothing_is_found(ring: KeyRing) -> None:
    """A small p alone does not say that the null holds on a text."""
    mark = making.mark(ring, Scheme())
    marked = suspect(making.written(mark, seed=7), mark.scheme)
    (one,) = detect(
        [marked],
        [making.key(ring)],
        scheme=mark.scheme,
        routing=mark.routing,
        decoys=ring.decoys(0, epoch="1", **making.ASKED),
    )
    assert one.holm_log10 < -3 and one.verdict == "cannot tell"


def test_the_order_of_keys_tells_nothing(ring: KeyRing) -> None:
    """Findings stand in the order of their key ids, whatever the order of the accounts."""
    scheme = Scheme(split=(("account", 1.0),))
    text = suspect(making.written(None, seed=12), scheme)
    keys = [making.key(ring, f"a{at}") for at in range(9)]
    for given in (keys, keys[::-1]):
        found = detect(
            [text],
            given,
            scheme=scheme,
            routing=ring.routing(epoch="1", **making.ASKED),
            decoys=ring.decoys(9, epoch="1", **making.ASKED),
        )
        assert [one.key.key_id for one in found] == sorted(key.key_id for key in keys)


def test_what_cannot_be_tested_is_refused(ring: KeyRing) -> None:
    """No text, no key, and a key of a level the scheme does not mark at are errors that say so."""
    mark = making.mark(ring, Scheme())
    empty = Suspect(name="x", tokenizer="ids", grams=grams_of([], width=2))
    with pytest.raises(InputError, match="nothing to test"):
        judged(ring, mark)
    with pytest.raises(InputError, match="by account"):
        detect(
            [empty],
            [making.key(ring, "ann")],
            scheme=Scheme(),
            routing=mark.routing,
            decoys=ring.decoys(0, epoch="1", **making.ASKED),
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "synthid"}, {"width": 4}, {"width": 0}, {"gamma": 0.0}, {"gamma": 1.0}, {"delta": 0.0},
        {"split": ()}, {"split": (("provider", 0.5),)}, {"split": (("owner", 1.0),)},
        {"split": (("provider", 0.5), ("provider", 0.5))}, {"split": (("provider", 1.5), ("account", -0.5))},
    ],
)  # fmt: skip
def test_schemes_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    """An unknown name, window, bias or split is an error when it is written, not when it is used."""
    with pytest.raises(SettingsError):
        Scheme(**wrong)  # type: ignore[arg-type]


def test_a_split_is_read_as_written() -> None:
    """Shares are read from text; what is no share is refused."""
    assert Scheme(split=parse_split("provider=0.25, account=0.75")).levels() == ["provider", "account"]
    assert parse_split("account") == (("account", 1.0),)
    with pytest.raises(SettingsError, match="not understood"):
        parse_split("provider=half")


def test_a_mark_has_the_keys_its_scheme_names(ring: KeyRing) -> None:
    """A missing or a superfluous key is refused before anything is marked."""
    with pytest.raises(SettingsError, match="one key for each level"):
        Mark(
            scheme=Scheme(split=SPLIT),
            keys={"provider": making.key(ring).secret},
            routing=ring.routing(epoch="1", **making.ASKED),
        )


def test_shares_are_kept(ring: KeyRing) -> None:
    """The routing key sends each level the share of windows it was given, and keys cannot move a window."""
    scheme = Scheme(split=(("provider", 0.2), ("campaign", 0.3), ("account", 0.5)))
    words = np.arange(200_000, dtype=np.uint64)
    shares = np.bincount(scheme.level_of(words, key_words([ring.routing(epoch="1", **making.ASKED)])[0])) / len(words)
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.006)
