"""Skeletons, whole prompts and n-grams: what they ignore, what they keep, and what an attacker may feed them."""

import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InputError
from stillwatch.kernels.hashing import HashKey
from stillwatch.kernels.shingles import WINDOW_BYTES, ngram_hashes, skeleton_keys

KEY = HashKey.from_bytes(b"shingles' key 16")
DENSE_NAMES = ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
ALPHABET = "abZÉéЖжΣσ0129٣५ .,-_'\n\t。、—한글漢字かなカナไทย\u200b🙂"


def heads(*texts: str | bytes | None, n_words: int = 4) -> list[int]:
    """Head keys of some texts."""
    return [
        int(value)
        for value in skeleton_keys(pa.array([as_bytes(text) for text in texts], pa.binary()), KEY, n_words=n_words)[0]
    ]


def tails(*texts: str | bytes | None, n_words: int = 4) -> list[int]:
    """Tail keys of some texts."""
    return [
        int(value)
        for value in skeleton_keys(pa.array([as_bytes(text) for text in texts], pa.binary()), KEY, n_words=n_words)[1]
    ]


def as_bytes(text: str | bytes | None) -> bytes | None:
    """A text as its UTF-8 bytes."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def tokens(text: str) -> list[str]:
    """Tokens of a text by Unicode's own categories: words in lower case with masked numbers, dense characters alone."""
    found: list[str] = []
    word = ""
    for mark in [*text, " "]:
        category = unicodedata.category(mark)
        dense = any(name in unicodedata.name(mark, "") for name in DENSE_NAMES)
        if category == "Nd":
            word += "" if word.endswith("0") else "0"
        elif category[0] in "LM" and not dense:
            word += mark.lower()
        elif category != "Cf":
            if word and not (word == "0" and found and found[-1] == "0"):
                found.append(word)
            word = ""
            if category[0] in "LM":
                found.append(f"dense {mark}")
    return found


def lead(found: list[str], n_words: int) -> tuple[str, ...] | None:
    """The first tokens up to the weight asked for, or None where there is none."""
    weight, taken = 0, []
    for token in found:
        if weight >= 2 * n_words:
            break
        taken.append(token)
        weight += 1 if token.startswith("dense ") else 2
    return tuple(taken) or None


@given(st.lists(st.text(ALPHABET, max_size=30), min_size=2, max_size=30), st.integers(1, 4))
def test_skeletons_are_equal_exactly_where_the_tokens_are(texts: list[str], n_words: int) -> None:
    """Two texts share a key if and only if Unicode's own tokens at that end agree; no token gives 0."""
    forward = [lead(tokens(text), n_words) for text in texts]
    backward = [lead(tokens(text)[::-1], n_words) for text in texts]
    for expected, keys in ((forward, heads(*texts, n_words=n_words)), (backward, tails(*texts, n_words=n_words))):
        assert [key == 0 for key in keys] == [skeleton is None for skeleton in expected]
        assert len(set(zip(expected, keys, strict=True))) == len(set(expected)) == len(set(keys))


def test_a_template_has_one_key_whatever_fills_it() -> None:
    """Numbers, case, punctuation, spacing, invisible characters and what follows do not change the head."""
    variants = (
        "Grade answer 17 on a scale: banana",
        "GRADE ANSWER 4, on a scale: cherry pie",
        "grade\tanswer #1,024.50 -- on a scale",
        "  **Grade** answer (2026-04-22) on... something else",
        "Gra\u200bde an\u00adswer 3 on",
        "Ｇｒａｄｅ　answer １２ on a",
    )
    assert len(set(heads(*variants))) == 1
    assert heads(variants[0]) != heads("Grade reply 17 on a scale: banana")


def test_the_tail_sees_a_template_around_varying_text() -> None:
    """The last words are found behind any text, however long."""
    ending = "Answer in 3 lines only."
    assert len(set(tails(ending, "Paris? " + ending, "x" * 100_000 + " " + ending.upper()))) == 1
    assert tails(ending) != tails(ending + " Please")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ÉCOLE À CÔTÉ D'ŒUVRE", "école à côté d'œuvre"),
        ("ПРИВЕТ ЁЛКА ҐАНОК ЇЖАК", "привет ёлка ґанок їжак"),
        ("ΆΛΦΑ ΟΔΟΣ ΈΝΑ ΔΎΟ", "άλφα οδος ένα δύο"),
        ("ŁÓDŹ ŻÓŁĆ ŠKODA ŐRSÉG", "łódź żółć škoda őrség"),
        ("TIẾNG VIỆT ƯƠNG ĐẠI", "tiếng việt ương đại"),
        ("ԲԱՐԵՎ ԱՇԽԱՐՀ ՄԵԿ ԵՐԿՈՒ", "բարեվ աշխարհ մեկ երկու"),
    ],
)
def test_case_folds_beyond_ascii(one: str, other: str) -> None:
    """Latin, Cyrillic, Greek, Vietnamese and Armenian capitals fold to small letters."""
    assert heads(one) == heads(other) != [0]
    assert tails(one) == tails(other) != [0]


def test_scripts_without_spaces_count_characters() -> None:
    """Eight characters of Han, kana or Thai make a head of four words; punctuation among them is dropped."""
    assert len(set(heads("请将以下文本翻译成英文", "请将以下，文本翻译！", "请将 以下文本翻译"))) == 1
    assert len(set(heads("请将以下文本翻", "请将以下文本翻译"))) == 2
    assert len(set(tails("甲乙请将以下文本翻译", "请将以下文本翻译。"))) == 1
    assert 0 not in heads("文字化けしています", "กรุณาแปลข้อความ", "ກະລຸນາແປຂໍ້ຄວາມ", "សូមបកប្រែអត្ថបទ", "ကျေးဇူးပြု၍")
    assert heads("번역해 주세요 다음 문장") != [0] and heads("번역해주세요다음문장을영어로") != heads("번역해주세요")


def test_masked_digits_of_any_script_are_alike() -> None:
    """Arabic-Indic, Devanagari, Thai and full-width digits are masked like ASCII ones."""
    assert len(set(heads(*(f"rate item {n} now" for n in ("7", "٧", "७७", "๗", "７")), n_words=4))) == 1


def test_text_without_tokens_has_no_skeleton() -> None:
    """Null, empty, blank, punctuation, and a window of nothing but white space give 0."""
    texts = (None, "", " \n", "...---...", " " * (WINDOW_BYTES + 1))
    assert heads(*texts) == tails(*texts) == [0] * len(texts)
    assert heads(" " * WINDOW_BYTES + "a b c d") == [0] != tails(" " * WINDOW_BYTES + "a b c d")


def test_a_short_text_is_its_own_skeleton() -> None:
    """Fewer tokens than asked for are hashed as they are, apart from longer texts that begin with them."""
    assert len(set(heads("Solve it.", "solve IT", n_words=8))) == 1
    assert len(set(heads("solve it", "solve it now", "solve", n_words=8))) == 3


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_are_read_without_looking_beyond_the_row(rows: list[bytes]) -> None:
    """Invalid UTF-8 is read without harm, and a row's keys do not depend on its neighbours."""
    packed = heads(*rows), tails(*rows)
    assert packed == ([heads(row)[0] for row in rows], [tails(row)[0] for row in rows])


def test_invalid_utf8_ends_a_word_and_is_otherwise_ignored() -> None:
    """Truncated, stray, overlong and surrogate bytes act like punctuation at either end."""
    for junk in (b"\xff", b"\x80", b"\xc3", b"\xe6\xbc", b"\xf0\x9f\x99", b"\xc0\xaf", b"\xed\xa0\x80", b"\0"):
        assert heads(b"one" + junk + b"two three four") == heads("one two three four")
        assert tails(b"one two three" + junk + b"four" + junk) == tails("one two three four")


def test_skeletons_agree_over_all_forms_of_a_column() -> None:
    """Dictionary, large, view and sliced arrays give the keys of the plain one, and ten megabytes are no trouble."""
    texts = ["Tell me a joke about 5 cats", None, "Tell me a story", "x y " * 2_500_000, ""]
    plain = pa.array(texts)
    expected = np.stack(skeleton_keys(plain, KEY)).tolist()
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int16(), pa.string())):
        assert np.stack(skeleton_keys(plain.cast(kind), KEY)).tolist() == expected
        part = np.stack(skeleton_keys(plain.cast(kind).slice(1, 3), KEY)).tolist()
        assert part == [row[1:4] for row in expected]
    assert skeleton_keys(pa.array([], pa.string()), KEY)[0].shape == (0,)


def grams(text: str | None, *, n_words: int = 3, buckets_log2: int = 18) -> list[int]:
    """Buckets of one text."""
    offsets, buckets = ngram_hashes(pa.array([text], pa.string()), KEY, n_words=n_words, buckets_log2=buckets_log2)
    assert offsets.tolist() == [0, len(buckets)]
    return [int(bucket) for bucket in buckets]


def test_ngrams_are_the_distinct_runs_of_tokens() -> None:
    """A text has one bucket per distinct run of three words, the same wherever the run stands."""
    assert len(grams("a b c d e f")) == 4
    assert grams("a b c a b c a b c") == grams("A, b; C a b c")
    assert grams("x a b c")[1:] == grams("A b c!") == grams("a b c")
    assert not set(grams("a b c")) & set(grams("c b a"))
    assert grams("a b") == grams("") == grams(None) == []
    assert len(grams("文字化けしています")) == 4 and grams("字化けしてい")[0] == grams("文字化けしています")[1]


def test_ngrams_of_rows_do_not_depend_on_their_neighbours() -> None:
    """Offsets cut the buckets into rows, for slices and dictionaries too, and buckets stay within their number."""
    texts = ["a b c d", None, "a b c d", "e f g 文字化けしています h", "", " ".join(map(chr, range(97, 123))) * 300]
    offsets, buckets = ngram_hashes(pa.array(texts), KEY, buckets_log2=10)
    rows = [buckets[a:b].tolist() for a, b in pairwise(offsets)]
    assert rows == [grams(text, buckets_log2=10) for text in texts]
    assert buckets.dtype == np.int32 and buckets.min() >= 0 and buckets.max() < 1024
    again = ngram_hashes(pa.array(texts).dictionary_encode().slice(2, 3), KEY, buckets_log2=10)
    assert again[0].tolist() == (offsets[2:6] - offsets[2]).tolist()


def test_ngrams_read_both_ends_of_a_long_text_and_nothing_between() -> None:
    """The middle of a text longer than two windows does not count; its first and last words do."""
    first, last = "start with these words", "end with those words"
    long = f"{first} {'. ' * 5000} unseen words here {'. ' * 5000} {last}"
    assert set(grams(long)) == set(grams(first)) | set(grams(last))


def test_ngrams_grow_with_many_long_rows() -> None:
    """Rows full of distinct words keep all their n-grams."""
    text = " ".join(f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyz")
    offsets, _ = ngram_hashes(pa.array([text] * 50), KEY, buckets_log2=24)
    assert set(np.diff(offsets).tolist()) == {674}


def test_impossible_sizes_are_refused() -> None:
    """No words, and more buckets than int32 holds, are errors."""
    column = pa.array(["a b c"])
    with pytest.raises(InputError, match="number of words"):
        skeleton_keys(column, KEY, n_words=0)
    with pytest.raises(InputError, match="number of words"):
        ngram_hashes(column, KEY, n_words=0)
    with pytest.raises(InputError, match="buckets_log2"):
        ngram_hashes(column, KEY, buckets_log2=31)
