from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.audit.registry import Registry, match_key, printed
from stillwatch.audit.shapes import ROWS
from stillwatch.errors import InputError
from stillwatch.kernels.winnow import fingerprint
from stillwatch.keys import RootKey
from tests.audit.making import KEY, ROOT, answers, registry_of

OTHER = RootKey(type(ROOT.secret)(bytes(range(1, 33))))


def test_parts_built_anywhere_merge_into_the_whole() -> None:
    """Law 1 for registries: shards of the answers, merged in any order, have the bytes of one registry of all."""
    texts = answers(30, seed=1)
    whole = registry_of(texts)
    parts = [registry_of(texts[at::3]) for at in range(3)]
    one, other = parts[0].merge(parts[1]).merge(parts[2]), parts[2].merge(parts[0].merge(parts[1]))
    assert one.to_bytes() == other.to_bytes() == whole.to_bytes()
    assert registry_of([]).merge(whole).to_bytes() == whole.to_bytes()


def test_a_file_comes_back_as_it_was_and_is_private(tmp_path: Path) -> None:
    """A registry written and read again has the same bytes; its file is its owner's alone."""
    registry = registry_of(answers(5, seed=2))
    path = tmp_path / "new" / "answers.registry"
    registry.save(path)
    assert Registry.load(path).to_bytes() == path.read_bytes() == registry.to_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [left.name for left in path.parent.iterdir()] == ["answers.registry"]


def test_no_answer_can_be_read_from_it() -> None:
    """The bytes hold no word of any answer, and under another key nothing of it is found."""
    texts = answers(5, seed=3)
    registry = registry_of(texts)
    data = registry.to_bytes()
    assert not any(word.encode() in data for text in texts for word in text.split())
    strangers = fingerprint(pa.array(texts), match_key(OTHER))
    assert not registry.held.holds(strangers.spans).any()


def test_memory_is_what_was_asked_however_much_is_added() -> None:
    """A registry of 1 MiB takes 1 MiB with one answer and with two thousand; the stated rate of false hits grows."""
    small, large = registry_of(answers(1, seed=4), mb=1), registry_of(answers(2000, seed=5), mb=1)
    assert small.describe()["filter_bytes"] == large.describe()["filter_bytes"] == 1 << 20
    assert small.describe()["false_positive_rate"] < large.describe()["false_positive_rate"] < 1
    assert (small.about.n_answers, large.about.n_answers) == (1, 2000)


def test_what_does_not_go_together_is_refused() -> None:
    """Registries of two keys, or of two sizes, do not merge, and the error says which it was."""
    ours = registry_of(answers(1, seed=6))
    with pytest.raises(InputError, match="another key"):
        ours.merge(Registry.empty("theirs", key=OTHER, memory_bytes=1 << 20))
    with pytest.raises(InputError, match="do not merge"):
        ours.merge(Registry.empty("ours", key=ROOT, memory_bytes=2 << 20))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"nothing of the kind",
        lambda data: data[:60],
        lambda data: data[:-1],
        lambda data: data.replace(b'"window": 12', b'"window": 13'),
        lambda data: data.replace(b'"n_answers": 1', b'"n_answers":-1'),
        lambda data: data.replace(b'{"key_id"', b'["key_id"'),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, spoil: object) -> None:
    """A file that is cut, edited or of another recipe is named and refused in one line."""
    path = tmp_path / "bad.registry"
    path.write_bytes(spoil(registry_of(answers(1, seed=7)).to_bytes()))  # type: ignore[operator]
    with pytest.raises(InputError):
        Registry.load(path)


def test_prints_of_the_prompt_are_not_kept() -> None:
    """An answer that only repeats its prompt leaves none of its spans behind."""
    asked = answers(1, seed=8)[0]
    registry = Registry.empty("r", key=ROOT, memory_bytes=1 << 20)
    registry.add(fingerprint(pa.array([asked]), KEY, prompt=pa.array([asked])))
    assert not registry.held.holds(fingerprint(pa.array([asked]), KEY).spans).any()
    assert registry.held.holds(fingerprint(pa.array(["x"]), KEY, prompt=pa.array([asked])).prompts).all()
    assert np.count_nonzero(registry.held.to_bytes()) > 0


def test_short_answers_are_printed_with_their_prompts_each_at_its_place() -> None:
    """Of a batch of all kinds each row has the prints of the text it stands for; in any script a word is a word."""
    long, asked = answers(1, seed=1)[0], answers(1, seed=2, n_words=60)[0]
    rows = [
        (asked, "Yes.", True, f"{asked}\nYes."),
        (None, long, True, long),
        (asked, None, True, f"{asked}\n"),
        (asked, "你好世界你好世界", True, "你好世界你好世界"),
        (asked, long, True, long), (asked, "No.", False, f"{asked}\nNo."), (asked, None, False, ""),
        (None, "No.", True, "No."),
    ]  # fmt: skip
    batch = pa.RecordBatch.from_pylist([{"prompt": p, "answer": a, "first": f} for p, a, f, _ in rows], schema=ROWS)
    prints = printed(batch, KEY, whole=True, masked=False)
    expected = fingerprint(pa.array([text for *_, text in rows], pa.large_string()), KEY)
    for got, want in zip(prints[:4], expected[:4], strict=True):
        assert np.array_equal(got, want)
    plain = printed(batch, KEY)
    assert plain.n_words.tolist() == [1, 80, 0, 8, 80, 1, 0, 1] and plain.prompts.astype(bool).tolist() == [
        asked is not None for asked, *_ in rows
    ]
