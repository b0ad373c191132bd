from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

import pytest

from stillwatch.__main__ import main


def test_an_interrupt_while_the_command_line_loads_ends_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C before the first verb is known: one line and 130, no traceback."""

    class Pressed(MetaPathFinder):
        def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
            if name == "stillwatch.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "stillwatch.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nstillwatch: interrupted; nothing was written.\n"
