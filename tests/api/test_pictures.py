"""Pictures: every step is in the graph, what it needs lies to its left, lines cross no box, and nothing foreign is markup."""

from __future__ import annotations

import re
from datetime import timedelta
from xml.etree import ElementTree as Xml

import pytest

from api.pages.graph import HEIGHT, WIDTH, step_graph
from api.pages.pictures import SHAPES, bar, icon, shape_of
from controller.boards.tester import NEEDS, StepState, StepView
from controller.passes.status import condition_type
from controller.records import Condition, Phase, Status
from tests.controller.fakes import START

EVIL = '"><script>alert(1)</script>'


def view(name: str, state: StepState = StepState.DONE, message: str = "as the spec says") -> StepView:
    kind = condition_type(name)
    said = Condition("alice", kind, Status.TRUE, "InSync", message, 1, START)
    return StepView(name, kind, state, said, START, NEEDS[name], timedelta(seconds=5), None)


def drawn(words: str = "in 5 s", message: str = "as the spec says") -> Xml.Element:
    steps = [view(name, message=message) for name in NEEDS]
    return Xml.fromstring(str(step_graph(steps, dict.fromkeys(NEEDS, words))))


def boxes(graph: Xml.Element) -> dict[str, tuple[float, float]]:
    found = {}
    for group in graph.iter("g"):
        at = re.fullmatch(r"translate\((\d+) (\d+)\)", group.get("transform", ""))
        name = group.find("text")
        if at is not None and name is not None:
            found[(name.text or "").replace(" ", "_")] = (float(at[1]), float(at[2]))
    return found


def test_every_step_stands_to_the_right_of_what_it_needs() -> None:
    found = boxes(drawn())
    assert set(found) == set(NEEDS)
    assert all(found[needed][0] + WIDTH < found[step][0] for step, of in NEEDS.items() for needed in of)


def test_no_two_boxes_lie_upon_each_other() -> None:
    found = list(boxes(drawn()).values())
    for at, (x, y) in enumerate(found):
        assert all(x != other_x or abs(y - other_y) >= HEIGHT for other_x, other_y in found[at + 1 :])


def test_no_line_runs_through_a_box() -> None:
    graph = drawn()
    found = boxes(graph).values()
    for path in graph.iter("path"):
        level = re.match(r"M(\d+) (\d+)H(\d+)", path.get("d", ""))
        if level is not None and "edge" in path.get("class", ""):
            x, y = float(level[1]), float(level[2])
            assert not [box for box in found if box[0] == x and box[1] < y < box[1] + HEIGHT]


def test_foreign_words_stay_text_in_a_picture() -> None:
    graph = drawn(EVIL, EVIL)
    assert not list(graph.iter("script"))
    assert EVIL in "".join(title.text or "" for title in graph.iter("title"))
    assert Xml.fromstring(str(bar(("used", 1.0), total=2, label=EVIL))).get("aria-label") == EVIL


@pytest.mark.parametrize("phase", list(Phase))
def test_every_state_has_a_shape_of_its_own(phase: Phase) -> None:
    assert shape_of(phase) == phase.lower()
    assert SHAPES[phase.lower()] in str(icon(phase))
    assert list(SHAPES.values()).count(SHAPES[phase.lower()]) == 1


def test_a_word_that_nobody_knows_is_unknown() -> None:
    assert shape_of(EVIL) == "unknown"


def test_a_bar_is_as_long_as_its_parts() -> None:
    graph = Xml.fromstring(str(bar(("used", 30.0), ("promised", 10.0), total=80, label="memory")))
    widths = {each.get("class"): float(each.get("width", "0")) for each in graph}
    assert widths == {"rest": 100.0, "used": 37.5, "promised": 12.5}
    assert [float(each.get("x", "")) for each in graph] == [0.0, 0.0, 37.5]
