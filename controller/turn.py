"""One step's turn in a pass: observe, plan, apply, and again until there is nothing left to do but wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from controller import rows
from controller.acting import Deed, Hands
from controller.outcomes import Kind, StepOutcome, held, in_sync, of_error, waiting
from controller.records import Condition, Status
from controller.rows import Judge
from controller.snapshot import Snapshot
from controller.world import Step, World
from reconcilers.actions import Action, Effect, Finding, Wait
from reconcilers.actions import Step as Planned
from reconcilers.errors import NameTaken, OutsideError
from reconcilers.facts import OutsideObject
from reconcilers.looks import TesterLooks

MOST_ROUNDS = 10  # of observe and apply in one turn: more means that two actions undo each other
MOST_NAMES = 5  # tried in one turn when names are taken


@dataclass
class Turn:
    """What one turn works with. `outcome_of` waits for another step's turn in this very pass."""

    step: Step
    snapshot: Snapshot
    world: World
    hands: Hands
    judge: Judge
    condition: Condition | None  # of this step, as it was before
    outcome_of: Callable[[str], Awaitable[StepOutcome | None]]
    only_urgent: bool = False  # paused: doors are still shut, nothing else is done
    did: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def poll(self) -> timedelta:
        return self.world.poll

    @property
    def was_in_sync(self) -> bool:
        return self.condition is not None and self.condition.status is Status.TRUE

    async def take(self) -> StepOutcome:
        """Bring the step as far as it goes now. Never raises an OutsideError: it becomes the outcome."""
        name = self.step.name
        operation = self.hands.operations.running(self.snapshot.name, name)
        if operation is not None:
            return waiting(name, rows.wait_for(operation), self.poll)
        failed = self.hands.operations.take_error(self.snapshot.name, name)
        try:
            if failed is not None and not isinstance(failed, NameTaken):
                return of_error(name, failed, self.poll)
            outcome = await (self._with_rows(failed) if self.step.makes else self._converge(None))
        except OutsideError as error:
            outcome = of_error(name, error, self.poll)
        return replace(outcome or _next_one_due(name), did=self.did, findings=self.findings)

    async def _with_rows(self, taken: NameTaken | None) -> StepOutcome:
        """Settle what earlier rows left, then bring the current row as far as it goes."""
        current = await rows.retire_renamed(self.step, self.snapshot, self.hands.clock)
        settled = [await self._settled(row) for row in rows.leftovers(self.snapshot, self.step.name, current)]
        outcome = await self._current_row(current, taken)
        if not all(settled) and outcome.again is None:
            return replace(outcome, again=self.poll)
        return outcome

    async def _settled(self, row: OutsideObject) -> bool:
        """A leftover that cannot be looked at or deleted now does not hold up the present object."""
        try:
            return await self.settle(row)
        except OutsideError:
            return False

    async def _current_row(self, row: OutsideObject | None, taken: NameTaken | None) -> StepOutcome:
        for _ in range(MOST_NAMES):
            if row is None:
                row = rows.fresh(self.step, self.snapshot)
                if taken is not None and rows.same_name(row.name, self.last_name()):
                    raise taken  # the spec gives the name: there is no other one to try
                if rows.holder_of(self.snapshot, row) is not None:
                    return waiting(self.step.name, rows.name_still_held(row, self.world.fleet), self.poll)
            try:
                outcome = await self._converge(row)
            except NameTaken as error:
                taken, outcome = error, None
            if outcome is not None:
                return outcome
            row = None
        return _next_one_due(self.step.name)

    def last_name(self) -> str:
        last = self.snapshot.last_row(self.step.name)
        return "" if last is None else last.name

    async def settle(self, row: OutsideObject) -> bool:
        """Make a row that is not wanted any more go. True: it is gone, or there is nothing more to do about it."""
        looks = self._looks()
        for _ in range(MOST_ROUNDS):
            observed = await self.step.observe(self.snapshot.view(row), looks)
            if observed is None:
                return await self.judge.absent_leftover(row, self.snapshot)
            steps = self.step.plan(None, observed, self.snapshot.facts(row))
            actions = [step for step in steps if isinstance(step, Action)]
            if not actions:
                return not steps
            if await self._perform_all(actions, row) is not None:
                return False
            row = rows.as_now(self.snapshot, row)
            looks.demand_newer()
        return False

    def failed(self, error: OutsideError) -> StepOutcome:
        return of_error(self.step.name, error, self.poll)

    async def leave(self) -> StepOutcome:
        """For the removal of steps that make nothing: converge with nothing desired."""
        try:
            outcome = await self._converge(None, wanted=False)
        except OutsideError as error:
            outcome = of_error(self.step.name, error, self.poll)
        return replace(outcome or _next_one_due(self.step.name), did=self.did)

    async def _converge(self, row: OutsideObject | None, *, wanted: bool = True) -> StepOutcome | None:
        """Observe, plan, act, until nothing is left to do. None: the row's object is no more, the next one is due."""
        looks = self._looks()
        before: tuple[Action, ...] = ()
        for _ in range(MOST_ROUNDS):
            observed = await self.step.observe(self.snapshot.view(row), looks)
            if row is not None:
                verdict = await self.judge.judge(row, observed, self.step, self.snapshot, looks)
                if not isinstance(verdict, OutsideObject):
                    return verdict if verdict is None else waiting(self.step.name, verdict, self.poll)
                row = verdict
            steps = await self._planned(observed, row, wanted)
            actions = tuple(step for step in steps if isinstance(step, Action))
            if self.only_urgent:
                actions = tuple(action for action in actions if action.urgent)
            if not actions:
                return self._at_rest(steps)
            if actions == before:
                return _not_converging(self.step.name, actions)
            ended = await self._perform_all(actions, row)
            if ended is not None:
                return ended
            if row is not None and any(action.effect is Effect.DELETE for action in actions):
                return None
            before = actions
            looks.demand_newer()
        return _not_converging(self.step.name, before)

    async def _planned(self, observed: object, row: OutsideObject | None, wanted: bool) -> tuple[Planned, ...]:
        """Learn from what was observed, then plan with what is known now."""
        if observed is not None and wanted:
            await self.snapshot.learn(self.step.name, self.step.learn(observed, self.snapshot.facts(row)))
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
            unmet = [step for step in action.only_while if not await self._holds(step)]
            if unmet:
                return waiting(self.step.name, _not_now(action, unmet, self.world), self.poll)
            operation = await Deed(action, self.step, row, self.snapshot, self.hands, self.was_in_sync).perform()
            self.did += 1
            if operation is not None:
                return waiting(self.step.name, rows.wait_for(operation), self.poll)
            if row is not None:
                row = rows.as_now(self.snapshot, row)
        return None

    async def _holds(self, step: str) -> bool:
        outcome = await self.outcome_of(step)
        return outcome is not None and outcome.kind is Kind.IN_SYNC

    def _looks(self) -> TesterLooks:
        """Newer than what we did last to the step's objects; while it is not in sync, as new as every poll can be."""
        looks = self.world.looks_for(self.snapshot.record.desired, self.snapshot.facts())
        floors = [row.since for row in self.snapshot.rows(self.step.name) if row.since is not None]
        if not self.was_in_sync:
            floors.append(self.hands.clock.now() - self.poll / 2)
        looks.newer_than = max(floors, default=None)
        return looks


def _next_one_due(step: str) -> StepOutcome:
    return StepOutcome(
        step, Kind.WAITING, "NextAttempt", "the object is no more; the next one is due", step, again=timedelta(0)
    )


def _not_converging(step: str, actions: tuple[Action, ...]) -> StepOutcome:
    what = ", ".join(f"{action.verb} {action.target}" for action in actions)
    return StepOutcome(
        step, Kind.FAILING, "NotConverging", f"done, and seen not to have helped: {what}; tried again later", step
    )


def _not_now(action: Action, unmet: list[str], world: World) -> Wait:
    return Wait(
        "WaitsForStep",
        f"{action.verb} {action.target} waits until {', '.join(unmet)} is in sync",
        limit=world.fleet.spec.timing.reachable_limit,
        blames=", ".join(unmet),
    )
