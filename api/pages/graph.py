"""The step graph as a picture: columns by what a step needs, lines between, and where each step stands.

Drawn here and not in a browser: a layered layout, in which a line that passes a column has a place there of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from markupsafe import Markup, escape

from api.pages.pictures import SHAPES, shape_of
from api.words import one_line
from controller.boards.tester import StepView

WIDTH, HEIGHT = 144, 44  # of a box
ACROSS, DOWN = 32, 16  # between boxes
PASSING = 10  # height that a line takes which passes a column
EDGE = 4
SWEEPS: Final = 8

_Place = tuple[str, int]
"""A step in its column, or its line passing another column."""


@dataclass
class _Layout:
    """`columns`: from the left, each from the top."""

    columns: list[list[_Place]]
    lines: list[tuple[_Place, _Place]] = field(default_factory=list)


@dataclass(frozen=True)
class Box:
    """Where a place is: the left upper corner."""

    x: float
    y: float


def step_graph(steps: Sequence[StepView], words: Mapping[str, str]) -> Markup:
    """The picture. `words`: step → its second line, "" for none."""
    layout = _layout({each.name: each.needs for each in steps})
    boxes, width, height = _boxes(layout)
    states = {each.name: each for each in steps}
    drawn = [
        _line(boxes[one], boxes[other], states[one[0]].state, _is_box(one, layout, states))
        for one, other in layout.lines
    ]
    drawn += [_step(each, boxes[each.name, _column(layout, each.name)], words.get(each.name, "")) for each in steps]
    told = ", ".join(f"{each.name.replace('_', ' ')} {each.state}" for each in steps)
    return Markup(
        '<svg class="graph" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, width, height, f"Steps: {told}", Markup("").join(drawn))


def _layout(needs: Mapping[str, Sequence[str]]) -> _Layout:
    column: dict[str, int] = {}
    for name in needs:  # in the order of the graph: what is needed comes first
        column[name] = 1 + max((column[each] for each in needs[name]), default=-1)
    made = _Layout([[] for _ in range(max(column.values(), default=0) + 1)])
    for name, at in column.items():
        made.columns[at].append((name, at))
    passing: set[_Place] = set()
    for name in needs:
        for needed in needs[name]:
            way = [(needed, at) for at in range(column[needed], column[name])] + [(name, column[name])]
            passing |= set(way[1:-1])
            made.lines += [each for each in pairwise(way) if each not in made.lines]
    for place in sorted(passing):
        made.columns[place[1]].append(place)
    _untangle(made)
    return made


def _untangle(layout: _Layout) -> None:
    """Each place near the middle of those that it is joined to, back and forth until it is quiet enough."""
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        order = range(1, len(layout.columns)) if forward else range(len(layout.columns) - 2, -1, -1)
        for at in order:
            beside = layout.columns[at - 1 if forward else at + 1]
            rows = {place: row / max(len(beside) - 1, 1) for row, place in enumerate(beside)}
            joined = [(one, other) if forward else (other, one) for one, other in layout.lines]

            def middle(
                place: _Place, rows: dict[_Place, float] = rows, joined: list[tuple[_Place, _Place]] = joined
            ) -> float:
                found = [rows[one] for one, other in joined if other == place and one in rows]
                return sum(found) / len(found) if found else 0.5

            layout.columns[at].sort(key=middle)


def _boxes(layout: _Layout) -> tuple[dict[_Place, Box], float, float]:
    """Places, as high as they need, each column in the middle; a line's own place is as high as a box is in its middle."""
    heights = [
        [HEIGHT if at == _column(layout, place[0]) else PASSING for place in column]
        for at, column in enumerate(layout.columns)
    ]
    tall = [sum(each) + DOWN * (len(each) - 1) for each in heights]
    height = max(tall)
    found = {}
    for at, column in enumerate(layout.columns):
        y = EDGE + (height - tall[at]) / 2
        for place, size in zip(column, heights[at], strict=True):
            found[place] = Box(EDGE + at * (WIDTH + ACROSS), y + (size - HEIGHT) / 2)
            y += size + DOWN
    return found, len(layout.columns) * (WIDTH + ACROSS) - ACROSS + 2 * EDGE, height + 2 * EDGE


def _column(layout: _Layout, name: str) -> int:
    return min(at for at, column in enumerate(layout.columns) if (name, at) in column)


def _is_box(place: _Place, layout: _Layout, states: Mapping[str, StepView]) -> bool:
    return place[0] in states and place[1] == _column(layout, place[0])


def _line(start: Box, end: Box, state: str, from_box: bool) -> Markup:
    x, y = start.x + WIDTH if from_box else start.x, start.y + HEIGHT / 2
    to_x, to_y = end.x, end.y + HEIGHT / 2
    through = "" if from_box else f"M{x:.0f} {y:.0f}H{start.x + WIDTH:.0f}"
    begin = start.x + WIDTH
    bend = (to_x - begin) / 2
    curve = f"M{begin:.0f} {y:.0f}C{begin + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
    return Markup('<path class="edge {}" d="{}"/>').format("past" if state == "done" else "ahead", through + curve)


def _step(step: StepView, box: Box, words: str) -> Markup:
    shape = shape_of(step.state)
    told = one_line(step.condition.message) if step.condition is not None else "not looked at yet"
    return Markup(
        '<g class="step {state} {shape}" transform="translate({x:.0f} {y:.0f})"><title>{title}</title>'
        '<rect class="box" width="{w}" height="{h}" rx="7"/>'
        '<g class="icon {shape}" transform="translate(11 14)">{mark}</g>'
        '<text x="36" y="19" class="name">{name}</text><text x="36" y="34" class="words">{words}</text></g>'
    ).format(
        state=step.state,
        shape=shape,
        x=box.x,
        y=box.y,
        w=WIDTH,
        h=HEIGHT,
        title=f"{step.type}: {told}",
        mark=Markup(SHAPES[shape]),  # noqa: S704 - of our own table
        name=escape(step.name.replace("_", " ")),
        words=_cut(one_line(words)),
    )


def _cut(words: str, most: int = 17) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
