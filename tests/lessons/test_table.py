"""docs/lessons.md maps every lesson of the field to its tests: the table says what is there, and all of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = range(1, 47)
NAMED = re.compile(r"test_lesson_(\d\d)_\w+")
COLUMNS = 4  # number, lesson in few words, test (file::name), what was taken out to see it fail
PAGE = ROOT / "docs" / "lessons.md"
PIPE = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Row:
    """One line of the table. `place`: where it stands."""

    place: str
    number: int
    lesson: str
    tests: tuple[str, ...]
    taken_out: str


def lines() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every line of the page's tables but those below the heads, as its cells."""
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("|"):
            cells = tuple(cell.strip() for cell in PIPE.split(line.strip().strip("|")))
            if set("".join(cells)) - set("-: "):
                yield f"{PAGE.name}:{number}", cells


def rows() -> list[Row]:
    return [
        Row(place, int(cells[0]), cells[1], tuple(re.findall(r"[\w/.]+\.py::\w+", cells[2])), cells[3])
        for place, cells in lines()
        if len(cells) == COLUMNS and cells[0].isdecimal()
    ]


def tests_in(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, kinds)}


def lesson_tests() -> set[str]:
    """`tests/lessons/test_x.py::test_lesson_…` of every test that bears a lesson's number."""
    files = (ROOT / "tests" / "lessons").glob("test_*.py")
    return {
        f"tests/lessons/{file.name}::{name}"
        for file in files
        for name in tests_in(file)
        if name.startswith("test_lesson_")
    }


def whole(test: str) -> str:
    """A test of this folder may be named without it."""
    return test if "/" in test else f"tests/lessons/{test}"


def test_the_table_is_a_table() -> None:
    """Four columns everywhere, a sentence in each, rows in the order of the numbers."""
    found = list(lines())
    assert found[0][1][:2] == ("no", "lesson in few words"), PAGE.name
    broken = [place for place, cells in found if len(cells) != COLUMNS or not all(cells)]
    assert broken == [], "not four cells, or an empty one"
    numbers = [int(cells[0]) for _, cells in found[1:]]
    assert numbers == sorted(numbers), PAGE.name


def test_every_lesson_has_a_row_and_no_other() -> None:
    numbers = {row.number for row in rows()}
    assert sorted(set(LESSONS) - numbers) == []
    assert sorted(numbers - set(LESSONS)) == []


def test_every_row_names_tests_that_are_there_and_bear_its_number() -> None:
    there = lesson_tests()
    for row in rows():
        assert row.tests, f"{row.place}: lesson {row.number} names no test"
        for test in row.tests:
            assert whole(test) in there, f"{row.place}: there is no {test}"
            bears = NAMED.fullmatch(test.rpartition("::")[2])
            assert bears is not None, f"{row.place}: {test}"
            assert int(bears[1]) == row.number, f"{row.place}: {test} is not about lesson {row.number}"


def test_every_test_of_a_lesson_has_a_row() -> None:
    named = {whole(test) for row in rows() for test in row.tests}
    assert sorted(lesson_tests() - named) == []


def test_no_test_has_two_rows() -> None:
    named = [whole(test) for row in rows() for test in row.tests]
    assert sorted({test for test in named if named.count(test) > 1}) == []


@pytest.mark.parametrize("name", sorted(name.rpartition("::")[2] for name in lesson_tests()))
def test_a_lessons_number_has_two_digits_and_is_one_of_the_table(name: str) -> None:
    bears = NAMED.fullmatch(name)
    assert bears is not None
    assert int(bears[1]) in LESSONS
