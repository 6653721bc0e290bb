"""The README's tables name what exists: every lesson once, every kind of fault, only actions that there are."""

import re
from pathlib import Path

from examples.simulator.drift import Drift
from examples.simulator.faults import PLACES, WIRE_KINDS

README = Path(__file__).parents[2] / "examples" / "simulator" / "README.md"
LESSONS = re.findall(r"^\| (\d+) \| (.+) \|$", README.read_text(), re.MULTILINE)
ALSO = re.compile(r"(fault|do) ([^;]*)")


def named(kind: str) -> set[str]:
    """Every name in backticks that follows the word `fault` or `do` in the lessons' column, until the next semicolon."""
    found = set()
    for _, how in LESSONS:
        for word, names in ALSO.findall(how):
            if word == kind:
                found |= set(re.findall(r"`(\w+)`", re.sub(r"with `[^`]*`|for `\w+`|on `\w+\*?`", "", names)))
    return found


def test_every_lesson_can_be_provoked() -> None:
    assert [int(number) for number, _ in LESSONS] == list(range(1, 47))


def test_only_what_exists_is_named() -> None:
    actions = {name for name in vars(Drift) if not name.startswith("_")}
    assert named("fault") - WIRE_KINDS - set(PLACES) - actions == set()
    assert named("do") - actions - WIRE_KINDS - set(PLACES) == set()
    assert len(named("fault")) > 20


def test_every_kind_of_fault_is_explained() -> None:
    told = set(re.findall(r"`(\w+)`", README.read_text().partition("## Faults")[2].partition("## Lessons")[0]))
    assert (WIRE_KINDS | set(PLACES)) - told == set()
