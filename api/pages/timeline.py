"""How long a tester's way took, step by step, beside how long it usually takes: one small picture to a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from markupsafe import Markup

from api.time_left import about
from api.words import span
from controller.boards.tester import StepState, StepView, TesterBoard
from controller.estimates import Span

WIDTH = 1000
NOTHING = timedelta(0)
BEYOND = 1.5
"""So far beyond what is usual the picture goes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One step. `took` and `usual` in words, "" where nothing is known; `verdict`: how the one compares with the other."""

    step: StepView
    picture: Markup
    took: str
    usual: str
    verdict: str


def rows(board: TesterBoard) -> tuple[Row, ...]:
    """In the order in which things usually come about; Ready last."""
    every = [*board.steps, board.ready]
    longest = _longest(board, every)
    return tuple(_row(each, board, longest) for each in every)


def _longest(board: TesterBoard, steps: Sequence[StepView]) -> timedelta:
    """What fills the picture. A way that has lasted for days does not press all others into its first hair's breadth."""
    ends = [each.after for each in steps if each.after is not None]
    ends += [each.usual.most for each in steps if each.usual is not None]
    known = max(ends, default=NOTHING)
    under_way = board.passed if board.passed is not None and board.ready.after is None else NOTHING
    return max(known, min(under_way, known * BEYOND) if known else under_way, timedelta(seconds=1))


def _row(step: StepView, board: TesterBoard, longest: timedelta) -> Row:
    so_far = board.passed if step.after is None and step.state is StepState.RUNNING else None
    took = span(step.after) if step.after is not None else f"{span(so_far)} so far" if so_far is not None else ""
    return Row(
        step=step,
        picture=_picture(step, so_far, longest),
        took=took,
        usual=about(step.usual) if step.usual is not None else "",
        verdict=_verdict(step.after, so_far, step.usual),
    )


def _verdict(took: timedelta | None, so_far: timedelta | None, usual: Span | None) -> str:
    """What is not done yet can only be slow."""
    if usual is None:
        return ""
    if took is None:
        return "slower than usual" if so_far is not None and so_far > usual.most else ""
    return "slower than usual" if took > usual.most else "faster than usual" if took < usual.least else "as usual"


def _picture(step: StepView, so_far: timedelta | None, longest: timedelta) -> Markup:
    drawn = []
    if step.usual is not None:
        left, right = _at(step.usual.least, longest), _at(step.usual.most, longest)
        drawn.append(f'<rect class="usual" x="{left}" y="2" width="{max(right - left, 4)}" height="12"/>')
    end = step.after if step.after is not None else so_far
    if end is not None:
        kind = "took" if step.after is not None else "running"
        drawn.append(f'<path class="{kind}" d="M0 8H{_at(end, longest)}"/>')
        if step.after is not None:
            drawn.append(f'<path class="took end" d="M{_at(end, longest)} 3v10"/>')
    inside = Markup("").join(map(Markup, drawn))
    return Markup(
        '<svg class="lane" viewBox="0 0 {} 16" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(WIDTH, inside)


def _at(length: timedelta, longest: timedelta) -> int:
    return round((WIDTH - 6) * min(max(length, NOTHING) / longest, 1))
