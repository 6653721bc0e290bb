"""Estimates in words, as rough as they are: never a moment, never less than nothing."""

from __future__ import annotations

from datetime import timedelta

from api.words import span
from controller.estimates import FEWEST_RUNS, Estimate, Span, UsualWait

_UNITS = ((86_400, 2, "d"), (3_600, 2, "h"), (60, 2, "min"), (5, 1, "s"))  # size, how many of it make it the unit, name


def time_left(known: Estimate | None) -> str:
    """`Ready in about 2 to 4 min`, `slower than usual, by 2 min`, `time left unknown yet: 1 of 3 runs`; "" for none."""
    if known is None:
        return ""
    if known.left is not None:
        return f"Ready in {about(known.left)}"
    if known.over is not None:
        return f"slower than usual, by {span(known.over, units=1)}"
    return f"time left unknown yet: {known.runs} of {FEWEST_RUNS} runs"


def usual_wait(wait: UsualWait | None) -> str:
    """`Machine, OperationRunning: usually about 1 to 3 min`; "" when nothing is waited for."""
    if wait is None:
        return ""
    return f"{wait.type}, {wait.reason}: " + (
        f"usually {about(wait.usual)}" if wait.usual else "usual time unknown yet"
    )


def about(usual: Span) -> str:
    """`about 2 to 4 min`, `about 3 min`, `at most about 4 min`: in the unit of its end, rounded away from its middle."""
    most = usual.most.total_seconds()
    size, unit = next(((size, unit) for size, enough, unit in _UNITS if most >= size * enough), (5, "s"))
    step = timedelta(seconds=size)
    shown = 5 if unit == "s" else 1
    low, high = (usual.least // step) * shown, max(-(-usual.most // step), 1) * shown
    if not low:
        return f"at most about {high} {unit}"
    return f"about {high} {unit}" if low == high else f"about {low} to {high} {unit}"
