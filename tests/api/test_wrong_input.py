"""What a stranger gives `testerctl` by mistake: it says what is wrong and what would be right, and makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import Terminal

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleet"


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "a_file"),
        ("get", "--state", "a_file"),
        ("plan", "--fleet", "a_file"),
        ("token", "make", "prometheus", "--state", "a_file"),
        ("doctor", "--secrets-folder", "a_file"),
        ("demo", "--state", "a_file"),
    ],
)
def test_a_file_is_no_folder(testerctl: Terminal, arguments: tuple[str, ...]) -> None:
    Path("a_file").touch()
    assert testerctl(*arguments) == 1
    assert "dir 'a_file' is a file" in testerctl.err
    assert f"`testerctl {arguments[0]} --help`" in testerctl.err


def test_a_word_that_is_no_choice_is_told_in_our_words(testerctl: Terminal) -> None:
    assert testerctl("validate", EXAMPLES, "-o", "yaml") == 1
    assert "'yaml' is not one of 'text', 'json'" in testerctl.err
    assert "Value error" not in testerctl.err


@pytest.mark.on_a_file
def test_looking_makes_no_file_where_a_variable_points(
    testerctl: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/elsewhere.db")
    assert testerctl("get") == 1
    assert f"There are no books in {tmp_path}/elsewhere.db (DATABASE_URL)" in testerctl.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.on_a_file
def test_books_that_are_none_are_told_with_a_remedy(testerctl: Terminal, tmp_path: Path) -> None:
    (tmp_path / "controller.db").write_bytes(b"garbage" * 100)
    assert testerctl("get", "--state", tmp_path) == 1
    assert "controller.db is not a database; check the path, or restore it from a backup (file is not" in testerctl.err


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_what_is_of_use_for_a_repository_only_is_not_left_out_without_a_word(testerctl: Terminal, command: str) -> None:
    arguments = (command, "--fleet", EXAMPLES, "--comment-plans")
    assert testerctl(*arguments, *(("--listen", "127.0.0.1:0") if command == "run" else ())) == 1
    assert "--comment-plans: of use only with --git" in testerctl.err


def test_the_version_is_told(testerctl: Terminal) -> None:
    assert testerctl("--version") == 0
    assert testerctl.out.split(".")[0].isdigit()
