"""Which files a list of paths stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stillwatch.errors import InputError
from stillwatch.ingest.discover import find_files, printable


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}\n")


def names(folder: Path, *paths: str | Path) -> list[str]:
    return [file.path.relative_to(folder).as_posix() for file in find_files(paths)[0]]


def test_folders_are_searched_to_their_depths(tmp_path: Path) -> None:
    """A folder gives every log below it in any case of suffix; hidden and marker files are left alone."""
    touch(tmp_path / "b.JSONL", tmp_path / "a" / "c.Parquet", tmp_path / "a" / "d.csv.GZ", tmp_path / "a" / "e.ndjson")
    touch(tmp_path / ".hidden" / "x.jsonl", tmp_path / "_delta_log" / "0.json", tmp_path / "_SUCCESS")
    assert names(tmp_path, tmp_path) == ["a/c.Parquet", "a/d.csv.GZ", "a/e.ndjson", "b.JSONL"]


def test_what_is_not_a_log_is_reported(tmp_path: Path) -> None:
    """Other files of a folder are named as skipped."""
    touch(tmp_path / "a.jsonl", tmp_path / "README.md")
    assert find_files([tmp_path])[1] == [str(tmp_path / "README.md")]


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """A file given by path, by folder, by pattern and through a link is found once, in one order."""
    touch(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert names(tmp_path, tmp_path / "b.jsonl", tmp_path, str(tmp_path / "*.jsonl")) == ["a.jsonl", "b.jsonl"]
    assert names(tmp_path, tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "a.jsonl") == ["a.jsonl", "b.jsonl"]


def test_patterns(tmp_path: Path) -> None:
    """A pattern may cross folders; a name that only looks like one is taken as it stands."""
    touch(tmp_path / "x" / "a.jsonl", tmp_path / "y" / "b.csv", tmp_path / "z[1].jsonl")
    assert names(tmp_path, str(tmp_path / "**" / "*.csv")) == ["y/b.csv"]
    assert names(tmp_path, str(tmp_path / "z[1].jsonl")) == ["z[1].jsonl"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """A folder that holds a link to itself is searched once."""
    touch(tmp_path / "a.jsonl")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path, tmp_path) == ["a.jsonl"]


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    """A folder called x.parquet, as Spark writes them, is a folder."""
    touch(tmp_path / "x.parquet" / "part-0.parquet")
    assert names(tmp_path, tmp_path / "x.parquet") == ["x.parquet/part-0.parquet"]


def test_unknown_suffixes_are_read_by_their_content(tmp_path: Path) -> None:
    """A named file of unknown suffix is told by its first bytes, or refused."""
    (tmp_path / "a.log").write_bytes(b'\xef\xbb\xbf {"a":1}\n')
    (tmp_path / "b.log").write_bytes(b"127.0.0.1 - - GET /\n")
    assert find_files([tmp_path / "a.log"])[0][0].format == "jsonl"
    with pytest.raises(InputError, match=r"b\.log is of no known format"):
        find_files([tmp_path / "b.log"])


def test_nothing_to_read(tmp_path: Path) -> None:
    """No path, a path to nothing, an empty folder and a folder without logs each say what is wrong."""
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    touch(other / "notes.txt")
    for paths, said in (
        ([], "no logs were named"),
        ([tmp_path / "nowhere"], "nothing at .*nowhere"),
        ([str(tmp_path / "*.parquet")], "nothing at"),
        ([empty], "no log file in .*empty folder"),
        ([other], "no log file in .*only files that are not logs"),
    ):
        with pytest.raises(InputError, match=said):
            find_files(paths)


def test_what_cannot_be_read_as_a_file(tmp_path: Path) -> None:
    """A pipe, a link to nothing and packed Parquet are refused at once rather than waited for."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    touch(tmp_path / "a.parquet.gz")
    for name, said in (("pipe.jsonl", "not a plain file"), ("gone.jsonl", "cannot open"), ("a.parquet.gz", "packed")):
        with pytest.raises(InputError, match=said):
            find_files([tmp_path / name])


def test_a_pipe_in_a_folder_costs_only_itself(tmp_path: Path) -> None:
    """What is no plain file is named among what was skipped, and never opened; a link to nothing still stops a scan."""
    touch(tmp_path / "a.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    files, skipped = find_files([tmp_path])
    assert [file.path.name for file in files] == ["a.jsonl"]
    assert skipped == [f"{tmp_path}/pipe.jsonl (a named pipe, not a plain file)"]
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot open"):
        find_files([tmp_path])
    assert find_files([tmp_path], patient=True)[1][0] == f"{tmp_path}/gone.jsonl (a link to nothing)"


def test_names_that_are_not_utf8() -> None:
    """A file name of any bytes can be shown."""
    assert printable(os.fsdecode(b"a\xff.csv")) == "a\\xff.csv"
