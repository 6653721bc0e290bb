"""Another program is told from this one."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller import program
from controller.program import program_digest


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of three files."""
    for name in ("a.py", "inner/b.py", "inner/words.txt"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(name)
    package = SimpleNamespace(__name__="own", __file__=str(tmp_path / "own" / "a.py"))
    monkeypatch.setattr(program, "_THOUGHT", (package,))
    monkeypatch.setattr("sys.path", [str(tmp_path / "libraries"), str(tmp_path / "nowhere")])
    (tmp_path / "libraries" / "pydantic-2.1.dist-info").mkdir(parents=True)
    return tmp_path


def digest() -> bytes:
    program_digest.cache_clear()
    try:
        return program_digest()
    finally:
        program_digest.cache_clear()


def test_it_is_another_with_every_file_and_library(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [digest()]
    assert digest() == seen[0]
    (files / "own" / "__pycache__").mkdir()
    (files / "own" / "__pycache__" / "a.pyc").write_text("compiled")
    assert digest() == seen[0]
    (files / "own" / "inner" / "b.py").write_text("other")
    seen.append(digest())
    (files / "own" / "inner" / "b.py").rename(files / "own" / "inner" / "c.py")
    seen.append(digest())
    (files / "own" / "inner" / "words.txt").unlink()
    seen.append(digest())
    shutil.move(files / "libraries" / "pydantic-2.1.dist-info", files / "libraries" / "pydantic-2.2.dist-info")
    seen.append(digest())
    monkeypatch.setattr("sys.version", "another Python")
    seen.append(digest())
    assert len(set(seen)) == len(seen)
    assert b"" not in seen


def test_all_that_decides_is_in_it_and_windows_are_not() -> None:
    assert {package.__name__ for package in program._THOUGHT} == {"specs", "reconcilers", "controller"}


def test_it_stays_what_it_was_at_the_start(files: Path) -> None:
    program_digest.cache_clear()
    first = program_digest()
    (files / "own" / "a.py").write_text("installed meanwhile")
    assert program_digest() == first
    program_digest.cache_clear()


def test_a_program_that_cannot_be_read_is_unknown(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert digest() == b""


def test_so_is_one_whose_files_are_not_found(files: Path) -> None:
    """In an archive, say, or a folder that may not be listed: every other program would be found alike."""
    shutil.rmtree(files / "own")
    assert digest() == b""
