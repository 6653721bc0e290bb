"""Time left until a tester is Ready, learnt from how long others took. Pure: nothing here is stored with a tester.

A run begins when the tester's spec changed last, or, when only its machine is made anew, when that machine was begun. Its
milestones are the moments at which each step's condition became True. The last milestone that a tester has reached tells
how long it usually takes from there, by the runs that lacked the same then. What the past does not tell is unknown: after
a repair, while a person is waited for, while something fails, or with too few runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controller.passes.outcomes import AN_ADMIN, THE_SPEC
from controller.passes.status import LASTING, READY, STALLED, STANDSTILL, is_paused
from controller.records import Condition, Phase, Run, Status, TesterRecord

FEWEST_RUNS = 3  # fewer tell nothing
BEGINNING = ""  # the milestone that every run has
ON_ITS_WAY = frozenset({Phase.PENDING, Phase.PROGRESSING, Phase.WAITING})
NO_TIME = timedelta(0)


class Outlook(StrEnum):
    """What can be said about the time left."""

    KNOWN = "Known"
    SLOWER = "Slower"  # than nine of ten runs were: how long it still takes is unknown
    UNKNOWN = "Unknown"  # too few runs


@dataclass(frozen=True, slots=True)
class Span:
    """Eight of ten runs lie between: one of ten was shorter, one longer."""

    least: timedelta
    most: timedelta


@dataclass(frozen=True, slots=True)
class UsualWait:
    """What is waited for now. `usual`: how long this wait lasts as a rule, counted from `since`; None: unknown."""

    type: str
    reason: str
    since: datetime
    until: datetime | None
    usual: Span | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """`left` until Ready, when `outlook` is KNOWN; `over` the longest usual time, when it is SLOWER."""

    outlook: Outlook
    runs: int  # that it rests on; those that there are, when they are too few
    after: str  # the milestone that it is counted from, "" for the beginning
    since: datetime  # when that was reached
    left: Span | None = None
    over: timedelta | None = None
    wait: UsualWait | None = None


@dataclass(frozen=True, slots=True)
class Milestone:
    name: str
    at: datetime


def run_of(record: TesterRecord, steps: Iterable[Condition], begun: datetime | None, now: datetime) -> Run | None:
    """The run of a tester that has just become Ready. None when it teaches nothing: a repair, or it stood still meanwhile.

    `record`: as it was before. `begun`: as `Store.begun` tells of its machine.
    """
    start = beginning(record, begun)
    if start is None or record.phase in STANDSTILL or (record.interrupted_at or start) > start:
        return None
    milestones = {one.type: (one.since - start).total_seconds() for one in steps if one.since > start}
    return Run(record.name, now, (now - start).total_seconds(), milestones)


def beginning(record: TesterRecord, begun: datetime | None) -> datetime | None:
    """Since when a tester is on its way to its first Ready on its machine; None when it was Ready on it before."""
    if record.ready_at is None:
        return record.changed_at if begun is None else min(record.changed_at, begun)
    return begun if begun is not None and begun > record.ready_at else None


def estimate(
    record: TesterRecord,
    conditions: Mapping[str, Condition],
    begun: datetime | None,
    runs: Sequence[Run],
    now: datetime,
) -> Estimate | None:
    """What the runs tell about a tester; None for one that is not on its way, or whose way they do not know."""
    start = beginning(record, begun)
    if start is None or not is_on_its_way(record, conditions, now):
        return None
    reached = _reached(record, conditions, start)
    wait = _wait(conditions, reached, runs)
    true = {one.type for one in conditions.values() if one.status is Status.TRUE}
    for milestone in reached:
        alike = [run for run in runs if _lacked_the_same(run, milestone.name, true)]
        lengths = _lengths(alike, milestone.name, lambda run: run.ready)
        if len(lengths) >= FEWEST_RUNS:
            return _from(milestone, lengths, wait, now)
    return Estimate(Outlook.UNKNOWN, len(runs), BEGINNING, reached[-1].at, wait=wait)


def is_on_its_way(record: TesterRecord, conditions: Mapping[str, Condition], now: datetime) -> bool:
    """Whether it goes on by itself towards Ready: nothing fails, and nobody has to act."""
    if record.phase not in ON_ITS_WAY or record.leaving or is_paused(record, now):
        return False
    stalled = conditions.get(STALLED)
    # In the middle of a pass the phase and Stalled are still those of the last one.
    stuck = any(
        one.status is Status.FALSE and (one.retry_at is not None or one.blames in (AN_ADMIN, THE_SPEC))
        for one in conditions.values()
    )
    return not stuck and (stalled is None or stalled.status is not Status.TRUE)


def _reached(record: TesterRecord, conditions: Mapping[str, Condition], start: datetime) -> list[Milestone]:
    """Newest first, the beginning last. What it stood still for is no part of the time that a milestone lies back."""
    floor = max(start, record.interrupted_at or start)
    true = [one for one in conditions.values() if one.status is Status.TRUE and one.since > start]
    newest = sorted(true, key=lambda one: (one.since, one.type), reverse=True)
    return [*(Milestone(one.type, max(one.since, floor)) for one in newest), Milestone(BEGINNING, floor)]


def _from(milestone: Milestone, lengths: Sequence[timedelta], wait: UsualWait | None, now: datetime) -> Estimate:
    usual = usual_span(lengths)
    passed = max(now - milestone.at, NO_TIME)  # a clock that was set back
    if passed > usual.most:
        over = passed - usual.most
        return Estimate(Outlook.SLOWER, len(lengths), milestone.name, milestone.at, over=over, wait=wait)
    left = _shortened(usual, passed)
    return Estimate(Outlook.KNOWN, len(lengths), milestone.name, milestone.at, left=left, wait=wait)


def _wait(conditions: Mapping[str, Condition], reached: Sequence[Milestone], runs: Sequence[Run]) -> UsualWait | None:
    waited_for = _waited_for(conditions)
    if waited_for is None:
        return None
    usual = _usual_wait(waited_for, reached, runs)
    return UsualWait(waited_for.type, waited_for.reason, waited_for.since, waited_for.until, usual)


def _waited_for(conditions: Mapping[str, Condition]) -> Condition | None:
    """The one that Ready names, while that is still so; else the one that has been false the longest."""
    ready = conditions.get(READY)
    named = conditions.get(ready.message.partition(":")[0]) if ready is not None else None
    if named is not None and named.status is Status.FALSE:
        return named
    false = [
        one for one in conditions.values() if one.status is Status.FALSE and one.type not in (READY, STALLED, LASTING)
    ]
    return min(false, key=lambda one: (one.since, one.type), default=None)


def _usual_wait(waited_for: Condition, reached: Sequence[Milestone], runs: Sequence[Run]) -> Span | None:
    """From the last milestone before the wait to the one that ends it, less what lay between that milestone and the wait."""
    for milestone in reached:
        if milestone.at > waited_for.since and milestone.name != BEGINNING:
            continue
        lengths = _lengths(runs, milestone.name, lambda run: run.milestones.get(waited_for.type))
        if len(lengths) >= FEWEST_RUNS:
            return _shortened(usual_span(lengths), max(waited_for.since - milestone.at, NO_TIME))
    return None


def _lacked_the_same(run: Run, milestone: str, true: Collection[str]) -> bool:
    """Whether all that the tester still lacks came after the milestone in this run too: steps run beside each other, and
    a late one that comes early for once does not bring the end nearer."""
    began = 0.0 if milestone == BEGINNING else run.milestones.get(milestone, 0.0)
    return all(at >= began for name, at in run.milestones.items() if name not in true)


def _lengths(runs: Iterable[Run], start: str, end: Callable[[Run], float | None]) -> list[timedelta]:
    """How long it took from a milestone to an end, in the runs that had both, in this order."""
    found = []
    for run in runs:
        began = 0.0 if start == BEGINNING else run.milestones.get(start)
        ended = end(run)
        if began is not None and ended is not None and ended >= began:
            found.append(timedelta(seconds=ended - began))
    return found


def usual_span(lengths: Sequence[timedelta]) -> Span:
    """From the tenth to the ninetieth percentile, by nearest rank: of few lengths, the shortest and the longest."""
    ranked, count = sorted(lengths), len(lengths)
    return Span(ranked[-(-count // 10) - 1], ranked[-(-9 * count // 10) - 1])


def _shortened(span: Span, by: timedelta) -> Span:
    return Span(max(span.least - by, NO_TIME), max(span.most - by, NO_TIME))
