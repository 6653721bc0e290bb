"""From outcomes to what people read: worst first, quiet when nothing differs, and always a next look."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.passes.outcomes import OPERATION_RUNNING, Kind, StepOutcome, held, in_sync
from controller.passes.status import Clockwork, Verdict, condition_type, is_paused, judge_pass
from controller.records import AddEvent, Condition, DropCondition, Phase, PutCondition, SetStatus, Severity, Status
from controller.store import Store
from reconcilers.actions import INSTALLING, Finding
from tests.controller.fakes import FLEET, START, FakeStep, ManualClock, Outside, a_tester, record_of, rig

TIMING = FLEET.spec.timing
WORKS = Clockwork(TIMING, random.Random(1))
RECORD = record_of(a_tester("alice"))
PROTECTED = Finding("SignInProtected", True, "Probed", "every path asks for sign-in")
MINUTE = timedelta(minutes=1)


def judged(*outcomes: StepOutcome, old: Mapping[str, Condition] | None = None, after: timedelta = MINUTE) -> Verdict:
    return judge_pass(RECORD, old or {}, outcomes, START + after, WORKS)


def conditions(verdict: Verdict) -> dict[str, Condition]:
    return {c.condition.type: c.condition for c in verdict.changes if isinstance(c, PutCondition)}


def failing(**more: int) -> StepOutcome:
    return replace(StepOutcome("machine", Kind.FAILING, "Transient", "busy", "the grid"), **more)  # type: ignore[arg-type]


def test_ready_is_every_step_and_the_proof_of_the_door() -> None:
    gate = replace(in_sync("sign_in_gate"), findings=(PROTECTED,))
    verdict = judged(in_sync("machine"), gate)
    assert verdict.phase is Phase.READY
    assert conditions(verdict)["Ready"].status is Status.TRUE
    for lacking in (in_sync("sign_in_gate"), replace(gate, findings=(replace(PROTECTED, status=None),))):
        assert conditions(judged(in_sync("machine"), lacking))["Ready"].status is Status.FALSE
    assert conditions(judged(gate, held("machine", "WaitsForStep", "waits")))["Ready"].status is Status.FALSE


def test_ready_names_what_fails_before_what_merely_waits_for_it() -> None:
    ready = conditions(judged(held("gateway", "WaitsForStep", "waits for machine"), failing()))["Ready"]
    assert (ready.reason, ready.message) == ("Transient", "Machine: busy")


def test_what_stays_unknown_is_tried_more_and_more_seldom() -> None:
    """Once, what came of a call is looked for at once. A delete that a dead relay answers for days is not hammered."""
    unknown = replace(failing(), reason="OutcomeUnknown", again=timedelta(seconds=2))
    first = judged(unknown)
    assert conditions(first)["Machine"].retry_at == START + MINUTE + timedelta(seconds=2)
    old, pauses = conditions(first), []
    for _ in range(8):
        verdict = judged(unknown, old={**old})
        old = conditions(verdict)
        retry_at = old["Machine"].retry_at
        assert retry_at is not None
        pauses.append(retry_at - (START + MINUTE))
        assert verdict.next_look <= pauses[-1]
    assert pauses[-1] > timedelta(minutes=3)


def test_the_same_outcomes_again_change_nothing() -> None:
    outcomes = (replace(in_sync("sign_in_gate"), findings=(PROTECTED,)), in_sync("machine"))
    first = judged(*outcomes)
    status = next(change for change in first.changes if isinstance(change, SetStatus))
    record = replace(
        RECORD,
        phase=status.phase,
        progress=status.progress,
        current=status.current,
        observed_generation=status.observed_generation,
        next_look_at=status.next_look_at,
    )
    again = judge_pass(record, conditions(first), outcomes, START + timedelta(hours=5), WORKS)
    assert again.changes == ()


def test_since_moves_with_status_or_reason_only() -> None:
    first = conditions(judged(failing()))["Machine"]
    same = conditions(judged(failing(), old={"Machine": first}, after=MINUTE * 5))["Machine"]
    assert same.since == first.since
    other = replace(failing(), reason="Unreachable")
    assert conditions(judged(other, old={"Machine": first}, after=MINUTE * 5))["Machine"].since == START + MINUTE * 5


@pytest.mark.parametrize("under_way", [OPERATION_RUNNING, INSTALLING])
def test_failures_are_counted_through_the_tries_between_them_and_end_with_a_success(under_way: str) -> None:
    old: dict[str, Condition] = {}
    running = StepOutcome("machine", Kind.WAITING, under_way, "under way", limit=MINUTE)
    for expected, outcome in ((1, failing()), (1, running), (2, failing()), (2, running), (3, failing())):
        old = conditions(judged(outcome, old=old))
        assert old["Machine"].failures == expected
    assert conditions(judged(in_sync("machine"), old=old))["Machine"].failures == 0


@pytest.mark.parametrize("kind", [Kind.BLOCKED, Kind.REJECTED])
def test_a_stopped_step_stalls_and_what_it_waits_for_is_said(kind: Kind) -> None:
    verdict = judged(StepOutcome("machine", kind, "NoCapacity", "no room", "an admin"))
    stalled = conditions(verdict)["Stalled"]
    assert (stalled.status, stalled.reason, stalled.message) == (Status.TRUE, "NoCapacity", "Machine: no room")
    assert verdict.phase is Phase.STALLED
    assert conditions(verdict)["Machine"].retry_at is None
    (event,) = [c.event for c in verdict.changes if isinstance(c, AddEvent) and c.event.step == "Stalled"]
    assert event.severity is Severity.WARNING


def test_a_refused_call_is_left_alone_for_the_time_that_it_asks_for() -> None:
    refused = StepOutcome("machine", Kind.REJECTED, "NoImage", "no such image", again=MINUTE * 3)
    machine = conditions(judged(refused))["Machine"]
    assert machine.retry_at == START + MINUTE * 4
    left = replace(refused, kind=Kind.BLOCKED, left_alone=True, again=None)
    later = judged(left, old={"Machine": machine}, after=MINUTE * 2)
    assert "Machine" not in conditions(later)
    assert later.next_look <= MINUTE * 2


def test_what_a_step_found_stays_while_it_is_left_alone_and_is_unknown_when_it_could_not_look() -> None:
    """Else it would come and go between the tries of what keeps failing, with an event each time."""
    broken = Finding("ComponentsHealthy", False, "ComponentFailing", "hero_books: its install failed")
    first = conditions(judged(replace(failing(), findings=(broken,))))
    alone = judged(replace(failing(), left_alone=True), old=first)
    assert not [change for change in alone.changes if not isinstance(change, SetStatus)]
    for outcomes in ((failing(),), (replace(failing(), left_alone=True), held("gateway", "WaitsForStep", "waits"))):
        unknown = conditions(judged(*outcomes, old=first))["ComponentsHealthy"]
        assert (unknown.status, unknown.reason) == (Status.UNKNOWN, "NotLookedAt")


def test_a_wait_beyond_its_limit_stalls_and_does_not_write_with_every_look() -> None:
    wait = StepOutcome("machine", Kind.WAITING, "Starting", "it starts", "the grid", limit=MINUTE * 5)
    first = conditions(judged(wait))
    late = judged(wait, old=first, after=MINUTE * 7)
    assert conditions(late)["Stalled"].status is Status.TRUE
    assert late.phase is Phase.STALLED, "a person is told: it may go on by itself, and should have by now"
    assert "longer than the 5 min" in conditions(late)["Machine"].message
    known = first | conditions(late)
    assert conditions(judged(wait, old=known, after=MINUTE * 20)) == {}


def test_a_wait_beyond_its_limit_beside_what_is_tried_again_stalls_nobody() -> None:
    """The letter waits for the components, whose install fails: that is what is told, also while it is under way again."""
    waits = StepOutcome("welcome", Kind.WAITING, "WaitingForReady", "waits for the components", limit=MINUTE * 5)
    first = conditions(judged(failing(), waits))
    again = StepOutcome("machine", Kind.WAITING, "Installing", "being installed", "the machine", limit=MINUTE * 60)
    for outcome, phase in ((failing(), Phase.FAILING), (again, Phase.WAITING)):
        late = judged(outcome, waits, old=first, after=MINUTE * 7)
        assert "longer than the 5 min" in conditions(late)["Welcome"].message
        assert "Stalled" not in conditions(late), "it stays as it was"
        assert late.phase is phase


@pytest.mark.parametrize(
    ("outcome", "least", "most"),
    [
        (in_sync("machine"), MINUTE * 8, MINUTE * 12),
        (in_sync("machine", did=1), TIMING.poll, TIMING.poll),
        (failing(), timedelta(seconds=3.75), timedelta(seconds=6.25)),
        (StepOutcome("machine", Kind.WAITING, "X", "x", again=MINUTE), MINUTE, MINUTE),
        (StepOutcome("machine", Kind.BLOCKED, "X", "x"), MINUTE * 8, MINUTE * 12),
    ],
)
def test_there_is_always_a_next_look(outcome: StepOutcome, least: timedelta, most: timedelta) -> None:
    assert least <= judged(outcome).next_look <= most


def test_who_waits_for_long_is_looked_at_less_often_unless_a_door_may_stand_open() -> None:
    wait = StepOutcome("machine", Kind.WAITING, "Removing", "until it is gone", again=TIMING.poll)
    old = conditions(judged(wait, after=timedelta(0)))
    after = {minutes: judged(wait, old=old, after=MINUTE * minutes).next_look for minutes in (0, 1, 10, 120)}
    assert after == {0: TIMING.poll, 1: TIMING.poll, 10: MINUTE / 5, 120: MINUTE}
    assert judged(replace(wait, urgent=True), old=old, after=MINUTE * 120).next_look == TIMING.poll


def test_a_condition_that_nobody_declares_any_more_goes() -> None:
    old = conditions(judged(replace(in_sync("machine"), findings=(replace(PROTECTED, type="AsOrdered"),))))
    assert DropCondition("alice", "AsOrdered") in judged(in_sync("machine"), old=old).changes


def test_a_pause_ends_after_its_last_day() -> None:
    paused = record_of(a_tester("alice", paused={"reason": "demo", "by": "mik", "until": "2026-11-20"}))
    assert is_paused(paused, START.replace(hour=23, minute=59))
    assert not is_paused(paused, START + timedelta(hours=12))
    assert judge_pass(paused, {}, (in_sync("machine"),), START, WORKS).phase is Phase.PAUSED


def test_who_leaves_is_never_ready() -> None:
    leaving = replace(RECORD, removed_at=START, source_file="")
    verdict = judge_pass(leaving, {}, (replace(in_sync("gate"), findings=(PROTECTED,)),), START, WORKS)
    assert verdict.phase is Phase.REMOVING
    assert conditions(verdict)["Ready"].reason == "Leaving"


def test_names_of_conditions() -> None:
    assert condition_type("machine_access") == "MachineAccess"


async def test_nobody_is_ready_whom_nobody_can_reach(store: Store, clock: ManualClock) -> None:
    class Unreachable(FakeStep):
        def findings(self, desired: Any, observed: Any, facts: Any) -> tuple[Finding, ...]:
            told = Finding("PublicReachable", False, "GridRouting", "alive inside, dead outside")
            return (Finding("SignInProtected", True, "Proven", "every path asks for sign-in"), told)

    outside = Outside()
    one = rig(store, clock, [Unreachable("gateway", outside)], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    assert await one.condition("Ready") == ("False", "GridRouting")


def test_an_open_door_that_cannot_be_shut_is_tried_at_every_poll() -> None:
    """However many tries have failed: the backoff is not for it."""
    stuck, old, now = replace(failing(), again=TIMING.poll, urgent=True), dict[str, Condition](), START
    for _ in range(12):
        verdict = judge_pass(RECORD, old, [stuck], now, WORKS)
        assert verdict.next_look == TIMING.poll
        old = {each.type: each for each in verdict.steps}
        now += verdict.next_look
    assert old["Machine"].failures == 12
