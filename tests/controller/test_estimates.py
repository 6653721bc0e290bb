"""Time left, as tables: what the past tells, and everything that it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.estimates import Estimate, Outlook, Span, beginning, estimate, run_of, usual_span
from controller.records import Condition, Phase, Run, Status, TesterRecord
from tests.controller.fakes import START, a_tester, record_of

RECORD = record_of(a_tester("alice"), phase=Phase.WAITING)
RUNS = (
    Run("x", START, 100, {"Account": 10, "Machine": 70}),
    Run("y", START, 150, {"Account": 10, "Machine": 100}),
    Run("z", START, 200, {"Account": 20, "Machine": 130}),
)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def span(least: float, most: float) -> Span:
    return Span(seconds(least), seconds(most))


def true(kind: str, at: float) -> Condition:
    return Condition("alice", kind, Status.TRUE, "InSync", "as the spec says", 1, START + seconds(at))


def false(kind: str, at: float, **more: Any) -> Condition:
    fields = {"reason": "Starting", "message": "it starts", **more}
    return Condition("alice", kind, Status.FALSE, generation=1, since=START + seconds(at), **fields)


def told(
    *conditions: Condition,
    after: float,
    runs: tuple[Run, ...] = RUNS,
    record: TesterRecord = RECORD,
    begun: float | None = 5,
) -> Estimate | None:
    made = None if begun is None else START + seconds(begun)
    return estimate(record, {one.type: one for one in conditions}, made, runs, START + seconds(after))


# ------------------------------------------------------------------------------------------------ time left


@pytest.mark.parametrize(
    ("conditions", "after", "milestone", "left"),
    [
        ((), 0, "", span(100, 200)),
        ((), 30, "", span(70, 170)),
        ((), 120, "", span(0, 80)),
        ((), 200, "", span(0, 0)),
        ((true("Account", 10),), 10, "Account", span(90, 180)),
        ((true("Account", 10), true("Machine", 80)), 90, "Machine", span(20, 60)),
        ((true("Machine", 80), true("Account", 90)), 90, "Account", span(90, 180)),  # the last one that was reached
        (
            (true("Account", 10), true("SignInProtected", 11)),
            12,
            "Account",
            span(88, 178),
        ),  # no step: nobody's milestone
        ((true("Account", 0),), 10, "", span(90, 190)),  # it was there when the way began
        ((true("Account", 10),), 5, "Account", span(90, 180)),  # the clock was set back
    ],
)
def test_the_last_milestone_tells_what_is_left(
    conditions: tuple[Condition, ...], after: float, milestone: str, left: Span
) -> None:
    found = told(*conditions, after=after)
    assert found is not None
    assert (found.outlook, found.runs, found.after, found.left) == (Outlook.KNOWN, 3, milestone, left)


@pytest.mark.parametrize("after", [141, 10_000])
def test_who_is_slower_than_nine_of_ten_is_told_by_how_much_and_no_time(after: float) -> None:
    found = told(true("Account", 10), true("Machine", 70), after=after)
    assert found is not None
    assert (found.outlook, found.left, found.over) == (Outlook.SLOWER, None, seconds(after - 140))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_runs_tell_nothing_but_their_number(count: int) -> None:
    found = told(true("Machine", 80), false("Gateway", 80), after=90, runs=RUNS[:count])
    assert found is not None
    assert (found.outlook, found.runs, found.left, found.over) == (Outlook.UNKNOWN, count, None, None)
    assert found.wait is not None
    assert found.wait.usual is None


def test_a_milestone_that_too_few_runs_had_gives_way_to_the_one_before() -> None:
    runs = (*RUNS[1:], replace(RUNS[0], milestones={"Account": 10}))
    found = told(true("Account", 10), true("Machine", 80), after=90, runs=runs)
    assert found is not None
    assert (found.after, found.left) == ("Account", span(10, 100))


def test_a_late_milestone_that_comes_early_for_once_does_not_bring_the_end_nearer() -> None:
    found = told(
        true("Account", 10),
        true("Gateway", 12),
        after=12,
        runs=tuple(replace(run, milestones={**run.milestones, "Gateway": run.ready}) for run in RUNS),
    )
    assert found is not None
    assert (found.after, found.left) == ("Account", span(88, 178))


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5.0, 1.0, 9.0], span(1, 9)),
        ([float(n) for n in range(1, 11)], span(1, 9)),
        ([float(n) for n in range(1, 12)], span(2, 10)),
        ([float(n) for n in range(100, 0, -1)], span(10, 90)),
    ],
)
def test_the_range_leaves_out_a_tenth_at_either_end(lengths: list[float], expected: Span) -> None:
    assert usual_span([seconds(one) for one in lengths]) == expected


# ------------------------------------------------------------------------------------------------ no estimate

PAUSE = {"reason": "demo on Friday", "by": "mik"}


@pytest.mark.parametrize(
    "phase", [Phase.READY, Phase.FAILING, Phase.STALLED, Phase.PAUSED, Phase.REMOVING, Phase.EXPIRED]
)
def test_no_estimate_in_a_phase_that_does_not_lead_to_ready_by_itself(phase: Phase) -> None:
    assert told(after=10, record=replace(RECORD, phase=phase)) is None


def test_no_estimate_for_what_the_phase_does_not_say_yet() -> None:
    assert told(after=10, record=replace(RECORD, desired=a_tester("alice", paused=PAUSE))) is None
    assert told(after=10, record=replace(RECORD, removed_at=START)) is None
    assert told(false("Machine", 5, retry_at=START + seconds(20)), after=10) is None
    assert told(false("Machine", 5, blames="an admin"), after=10) is None
    assert told(false("Machine", 5, blames="the spec"), after=10) is None
    overdue = Condition("alice", "Stalled", Status.TRUE, "Starting", "Machine: too long", 1, START)
    assert told(overdue, after=10) is None
    assert told(replace(overdue, status=Status.FALSE), after=10) is not None


def test_a_repair_has_no_usual_time_and_a_machine_made_anew_counts_from_its_own_beginning() -> None:
    was_ready = replace(RECORD, ready_at=START - timedelta(days=1), changed_at=START - timedelta(days=9))
    assert told(false("Gateway", 0), after=10, record=was_ready, begun=None) is None
    assert told(false("Gateway", 0), after=10, record=replace(was_ready, ready_at=START + seconds(5))) is None
    old = true("Account", -100_000)
    anew = told(old, false("Machine", 5), after=10, record=was_ready)
    assert anew is not None
    assert (anew.after, anew.since, anew.left) == ("", START + seconds(5), span(95, 195))


def test_standing_still_is_no_part_of_the_time_that_passed() -> None:
    moved = replace(RECORD, interrupted_at=START + timedelta(days=2))
    late = timedelta(days=2).total_seconds() + 30
    found = told(true("Account", 10), false("Machine", 20), after=late, record=moved)
    assert found is not None
    assert (found.after, found.left) == ("Account", span(60, 150))


# ------------------------------------------------------------------------------------------------ waits


def test_a_wait_has_its_usual_range_from_the_milestone_before_it() -> None:
    limit = START + timedelta(minutes=5)
    found = told(true("Account", 10), false("Machine", 15, until=limit), after=20)
    assert found is not None
    assert found.wait is not None
    assert (found.wait.type, found.wait.reason, found.wait.until) == ("Machine", "Starting", limit)
    assert found.wait.usual == span(55, 105)  # 60 to 110 s after Account, five of which lay before the wait


def test_what_ready_names_is_waited_for_while_it_is_so_else_what_waits_longest() -> None:
    ready = false("Ready", 5, message="Machine: it starts")
    others = (false("Lasting", 0), false("Gateway", 7), false("SignInApp", 6))
    for machine, expected in ((false("Machine", 20), "Machine"), (true("Machine", 20), "SignInApp")):
        found = told(ready, machine, *others, after=30)
        assert found is not None
        assert found.wait is not None
        assert found.wait.type == expected


def test_a_wait_that_no_run_had_is_unknown() -> None:
    found = told(false("SignInProtected", 15), after=20)
    assert found is not None
    assert found.wait is not None
    assert found.wait.usual is None


# ------------------------------------------------------------------------------------------------ runs


def test_a_run_keeps_the_milestones_of_its_own_way() -> None:
    steps = [true("Account", -50), true("EngineAccess", 0), true("Machine", 70)]
    run = run_of(RECORD, steps, START + seconds(5), START + seconds(100))
    assert run == Run("alice", START + seconds(100), 100, {"Machine": 70})


def test_what_teaches_nothing_is_not_kept() -> None:
    now, begun = START + seconds(100), START + seconds(5)
    assert run_of(replace(RECORD, ready_at=START + seconds(50)), [], begun, now) is None  # a repair
    assert run_of(replace(RECORD, ready_at=START + seconds(50)), [], None, now) is None
    assert run_of(replace(RECORD, interrupted_at=START + seconds(50)), [], begun, now) is None
    for phase in (Phase.STALLED, Phase.PAUSED, Phase.REMOVING):
        assert run_of(replace(RECORD, phase=phase), [], begun, now) is None
    assert run_of(replace(RECORD, interrupted_at=START - seconds(1)), [], begun, now) is not None


@pytest.mark.parametrize(
    ("ready_at", "changed_at", "begun", "expected"),
    [
        (None, 0, None, 0),
        (None, 0, 5, 0),
        (None, 50, 5, 5),  # the spec was changed in the middle: the way is still the same
        (3, 0, None, None),
        (3, 0, 2, None),
        (3, 0, 5, 5),
        (3, 4, 5, 5),
    ],
)
def test_where_a_way_begins(ready_at: float | None, changed_at: float, begun: float | None, expected: float) -> None:
    def moment(at: float | None) -> Any:
        return None if at is None else START + seconds(at)

    record = replace(RECORD, ready_at=moment(ready_at), changed_at=moment(changed_at))
    assert beginning(record, moment(begun)) == moment(expected)
