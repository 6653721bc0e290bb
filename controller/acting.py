"""Does one action: write down, then call, then write down how it ended (laws 2 and 3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from controller.operations import Operation, Operations
from controller.records import (
    AddEvent,
    Change,
    DropFacts,
    Event,
    JournalEntry,
    Outcome,
    PutJournal,
    PutObject,
    Seal,
    Severity,
    Void,
)
from controller.rows import DELETED, TAKEN, as_now, current
from controller.snapshot import Snapshot
from controller.world import Step
from reconcilers.actions import Action, Effect
from reconcilers.clock import Clock
from reconcilers.errors import NameTaken, OutcomeUnknown, OutsideError
from reconcilers.facts import ObjectState, OutsideObject, StepFacts
from reconcilers.secret import HIDDEN, Secret

log = logging.getLogger("controller")

EVENT_REASONS = {Effect.CREATE: "Created", Effect.DELETE: "Deleted", Effect.CHANGE: "Changed"}


class Draining(Exception):
    """The process is asked to stop: no new action is begun."""


@dataclass
class Hands:
    """What acting needs of the engine."""

    clock: Clock
    operations: Operations
    stopping: Callable[[], bool]
    grace: timedelta  # how long a listing may lag behind a call's end


@dataclass
class StepPorts:
    """The ports of one action (`reconcilers.contract.Ports`): every one is durable when it returns."""

    snapshot: Snapshot
    step: str
    clock: Clock

    async def seal(self, name: str, value: Secret) -> None:
        await self.snapshot.commit(self.step, Seal(f"{self.snapshot.name}/{name}", value, self.clock.now()))

    async def record(self, facts: StepFacts) -> None:
        await self.snapshot.learn(self.step, facts)

    async def note(self, text: str) -> None:
        event = Event(self.snapshot.name, self.step, "Note", text, self.clock.now())
        await self.snapshot.commit(self.step, AddEvent(event))


async def perform(
    action: Action, step: Step, row: OutsideObject | None, snapshot: Snapshot, hands: Hands, *, drift: bool
) -> Operation | None:
    """Do one action. Returns the operation when it goes on beside the pass, None when it is done.

    Raises what the backend raises, after the books say how it ended. `drift`: the step was in sync before.
    """
    if hands.stopping():
        raise Draining
    entry = await _write_down(action, step, row, snapshot, hands)

    async def call() -> None:
        await _call(action, step, row, snapshot, hands, entry, drift)

    if action.limit is None:
        await call()
        return None
    what = f"{action.verb} {action.target}"
    operation = Operation(snapshot.name, step.name, what, entry.began_at, action.limit)
    hands.operations.start(operation, call)
    return operation


async def _write_down(
    action: Action, step: Step, row: OutsideObject | None, snapshot: Snapshot, hands: Hands
) -> JournalEntry:
    """Commit the intent: journal entry, the row's state, and which sealed secrets are void from now on."""
    now = hands.clock.now()
    limit_at = now + (action.limit or timedelta(0)) + hands.grace
    entry = JournalEntry(
        id=uuid4().hex,
        tester=snapshot.name,
        step=step.name,
        verb=action.verb,
        target=action.target,
        began_at=now,
        limit_at=limit_at,
        detail=in_words(action),
        generation=snapshot.record.generation,
    )
    changes: list[Change] = [PutJournal(entry)]
    if row is not None and action.effect is Effect.CREATE:
        changes.append(PutObject(replace(row, state=ObjectState.INTENDED, since=now, deadline=limit_at)))
    if row is not None and action.effect is Effect.DELETE:
        since = row.since if row.state is ObjectState.RETIRING else now
        changes.append(PutObject(replace(row, state=ObjectState.RETIRING, since=since, missing_since=None)))
        if not snapshot.record.leaving and row == current(snapshot, step.name):
            changes.append(DropFacts(snapshot.name, step.name))
    changes += [Void(f"{snapshot.name}/{name}") for name in action.voids]
    await snapshot.commit(step.name, *changes)
    return entry


async def _call(
    action: Action,
    step: Step,
    row: OutsideObject | None,
    snapshot: Snapshot,
    hands: Hands,
    entry: JournalEntry,
    drift: bool,
) -> None:
    held = None if row is None else as_now(snapshot, row)
    try:
        seen = await step.apply(action, snapshot.view(held), StepPorts(snapshot, step.name, hands.clock))
    except OutcomeUnknown as error:
        await _close(snapshot, hands, entry, Outcome.UNKNOWN, str(error))
        raise
    except OutsideError as error:
        # A definite no, or a failure that had no effect: a create leaves nothing behind.
        settled = _unmade(action, held, hands, error)
        await _close(snapshot, hands, entry, Outcome.REFUSED, str(error), *settled)
        raise
    except asyncio.CancelledError:
        why = "the controller was stopped during the call"
        await asyncio.shield(_close(snapshot, hands, entry, Outcome.UNKNOWN, why))
        raise
    except Exception as error:
        # A mistake of ours. The call may have been made, so it is unknown; only its type is told: texts may hold values.
        log.exception("%s: %s %s failed unexpectedly", snapshot.name, action.verb, action.target)
        await _close(snapshot, hands, entry, Outcome.UNKNOWN, f"internal error: {type(error).__name__}")
        raise OutcomeUnknown(
            f"{action.verb} {action.target} ended in an internal error ({type(error).__name__}); the log has it",
            system="controller",
            reason="InternalError",
        ) from error
    await _done(action, step, held, seen, snapshot, hands, entry, drift)


async def _done(
    action: Action,
    step: Step,
    row: OutsideObject | None,
    seen: Any,
    snapshot: Snapshot,
    hands: Hands,
    entry: JournalEntry,
    drift: bool,
) -> None:
    """What the call returned is stored before anything else happens (lesson 8)."""
    now = hands.clock.now()
    changes: list[Change] = [PutJournal(replace(entry, outcome=Outcome.DONE, ended_at=now))]
    if action.effect is Effect.CREATE and row is not None and seen is not None:
        row = replace(row, state=ObjectState.EXISTING, since=now, identity=step.identity(seen), missing_since=None)
        changes.append(PutObject(row))
    if action.effect is Effect.DELETE and row is not None:
        changes.append(PutObject(replace(row, identity={**row.identity, DELETED: now.isoformat()})))
    reason = action.reason or ("DriftRepaired" if drift else EVENT_REASONS[action.effect])
    event = Event(snapshot.name, step.name, reason, in_words(action), now, generation=entry.generation)
    changes.append(AddEvent(event))
    facts = None
    if seen is not None and action.effect is not Effect.DELETE:
        facts = step.learn(seen, snapshot.facts(row))
    await snapshot.learn(step.name, facts, at_least=tuple(changes))


async def _close(
    snapshot: Snapshot, hands: Hands, entry: JournalEntry, outcome: Outcome, detail: str, *more: Change
) -> None:
    now = hands.clock.now()
    event = Event(
        snapshot.name,
        entry.step,
        "OutcomeUnknown" if outcome is Outcome.UNKNOWN else "ActionFailed",
        f"{entry.verb} {entry.target}: {detail}",
        now,
        Severity.WARNING,
        entry.generation,
    )
    closed = replace(entry, outcome=outcome, ended_at=now, detail=detail)
    await snapshot.commit(entry.step, PutJournal(closed), AddEvent(event), *more)


def _unmade(action: Action, row: OutsideObject | None, hands: Hands, error: OutsideError) -> tuple[Change, ...]:
    if action.effect is not Effect.CREATE or row is None or row.state is not ObjectState.INTENDED:
        return ()
    identity = TAKEN if isinstance(error, NameTaken) else {}
    return (PutObject(replace(row, state=ObjectState.GONE, since=hands.clock.now(), deadline=None, identity=identity)),)


def in_words(action: Action) -> str:
    """One line on what an action does: for events and the journal. Secrets are hidden already."""
    fields = "; ".join(f"{c.path}: {_shown(c.before)} → {_shown(c.after)}" for c in action.changes)
    return f"{action.verb} {action.target}" + (f" ({fields})" if fields else "")


def _shown(value: str | None) -> str:
    if value is None:
        return "–"
    return value if value == HIDDEN or len(value) <= 120 else value[:117] + "…"
