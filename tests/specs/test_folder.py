"""Reading a folder: what counts, what is passed over, and what must not be followed."""

import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from specs.fleet import Fleet
from specs.folder import read_folder
from specs.loading import load_folder


@pytest.fixture
def folder(tmp_path: Path, example_files: dict[str, bytes]) -> Path:
    root = tmp_path / "fleet"
    root.mkdir()
    for name, data in example_files.items():
        (root / name).write_bytes(data)
    return root


def test_a_folder_is_its_files(folder: Path, today: date, example_files: dict[str, bytes]) -> None:
    loaded = load_folder(folder, today)
    assert loaded.whole
    assert set(loaded.testers) == {"alice", "bob", "carol"}
    assert read_folder(folder).files == example_files


def test_folders_below_count_and_everything_hidden_or_foreign_does_not(folder: Path, today: date) -> None:
    (folder / "more" / "deep").mkdir(parents=True)
    (folder / "carol.yaml").rename(folder / "more" / "deep" / "carol.yml")
    (folder / ".git").mkdir()
    for name in (".alice.yaml", ".git/x.yaml", "alice.yaml~", "#alice.yaml#", "alice.yaml.swp", "README.md", "4913"):
        (folder / name).write_text("zzz: [")
    loaded = load_folder(folder, today)
    assert loaded.whole
    assert loaded.testers["carol"].file == "more/deep/carol.yml"


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "only hidden"])
def test_a_folder_that_tells_nothing_removes_nobody(kind: str, tmp_path: Path, today: date, fleet: Fleet) -> None:
    path = tmp_path / "fleet"
    if kind == "file":
        path.write_text("x")
    elif kind != "missing":
        path.mkdir()
    if kind == "only hidden":
        (path / ".x.yaml").write_text("x")
    loaded = load_folder(path, today, last_fleet=fleet)
    assert not loaded.readable
    assert not loaded.whole
    assert loaded.fleet == fleet
    (error,) = loaded.errors
    assert error.line == 0
    assert str(error).startswith("fleet: ")


@pytest.mark.parametrize("kind", ["file", "folder", "nowhere", "itself"])
def test_a_link_that_leaves_the_folder_is_not_followed(kind: str, folder: Path, today: date) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "eve.yaml").write_bytes((folder / "carol.yaml").read_bytes().replace(b"carol", b"evelyn"))
    link = folder / "link.yaml"
    targets = {"file": outside / "eve.yaml", "folder": outside, "nowhere": outside / "none.yaml", "itself": link}
    link.symlink_to(targets[kind])
    loaded = load_folder(folder, today)
    assert set(loaded.testers) == {"alice", "bob", "carol"}
    (error,) = loaded.errors
    assert (error.file, error.problem) == ("link.yaml", "this link leaves the folder")
    assert not loaded.whole
    assert "link.yaml" in loaded.broken


def test_a_link_that_stays_inside_is_followed(folder: Path, today: date) -> None:
    """As mounted configuration has it: ordinary names that point into a hidden folder."""
    (folder / "..data").mkdir()
    (folder / "carol.yaml").rename(folder / "..data" / "carol.yaml")
    (folder / "carol.yaml").symlink_to(Path("..data") / "carol.yaml")
    loaded = load_folder(folder, today)
    assert loaded.whole
    assert "carol" in loaded.testers


def test_a_pipe_is_not_waited_for(folder: Path, today: date) -> None:
    os.mkfifo(folder / "pipe.yaml")
    loaded = load_folder(folder, today)
    assert [(each.file, each.problem) for each in loaded.errors] == [("pipe.yaml", "this is not an ordinary file")]
    assert set(loaded.testers) == {"alice", "bob", "carol"}


@pytest.mark.parametrize("name", ["a\nb.yaml", "a\x1b[31m.yaml", b"a\xff.yaml"])
def test_a_file_name_with_odd_characters_is_refused(name: str | bytes, folder: Path, today: date) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name)))).write_text("x")
    loaded = load_folder(folder, today)
    (error,) = loaded.errors
    assert error.file.isascii()
    assert error.file.isprintable()
    assert not loaded.whole
    assert set(loaded.testers) == {"alice", "bob", "carol"}


def test_what_may_not_be_read_is_an_error(folder: Path, today: date, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is made up: the test may run as root, who may read everything."""
    really_open = os.open

    def refuse(path: str | Path, *arguments: Any, **named: Any) -> int:
        if Path(path).name == "alice.yaml":
            raise PermissionError(13, "Permission denied")
        return really_open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    loaded = load_folder(folder, today)
    assert [each.file for each in loaded.errors] == ["alice.yaml"]
    assert "Permission denied" in loaded.errors[0].problem
    assert set(loaded.testers) == {"bob", "carol"}
    assert not loaded.whole


def test_a_huge_file_is_read_no_further_than_needed(folder: Path, today: date) -> None:
    with (folder / "huge.yaml").open("wb") as file:
        file.truncate(10 * 1024**3)
    loaded = load_folder(folder, today)
    assert [each.problem for each in loaded.errors] == ["the file is larger than 1 MiB"]
    assert set(loaded.testers) == {"alice", "bob", "carol"}


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_TOTAL"])
def test_a_folder_without_end_is_not_read_to_its_end(
    limit: str, folder: Path, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specs.folder." + limit, 2)
    loaded = load_folder(folder, today)
    assert any("the rest is not read" in each.problem for each in loaded.errors)
    assert len(loaded.files) < 4
    assert not loaded.whole
