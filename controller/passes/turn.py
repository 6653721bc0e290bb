"""One step's turn in a pass: observe, plan, apply, and again until there is nothing left to do but wait."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.backoff import patient
from controller.passes import rows
from controller.passes.acting import Deed, Draining, Hands, key_of, where
from controller.passes.operations import Operation, RowKey, UnderWay
from controller.passes.outcomes import Kind, StepOutcome, held, in_sync, of_error, waiting
from controller.passes.rows import Judge
from controller.passes.snapshot import Snapshot
from controller.records import Condition, Status
from controller.store import SpecChanged, StoreError
from controller.world import Step, World
from reconcilers.actions import Action, Effect, Finding, Wait
from reconcilers.actions import Step as Planned
from reconcilers.errors import Blocked, NameTaken, OutsideError, Rejected
from reconcilers.facts import InstallLogsFacts, ObjectState, OutsideObject, SignInGateFacts
from reconcilers.install_logs import install_logs
from reconcilers.looks import TesterLooks

log = logging.getLogger("controller")

MOST_ROUNDS = 10  # of observe and apply in one turn: more means that two actions undo each other
GOING = frozenset({ObjectState.RETIRING, ObjectState.LOST})  # what is done to such a row puts nothing right
MOST_NAMES = 5  # tried in a row when names are taken


@dataclass
class Turn:
    """What one turn works with. `outcome_of` waits for another step's turn in this very pass.

    A row is left alone while an operation is about it. Those of the step that ended badly are told once, in this turn, and
    not begun again in it: what fails at once and wakes its tester must not run in circles.
    """

    step: Step
    snapshot: Snapshot
    world: World
    hands: Hands
    judge: Judge
    condition: Condition | None  # of this step, as it was before
    outcome_of: Callable[[str], Awaitable[StepOutcome | None]]
    under_way: UnderWay
    pass_began: datetime
    only_urgent: bool = False  # paused: doors are still shut, nothing else is done
    first: bool = False  # of the step in this pass
    is_resync: bool = False  # nothing asked for this pass but the time
    refused: bool = False  # a call was, until the spec changes or somebody acts
    did: int = 0
    findings: tuple[Finding, ...] = ()
    looks: TesterLooks | None = None  # of the last observation
    learnt: bool = False  # from it
    urgent_left: bool = False  # a door was to be shut, and has not been seen to be since

    @property
    def poll(self) -> timedelta:
        return self.world.poll

    @property
    def was_in_sync(self) -> bool:
        return self.condition is not None and self.condition.status is Status.TRUE

    @property
    def repairs(self) -> bool:
        """Whether what is done now puts drift right: the step was in sync with this very generation, and is still wanted."""
        record = self.snapshot.record
        known = self.condition
        return self.was_in_sync and known is not None and known.generation == record.generation and not record.leaving

    async def take(self) -> StepOutcome:
        """Bring the step as far as it goes now. Raises Draining, SpecChanged and StoreError only: what else goes wrong is the
        outcome."""
        return await self._guarded(self._with_rows if self.step.makes else self._without_rows)

    async def leave(self) -> StepOutcome:
        """For the removal of steps that make nothing: converge with nothing desired."""
        return await self._guarded(lambda: self._without_rows(wanted=False))

    async def _guarded(self, turn: Callable[[], Awaitable[StepOutcome | None]]) -> StepOutcome:
        self._failed = self.failed_operations()
        try:
            outcome = await turn()
        except (Draining, SpecChanged, StoreError):
            raise
        except Exception as error:
            outcome = self.failed(error)
        return self.completed(outcome or self._next_one_due())

    def completed(self, outcome: StepOutcome) -> StepOutcome:
        """The outcome, with what the turn did and saw on its way to it, and how old that is."""
        seen_at = self.looks.oldest if self.looks is not None else None
        outcome = replace(outcome, did=self.did, findings=self.findings, seen_at=seen_at, learnt=self.learnt)
        return replace(outcome, urgent=True, again=self.poll) if self._stands_open() else outcome

    def _stands_open(self) -> bool:
        """Whether a door may be open that should be shut: the backoff of what fails is not for it (law 4)."""
        if not self.step.watches:
            return False
        gate = self.snapshot.facts().get(SignInGateFacts)
        return self.urgent_left or (gate is not None and bool(gate.let_in) and gate.listening)

    def failed_operations(self) -> dict[RowKey | None, OutsideError]:
        """How operations of this step failed, by row; told once."""
        ended = self.hands.operations.take_failed(self.snapshot.name, self.step.name)
        return {operation.row: operation.error for operation in ended if operation.error is not None}

    async def _without_rows(self, *, wanted: bool = True) -> StepOutcome | None:
        """A door is looked at, and shut, whatever is under way."""
        operation = self.under_way.about(self.step.name, None)
        if operation is not None and not self.step.watches:
            return self._waits_for(operation)
        if None in self._failed and not self.step.watches:
            return self.told(self._failed[None])
        return await self._converge(None, wanted=wanted)

    async def _with_rows(self) -> StepOutcome | None:
        """Settle what earlier rows left, then bring the current row as far as it goes."""
        current = rows.current(self.snapshot, self.step.name)
        if current is not None and (operation := self.busy(current)) is not None:
            return self._waits_for(operation)
        left = [key_of(row) for row in rows.leftovers(self.snapshot, self.step.name, current)]
        failed = next((error for row, error in self._failed.items() if row not in left), None)
        if failed is not None and not isinstance(failed, NameTaken):
            return self.told(failed)
        if not self.only_urgent:
            current = await rows.retire_renamed(self.step, self.snapshot, self.hands.clock)
        leftovers = rows.leftovers(self.snapshot, self.step.name, current, only_told_to_go=self.only_urgent)
        asked = [await self._settled(row) for row in leftovers]
        await rows.forget_gone(self.step, self.snapshot)
        if current is None and (operation := self._predecessor_goes(leftovers)) is not None:
            return self._waits_for(operation)
        outcome = await self._current_row(current, failed)
        again = min((span for span in (outcome.again, *asked) if span is not None), default=None)
        return replace(outcome, again=again)

    def busy(self, row: OutsideObject) -> Operation | None:
        """The operation that is about a row, which is left alone until that has ended."""
        return self.under_way.about(self.step.name, key_of(row))

    def _waits_for(self, operation: Operation) -> StepOutcome:
        return waiting(self.step.name, rows.wait_for(operation), self.poll)

    def told(self, error: OutsideError) -> StepOutcome:
        """How an operation failed, as the outcome of this turn."""
        self.refused = isinstance(error, (Rejected, Blocked))
        return self.failed(error)

    def _predecessor_goes(self, leftovers: list[OutsideObject]) -> Operation | None:
        """A delete whose first answer is due: the next object may need its name or its room."""
        unanswered = [row for row in leftovers if rows.DELETED not in rows.as_now(self.snapshot, row).identity]
        return next((operation for row in unanswered if (operation := self.busy(row)) is not None), None)

    async def _settled(self, row: OutsideObject) -> timedelta | None:
        """Make a leftover go. Returns how soon to see to it again, None when it is settled or its delete will tell. One that
        cannot be looked at or deleted does not hold up the present object, and is not tried at the pace of a poll."""
        if key_of(row) in self._failed:
            return self.world.fleet.spec.timing.backoff_ceiling
        try:
            if await self.settle(row) or self.busy(row) is not None:
                return None
            now = self.hands.clock.now()
            return patient(self.poll, now - (row.since or now))
        except OutsideError:
            return self.world.fleet.spec.timing.backoff_ceiling

    async def _current_row(self, row: OutsideObject | None, taken: NameTaken | None) -> StepOutcome:
        for _ in range(MOST_NAMES):
            if row is None:
                row = rows.fresh(self.step, self.snapshot)
                if taken is not None and rows.same_name(row.name, self.last_name()):
                    raise taken  # the spec gives the name: there is no other one to try
                if taken is not None and row.attempt % MOST_NAMES == 1:
                    return self._all_taken(taken)  # an operation tries one name at a time: counted by the rows
                if rows.holder_of(self.snapshot, row) is not None:
                    return waiting(self.step.name, rows.name_still_held(row, self.world.fleet), self.poll)
            try:
                outcome = await self._converge(row)
            except NameTaken as error:
                taken, outcome = error, None
            if outcome is not None:
                return outcome
            row = None
        return self._next_one_due() if taken is None else self._all_taken(taken)

    def _all_taken(self, taken: NameTaken) -> StepOutcome:
        text = f"{MOST_NAMES} names in a row are taken, the last one was {self.last_name()}: {taken}"
        return StepOutcome(self.step.name, Kind.FAILING, taken.reason, text, taken.system)

    def last_name(self) -> str:
        last = self.snapshot.last_row(self.step.name)
        return "" if last is None else last.name

    async def settle(self, row: OutsideObject) -> bool:
        """Make a row that is not wanted any more go. True: it is gone, or there is nothing more to do about it."""
        if self.busy(row) is not None:
            return False
        looks = self._looks()
        for _ in range(MOST_ROUNDS):
            observed = await self.step.observe(self.snapshot.view(row), looks)
            if observed is not None and await self.judge.in_quarantine(row, self.snapshot):
                return True
            steps = rows.taking_away(self.step, observed, self.snapshot.facts(row))
            actions = [step for step in steps if isinstance(step, Action)]
            if observed is None and not actions:
                return await self.judge.absent_leftover(row, self.step, self.snapshot, looks)
            if self.only_urgent or not actions:
                if not steps:  # it stays, and is known for what it is to whoever has the name next
                    await self.judge.judge(row, observed, self.step, self.snapshot, looks)
                return self.only_urgent or not steps
            lags = any(action.effect is Effect.DELETE for action in actions) and self.judge.may_lag(row)
            if lags or await self._perform_all(actions, row) is not None:
                return False
            row = rows.as_now(self.snapshot, row)
            looks.demand_newer()
        return False

    def failed(self, error: Exception) -> StepOutcome:
        """What an error means. A mistake of ours in one step must not end the others' turns: a door may be among them."""
        if not isinstance(error, OutsideError):
            log.error("%s: the turn of %s broke off\n%s", self.snapshot.name, self.step.name, where(error))
            text = f"internal error ({type(error).__name__}); the log has it"
            return StepOutcome(self.step.name, Kind.FAILING, "InternalError", text, "controller")
        outcome = of_error(self.step.name, error, self.poll)
        if self.refused and outcome.kind in (Kind.BLOCKED, Kind.REJECTED):
            # The same call would get the same answer, however often other steps bring us here.
            return replace(outcome, again=self.world.fleet.spec.timing.backoff_ceiling)
        return outcome

    async def _converge(self, row: OutsideObject | None, *, wanted: bool = True) -> StepOutcome | None:
        """Observe, plan, act, until nothing is left to do. None: the row's object is no more, the next one is due."""
        looks = self._looks()
        before: tuple[Action, ...] = ()
        for _ in range(MOST_ROUNDS):
            self.learnt = False
            if wanted and self._lacking():
                return self._held_up()
            observed = await self.step.observe(self.snapshot.view(row), looks)
            if wanted and self._lacking():
                return self._held_up()
            if row is not None:
                verdict = await self.judge.judge(row, observed, self.step, self.snapshot, looks)
                if not isinstance(verdict, OutsideObject):
                    return verdict if verdict is None else waiting(self.step.name, verdict, self.poll)
                row = verdict
            steps = await self._planned(observed, row, wanted)
            actions = tuple(step for step in steps if isinstance(step, Action))
            self.urgent_left = any(action.urgent for action in actions)
            if self.only_urgent:
                actions = tuple(action for action in actions if action.urgent)
            if not actions:
                return self._at_rest(steps)
            if row is not None:
                self._check_ours(row, actions)
            if actions == before:
                return _not_converging(self.step.name, actions)
            ended = await self._perform_all(actions, row)
            if ended is not None:
                return ended
            if row is not None and any(action.effect is Effect.DELETE for action in actions):
                return None
            before = actions
            row = None if row is None else rows.as_now(self.snapshot, row)
            looks.demand_newer()
        return _not_converging(self.step.name, before)

    def _lacking(self) -> list[str]:
        return [need for need in self.step.needs if not self.snapshot.has_facts(need)]

    def _held_up(self) -> StepOutcome:
        """Another step has taken back meanwhile what this one needs: its object is no more."""
        return held(self.step.name, "WaitsForStep", f"waits for {', '.join(self._lacking())}")

    def _check_ours(self, row: OutsideObject, actions: tuple[Action, ...]) -> None:
        """Raises Blocked when something would be deleted that our books do not know as ours: somebody else may have made it."""
        if row.state is ObjectState.GONE and any(action.effect is Effect.DELETE for action in actions):
            raise Blocked(
                f"{row.name} is there already, and our books do not say that we made it: it is not deleted; "
                "choose another name, or have it taken away",
                system=self.step.name,
                reason="NotOurs",
            )

    async def _planned(self, observed: object, row: OutsideObject | None, wanted: bool) -> tuple[Planned, ...]:
        """Learn from what was observed, then plan with what is known now."""
        if observed is not None and wanted:
            learnt = self.step.learn(observed, self.snapshot.facts(row))
            await self.snapshot.learn(self.step.name, learnt)
            self.learnt = learnt is not None
            logs = install_logs(self.snapshot.record.desired, observed, self.snapshot.facts(row))
            await self.snapshot.learn(InstallLogsFacts.step, logs)
        view = self.snapshot.view(row)
        if wanted:
            self.findings = self.step.findings(view.desired, observed, view.facts)
        return self.step.plan(view.desired if wanted else None, observed, view.facts)

    def _at_rest(self, steps: tuple[Planned, ...]) -> StepOutcome:
        """Nothing may be done now: in sync, waiting, or paused with work left."""
        left = [step for step in steps if isinstance(step, Action)]
        if left:
            would = ", ".join(f"{action.verb} {action.target}" for action in left)
            return held(self.step.name, "Paused", f"paused; it would {would}")
        waits = [step for step in steps if isinstance(step, Wait)]
        return waiting(self.step.name, waits[0], self.poll) if waits else in_sync(self.step.name)

    async def _perform_all(
        self, actions: list[Action] | tuple[Action, ...], row: OutsideObject | None
    ) -> StepOutcome | None:
        """Do the actions in order. An outcome ends the turn: an operation was begun, or an action may not be done now."""
        for action in actions:
            unmet = {
                step: kind
                for step in action.only_while
                if (kind := await self._kind_of(step, action)) is not Kind.IN_SYNC
            }
            if unmet:
                return waiting(self.step.name, _not_now(action, unmet, self.world), self.poll)
            if action.limit is not None and (known := self._begun_before(row)) is not None:
                return known
            try:
                drift = self.repairs and (row is None or row.state not in GOING)
                operation = await Deed(action, self.step, row, self.snapshot, self.hands, drift).perform()
            except (Rejected, Blocked):
                self.refused = True
                raise
            self.did += 1
            if operation is not None:
                return self._waits_for(operation)
            row = None if row is None else rows.as_now(self.snapshot, row)
        return None

    def _begun_before(self, row: OutsideObject | None) -> StepOutcome | None:
        """What a door is told that would begin an operation which is under way, or which has just failed."""
        operation = self.under_way.about(self.step.name, key_of(row))
        if operation is not None:
            return self._waits_for(operation)
        return self.told(self._failed[None]) if row is None and None in self._failed else None

    async def _kind_of(self, step: str, action: Action) -> Kind | None:
        """How another step's turn ended in this pass; None: it takes none. Before a secret is voided, one that found all in
        sync in a look from before the pass is looked at again; nothing is done about it here."""
        outcome = await self.outcome_of(step)
        if outcome is None or outcome.kind is not Kind.IN_SYNC:
            return None if outcome is None else outcome.kind
        if not action.voids or outcome.seen_at is None or outcome.seen_at >= self.pass_began:
            return Kind.IN_SYNC
        return Kind.IN_SYNC if await self._is_in_sync(self.world.step(step)) else Kind.WAITING

    async def _is_in_sync(self, step: Step) -> bool:
        """Whether a look from this pass leaves another step nothing to do or to wait for."""
        row = rows.current(self.snapshot, step.name) if step.makes else None
        view = self.snapshot.view(row)
        looks = self.world.looks_of_a_turn()
        looks.newer_than = self.pass_began
        try:
            return not step.plan(view.desired, await step.observe(view, looks), view.facts)
        except OutsideError:
            return False

    def _looks(self) -> TesterLooks:
        """Newer than what we did last to the step's objects; while it is not in sync, as new as every poll can be, where one
        look answers the first turns of all steps of a pass, however long it takes."""
        looks = self.world.looks_of_a_turn()
        floors = [row.since for row in self.snapshot.rows(self.step.name) if row.since is not None]
        if not self.was_in_sync:
            recent = self.hands.clock.now() - self.poll / 2
            floors.append(min(recent, self.pass_began) if self.first else recent)
        looks.newer_than = max(floors, default=None)
        if self.is_resync and self.repairs:
            looks.max_age = self.world.looks.resting_age
        self.looks = looks
        return looks

    def _next_one_due(self) -> StepOutcome:
        text = "the object is no more; the next one is due"
        return StepOutcome(self.step.name, Kind.WAITING, "NextAttempt", text, self.step.name, again=self.poll)


def _not_converging(step: str, actions: tuple[Action, ...]) -> StepOutcome:
    what = ", ".join(f"{action.verb} {action.target}" for action in actions)
    return StepOutcome(
        step, Kind.FAILING, "NotConverging", f"done, and seen not to have helped: {what}; tried again later", step
    )


def _not_now(action: Action, unmet: Mapping[str, Kind | None], world: World) -> Wait:
    """While one of those steps is on its way it is looked at often; when all have come to a stop, no oftener than need be."""
    timing = world.fleet.spec.timing
    return Wait(
        "WaitsForStep",
        f"{action.verb} {action.target} waits until {', '.join(unmet)} is in sync",
        limit=timing.reachable_limit,
        blames=", ".join(unmet),
        poll=timing.poll if Kind.WAITING in unmet.values() else timing.look_age,
    )
