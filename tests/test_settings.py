from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from stillwatch.errors import SettingsError
from stillwatch.settings import Bars, ScanSettings, Settings, load_settings, suggestion


def write(folder: Path, text: str) -> Path:
    path = folder / "stillwatch.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_bars_are_those_of_the_design() -> None:
    """Without any file, a group is reported at the published bars."""
    assert dataclasses.asdict(Settings().bars) == {
        "q_max": 0.001,
        "operator_bits_min": 10.0,
        "harvest_bits_min": 10.0,
        "innocent_margin_bits_min": 7.0,
        "membership_min": 0.9,
    }


def test_nothing_given_gives_the_defaults() -> None:
    """No file, no variable and no option leave every default in place."""
    assert load_settings() == Settings() == load_settings(None, {}, {})


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    """Three places set options, and each option comes from the strongest that set it."""
    path = write(tmp_path, "[scan]\nseed = 1\nthreads = 1\nmemory_mb = 100\n[bars]\nq_max = 0.01\n")
    environ = {"STILLWATCH_SCAN_SEED": "2", "STILLWATCH_SCAN_THREADS": "2"}
    settings = load_settings(path, environ, {"scan.seed": 3, "scan.partitions": "8", "bars.q_max": None})
    assert settings.scan == ScanSettings(seed=3, threads=2, memory_mb=100, partitions=8)
    assert settings.bars == Bars(q_max=0.01)


def test_other_variables_are_not_looked_at() -> None:
    """Variables of other programs, and an empty one of ours, change nothing."""
    environ = {"STILLWATCH_HOME": "/x", "STILLWATCH_KEY": "00", "SCAN_SEED": "7", "STILLWATCH_SCAN_SEED": ""}
    assert load_settings(None, environ) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[scan]\nthraeds = 4", "Did you mean threads?"),
        ("[bar]\nq_max = 0.1", "Did you mean bars?"),
        ("[zzz]", "There are: scan, bars."),
        ("[scan]\nxyzzy = 1", "There are: seed, threads"),
        ("scan = 3", "stands outside a section"),
        ("q_max = 0.1", "stands outside a section"),
        ("[scan\n", "is not TOML"),
        ("[scan]\nseed = 1\nseed = 2", "is not TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """The error names the file and what to write instead."""
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ['"4"', "true", "4.0", "nan", "[4]", "{a = 4}", "2026-01-01", '""'])
def test_a_whole_number_has_its_type(tmp_path: Path, value: str) -> None:
    """A TOML value of another type is refused, even one that could be converted."""
    with pytest.raises(SettingsError, match=r"scan\.threads has the wrong type.*a whole number"):
        load_settings(write(tmp_path, f"[scan]\nthreads = {value}"))


@pytest.mark.parametrize("value", ['"0.1"', "false", "nan", "inf", "-inf", "[0.1]", "2026-01-01T00:00:00Z"])
def test_a_number_has_its_type(tmp_path: Path, value: str) -> None:
    """A number is finite and is not a text or a truth value."""
    with pytest.raises(SettingsError, match=r"bars\.q_max has the wrong type.*a number"):
        load_settings(write(tmp_path, f"[bars]\nq_max = {value}"))


@pytest.mark.parametrize("text", ["four", "4.5", "1e3", "0x10", "nan", "--", "\x1b[2J"])
def test_a_variable_that_is_no_number_is_named(text: str) -> None:
    """The error names the variable and shows what it holds, control characters escaped."""
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"STILLWATCH_SCAN_THREADS": text})
    assert str(caught.value).startswith("STILLWATCH_SCAN_THREADS: scan.threads has the wrong type")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scan.threads", 0),
        ("scan.threads", 10**30),
        ("scan.seed", -1),
        ("scan.n_min_accounts", 1),
        ("bars.q_max", 1.01),
        ("bars.q_max", -0.0001),
        ("bars.membership_min", 2),
    ],
)
def test_a_value_out_of_range_is_refused(option: str, value: float) -> None:
    """The error says which option and what range."""
    with pytest.raises(SettingsError, match=rf"{option} is out of range; got .*; expected from"):
        load_settings(None, {}, {option: value})


@pytest.mark.parametrize("name", ["threads", "", ".", "scan.", "scan.threads.more"])
def test_an_override_names_section_and_option(name: str) -> None:
    """The command line cannot set what is not an option."""
    with pytest.raises(SettingsError, match="command line"):
        load_settings(None, {}, {name: 1})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """An absent file, a folder and bytes that are not text are errors, not defaults."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe[scan]")
    for path, words in ((tmp_path / "absent.toml", "read"), (tmp_path, "read"), (tmp_path / "bytes.toml", "not TOML")):
        with pytest.raises(SettingsError, match=words) as caught:
            load_settings(path)
        assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    """A file saved by a Windows editor reads like any other."""
    path = tmp_path / "stillwatch.toml"
    path.write_bytes(b"\xef\xbb\xbf[scan]\r\nseed = 5\r\n")
    assert load_settings(path).scan.seed == 5


def test_the_fingerprint_names_what_can_move_a_finding() -> None:
    """Speed options leave the fingerprint alone, every other option changes it, and it is the same everywhere."""
    default = Settings().fingerprint()
    for section, options in Settings().to_dict().items():
        for option, value in options.items():
            other = value * 2 + 1 if isinstance(value, int) else value / 2
            changed = load_settings(None, {}, {f"{section}.{option}": other})
            speed = option in ("threads", "memory_mb", "partitions")
            assert (changed.fingerprint() == default) is speed, option
    assert default == "c6374f9d5c3f0a642ddb4cfbc2735fa02706e87c11f2dc6eb2498e890f56d5e6"


def test_a_whole_number_for_a_real_one_is_the_same_setting(tmp_path: Path) -> None:
    """Writing 10 for 10.0 changes neither value nor fingerprint."""
    settings = load_settings(write(tmp_path, "[bars]\noperator_bits_min = 10"))
    assert settings.fingerprint() == Settings().fingerprint()
    assert isinstance(settings.bars.operator_bits_min, float)


def test_settings_cannot_be_changed_in_place() -> None:
    """The tree is frozen at every level."""
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.scan.seed = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.scan = ScanSettings()  # type: ignore[misc]


def test_the_tree_as_plain_values_holds_every_option() -> None:
    """What run.json writes is every section with every option, finite numbers only."""
    tree = Settings().to_dict()
    assert set(tree) == {"scan", "bars"}
    assert all(math.isfinite(value) for section in tree.values() for value in section.values())


def test_a_suggestion_is_the_nearest_name_or_all_of_them() -> None:
    """A near miss gets one name, a wild guess the whole list."""
    assert suggestion("sed", ["seed", "threads"]) == "Did you mean seed?"
    assert suggestion("qqqq", ["seed", "threads"]) == "There are: seed, threads."
