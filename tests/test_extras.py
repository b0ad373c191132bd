from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from stillwatch.errors import ExtraMissing
from stillwatch.extras import require


def test_a_module_that_is_there_is_returned() -> None:
    """The door gives the module itself, submodules included."""
    assert require("json", "none") is json
    assert require("json.decoder", "none") is json.decoder


@pytest.mark.parametrize("module", ["stillwatch_absent", "stillwatch_absent.deep.inside", "json.absent"])
def test_a_module_that_is_absent_names_what_to_install(module: str) -> None:
    """Whether the package or a part of it is absent, the error gives the command."""
    with pytest.raises(ExtraMissing, match=rf"{module} is not installed\. Run: pip install 'stillwatch\[spark\]'"):
        require(module, "spark")


@pytest.mark.parametrize(
    "source", ["import stillwatch_absent_too", "from json import no_such_name", "raise ImportError('libx.so: no')"]
)
def test_a_module_that_does_not_load_is_told_from_an_absent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """A broken installation is called broken, with its own words, so that nobody installs it twice in vain."""
    (tmp_path / "stillwatch_broken.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stillwatch_broken", raising=False)
    with pytest.raises(ExtraMissing, match=r"stillwatch_broken is installed but does not load; got .+") as caught:
        require("stillwatch_broken", "broken")
    assert isinstance(caught.value.__cause__, ImportError)


def test_other_errors_of_a_module_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that fails for another reason than an import is not called missing."""
    (tmp_path / "stillwatch_failing.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        require("stillwatch_failing", "failing")
