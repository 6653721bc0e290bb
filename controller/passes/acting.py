"""Does one action: write down, then call, then write down how it ended (laws 2 and 3)."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from controller.passes.operations import Operation, Operations, RowKey
from controller.passes.rows import TAKEN, UNSENT, as_now, current, deleted, sent_now, without_marks
from controller.passes.snapshot import Snapshot
from controller.records import (
    AddEvent,
    Change,
    DropFacts,
    Event,
    JournalEntry,
    OnlyWhile,
    Outcome,
    PutJournal,
    PutObject,
    Seal,
    Severity,
    Unseal,
    Void,
)
from controller.store import SpecChanged, StoreError
from controller.store.fencing import NotOurs
from controller.world import Step, World
from reconcilers.actions import UPDATE_STARTED, Action, Disruption, Effect
from reconcilers.backends.haste import haste
from reconcilers.backends.limits import asked_before_writing
from reconcilers.clock import Clock
from reconcilers.errors import NameTaken, OutcomeUnknown, OutsideError, Transient
from reconcilers.facts import MachineFacts, ObjectState, OutsideObject, Promise, StepFacts
from reconcilers.looks import Looks
from reconcilers.quarantine import PLACED
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
    world: World
    chance: random.Random

    def new_id(self) -> str:
        """32 hex digits that nothing else has: a journal entry's id, and an idempotency key."""
        return f"{self.chance.getrandbits(128):032x}"

    @property
    def grace(self) -> timedelta:
        """How long a listing may lag behind a call's end."""
        return self.world.fleet.spec.timing.listing_grace


@dataclass
class StepPorts:
    """The ports of one action (`reconcilers.contract.Ports`): every one is durable when it returns.

    sent    its call had its turn: whatever happens now, it may have its effect
    as_was  by what was sealed or recorded for it: the change that brings back what stood there before
    """

    snapshot: Snapshot
    step: str
    clock: Clock
    row: OutsideObject | None  # that the action is about
    looks: Looks
    sent: bool = False
    as_was: dict[str, Change] = field(default_factory=dict)

    async def seal(self, name: str, value: Secret) -> None:
        full, now = f"{self.snapshot.name}/{name}", self.clock.now()
        known = self.snapshot.facts().secrets.get(full)
        self.as_was.setdefault(full, Unseal(full) if known is None else Seal(full, known, now))
        await self.snapshot.commit(self.step, Seal(full, value, now))

    async def record(self, facts: StepFacts) -> None:
        known = self.snapshot.facts().steps.get(facts.step)
        before = DropFacts(self.snapshot.name, facts.step) if known is None else self.snapshot.fact_change(known)
        self.as_was.setdefault(facts.step, before)
        await self.snapshot.learn(self.step, facts)

    async def erase(self, name: str) -> None:
        await self.snapshot.commit(self.step, Unseal(f"{self.snapshot.name}/{name}"))

    async def place(self, identity: dict[str, str]) -> None:
        if self.row is None:
            raise LookupError(f"{self.step} makes nothing that has a place")
        row = as_now(self.snapshot, self.row)
        placed = {**row.identity, **identity, PLACED: self.clock.now().isoformat()}
        await self.snapshot.commit(self.step, PutObject(replace(row, identity=placed)))

    def placing(self) -> AbstractAsyncContextManager[None]:
        return self.looks.placing

    async def promises(self) -> tuple[Promise, ...]:
        return await self.looks.promised()

    async def claim_forge(self, owner: str) -> str:
        return await self.snapshot.claim_forge(self.step, owner)

    async def note(self, text: str) -> None:
        event = Event(self.snapshot.name, self.step, "Note", text, self.clock.now())
        await self.snapshot.commit(self.step, AddEvent(event))


@dataclass(frozen=True)
class Deed:
    """One action of one step about one row, on its way. `drift`: the step was in sync before, so this repairs."""

    action: Action
    step: Step
    row: OutsideObject | None
    snapshot: Snapshot
    hands: Hands
    drift: bool

    @property
    def what(self) -> str:
        return f"{self.action.verb} {self.action.target}"

    async def perform(self) -> Operation | None:
        """Do it. Returns the operation when it goes on beside the pass, None when it is done.

        Raises what the backend raises, after the books say how it ended; Draining when the process is stopping; SpecChanged
        when it would take away something that the spec may not want to go any more.
        """
        if self.hands.stopping():
            raise Draining
        if self.action.urgent:
            haste().comes()
        entry = await self._write_down()
        if self.action.limit is None:
            await self._call(entry)
            return None
        operation = Operation(
            self.snapshot.name,
            self.step.name,
            self.what,
            entry.began_at,
            self.action.limit,
            row=key_of(self.row),
            makes=self.action.effect is Effect.CREATE,
        )
        self.hands.operations.start(operation, lambda: self._call_beside(entry, operation))
        return operation

    async def _write_down(self) -> JournalEntry:
        """Commit the intent: journal entry, the row's state, and which sealed secrets are void from now on."""
        action, snapshot, row = self.action, self.snapshot, self.row
        now = self.hands.clock.now()
        limit_at = self._limit_at(now)
        entry = JournalEntry(
            id=self.hands.new_id(),
            tester=snapshot.name,
            step=self.step.name,
            verb=action.verb,
            target=action.target,
            began_at=now,
            limit_at=limit_at,
            detail=in_words(action),
            generation=snapshot.record.generation,
        )
        changes: list[Change] = [*self._only_while(), PutJournal(entry)]
        if row is not None and action.effect is Effect.CREATE:
            # A call of minutes may wait for others as long: until it has its turn, who finds the row knows that it was not sent.
            told = row.identity if action.limit is None else {**row.identity, UNSENT: entry.id}
            intended = replace(row, state=ObjectState.INTENDED, since=now, deadline=limit_at, identity=told)
            changes.append(PutObject(intended))
        if row is not None and action.effect is Effect.DELETE:
            since = row.since if row.state is ObjectState.RETIRING else now
            told = {**row.identity, **dict(action.marks)}
            retired = replace(row, state=ObjectState.RETIRING, since=since, missing_since=None, identity=told)
            changes.append(PutObject(retired))
            if not snapshot.record.leaving and row == current(snapshot, self.step.name):
                changes.append(DropFacts(snapshot.name, self.step.name))
        changes += [Void(f"{snapshot.name}/{name}") for name in action.voids]
        if action.records is not None:
            changes.append(snapshot.fact_change(action.records))
        await snapshot.commit(self.step.name, *changes)
        return entry

    def _limit_at(self, began_at: datetime) -> datetime:
        """Until when the absence of what a call makes proves nothing."""
        return began_at + (self.action.limit or timedelta(0)) + self.hands.grace

    def _only_while(self) -> tuple[Change, ...]:
        """A look may have taken minutes: what destroys is begun only while the spec still is what it was planned for. A door
        is shut whatever the spec says."""
        action, record = self.action, self.snapshot.record
        destroys = action.effect is Effect.DELETE or action.disruption in (Disruption.REBUILD, Disruption.REMOVE)
        if action.urgent or not destroys:
            return ()
        return (OnlyWhile(record.name, record.generation, record.leaving),)

    async def _call_beside(self, entry: JournalEntry, operation: Operation) -> None:
        """An operation outlives its pass, so it keeps its world open itself: a new Fleet must not cut the call off."""
        world = self.hands.world
        world.users += 1
        try:
            await self._call(entry, operation)
        finally:
            await world.leave()

    async def _call(self, entry: JournalEntry, operation: Operation | None = None) -> None:
        held = None if self.row is None else as_now(self.snapshot, self.row)
        ports = StepPorts(self.snapshot, self.step.name, self.hands.clock, held, self.hands.world.looks)
        try:
            seen = await self._applied(held, ports)
        except OutcomeUnknown as error:
            await whole(self._close(entry, Outcome.UNKNOWN, str(error), *self._still_open()))
            raise
        except OutsideError as error:
            # A definite no, or a failure that had no effect: a create leaves nothing behind, a delete takes nothing away.
            await whole(self._close(entry, Outcome.REFUSED, str(error), *self._unmade(held, error)))
            raise
        except asyncio.CancelledError:
            cut = operation.cut if operation is not None else ""
            why = f"it is not waited for any longer: {cut}" if cut else "the controller was stopped during the call"
            await whole(self._broken_off(entry, held, why, ports))
            raise
        except NotOurs:
            raise  # nothing can be written down: whoever looks after the tester now finds the entry open
        except StoreError as error:
            await whole(self._broken_off(entry, held, str(error), ports))
            kind = OutcomeUnknown if ports.sent else Transient
            raise kind(f"{self.what} broke off: {error}", system="store", reason="StoreError") from error
        except Exception as error:
            # A mistake of ours, and the call may have been made. Only its type and place are told: texts may hold values.
            log.error("%s: %s failed unexpectedly\n%s", self.snapshot.name, self.what, where(error))
            why = f"internal error: {type(error).__name__}"
            await whole(self._close(entry, Outcome.UNKNOWN, why, *self._still_open(self.action.limit)))
            raise OutcomeUnknown(
                f"{self.what} ended in an internal error ({type(error).__name__}); the log has it",
                system="controller",
                reason="InternalError",
            ) from error
        # What was answered cannot be asked for again: a cancelled pass still writes it down.
        await whole(self._done(entry, held, seen))

    async def _has_its_turn(self, ports: StepPorts) -> None:
        """Asked just before the call is sent: it may have waited behind others for minutes since it was written down."""
        row, now = None if self.row is None else as_now(self.snapshot, self.row), self.hands.clock.now()
        changes: list[Change] = [*self._only_while()]
        if row is not None and UNSENT in row.identity:
            changes.append(PutObject(sent_now(row, now, self._limit_at(now))))
        try:
            await self.snapshot.commit(self.step.name, *changes)
        except SpecChanged:
            words = "the spec has changed while it waited for its turn; nothing was sent"
            raise Transient(words, system="controller", reason="Withdrawn") from None
        ports.sent = True

    async def _applied(self, row: OutsideObject | None, ports: StepPorts) -> Any:
        """The call. A look at the machine that was begun before its end does not show what it did, also when it failed."""
        machine = None if self.step.makes else self.snapshot.facts().get(MachineFacts)
        with asked_before_writing(partial(self._has_its_turn, ports)):
            if machine is None:
                return await self.step.apply(self.action, self.snapshot.view(row), ports)
            ports.looks.wrote(machine.key)
            try:
                return await self.step.apply(self.action, self.snapshot.view(row), ports)
            finally:
                ports.looks.wrote(machine.key)

    async def _done(self, entry: JournalEntry, row: OutsideObject | None, seen: Any) -> None:
        """What the call returned is stored before anything else happens (lesson 8)."""
        action, snapshot, step = self.action, self.snapshot, self.step
        now = self.hands.clock.now()
        row = None if row is None else as_now(snapshot, row)
        changes: list[Change] = [PutJournal(replace(entry, outcome=Outcome.DONE, ended_at=now))]
        if action.effect is Effect.CREATE and row is not None and seen is not None:
            told = {**without_marks(row), **step.identity(seen), **self._placed(row)}
            row = replace(row, state=ObjectState.EXISTING, since=now, identity=told, missing_since=None)
            changes.append(PutObject(row))
        if action.effect is Effect.DELETE and row is not None:
            changes.append(PutObject(deleted(row, now)))
        reason = action.reason or ("DriftRepaired" if self.drift else EVENT_REASONS[action.effect])
        # What follows a new release puts nothing right: it was right until there was one.
        text = ("drift: " if self.drift and reason != UPDATE_STARTED else "") + in_words(action)
        severity = Severity.WARNING if action.urgent else Severity.NORMAL
        changes.append(AddEvent(Event(snapshot.name, step.name, reason, text, now, severity, entry.generation)))
        facts = None
        if seen is not None and action.effect is not Effect.DELETE:
            facts = step.learn(seen, snapshot.facts(row))
        await snapshot.learn(step.name, facts, at_least=tuple(changes))

    def _placed(self, row: OutsideObject) -> dict[str, str]:
        """A create that waited for its turn for longer than readouts lag has taken its room only now: promised from now on."""
        now, placed = self.hands.clock.now(), row.identity.get(PLACED)
        late = placed is not None and now - datetime.fromisoformat(placed) >= self.hands.world.capacity_lag
        return {PLACED: now.isoformat()} if late else {}

    async def _close(self, entry: JournalEntry, outcome: Outcome, detail: str, *more: Change) -> None:
        now = self.hands.clock.now()
        reason = "OutcomeUnknown" if outcome is Outcome.UNKNOWN else "ActionFailed"
        text = f"{self.what}: {detail}"
        event = Event(self.snapshot.name, entry.step, reason, text, now, Severity.WARNING, entry.generation)
        closed = replace(entry, outcome=outcome, ended_at=now, detail=detail)
        await self.snapshot.commit(entry.step, PutJournal(closed), AddEvent(event), *more)

    async def _broken_off(self, entry: JournalEntry, row: OutsideObject | None, why: str, ports: StepPorts) -> None:
        """It ended on our side. What had its turn is unknown. Nothing else was sent: what was written down for it is not so."""
        if ports.sent:
            await self._close(entry, Outcome.UNKNOWN, why, *self._still_open(self.action.limit))
        else:
            undone = (*self._unmade(row), *ports.as_was.values())
            await self._close(entry, Outcome.FAILED, f"{why}; nothing was sent", *undone)

    def _still_open(self, limit: timedelta | None = None) -> tuple[Change, ...]:
        """A create may have waited for its turn: its absence proves nothing until the grace has passed since its end, and
        when the call was cut off on our side, the limit too."""
        row = None if self.row is None else as_now(self.snapshot, self.row)
        if self.action.effect is not Effect.CREATE or row is None or row.state is not ObjectState.INTENDED:
            return ()
        deadline = self.hands.clock.now() + (limit or timedelta(0)) + self.hands.grace
        return (PutObject(replace(row, deadline=max(deadline, row.deadline or deadline))),)

    def _unmade(self, row: OutsideObject | None, error: OutsideError | None = None) -> tuple[Change, ...]:
        if self.action.effect is Effect.DELETE and row is not None and self.row is not None:
            return (PutObject(replace(row, state=self.row.state, since=self.row.since)),)
        if self.action.effect is not Effect.CREATE or row is None or row.state is not ObjectState.INTENDED:
            return ()
        identity = TAKEN if isinstance(error, NameTaken) else {}
        gone = replace(row, state=ObjectState.GONE, since=self.hands.clock.now(), deadline=None, identity=identity)
        return (PutObject(gone),)


def key_of(row: OutsideObject | None) -> RowKey | None:
    return None if row is None else (row.incarnation, row.attempt)


async def whole(writing: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, however often we are cancelled meanwhile, so that who cancelled us finds it written. Raises first what
    it raises."""
    task, cancelled = asyncio.ensure_future(writing), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def where(error: BaseException) -> str:
    """The frames of a mistake of ours, without its text, which may hold a secret (law 10)."""
    return f"{type(error).__name__}\n" + "".join(traceback.format_tb(error.__traceback__))


def in_words(action: Action) -> str:
    """One line on what an action does: for events and the journal. Secrets are hidden already."""
    fields = "; ".join(f"{c.path}: {_shown(c.before)} → {_shown(c.after)}" for c in action.changes)
    return (
        f"{action.verb} {action.target}"
        + (f" ({fields})" if fields else "")
        + (f": {action.why}" if action.why else "")
    )


def _shown(value: str | None) -> str:
    if value is None:
        return "–"
    return value if value == HIDDEN or len(value) <= 120 else value[:117] + "…"
