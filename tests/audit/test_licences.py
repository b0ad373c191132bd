from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillwatch.audit.declared import read_declared
from stillwatch.audit.licences import UNSTATED, conditions, conflict, load_register, names_of, shipped, spdx
from stillwatch.errors import InputError


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
        ("CC BY-NC-SA 3.0", "CC-BY-NC-SA-3.0"),
        ("https://creativecommons.org/licenses/by-sa/3.0/", "CC-BY-SA-3.0"),
        ("Creative Commons BY 4.0", "CC-BY-4.0"),
        ("mit", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("cc0-1.0", "CC0-1.0"),
        ("odc-by", "ODC-BY-1.0"),
        ("unknown", UNSTATED),
        ("", UNSTATED),
        (None, UNSTATED),
        ("permitted by us", "permitted by us"),
    ],
)
def test_licences_have_one_name(written: str | None, name: str) -> None:
    """However a licence is spelt, it is called by its SPDX name; an unknown one keeps its own words."""
    assert spdx(written) == name
    assert spdx(spdx(written)) == name


def test_conflicts_name_both_licences_and_what_was_dropped() -> None:
    """Data under a licence that asks for more than the declared one is a conflict; equal or unknown ones are none."""
    assert conflict("mit", "cc-by-nc-4.0") == "declared MIT, but CC-BY-NC-4.0 asks: non-commercial use only"
    assert (
        conflict("cc-by-4.0", "cc-by-sa-4.0")
        == "declared CC-BY-4.0, but CC-BY-SA-4.0 asks: same licence for derivatives"
    )
    assert conflict("cc-by-nc-4.0", "mit") == "declared CC-BY-NC-4.0, while this part is under MIT"
    assert conflict("MIT", "mit") is None and conflict("mit", "unknown") is None and conflict("", "mit") is None
    assert conditions("CC-BY-NC-ND-4.0") == ["non-commercial use only", "no derivatives"]


def test_the_shipped_register_is_sound() -> None:
    """Every entry has a known licence and a teacher, and terms that are described; each is found by its other names."""
    register = shipped()
    assert len(register.datasets) >= 12
    for known in register.datasets:
        assert UNSTATED not in (known.licence, known.teacher)
        assert not known.terms or known.terms in register.terms
        assert all(register.find([name]) is known for name in (known.name, *known.also))
        assert all(register.find([source]) for source in known.made_from)
    assert register.find(["Alpaca_Data"]) is register.find(["tatsu-lab/alpaca"]) is not None


def test_a_user_extends_the_register(tmp_path: Path) -> None:
    """A register in TOML or JSON adds sets and overrides entries of the same name; files stand beside it."""
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n')
    toml = '[[dataset]]\nname = "mine"\nlicence = "cc by-nc 4.0"\nteacher = "T"\nterms = "t"\nfiles = ["rows.jsonl"]\n'
    (tmp_path / "a.toml").write_text(toml + '[[terms]]\nid = "t"\nprovider = "P"\nrestricts = "r"\n')
    (tmp_path / "b.json").write_text(json.dumps({"dataset": [{"name": "openai/gsm8k", "license": "other terms"}]}))
    register = shipped().plus(load_register(tmp_path / "a.toml")).plus(load_register(tmp_path / "b.json"))
    mine = register.find(["MINE"])
    assert mine is not None and (mine.licence, mine.files) == ("CC-BY-NC-4.0", (tmp_path / "rows.jsonl",))
    assert register.terms["t"].provider == "P" and register.with_files() == [mine]
    assert register.find(["openai/gsm8k"]).licence == "other terms"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[dataset]", "is no register"),
        ("x = 1", "is no register"),
        ('[[dataset]]\nname = "a"\nlizenz = "MIT"', "not understood"),
        ('[[dataset]]\nlicence = "MIT"', "not understood"),
        ('[[dataset]]\nname = "a"\nfiles = "x"', "wrong type"),
        ('[[dataset]]\nname = "a"\nfiles = ["x"]', "not there"),
        ('dataset = "a"', "not understood"),
    ],
)
def test_a_register_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    """A misspelt key, a missing file or another type is an error of one line."""
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputError, match=says):
        load_register(tmp_path / "r.toml")
    with pytest.raises(InputError, match="cannot read"):
        load_register(tmp_path / "absent.toml")


def test_declared_licences_are_read_where_they_stand(tmp_path: Path) -> None:
    """Croissant, a card's head, dataset_info and a LICENSE text are read; what disagrees is listed with its file."""
    (tmp_path / "README.md").write_text("---\npretty_name: My set\nlicense:\n- apache-2.0\n---\n# Text\n")
    assert read_declared([tmp_path]).licence == "Apache-2.0" and read_declared([tmp_path]).name == "My set"
    croissant = {"@context": {}, "name": "S", "license": ["https://creativecommons.org/licenses/by-nc/4.0/"]}
    (tmp_path / "croissant.json").write_text(json.dumps(croissant))
    (tmp_path / "LICENSE").write_text("MIT License\n\nCopyright (c)\n")
    declared = read_declared([tmp_path / "rows.jsonl"])
    assert (declared.name, declared.licence, declared.said_in) == ("S", "CC-BY-NC-4.0", "croissant.json")
    assert declared.others == ("Apache-2.0 (README.md)", "MIT (LICENSE)")
    assert declared.croissant == croissant


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.md", "---\nlicense: [mit, 'cc-by-nc-4.0']\n---\n"),
        ("croissant.json", '{"@context": {}, "license": ["MIT", {"name": "CC BY-NC 4.0"}]}'),
        ("dataset_info.json", '{"license": ["MIT", "https://creativecommons.org/licenses/by-nc/4.0/"]}'),
    ],
)
def test_every_licence_of_a_list_is_read(tmp_path: Path, name: str, text: str) -> None:
    """Metadata that claim two licences claim both; the stricter one is not lost behind the first."""
    (tmp_path / name).write_text(text)
    declared = read_declared([tmp_path])
    assert (declared.licence, declared.others) == ("MIT", (f"CC-BY-NC-4.0 ({name})",))


def test_licences_written_out_are_known() -> None:
    """The heads of the texts of Creative Commons licences, and other ways to write their names."""
    for text, name in {
        "Creative Commons Attribution-NonCommercial 4.0 International Public License": "CC-BY-NC-4.0",
        "Attribution-ShareAlike 3.0 Unported": "CC-BY-SA-3.0",
        "Attribution-NonCommercial-NoDerivatives 4.0 International": "CC-BY-NC-ND-4.0",
        "Attribution 4.0 International": "CC-BY-4.0",
        "cc_by_nc_4.0": "CC-BY-NC-4.0",
        "CC BY\u2013NC 4.0": "CC-BY-NC-4.0",
        "Open Data Commons Attribution License v1.0": "ODC-BY-1.0",
        "Attribution required": "Attribution required",
        "non-commercial research only": "non-commercial research only",
    }.items():
        assert spdx(text) == name


def test_damaged_metadata_are_passed_over(tmp_path: Path) -> None:
    """Broken JSON, endless nesting and binary cards declare nothing."""
    (tmp_path / "croissant.json").write_text("[" * 100_000)
    (tmp_path / "dataset_info.json").write_text("[1]")
    (tmp_path / "README.md").write_bytes(b"---\n\xff\xfe\n---")
    assert read_declared([tmp_path]).licence == UNSTATED


def test_names_come_from_the_metadata_the_file_and_its_folder(tmp_path: Path) -> None:
    """A set is looked up by its declared name first."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    (folder / "train.jsonl").write_text("")
    assert names_of([folder / "train.jsonl"], "Declared") == ["Declared", "train", "gsm8k"]
    assert names_of([folder], None) == ["gsm8k"]
