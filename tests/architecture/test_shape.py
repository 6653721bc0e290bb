"""The house rules that no linter knows: small files, small functions, one clock, nothing left lying about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("specs", "reconcilers", "controller", "api", "examples")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES = 400
MOST_LINES_OF_TESTS = 500  # a table of cases has one subject, however long it is
MOST_LINES_OF_A_FUNCTION = 60
MOST_PARAMETERS = 7
CLOCKS = {"reconcilers/clock.py", "examples/simulator/clock.py"}  # everything else asks the injected one (law 9)
ASKS_THE_TIME = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.monotonic"}
ALIASED = {f"dt.{name}" for name in ASKS_THE_TIME} | {f"datetime.{name}" for name in ASKS_THE_TIME}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, Function))


def parameters(function: Function) -> int:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in arguments if one.arg not in {"self", "cls"}])


def command_line(path: Path) -> bool:
    """typer reads a command's options from its parameters, so there their number is the number of options."""
    return path.is_relative_to(ROOT / "api" / "commands")


def test_every_file_says_what_it_is_for() -> None:
    every = [path for path in (*FILES, *TESTS) if path.read_text().strip()]
    silent = [named(path) for path in every if not ast.get_docstring(tree_of(path))]
    assert silent == []


def test_no_file_has_two_subjects() -> None:
    assert too_long(FILES, MOST_LINES) == {}
    assert too_long(TESTS, MOST_LINES_OF_TESTS) == {}


def too_long(files: list[Path], most: int) -> dict[str, int]:
    lengths = {named(path): path.read_text().count("\n") for path in files}
    return {name: lines for name, lines in lengths.items() if lines > most}


def test_functions_fit_a_screen() -> None:
    lengths = {f"{named(path)}:{one.name}": _lines(one) for path in (*FILES, *TESTS) for one in functions(path)}
    assert len(lengths) > 2000
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def _lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_functions_take_few_parameters() -> None:
    counts = {
        f"{named(path)}:{one.name}": parameters(one)
        for path in (*FILES, *TESTS)
        if not command_line(path)
        for one in functions(path)
    }
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def test_nobody_but_the_clock_asks_for_the_time() -> None:
    asking = [
        f"{named(path)}:{node.lineno} {ast.unparse(node.func)}"
        for path in FILES
        if named(path) not in CLOCKS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ASKS_THE_TIME | ALIASED
    ]
    assert asking == []


def test_nothing_is_left_lying_about() -> None:
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    found = [
        f"{named(path)}:{number}"
        for path in (*FILES, *TESTS)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not found


def test_every_reconciler_is_held_apart_from_the_others() -> None:
    """A new step must be added to the contract in .importlinter."""
    held = set(re.findall(r"^    reconcilers\.(\w+)$", (ROOT / ".importlinter").read_text(), re.MULTILINE))
    steps = {path.stem for path in (ROOT / "reconcilers").glob("*.py") if _is_a_step(path)}
    assert steps
    assert steps == held


def _is_a_step(path: Path) -> bool:
    classes = (node for node in tree_of(path).body if isinstance(node, ast.ClassDef))
    return any(
        {"observe", "plan", "apply"} <= {one.name for one in node.body if isinstance(one, Function)} for node in classes
    ) and (path.stem != "contract")


def test_the_lock_holds_hashes_and_no_place_to_fetch_from() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert not re.search(r"--(extra-)?index-url|--find-links|https?://", lock)
