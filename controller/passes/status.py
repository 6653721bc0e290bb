"""From the outcomes of a pass to what people read: conditions, phase, progress, events, and when to look again (law 12)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from controller.backoff import backoff, patient, spread
from controller.passes.outcomes import OPERATION_RUNNING, Kind, StepOutcome
from controller.records import (
    AddEvent,
    Change,
    Condition,
    DropCondition,
    Event,
    Phase,
    PutCondition,
    SetStatus,
    Severity,
    Status,
    TesterRecord,
)
from reconcilers.actions import INSTALLING, Finding
from specs.fleet import Timing

READY = "Ready"
STALLED = "Stalled"
REACHABLE = (
    "PublicReachable"  # nobody is ready whom nobody can reach; unknown is no obstacle, for then the door is shut
)
LASTING = "Lasting"
NOT_LOOKED_AT = "NotLookedAt"
NEEDED_FINDINGS = ("SignInProtected",)  # what Ready asks for beside every step (law 4)
STOPPED = (Kind.BLOCKED, Kind.REJECTED)
UNDER_WAY = (OPERATION_RUNNING, INSTALLING)  # reasons of waits for what a try comes to
STANDSTILL = frozenset({Phase.STALLED, Phase.PAUSED, Phase.REMOVING, Phase.EXPIRED})  # no part of the way to Ready
STATUS_OF = {Kind.IN_SYNC: Status.TRUE, Kind.HELD: Status.UNKNOWN}


@dataclass(frozen=True)
class Clockwork:
    """The times that decide when to look again, and the chance that spreads them."""

    timing: Timing
    chance: random.Random


@dataclass(frozen=True)
class Verdict:
    """What a pass comes to."""

    changes: tuple[Change, ...]
    phase: Phase
    next_look: timedelta
    steps: tuple[Condition, ...]  # what each step came to


@cache
def condition_type(step: str) -> str:
    """`machine_access` → `MachineAccess`."""
    return "".join(part.capitalize() for part in step.split("_"))


def judge_step(
    record: TesterRecord, old: Mapping[str, Condition], outcome: StepOutcome, now: datetime, works: Clockwork
) -> Condition:
    """What one step's turn says, to be told while the pass goes on. `old`: as it was before the pass."""
    return _step_condition(record, old.get(condition_type(outcome.step)), outcome, now, works)


def says_what_is_told(record: TesterRecord, told: Mapping[str, Condition], outcome: StepOutcome) -> bool:
    """Whether the findings of a step in sync are what the books tell, and its condition is of this generation."""
    own = told.get(condition_type(outcome.step))
    if own is None or own.status is not Status.TRUE or own.generation != record.generation:
        return False
    return all(
        (old := told.get(each.type)) is not None and _finding_condition(record, old, each, old.since) == old
        for each in outcome.findings
    )


def tell_step(record: TesterRecord, before: Condition | None, condition: Condition, now: datetime) -> list[Change]:
    """The changes that tell it; none when it says what was told before."""
    return _condition_changes(record, {condition.type: before} if before is not None else {}, [condition], now)


def tell_progress(record: TesterRecord, conditions: Mapping[str, Condition], steps: Sequence[str]) -> SetStatus:
    """How far a tester is that is not ready yet, in the middle of a pass: never a better phase than the pass may give."""
    known = [conditions[kind] for step in steps if (kind := condition_type(step)) in conditions]
    done = sum(condition.status is Status.TRUE for condition in known)
    phase = Phase.PROGRESSING if record.phase is Phase.PENDING else record.phase
    current = _waited_for(steps, known) or record.current
    return replace(_status_as_is(record), phase=phase, progress=100 * done // len(steps), current=current)


def judge_pass(
    record: TesterRecord,
    old: Mapping[str, Condition],
    outcomes: Sequence[StepOutcome],
    now: datetime,
    works: Clockwork,
    judged: Mapping[str, Condition] | None = None,
) -> Verdict:
    """Everything that follows from a pass. Settled means quiet: only differences become changes (law 8).

    `old`: what is told at present; `judged`: what steps came to and was told during the pass already.
    """
    steps = [
        (judged or {}).get(condition_type(o.step))
        or _step_condition(record, old.get(condition_type(o.step)), o, now, works)
        for o in outcomes
    ]
    found = [_finding_condition(record, old.get(f.type), f, now) for o in outcomes for f in o.findings]
    ready = _ready(record, old.get(READY), steps, found, now)
    stalled = _stalled(record, old.get(STALLED), steps, outcomes, now)
    conditions = [*steps, *found, ready, stalled, *_lasting(record, old.get(LASTING), now, works.timing)]
    phase = _phase(record, outcomes, ready, stalled, now)
    next_look = _next_look(outcomes, steps, now, works)
    changes = [*_condition_changes(record, old, conditions, now)]
    changes += _unsaid(record, old, {condition.type for condition in conditions}, outcomes, now)
    changes += _status_change(record, outcomes, steps, phase, now)
    return Verdict(tuple(changes), phase, next_look, tuple(steps))


def _unsaid(
    record: TesterRecord,
    old: Mapping[str, Condition],
    said: set[str],
    outcomes: Sequence[StepOutcome],
    now: datetime,
) -> list[Change]:
    """What was known and nobody said this time: unknown while some step could not look (law 11), else no more. While all
    who did not look are left alone until their next try it stays, as what they came to does."""
    blind = [outcome for outcome in outcomes if outcome.kind not in (Kind.IN_SYNC, Kind.WAITING)]
    unsaid = [condition for kind, condition in old.items() if kind not in said]
    if not blind or record.leaving:
        return [DropCondition(record.name, condition.type) for condition in unsaid]
    if all(outcome.left_alone for outcome in blind):
        return []
    unknown = [_plain(record, known, known.type, Status.UNKNOWN, NOT_LOOKED_AT, known.message, now) for known in unsaid]
    return [PutCondition(condition) for condition in unknown if old[condition.type] != condition]


def _step_condition(
    record: TesterRecord, old: Condition | None, outcome: StepOutcome, now: datetime, works: Clockwork
) -> Condition:
    if outcome.left_alone and old is not None:
        return old
    status = STATUS_OF.get(outcome.kind, Status.FALSE)
    same = old is not None and (old.status, old.reason) == (status, outcome.reason)
    since = old.since if same and old is not None else now
    failures = _failures(old, outcome)
    until, retry_at = None, None
    if outcome.kind is Kind.WAITING and outcome.limit is not None:
        until = since + outcome.limit
    if outcome.kind is Kind.FAILING:
        timing = works.timing
        pause = backoff(failures, timing.backoff_base, timing.backoff_ceiling, works.chance)
        # What came of a call is looked for at once; a call that ends so again and again is made more and more seldom.
        soon = outcome.again if failures == 1 or outcome.urgent else None
        retry_at = until = now + (pause if soon is None else soon)
    if outcome.kind in STOPPED and outcome.again is not None:
        retry_at = until = now + outcome.again
    message = outcome.message
    if until is not None and outcome.kind is Kind.WAITING and now > until:
        message = f"{message}; this takes longer than the {_span(outcome.limit)} it may take"
    return Condition(
        tester=record.name,
        type=condition_type(outcome.step),
        status=status,
        reason=outcome.reason,
        message=message,
        generation=record.generation,
        since=since,
        until=until,
        blames=outcome.blames,
        failures=failures,
        retry_at=retry_at,
    )


def _failures(old: Condition | None, outcome: StepOutcome) -> int:
    """In a row. The next try of what takes minutes does not end the row: only how it comes out does (lesson 35)."""
    before = old.failures if old is not None else 0
    if outcome.kind is Kind.FAILING:
        return before + 1
    return before if outcome.reason in UNDER_WAY else 0


def _finding_condition(record: TesterRecord, old: Condition | None, finding: Finding, now: datetime) -> Condition:
    status = {True: Status.TRUE, False: Status.FALSE, None: Status.UNKNOWN}[finding.status]
    return _plain(record, old, finding.type, status, finding.reason, finding.message, now)


def _plain(
    record: TesterRecord, old: Condition | None, kind: str, status: Status, reason: str, message: str, now: datetime
) -> Condition:
    same = old is not None and (old.status, old.reason) == (status, reason)
    since = old.since if same and old is not None else now
    return Condition(record.name, kind, status, reason, message, record.generation, since)


def _ready(
    record: TesterRecord, old: Condition | None, steps: Sequence[Condition], found: Sequence[Condition], now: datetime
) -> Condition:
    needed = [c for c in found if c.type in NEEDED_FINDINGS or (c.type == REACHABLE and c.status is Status.FALSE)]
    lacking = [c for c in (*steps, *needed) if c.status is not Status.TRUE]
    unproven = [name for name in NEEDED_FINDINGS if all(c.type != name for c in needed)]
    if record.leaving:
        return _plain(record, old, READY, Status.FALSE, "Leaving", "the tester is being removed", now)
    if lacking:
        first = min(lacking, key=_gravity)
        return _plain(record, old, READY, Status.FALSE, first.reason, f"{first.type}: {first.message}", now)
    if unproven or not steps:
        return _plain(record, old, READY, Status.FALSE, "Unproven", "the front door is not proven yet", now)
    return _plain(record, old, READY, Status.TRUE, "Ready", "everything is as the spec says", now)


def _gravity(condition: Condition) -> tuple[bool, bool]:
    """What Ready names first: a real failure or wait before steps that merely have not run."""
    return (condition.status is Status.UNKNOWN, False)


def _lasting(record: TesterRecord, old: Condition | None, now: datetime, timing: Timing) -> list[Condition]:
    """For a tester with a last day: whether that day is still far."""
    last = record.desired.expires
    if last is None:
        return []
    soon = now.date() > last - timing.expiry_warning
    reason = "Expired" if now.date() > last else "ExpiresSoon" if soon else "ExpiresLater"
    status = Status.FALSE if soon else Status.TRUE
    text = f"its last day is {last}; then it is removed, unless its file names a later one"
    return [_plain(record, old, LASTING, status, reason, text, now)]


def _stalled(
    record: TesterRecord,
    old: Condition | None,
    steps: Sequence[Condition],
    outcomes: Sequence[StepOutcome],
    now: datetime,
) -> Condition:
    """What only a person moves, and a wait that is over its limit; but not one beside what fails and is tried again, for
    which it may be waiting."""
    tried = any(condition.failures for condition in steps)
    for condition, outcome in zip(steps, outcomes, strict=True):
        waits = outcome.kind is Kind.WAITING and not tried
        overdue = waits and condition.until is not None and now > condition.until
        if outcome.kind in STOPPED or overdue:
            return _plain(
                record, old, STALLED, Status.TRUE, outcome.reason, f"{condition.type}: {condition.message}", now
            )
    return _plain(record, old, STALLED, Status.FALSE, "Moving", "nothing waits for a person", now)


def _phase(
    record: TesterRecord, outcomes: Sequence[StepOutcome], ready: Condition, stalled: Condition, now: datetime
) -> Phase:
    kinds = {outcome.kind for outcome in outcomes}
    if record.leaving:
        left = any(outcome.kind is not Kind.IN_SYNC for outcome in outcomes)
        return Phase.REMOVING if left or not record.named else Phase.EXPIRED
    if is_paused(record, now):
        return Phase.PAUSED
    if ready.status is Status.TRUE:
        return Phase.READY
    if stalled.status is Status.TRUE:
        return Phase.STALLED
    if Kind.FAILING in kinds:
        return Phase.FAILING
    if Kind.WAITING in kinds:
        return Phase.WAITING
    return Phase.PROGRESSING


def is_paused(record: TesterRecord, now: datetime) -> bool:
    """Whether the spec pauses the tester today; a pause ends by itself after its last day."""
    pause = record.desired.paused
    return pause is not None and (pause.until is None or now.date() <= pause.until)


def _next_look(
    outcomes: Sequence[StepOutcome],
    steps: Sequence[Condition],
    now: datetime,
    works: Clockwork,
) -> timedelta:
    """The soonest of what each step asks for; after a pass that did something, soon, so that the next one verifies it."""
    timing = works.timing
    asked = [spread(timing.resync, works.chance)]
    for outcome, condition in zip(outcomes, steps, strict=True):
        if outcome.again is not None and outcome.kind is not Kind.FAILING:
            asked.append(_patiently(outcome, outcome.again, now - condition.since))
        if condition.retry_at is not None:
            asked.append(max(condition.retry_at - now, timedelta(0)))
        if outcome.kind is Kind.BLOCKED:
            asked.append(spread(timing.backoff_ceiling, works.chance))
    if any(outcome.did for outcome in outcomes):
        asked.append(timing.poll)
    return min(asked)


def _patiently(outcome: StepOutcome, again: timedelta, waited: timedelta) -> timedelta:
    """A door that may stand open meanwhile is looked at as often as ever."""
    return again if outcome.kind is not Kind.WAITING or outcome.urgent else patient(again, waited)


def _condition_changes(
    record: TesterRecord, old: Mapping[str, Condition], new: Iterable[Condition], now: datetime
) -> list[Change]:
    changes: list[Change] = []
    for condition in new:
        before = old.get(condition.type)
        if before != condition:
            changes.append(PutCondition(condition))
        if (
            before is None or (before.status, before.reason) != (condition.status, condition.reason)
        ) and _worth_telling(condition):
            changes.append(AddEvent(_event(record, condition, now)))
    return changes


def _worth_telling(condition: Condition) -> bool:
    return condition.status is not Status.UNKNOWN and not (
        condition.type == STALLED and condition.status is Status.FALSE
    )


def _event(record: TesterRecord, condition: Condition, now: datetime) -> Event:
    bad = (
        condition.retry_at is not None
        or condition.type == STALLED
        or (condition.type in (*NEEDED_FINDINGS, LASTING) and condition.status is Status.FALSE)
    )
    severity = Severity.WARNING if bad else Severity.NORMAL
    text = f"{condition.type}: {condition.message}"
    return Event(record.name, condition.type, condition.reason, text, now, severity, record.generation)


def _status_change(
    record: TesterRecord, outcomes: Sequence[StepOutcome], steps: Sequence[Condition], phase: Phase, now: datetime
) -> list[Change]:
    done = sum(condition.status is Status.TRUE for condition in steps)
    progress = 100 * done // len(steps) if steps else 0
    current = _waited_for([outcome.step for outcome in outcomes], steps)
    # Only the next try after a failure is worth writing down: polls and resyncs would make quiet passes write (law 8).
    next_try = min((c.retry_at for c in steps if c.retry_at is not None), default=None)
    moved = phase is not record.phase
    status = SetStatus(
        record.name,
        phase,
        progress,
        current,
        record.generation,
        next_try,
        ready_at=now if moved and phase is Phase.READY else record.ready_at,
        interrupted_at=now if moved and STANDSTILL & {phase, record.phase} else record.interrupted_at,
    )
    return [] if status == _status_as_is(record) else [status]


def _status_as_is(record: TesterRecord) -> SetStatus:
    return SetStatus(
        record.name,
        record.phase,
        record.progress,
        record.current,
        record.observed_generation,
        record.next_look_at,
        record.ready_at,
        record.interrupted_at,
    )


def _waited_for(steps: Sequence[str], conditions: Sequence[Condition]) -> str:
    """The first step, in the graph's order, that is not in sync and says why; else the first that has not run."""
    names = {condition_type(step): step for step in steps}
    for status in (Status.FALSE, Status.UNKNOWN):
        for condition in conditions:
            if condition.status is status:
                return f"{names[condition.type]}: {condition.message}"
    return ""


def _span(span: timedelta | None) -> str:
    if span is None:
        return "time"
    seconds = int(span.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
