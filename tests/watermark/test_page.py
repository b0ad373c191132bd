from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from stillwatch.cli.main import app
from stillwatch.journal import Journal
from stillwatch.keys import RootKey
from stillwatch.watermark.keys import KeyRing
from stillwatch.watermark.schemes import Scheme
from tests.cli.running import ran_here
from tests.needs import needs_module
from tests.watermark import making

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mark.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ stillwatch (.*)$", PAGE, re.MULTILINE)


def verbs() -> dict[str, Any]:
    commands: dict[str, Any] = vars(vars(typer.main.get_command(app))["commands"]["mark"])["commands"]
    return commands


@pytest.mark.parametrize("verb", ["detect", "keys", "ticket"])
def test_option_tables_are_the_options(verb: str) -> None:
    """The page lists each verb's options with their defaults, in the order of --help."""
    rows = PAGE.partition(f"<!-- options: {verb} -->\n")[2].split("\n\n")[0].splitlines()[2:]
    listed = [tuple(cell.strip().strip("`") for cell in row.strip("|").split("|")[:2]) for row in rows]
    options = [
        (found.opts[0], "" if found.default in (None, False) or found.multiple else str(found.default))
        for found in verbs()[verb].params
        if found.param_type_name == "option" and found.opts[0] != "--help"
    ]
    assert listed == options
    assert set(verbs()) == {"detect", "keys", "ticket"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page_run_as_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page ends with 0, beside files of the names it uses."""
    monkeypatch.chdir(tmp_path)
    root = RootKey.load(Path(os.environ["STILLWATCH_HOME"]))
    mark = making.mark(KeyRing(root, journal=Journal(tmp_path / "journal")), Scheme())
    for name, texts in (("suspect", mark), ("student", mark), ("before", None)):
        np.save(f"{name}.npy", np.stack([one.tokens for one in making.written(texts, seed=1, n_texts=5)]))
    Path("accounts.txt").write_text("ann\nbob\n")
    Path("policy.md").write_text("Accounts under review are marked.\n")
    if "--tokenizer" in command:
        tokenizers = needs_module("tokenizers", "tokenizers")
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.save("tokenizer.json")
        Path("suspect.jsonl").write_text('{"text": "a b a c a d"}\n')
    ran = ran_here(capsys, *shlex.split(command))
    assert ran.code == 0, ran.err
    assert ran.out
