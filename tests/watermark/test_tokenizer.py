from __future__ import annotations

from pathlib import Path

import pytest

from stillwatch.errors import InputError
from stillwatch.watermark.texts import load_tokenizer, read_documents
from tests.needs import needs_module

tokenizers = needs_module("tokenizers", "tokenizers")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of a few words, with marks around every text that a detector must not see."""
    words = {word: at for at, word in enumerate(["[CLS]", "[UNK]", "the", "cat", "sat"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 0)])
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_file_reads_text(tokenizer: Path, tmp_path: Path) -> None:
    """Text is read as the file says, without the marks it would put around a prompt."""
    (tmp_path / "a.txt").write_text("the cat sat")
    (one,) = read_documents(tmp_path / "a.txt", encode=load_tokenizer(tokenizer))
    assert one.tokens.tolist() == [2, 3, 4]


def test_no_text_is_cut_or_filled_up(tokenizer: Path) -> None:
    """What a tokenizer file says of longest and shortest texts is left out: every token is read, and no other."""
    made = tokenizers.Tokenizer.from_file(str(tokenizer))
    made.enable_truncation(2)
    made.enable_padding(length=8)
    made.save(str(tokenizer))
    long, short = load_tokenizer(tokenizer)(["the cat sat " * 100, "the"])
    assert long.tolist() == [2, 3, 4] * 100 and short.tolist() == [2]


def test_hostile_text_is_read(tokenizer: Path) -> None:
    """Lone surrogates, controls and emptiness are text like any other."""
    (first, second) = load_tokenizer(tokenizer)(["the \ud800 \x00 cat", ""])
    assert first.tolist()[0] == 2 and len(second) == 0


def test_another_file_is_refused(tmp_path: Path) -> None:
    """What is not a tokenizer file is an error that says what is expected."""
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "absent.json"):
        with pytest.raises(InputError, match=r"tokenizer\.json"):
            load_tokenizer(tmp_path / name)
