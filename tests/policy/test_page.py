from __future__ import annotations

import re
from pathlib import Path

import typer.main

from stillwatch.cli.main import app
from stillwatch.policy.model import LEVELS
from stillwatch.policy.reading import parse_policy

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policy.md").read_text("utf-8")


def test_the_example_of_the_page_is_a_policy() -> None:
    """What the page shows can be copied."""
    example, reasoning = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert parse_policy(example.encode()).mode == "shadow"
    with_marks = example.replace("[levels.none]", 'mark_epoch = "1"\n[levels.none]', 1)
    assert parse_policy((with_marks + reasoning).encode()).reasoning.levels["phone"] == "summarise"


def test_the_levels_are_those_of_the_code() -> None:
    """The ladder on the page is the ladder."""
    assert (
        tuple(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", PAGE.partition("## Identity levels")[2], re.M)[:5])
        == LEVELS
    )


def test_options_are_those_of_the_verbs() -> None:
    """Each verb's table lists its options in the order of --help."""
    verbs = vars(vars(typer.main.get_command(app))["commands"]["policy"])["commands"]
    for name, verb in verbs.items():
        options = [one.opts[0] for one in verb.params if one.param_type_name == "option" and one.opts[0] != "--help"]
        table = PAGE.partition(f"<!-- options: policy {name} -->\n")[2].split("\n\n")[0]
        assert re.findall(r"^\| `(--[\w-]+)` \|", table, re.M) == options
